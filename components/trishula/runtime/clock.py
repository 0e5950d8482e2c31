"""A clock that tells instants as the wall clock does, and doesn't step when somebody sets that one.

A node counts by it how long messages live (:mod:`trishula_router.clocks.clock` has the reasons), an agent how long it
remembers what it has handled.

A step may be a mistake that is made up for in a moment, or the clock may have been wrong until then: of a machine that
has no clock of its own, or that slept. One that lasts for :data:`BELIEVED_AFTER_MS` is the truth as far as anybody can
tell (:attr:`SteadyClock.lasting_ms`), and who has put its own house in order for it has this clock jump
(:meth:`SteadyClock.jump`).
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["BELIEVED_AFTER_MS", "FOLLOW_RATE", "STEP_MS", "SteadyClock"]

#: How much of the time that passes it may run fast or slow to get back to the wall clock. Crystals are wrong by 0.01 %
#: at most; at 1 % nobody notices a lease or a time to live that is off.
FOLLOW_RATE = 0.01

#: From so much on the difference was a step, somebody's doing, and is told of.
STEP_MS = 2000

#: How long a step lasts before it is believed.
BELIEVED_AFTER_MS = 60_000


class SteadyClock:
    """Tells ms since the epoch, without the wall clock's steps.

    Args:
        wall_ms: the wall clock.
        steady_ms: from any instant on, never stepping; it should go on while the machine sleeps, as a wall clock does.
        stepped: told of each step: by how many ms the wall clock is ahead of this one now.
        offset_ms: by how much this clock is ahead of ``steady_ms`` at first; as much as the wall clock, unless that
            differs by a step.

    Attributes:
        offset_ms: the same, now.
        gap_ms: by how much the wall clock was ahead of this one when it was read last.
    """

    def __init__(
        self,
        wall_ms: Callable[[], float],
        steady_ms: Callable[[], float],
        stepped: Callable[[float], None],
        offset_ms: float | None = None,
    ) -> None:
        self._wall_ms = wall_ms
        self._steady_ms = steady_ms
        self._stepped = stepped
        self._last = steady_ms()
        #: The wall clock against the steady one, and since when it has been so.
        self._set_to = wall_ms() - self._last
        self._set_since = self._last
        is_known = offset_ms is not None and abs(self._set_to - offset_ms) >= STEP_MS
        self.offset_ms = offset_ms if is_known and offset_ms is not None else self._set_to
        self.gap_ms = self._set_to - self.offset_ms
        self._told_of = 0.0

    def __call__(self) -> int:
        """Now, in ms since the epoch."""
        # Read several times for each message, so nothing is called that a comparison does.
        steady = self._steady_ms()
        most, self._last = (steady - self._last) * FOLLOW_RATE, steady
        set_to = self._wall_ms() - steady
        if not -STEP_MS < set_to - self._set_to < STEP_MS:
            self._set_to, self._set_since = set_to, steady
        gap = set_to - self.offset_ms
        if gap > most:
            self.offset_ms += most
        elif gap < -most:
            self.offset_ms -= most
        else:
            self.offset_ms += gap
        self.gap_ms = set_to - self.offset_ms
        if not -STEP_MS < gap - self._told_of < STEP_MS:
            self._told_of = gap
            # One that goes back to where it was is made up for; there is nothing to be done.
            if abs(gap) >= STEP_MS:
                self._stepped(gap)
        return int(steady + self.offset_ms)

    @property
    def lasting_ms(self) -> int:
        """By how much the wall clock is ahead, if that is a step that lasts; else 0."""
        lasts = self._last - self._set_since >= BELIEVED_AFTER_MS
        return round(self.gap_ms) if lasts and abs(self.gap_ms) >= STEP_MS else 0

    def jump(self, by_ms: int) -> None:
        """Be ahead by so much from now on."""
        self.offset_ms += by_ms
        self.gap_ms -= by_ms
        # What is left of the gap is no news, and a step that comes is.
        self._told_of = self.gap_ms
