"""The write-ahead log moves into the file beside the writer, and never when it may be begun anew."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trishula_router.store.sqlite.checkpoints import Checkpoints, Plan

PAGE = 4096
BOUND_PAGES = 512


# -- when --------------------------------------------------------------------------------------------------------------


def asks(plan: Plan) -> str:
    """What it asks for."""
    words = {"step": plan.is_step_due, "finish": plan.must_finish, "too long": plan.is_too_long}
    return ", ".join(word for word, is_so in words.items() if is_so)


def test_a_step_is_due_when_an_eighth_of_the_bound_has_come() -> None:
    plan = Plan(4096, PAGE)
    assert plan.step_pages == 512
    plan.wrote(rows=5, size_bytes=300)
    assert asks(plan) == ""
    plan.wrote(rows=5, size_bytes=512 * PAGE)
    assert asks(plan) == "step"
    plan.begins()
    assert asks(plan) == ""
    assert plan.log_pages >= 512


@pytest.mark.parametrize(("bound_pages", "step_pages"), [(1, 1), (32, 32), (64, 64), (100, 64), (4096, 512)])
def test_a_step_is_no_smaller_than_is_worth_its_fsyncs_and_no_larger_than_the_bound(
    bound_pages: int, step_pages: int
) -> None:
    assert Plan(bound_pages, PAGE).step_pages == step_pages


def test_the_writer_ends_what_a_step_found_to_be_long_and_only_once() -> None:
    plan = Plan(1000, PAGE)
    plan.ended(999, 999, by_writer=False)
    assert asks(plan) == ""
    plan.ended(1000, 1000, by_writer=False)
    assert asks(plan) == "finish"
    plan.begins()
    # A reader keeps the log from being copied: the next step asks for it again, not each commit.
    plan.ended(1010, 700, by_writer=True)
    assert asks(plan) == ""
    assert plan.log_pages == 1010


def test_a_log_that_no_step_takes_is_too_long_in_the_end() -> None:
    plan = Plan(1000, PAGE)
    for _ in range(7):
        plan.wrote(rows=0, size_bytes=250 * PAGE)
        plan.begins()
    assert asks(plan) == ""
    plan.wrote(rows=0, size_bytes=250 * PAGE)
    assert asks(plan) == "step, too long"
    plan.begins()
    plan.ended(2000, 2000, by_writer=True)
    assert asks(plan) == ""


# -- with SQLite -------------------------------------------------------------------------------------------------------


class Watched:
    """A connection whose checkpoints are counted."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.checkpoints: list[tuple[int, ...]] = []
        self.closed = False

    def execute(self, statement: str) -> Any:
        if "wal_checkpoint" not in statement:
            return self._connection.execute(statement)
        self.checkpoints.append(self._connection.execute(statement).fetchone())
        return self._connection.execute("SELECT ?, ?, ?", self.checkpoints[-1])

    def close(self) -> None:
        self.closed = True
        self._connection.close()


class Log:
    """A store's log: the writer's connection, the thread's, and what moves it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.writes = self._connect()
        self.writes.execute("PRAGMA journal_mode = WAL")
        self.writes.execute("CREATE TABLE body (number INTEGER PRIMARY KEY, text BLOB)")
        self.other = Watched(self._connect())
        self.checkpoints = Checkpoints(self.other, Plan(BOUND_PAGES, PAGE))  # type: ignore[arg-type]
        self.checkpoints.take_over(self.writes)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.file, isolation_level=None, check_same_thread=False)
        # Nobody cuts the power here, and a thousand fsyncs take seconds.
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    def commit(self, pages: int = 0, *, tell: bool = True) -> None:
        body = bytes(pages * PAGE)
        self.writes.execute("BEGIN IMMEDIATE")
        self.writes.execute("INSERT INTO body (text) VALUES (?)", (body,))
        self.writes.execute("COMMIT")
        if tell:
            self.checkpoints.wrote(self.writes, len(body))

    def step(self) -> None:
        """What the thread does."""
        with self.checkpoints._running:
            self.checkpoints._step()

    @property
    def log_pages(self) -> int:
        return Path(f"{self.file}-wal").stat().st_size // (PAGE + 24)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path / "node.sqlite")
    yield made
    if not made.other.closed:
        made.checkpoints.close()
    made.writes.close()


def test_none_starts_while_the_log_may_be_begun_anew(log: Log) -> None:
    log.commit(tell=False)
    # Nobody knows yet what was copied before.
    log.step()
    assert log.other.checkpoints == []
    log.commit(tell=False)
    log.step()
    assert len(log.other.checkpoints) == 1
    # All of it is copied: the next commit begins the log anew, and might do so just now.
    log.step()
    log.step()
    assert len(log.other.checkpoints) == 1
    log.commit(tell=False)
    log.step()
    assert len(log.other.checkpoints) == 2


def test_one_that_left_something_is_followed_by_the_next_one_without_a_commit(log: Log) -> None:
    log.step()
    reader = sqlite3.connect(log.file, isolation_level=None)
    log.commit(tell=False)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM body").fetchone()
    log.commit(tell=False)
    log.step()
    _, log_pages, copied_pages = log.other.checkpoints[-1]
    assert copied_pages < log_pages
    reader.execute("COMMIT")
    log.step()
    _, log_pages, copied_pages = log.other.checkpoints[-1]
    assert copied_pages == log_pages
    reader.close()


def test_after_one_of_the_writers_the_thread_waits_for_a_commit(log: Log) -> None:
    log.step()
    log.commit(tell=False)
    log.step()
    log.commit(tell=False)
    with log.checkpoints.excluded():
        log.writes.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    log.step()
    log.step()
    assert len(log.other.checkpoints) == 1
    log.commit(tell=False)
    log.step()
    assert len(log.other.checkpoints) == 2


def test_no_other_one_runs_beside_the_writers_own(log: Log) -> None:
    with log.checkpoints.excluded():
        for _ in range(3):
            log.commit(100)
        time.sleep(0.05)
        assert log.other.checkpoints == []


def test_the_thread_copies_and_the_log_keeps_to_its_bound(log: Log) -> None:
    most = 0
    for _ in range(100):
        log.commit(64)
        most = max(most, log.log_pages)
    deadline_s = time.monotonic() + 10.0
    while len(log.other.checkpoints) <= 3:
        assert time.monotonic() < deadline_s
        log.commit(1)
    # What is written while a step runs comes on top.
    assert most <= 3 * BOUND_PAGES
    assert log.file.stat().st_size > 50 * 64 * PAGE
    assert log.writes.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_where_no_step_runs_the_writer_copies_and_the_log_begins_anew(log: Log, monkeypatch: Any) -> None:
    monkeypatch.setattr(log.checkpoints, "_start_thread", lambda: None)
    for _ in range(100):
        log.commit(64)
    assert log.log_pages <= 2 * BOUND_PAGES + 80
    assert log.other.checkpoints == []


def test_what_was_committed_beside_the_steps_is_there_afterwards(log: Log) -> None:
    count = 0
    while count < 400 or not log.other.checkpoints:
        log.commit(count % 7)
        count += 1
    log.checkpoints.close()
    log.writes.close()
    again = sqlite3.connect(log.file)
    assert again.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    sizes = [size for (size,) in again.execute("SELECT length(text) FROM body ORDER BY number")]
    assert sizes == [number % 7 * PAGE for number in range(count)]
    again.close()


def test_a_failure_of_a_step_harms_nobody(log: Log) -> None:
    calls = 0

    def fail(statement: str) -> Any:
        nonlocal calls
        calls += 1
        raise sqlite3.OperationalError("disk I/O error")

    log.other.execute = fail  # type: ignore[method-assign]
    for _ in range(60):
        log.commit(64)
    # The writer has moved it.
    assert log.log_pages <= 2 * BOUND_PAGES + 80
    # A step fails once for each commit that asks for one, and not without end.
    time.sleep(0.02)
    assert 1 <= calls <= 60


def test_its_thread_ends_with_it(log: Log) -> None:
    def names() -> list[str]:
        return [thread.name for thread in threading.enumerate()]

    before = names().count("store-checkpoints")
    log.commit(100)
    assert names().count("store-checkpoints") == before + 1
    log.checkpoints.close()
    assert log.other.closed
    assert names().count("store-checkpoints") == before
