"""The canary: what a cell puts on its own stream comes back, or its reader is dead. Policy only: no I/O.

A connection that is open, and a writer that is well, say nothing of a reader: with centrifugo's issue 1189 the reader
had died for good in a failover, and all else said that it was well. So the reader is believed only if it brings what
was sent a short while ago, through the same stream as the letters of other cells.
"""

from __future__ import annotations

__all__ = ["PERIOD_S", "Canary"]

PERIOD_S = 5.0
_KEPT = 64


class Canary:
    """What was sent, and what came back.

    Args:
        now_s: when the cell began to read.
    """

    def __init__(self, now_s: float) -> None:
        self._sent: dict[int, float] = {}
        self._number = 0
        self._newest_back_s = now_s
        self._due_s = now_s

    def begin(self, now_s: float) -> None:
        """The cell begins to read: what was before doesn't count."""
        self._sent.clear()
        self._newest_back_s = self._due_s = now_s

    def next(self, now_s: float) -> int | None:
        """The number of the one that is to be sent now; ``None`` if none is."""
        if now_s < self._due_s:
            return None
        self._due_s = now_s + PERIOD_S
        self._number += 1
        self._sent[self._number] = now_s
        if len(self._sent) > _KEPT:
            del self._sent[next(iter(self._sent))]
        return self._number

    def back(self, number: int) -> None:
        """One came back."""
        if (sent_s := self._sent.pop(number, None)) is not None:
            self._newest_back_s = max(self._newest_back_s, sent_s)

    def age_s(self, now_s: float) -> float:
        """How long ago the newest one was sent that came back; since the cell reads, if none did."""
        return max(0.0, now_s - self._newest_back_s)
