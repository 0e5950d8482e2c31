"""The clocks of a node: one for spans, which never steps, and one for instants, which follows the wall clock slowly.

*Spans* (leases, pauses, ticks, how long ago an agent beat) are measured by the reactor's clock. Twisted's is the wall
clock: set back by an hour, it would fire no timer for an hour, and set forward it would end every lease at once. So the
worker's reactor is put on the monotonic clock (:func:`trishula.surroundings.use_monotonic_timers`).

*Instants* (``accepted_at``, ``expires_at``, the journal's times) are meant for people and other machines, so they are
the wall clock's; but they are compared too: with the time to live of a message, with the end of a pause, with an
agent's last beat. A step of the machine's clock must not expire messages by the thousand, nor keep them for ever. So a
node reads the wall clock when it starts, counts on from there by a clock that doesn't step, and follows the wall clock
by at most :data:`FOLLOW_RATE` of the time that passes (:class:`SteadyClock`): enough for what NTP corrects, and a step
of an hour is made up for in four days. Who wants the node on the new time at once, restarts it; the log says so. Across
a restart the wall clock counts as it is: nothing else knows how long the machine was off.

:class:`Clock` is the part of Twisted's reactor that the rules are given. Twisted's own ``IReactorTime`` is a zope
interface, which mypy can't follow; ``reactor`` and ``twisted.internet.task.Clock`` both fit this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["FOLLOW_RATE", "STEP_MS", "Clock", "SteadyClock", "Timer"]

#: How much of the time that passes the node's clock may run fast or slow to get back to the wall clock. Crystals are
#: wrong by 0.01 % at most; at 1 % nobody notices a lease or a time to live that is off.
FOLLOW_RATE = 0.01

#: From so much on the difference was a step, somebody's doing, and is told of.
STEP_MS = 2000


class Timer(Protocol):
    """A call to come."""

    def active(self) -> bool: ...

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Tells seconds from some fixed instant, and calls later."""

    def seconds(self) -> float: ...

    def callLater(self, delay: float, call: Callable[..., Any], *args: Any) -> Timer: ...


class SteadyClock:
    """Tells ms since the epoch, without the wall clock's steps.

    Args:
        wall_ms: the wall clock.
        steady_ms: from any instant on, never stepping; it should go on while the machine sleeps, as a wall clock does.
        stepped: told of each step: by how many ms the wall clock is ahead of this one now.
    """

    def __init__(
        self, wall_ms: Callable[[], float], steady_ms: Callable[[], float], stepped: Callable[[float], None]
    ) -> None:
        self._wall_ms = wall_ms
        self._steady_ms = steady_ms
        self._stepped = stepped
        self._last = steady_ms()
        self._offset = wall_ms() - self._last
        self._told_of = 0.0

    def __call__(self) -> int:
        """Now, in ms since the epoch."""
        steady = self._steady_ms()
        passed, self._last = steady - self._last, steady
        gap = self._wall_ms() - steady - self._offset
        most = passed * FOLLOW_RATE
        self._offset += max(-most, min(most, gap))
        if abs(gap - self._told_of) >= STEP_MS:
            self._told_of = gap
            # One that goes back to where it was is made up for; there is nothing to be done.
            if abs(gap) >= STEP_MS:
                self._stepped(gap)
        return int(steady + self._offset)
