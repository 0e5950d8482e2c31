"""Floods in the log."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger, LogPublisher, formatEvent

from trishula_router.upstream import log_floods
from trishula_router.upstream.log_floods import Floods, guard_log

KIND = ("warn", "a.module", "somebody sent {what}", "")
FIRST = log_floods._FIRST


def test_the_first_lines_of_each_kind_come_each_minute() -> None:
    floods = Floods()
    assert sum(floods.passes(KIND, 0.0) for _ in range(5000)) == FIRST
    other = (*KIND[:2], "another line", "")
    assert floods.passes(other, 59.0)
    assert floods.over(59.0) == []
    assert floods.over(60.0) == [(KIND, 5000 - FIRST)]
    assert sum(floods.passes(KIND, 60.0) for _ in range(5000)) == FIRST


def test_what_comes_now_and_then_always_comes() -> None:
    floods = Floods()
    for minute in range(100):
        assert floods.passes(KIND, minute * 60.0)
        assert all(more <= 0 for _, more in floods.over(minute * 60.0 + 59.9))
        floods.over((minute + 1) * 60.0)


def test_formats_with_data_in_them_fill_neither_the_log_nor_the_memory() -> None:
    floods = Floods()
    passed = sum(floods.passes(("warn", "m", f"client {number} failed", ""), 0.0) for number in range(100_000))
    assert passed == log_floods._KINDS + FIRST
    assert len(floods._counts) == log_floods._KINDS + 1
    # Those of another level don't suffer for it.
    assert floods.passes(("critical", "m", "something new", ""), 0.0)


def logging() -> tuple[Logger, Clock, list[str]]:
    written: list[str] = []
    publisher: Any = LogPublisher()
    clock = Clock()
    publisher.addObserver(lambda event: written.append(f"{event['log_level'].name}: {formatEvent(event)}"))
    guarded: Any = clock
    assert guard_log(publisher, guarded, lambda: 0.0)
    return Logger("a.module", observer=publisher), clock, written


def test_a_line_tells_how_many_more_there_were() -> None:
    log, clock, written = logging()
    for number in range(4312 + FIRST):
        log.warn("a frame of {who} is bad", who=f"client {number}")
    log.error("the disk is on fire")
    assert len(written) == FIRST + 1
    clock.pump([1.0] * 61)
    assert written[FIRST:] == [
        "error: the disk is on fire",
        "warn: … and 4,312 more in the last 60 s of: a frame of {who} is bad",
    ]


def test_failures_of_different_classes_are_different_kinds() -> None:
    log, clock, written = logging()
    for error in (ValueError, KeyError):
        for _ in range(100):
            try:
                raise error("x")
            except Exception:
                log.failure("it failed")
    assert len(written) == 2 * FIRST
    clock.pump([1.0] * 61)
    assert written[2 * FIRST :] == [
        f"critical: … and 80 more in the last 60 s of: it failed {name}" for name in ("ValueError", "KeyError")
    ]


def test_a_publisher_that_is_built_otherwise_is_left_alone() -> None:
    clock: Any = Clock()
    assert not guard_log(SimpleNamespace(), clock, lambda: 0.0)
    assert not clock.getDelayedCalls()
