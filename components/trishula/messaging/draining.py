"""Waiting until nothing of a client is under way: every message has its receipt, and every ack its answer.

What has something under way says so when it has nothing more (:meth:`Drain.emptied`); nobody looks again and again. Who
waits goes on in a turn of its own: the one in which the last answer came still has work to do.
"""

from __future__ import annotations

from collections.abc import Callable

from trishula.runtime.pending import Pending
from trishula.runtime.surroundings import Clock

__all__ = ["Drain"]


class Drain:
    """See the module's docstring.

    Args:
        clock: for time limits, and for the next turn.
        is_empty: whether nothing is under way.
    """

    def __init__(self, clock: Clock, is_empty: Callable[[], bool]) -> None:
        self._clock = clock
        self._is_empty = is_empty
        self._has_ended = False
        # Who waits, until told whether it was worth it.
        self._waiting: set[Pending[bool]] = set()

    def emptied(self) -> None:
        """Something that may have had something under way has nothing more."""
        if self._waiting and self._is_empty():
            self._tell(True)

    def ended(self) -> None:
        """The client is at its end: what is under way now gets no answer any more."""
        self._has_ended = True
        self._tell(False)

    def _tell(self, is_drained: bool) -> None:
        for one in self._waiting:
            self._clock.callLater(0, one.resolve, is_drained)
        self._waiting.clear()

    async def within(self, timeout_s: float) -> bool:
        """Wait, but only so long; whether there came a moment with nothing under way."""
        deadline_s = self._clock.seconds() + timeout_s
        while not self._is_empty():
            left_s = deadline_s - self._clock.seconds()
            if left_s <= 0 or self._has_ended:
                return False
            told: Pending[bool] = Pending()
            self._waiting.add(told)
            limit = self._clock.callLater(left_s, told.resolve, False)
            try:
                if not await told:
                    return False
            finally:
                self._waiting.discard(told)
                if limit.active():
                    limit.cancel()
        return True
