"""Records since an instant: found without reading those before, by clocks that go on, dawdle and are set."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trishula_router.store.origins import position_in
from trishula_router.store.sqlite.migrate import migrate
from trishula_router.store.sqlite.read_journal import LATE_MS, records


def a_journal(instants: Sequence[int], number: int = 0, first: int = 1) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, Path("node.sqlite"))
    connection.executemany(
        "INSERT INTO journal (position, at, kind, facts, digest) VALUES (?, ?, 'left', CAST('{}' AS BLOB), x'00')",
        [(position_in(number, first + index), at) for index, at in enumerate(instants)],
    )
    return connection


def since(connection: sqlite3.Connection, instant: int, *, number: int = 0, after: int = 0) -> list[int]:
    found = records(connection, after=after, limit=10**6, kind=None, since=instant, until=None, origin=number)
    return [record.position - position_in(number, 0) for record in found]


_STEPS = st.lists(st.integers(0, 3 * LATE_MS), max_size=60)


@given(_STEPS, st.lists(st.integers(0, LATE_MS // 2), min_size=60, max_size=60), st.integers(0, 40 * LATE_MS))
def test_a_clock_that_goes_on(steps: list[int], late: list[int], instant: int) -> None:
    # Whoever writes a record takes the time first, and is a bit late then.
    begun = [1_000_000 + sum(steps[: index + 1]) for index in range(len(steps))]
    instants = [at - behind for at, behind in zip(begun, late, strict=False)]
    asked = 1_000_000 + instant
    wanted = [index + 1 for index, at in enumerate(instants) if at >= asked]
    assert since(a_journal(instants), asked) == wanted
    assert since(a_journal(instants, 3), asked, number=3) == wanted


@given(st.lists(st.integers(0, 100 * LATE_MS), max_size=60), st.integers(0, 100 * LATE_MS))
def test_a_clock_that_is_set_at_will(instants: list[int], asked: int) -> None:
    found = since(a_journal(instants), asked)
    fit = [index + 1 for index, at in enumerate(instants) if at >= asked]
    # What is left out was written before something that tells an earlier instant.
    before = [index + 1 for index, at in enumerate(instants) if at < asked - LATE_MS]
    assert found == [position for position in fit if position in found]
    assert [position for position in fit if position > max(before, default=0)] == [
        position for position in found if position > max(before, default=0)
    ]


def test_a_journal_whose_first_records_are_gone_and_one_with_a_gap() -> None:
    connection = a_journal([index * LATE_MS for index in range(100)], first=51)
    connection.execute("DELETE FROM journal WHERE position BETWEEN 70 AND 120")
    assert since(connection, 0)[0] == 51
    assert since(connection, 15 * LATE_MS) == [66, 67, 68, 69, *range(121, 151)]
    assert since(connection, 60 * LATE_MS) == list(range(121, 151))
    assert since(connection, 15 * LATE_MS, after=125) == list(range(126, 151))
    assert since(connection, 10**9) == []
    assert since(connection, 0, number=5) == []


@pytest.fixture(scope="module")
def long() -> Iterator[sqlite3.Connection]:
    connection = a_journal([index * 100 for index in range(100_000)])
    yield connection
    connection.close()


@pytest.mark.parametrize("kind", [None, "refused"])
def test_what_is_before_is_not_read(long: sqlite3.Connection, kind: str | None) -> None:
    worked = 0

    def work() -> int:
        nonlocal worked
        worked += 1
        return 0

    long.set_progress_handler(work, 100)
    try:
        found = records(long, after=0, limit=2000, kind=kind, since=9_990_000, until=None, origin=0)
    finally:
        long.set_progress_handler(None, 0)
    assert len(found) == (100 if kind is None else 0)
    # Hundreds of steps of SQLite's machine; all records would take more than a million.
    assert worked * 100 < 20_000
