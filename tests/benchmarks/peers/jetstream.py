"""A client of NATS JetStream: a stream in a file for each channel, a durable consumer that acknowledges each text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from tests.benchmarks.peers.side import ANSWERS, ASKS, MAIL, Heard, Stored, fail

__all__ = ["JetStreamSide"]


class JetStreamSide(Stored):
    """``publish_async``, and a consumer that the server pushes to."""

    async def open(self, address: dict[str, Any], name: str, heard: Heard | None) -> None:
        client = await import_module("nats").connect(f"nats://127.0.0.1:{address['port']}", name=name)
        self._jetstream = client.jetstream()
        for channel in (MAIL, ASKS, ANSWERS):
            # Making it again, as it is, is no error; the storage is a file unless told otherwise.
            await self._jetstream.add_stream(name=channel, subjects=[channel])
        await self.begin(heard)

    async def write(self, sends: list[tuple[str, str, Callable[[], None]]], acks: list[tuple[str, Any]]) -> None:
        for channel, text, confirmed in sends:
            stored = await self._jetstream.publish_async(channel, text.encode())
            stored.add_done_callback(partial(_told, confirmed))
        for _, message in acks:
            await message.ack()

    async def take(self, channel: str, handler: Callable[[str, Callable[[], None]], None]) -> None:
        async def came(message: Any) -> None:
            handler(message.data.decode(), partial(self.acknowledge, channel, message))

        await self._jetstream.subscribe(channel, durable=channel, cb=came, manual_ack=True)


def _told(confirmed: Callable[[], None], stored: Any) -> None:
    if (error := stored.exception()) is not None:
        fail(error)
    confirmed()
