"""One holder at a time of a file's lock; whoever comes second is told what the first one wrote."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from trishula.runtime.file_lock import FileHeld, FileLock, words_of_holder

HOLDING = """
import sys
from pathlib import Path
from trishula.runtime.file_lock import FileLock
lock = FileLock(Path(sys.argv[1]))
lock.write(b"another process")
print("held", flush=True)
input()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.lock"


def test_the_second_one_is_told_who_holds_it(path: Path) -> None:
    first = FileLock(path)
    first.write(b"a rather long name")
    first.write(b"the first")
    for patience_s in (0.0, 0.02):
        with pytest.raises(FileHeld) as caught:
            FileLock(path, patience_s=patience_s)
        assert caught.value.words == b"the first"
    first.release()
    second = FileLock(path)
    assert path.stat().st_mode & 0o777 == 0o600
    second.release()
    second.release()


def test_it_ends_with_its_process(path: Path) -> None:
    command = [sys.executable, "-c", HOLDING, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(FileHeld) as caught:
            FileLock(path)
        assert caught.value.words == b"another process"
        process.kill()
        process.wait()
    FileLock(path).release()


def test_who_waits_gets_it_when_it_is_free(path: Path) -> None:
    first = FileLock(path)
    got = threading.Event()

    def wait() -> None:
        lock = FileLock(path, patience_s=None)
        got.set()
        lock.release()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert not got.is_set()
    first.release()
    assert got.wait(60.0)
    waiting.join()


def test_to_look_is_not_to_hold(path: Path) -> None:
    assert words_of_holder(path) is None
    lock = FileLock(path)
    assert words_of_holder(path) == b""
    lock.write(b"me")
    assert words_of_holder(path) == b"me"
    lock.release()
    assert words_of_holder(path) is None
    assert path.read_bytes() == b"me", "who held it last"


def test_a_child_that_is_started_holds_nothing(path: Path) -> None:
    lock = FileLock(path)
    command = [sys.executable, "-c", "print('here', flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False) as child:
        # The system closes what a child doesn't get only a moment after Popen returns.
        assert child.stdout is not None
        assert child.stdout.readline() == b"here\n"
        lock.release()
        FileLock(path).release()
        child.communicate(b"\n")


def test_a_refusal_leaves_no_open_file(path: Path) -> None:
    lock = FileLock(path)
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(FileHeld):
        FileLock(path)
    assert len(os.listdir("/dev/fd")) == before
    lock.release()
    with pytest.raises(OSError, match="No such file"):
        FileLock(path.parent / "gone" / "some.lock")


def test_where_nothing_can_be_locked_that_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    monkeypatch.setattr("trishula.runtime.file_lock.fcntl", None)
    with pytest.raises(OSError, match="this system can't lock a file for one process"):
        FileLock(path)
    assert not path.exists()
