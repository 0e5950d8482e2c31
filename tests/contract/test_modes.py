"""The newest word on the bus's mode of each journal that a store holds: on each store, full, large, and upgraded."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import msgspec
import pytest

from tests.support.subjects import FAR, InSqlite, Peer, Subject, append, copy, draft, fill
from trishula.errors import StorageFull
from trishula_router.store.journal import Kind
from trishula_router.store.sqlite.connection import FILE_NAME
from trishula_router.store.sqlite.read_journal import modes


def say(subject: Subject, reason: str, at: int = 100) -> None:
    facts = {"mode": "fallback", "sends": False, "reason": reason, "by": "ops", "since": at}
    subject.do(lambda store: store.note(Kind.MODE, facts, at))


def words(subject: Subject) -> list[tuple[int, str]]:
    """(position, reason) of each."""
    found = subject.do(lambda store: store.modes())
    assert {record.kind for record in found} <= {"mode"}
    return [(record.position, msgspec.json.decode(record.facts)["reason"]) for record in found]


def test_the_newest_of_each_journal(here: Subject, agni: Peer, rush: Peer) -> None:
    assert words(here) == []
    append(here, draft("m1"))
    say(here, "first")
    append(here, draft("m2"))
    say(here, "second")
    append(here, draft("m3"))
    say(agni, "of a peer")
    append(rush, draft("m4"))
    for peer in (agni, rush):
        copy(here, peer)
    assert words(here) == [(4, "second"), (FAR + 1, "of a peer")]
    say(agni, "of a peer, later")
    copy(here, agni)
    assert words(here) == [(4, "second"), (FAR + 2, "of a peer, later")]


def test_it_is_found_without_reading_the_journal(sqlite: InSqlite) -> None:
    for index in range(50):
        append(sqlite, *(draft(f"m{index}-{other}") for other in range(100)))
    say(sqlite, "why")
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    with contextlib.closing(sqlite3.connect(sqlite.directory / FILE_NAME)) as connection:
        connection.set_progress_handler(count, 1)
        (record,) = modes(connection)
    assert record.position == 5001
    # Of SQLite's machine: one record of 5,001 costs more than ten of them.
    assert steps < 500


def test_it_can_be_said_while_the_store_is_full(tmp_path: Path) -> None:
    subject = InSqlite(tmp_path, limit_bytes=2_000_000)
    fill(subject)
    with pytest.raises(StorageFull):
        for _ in range(1000):
            subject.do(lambda store: store.note(Kind.JOINED, {"agent": "dc", "reason": "x" * 20_000}, 100))
    say(subject, "the disk is full")
    assert [reason for _, reason in words(subject)] == ["the disk is full"]
    subject.close()


def test_what_a_store_held_before_its_upgrade_counts(tmp_path: Path, agni: Peer) -> None:
    # A node of the release before copies such records of its peers, and knows nothing of them.
    subject = InSqlite(tmp_path, node="here")
    say(agni, "before the upgrade")
    copy(subject, agni)
    subject.close()
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.executescript(
            "DROP TABLE base; DROP TABLE held; ALTER TABLE message DROP COLUMN surfaced_at; DROP INDEX mode_record;"
            " DROP INDEX alias_message;"
            " PRAGMA user_version = 5;"
        )
    again = InSqlite(tmp_path, node="here")
    assert words(again) == [(FAR + 1, "before the upgrade")]
    again.close()
