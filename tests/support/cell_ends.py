"""Several cells on one road in memory and on one clock, where what blocks takes a fiftieth of a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

__all__ = ["Ends"]

_R = TypeVar("_R")
_T = TypeVar("_T")


class Ends(Generic[_R]):
    """See the module's docstring.

    Args:
        road: makes the road, of a clock in seconds.

    Attributes:
        rounds: what each cell does a few times a second.
    """

    def __init__(self, road: Callable[[Callable[[], float]], _R]) -> None:
        self.clock = Clock()
        self.roads = road(self.clock.seconds)
        self.rounds: list[Callable[[], object]] = []

    def later(self, work: Callable[[], _T]) -> Deferred[_T]:
        """Have something done that blocks."""
        done: Deferred[_T] = Deferred()
        timers: Any = self.clock
        timers.callLater(0.02, lambda: maybeDeferred(work).chainDeferred(done))
        return done

    def advance(self, seconds: float) -> None:
        """Let time pass, with its rounds."""
        for _ in range(round(seconds / 0.1)):
            for one in self.rounds:
                one()
            self.clock.advance(0.1)
