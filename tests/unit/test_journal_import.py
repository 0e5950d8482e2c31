"""``trishula journal import``: segments go back into a node's archive if they are of its journal, or none does."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.support.subjects import InSqlite, append, draft
from trishula.cli.main import run
from trishula.evidence.archive import Archive
from trishula_router.archiving import importing
from trishula_router.archiving.archiver import Archiver
from trishula_router.archiving.importing import Importing, ImportRefused
from trishula_router.archiving.segments import Segments
from trishula_router.peers.journal_policy import Replication
from trishula_router.settings.options import RetentionPolicy
from trishula_router.store.messages import State
from trishula_router.store.sqlite.files import begin_of, restore

NOW = 1_800_000_000_000

Said = Callable[..., tuple[int, str]]


def cut_store(state_dir: Path, name: str = "m", segments: int = 3) -> Path:
    """A store whose journal is in so many segments but for its end; the folder of these."""
    state_dir.mkdir()
    subject = InSqlite(state_dir)
    files = Segments(state_dir, "single", subject.store.epoch)
    clock = [NOW]
    archiver = Archiver(
        subject.store,
        files,
        RetentionPolicy(),
        now=lambda: clock[0],
        earlier=lambda instant: instant,
        holders=Replication("", ()),
    )
    for number in range(segments):
        clock[0] = at = NOW + 86_400_000 * number
        positions = append(subject, draft(f"{name}{number}"), at=at)[0].positions
        subject.calls.wait(subject.store.settle(positions, State.DONE, None, at))
        subject.calls.wait(subject.store.forget(0, 100, before=at + 1, dead_before=0, at=at))
        clock[0] += 60_000
        subject.calls.wait(Deferred.fromCoroutine(archiver.archive(10_000)))
    subject.close()
    assert len(files.archive.segments()) == segments
    return files.archive.folder


@pytest.fixture
def node(tmp_path: Path) -> tuple[Path, Path]:
    """A state directory, and a copy of its archive elsewhere; the archive itself is empty."""
    state_dir, backup = tmp_path / "state", tmp_path / "backup"
    shutil.move(cut_store(state_dir), backup)
    return state_dir, backup


@pytest.fixture
def imported(node: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> Said:
    def call(*args: object) -> tuple[int, str]:
        code = run(["journal", "import", *map(str, args), "--state", str(node[0])])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


def archive_of(state_dir: Path) -> Archive:
    return Archive(state_dir / "archive" / begin_of(state_dir / "node.sqlite")[0])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".index") if folder.exists() else []


def test_a_backup_goes_back_and_again_changes_nothing(node: tuple[Path, Path], imported: Said) -> None:
    state_dir, backup = node
    code, said = imported(backup, "--dry-run")
    assert code == 0 and "3 segments" in said and "would be imported" in said
    assert names(archive_of(state_dir).folder) == []
    code, said = imported(backup, "--json")
    told: dict[str, Any] = json.loads(said)
    assert code == 0 and told["imported"] == names(backup) == names(archive_of(state_dir).folder)
    assert all(checked.ok for _, checked in archive_of(state_dir).check())
    assert all(path.stat().st_mode & 0o077 == 0 for path in archive_of(state_dir).folder.iterdir())
    assert len(list(archive_of(state_dir).read())) == told["records"]
    code, said = imported(backup)
    assert code == 0 and "0 segments" in said and "3 more were there already" in said


def test_single_segments_from_the_newest_to_the_oldest(node: tuple[Path, Path], imported: Said) -> None:
    state_dir, backup = node
    first, second, third = (backup / name for name in names(backup))
    code, said = imported(first)
    assert code == 1 and "the segments end with record" in said and "import the segments between them, too" in said
    assert imported(third)[0] == 0
    code, said = imported(first)
    assert code == 1 and "doesn't join on: records" in said and "are in no segment; nothing was imported" in said
    assert names(archive_of(state_dir).folder) == [third.name]
    assert imported(second, first)[0] == 0
    assert names(archive_of(state_dir).folder) == names(backup)


def test_what_is_not_of_this_journal_is_refused(node: tuple[Path, Path], imported: Said, tmp_path: Path) -> None:
    state_dir, backup = node
    other = cut_store(tmp_path / "other", "x")
    code, said = imported(other)
    assert code == 1 and "is of another journal" in said
    longer = cut_store(tmp_path / "longer", segments=4)
    code, said = imported(longer)
    assert code == 1 and "are in the node's store" in said
    fork = tmp_path / "fork"
    shutil.copytree(backup, fork)
    shutil.copy(other / names(other)[0], fork / names(backup)[0])
    code, said = imported(fork)
    assert code == 1 and "doesn't join on" in said
    assert names(archive_of(state_dir).folder) == []
    assert imported(backup)[0] == 0
    code, said = imported(fork)
    assert code == 1 and "is another one than" in said
    assert names(archive_of(state_dir).folder) == names(backup)


def test_what_is_damaged_or_no_segment_is_refused(node: tuple[Path, Path], imported: Said) -> None:
    state_dir, backup = node
    one = backup / names(backup)[1]
    data = bytearray(one.read_bytes())
    data[len(data) // 2] ^= 1
    one.write_bytes(data)
    code, said = imported(backup)
    assert code == 1 and f"{one} is not as it was written" in said and "nothing was imported" in said
    plain = backup / "notes.txt"
    plain.write_text("hello")
    code, said = imported(plain)
    assert code == 1 and "is not called like a segment" in said
    assert names(archive_of(state_dir).folder) == []


def test_what_is_no_file_is_refused_and_not_waited_for(node: tuple[Path, Path], imported: Said) -> None:
    _, backup = node
    pipe = backup / "0000000000000900-0000000000000999.jsonl.gz"
    os.mkfifo(pipe)
    for given in (pipe, backup):
        code, said = imported(given)
        assert code == 1
        assert said.strip().endswith(f"{pipe} can't be read: it is a pipe, and no file; nothing was imported")


def test_a_crash_between_two_copies_leaves_what_joins_on(
    node: tuple[Path, Path], imported: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_dir, backup = node
    calls = 0

    def crash(folder: Path) -> None:
        nonlocal calls
        calls += 1
        (folder / f".{names(backup)[0]}.importing").write_bytes(b"half")
        raise KeyboardInterrupt

    epoch, base = begin_of(state_dir / "node.sqlite")
    with monkeypatch.context() as patched:
        patched.setattr(importing, "_sync", crash)
        with pytest.raises(KeyboardInterrupt):
            Importing.plan([backup], state_dir / "archive" / epoch, base, ()).carry_out()
    assert calls == 1 and [one.path.name for one in archive_of(state_dir).segments()] == names(backup)[2:]
    assert imported(backup)[0] == 0
    assert names(archive_of(state_dir).folder) == names(backup)


def test_a_file_that_changes_meanwhile_is_not_put_in_place(node: tuple[Path, Path]) -> None:
    state_dir, backup = node
    epoch, base = begin_of(state_dir / "node.sqlite")
    work = Importing.plan([backup], state_dir / "archive" / epoch, base, ())
    (backup / names(backup)[2]).write_bytes(b"")
    with pytest.raises(ImportRefused, match="changed while it was imported"):
        work.carry_out()
    assert names(work.folder) == []


def test_what_was_imported_before_one_changed_is_said(
    node: tuple[Path, Path], imported: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_dir, backup = node
    done = importing._sync

    def change(folder: Path) -> None:
        done(folder)
        (backup / names(backup)[0]).write_bytes(b"")

    monkeypatch.setattr(importing, "_sync", change)
    code, said = imported(backup)
    assert code == 1 and "changed while it was imported" in said and "2 of 3 segments were imported" in said
    assert "nothing was imported" not in said
    assert names(archive_of(state_dir).folder) == names(backup)[1:]


def test_a_disk_without_room_is_left_to_the_node(
    node: tuple[Path, Path], imported: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_dir, backup = node
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6))
    code, said = imported(backup)
    assert code == 1 and "free some space; nothing was imported" in said
    assert names(archive_of(state_dir).folder) == []


def test_a_restored_store_takes_the_archive_of_its_former_epoch(
    node: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state_dir, backup = node
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    restore(state_dir / "node.sqlite", fresh, new_epoch=lambda: "epoch-2", at=NOW, kept_as="before")
    assert run(["journal", "import", str(backup), "--state", str(fresh)]) == 0
    assert names(fresh / "archive" / "epoch-2") == names(backup)
    assert run(["journal", "find", "m0", str(fresh / "archive" / "epoch-2")]) == 0
    assert "accepted" in capsys.readouterr().out
