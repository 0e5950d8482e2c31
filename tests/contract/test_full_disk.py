"""A full disk, small or large, is no dead end: what is there can be settled, retention frees it, and sends go on.

Each disk is a tmpfs of its own. What is written to it is what a node writes: deliveries and acks in a record each.
"""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.disks import mounted, take_all
from tests.support.logs import Logged, logged
from tests.support.subjects import Gate, InSqlite, append, draft, is_sound, one, open_ids, settle_all
from trishula.errors import StorageFull
from trishula_router.commands.node_log import trim_log
from trishula_router.store.journal import Kind
from trishula_router.store.messages import State
from trishula_router.store.sqlite import ballast
from trishula_router.store.sqlite.ballast import Ballast, make_room_to_start
from trishula_router.store.sqlite.connection import FILE_NAME

__all__ = ["logged"]

KB, MIB = 1000, 1024 * 1024


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A disk of the size that the test names; 20 MiB if it names none."""
    target = tmp_path / "disk"
    mounted(target, f"size={getattr(request, 'param', 20)}m")
    yield target
    subprocess.run(["umount", "--lazy", str(target)], check=True)


def fill(subject: InSqlite, size_bytes: int, prefix: str = "f", batch: int = 1) -> int:
    """Send until the store is full; how many messages were accepted."""
    for index in range(0, 1_000_000, batch):
        try:
            append(subject, *(draft(f"{prefix}{index + n}", body=b"x" * size_bytes) for n in range(batch)))
        except StorageFull:
            return index
    raise AssertionError("the store never got full")


def forget_all(subject: InSqlite) -> None:
    """What retention does when there is little room."""
    after = 0
    while True:
        answer = subject.store.forget(after, 200, before=10_000, dead_before=0, at=500)
        after = subject.calls.wait(answer).after
        if not after:
            return


def free_bytes(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


@pytest.mark.parametrize(
    ("disk", "size_bytes", "batch"),
    [
        (20, 500 * KB, 1),
        (20, 5 * KB, 1),
        (20, 200, 64),
        (64, 500 * KB, 8),
        (64, 5 * KB, 64),
        (600, 500 * KB, 1),
    ],
    indirect=["disk"],
)
def test_a_full_disk_drains_and_takes_messages_again(disk: Path, size_bytes: int, batch: int) -> None:
    subject = InSqlite(disk)
    accepted = fill(subject, size_bytes, batch=batch)
    # The better part of the disk is used for messages.
    assert accepted * (size_bytes + 2500) > 0.5 * (os.statvfs(disk).f_blocks * 4096)
    assert settle_all(subject) == accepted
    assert open_ids(subject) == []
    forget_all(subject)
    assert fill(subject, size_bytes, "again", batch) > accepted // 2
    assert is_sound(subject)
    subject.close()


def test_urgent_mail_gets_into_a_store_that_is_full_for_others(tmp_path: Path) -> None:
    subject = InSqlite(tmp_path, limit_bytes=16 * MIB, urgent_room=0.25)
    ordinary = fill(subject, 5 * KB)
    with pytest.raises(StorageFull):
        append(subject, draft("no", body=b"x" * 50 * KB))
    with pytest.raises(StorageFull):
        append(subject, draft("no", body=b"x" * 50 * KB), draft("urgent", priority=1))
    assert "the rest is kept for urgent mail and acks" in str(subject.store.condition().shortage)
    accepted = 0
    with pytest.raises(StorageFull):
        for accepted in range(1_000_000):
            append(subject, draft(f"u{accepted}", priority=1, body=b"x" * 5 * KB))
    assert 0.8 * 4 * MIB < accepted * (5 * KB + 2500) < 1.3 * 4 * MIB
    assert settle_all(subject) == ordinary + accepted
    forget_all(subject)
    append(subject, draft("yes", body=b"x" * 50 * KB))
    assert is_sound(subject)
    subject.close()


@pytest.mark.parametrize("disk", [20, 64, 600], indirect=True)
def test_a_full_store_can_be_closed_and_opened(disk: Path) -> None:
    subject = InSqlite(disk)
    accepted = fill(subject, 500 * KB)
    for _ in range(3):
        subject.reopen()
    assert len(open_ids(subject)) == accepted
    with pytest.raises(StorageFull):
        append(subject, draft("no", body=b"x" * 500 * KB))
    assert settle_all(subject) == accepted
    subject.close()


@pytest.mark.parametrize("size_bytes", [500 * KB, 5 * KB])
def test_acks_go_on_when_somebody_else_takes_the_rest(disk: Path, size_bytes: int) -> None:
    subject = InSqlite(disk)
    accepted = fill(subject, size_bytes)
    take_all(disk)
    subject.reopen()
    take_all(disk)
    with pytest.raises(StorageFull):
        append(subject, draft("no"))
    assert settle_all(subject) == accepted
    forget_all(subject)
    take_all(disk)
    subject.reopen()
    assert open_ids(subject) == []
    assert is_sound(subject)
    subject.close()


def test_what_comes_at_once_is_written_in_parts(disk: Path) -> None:
    subject = InSqlite(disk)
    statements: list[str] = []
    subject.store._writer._connection.set_trace_callback(statements.append)
    gate = Gate(subject)
    answers = [subject.store.append([draft(f"m{n}", body=b"x" * 300 * KB)], 100) for n in range(45)]
    gate.open()
    for answer in answers:
        subject.calls.wait(answer)
    subject.store._writer._connection.set_trace_callback(None)
    # In one transaction there would have been no room, and all of it would have been written once more.
    assert "ROLLBACK" not in statements
    assert (disk / f"{FILE_NAME}-wal").stat().st_size < 2 * MIB
    assert settle_all(subject) == 45
    subject.close()


def test_notes_use_up_nothing_that_acks_need(disk: Path) -> None:
    subject = InSqlite(disk)
    position = one(subject, "m1")
    take_all(disk)
    refused = 0
    notes = [subject.store.note(Kind.LEFT, {"agent": "a" * 500, "n": index}, 2) for index in range(3000)]
    for answer in notes:
        try:
            subject.calls.wait(answer)
        except StorageFull:
            refused += 1
    assert refused > 1000
    take_all(disk)
    subject.do(lambda store: store.settle([position], State.DONE, None, 3))
    assert open_ids(subject) == []
    subject.close()


def test_the_reserve_is_taken_again(disk: Path) -> None:
    subject = InSqlite(disk)
    one(subject, "m1")
    held = subject.store.condition().reserve_bytes
    assert held >= MIB
    taken = take_all(disk)
    settle_all(subject)
    assert subject.store.condition().reserve_bytes < held
    taken.unlink()
    forget_all(subject)
    assert subject.store.condition().reserve_bytes == held
    subject.close()


def test_a_log_that_a_reader_made_long_is_given_back(disk: Path) -> None:
    subject = InSqlite(disk)
    one(subject, "m1")
    reader = reading(disk / FILE_NAME)
    accepted = fill(subject, 100 * KB)
    log = disk / f"{FILE_NAME}-wal"
    assert log.stat().st_size > 3 * MIB
    reader.close()
    assert settle_all(subject) == accepted + 1
    forget_all(subject)
    assert fill(subject, 100 * KB, "again") > accepted // 2
    assert log.stat().st_size < 3 * MIB
    subject.close()


def test_what_finds_no_room_gets_what_the_log_holds_and_the_file_has_room_for(disk: Path) -> None:
    subject = InSqlite(disk)
    for name, count in (("before", 60), ("again", 35)):
        for index in range(count):
            append(subject, draft(f"{name}{index}", body=b"x" * 100 * KB))
        if name == "before":
            settle_all(subject)
            forget_all(subject)
            reader = reading(disk / FILE_NAME)
    log = disk / f"{FILE_NAME}-wal"
    long_bytes = log.stat().st_size
    assert long_bytes > 3 * MIB
    take_all(disk)
    reader.close()
    # It may not draw on the reserve.
    subject.do(lambda store: store.note(Kind.LEFT, {"agent": "agni"}, 2))
    assert log.stat().st_size < long_bytes
    subject.close()


def reading(file: Path) -> sqlite3.Connection:
    """Somebody who reads the store of one instant, as a backup does."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM journal").fetchone()
    return connection


# -- what is said ------------------------------------------------------------------------------------------------------


def test_the_limit_is_what_is_full(tmp_path: Path) -> None:
    subject = InSqlite(tmp_path, limit_bytes=4 * MIB)
    fill(subject, 20 * KB)
    with pytest.raises(StorageFull, match=r"so it accepted nothing; raise limits\.store on the node, or have agents"):
        append(subject, draft("no", body=b"x" * 20 * KB))
    condition = subject.store.condition()
    assert condition.limit_bytes == 4 * MIB
    assert 0.6 * 4 * MIB < condition.used_bytes <= 4 * MIB
    assert condition.shortage is not None
    assert "of the 4 MiB that limits.store allows" in condition.shortage
    settle_all(subject)
    forget_all(subject)
    assert subject.store.condition().shortage is None
    subject.close()


def test_the_disk_is_what_is_full(disk: Path) -> None:
    subject = InSqlite(disk)
    fill(subject, 100 * KB)
    with pytest.raises(StorageFull, match="so it accepted nothing; free disk space on the node"):
        append(subject, draft("no", body=b"x" * 100 * KB))
    condition = subject.store.condition()
    assert condition.shortage is not None
    assert f"the disk of {disk} has " in condition.shortage
    assert condition.free_bytes == free_bytes(disk)
    subject.close()


# -- the ballast -------------------------------------------------------------------------------------------------------


def test_ballast_takes_what_it_says(tmp_path: Path) -> None:
    kept = Ballast(tmp_path)
    kept.hold(3 * MIB, 100 * MIB)
    file = tmp_path / ballast.FILE_NAME
    assert file.stat().st_blocks * 512 >= 3 * MIB
    assert kept.held_bytes == Ballast(tmp_path).held_bytes == 3 * MIB
    assert kept.give_up()
    assert kept.held_bytes == 3 * MIB - ballast.BITE_BYTES
    assert kept.give_up(10 * MIB)
    assert (kept.held_bytes, kept.give_up()) == (0, False)


def test_ballast_grows_as_far_as_there_is_room(tmp_path: Path) -> None:
    kept = Ballast(tmp_path)
    kept.hold(8 * MIB, 2 * MIB)
    assert kept.held_bytes == 2 * MIB
    kept.hold(8 * MIB, -1)
    assert kept.held_bytes == 2 * MIB


def test_a_copy_with_holes_is_no_ballast(tmp_path: Path) -> None:
    with (tmp_path / ballast.FILE_NAME).open("wb") as file:
        file.truncate(8 * MIB)
    assert Ballast(tmp_path).held_bytes == 0


def test_ballast_without_fallocate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    kept = Ballast(tmp_path)
    kept.hold(3 * MIB + 5, 100 * MIB)
    assert kept.held_bytes == Ballast(tmp_path).held_bytes == 3 * MIB


def test_a_file_system_that_packs_zeros_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[int] = []

    def packed(descriptor: int, offset: int, size_bytes: int) -> None:
        writes.append(size_bytes)
        os.ftruncate(descriptor, size_bytes)

    monkeypatch.setattr(os, "posix_fallocate", packed)
    kept = Ballast(tmp_path)
    for _ in range(3):
        kept.hold(3 * MIB, 100 * MIB)
    assert (writes, kept.held_bytes, kept.give_up()) == ([3 * MIB], 0, False)
    assert not (tmp_path / ballast.FILE_NAME).exists()


def test_a_start_has_room_for_its_small_files(disk: Path) -> None:
    InSqlite(disk).close()
    take_all(disk)
    assert free_bytes(disk) == 0
    make_room_to_start(disk)
    assert MIB > free_bytes(disk) >= 400 * KB


# -- the node's log ----------------------------------------------------------------------------------------------------


def test_a_long_log_is_cut_where_it_can_not_be_set_aside(disk: Path) -> None:
    log = disk / "node.log"
    log.write_bytes(b"old\n" * 500_000 + b"the last line\n")
    take_all(disk)
    # On a disk of 20 MiB it may be 160 KiB.
    assert trim_log(log)
    assert log.stat().st_size <= 64 * 1024
    assert log.read_bytes().endswith(b"old\nthe last line\n")
    assert not log.with_suffix(".log.1").exists()


# -- what the log says -------------------------------------------------------------------------------------------------


def test_the_log_says_once_that_it_is_nearly_full_that_it_is_full_and_that_it_has_room_again(
    tmp_path: Path, logged: Logged
) -> None:
    subject = InSqlite(tmp_path, limit_bytes=4 * MIB)
    accepted = fill(subject, 20 * KB)
    for number in range(3):
        with pytest.raises(StorageFull):
            append(subject, draft(f"no{number}", body=b"x" * 20 * KB))
    assert settle_all(subject) == accepted
    forget_all(subject)
    subject.calls.drain()
    nearly, full, room = logged.sentences("warn")
    assert re.match(r"the store is 9\d% full: it takes \S+ MiB, limits.store is 4 MiB, and the disk has ", nearly)
    assert full.startswith("the store is full, sends are refused and acks go on: it takes 3.")
    assert room == "the store has room again, sends are accepted"
    subject.close()


def test_a_store_that_is_full_says_so_when_it_is_opened(tmp_path: Path, logged: Logged) -> None:
    subject = InSqlite(tmp_path, limit_bytes=4 * MIB)
    fill(subject, 20 * KB)
    before = len(logged.sentences("warn"))
    subject.reopen()
    subject.calls.drain()
    assert len(logged.sentences("warn")) == before + 1
    assert "% full: it takes" in logged.sentences("warn")[-1]
    subject.close()


def test_a_full_disk_has_no_room_and_the_store_is_proved_all_the_same(disk: Path) -> None:
    # Else a watchdog would end a node that can still deliver, and take acks, because sends are refused.
    subject = InSqlite(disk)
    fill(subject, 5 * KB)
    full = subject.store.condition()
    assert full.shortage is not None
    assert full.room_bytes is not None and full.room_bytes < 10 * KB
    assert subject.do(lambda store: store.prove("here")) == "here"
    settle_all(subject)
    forget_all(subject)
    drained = subject.store.condition()
    assert drained.shortage is None
    assert drained.room_bytes is not None and drained.room_bytes > 1000 * KB
    subject.close()
