"""The file of a store gets smaller: in steps, between messages, down to a reserve, whole after a crash at any step."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.subjects import InSqlite, Subject, append, draft, flipped, is_sound, open_ids
from trishula.cli.main import run
from trishula_router.store.interface import StoreError
from trishula_router.store.messages import State
from trishula_router.store.sqlite.compacting import compact
from trishula_router.store.sqlite.connection import FILE_NAME
from trishula_router.store.sqlite.shrinking import INCREMENTAL, STEP_PAGES, is_due, reserve_bytes
from trishula_router.store.sqlite.space import PAGE_BYTES

MIB = 1024 * 1024


def pragma(subject: InSqlite, name: str) -> int:
    with closing(sqlite3.connect(subject.directory / FILE_NAME)) as connection:
        found: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return found


def emptied(subject: Subject, count: int = 60) -> None:
    """Have a store whose file is nearly all free pages: large bodies come, and go."""
    positions: list[int] = []
    for number in range(count):
        (accepted,) = append(subject, draft(f"m{number}.{count}", body=b'{"x":"%s"}' % (b"x" * 100_000)))
        positions += accepted.positions
    subject.do(lambda store: store.settle(positions, State.DONE, None, 200))
    append(subject, draft("waits" if count == 60 else "too", body=b'{"a":"%s"}' % (b"y" * 50_000)))
    while subject.do(lambda store: store.forget(0, 1000, before=10_000, dead_before=0, at=20_000)).bodies:
        pass


def shrunk(subject: Subject) -> int:
    steps = 0
    while subject.do(lambda store: store.shrink()):
        steps += 1
        assert steps < 1000
    return steps


def test_a_store_gives_back_what_it_does_not_need(subject: Subject) -> None:
    emptied(subject)
    before = subject.store.condition()
    assert (shrunk(subject) > 0) == isinstance(subject, InSqlite)
    after = subject.store.condition()
    assert after.used_bytes <= before.used_bytes
    assert open_ids(subject) == ["waits"] and is_sound(subject)
    append(subject, draft("later"))
    assert open_ids(subject) == ["waits", "later"] and is_sound(subject)


def test_the_file_gets_smaller_and_keeps_its_reserve(sqlite: InSqlite) -> None:
    emptied(sqlite)
    condition = sqlite.store.condition()
    assert condition.can_shrink and condition.unused_bytes > 5 * MIB
    before = pragma(sqlite, "page_count")
    sqlite.do(lambda store: store.shrink())
    # One step is small, whatever there is to give back.
    assert 0 < before - pragma(sqlite, "page_count") <= STEP_PAGES + 1
    shrunk(sqlite)
    pages, free = pragma(sqlite, "page_count"), pragma(sqlite, "freelist_count")
    assert free * PAGE_BYTES <= reserve_bytes(pages * PAGE_BYTES) + PAGE_BYTES and free > 0
    assert sqlite.store.condition().unused_bytes == free * PAGE_BYTES
    sqlite.reopen()
    assert (sqlite.directory / FILE_NAME).stat().st_size == pages * PAGE_BYTES < MIB
    assert is_sound(sqlite)


def test_the_file_shrinks_while_the_store_is_in_use(tmp_path: Path) -> None:
    subject = InSqlite(tmp_path, limit_bytes=32 * MIB)
    emptied(subject)
    largest = (tmp_path / FILE_NAME).stat().st_size
    while subject.do(lambda store: store.shrink()):
        append(subject, draft(f"beside{subject.store.high_water}"))
    # Checkpoints move the log, and cut the file's end off.
    for number in range(100):
        append(subject, draft(f"after{number}"))
    assert (tmp_path / FILE_NAME).stat().st_size < largest / 2
    log = tmp_path / (FILE_NAME + "-wal")
    assert log.stat().st_size <= 4 * MIB
    subject.close()


def test_while_somebody_reads_it_makes_the_log_no_longer_than_its_bound(tmp_path: Path) -> None:
    subject = InSqlite(tmp_path, limit_bytes=64 * MIB)
    # What is kept lies behind what goes, so that all of it has to be moved.
    body = b'{"x":"%s"}' % (b"x" * 100_000)
    old = [position for n in range(100) for position in append(subject, draft(f"old{n}", body=body))[0].positions]
    for number in range(100):
        append(subject, draft(f"kept{number}", body=body))
    subject.do(lambda store: store.settle(old, State.DONE, None, 200))
    while subject.do(lambda store: store.forget(0, 1000, before=10_000, dead_before=0, at=20_000)).bodies:
        pass
    log = tmp_path / (FILE_NAME + "-wal")
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as reader:
        reader.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        # A backup of a large store reads for minutes, and no checkpoint gets past it.
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM message").fetchone()
        shrunk(subject)
        assert 0 < log.stat().st_size <= 2 * subject.store._space.log_most_bytes
        assert pragma(subject, "freelist_count") * PAGE_BYTES > 3 * MIB
    # It goes on with the first message after that.
    append(subject, draft("later"))
    shrunk(subject)
    assert pragma(subject, "freelist_count") * PAGE_BYTES <= 1.2 * MIB and is_sound(subject)
    subject.close()


def test_a_killed_step_is_whole_or_undone(tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.mkdir()
    subject = InSqlite(before)
    emptied(subject)
    for number in range(6):
        subject.do(lambda store: store.shrink())
        # What a process leaves that is killed now: its files, as they are on the disk.
        left = tmp_path / str(number)
        shutil.copytree(before, left)
        again = InSqlite(left)
        assert is_sound(again) and open_ids(again) == ["waits"]
        shrunk(again)
        again.close()
        assert (left / FILE_NAME).stat().st_size < MIB
    subject.close()


def of_before(directory: Path) -> InSqlite:
    """A store as an earlier release made it."""
    subject = InSqlite(directory)
    subject.close()
    with closing(sqlite3.connect(directory / FILE_NAME, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA auto_vacuum = 0")
        connection.execute("VACUUM")
    subject.reopen_closed()
    return subject


def test_a_store_of_before_does_not_shrink_until_it_is_compacted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = of_before(tmp_path)
    emptied(subject)
    assert shrunk(subject) == 0
    condition = subject.store.condition()
    assert not condition.can_shrink and condition.unused_bytes > 5 * MIB
    records = subject.do(lambda store: store.records(after=0, limit=1000))
    subject.close()
    assert (tmp_path / FILE_NAME).stat().st_size > 5 * MIB

    assert run(["node", "compact", "--state", str(tmp_path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["ok"] and facts["bytes"] < MIB < facts["bytes_before"]
    assert (tmp_path / FILE_NAME).stat().st_size == facts["bytes"]
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o077 == 0
    assert not list(tmp_path.glob("*.compacting"))

    subject.reopen_closed()
    assert subject.store.epoch == "epoch-1" and open_ids(subject) == ["waits"] and is_sound(subject)
    assert subject.do(lambda store: store.records(after=0, limit=1000)) == records
    emptied(subject, count=61)
    assert shrunk(subject) > 0
    subject.close()


def test_a_damaged_store_and_one_in_use_stay_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subject = of_before(tmp_path)
    append(subject, draft("m1", body=b'{"x":"needle"}'))
    assert run(["node", "compact", "--state", str(tmp_path)]) == 1
    assert "a node already runs on the state directory" in capsys.readouterr().err
    subject.close()
    flipped(tmp_path, b"needle")
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(StoreError, match=r"is damaged .* and stays as it is"):
        compact(tmp_path)
    after = (tmp_path / FILE_NAME).read_bytes()
    # But for how it keeps its log, which the next start says anew.
    assert len(after) == len(before) and after[200:] == before[200:]
    assert not list(tmp_path.glob("*.compacting"))


def test_without_room_for_a_copy_nothing_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_before(tmp_path).close()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(StoreError, match="free some space, nothing was changed"):
        compact(tmp_path)


def test_new_stores_can_shrink(sqlite: InSqlite) -> None:
    assert pragma(sqlite, "auto_vacuum") == INCREMENTAL


@pytest.mark.parametrize(
    ("file_mib", "unused_mib", "goes_on", "due"),
    [
        (100, 21, False, True),
        (100, 19, False, False),
        (100, 19, True, True),
        (100, 9, True, False),
        (10_000, 120, False, False),
        (10_000, 129, False, True),
        (10_000, 65, True, True),
        (10_000, 63, True, False),
        (2, 0.9, False, False),
    ],
)
def test_it_begins_late_and_ends_at_the_reserve(file_mib: int, unused_mib: float, goes_on: bool, due: bool) -> None:
    assert is_due(file_mib * MIB, int(unused_mib * MIB), goes_on=goes_on) is due
