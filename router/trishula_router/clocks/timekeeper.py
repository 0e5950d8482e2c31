"""The timekeeper: sets a node's clock when that of its machine was set for good, and everything that counts by it.

What the rules are is in :mod:`.timeline`. The order is this: nothing goes out, expires or is handed to peers from now
on; the clock jumps; the store moves the instants of what is open, behind all that was asked of it before; then what is
in memory follows, all of which is from before, because the store answers in order; and everything goes on. What is
written meanwhile has the new time already, and reaches the store behind the move.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from trishula.contract.units import show_duration
from trishula.errors import StorageFailed, StorageFull
from trishula_router.background import log_fault
from trishula_router.clocks.timeline import Timeline
from trishula_router.store.interface import Store

__all__ = ["Timekeeper"]

log = Logger()

#: How soon a clock is set again that could not be, because the store failed.
_RETRY_S = 10.0


class Timekeeper:
    """See the module's docstring.

    Args:
        timeline: of the node; without one its clock is never set.
        store: moves what is open.
        seconds: a clock for spans.
        hold: has nothing judged by instants until ``go_on``.
        go_on: the clock is set, or is not.
        follow: moves what is in memory: (by how many ms, the newest ``arrival`` that stays as it is).

    Attributes:
        is_setting: whether the clock is being set just now.
    """

    def __init__(
        self,
        timeline: Timeline | None,
        store: Store,
        *,
        seconds: Callable[[], float],
        hold: Callable[[], None],
        go_on: Callable[[], None],
        follow: Callable[[int, int], None],
    ) -> None:
        self.is_setting = False
        self._timeline = timeline
        self._store = store
        self._seconds = seconds
        self._hold = hold
        self._go_on = go_on
        self._follow = follow
        self._retry_s = 0.0

    @property
    def gap_ms(self) -> int:
        """By how much the machine's clock is ahead of the node's."""
        return 0 if self._timeline is None else self._timeline.gap_ms

    def earlier(self, instant: int) -> int:
        """What the clock told at an instant of the past; see :meth:`.Timeline.earlier`."""
        return instant if self._timeline is None else self._timeline.earlier(instant)

    def remember(self) -> None:
        """Have the store keep how the clock stands, for the node's next run."""
        if self._timeline is not None:
            kept = self._store.remember(self._timeline.notes())
            kept.addErrback(log_fault, log, "it could not be kept how the node's clock stands")

    async def look(self) -> None:
        """Set the clock, if that of the machine was set for good: to be called a few times a second."""
        timeline = self._timeline
        by_ms = 0 if timeline is None else timeline.lasting_ms
        if timeline is None or not by_ms or self._seconds() < self._retry_s:
            return
        self.is_setting = True
        self._hold()
        timeline.jump(by_ms)
        try:
            await self._store.follow_clock(by_ms, timeline.since, timeline.notes(), timeline.clock())
        except (StorageFull, StorageFailed):
            # The store tells of it itself.
            timeline.jump_back(by_ms)
            self._retry_s = self._seconds() + _RETRY_S
        else:
            log.warn(
                "the machine's clock has been {span} {way} the node's for a minute, so the node believes it: its times "
                "have jumped by that, and what lives or waits for a span goes on as before",
                span=show_duration(abs(by_ms) / 1000),
                way="ahead of" if by_ms > 0 else "behind",
            )
            self._follow(by_ms, timeline.since)
        finally:
            self.is_setting = False
            self._go_on()
