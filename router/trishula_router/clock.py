"""The clock that the rules are given: the part of Twisted's reactor that tells time and sets timers.

Twisted's own ``IReactorTime`` is a zope interface, which mypy can't follow; ``reactor`` and
``twisted.internet.task.Clock`` both fit this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Clock", "Timer"]


class Timer(Protocol):
    """A call to come."""

    def active(self) -> bool: ...

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Tells seconds from some fixed instant, and calls later."""

    def seconds(self) -> float: ...

    def callLater(self, delay: float, call: Callable[..., Any], *args: Any) -> Timer: ...
