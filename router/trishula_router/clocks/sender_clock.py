"""The clock of one sender, for one call: what an instant that it names means by the node's clock.

A sender's clock may be off by hours, and a deadline that it names would be over before it begins. What is known of its
clock, the surest first:

1. *What it tells with the call* (``sent_at``): how it stands right now. Clients of ours tell it where a message has a
   deadline.
2. *What its beats have shown*: the same, measured within the last minutes.
3. *The messages' own times* (``timestamp``), the newest of the call. A message may have waited since it was written, so
   the clock is at least as far ahead as that says, and a deadline that follows from it is the latest one that can be
   meant. So a message that waited long lives too long rather than too short: that a command still runs is what its
   sender asked for, that it is gone is what nobody asked for.

Who tells none of this is believed. Differences below a second are none, see :mod:`.peer_clocks`. Policy only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trishula_router.clocks.peer_clocks import TOLERATED_MS

__all__ = ["SenderClock"]


class SenderClock:
    """See the module's docstring. Instants are in ms.

    Args:
        now: the node's clock.
        sent_at: the sender's clock, if it told that with the call.
        measured_ms: tells by how much it is ahead, as its beats show; ``None`` if it didn't beat.
        raws: the messages of the call as they came.
    """

    __slots__ = ("_ahead_ms", "_measured_ms", "_now", "_raws", "_sent_at")

    def __init__(
        self, now: int, sent_at: int | None, measured_ms: Callable[[], int | None], raws: Sequence[object]
    ) -> None:
        self._now = now
        self._sent_at = sent_at
        self._measured_ms = measured_ms
        self._raws = raws
        # Few messages name an instant, so this is found out for the first that does.
        self._ahead_ms: int | None = None

    def here(self, instant: int) -> int:
        """An instant of the sender's, by the node's clock."""
        if self._ahead_ms is None:
            self._ahead_ms = self._find_ahead_ms()
        return max(0, instant - self._ahead_ms)

    def _find_ahead_ms(self) -> int:
        if self._sent_at is not None:
            ahead_ms = self._sent_at - self._now
        elif (measured_ms := self._measured_ms()) is not None:
            ahead_ms = measured_ms
        else:
            told = [raw.get("timestamp") for raw in self._raws if isinstance(raw, dict)]
            instants = [int(at) for at in told if isinstance(at, int | float) and 0 <= at < 2**53]
            ahead_ms = max(instants, default=self._now) - self._now
        return ahead_ms if abs(ahead_ms) >= TOLERATED_MS else 0
