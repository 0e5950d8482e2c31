"""Turns: no client keeps the node to itself, however much it sends at once. Policy; timers come from the caller.

Twisted reads up to 64 KiB of a connection and Autobahn handles all frames in them before anybody else gets a word in:
1,500 small calls, half a second; a hundred connections of one agent make it a hundred times that. Here each agent, with
all its connections, works for at most :data:`SLICE_S` at a stretch. What is left waits (the connection isn't read
meanwhile, so that TCP slows its sender down) until the reactor has looked at everybody else, and is then served in
turn: one agent after the other, and of each agent one connection after the other. Whoever asks for little is never made
to wait for its own turn, and waits for one slice of others at most.

*Jobs* are what Crossbar puts off for later, its events about subscriptions and registrations that come and go. They are
part of what their agent has waiting, before its frames and by the same slices: a session that ended with a thousand
subscriptions made the reactor carry out three thousand of them in one go.

*Gaps* are for the store. Its thread needs the interpreter some fifty times a commit, and gets it late from a reactor
that never rests: a reactor that sends small answers gives the interpreter away for a moment each time and takes it back
before the other thread is awake. So while a small question of somebody who has nothing waiting is open
(:meth:`Turns.owe`), the reactor sleeps for :data:`GAP_S` between two slices of those who have. Measured on two cores
beside floods of requests: the commits of a light load took 20 to 60 ms of waiting for the interpreter.

An agent may be *held*: then nothing further of it is read until it is let go. That is how whoever hands in more than
can be worked off at once is slowed down, instead of being refused. And it *rests*, by itself, when reading one of its
frames took long: a frame is read in one go, so that no slice can bound it, and only that they are seldom keeps the
others' delays short. It rests too when it goes on asking for what it is refused (:meth:`Turns.refused`): a refusal
costs as much as many a request that is carried out, and nobody gains by it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.logger import Logger

from trishula_router.upstream.crossbar_parts import Parts, has

__all__ = ["GAP_S", "SLICE_S", "Line", "Turns", "pace_meta_events"]

log = Logger()

#: Others with a light load shall have their answers within some ms; a frame that was begun is always ended.
SLICE_S = 0.002
#: The shortest that a reactor over epoll sleeps.
GAP_S = 0.001
#: A question that is open for longer waits for something else than the interpreter.
_OWED_S = 0.05
#: For so long what an agent has worked counts against its slice, if it has not had to wait.
_WINDOW_S = 0.005
#: So many refusals a second an agent is told at once, and so many at a time before that counts.
_REFUSALS_PER_S = 1000.0
_REFUSALS_AT_ONCE = 1000.0
#: Who was refused more rests for so long.
_REFUSED_RESTS_S = 0.05
#: An agent that has so many jobs waiting is not read before they are done.
_FEW_JOBS = 20


class Line(Protocol):
    """A connection whose bytes are handled piece by piece."""

    def advance(self) -> bool:
        """Handle one piece; whether there is more to handle."""

    def pause(self) -> None:
        """Read nothing more."""

    def resume(self) -> None:
        """Read on."""


@dataclass(slots=True)
class _Waiting:
    """What waits of one owner."""

    jobs: deque[tuple[Callable[..., object], tuple[Any, ...]]] = field(default_factory=deque)
    lines: deque[Line] = field(default_factory=deque)


class Turns:
    """Who is served when.

    Args:
        seconds: a clock for spans.
        call_later: a timer: how long, and what to do then; 0: when the reactor has looked at everybody.
    """

    def __init__(self, seconds: Callable[[], float], call_later: Callable[[float, Callable[[], None]], object]) -> None:
        self._seconds = seconds
        self._call_later = call_later
        # The owners are in the order of their turns.
        self._waiting: dict[str, _Waiting] = {}
        self._parked: set[int] = set()
        self._held: set[str] = set()
        # How many rests of each owner are not over.
        self._resting: dict[str, int] = {}
        # Of each owner that worked lately: since when that counts, and how long it worked.
        self._worked: dict[str, tuple[float, float]] = {}
        # Whose frames or jobs are being handled.
        self._served = ""
        # The open questions of those who have nothing waiting, and since when each is; the oldest first.
        self._owed: dict[Hashable, float] = {}
        self._had_gap = False
        # Of each owner that was refused lately: how many refusals it has left, and when that was so.
        self._refusals: dict[str, tuple[float, float]] = {}
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
        if worked_s >= SLICE_S or self._must_wait(owner) or self._is_stopped(owner):
            self._park(owner, line)
            return
        self._served = owner
        try:
            if self._work(owner, line, now_s + SLICE_S - worked_s):
                self._park(owner, line)
        finally:
            self._served = ""
        if len(self._worked) > 1000:
            self._worked.clear()
        self._worked[owner] = since_s, worked_s + self._seconds() - now_s

    def later(self, job: Callable[..., object], *args: Any) -> None:
        """Do something for whoever is served just now, after what is being done and before what waits of it."""
        self._waiting.setdefault(self._served, _Waiting()).jobs.append((job, args))
        self._plan()

    @contextmanager
    def on_behalf_of(self, owner: str) -> Iterator[None]:
        """What is put off meanwhile is put off for an owner."""
        before, self._served = self._served, owner
        try:
            yield
        finally:
            self._served = before

    def owe(self, question: Hashable, owner: str) -> None:
        """An owner asked something small, and waits for the answer."""
        if owner not in self._waiting:
            self._owed[question] = self._seconds()

    def answered(self, question: Hashable) -> None:
        """It waits no more; of a question that was not told, nothing happens."""
        self._owed.pop(question, None)

    def refused(self, owner: str) -> None:
        """An owner was refused something; who goes on after many of them is read seldom."""
        now_s = self._seconds()
        left, at_s = self._refusals.get(owner, (_REFUSALS_AT_ONCE, now_s))
        left = min(_REFUSALS_AT_ONCE, left + (now_s - at_s) * _REFUSALS_PER_S) - 1.0
        if left < 0.0 and owner not in self._resting:
            self.rest(owner, _REFUSED_RESTS_S)
        if len(self._refusals) > 1000:
            self._refusals.clear()
        self._refusals[owner] = left, now_s

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

    def _must_wait(self, owner: str) -> bool:
        waiting = self._waiting.get(owner)
        return waiting is not None and (bool(waiting.lines) or len(waiting.jobs) > _FEW_JOBS)

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
        self._waiting.setdefault(owner, _Waiting()).lines.append(line)
        self._plan()

    def _plan(self, delay_s: float = 0.0) -> None:
        if not self._is_planned:
            self._is_planned = True
            self._call_later(delay_s, self._again)

    def _again(self) -> None:
        self._is_planned = False
        self._had_gap = not self._had_gap and self._somebody_waits()
        if self._had_gap:
            self._plan(GAP_S)
            return
        self._serve(self._seconds() + SLICE_S)
        if any(waiting.jobs or not self._is_stopped(owner) for owner, waiting in self._waiting.items()):
            self._plan()

    def _somebody_waits(self) -> bool:
        """Whether a small question is open, and not for long."""
        since_s = self._seconds() - _OWED_S
        while self._owed:
            question = next(iter(self._owed))
            if self._owed[question] > since_s:
                return True
            del self._owed[question]
        return False

    def _serve(self, until_s: float) -> None:
        for owner, waiting in list(self._waiting.items()):
            if not waiting.jobs and self._is_stopped(owner):
                continue
            # Behind the others, for the next round.
            del self._waiting[owner]
            self._waiting[owner] = waiting
            began_s, had_lines = self._seconds(), bool(waiting.lines)
            with self.on_behalf_of(owner):
                self._serve_owner(owner, waiting, until_s)
            ended_s = self._seconds()
            # If something waited, it has had its turn: what it sends now waits for the next one.
            self._worked[owner] = began_s, SLICE_S if had_lines else ended_s - began_s
            if not waiting.lines and not waiting.jobs:
                del self._waiting[owner]
            if ended_s >= until_s:
                return

    def _serve_owner(self, owner: str, waiting: _Waiting, until_s: float) -> None:
        while waiting.jobs and self._seconds() < until_s:
            job, args = waiting.jobs.popleft()
            try:
                job(*args)
            except Exception:
                log.failure("something that was put off failed")
        while waiting.lines and not self._is_stopped(owner) and self._seconds() < until_s:
            self._serve_line(owner, waiting.lines, until_s)

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
    found = Parts.behind(transport)
    parts = (found.broker, found.dealer)
    if not all(has(getattr(part, "_reactor", None), verbs=("callLater",)) for part in parts):
        return False
    for part in parts:
        part._reactor = _Paced(part._reactor, turns.later)
    return True
