"""One end of a system that is measured, in a process of its own: ``python -m tests.benchmarks.peers.worker``.

The first line of standard input is a task (JSON), each later one an order; each is answered by a line on standard
output. It ends when standard input does.

=========  ======================================================  =============================================
who        order                                                   answer
=========  ======================================================  =============================================
receiver   ``{"do": "begin"}``                                     ``{}``: what came before is forgotten
receiver   ``{"do": "report", "count": n}``                        ``count``, ``doubled``, ``one_way_ns``,
                                                                   ``last_ns``, ``cpu_s``, when so many are there
                                                                   or none has come for long
sender     ``{"do": "pace", "connections", "rate", "seconds"}``    ``sent``, ``first_ns``, ``cpu_s``
sender     ``{"do": "flood", "window", "seconds"}``                the same
sender     ``{"do": "ask", "in_flight", "seconds"}``               ``waits_ns``, ``took_s``
=========  ======================================================  =============================================
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from importlib import import_module
from typing import Any

from tests.benchmarks.peers.side import Side, fail, number_of

__all__ = ["SIDES"]

#: The module and the class of a connection, by system.
SIDES = {
    "redis": ("redis_streams", "RedisSide"),
    "nats": ("jetstream", "JetStreamSide"),
    "rabbitmq": ("rabbitmq", "RabbitSide"),
    "crossbar": ("plain_crossbar", "CrossbarSide"),
    "trishula": ("trishula_agent", "AgentSide"),
    "trishula-2": ("trishula_agent", "AgentSide"),
    "trishula-cells": ("trishula_agent", "AgentSide"),
}
#: A receiver takes what has not come for so long as lost.
_SILENCE_S = 10.0
_CONFIRMED_WITHIN_S = 30.0


def side_of(system: str) -> Side:
    """A connection that is not open yet."""
    module, name = SIDES[system]
    side: Side = getattr(import_module(f"tests.benchmarks.peers.{module}"), name)()
    return side


class Receiver:
    """Takes the mail."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._task = task
        self._forget()

    def _forget(self) -> None:
        self._numbers: set[int] = set()
        self._doubled = 0
        self._one_way_ns: list[int] = []
        self._last_ns = time.monotonic_ns()
        self._began_cpu_s = time.process_time()

    async def open(self) -> None:
        self._side = side_of(self._task["system"])
        await self._side.open(self._task["address"], "taker", self._heard)

    def _heard(self, text: str) -> None:
        now_ns = time.monotonic_ns()
        number = number_of(text)
        if number in self._numbers:
            self._doubled += 1
            return
        self._numbers.add(number)
        self._one_way_ns.append(now_ns - int(text[11:31]))
        self._last_ns = now_ns

    async def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        if order["do"] == "begin":
            self._forget()
            return {}
        heard_s = time.monotonic()
        count = len(self._numbers)
        while count < order["count"] and time.monotonic() - heard_s < _SILENCE_S:
            await asyncio.sleep(0.02)
            if len(self._numbers) != count:
                count, heard_s = len(self._numbers), time.monotonic()
        return {
            "count": len(self._numbers),
            "doubled": self._doubled,
            "one_way_ns": self._one_way_ns,
            "last_ns": self._last_ns,
            "cpu_s": time.process_time() - self._began_cpu_s,
        }


class Sender:
    """Sends and asks."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._task = task
        self._sides: list[Side] = []
        self._number = 0
        self._open = 0
        self._padding = "x" * (task["size_bytes"] - 32)
        self._asks = False

    async def open(self) -> None:
        for index in range(self._task["connections"]):
            side = side_of(self._task["system"])
            await side.open(self._task["address"], f"sender{index}", None)
            self._sides.append(side)

    def _text(self) -> str:
        self._number += 1
        return f"{self._number:010d} {time.monotonic_ns():020d} {self._padding}"

    async def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        if order["do"] == "ask":
            return await self._ask(order["in_flight"], order["seconds"])
        before, first_ns, cpu_s = self._number, time.monotonic_ns(), time.process_time()
        if order["do"] == "pace":
            await self._pace(order["connections"], order["rate"], order["seconds"])
        else:
            await self._flood(order["window"], order["seconds"])
        until_s = time.monotonic() + _CONFIRMED_WITHIN_S
        while self._open:
            if time.monotonic() > until_s:
                raise RuntimeError(f"{self._open} messages were not confirmed within {_CONFIRMED_WITHIN_S:.0f} s")
            await asyncio.sleep(0.002)
        return {"sent": self._number - before, "first_ns": first_ns, "cpu_s": time.process_time() - cpu_s}

    async def _pace(self, connections: int, rate: float, seconds: float) -> None:
        """Each connection at its rate, evenly between the others."""
        gap_s = 1.0 / (rate * connections)
        begin_s = time.monotonic()
        for index in range(round(seconds / gap_s)):
            await asyncio.sleep(max(0.0, begin_s + index * gap_s - time.monotonic()))
            self._open += 1
            self._sides[index % connections].send(self._text(), self._closed)

    def _closed(self) -> None:
        self._open -= 1

    async def _flood(self, window: int, seconds: float) -> None:
        """On one connection; each confirmation makes room for the next message."""
        side, until_s = self._sides[0], time.monotonic() + seconds

        def again() -> None:
            self._open -= 1
            if time.monotonic() < until_s:
                self._open += 1
                side.send(self._text(), again)

        self._open += window
        for _ in range(window):
            side.send(self._text(), again)
        await asyncio.sleep(seconds)

    async def _ask(self, in_flight: int, seconds: float) -> dict[str, Any]:
        side = self._sides[0]
        if not self._asks:
            self._asks = True
            await side.prepare_asking()
        waits_ns: list[int] = []
        until_s = time.monotonic() + seconds

        async def lane() -> None:
            while time.monotonic() < until_s:
                asked_ns = time.monotonic_ns()
                await side.ask(self._text())
                waits_ns.append(time.monotonic_ns() - asked_ns)

        began_s = time.monotonic()
        await asyncio.gather(*(lane() for _ in range(in_flight)))
        return {"waits_ns": waits_ns, "took_s": time.monotonic() - began_s}


async def main() -> None:
    """The program."""
    lines = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    task = json.loads(await lines.readline())
    end = (Receiver if task["role"] == "receiver" else Sender)(task)
    await end.open()
    answer: dict[str, Any] = {}
    while True:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
        if not (line := await lines.readline()):
            return
        answer = await end.obey(json.loads(line))


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except Exception as error:
        fail(error)
