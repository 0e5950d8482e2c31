"""A store whose file is deleted, moved or replaced while the node runs: nothing more is accepted, and it is said.

SQLite itself notices nothing: the file is open, so it is written and synced, and gone when the process ends.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.logs import Logged, logged
from tests.support.subjects import InSqlite, append, draft, is_sound, one, open_ids
from trishula.errors import StorageFailed
from trishula_router.store.messages import State
from trishula_router.store.sqlite.connection import FILE_NAME

__all__ = ["logged"]


def refused(subject: InSqlite, message_id: str) -> str:
    with pytest.raises(StorageFailed) as caught:
        append(subject, draft(message_id))
    assert caught.value.temporary
    return caught.value.sentence


def fault(subject: InSqlite) -> str | None:
    return subject.store.condition().fault


@pytest.mark.parametrize("name", [FILE_NAME, f"{FILE_NAME}-wal"])
def test_a_deleted_file(tmp_path: Path, name: str, logged: Logged) -> None:
    subject = InSqlite(tmp_path)
    position = one(subject, "m1")
    assert fault(subject) is None
    (tmp_path / name).unlink()
    sentence = (
        "the node's store was deleted or moved away while the node runs, so it accepted nothing; see the node's log"
    )
    assert [refused(subject, f"m{n}") for n in range(2, 5)] == [sentence] * 3
    with pytest.raises(StorageFailed):
        subject.do(lambda store: store.settle([position], State.DONE, None, 5))
    # What is there can still be read, and handed out.
    assert open_ids(subject) == ["m1"]
    told = fault(subject)
    assert told is not None
    assert told.startswith(
        f"{tmp_path / name} was deleted or moved away while the node uses it, so nothing is accepted"
    )
    assert logged.sentences("critical") == [told]
    subject.close()


def test_a_file_that_comes_back(tmp_path: Path, logged: Logged) -> None:
    subject = InSqlite(tmp_path)
    one(subject, "m1")
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / FILE_NAME).rename(elsewhere)
    refused(subject, "m2")
    elsewhere.rename(tmp_path / FILE_NAME)
    append(subject, draft("m2"), draft("m3"))
    assert fault(subject) is None
    assert logged.sentences("warn") == ["the store's file is in its place again, the node goes on with it"]
    assert is_sound(subject)
    subject.reopen()
    assert open_ids(subject) == ["m1", "m2", "m3"]
    subject.close()


def test_another_file_in_its_place(tmp_path: Path) -> None:
    subject = InSqlite(tmp_path)
    one(subject, "m1")
    shutil.copy(tmp_path / FILE_NAME, tmp_path / "copy")
    (tmp_path / "copy").replace(tmp_path / FILE_NAME)
    assert "was replaced by another file while the node runs" in refused(subject, "m2")
    told = fault(subject)
    assert told is not None
    assert f"{tmp_path / FILE_NAME} was replaced by another file" in told
    subject.close()


def test_a_directory_that_is_moved(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    subject = InSqlite(directory)
    one(subject, "m1")
    directory.rename(tmp_path / "archive")
    refused(subject, "m2")
    (tmp_path / "archive").rename(directory)
    append(subject, draft("m2"))
    assert open_ids(subject) == ["m1", "m2"]
    subject.close()
