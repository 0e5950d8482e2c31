"""The lag of the event loop: how much later than planned a timer comes. Policy, no I/O.

Everything in a node happens in one thread, so that whatever keeps it busy keeps everybody waiting. One timer measures
(:mod:`.housekeeping`); ``/metrics`` tells all that was measured, as a histogram, and ``/ready`` goes by the worst of
the last seconds: a mean would hide the one stop that ended the agents' sessions.
"""

from __future__ import annotations

from collections import deque

from trishula_router.histogram import FAST_S, Histogram

__all__ = ["WINDOW_S", "LoopLag"]

#: A probe comes every few seconds, and is to hear of a stop between two of its visits.
WINDOW_S = 10.0


class LoopLag:
    """What a timer has measured.

    Attributes:
        times: all of it, since the start.
    """

    def __init__(self) -> None:
        self.times = Histogram(FAST_S)
        self._seen: deque[tuple[float, float]] = deque()

    def measured(self, late_s: float, now_s: float) -> None:
        """The timer came so much too late."""
        late_s = max(0.0, late_s)
        self.times.observe(late_s)
        self._seen.append((now_s, late_s))
        while self._seen[0][0] < now_s - WINDOW_S:
            self._seen.popleft()

    def worst_s(self, now_s: float) -> float:
        """The worst of the last :data:`WINDOW_S`."""
        return max((late_s for at_s, late_s in self._seen if at_s >= now_s - WINDOW_S), default=0.0)

    def serve(self) -> None:
        """The node serves from now on: what was late during its start made nobody wait, and is not told as recent."""
        self._seen.clear()
