"""Things that are known for a while, so that they need not be found out anew for each piece of a file."""

from __future__ import annotations

from typing import Generic, TypeVar

from trishula_router.clocks.clock import Clock

__all__ = ["Known"]

_K = TypeVar("_K")

_MOST = 1000


class Known(Generic[_K]):
    """See the module's docstring.

    Args:
        for_s: for how long.
        clock: spans.
    """

    def __init__(self, for_s: float, clock: Clock) -> None:
        self._for_s = for_s
        self._clock = clock
        self._until_s: dict[_K, float] = {}

    def has(self, key: _K) -> bool:
        """Whether it is known still."""
        return self._until_s.get(key, 0.0) > self._clock.seconds()

    def add(self, key: _K) -> None:
        """It is, from now on."""
        if len(self._until_s) >= _MOST:
            self._until_s.clear()
        self._until_s[key] = self._clock.seconds() + self._for_s

    def drop(self, key: _K) -> None:
        """It isn't."""
        self._until_s.pop(key, None)
