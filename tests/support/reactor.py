"""Tests that run on the reactor, with their types: pytest-twisted has none."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, cast

import pytest_twisted

__all__ = ["on_reactor"]

P = ParamSpec("P")


def on_reactor(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, Any]:
    """Run an ``async def`` test on the reactor."""
    return cast(Callable[P, Any], pytest_twisted.ensureDeferred(test))
