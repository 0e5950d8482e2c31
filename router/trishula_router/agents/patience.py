"""Whether somebody still waits for the answer of a call: a long poll that went on for nobody would take messages."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Patience"]


class Patience:
    """That of the caller, for one call.

    Attributes:
        is_over: whether the call was cancelled, so that its answer reaches nobody.
    """

    __slots__ = ("_when_over", "is_over")

    def __init__(self) -> None:
        self.is_over = False
        self._when_over: Callable[[], object] | None = None

    def when_over(self, call: Callable[[], object]) -> None:
        """Call this when the call is cancelled, at once if it is already; one for each call of a procedure."""
        self._when_over = call
        if self.is_over:
            call()

    def end(self) -> None:
        """The call is cancelled."""
        self.is_over = True
        if self._when_over is not None:
            self._when_over()
