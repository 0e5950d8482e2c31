"""Work on a folder, which blocks: done in a thread, one piece after the other.

A folder is not safe for two threads, and a disk that hangs must not hold up the loop: so what is to be done waits here
until the piece before it is through.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar

from trishula.runtime.pending import Pending

__all__ = ["Errands"]

T = TypeVar("T")


class Errands:
    """See the module's docstring; all methods belong to the loop's thread.

    Args:
        in_thread: does work that blocks, in a thread.
    """

    def __init__(self, in_thread: Callable[[Callable[[], None]], Pending[None]]) -> None:
        self._in_thread = in_thread
        self._waiting: deque[Callable[[], Pending[None]]] = deque()
        self._runs = False
        self._idle: list[Pending[None]] = []

    def do(self, work: Callable[[], T], then: Callable[[Pending[T]], object]) -> None:
        """Do ``work`` when its turn comes, in the thread; then hear in the loop what came of it.

        Args:
            work: what blocks; what it raises is the error of the outcome.
            then: is given the outcome.
        """
        outcome: Pending[T] = Pending()
        outcome.when_done(then)

        def begin() -> Pending[None]:
            results: list[T] = []
            done = self._in_thread(lambda: results.append(work()))
            done.when_done(lambda pending: _conclude(outcome, pending.error, results))
            return done

        self._waiting.append(begin)
        self._go_on()

    def _go_on(self) -> None:
        if self._runs:
            return
        if not self._waiting:
            idle, self._idle = self._idle, []
            for one in idle:
                one.resolve(None)
            return
        self._runs = True
        self._waiting.popleft()().when_done(self._through)

    def _through(self, _: Pending[None]) -> None:
        self._runs = False
        self._go_on()

    def idle(self) -> Pending[None]:
        """The end of all that is to be done by now."""
        idle: Pending[None] = Pending()
        self._idle.append(idle)
        self._go_on()
        return idle


def _conclude(outcome: Pending[T], error: BaseException | None, results: list[T]) -> None:
    if error is not None:
        outcome.reject(error)
    else:
        outcome.resolve(results[0])
