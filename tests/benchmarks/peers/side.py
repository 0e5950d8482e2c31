"""One connection of a client to a system that is measured, as ``worker.py`` uses it, whichever system that is.

What runs in a worker imports nothing but the standard library and its system's own client: a worker of Redis has an
environment in which TRISHULA is not installed.

A text is a number of ten digits, a space, the instant of sending in ns (CLOCK_MONOTONIC, which the host's processes
share), a space, and padding. It travels on a *channel*: a stream, a queue, a topic.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["ANSWERS", "ASKS", "MAIL", "Heard", "Side", "Stored", "fail", "in_background", "number_of"]

MAIL, ASKS, ANSWERS = "mail", "asks", "answers"

#: The loop itself holds no task: one that waits for what nobody else refers to would be collected.
_running: set[asyncio.Task[None]] = set()

#: Told of a text that came; :class:`Stored` hands it what acknowledges that.
Heard = Callable[[str], None]


def fail(error: BaseException) -> None:
    """End this process: what it measured would be wrong."""
    traceback.print_exception(error, file=sys.stderr)
    sys.stderr.flush()
    os._exit(1)


def in_background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Do it beside all else, and end this process if it fails."""
    task = asyncio.ensure_future(work)

    def ended(task: asyncio.Task[None]) -> None:
        _running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            fail(error)

    _running.add(task)
    task.add_done_callback(ended)
    return task


def number_of(text: str) -> int:
    """Which text it is."""
    return int(text[:10])


class Side(ABC):
    """A connection. Of the receiver's, each text of :data:`MAIL` is acknowledged when ``heard`` has returned."""

    @abstractmethod
    async def open(self, address: dict[str, Any], name: str, heard: Heard | None) -> None:
        """Connect.

        Args:
            address: of the server; ``servers.py`` says what is in it.
            name: of the client, among all that are connected.
            heard: given at the receiver, which takes the mail, and answers each question with the question.
        """

    @abstractmethod
    def send(self, text: str, confirmed: Callable[[], None]) -> None:
        """Send on :data:`MAIL`, and tell when the server has confirmed it; what one turn sends may travel as one."""

    async def prepare_asking(self) -> None:  # noqa: B027  # most have nothing to prepare
        """To be called once before the first :meth:`ask`; of the sender's connections one asks."""

    @abstractmethod
    async def ask(self, text: str) -> None:
        """Ask the receiver, and wait for its answer."""


class Stored(Side):
    """One whose server stores streams or queues: a question is stored, and its answer in another stream.

    Sends and acknowledgements of one turn are handed to :meth:`write` together.
    """

    def __init__(self) -> None:
        self._queue: list[tuple[str, str, Callable[[], None]]] = []
        self._acks: list[tuple[str, Any]] = []
        self._wake = asyncio.Event()
        self._asked: dict[int, asyncio.Future[None]] = {}

    async def begin(self, heard: Heard | None) -> None:
        """When it is connected: take what is for this end."""
        in_background(self._write_all())
        if heard is None:
            return

        def mail(text: str, ack: Callable[[], None]) -> None:
            heard(text)
            ack()

        await self.take(MAIL, mail)
        # A question is done with when its answer is safe.
        await self.take(ASKS, lambda text, ack: self.post(ANSWERS, text, ack))

    @abstractmethod
    async def take(self, channel: str, handler: Callable[[str, Callable[[], None]], None]) -> None:
        """Hand each text of a channel to a handler, with what acknowledges it."""

    @abstractmethod
    async def write(self, sends: list[tuple[str, str, Callable[[], None]]], acks: list[tuple[str, Any]]) -> None:
        """Send texts, (channel, text, told when it is confirmed); acknowledge what :meth:`take` took."""

    def post(self, channel: str, text: str, confirmed: Callable[[], None]) -> None:
        """Send on a channel."""
        self._queue.append((channel, text, confirmed))
        self._wake.set()

    def acknowledge(self, channel: str, which: object) -> None:
        """Acknowledge with what else this turn sends."""
        self._acks.append((channel, which))
        self._wake.set()

    def send(self, text: str, confirmed: Callable[[], None]) -> None:
        self.post(MAIL, text, confirmed)

    async def prepare_asking(self) -> None:
        await self.take(ANSWERS, self._answered)

    async def ask(self, text: str) -> None:
        answer = self._asked[number_of(text)] = asyncio.get_running_loop().create_future()
        self.post(ASKS, text, lambda: None)
        await answer

    def _answered(self, text: str, ack: Callable[[], None]) -> None:
        ack()
        answer = self._asked.pop(number_of(text), None)
        if answer is not None:
            answer.set_result(None)

    async def _write_all(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            sends, self._queue = self._queue, []
            acks, self._acks = self._acks, []
            await self.write(sends, acks)
