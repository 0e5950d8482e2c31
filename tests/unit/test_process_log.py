"""What a worker hands over of its log: nothing of what is below the level, which is not even formatted."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest
from twisted.logger import LogLevel

from trishula_router.process_log import Observer, for_worker


class Costly:
    """Counts how often it is put into a sentence."""

    def __init__(self) -> None:
        self.formatted = 0

    def __format__(self, how: str) -> str:
        self.formatted += 1
        return "x"


class Logging(ModuleType):
    """As much of Crossbar's module as is used; what its own observer is given is in ``handed_over``."""

    log_levels = ("none", "critical", "error", "warn", "info", "debug", "trace")

    def __init__(self, level: str) -> None:
        super().__init__("logging")
        self.level = level
        self.handed_over: list[Mapping[str, Any]] = []

    def get_global_log_level(self) -> str:
        return self.level

    def make_JSON_observer(self, out: object) -> Observer:
        return self.handed_over.append


@pytest.mark.parametrize(
    ("level", "event", "passes"),
    [("info", LogLevel.debug, False), ("info", LogLevel.info, True), ("debug", LogLevel.debug, True)],
)
def test_what_is_below_the_level_is_not_formatted(level: str, event: object, passes: bool) -> None:
    logging, costly = Logging(level), Costly()
    for_worker(logging)
    logging.make_JSON_observer(None)({"log_level": event, "log_format": "{it}", "it": costly, "log_time": 0.0})
    assert costly.formatted == len(logging.handed_over) == int(passes)
