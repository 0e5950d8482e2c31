"""A line: the calls of one session that must keep their order, one at a time. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred

__all__ = ["Line"]


class Line:
    """Whoever enters waits until all that came before have left."""

    def __init__(self) -> None:
        self._waiting: deque[Deferred[None]] = deque()
        self._is_taken = False
        self._is_moving = False

    @property
    def is_idle(self) -> bool:
        """Whether nobody is in it."""
        return not (self._is_taken or self._waiting)

    async def enter(self) -> Callable[[], None]:
        """Come first; returns how to leave, which may be said twice."""
        if not self.is_idle:
            turn: Deferred[None] = Deferred()
            self._waiting.append(turn)
            await turn
        self._is_taken = True
        has_left = False

        def leave() -> None:
            nonlocal has_left
            if not has_left:
                has_left, self._is_taken = True, False
                self._move()

        return leave

    def _move(self) -> None:
        if self._is_moving:
            return
        # In a loop: who is let in may leave at once, and a thousand may wait.
        self._is_moving = True
        try:
            while self._waiting and not self._is_taken:
                self._waiting.popleft().callback(None)
        finally:
            self._is_moving = False
