"""Turns: no client keeps the node to itself, however much it sends at once. Policy; timers come from the caller.

Twisted reads up to 64 KiB of a connection and Autobahn handles all frames in them before anybody else gets a word in:
1,500 small calls, half a second; a hundred connections of one agent make it a hundred times that. Here each agent, with
all its connections, works for at most :data:`SLICE_S` at a stretch. What is left waits (the connection isn't read
meanwhile, so that TCP slows its sender down) until the reactor has looked at everybody else, and is then served in
turn: one agent after the other, and of each agent one connection after the other. Whoever asks for little is never made
to wait for its own turn, and waits for one slice of others at most.

*Jobs* are what Crossbar puts off for later, its events about subscriptions and registrations that come and go. They go
before what waits, by the same slices: a session that ends with a thousand subscriptions made the reactor carry out
three thousand of them in one go.

An agent may be *held*: then nothing further of it is read until it is let go. That is how whoever hands in more than
can be worked off at once is slowed down, instead of being refused. And it *rests*, by itself, when reading one of its
frames took long: a frame is read in one go, so that no slice can bound it, and only that they are seldom keeps the
others' delays short.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from twisted.logger import Logger

__all__ = ["SLICE_S", "Line", "Turns", "pace_meta_events"]

log = Logger()

#: Others with a light load shall have their answers within some ms; a frame that was begun is always ended.
SLICE_S = 0.002
#: For so long what an agent has worked counts against its slice, if it has not had to wait.
_WINDOW_S = 0.005


class Line(Protocol):
    """A connection whose bytes are handled piece by piece."""

    def advance(self) -> bool:
        """Handle one piece; whether there is more to handle."""

    def pause(self) -> None:
        """Read nothing more."""

    def resume(self) -> None:
        """Read on."""


class Turns:
    """Who is served when.

    Args:
        seconds: a clock for spans.
        call_later: a timer: 0, and what to do when the reactor has looked at everybody.
    """

    def __init__(self, seconds: Callable[[], float], call_later: Callable[[float, Callable[[], None]], object]) -> None:
        self._seconds = seconds
        self._call_later = call_later
        # What waits of each owner; the owners are in the order of their turns.
        self._waiting: dict[str, deque[Line]] = {}
        self._parked: set[int] = set()
        self._held: set[str] = set()
        # How many rests of each owner are not over.
        self._resting: dict[str, int] = {}
        # Of each owner that worked lately: since when that counts, and how long it worked.
        self._worked: dict[str, tuple[float, float]] = {}
        self._jobs: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._is_planned = False

    def __len__(self) -> int:
        return len(self._parked)

    def take(self, owner: str, line: Line) -> None:
        """Something came on a line: it is handled now, or waits for its turn."""
        if id(line) in self._parked:
            return
        now_s = self._seconds()
        since_s, worked_s = self._worked.get(owner, (now_s, 0.0))
        if now_s - since_s >= _WINDOW_S:
            since_s, worked_s = now_s, 0.0
        if worked_s >= SLICE_S or owner in self._waiting or self._is_stopped(owner):
            self._park(owner, line)
            return
        if self._work(owner, line, now_s + SLICE_S - worked_s):
            self._park(owner, line)
        if len(self._worked) > 1000:
            self._worked.clear()
        self._worked[owner] = since_s, worked_s + self._seconds() - now_s

    def later(self, job: Callable[..., object], *args: Any) -> None:
        """Do something after what is being done, before what waits."""
        self._jobs.append((job, args))
        self._plan()

    def hold(self, owner: str) -> None:
        """Read nothing more of an owner, for now."""
        self._held.add(owner)

    def let_go(self, owner: str) -> None:
        """Read an owner on."""
        if owner in self._held:
            self._held.discard(owner)
            if owner in self._waiting:
                self._plan()

    def rest(self, owner: str, for_s: float) -> None:
        """Read nothing more of an owner for so long."""
        self._resting[owner] = self._resting.get(owner, 0) + 1
        self._call_later(for_s, lambda: self._rested(owner))

    def _rested(self, owner: str) -> None:
        self._resting[owner] -= 1
        if not self._resting[owner]:
            del self._resting[owner]
            if owner in self._waiting:
                self._plan()

    def _is_stopped(self, owner: str) -> bool:
        return owner in self._held or owner in self._resting

    def is_held(self, owner: str) -> bool:
        """Whether nothing of an owner is read."""
        return owner in self._held

    def _work(self, owner: str, line: Line, until_s: float) -> bool:
        """Handle what came on a line, until then; whether something is left."""
        while line.advance():
            if self._seconds() >= until_s or self._is_stopped(owner):
                return True
        return False

    def _park(self, owner: str, line: Line) -> None:
        line.pause()
        self._parked.add(id(line))
        self._waiting.setdefault(owner, deque()).append(line)
        self._plan()

    def _plan(self) -> None:
        if not self._is_planned:
            self._is_planned = True
            self._call_later(0, self._again)

    def _again(self) -> None:
        self._is_planned = False
        until_s = self._seconds() + SLICE_S
        while self._jobs:
            job, args = self._jobs.popleft()
            try:
                job(*args)
            except Exception:
                log.failure("something that was put off failed")
            if self._seconds() >= until_s:
                break
        else:
            self._serve(until_s)
        if self._jobs or not all(map(self._is_stopped, self._waiting)):
            self._plan()

    def _serve(self, until_s: float) -> None:
        for owner in list(self._waiting):
            if self._is_stopped(owner):
                continue
            # Behind the others, for the next round.
            lines = self._waiting.pop(owner)
            self._waiting[owner] = lines
            began_s = self._seconds()
            while lines and not self._is_stopped(owner) and self._seconds() < until_s:
                self._serve_line(owner, lines, until_s)
            # It has had its turn; what it sends now waits for the next one.
            self._worked[owner] = began_s, SLICE_S
            if not lines:
                del self._waiting[owner]
            if self._seconds() >= until_s:
                return

    def _serve_line(self, owner: str, lines: deque[Line], until_s: float) -> None:
        line = lines.popleft()
        is_left = False
        try:
            is_left = self._work(owner, line, until_s)
        except Exception:
            log.failure("what came on a connection could not be handled")
        if is_left:
            lines.append(line)
        else:
            self._parked.discard(id(line))
            line.resume()


class _Paced:
    """In place of the reactor that Crossbar's broker and dealer put things off with."""

    def __init__(self, reactor: Any, later: Callable[..., None]) -> None:
        self._reactor = reactor
        self._later = later

    def callLater(self, delay_s: float, job: Callable[..., object], *args: Any) -> Any:
        """Twisted's."""
        if delay_s:
            return self._reactor.callLater(delay_s, job, *args)
        self._later(job, *args)
        return None


def pace_meta_events(transport: object, turns: Turns) -> bool:
    """Have Crossbar's events about subscriptions and registrations published by turns.

    It reaches into private names of Crossbar (26.10.1: ``Broker._reactor``, ``Dealer._reactor``).

    Args:
        transport: of an embedded session, as Crossbar makes it.
        turns: who is served when.

    Returns:
        Whether Crossbar is as expected; if not, nothing was changed.
    """
    router = getattr(transport, "_router", None)
    parts: list[Any] = [getattr(router, name, None) for name in ("_broker", "_dealer")]
    if not all(callable(getattr(getattr(part, "_reactor", None), "callLater", None)) for part in parts):
        return False
    for part in parts:
        part._reactor = _Paced(part._reactor, turns.later)
    return True
