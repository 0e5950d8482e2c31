"""The clock of a bus in memory: it goes on as the wall clock does, and can be turned.

Everything on the bus that waits for a time waits on this clock: the node's leases, pauses and times to live, the
clients' timeouts and heartbeats. While nobody turns the clock, a second is a second. :meth:`TurnedClock.turn` lets an
hour pass: every timer of that hour goes off in its order, each at its own time, and between two of them the handlers
that they woke get their turns. A clock that stood still would be simpler, but a call with ``timeout=10`` that nobody
answers would then hang a test for ever, instead of for 10 s.

What waits on something else is not moved: ``asyncio.sleep`` in a handler, and whatever a library does, take real time.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
from collections.abc import Callable
from typing import Any

__all__ = ["LifeClock", "TurnedClock", "TurnedTimer"]

_log = logging.getLogger("trishula")

#: After so many turns of the loop in which no timer went off, what there was to do at an instant is taken for done.
_QUIET_TURNS = 12
#: While only the node's housekeeping goes on, the loop gets a turn after so many timers.
_TURN_EVERY = 64
#: Up to so long every timer goes off at its own time. A node has some ten of them a second, so a week would take a
#: minute; of a longer time they go off late by a little, as on a machine that is busy.
_EXACT_S = 3600.0
#: By how much at most; an agent is called stale when it has been silent for longer.
_LATE_S = 5.0
#: A node's shortest period.
_PERIOD_S = 0.25


class TurnedTimer:
    """A call to come; plays :class:`trishula.runtime.surroundings.Timer`."""

    __slots__ = ("args", "at_s", "call", "is_housekeeping")

    def __init__(self, at_s: float, call: Callable[..., Any], args: tuple[Any, ...], is_housekeeping: bool) -> None:
        self.at_s = at_s
        self.call: Callable[..., Any] | None = call
        self.args = args
        self.is_housekeeping = is_housekeeping

    def active(self) -> bool:
        return self.call is not None

    def cancel(self) -> None:
        self.call = None


class TurnedClock:
    """See the module's docstring.

    Args:
        loop: in which everything runs; it need not run yet.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        #: What the loop's clock said when this one said 0, less what this one was turned by.
        self._zero_s = loop.time()
        #: The time while the clock is being turned.
        self._turning_s: float | None = None
        self._timers: list[tuple[float, int, TurnedTimer]] = []
        self._numbers = 0
        self._woken: tuple[float, asyncio.Handle] | None = None
        self._went_off = 0
        self._is_closed = False

    def seconds(self) -> float:
        """Since the bus began, in seconds."""
        return self._loop.time() - self._zero_s if self._turning_s is None else self._turning_s

    def call_later(
        self, delay_s: float, call: Callable[..., Any], args: tuple[Any, ...], *, is_housekeeping: bool = False
    ) -> TurnedTimer:
        """Call in a while; those of one instant in the order in which they were set."""
        timer = TurnedTimer(self.seconds() + max(delay_s, 0.0), call, args, is_housekeeping)
        self._numbers += 1
        heapq.heappush(self._timers, (timer.at_s, self._numbers, timer))
        self._wake()
        return timer

    def close(self) -> None:
        """No timer goes off any more."""
        self._is_closed = True
        self._timers.clear()
        if self._woken is not None:
            self._woken[1].cancel()
        self._woken = None

    def from_thread(self, call: Callable[..., Any], *args: Any) -> None:
        """Call in the loop's thread; from any thread."""
        self._loop.call_soon_threadsafe(call, *args)

    # -- while nobody turns it -----------------------------------------------------------------------------------------

    def _next_s(self) -> float:
        while self._timers and not self._timers[0][2].active():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else math.inf

    def _wake(self) -> None:
        """Have the loop wake us when the next timer is due."""
        next_s = self._next_s()
        if self._is_closed or next_s == math.inf or (self._woken is not None and self._woken[0] <= next_s):
            return
        if self._woken is not None:
            self._woken[1].cancel()
        if next_s <= self.seconds():
            self._woken = next_s, self._loop.call_soon(self._due)
        elif self._turning_s is None:
            self._woken = next_s, self._loop.call_at(next_s + self._zero_s, self._due)

    def _due(self) -> None:
        self._woken = None
        self.go_off()
        self._wake()

    def go_off(self) -> bool:
        """Let what is due go off, but for what it sets itself; whether anything was."""
        now_s, last, some = self.seconds(), self._numbers, False
        while self._next_s() <= now_s and self._timers[0][1] <= last:
            timer = heapq.heappop(self._timers)[2]
            call, timer.call = timer.call, None
            if call is None:
                continue
            some = True
            if not timer.is_housekeeping:
                self._went_off += 1
            try:
                call(*timer.args)
            except Exception:
                _log.exception("A timer of the bus in memory failed")
        return some

    # -- turning -------------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Let everything be done that can be done without time passing."""
        quiet, seen = 0, -1
        while quiet < _QUIET_TURNS:
            if self._went_off == seen and self._next_s() > self.seconds():
                quiet += 1
            else:
                quiet, seen = 0, self._went_off
            if self._turning_s is not None:
                self.go_off()
            await asyncio.sleep(0)

    async def turn(self, span_s: float) -> None:
        """Let so much time pass, in seconds."""
        end_s = self.seconds() + span_s
        late_s = 0.0 if span_s <= _EXACT_S else min(_LATE_S, _PERIOD_S * span_s / _EXACT_S)
        await self.settle()
        self._turning_s = self.seconds()
        try:
            seen, quiet = -1, 0
            while True:
                if self._went_off != seen or quiet >= _TURN_EVERY:
                    await self.settle()
                    seen, quiet = self._went_off, 0
                next_s = self._next_s()
                if next_s > end_s:
                    break
                self._turning_s = max(self._turning_s, min(end_s, max(next_s, self._turning_s + late_s)))
                self.go_off()
                quiet += 1
            self._turning_s = max(end_s, self._turning_s)
        finally:
            self._zero_s = self._loop.time() - self._turning_s
            self._turning_s = None
            if self._woken is not None:
                self._woken[1].cancel()
                self._woken = None
            self._wake()
        await self.settle()


class LifeClock:
    """The clock of one life, of the node or of a client: its timers end with it, as those of a killed process do.

    Plays :class:`trishula.runtime.surroundings.Clock`, and as much of a reactor as
    :meth:`trishula.agent.Agent.from_thread` asks for.

    Args:
        clock: whose time it is.
        is_housekeeping: whether most of its timers find nothing to do.
    """

    def __init__(self, clock: TurnedClock, *, is_housekeeping: bool = False) -> None:
        self._clock = clock
        self._is_housekeeping = is_housekeeping
        self._is_over = False

    def seconds(self) -> float:
        return self._clock.seconds()

    def callLater(self, delay: float, call: Callable[..., Any], /, *args: Any) -> TurnedTimer:
        # At once is not housekeeping, whoever says so.
        idle = self._is_housekeeping and delay > 0
        return self._clock.call_later(delay, self._go_off, (call, args), is_housekeeping=idle)

    def callFromThread(self, call: Callable[..., Any], *args: Any) -> None:
        self._clock.from_thread(self._go_off, call, args)

    def _go_off(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if not self._is_over:
            call(*args)

    def end(self) -> None:
        """No timer of it goes off any more."""
        self._is_over = True
