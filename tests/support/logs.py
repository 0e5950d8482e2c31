"""What the node's own modules log during a test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

__all__ = ["Logged", "logged"]


class Logged:
    """The events of a test, by level."""

    def __init__(self) -> None:
        self._events: list[tuple[str, str]] = []

    def observe(self, event: LogEvent) -> None:
        self._events.append((event["log_level"].name, formatEvent(event)))

    def sentences(self, level: str) -> list[str]:
        """What was logged at a level (``warn``, ``critical``, …), in order."""
        return [sentence for found, sentence in self._events if found == level]


@pytest.fixture
def logged() -> Iterator[Logged]:
    found = Logged()
    publisher: Any = globalLogPublisher  # mypy can't read the interfaces of zope
    publisher.addObserver(found.observe)
    yield found
    publisher.removeObserver(found.observe)
