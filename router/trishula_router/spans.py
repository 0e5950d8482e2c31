"""Spans in whole milliseconds, counted by how long they were, to be taken from time to time.

It costs a tenth of a microsecond for each, so that it can be done for each message; whoever takes the counts makes
sketches of them.
"""

from __future__ import annotations

__all__ = ["Spans"]


class Spans:
    """See the module's docstring.

    Attributes:
        counts: ms → how many spans were so long, since they were taken.
    """

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def observe(self, span_ms: int) -> None:
        """Count a span; less than nothing is nothing."""
        counts = self.counts
        counts[span_ms] = counts.get(span_ms, 0) + 1

    def take(self) -> dict[int, int]:
        """The counts since this was asked last."""
        taken, self.counts = self.counts, {}
        return taken
