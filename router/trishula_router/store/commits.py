"""What a store counts of its commits, for the node's metrics."""

from __future__ import annotations

from dataclasses import dataclass, field

from trishula_router.histogram import FAST_S, Histogram

__all__ = ["Commits"]

#: Upper ends of buckets: a transaction has up to 256 jobs, and a job up to a thousand messages.
_RECORDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0)


@dataclass(slots=True)
class Commits:
    """The commits of a store since it was opened; a store in memory has none.

    Attributes:
        newest: the position of the newest record of the own journal, as of the last commit.
        times: how many seconds each took, its fsync included.
        records: how many records of the own journal shared each.
    """

    newest: int = 0
    times: Histogram = field(default_factory=lambda: Histogram(FAST_S))
    records: Histogram = field(default_factory=lambda: Histogram(_RECORDS))

    def reached(self, newest: int) -> None:
        """A transaction is over, and that is the newest record now; one that wrote none is none of those counted."""
        if newest > self.newest:
            self.records.observe(newest - self.newest)
            self.newest = newest
