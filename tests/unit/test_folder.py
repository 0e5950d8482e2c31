"""The folder of messages as files: what a scan names, what is written, what a folder does that can't be used."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from tests.support.disks import mounted, take_all, unmounted
from trishula.errors import FolderUnusable
from trishula.files.file_names import Kind, kind_of
from trishula.files.folder import Folder

AT = datetime(2026, 2, 10, 23, 30, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path, clock: Clock) -> Folder:
    made = Folder(tmp_path / "agni", stable_s=0.5, seconds=clock)
    made.prepare()
    return made


def settled(folder: Folder, clock: Clock) -> list[str]:
    folder.scan_outbox()
    clock.now_s += 0.5
    return folder.scan_outbox()


def files_below(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("20260210T000200Z_mac_agni_agent_redesign.json", Kind.MESSAGE),
        ("X.JSON", Kind.MESSAGE),
        ("conflict.json", Kind.MESSAGE),
        ("a_conflict_about_names.json", Kind.MESSAGE),
        (".x.json.a1B2c3", Kind.TEMPORARY),
        (".~tmp~", Kind.TEMPORARY),
        (".syncthing.x.json.tmp", Kind.TEMPORARY),
        ("~syncthing~x.json.tmp", Kind.TEMPORARY),
        (".DS_Store", Kind.TEMPORARY),
        ("._x.json", Kind.TEMPORARY),
        (".x.json.swp", Kind.TEMPORARY),
        ("Thumbs.db", Kind.TEMPORARY),
        ("x.json.part", Kind.TEMPORARY),
        ("x.json.filepart", Kind.TEMPORARY),
        ("x (conflicted copy 2026-02-10).json", Kind.CONFLICT),
        ("x (Ann's conflicted copy 2026-02-10).json", Kind.CONFLICT),
        ("x (Case Conflict).json", Kind.CONFLICT),
        ("x.sync-conflict-20260210-120000-ABCDEFG.json", Kind.CONFLICT),
        ("x_conflict-20260210-120000.json", Kind.CONFLICT),
        ("x (1).json", Kind.CONFLICT),
        ("x copy.json", Kind.CONFLICT),
        ("x.json~", Kind.CONFLICT),
        ("x~", Kind.CONFLICT),
        ("x.json.orig", Kind.CONFLICT),
        ("notes.txt", Kind.FOREIGN),
        ("json", Kind.FOREIGN),
    ],
)
def test_a_name_tells_what_a_file_is(name: str, kind: Kind) -> None:
    assert kind_of(name) is kind


def test_a_file_is_named_once_it_has_not_changed_for_a_while(folder: Folder, clock: Clock) -> None:
    path = folder.root / "outbox" / "x.json"
    path.write_bytes(b'{"id":')
    assert folder.scan_outbox() == []
    clock.now_s += 0.4
    with path.open("ab") as file:
        file.write(b'"x"}')
    assert folder.scan_outbox() == []
    clock.now_s += 0.4
    assert folder.scan_outbox() == []
    still_settling = folder.is_changing
    clock.now_s += 0.1
    assert folder.scan_outbox() == ["outbox/x.json"]
    assert (still_settling, folder.is_changing) == (True, False)
    # As long as it lies there it is named.
    assert folder.scan_outbox() == ["outbox/x.json"]


def test_times_that_another_machine_gave_a_file_don_t_matter(folder: Folder, clock: Clock) -> None:
    path = folder.root / "outbox" / "x.json"
    path.write_bytes(b"{}")
    for at_s in (0, 4_000_000_000):
        os.utime(path, (at_s, at_s))
        assert folder.scan_outbox() == []
        clock.now_s += 0.5
        assert folder.scan_outbox() == ["outbox/x.json"]


def test_what_is_no_message_is_set_aside_with_a_sentence_or_left_alone(folder: Folder, clock: Clock) -> None:
    outbox = folder.root / "outbox"
    (outbox / "good.json").write_bytes(b"{}")
    for name in (".x.json.a1B2c3", ".DS_Store", "x.json.part"):
        (outbox / name).write_bytes(b"{}")
    for name in ("x (conflicted copy 2026-02-10).json", "x.sync-conflict-20260210-120000-ABCDEFG.json", "x~", "a.txt"):
        (outbox / name).write_bytes(b"{}")
    (outbox / "link.json").symlink_to("/etc/passwd")
    (outbox / "directory.json").mkdir()
    (outbox / "theirs").mkdir()
    os.mkfifo(outbox / "pipe.json")
    assert settled(folder, clock) == ["outbox/good.json"]
    assert {path.name for path in outbox.iterdir()} == {
        "good.json", ".x.json.a1B2c3", ".DS_Store", "x.json.part", "theirs",
    }  # fmt: skip
    rejected = folder.root / "rejected"
    assert (rejected / "link.json").is_symlink()
    assert stat.S_ISFIFO((rejected / "pipe.json").lstat().st_mode)
    for path in rejected.iterdir():
        if not path.name.endswith(".why.txt"):
            sentence = (rejected / f"{path.name}.why.txt").read_text()
            assert path.name in sentence
            assert sentence.count("\n") == 1


def test_a_link_or_a_pipe_that_takes_a_file_s_place_is_not_read(folder: Folder, clock: Clock) -> None:
    path = folder.root / "outbox" / "x.json"
    path.write_bytes(b"{}")
    assert settled(folder, clock) == ["outbox/x.json"]
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert folder.read("outbox/x.json", 100) is None
    path.unlink()
    os.mkfifo(path)
    assert folder.read("outbox/x.json", 100) is None
    path.unlink()
    assert folder.read("outbox/x.json", 100) is None


@pytest.mark.parametrize(
    "name", ["outbox/../x.json", "outbox/..", "x.json", "/etc/passwd", "archive/x.json", "outbox/"]
)
def test_a_name_leads_nowhere_else(folder: Folder, name: str) -> None:
    for use in (lambda: folder.read(name, 1), lambda: folder.reject(name, "no"), lambda: folder.archive(name, AT)):
        with pytest.raises(ValueError, match="is no file of an outbox or an inbox"):
            use()


@pytest.mark.parametrize("name", ["../x.json", "a/b.json", "a\\b.json", "x", ".x.json", "x.json.tmp", "n\0.json", ""])
def test_a_file_of_ours_gets_no_odd_name(folder: Folder, name: str) -> None:
    with pytest.raises(ValueError, match="can't be the name of a message's file"):
        folder.write_inbox(name, b"{}")
    assert files_below(folder.root) == set()


def test_a_file_is_read_up_to_a_limit_and_a_byte(folder: Folder) -> None:
    folder.write_outbox("x.json", b"0123456789")
    assert folder.read("outbox/x.json", 10) == b"0123456789"
    assert folder.read("outbox/x.json", 4) == b"01234"


def test_nothing_is_overwritten(folder: Folder) -> None:
    assert folder.write_inbox("x.json", b"one") == "inbox/x.json"
    assert folder.write_inbox("x.json", b"one") == "inbox/x.json"
    assert folder.write_inbox("x.json", b"two") == "inbox/x.2.json"
    assert folder.write_inbox("x.json", b"three") == "inbox/x.3.json"
    assert folder.write_inbox("x.json", b"two") == "inbox/x.2.json"
    assert files_below(folder.root) == {"inbox/x.json", "inbox/x.2.json", "inbox/x.3.json"}


def test_a_file_is_never_seen_half_written(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    synced = os.fsync

    def look(number: int) -> None:
        seen.append(sorted(os.listdir(folder.root / "inbox")))
        synced(number)

    monkeypatch.setattr(os, "fsync", look)
    folder.write_inbox("x.json", b"{}")
    before, after = seen
    assert [kind_of(name) for name in before] == [Kind.TEMPORARY]
    assert after == ["x.json"], "the directory is synced after the renaming"


def test_rejected_files_keep_their_earlier_namesakes(folder: Folder) -> None:
    for content in (b"one", b"two"):
        folder.write_outbox("x.json", content)
        folder.reject("outbox/x.json", f"it is {content.decode()}\nand more")
    rejected = folder.root / "rejected"
    assert (rejected / "x.json").read_bytes() == b"one"
    assert (rejected / "x.json.why.txt").read_text() == "it is one\\nand more\n"
    assert (rejected / "x.2.json").read_bytes() == b"two"
    assert (rejected / "x.2.json.why.txt").read_text() == "it is two\\nand more\n"
    # Gone already: nothing to do, and no sentence about nothing.
    folder.reject("outbox/x.json", "again")
    assert len(files_below(rejected)) == 4


def test_a_name_as_long_as_names_can_be_is_set_aside(folder: Folder, clock: Clock) -> None:
    (folder.root / "outbox" / ("ü" * 125 + ".json")).write_bytes(b"no message")
    (name,) = settled(folder, clock)
    kept = folder.reject(name, "it is no message")
    assert (folder.root / kept).read_bytes() == b"no message"
    assert (folder.root / f"{kept}.why.txt").read_text() == "it is no message\n"


def test_a_name_that_is_no_utf_8_is_set_aside(folder: Folder, clock: Clock) -> None:
    with open(os.fsencode(folder.root / "outbox") + b"/\xff.json", "wb"):
        pass
    (name,) = settled(folder, clock)
    kept = folder.reject(name, f"{name} is empty")
    assert (folder.root / f"{kept}.why.txt").exists()


def test_an_archived_file_lies_by_its_day(folder: Folder) -> None:
    for content in (b"one", b"two"):
        folder.write_outbox("x.json", content)
        folder.archive("outbox/x.json", AT)
    assert files_below(folder.root) == {"archive/2026-02-10/x.json", "archive/2026-02-10/x.2.json"}
    assert folder.archive("outbox/x.json", AT) is None


def test_what_was_replaced_since_it_was_read_is_not_archived(folder: Folder, clock: Clock) -> None:
    folder.write_outbox("x.json", b"one")
    assert folder.read("outbox/x.json", 100) == b"one"
    path = folder.root / "outbox" / "x.json"
    path.unlink()
    path.write_bytes(b"other")
    assert folder.archive("outbox/x.json", AT) is None
    assert settled(folder, clock) == ["outbox/x.json"]
    assert folder.read("outbox/x.json", 100) == b"other"
    assert folder.archive("outbox/x.json", AT) == "archive/2026-02-10/x.json"


def test_days_that_are_over_go_and_nothing_else(folder: Folder) -> None:
    archive = folder.root / "archive"
    for day in ("2026-01-10", "2026-01-11", "2026-01-12", "2026-13-45", "mine"):
        (archive / day).mkdir()
        (archive / day / "x.json").write_bytes(b"{}")
    (archive / "2026-01-09").symlink_to(archive / "mine")
    (archive / "2026-01-10" / "theirs").mkdir()
    (archive / "2026-01-10" / "link.json").symlink_to(archive / "mine" / "x.json")
    assert folder.prune(date(2026, 1, 12)) == 3
    assert files_below(archive) == {"2026-01-12/x.json", "2026-13-45/x.json", "mine/x.json"}
    assert (archive / "2026-01-09").is_symlink()
    assert (archive / "2026-01-10" / "theirs").is_dir()
    assert not (archive / "2026-01-11").exists()


# -- folders that can't be used ----------------------------------------------------------------------------------------


def test_a_folder_that_is_gone_is_not_made_anew(folder: Folder, clock: Clock) -> None:
    away = folder.root.with_name("away")
    folder.root.rename(away)
    for use in (
        folder.scan_outbox,
        lambda: folder.write_inbox("x.json", b"{}"),
        lambda: folder.read("outbox/x.json", 1),
    ):
        with pytest.raises(FolderUnusable, match=r"the folder .*/agni is gone; mount its disk, or make it again$"):
            use()
    # As it looks where a disk is not mounted.
    folder.root.mkdir()
    with pytest.raises(FolderUnusable, match="lacks a directory"):
        folder.write_inbox("x.json", b"{}")
    assert list(folder.root.iterdir()) == []
    folder.root.rmdir()
    away.rename(folder.root)
    assert folder.write_inbox("x.json", b"{}") == "inbox/x.json"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    target = tmp_path / "disk"
    mounted(target, "size=256k")
    try:
        yield target
    finally:
        unmounted(target)


def test_a_full_folder_is_left_as_it_was_and_works_again(disk: Path, clock: Clock) -> None:
    folder = Folder(disk, stable_s=0, seconds=clock)
    folder.prepare()
    folder.write_outbox("x.json", b"{}")
    taken = take_all(disk)
    before = files_below(disk)
    with pytest.raises(FolderUnusable, match=r"can't be used \(No space left on device\); make room on its disk"):
        folder.write_inbox("y.json", b"{}")
    with pytest.raises(FolderUnusable, match="No space left"):
        folder.reject("outbox/x.json", "it is odd")
    assert files_below(disk) == before
    # What is there can still be read, and leave.
    (disk / "outbox" / "link.json").symlink_to("x.json")
    assert folder.scan_outbox() == ["outbox/x.json"]
    taken.unlink()
    folder.write_inbox("y.json", b"{}")
    assert folder.scan_outbox() == ["outbox/x.json"]
    assert (disk / "rejected" / "link.json").is_symlink()


def test_a_read_only_folder_says_so_and_works_again(disk: Path, clock: Clock) -> None:
    folder = Folder(disk, stable_s=0, seconds=clock)
    folder.prepare()
    folder.write_outbox("x.json", b"{}")
    mounted(disk, "remount,ro")
    assert folder.scan_outbox() == ["outbox/x.json"]
    uses: list[Callable[[], object]] = [
        lambda: folder.write_inbox("y.json", b"{}"),
        lambda: folder.reject("outbox/x.json", "it is odd"),
        lambda: folder.archive("outbox/x.json", AT),
    ]
    for use in uses:
        with pytest.raises(FolderUnusable, match=r"Read-only file system.*; mount its disk for writing"):
            use()
    mounted(disk, "remount,rw")
    folder.archive("outbox/x.json", AT)
    assert files_below(disk) == {"archive/2026-02-10/x.json"}
