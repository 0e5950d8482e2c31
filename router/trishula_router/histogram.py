"""A histogram: how many values fell between which bounds, and their sum; what counts must cost less than a microsecond.

It is plain numbers, and knows of no Prometheus: a node in memory counts as well. One thread counts, others may read.
"""

from __future__ import annotations

from bisect import bisect_left

__all__ = ["FAST_S", "SLOW_S", "Histogram"]

#: Upper ends of buckets, in seconds: for what is done within milliseconds, and for what may wait for an agent.
FAST_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
SLOW_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0, 3600.0)


class Histogram:
    """See the module's docstring.

    Args:
        bounds: the upper ends of the buckets, rising; a last bucket has what is larger.

    Attributes:
        counts: how many values each bucket has, the last one included.
        total: the sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Count a value, as often as it came."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.total += value * count
