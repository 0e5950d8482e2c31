"""When the store will be full, if it goes on as in the last hours: a straight line through the room there was. Policy.

The *room* is what the store can still take for messages: the nearer one of the bounds of ``limits.store`` and the disk
(:mod:`trishula_router.store.sqlite.space`). So the forecast also counts what others write onto the same disk, and what
retention gives back.
"""

from __future__ import annotations

from collections import deque

__all__ = ["SAMPLE_S", "Growth"]

#: Between two looks.
SAMPLE_S = 60.0
#: A line through less time would take one large upload for the way of things.
_LEAST_SPAN_S = 1800.0
#: A line through more would not notice for hours that somebody began to fill the disk.
_MOST_SPAN_S = 6 * 3600.0


class Growth:
    """The room of the last hours."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def sample(self, room_bytes: int, now_s: float) -> None:
        """There is room for so much now."""
        self._seen.append((now_s, room_bytes))
        while self._seen[0][0] < now_s - _MOST_SPAN_S:
            self._seen.popleft()

    def per_s(self) -> float | None:
        """By how many bytes a second the room shrinks; ``None`` before enough was seen."""
        if len(self._seen) < 2 or self._seen[-1][0] - self._seen[0][0] < _LEAST_SPAN_S:
            return None
        count = len(self._seen)
        mean_s = sum(at_s for at_s, _ in self._seen) / count
        mean_bytes = sum(room for _, room in self._seen) / count
        slope = sum((at_s - mean_s) * (room - mean_bytes) for at_s, room in self._seen)
        return -slope / sum((at_s - mean_s) ** 2 for at_s, _ in self._seen)

    def full_in_s(self) -> float | None:
        """In how long there is no room left; ``None`` if it doesn't shrink, or that isn't known yet."""
        shrinks = self.per_s()
        return max(0, self._seen[-1][1]) / shrinks if shrinks is not None and shrinks > 0 else None
