"""What the files of attachments promise: what is complete is whole, fsynced before it has its name, and private."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from trishula_router.attachments.files import AttachmentFiles, Found
from trishula_router.attachments.ledger import Key

DATA = b"0123456789" * 1000
HEX = hashlib.sha256(DATA).hexdigest()
KEY: Key = ("dc", f"sha256:{HEX}")


@pytest.fixture
def files(tmp_path: Path) -> AttachmentFiles:
    return AttachmentFiles(tmp_path / "attachments")


def facts(found: list[Found]) -> list[tuple[Key, int, int, bool]]:
    return [(one.key, one.size_bytes, one.have_bytes, one.is_complete) for one in found]


def test_parts_grow_and_are_found_again(files: AttachmentFiles, tmp_path: Path) -> None:
    assert files.scan() == []
    files.append(KEY, len(DATA), 0, DATA[:100])
    files.append(KEY, len(DATA), 100, DATA[100:300])
    assert facts(files.scan()) == [(KEY, len(DATA), 300, False)]
    # What a write that failed has left is written over.
    files.append(KEY, len(DATA), 200, DATA[200:250])
    assert facts(AttachmentFiles(tmp_path / "attachments").scan()) == [(KEY, len(DATA), 250, False)]


def test_complete_is_what_it_is(files: AttachmentFiles) -> None:
    files.append(KEY, len(DATA), 0, DATA)
    hasher = hashlib.sha256()
    assert files.hash_some(KEY, len(DATA), 0, hasher) == len(DATA)
    assert files.hash_some(KEY, len(DATA), len(DATA), hasher) == 0
    assert hasher.hexdigest() == HEX
    files.complete(KEY, len(DATA))
    assert facts(files.scan()) == [(KEY, len(DATA), len(DATA), True)]
    assert files.read(KEY, 9_990, 100) == DATA[9_990:]
    files.delete(KEY, len(DATA))
    files.delete(KEY, len(DATA))
    assert files.scan() == []
    with pytest.raises(OSError, match="No such file"):
        files.read(KEY, 0, 1)


def test_the_data_is_durable_before_the_name_and_the_name_before_the_answer(
    files: AttachmentFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.append(KEY, len(DATA), 0, DATA)
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def seen_fsync(descriptor: int) -> None:
        steps.append("fsync " + os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(str(tmp_path)))
        fsync(descriptor)

    def seen_replace(self: Path, target: Any) -> Path:
        steps.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(Path, "replace", seen_replace)
    files.complete(KEY, len(DATA))
    part = f"/attachments/dc/{HEX}.{len(DATA)}.part"
    assert steps == [f"fsync {part}", "rename", "fsync /attachments/dc", "fsync /attachments", "fsync "]


def test_long_parts_are_made_durable_as_they_grow(files: AttachmentFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0
    fdatasync = os.fdatasync

    def seen(descriptor: int) -> None:
        nonlocal count
        count += 1
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", seen)
    piece = bytes(64 * 1024)
    for at in range(0, 9 * 1024 * 1024, len(piece)):
        files.append(KEY, 2**30, at, piece)
    assert count == 2


def test_nobody_else_may_look(files: AttachmentFiles, tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        files.append(KEY, len(DATA), 0, DATA)
        files.complete(KEY, len(DATA))
    finally:
        os.umask(mask)
    folder = tmp_path / "attachments"
    assert (folder / "dc").stat().st_mode & 0o777 == 0o700
    assert (folder / "dc" / HEX).stat().st_mode & 0o777 == 0o600


def test_what_is_not_ours_is_left_alone(files: AttachmentFiles, tmp_path: Path) -> None:
    folder = tmp_path / "attachments"
    (folder / "dc").mkdir(parents=True)
    (folder / "Not An Agent").mkdir()
    (folder / "Not An Agent" / HEX).write_bytes(b"x")
    (folder / "dc" / "notes.txt").write_text("mine")
    (folder / "elsewhere").symlink_to(tmp_path)
    assert files.scan() == []


def test_a_link_in_the_place_of_a_part_is_not_followed(files: AttachmentFiles, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    folder = tmp_path / "attachments" / "dc"
    folder.mkdir(parents=True)
    (folder / f"{HEX}.{len(DATA)}.part").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic"):
        files.append(KEY, len(DATA), 0, DATA)
    assert victim.read_bytes() == b"precious"


def test_the_disk_is_asked_also_before_there_is_a_directory(files: AttachmentFiles) -> None:
    assert files.free_bytes() > 0
