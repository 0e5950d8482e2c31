"""A rate: so much a second in the long run, so much at once. Policy only: every verb takes ``now_s``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Rate", "TokenBucket"]


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a second in the long run, so many at once."""

    per_s: float
    burst: int


class TokenBucket:
    """See the module's docstring. It is full at first."""

    def __init__(self, rate: Rate, now_s: float) -> None:
        self._rate = rate
        self._tokens = float(rate.burst)
        self._filled_s = now_s

    def wait_s(self, now_s: float, count: int = 1) -> float:
        """How long until there are so many tokens, or all that it can hold; 0 if there are."""
        if now_s == self._filled_s and count <= self._tokens:
            # So it is with all messages of a call but the first.
            return 0.0
        # A clock that was set back fills nothing, and takes nothing away.
        elapsed_s = max(0.0, now_s - self._filled_s)
        self._tokens = min(float(self._rate.burst), self._tokens + elapsed_s * self._rate.per_s)
        self._filled_s = now_s
        return max(0.0, (min(count, self._rate.burst) - self._tokens) / self._rate.per_s)

    def take(self, count: int = 1) -> None:
        """Take so many tokens; :meth:`wait_s` said that it may be done."""
        self._tokens -= count
