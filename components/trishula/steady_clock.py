"""A clock that tells instants as the wall clock does, and doesn't step when somebody sets that one.

A node counts by it how long messages live (:mod:`trishula_router.clock` has the reasons), an agent how long it
remembers what it has handled.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["FOLLOW_RATE", "STEP_MS", "SteadyClock"]

#: How much of the time that passes it may run fast or slow to get back to the wall clock. Crystals are wrong by 0.01 %
#: at most; at 1 % nobody notices a lease or a time to live that is off.
FOLLOW_RATE = 0.01

#: From so much on the difference was a step, somebody's doing, and is told of.
STEP_MS = 2000


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
