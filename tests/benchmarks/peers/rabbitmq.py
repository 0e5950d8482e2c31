"""A client of RabbitMQ: a quorum queue for each channel, persistent messages, publisher confirms, manual acks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from tests.benchmarks.peers.side import ANSWERS, ASKS, MAIL, Heard, Stored, fail

__all__ = ["RabbitSide"]

#: What may be with a taker without its ack.
PREFETCH = 256


class RabbitSide(Stored):
    """pika on asyncio: a channel to publish on, and one to consume on."""

    async def open(self, address: dict[str, Any], name: str, heard: Heard | None) -> None:
        pika = import_module("pika")
        adapter = import_module("pika.adapters.asyncio_connection").AsyncioConnection
        opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        adapter(
            pika.ConnectionParameters("127.0.0.1", address["port"], heartbeat=0),
            on_open_callback=opened.set_result,
            on_open_error_callback=lambda _, error: opened.set_exception(error),
            on_close_callback=lambda _, error: fail(error),
        )
        connection = await opened
        self._persistent = pika.BasicProperties(delivery_mode=2)
        self._out = await _told(lambda told: connection.channel(on_open_callback=told))
        self._in = await _told(lambda told: connection.channel(on_open_callback=told))
        self._tag = 0
        self._open: dict[int, Callable[[], None]] = {}
        await _told(lambda told: self._out.confirm_delivery(self._came, callback=told))
        await _told(lambda told: self._in.basic_qos(prefetch_count=PREFETCH, callback=told))
        for queue in (MAIL, ASKS, ANSWERS):
            await _told(partial(self._declare, queue))
        await self.begin(heard)

    def _declare(self, queue: str, told: Callable[[Any], None]) -> None:
        self._out.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"}, callback=told)

    def _came(self, frame: Any) -> None:
        """A confirm: of one publish, or of all up to it. What is published first is not always confirmed first."""
        method = frame.method
        if type(method).__name__.endswith("Nack"):
            fail(RuntimeError("RabbitMQ refused a message"))
        if method.multiple:
            for tag in [tag for tag in self._open if tag <= method.delivery_tag]:
                self._open.pop(tag)()
        else:
            self._open.pop(method.delivery_tag)()

    async def write(self, sends: list[tuple[str, str, Callable[[], None]]], acks: list[tuple[str, Any]]) -> None:
        for channel, text, confirmed in sends:
            self._tag += 1
            self._open[self._tag] = confirmed
            self._out.basic_publish("", channel, text.encode(), self._persistent)
        for _, tag in acks:
            self._in.basic_ack(tag)

    async def take(self, channel: str, handler: Callable[[str, Callable[[], None]], None]) -> None:
        def came(_: Any, method: Any, __: Any, body: bytes) -> None:
            handler(body.decode(), partial(self.acknowledge, channel, method.delivery_tag))

        await _told(lambda told: self._in.basic_consume(channel, came, callback=told))


async def _told(begin: Callable[[Callable[[Any], None]], object]) -> Any:
    """Begin something that calls back, and wait until it does."""
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    begin(told.set_result)
    return await told
