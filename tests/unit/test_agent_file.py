"""An agent's file: what a next life finds, one process at a time, what is refused, a disk that fails."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from twisted.internet.task import Clock

from tests.support.faketransport import surroundings
from trishula.errors import StateBusy, StateUnusable
from trishula.messaging.agent_file import SCHEMA_DIRECTORY, SYNC_AFTER_S, AgentFile, read_handled
from trishula.runtime.pending import start


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "agni"


@pytest.fixture
def file(directory: Path, clock: Clock) -> Iterator[AgentFile]:
    made = AgentFile.open(directory, surroundings(clock))
    yield made
    start(made.close())


def encoded(message_id: str) -> bytes:
    return msgspec.msgpack.encode({"type": "STATUS", "id": message_id, "to": "dc"})


def again(file: AgentFile, directory: Path, clock: Clock) -> AgentFile:
    """The next life."""
    start(file.close())
    return AgentFile.open(directory, surroundings(clock))


def test_a_sync_reaches_the_disk_on_macos_too(file: AgentFile, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    connect = sqlite3.connect

    class Asked(sqlite3.Connection):
        def close(self) -> None:
            seen.append(self.execute("PRAGMA fullfsync").fetchone()[0])
            super().close()

    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, factory=Asked, **options))
    assert file._connection.execute("PRAGMA fullfsync").fetchone() == (1,)
    file.put(1, encoded("a"), None)
    assert file.commit()
    assert file.sync().error is None
    assert seen == [1], "of the connection that makes the checkpoint"


def test_without_locks_the_file_is_refused_in_a_sentence(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trishula.runtime.file_lock.fcntl", None)
    with pytest.raises(OSError) as caught:
        AgentFile.open(directory, surroundings(Clock()))
    assert caught.value.strerror == "this system can't lock a file for one process"


def test_a_lock_that_could_not_be_written_into_is_let_go_of(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left"):
            AgentFile.open(directory, surroundings(Clock()))
    start(AgentFile.open(directory, surroundings(Clock())).close())


def test_an_agent_can_be_imported_where_there_are_no_locks() -> None:
    """As on Windows, whose Python has no fcntl."""
    program = "import sys; sys.modules['fcntl'] = None\nfrom trishula import Agent\nprint(Agent('agni').name)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=60.0,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "agni\n", "")


def test_what_was_committed_is_there_in_the_next_life(file: AgentFile, directory: Path, clock: Clock) -> None:
    file.put(1, encoded("a"), None)
    file.put(2, encoded("b"), 2)
    file.put(3, encoded("c"), None)
    file.remember("dc", "old", 5)
    file.remember("dc", "new", 7)
    assert file.commit()
    file.drop(1)
    file.forget("dc", "old")
    file.note_node("ws://one/ws", "e", 7)
    file.note_bus("b")
    assert file.commit()
    assert not file.is_dirty
    file = again(file, directory, clock)
    saved = file.load()
    assert [(one.number, one.message, one.copies) for one in saved.messages] == [
        (2, encoded("b"), 2),
        (3, encoded("c"), None),
    ]
    assert (saved.handled, saved.nodes, saved.bus) == ([("dc", "new", 7, None)], {"ws://one/ws": ("e", 7)}, "b")
    start(file.close())


def test_closing_commits(file: AgentFile, directory: Path, clock: Clock) -> None:
    file.put(1, encoded("a"), None)
    file = again(file, directory, clock)
    assert [one.message for one in file.load().messages] == [encoded("a")]
    start(file.close())


def test_what_was_put_and_dropped_within_a_turn_is_never_written(file: AgentFile) -> None:
    file.put(1, encoded("a"), None)
    file.drop(1)
    assert not file.is_dirty


def test_the_content_of_what_was_handled_is_kept(file: AgentFile) -> None:
    file.remember("dc", "a", 1, 2**32 - 1)
    file.commit()
    assert file.load().handled == [("dc", "a", 1, 2**32 - 1)]


def test_a_memory_of_before_is_that_of_agents(tmp_path: Path) -> None:
    """There each script was a sender of its own."""
    directory = tmp_path / "before"
    directory.mkdir()
    with sqlite3.connect(directory / "agent.sqlite") as connection:
        connection.executescript((SCHEMA_DIRECTORY / "001-first.sql").read_text())
        rows = [("dc", "a", 1), ("dc/7f3a", "b", 2), ("dc/91bc", "b", 3), ("agni/x", "b", 4)]
        connection.executemany("INSERT INTO handled VALUES (?, ?, ?)", rows)
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    assert read_handled(directory) == {("dc", "a"), ("dc", "b"), ("agni", "b")}
    opened = AgentFile.open(directory, surroundings(Clock()))
    assert opened.load().handled == [("dc", "a", 1, None), ("dc", "b", 3, None), ("agni", "b", 4, None)]


def test_what_is_remembered_anew_outlives_that_it_was_forgotten(file: AgentFile) -> None:
    file.remember("dc", "a", 1)
    file.commit()
    file.forget("dc", "a")
    file.remember("dc", "a", 9)
    file.commit()
    assert file.load().handled == [("dc", "a", 9, None)]
    file.remember("dc", "a", 10)
    file.forget("dc", "a")
    file.commit()
    assert file.load().handled == []


def test_only_its_owner_may_read_it(file: AgentFile, directory: Path) -> None:
    file.put(1, encoded("a"), None)
    file.commit()
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in directory.iterdir()}
    assert modes.keys() >= {"agent.sqlite", "agent.lock", "agent.sqlite-wal"}
    assert set(modes.values()) == {"0o600"}
    assert directory.stat().st_mode & 0o777 == 0o700


def test_one_process_at_a_time(file: AgentFile, directory: Path, clock: Clock) -> None:
    with pytest.raises(StateBusy, match=rf"is in use by the process {os.getpid()}: only one at a time"):
        AgentFile.open(directory, surroundings(clock))
    start(file.close())
    start(AgentFile.open(directory, surroundings(clock)).close())


def die_with(directory: Path, changes: str) -> None:
    """A process makes changes and is killed."""
    program = (
        "import os, signal, sys; from pathlib import Path; from trishula.messaging.agent_file import AgentFile\n"
        "from trishula.runtime.surroundings import Surroundings\n"
        "file = AgentFile.open(Path(sys.argv[1]), Surroundings(None, int, float, str))\n"
        "file._clock = type('Never', (), {'callLater': lambda *_: None})()\n"
        f"{changes}; os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(directory)], check=False, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr


def test_the_lock_ends_with_its_process(directory: Path, clock: Clock) -> None:
    die_with(directory, "file.put(1, b'\\x80', None); file.commit()")
    file = AgentFile.open(directory, surroundings(clock))
    assert [one.number for one in file.load().messages] == [1]
    start(file.close())


def test_what_a_killed_process_had_on_record_can_be_read_before_the_next_life(directory: Path, clock: Clock) -> None:
    assert read_handled(directory) == frozenset()
    die_with(directory, "file.remember('dc', 'a', 1); file.commit(); file.remember('dc', 'b', 2)")
    left = {path.name: path.read_bytes() for path in directory.iterdir() if not path.name.endswith("-shm")}
    assert read_handled(directory) == {("dc", "a")}
    assert {path.name: path.read_bytes() for path in directory.iterdir() if path.name in left} == left
    file = AgentFile.open(directory, surroundings(clock))
    assert file.load().handled == [("dc", "a", 1, None)]
    start(file.close())


def test_a_process_that_was_killed_while_it_made_its_file_has_nothing_on_record(directory: Path) -> None:
    directory.mkdir()
    (directory / "agent.sqlite").touch()
    assert read_handled(directory) == frozenset()
    (directory / "agent.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(StateUnusable, match=r"can't be read \(file is not a database\)"):
        read_handled(directory)


def test_a_newer_file_is_refused(file: AgentFile, directory: Path, clock: Clock) -> None:
    start(file.close())
    with sqlite3.connect(directory / "agent.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    for _ in range(2):  # the lock is let go of
        with pytest.raises(StateUnusable, match="has schema version 99 and this program knows versions up to 2"):
            AgentFile.open(directory, surroundings(clock))


def test_what_is_no_file_of_an_agent_is_refused(directory: Path, clock: Clock) -> None:
    directory.mkdir()
    with sqlite3.connect(directory / "agent.sqlite") as connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()
    with pytest.raises(StateUnusable, match="is a SQLite database but not an agent's file"):
        AgentFile.open(directory, surroundings(clock))
    (directory / "agent.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(
        StateUnusable, match=r"can't be used \(file is not a database\); if it is damaged, move it away"
    ):
        AgentFile.open(directory, surroundings(clock))


def test_the_schema_has_a_step_for_each_version() -> None:
    steps = sorted(path.name for path in SCHEMA_DIRECTORY.glob("*.sql"))
    assert [int(name[:3]) for name in steps] == list(range(1, len(steps) + 1))


# -- the disk ----------------------------------------------------------------------------------------------------------


def test_it_goes_to_the_disk_by_itself_after_a_while(file: AgentFile, directory: Path, clock: Clock) -> None:
    before = (directory / "agent.sqlite").read_bytes()
    file.put(1, encoded("distinct"), None)
    file.commit()
    clock.advance(SYNC_AFTER_S - 0.1)
    assert (directory / "agent.sqlite").read_bytes() == before
    clock.advance(0.2)
    assert b"distinct" in (directory / "agent.sqlite").read_bytes()
    # And again, after the next commit.
    file.put(2, encoded("unmistakable"), None)
    file.commit()
    clock.advance(SYNC_AFTER_S)
    assert b"unmistakable" in (directory / "agent.sqlite").read_bytes()


def test_a_sync_takes_what_is_not_committed_yet(file: AgentFile, directory: Path) -> None:
    file.put(1, encoded("distinct"), None)
    synced = file.sync()
    assert synced.done
    assert synced.error is None
    assert b"distinct" in (directory / "agent.sqlite").read_bytes()


def test_a_disk_that_fails_is_told_once_and_nothing_is_lost_when_it_works_again(
    file: AgentFile, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    file._connection.execute("PRAGMA max_page_count=8")
    file.put(1, b"\x81\xa1x\xc5" + (60_000).to_bytes(2, "big") + b"x" * 60_000, None)
    file.remember("dc", "a", 1)
    with caplog.at_level(logging.WARNING):
        assert not file.commit()
        assert not file.commit()
        clock.advance(1.0)
        assert not file.commit()
        synced = file.sync()
        assert isinstance(synced.error, StateUnusable)
    assert caplog.text.count("can't be written (database or disk is full)") == 1
    assert file.load().handled == []
    file.put(2, encoded("later"), None)
    file._connection.execute("PRAGMA max_page_count=100000")
    with caplog.at_level(logging.WARNING):
        clock.advance(1.0)
    assert "can be written again, and is complete" in caplog.text
    assert not file.is_dirty
    saved = file.load()
    assert ([one.number for one in saved.messages], saved.handled) == ([1, 2], [("dc", "a", 1, None)])


def test_after_the_end_nothing_is_written(file: AgentFile) -> None:
    start(file.close())
    start(file.close())
    file.put(1, encoded("a"), None)
    assert file.commit()
