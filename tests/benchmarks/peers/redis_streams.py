"""A client of Redis Streams: one connection for all that is answered at once, and one for each stream it waits at."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from tests.benchmarks.peers.side import Heard, Stored, in_background

__all__ = ["RedisSide"]

GROUP = "takers"
#: What a read takes at a time.
COUNT = 256


class RedisSide(Stored):
    """XADD, XREADGROUP and XACK; those of one turn in one pipeline."""

    async def open(self, address: dict[str, Any], name: str, heard: Heard | None) -> None:
        connection = import_module("redis.asyncio").Connection
        # Newer releases have a limit on reads of themselves; who takes messages waits for them as long as it takes.
        self._connect = partial(connection, host="127.0.0.1", port=address["port"], protocol=2, socket_timeout=None)
        self._name = name
        self._line = await self._opened()
        self._told: deque[Callable[[], None] | None] = deque()
        in_background(self._read_answers())
        await self.begin(heard)

    async def _opened(self) -> Any:
        line = self._connect()
        await line.connect()
        return line

    async def write(self, sends: list[tuple[str, str, Callable[[], None]]], acks: list[tuple[str, Any]]) -> None:
        commands: list[tuple[Any, ...]] = []
        for channel, text, confirmed in sends:
            commands.append(("XADD", channel, "*", "t", text))
            self._told.append(confirmed)
        for channel in dict.fromkeys(channel for channel, _ in acks):
            commands.append(("XACK", channel, GROUP, *(one for where, one in acks if where == channel)))
            self._told.append(None)
        await self._line.send_packed_command(self._line.pack_commands(commands), check_health=False)

    async def _read_answers(self) -> None:
        while True:
            answer = await self._line.read_response()
            if isinstance(answer, Exception):
                raise answer
            if (confirmed := self._told.popleft()) is not None:
                confirmed()

    async def take(self, channel: str, handler: Callable[[str, Callable[[], None]], None]) -> None:
        line = await self._opened()
        await line.send_command("XGROUP", "CREATE", channel, GROUP, "0", "MKSTREAM")
        await line.read_response()
        in_background(self._take_all(line, channel, handler))

    async def _take_all(self, line: Any, channel: str, handler: Callable[[str, Callable[[], None]], None]) -> None:
        command = ("XREADGROUP", "GROUP", GROUP, self._name, "COUNT", COUNT, "BLOCK", 0, "STREAMS", channel, ">")
        while True:
            await line.send_command(*command, check_health=False)
            [[_, entries]] = await line.read_response()
            for entry, (_, text) in entries:
                handler(text.decode(), partial(self.acknowledge, channel, entry))
            # What waits in the socket already must not keep the acknowledgements back.
            await asyncio.sleep(0)
