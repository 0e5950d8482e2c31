"""Every promise of the store's interface, on each store: in memory, in SQLite, and in SQLite opened anew at each step.

Then what only a file can do: be missing, read-only, full, damaged, older or newer than the program.
"""

from __future__ import annotations

import hashlib
import inspect
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from twisted.internet.defer import Deferred

from tests.support.disks import mounted
from tests.support.stores import ReactorQueue, open_sqlite, result_of
from tests.support.subjects import (
    Gate,
    InSqlite,
    Subject,
    append,
    draft,
    fill,
    flipped,
    is_sound,
    kinds,
    one,
    open_ids,
    state_of,
)
from trishula.errors import StorageFailed, StorageFull
from trishula_router.store.interface import Store, StoreError
from trishula_router.store.journal import Kind, Record
from trishula_router.store.memory import MemoryStore
from trishula_router.store.messages import Accepted, Draft, MailboxSize, OpenSize, Return, State
from trishula_router.store.sqlite.connection import FILE_NAME
from trishula_router.store.sqlite.migrate import SCHEMA_DIRECTORY, migrate, newest_version
from trishula_router.store.sqlite.store import SqliteStore

T = TypeVar("T")


# -- the interface -----------------------------------------------------------------------------------------------------

#: What the protocol has, with what it takes over of others.
OWN = {name: value for base in Store.__mro__ for name, value in vars(base).items() if not name.startswith("_")}
VERBS = sorted(name for name, value in OWN.items() if inspect.isfunction(value))


@pytest.mark.parametrize("implementation", [MemoryStore, SqliteStore])
@pytest.mark.parametrize("verb", VERBS)
def test_signatures_are_the_protocols(implementation: type, verb: str) -> None:
    assert inspect.signature(getattr(implementation, verb)) == inspect.signature(getattr(Store, verb))


@pytest.mark.parametrize("implementation", [MemoryStore, SqliteStore])
def test_nothing_but_the_protocol_is_public(implementation: type) -> None:
    properties = {name for name, value in OWN.items() if isinstance(value, property)}
    public = {name for name in dir(implementation) if not name.startswith("_")}
    assert public == {*VERBS, *properties}


def test_there_are_verbs() -> None:
    assert {"append", "settle", "verify", "close"} <= set(VERBS)


# -- append ------------------------------------------------------------------------------------------------------------


def test_what_was_appended_is_there(subject: Subject) -> None:
    first, second = append(subject, draft("m1", body=b'{"a":1}'), draft("m2", priority=1), at=123)
    assert (first, second) == (Accepted((1,), False, 1), Accepted((2,), False, 2))
    stored = subject.do(lambda store: store.at_positions([1, 2, 99]))
    assert set(stored) == {1, 2}
    it = stored[1]
    assert (it.position, it.sender, it.id, it.recipient, it.type, it.priority) == (1, "dc", "m1", "agni", "STATUS", 3)
    assert (it.accepted_at, it.expires_at, it.size_bytes) == (123, 10_000, 7)
    assert (it.attempts, it.failures, it.due_at, it.state) == (0, 0, 0, State.OPEN)
    assert (it.delivered_at, it.settled_at, it.state_word) == (None, None, "accepted")
    assert subject.do(lambda store: store.bodies([1, 2, 99])) == {1: b'{"a":1}', 2: b"{}"}


def test_append_is_idempotent_by_sender_and_id(subject: Subject) -> None:
    (first,) = append(subject, draft("m1", body=b"1"))
    again, other, twice = append(
        subject, draft("m1", body=b"2"), draft("m1", sender="agni/s1", body=b"3"), draft("m1", sender="agni/s1")
    )
    assert again == Accepted(first.positions, True)
    assert not other.duplicate
    assert twice == Accepted(other.positions, True)
    assert subject.do(lambda store: store.bodies([*first.positions, *other.positions])) == {
        first.positions[0]: b"1",
        other.positions[0]: b"3",
    }


def test_a_repeat_of_what_is_settled_is_a_repeat(subject: Subject) -> None:
    position = one(subject)
    subject.do(lambda store: store.settle([position], State.DONE, None, 200))
    assert append(subject, draft("m1")) == [Accepted((position,), True)]
    assert subject.do(lambda store: store.open_mailboxes()) == {}


def test_a_broadcast_has_a_message_for_each_recipient(subject: Subject) -> None:
    append(subject, draft("before"))
    (accepted,) = append(subject, draft("b1", "agni", "rushabdev", "x/y", body=b"[1]"))
    assert accepted == Accepted((2, 3, 4), False, 2)
    stored = subject.do(lambda store: store.at_positions([2, 3, 4]))
    assert [stored[position].recipient for position in (2, 3, 4)] == ["agni", "rushabdev", "x/y"]
    assert subject.do(lambda store: store.bodies([2, 3, 4])) == {2: b"[1]", 3: b"[1]", 4: b"[1]"}
    assert append(subject, draft("b1", "agni", "somebody_new")) == [Accepted((2, 3, 4), True)]
    subject.do(lambda store: store.settle([3], State.DONE, None, 200))
    assert [state_of(subject, position) for position in (2, 3, 4)] == [State.OPEN, State.DONE, State.OPEN]


def test_nothing_is_stored_of_a_message_to_nobody(subject: Subject) -> None:
    to_nobody = Draft("dc", "b1", (), "STATUS", 3, 10_000, b"{}")
    assert append(subject, to_nobody, to_nobody) == [Accepted((), False), Accepted((), False)]
    assert append(subject, to_nobody) == [Accepted((), False)]
    assert kinds(subject) == []


def test_many_at_once(subject: Subject) -> None:
    accepted = append(subject, *(draft(f"m{index}", body=str(index).encode()) for index in range(1000)))
    assert [one.positions for one in accepted] == [(position,) for position in range(1, 1001)]
    assert subject.do(lambda store: store.bodies([1, 500, 1000])) == {1: b"0", 500: b"499", 1000: b"999"}
    assert is_sound(subject)


def test_names_and_ids_are_data(subject: Subject) -> None:
    nasty = "it's;--\"%_\\'"
    append(subject, Draft("dc", nasty, ("agni",), "STATUS", 3, 1, '{"ü":"\U0001f600"}'.encode()))
    (stored,) = subject.do(lambda store: store.with_ids([nasty, "other"]))
    assert stored.id == nasty
    assert subject.do(lambda store: store.bodies([1])) == {1: '{"ü":"\U0001f600"}'.encode()}


# -- deliver, give back, settle ----------------------------------------------------------------------------------------


def test_a_delivery_is_noted(subject: Subject) -> None:
    first, second = one(subject, "m1"), one(subject, "m2")
    subject.do(lambda store: store.deliver([(first, 1), (second, 3)], "agni", 7, 200))
    stored = subject.do(lambda store: store.at_positions([first, second]))
    assert [(it.attempts, it.delivered_at, it.state_word) for it in stored.values()] == [
        (1, 200, "delivered"),
        (3, 200, "delivered"),
    ]
    (record,) = subject.do(lambda store: store.records(after=0, limit=10, kind="delivered"))
    assert msgspec.json.decode(record.facts) == {"messages": [[first, 1], [second, 3]], "to": "agni", "session": 7}


def test_a_return_is_noted(subject: Subject) -> None:
    position = one(subject)
    subject.do(lambda store: store.give_back([Return(position, 2, 5000)], "it failed", 300))
    it = subject.do(lambda store: store.at_positions([position]))[position]
    assert (it.failures, it.due_at, it.state) == (2, 5000, State.OPEN)
    (record,) = subject.do(lambda store: store.records(after=0, limit=10, kind="returned"))
    assert msgspec.json.decode(record.facts) == {"messages": [[position, 2, 5000]], "reason": "it failed"}


FINAL = [State.DONE, State.DEAD, State.EXPIRED, State.CANCELLED]


@pytest.mark.parametrize("then", FINAL)
@pytest.mark.parametrize("first", FINAL)
def test_done_overrides_and_nothing_else_does(subject: Subject, first: State, then: State) -> None:
    position = one(subject)
    subject.do(lambda store: store.settle([position], first, "why", 200))
    subject.do(lambda store: store.settle([position], then, None, 300))
    it = subject.do(lambda store: store.at_positions([position]))[position]
    changed = then is State.DONE and first is not State.DONE
    assert (it.state, it.settled_at) == ((then, 300) if changed else (first, 200))
    assert it.state_word == it.state.name.lower()


def test_settled_messages_are_open_no_more(subject: Subject) -> None:
    positions = [one(subject, f"m{index}") for index in range(4)]
    subject.do(lambda store: store.settle(positions[1:3], State.DEAD, "why", 200))
    head = subject.do(lambda store: store.head("agni", (0, 0), 10))
    assert [it.position for it in head] == [positions[0], positions[3]]
    assert subject.do(lambda store: store.open_mailboxes()) == {"agni": MailboxSize({"dc": OpenSize(2, 4)})}


def test_each_change_has_its_record(subject: Subject) -> None:
    position = one(subject, at=1)
    subject.do(lambda store: store.deliver([(position, 1)], None, None, 2))
    subject.do(lambda store: store.give_back([Return(position, 1, 9)], "r", 3))
    subject.do(lambda store: store.deliver([(position, 2)], None, None, 4))
    subject.do(lambda store: store.settle([position], State.DEAD, "r", 5))
    subject.do(lambda store: store.settle([position], State.DONE, None, 6))
    subject.do(lambda store: store.note(Kind.LEFT, {"agent": "agni"}, 7))
    expected = ["accepted", "delivered", "returned", "delivered", "dead", "done", "left"]
    assert kinds(subject) == expected
    (life,) = subject.do(lambda store: store.history("m1"))
    assert [(record.kind, record.at) for record in life.records] == list(zip(expected[:-1], range(1, 7), strict=True))
    assert life.message.position == position
    assert is_sound(subject)


# -- what the rules decide by ------------------------------------------------------------------------------------------


def test_head_is_in_order_of_delivery(subject: Subject) -> None:
    append(subject, draft("a", priority=3), draft("b", priority=5), draft("c", priority=1), draft("d", priority=3))
    append(subject, draft("other", "rushabdev", priority=1), draft("e", priority=1), draft("inst", "agni/x"))

    def head(after: tuple[int, int], limit: int) -> list[str]:
        return [it.id for it in subject.do(lambda store: store.head("agni", after, limit))]

    assert head((0, 0), 10) == ["c", "e", "a", "d", "b"]
    assert head((0, 0), 2) == ["c", "e"]
    assert head((1, 3), 10) == ["e", "a", "d", "b"]
    assert head((1, 6), 10) == ["a", "d", "b"]
    assert head((3, 1), 10) == ["d", "b"]
    assert head((5, 2), 10) == []


def test_the_rules_see_every_verb_before_theirs(subject: Subject) -> None:
    # Not waited for in between: what was called before counts, durable or not.
    store = subject.store
    appended = store.append([draft("m1"), draft("m2")], 1)
    settled = store.settle([1], State.DONE, None, 2)
    delivered = store.deliver([(2, 4)], None, None, 3)
    head = store.head("agni", (0, 0), 10)
    found = store.at_positions([1, 2])
    late = store.append([draft("m3")], 4)
    wait: Callable[[Deferred[Any]], Any] = subject.calls.wait if isinstance(subject, InSqlite) else result_of
    assert [it.id for it in wait(head)] == ["m2"]
    assert {position: it.state for position, it in wait(found).items()} == {1: State.DONE, 2: State.OPEN}
    for pending in (appended, settled, delivered, late):
        wait(pending)


# -- questions ---------------------------------------------------------------------------------------------------------


def test_open_mailboxes_counts_messages_and_bytes(subject: Subject) -> None:
    append(subject, draft("a", body=b"123"), draft("b", body=b"12345"), draft("c", "x/1", "rushabdev", body=b"1"))
    assert subject.do(lambda store: store.open_mailboxes()) == {
        "agni": MailboxSize({"dc": OpenSize(2, 8)}),
        "x/1": MailboxSize({"dc": OpenSize(1, 1)}),
        "rushabdev": MailboxSize({"dc": OpenSize(1, 1)}),
    }


def test_open_mailboxes_tell_whose_their_messages_are(subject: Subject) -> None:
    """By agent, whichever of its instances sent; and what of it is urgent."""
    append(
        subject,
        draft("a", body=b"12"),
        draft("b", body=b"123", sender="dc/x", priority=1),
        draft("c", body=b"1", sender="rushabdev", priority=2),
        draft("d", body=b"1", sender="rushabdev", priority=1),
        draft("e", "agni/1", sender="dc/y", body=b"1234"),
    )
    assert subject.do(lambda store: store.open_mailboxes()) == {
        "agni": MailboxSize({"dc": OpenSize(2, 5, 1, 3), "rushabdev": OpenSize(2, 2, 1, 1)}),
        "agni/1": MailboxSize({"dc": OpenSize(1, 4)}),
    }
    (size,) = [size for address, size in subject.do(lambda store: store.open_mailboxes()).items() if address == "agni"]
    assert (size.messages, size.size_bytes) == (4, 7)


def test_oldest_is_the_first_of_all_priorities_that_is_open(subject: Subject) -> None:
    (accepted,) = append(subject, draft("m1", priority=4), at=100)
    append(subject, draft("m2", priority=1), at=200)
    one(subject, "m3", "dc", at=300)
    append(subject, draft("m4", "capability:deploy"), at=400)
    mailboxes = ["agni", "dc", "capability:deploy", "rushabdev"]
    told = {"agni": 100, "dc": 300, "capability:deploy": 400}
    assert subject.do(lambda store: store.oldest(mailboxes)) == told
    subject.do(lambda store: store.settle(accepted.positions, State.DONE, None, 500))
    assert subject.do(lambda store: store.oldest(mailboxes)) == {**told, "agni": 200}
    assert subject.do(lambda store: store.oldest(["dc"])) == {"dc": 300}
    assert subject.do(lambda store: store.oldest([])) == {}


def test_expired_finds_what_is_over(subject: Subject) -> None:
    for index, expires_at in enumerate((500, 501, 400, 500)):
        append(subject, Draft("dc", f"m{index}", ("agni",), "STATUS", 3, expires_at, b"{}"))
    subject.do(lambda store: store.settle([3], State.DONE, None, 1))
    found = subject.do(lambda store: store.expired(500, 10))
    assert sorted(found) == [1, 4]
    assert len(subject.do(lambda store: store.expired(9999, 2))) == 2
    assert subject.do(lambda store: store.expired(499, 10)) == []


def test_with_ids_finds_all_senders_and_recipients(subject: Subject) -> None:
    append(subject, draft("a"), draft("a", sender="rushabdev"), draft("b", "x", "y"), draft("c"))
    found = subject.do(lambda store: store.with_ids(["b", "a", "nothing"]))
    assert [(it.sender, it.id, it.recipient) for it in found] == [
        ("dc", "a", "agni"),
        ("rushabdev", "a", "agni"),
        ("dc", "b", "x"),
        ("dc", "b", "y"),
    ]
    assert subject.do(lambda store: store.history("nothing")) == []


def test_records_by_position_kind_and_time(subject: Subject) -> None:
    for at in (10, 20, 30, 40):
        one(subject, f"m{at}", at=at)
    subject.do(lambda store: store.note(Kind.LEFT, {"agent": "x"}, 50))

    def positions(**options: Any) -> list[int]:
        query = {"after": 0, "limit": 100, **options}
        return [record.position for record in subject.do(lambda store: store.records(**query))]

    assert positions() == [1, 2, 3, 4, 5]
    assert positions(after=2) == [3, 4, 5]
    assert positions(limit=2) == [1, 2]
    assert positions(kind="left") == [5]
    assert positions(since=20, until=40) == [2, 3]
    assert positions(after=5) == positions(kind="nothing") == []


def test_a_proof_is_read_back_and_leaves_nothing_but_itself(subject: Subject) -> None:
    append(subject, draft("m1"))
    before = subject.do(lambda store: store.records(after=0, limit=10))
    assert subject.do(lambda store: store.prove("one")) == "one"
    assert subject.do(lambda store: store.prove("two")) == "two"
    assert subject.do(lambda store: store.records(after=0, limit=10)) == before
    assert subject.do(lambda store: store.remembered("proof")) == {"proof": "two"}
    assert subject.do(lambda store: store.verify()).damages == ()


def test_the_journal_is_the_same_in_every_store(subject: Subject) -> None:
    append(subject, draft("m1", body=b'{"x":1}'), draft("b", "agni", "rushabdev"), at=5)
    subject.do(lambda store: store.deliver([(1, 1)], "agni", 1, 6))
    subject.do(lambda store: store.give_back([Return(1, 1, 50)], "ü", 7))
    subject.do(lambda store: store.settle([2], State.CANCELLED, "why", 8))
    subject.do(lambda store: store.settle([1, 3], State.DONE, None, 9))
    subject.do(lambda store: store.note(Kind.NODE_STARTED, {"node": "single"}, 10))
    records = subject.do(lambda store: store.records(after=0, limit=100))
    # One digest stands for all of them; it changes only with the format, which peers and backups rely on.
    assert records[-1].digest.hex() == JOURNAL_DIGEST
    assert subject.store.high_water == 8


JOURNAL_DIGEST = "875ade0e4933b6d2e93d839dd9040c970f35114d4c50947fefde638fa4319970"


def test_a_sound_store_verifies(subject: Subject) -> None:
    append(subject, draft("m1"), draft("b", "x", "y"))
    subject.do(lambda store: store.settle([1], State.DONE, None, 9))
    verdict = subject.do(lambda store: store.verify())
    assert (verdict.records, verdict.damages) == (4, ())
    assert verdict.bodies >= 2


def test_the_high_water_is_not_ahead_of_the_answers(sqlite: InSqlite) -> None:
    # Else a mailbox that has not been told of the message yet would be called empty up to a position behind it.
    answer = sqlite.store.append([draft("m1")], 100)
    while sqlite.calls._calls.empty():
        time.sleep(0.001)
    assert not answer.called
    assert sqlite.store.high_water == 0
    (accepted,) = sqlite.calls.wait(answer)
    assert sqlite.store.high_water == accepted.positions[0]


def test_epoch_and_high_water(subject: Subject) -> None:
    assert (subject.store.epoch, subject.store.high_water) == ("epoch-1", 0)
    one(subject)
    assert (subject.store.epoch, subject.store.high_water) == ("epoch-1", 1)
    subject.do(lambda store: store.note(Kind.LEFT, {}, 1))
    assert subject.store.high_water == 2
    assert subject.store.condition().size_bytes > 0


# -- SQLite: groups, rollback, closing ---------------------------------------------------------------------------------


def test_a_failing_job_in_a_group_harms_no_other(sqlite: InSqlite) -> None:
    one(sqlite, "before")
    gate = Gate(sqlite)
    good = [sqlite.store.append([draft(f"m{index}")], index) for index in range(3)]
    bad = sqlite.store.settle([1], State.DONE, object(), 5)  # type: ignore[arg-type]
    after = sqlite.store.append([draft("m9")], 9)
    noted = sqlite.store.note(Kind.LEFT, {}, 10)
    gate.open()
    assert [sqlite.calls.wait(answer)[0].positions for answer in (*good, after)] == [(2,), (3,), (4,), (5,)]
    with pytest.raises(TypeError):
        sqlite.calls.wait(bad)
    sqlite.calls.wait(noted)
    sqlite.calls.wait(gate.passed)
    assert state_of(sqlite, 1) is State.OPEN
    assert kinds(sqlite) == ["accepted"] * 5 + ["left"]
    assert is_sound(sqlite)
    assert sqlite.store.high_water == 6
    sqlite.reopen()
    assert is_sound(sqlite)
    assert one(sqlite, "m10") == 7
    assert is_sound(sqlite)


def test_a_group_is_one_transaction(sqlite: InSqlite) -> None:
    gate = Gate(sqlite)
    statements: list[str] = []
    sqlite.store._writer._connection.set_trace_callback(statements.append)
    answers = [sqlite.store.append([draft(f"m{index}")], index) for index in range(100)]
    gate.open()
    for answer in answers:
        sqlite.calls.wait(answer)
    sqlite.store._writer._connection.set_trace_callback(None)
    # The gate's own COMMIT, and one for all the others.
    assert statements.count("COMMIT") == 2


def test_a_lazy_verb_alone_becomes_durable_soon(sqlite: InSqlite) -> None:
    position = one(sqlite)
    sqlite.calls.wait(sqlite.store.deliver([(position, 1)], None, None, 2), timeout_s=5.0)
    assert sqlite.store.high_water == 2


def test_what_waits_is_durable_when_the_store_is_closed(tmp_path: Path) -> None:
    subject = InSqlite(tmp_path)
    answers = [subject.store.append([draft(f"m{index}")], index) for index in range(600)]
    noted = subject.store.note(Kind.LEFT, {}, 1)
    subject.close()
    subject.calls.drain()
    assert [result_of(answer)[0].positions for answer in answers] == [(position,) for position in range(1, 601)]
    result_of(noted)
    subject.store = open_sqlite(tmp_path, subject.calls)
    assert subject.store.high_water == 601
    assert is_sound(subject)
    subject.close()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    subject = InSqlite(tmp_path)
    subject.close()
    with pytest.raises(StorageFailed, match="the node's store is closed; the node is stopping"):
        subject.do(lambda store: store.append([draft("m1")], 1))


def test_what_was_answered_survives_the_process(tmp_path: Path) -> None:
    subject = InSqlite(tmp_path)
    one(subject, "m1")
    # As a kill -9 leaves it: the write-ahead log is not in the file yet.
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in (FILE_NAME, FILE_NAME + "-wal"):
        shutil.copy(tmp_path / name, copy / name)
    subject.close()
    survivor = InSqlite(copy)
    assert [it.id for it in survivor.do(lambda store: store.head("agni", (0, 0), 10))] == ["m1"]
    assert is_sound(survivor)
    survivor.close()


def test_the_disk_is_synced_at_each_commit(sqlite: InSqlite) -> None:
    def pragma(name: str) -> Any:
        return sqlite.calls.wait(
            sqlite.store._writer.submit(lambda connection: connection.execute(f"PRAGMA {name}").fetchone()[0])
        )

    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == 2  # FULL
    # On macOS an fsync alone reaches the drive, and not what it is made of.
    assert pragma("fullfsync") == 1


# -- SQLite: opening ---------------------------------------------------------------------------------------------------


def opening(directory: Path, **options: Any) -> str:
    """Why the store of a directory can't be opened."""
    with pytest.raises(StoreError) as caught:
        open_sqlite(directory, ReactorQueue(), **options)
    return str(caught.value)


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    target = tmp_path / "disk"
    mounted(target, "size=3m")
    subprocess.run(["mount", "-o", "remount,ro", str(target)], check=True)
    yield target
    subprocess.run(["umount", "--lazy", str(target)], check=True)


def test_a_missing_directory(tmp_path: Path) -> None:
    directory = tmp_path / "away"
    assert opening(directory) == f"the state directory {directory} is missing; make it, or name another one"
    assert not directory.exists()


def test_a_read_only_directory(read_only_disk: Path) -> None:
    assert opening(read_only_disk) == (
        f"the state directory {read_only_disk} can't be written; change its owner or mode, or name another one"
    )


def test_a_full_disk_at_the_start(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(3 * 1024 * 1024 - 8192))
    assert opening(small_disk) == (
        f"the disk of the store {small_disk / FILE_NAME} is full; free some space, or name another state directory"
    )


def test_a_newer_schema(tmp_path: Path) -> None:
    InSqlite(tmp_path).close()
    file = tmp_path / FILE_NAME
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert opening(tmp_path) == (
        f"the store {file} has schema version 99 and this program knows versions up to {newest_version()}; start it "
        "with the TRISHULA that wrote it, or a newer one"
    )


def test_a_foreign_database(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    assert opening(tmp_path) == (
        f"{file} is a SQLite database but not a store of TRISHULA; name another state directory"
    )


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    file.write_bytes(b"Dear diary, " * 1000)
    assert opening(tmp_path) == (
        f"the store {file} is damaged (file is not a database); restore a backup with: trishula node restore FILE, "
        "or name another state directory"
    )


def test_a_file_whose_pages_are_garbage(tmp_path: Path) -> None:
    subject = InSqlite(tmp_path)
    append(subject, *(draft(f"m{index}", body=b"x" * 500) for index in range(200)))
    subject.close()
    file = tmp_path / FILE_NAME
    data = bytearray(file.read_bytes())
    for start in range(4096, len(data), 4096):
        data[start : start + 4096] = b"\xa5" * 4096
    file.write_bytes(data)
    assert opening(tmp_path) == (
        f"the store {file} is damaged (database disk image is malformed); restore a backup with: trishula node restore "
        "FILE, or name another state directory"
    )


# -- SQLite: damage found by verify ------------------------------------------------------------------------------------


def damages(directory: Path) -> list[tuple[int, str]]:
    subject = InSqlite(directory)
    verdict = subject.do(lambda store: store.verify())
    subject.close()
    return [(damage.position, damage.what) for damage in verdict.damages]


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A state directory with a store of a few messages."""
    subject = InSqlite(tmp_path)
    append(subject, draft("m1", body=b'{"text":"first"}'), draft("m2", body=b'{"text":"second"}'), draft("m3"))
    subject.do(lambda store: store.note(Kind.LEFT, {"agent": "agni", "session": 424242}, 5))
    subject.do(lambda store: store.settle([1], State.DONE, "because", 6))
    subject.close()
    return tmp_path


def test_a_flipped_bit_in_a_body(filled: Path) -> None:
    flipped(filled, b'{"text":"second"}', at=9)
    assert damages(filled) == [(2, "the body of message m2 from dc (record 2) doesn't match its checksum")]


def test_a_flipped_bit_in_a_record(filled: Path) -> None:
    flipped(filled, b'"session":424242', at=12)
    assert damages(filled) == [(4, "record 4 (left) doesn't match its digest")]


def test_a_flipped_bit_that_garbles_an_accepted_record(filled: Path) -> None:
    digest = hashlib.sha256(b'{"text":"second"}').hexdigest().encode()
    file = filled / FILE_NAME
    data = bytearray(file.read_bytes())
    # The quote behind the checksum: what is left is no JSON.
    data[data.index(digest) + len(digest)] ^= 0x01
    file.write_bytes(data)
    assert damages(filled) == [(2, "record 2 (accepted) doesn't match its digest")]


def test_a_changed_recipient(filled: Path) -> None:
    with sqlite3.connect(filled / FILE_NAME) as connection:
        connection.execute("UPDATE message SET recipient = 'mallory' WHERE position = 2")
    connection.close()
    assert damages(filled) == [(2, "message m2 from dc (record 2) is not the one that was accepted")]


def test_a_removed_record(filled: Path) -> None:
    with sqlite3.connect(filled / FILE_NAME) as connection:
        connection.execute("DELETE FROM journal WHERE position = 4")
    connection.close()
    assert damages(filled)[0] == (5, "records 4 to 4 are missing")


def test_a_changed_record_with_a_new_digest(filled: Path) -> None:
    with sqlite3.connect(filled / FILE_NAME) as connection:
        connection.execute("UPDATE journal SET at = at + 1, digest = zeroblob(32) WHERE position = 4")
    connection.close()
    assert [position for position, _ in damages(filled)] == [4, 5]


def test_a_garbage_page_is_a_damage_and_not_a_fault(filled: Path) -> None:
    file = filled / FILE_NAME
    data = bytearray(file.read_bytes())
    place = data.index(b'{"text":"second"}') // 4096 * 4096
    data[place : place + 4096] = b"\xa5" * 4096
    file.write_bytes(data)
    found = damages(filled)
    assert any("the store's file is damaged" in what for _, what in found), found


# -- SQLite: a full store ----------------------------------------------------------------------------------------------


def test_a_store_at_its_limit(tmp_path: Path) -> None:
    subject = InSqlite(tmp_path, limit_bytes=1024 * 1024)
    accepted = fill(subject)
    assert len(accepted) > 10
    assert open_ids(subject) == accepted
    assert is_sound(subject)
    subject.close()
    assert (tmp_path / FILE_NAME).stat().st_size <= 1024 * 1024
    subject = InSqlite(tmp_path, limit_bytes=4 * 1024 * 1024)
    assert open_ids(subject) == accepted
    append(subject, draft("after"))
    assert open_ids(subject) == [*accepted, "after"]
    assert is_sound(subject)
    subject.close()


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    subject = InSqlite(small_disk)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1024 * 1024))
    accepted = fill(subject)
    with pytest.raises(StorageFull):
        append(subject, draft("no", body=b"x" * 20_000))
    assert open_ids(subject) == accepted
    ballast.unlink()
    # There is space again: it works on, without a new start.
    append(subject, draft("after", body=b"x" * 20_000))
    assert open_ids(subject) == [*accepted, "after"]
    assert is_sound(subject)
    subject.reopen()
    assert open_ids(subject) == [*accepted, "after"]
    assert is_sound(subject)
    subject.close()


# -- SQLite: schema ----------------------------------------------------------------------------------------------------


def schema_of(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


@pytest.fixture
def next_schema(tmp_path: Path) -> Path:
    """The schema with a further step, as a next release would bring it."""
    directory = tmp_path / "schema"
    shutil.copytree(SCHEMA_DIRECTORY, directory)
    step = newest_version() + 1
    (directory / f"{step:03}-colours.sql").write_text(
        "CREATE TABLE colour (name TEXT PRIMARY KEY) STRICT;\n"
        "ALTER TABLE message ADD COLUMN colour TEXT;\n"
        "CREATE INDEX message_colour ON message (colour);\n"
    )
    (directory / "README").write_text("no step")
    return directory


def raw(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, isolation_level=None)


@pytest.mark.parametrize("version", range(1, newest_version() + 1))
def test_fresh_and_upgraded_are_the_same(tmp_path: Path, next_schema: Path, version: int) -> None:
    old_schema = tmp_path / "old-schema"
    old_schema.mkdir()
    for path in SCHEMA_DIRECTORY.glob("*.sql"):
        if int(path.name[:3]) <= version:
            shutil.copy(path, old_schema)
    old, fresh = tmp_path / "old.sqlite", tmp_path / "fresh.sqlite"
    upgraded = raw(old)
    migrate(upgraded, old, old_schema)
    upgraded.execute("INSERT INTO property VALUES ('epoch', 'kept')")
    before = schema_of(upgraded)
    migrate(upgraded, old, next_schema)
    made = raw(fresh)
    migrate(made, fresh, next_schema)
    assert schema_of(upgraded) == schema_of(made) != before
    for connection in (upgraded, made):
        assert connection.execute("PRAGMA user_version").fetchone() == (newest_version() + 1,)
    assert upgraded.execute("SELECT value FROM property").fetchall() == [("kept",)]
    copy = raw(tmp_path / f"old.sqlite.v{version}")
    assert schema_of(copy) == before
    assert copy.execute("SELECT value FROM property").fetchall() == [("kept",)]
    assert copy.execute("PRAGMA user_version").fetchone() == (version,)
    assert not (tmp_path / "fresh.sqlite.v0").exists()
    for connection in (upgraded, made, copy):
        connection.close()


def test_a_step_that_fails_leaves_the_old_version(tmp_path: Path, next_schema: Path) -> None:
    file = tmp_path / "old.sqlite"
    connection = raw(file)
    migrate(connection, file)
    before = schema_of(connection)
    step = newest_version() + 1
    (next_schema / f"{step:03}-colours.sql").write_text(
        "CREATE TABLE one (a TEXT) STRICT;\nCREATE TABLE one (a TEXT);\n"
    )
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, file, next_schema)
    connection.close()
    connection = raw(file)
    assert schema_of(connection) == before
    assert connection.execute("PRAGMA user_version").fetchone() == (newest_version(),)
    connection.close()


def test_the_newest_version_is_opened_as_it_is(tmp_path: Path) -> None:
    InSqlite(tmp_path).close()
    InSqlite(tmp_path).close()
    assert {path.name for path in tmp_path.iterdir()} == {FILE_NAME, "node.ballast", "store.lock"}


def test_records_are_what_they_say(sqlite: InSqlite) -> None:
    one(sqlite)
    (record,) = sqlite.do(lambda store: store.records(after=0, limit=10))
    assert isinstance(record, Record)
    assert (len(record.digest), type(record.facts)) == (32, bytes)
