"""The door's file: tasks and their events in order, callers with open tasks, webhooks and their notifications.

The record of what was asked and answered is the bus. This file has what A2A wants beside it, and is written in this
order: that a task is about to be sent, before the bus has it; that the bus has it, before the caller is told. So a door
that is killed at any moment finds each task in one of two stages, and asks the bus about the first.

Each change is one transaction with an fsync. One door at a time has the file: it is locked. The tokens of callers are
in it as long as the door has work for them, because it must join under their names after a restart, before they come
again; so the file is its owner's alone (mode 0600).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from trishula.a2a_door.errands import Errands
from trishula.a2a_door.life import ENDED, Event
from trishula.a2a_door.owed import Owed
from trishula.errors import StateBusy, StateUnusable
from trishula.runtime.file_lock import FileHeld, FileLock

__all__ = ["Ledger", "TaskRow"]

_VERSION = 1
_SCHEMA = """
CREATE TABLE caller (name TEXT PRIMARY KEY, token TEXT NOT NULL);
CREATE TABLE agent (name TEXT PRIMARY KEY, capabilities TEXT NOT NULL);
CREATE TABLE task (
    id TEXT PRIMARY KEY, caller TEXT NOT NULL, agent TEXT NOT NULL, context TEXT NOT NULL, ordered TEXT NOT NULL,
    stage TEXT NOT NULL CHECK (stage IN ('sending', 'open', 'ended')), state TEXT NOT NULL, step TEXT NOT NULL,
    created_ms INTEGER NOT NULL, changed_ms INTEGER NOT NULL, settled_ms INTEGER, answer TEXT, acked INTEGER NOT NULL
);
CREATE INDEX task_by_caller ON task (caller, changed_ms DESC, id DESC);
CREATE INDEX task_by_stage ON task (stage) WHERE stage <> 'ended';
CREATE INDEX task_unacked ON task (caller) WHERE acked = 0;
CREATE TABLE event (
    number INTEGER PRIMARY KEY AUTOINCREMENT, task TEXT NOT NULL REFERENCES task ON DELETE CASCADE,
    at_ms INTEGER NOT NULL, body TEXT NOT NULL
);
CREATE INDEX event_by_task ON event (task, number);
CREATE TABLE hook (
    task TEXT NOT NULL REFERENCES task ON DELETE CASCADE, id TEXT NOT NULL, config TEXT NOT NULL, PRIMARY KEY (task, id)
);
CREATE TABLE push (
    task TEXT NOT NULL, hook TEXT NOT NULL, event INTEGER NOT NULL, created_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL, due_ms INTEGER, ended_ms INTEGER, outcome TEXT NOT NULL,
    PRIMARY KEY (task, hook, event), FOREIGN KEY (task, hook) REFERENCES hook ON DELETE CASCADE
);
CREATE INDEX push_due ON push (due_ms) WHERE due_ms IS NOT NULL;
CREATE TABLE errand (
    sender TEXT NOT NULL, command TEXT NOT NULL, task TEXT NOT NULL, context TEXT NOT NULL, is_open INTEGER NOT NULL,
    noted_ms INTEGER NOT NULL, PRIMARY KEY (sender, command)
);
"""
_TASK = "id, caller, agent, context, ordered, stage, state, step, created_ms, changed_ms, settled_ms, answer, acked"


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task.

    Attributes:
        id: its id, and its COMMAND's.
        caller: the agent that it is of.
        agent: the agent that it is for.
        context: A2A's context.
        ordered: what was sent: ``payload``, ``subject``, ``procedure``.
        stage: ``sending`` until a node has it, then ``open``, at last ``ended``.
        state: A2A's word for where it stands.
        step: ``""``, ``delivered`` or ``surfaced``.
        created_ms, changed_ms: since when it is there, and in its state.
        settled_ms: since when its COMMAND is known to be over.
        answer: id and sender of its answer, to acknowledge; empty if there is none.
        acked: whether the answer is acknowledged, or there is none.
    """

    id: str
    caller: str
    agent: str
    context: str
    ordered: dict[str, Any]
    stage: str
    state: str
    step: str
    created_ms: int
    changed_ms: int
    settled_ms: int | None
    answer: list[str]
    acked: bool


class Ledger:
    """See the module's docstring. Made by :meth:`open`, or :meth:`read` for a look from outside.

    Attributes:
        owed: webhooks, and what is owed to them.
        errands: what is under way at agents of A2A.
    """

    def __init__(self, connection: sqlite3.Connection, lock: FileLock | None) -> None:
        self._connection = connection
        self._lock = lock
        self.owed = Owed(connection, self._transaction)
        self.errands = Errands(connection)

    @classmethod
    def open(cls, directory: Path) -> Ledger:
        """Open or make it, in a directory of its own.

        Raises:
            StateBusy: another door has it.
            StateUnusable: it is damaged, of a newer version, or can't be made there.
        """
        try:
            for missing in reversed([one for one in (directory, *directory.parents) if not one.exists()]):
                missing.mkdir(mode=0o700, exist_ok=True)
            lock = FileLock(directory / "door.lock", patience_s=0.0)
        except FileHeld:
            raise StateBusy(f"another door uses {directory}; stop it, or give this one a --state of its own") from None
        except OSError as error:
            raise StateUnusable(f"{directory} can't be used ({error.strerror}); name another one by --state") from None
        path = directory / "door.sqlite"
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            path.chmod(0o600)
            connection = sqlite3.connect(path, isolation_level=None)
            _prepare(connection, path)
        except (OSError, sqlite3.Error) as error:
            lock.release()
            raise StateUnusable(f"{path} can't be used ({error}); move it away if it is damaged") from None
        except BaseException:
            lock.release()
            raise
        return cls(connection, lock)

    @classmethod
    def read(cls, directory: Path) -> Ledger:
        """Look at it, also while a door has it.

        Raises:
            StateUnusable: there is none, or it can't be read.
        """
        path = directory / "door.sqlite"
        if not path.exists():
            raise StateUnusable(f"there is no {path}: no door has run there; name its directory by --state")
        try:
            connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
            _check_version(connection, path)
        except sqlite3.Error as error:
            raise StateUnusable(f"{path} can't be read ({error})") from None
        return cls(connection, None)

    def close(self) -> None:
        """Let it go."""
        self._connection.close()
        if self._lock is not None:
            self._lock.release()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    # -- callers and agents --------------------------------------------------------------------------------------------

    def note_caller(self, name: str, token: str) -> None:
        """A caller has work for the door: its token is kept meanwhile."""
        self._connection.execute("INSERT OR REPLACE INTO caller VALUES (?, ?)", (name, token))

    def callers(self) -> list[tuple[str, str]]:
        """Names and tokens of those that have work for the door."""
        return self._connection.execute("SELECT name, token FROM caller ORDER BY name").fetchall()

    def forget_caller(self, name: str) -> None:
        """It has none any more, or its token is none."""
        self._connection.execute("DELETE FROM caller WHERE name = ?", (name,))

    def has_work(self, name: str) -> bool:
        """Whether a caller has a task that is not ended, or an answer that is not acknowledged."""
        query = "SELECT 1 FROM task WHERE caller = ? AND (stage <> 'ended' OR acked = 0) LIMIT 1"
        return self._connection.execute(query, (name,)).fetchone() is not None

    def note_capabilities(self, announced: Mapping[str, Sequence[str]]) -> None:
        """What agents announced: each has the same card while it sleeps."""
        if announced:
            with self._transaction() as connection:
                rows = [(agent, _json(list(said))) for agent, said in announced.items()]
                connection.executemany("INSERT OR REPLACE INTO agent VALUES (?, ?)", rows)

    def capabilities(self, agent: str) -> tuple[str, ...]:
        """What an agent announced when it was there last."""
        row = self._connection.execute("SELECT capabilities FROM agent WHERE name = ?", (agent,)).fetchone()
        return () if row is None else tuple(msgspec.json.decode(row[0]))

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def begin(self, task: TaskRow, said: Event) -> bool:
        """A task is about to be sent; ``False`` if it is known already."""
        with self._transaction() as connection:
            made = connection.execute(
                f"INSERT OR IGNORE INTO task ({_TASK}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    task.id, task.caller, task.agent, task.context, _json(task.ordered), task.stage, task.state,
                    task.step, task.created_ms, task.changed_ms, task.settled_ms, _json(task.answer), task.acked,
                ),
            )  # fmt: skip
            if made.rowcount:
                self._add(connection, task.id, task.created_ms, said)
            return bool(made.rowcount)

    def drop(self, task_id: str) -> None:
        """No node has it, and none will."""
        self._connection.execute("DELETE FROM task WHERE id = ? AND stage = 'sending'", (task_id,))

    def task(self, task_id: str) -> TaskRow | None:
        """One task."""
        row = self._connection.execute(f"SELECT {_TASK} FROM task WHERE id = ?", (task_id,)).fetchone()
        return None if row is None else _task(row)

    def unfinished(self, caller: str) -> list[TaskRow]:
        """Those of a caller that are not ended, oldest first."""
        query = f"SELECT {_TASK} FROM task WHERE caller = ? AND stage <> 'ended' ORDER BY created_ms, id"
        return [_task(row) for row in self._connection.execute(query, (caller,))]

    def unacked(self, caller: str) -> list[TaskRow]:
        """Those whose answer still lies in their caller's mailbox."""
        query = f"SELECT {_TASK} FROM task WHERE caller = ? AND acked = 0 LIMIT 100"
        return [_task(row) for row in self._connection.execute(query, (caller,))]

    def count(self, caller: str) -> int:
        """How many are not ended."""
        query = "SELECT count(*) FROM task WHERE caller = ? AND stage <> 'ended'"
        return int(self._connection.execute(query, (caller,)).fetchone()[0])

    def tasks(self, where: dict[str, Any], before: tuple[int, str] | None, most: int) -> tuple[list[TaskRow], int]:
        """Tasks, the latest change first, and how many there are in all.

        Args:
            where: ``caller``, ``agent``, ``context``, ``state``: what they must have; ``since_ms``: changed since then.
            before: changed_ms and id of the one to go on behind.
            most: how many at most.
        """
        conditions, values = ["stage <> 'sending'"], []
        for column, value in where.items():
            conditions.append("changed_ms >= ?" if column == "since_ms" else f"{column} = ?")
            values.append(value)
        found = " AND ".join(conditions)
        total = self._connection.execute(f"SELECT count(*) FROM task WHERE {found}", values).fetchone()[0]
        if before is not None:
            found += " AND (changed_ms, id) < (?, ?)"
            values += before
        query = f"SELECT {_TASK} FROM task WHERE {found} ORDER BY changed_ms DESC, id DESC LIMIT ?"
        return [_task(row) for row in self._connection.execute(query, (*values, most))], int(total)

    def note(self, task_id: str, events: Sequence[Event], now_ms: int, answer: Sequence[str] = ()) -> None:
        """Something became of a task: its events, with what they make of it, and what is owed to its webhooks."""
        with self._transaction() as connection:
            for event in events:
                number = self._add(connection, task_id, now_ms, event)
                if (status := event.get("status")) is not None:
                    stage = "ended" if status["state"] in ENDED else "open"
                    connection.execute(
                        "UPDATE task SET stage = ?, state = ?, step = coalesce(?, step), changed_ms = ? WHERE id = ?",
                        (stage, status["state"], status.get("stage"), now_ms, task_id),
                    )
                if "said" not in event:
                    connection.execute(
                        "INSERT INTO push SELECT task, id, ?, ?, 0, ?, NULL, '' FROM hook WHERE task = ?",
                        (number, now_ms, now_ms, task_id),
                    )
            if answer:
                row = (_json(list(answer)), task_id)
                connection.execute("UPDATE task SET answer = ?, acked = 0 WHERE id = ?", row)

    def note_settled(self, task_id: str, now_ms: int) -> None:
        """Its COMMAND is over, and has no answer yet."""
        query = "UPDATE task SET settled_ms = ? WHERE id = ? AND settled_ms IS NULL"
        self._connection.execute(query, (now_ms, task_id))

    def note_acked(self, task_id: str) -> None:
        """Its answer no longer lies in its caller's mailbox."""
        self._connection.execute("UPDATE task SET acked = 1 WHERE id = ?", (task_id,))

    def events(self, task_id: str, after: int = 0) -> list[tuple[int, int, Event]]:
        """Number, instant and body of a task's events, in order."""
        query = "SELECT number, at_ms, body FROM event WHERE task = ? AND number > ? ORDER BY number"
        rows = self._connection.execute(query, (task_id, after)).fetchall()
        return [(number, at_ms, msgspec.json.decode(body)) for number, at_ms, body in rows]

    def forget(self, before_ms: int) -> int:
        """Forget what ended before an instant; how many tasks that were."""
        query = "DELETE FROM task WHERE stage = 'ended' AND acked = 1 AND changed_ms < ?"
        return self._connection.execute(query, (before_ms,)).rowcount

    def _add(self, connection: sqlite3.Connection, task_id: str, at_ms: int, event: Event) -> int:
        query = "INSERT INTO event (task, at_ms, body) VALUES (?, ?, ?)"
        return int(connection.execute(query, (task_id, at_ms, _json(event))).lastrowid or 0)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    # A caller that was told that its task is there finds it after a power cut, too.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
        connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")
    _check_version(connection, path)


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != _VERSION:
        raise StateUnusable(f"{path} is of version {version}, and this door knows {_VERSION}: update this program")


def _task(row: tuple[Any, ...]) -> TaskRow:
    values = list(row)
    values[4], values[11], values[12] = msgspec.json.decode(row[4]), msgspec.json.decode(row[11]), bool(row[12])
    return TaskRow(*values)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
