"""An agent's file: its outbox, the ids it has handled, the nodes it met. The one module here that knows SQLite.

The file gathers changes (``put``, ``drop``, ``remember``, …) and writes all of one reactor turn in one transaction:
``commit`` at the end of the turn, before anything of that turn is offered or acknowledged. So what belongs together is
in one transaction by being done in one turn: a COMMAND's reply, and that the COMMAND is handled.

**What a commit is worth.** WAL with ``synchronous=NORMAL``: a commit is a ``write`` into the system's cache, some 60
µs, with no fsync, so it can be made in the reactor's thread. It survives the end of this process at any moment, by
kill -9 too; that is what the file is for. A power cut may cost the last seconds (the file itself stays whole). Then

* a message without a receipt is gone: its sender was never told that anybody has it;
* a handled message is delivered again if its ack had not reached the node; it runs a second time, as after any crash
  before the run was on record;
* no reply is lost: a COMMAND is acknowledged when its reply is on the *node's* disk, or after :meth:`AgentFile.sync`.

Checkpoints, which fsync, run in a thread: :data:`SYNC_AFTER_S` after a commit, and when ``sync`` is asked for. When the
disk fails or is full, the agent goes on as one without a file would, says so once, and the changes wait in memory.

One process at a time: a lock on ``agent.lock`` beside it (:mod:`trishula.runtime.file_lock`), which says which process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from trishula.contract.addresses import agent_of
from trishula.errors import StateBusy, StateUnusable
from trishula.messaging.deduplication import Remembered
from trishula.messaging.entries import SavedMessage
from trishula.runtime.file_lock import FileHeld, FileLock
from trishula.runtime.pending import Pending, rejected
from trishula.runtime.surroundings import Surroundings, Timer

__all__ = ["SCHEMA_DIRECTORY", "AgentFile", "Saved", "read_handled"]

_log = logging.getLogger("trishula")

_FILE_NAME = "agent.sqlite"
SCHEMA_DIRECTORY = Path(__file__).parent / "schema"
_STEP = re.compile(r"(\d{3})-[a-z0-9-]+\.sql\Z")

#: How much of the last moments a power cut may cost.
SYNC_AFTER_S = 5.0
#: After a failed write; each try costs the whole transaction.
_RETRY_S = 1.0
#: While we write without a pause, a checkpoint in a thread never catches up, and only one in this thread, which has
#: little left to do then, lets SQLite begin the log anew.
_WAL_LIMIT_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Saved:
    """What an earlier run left.

    Attributes:
        messages: the outbox, in the order of sending.
        handled: oldest first.
        nodes: URL → (epoch, position).
        bus: which bus it belongs to, if that was noted.
    """

    messages: list[SavedMessage]
    handled: list[Remembered]
    nodes: dict[str, tuple[str, int]]
    bus: str | None


class AgentFile:
    """See the module's docstring. Made by :meth:`open`; all methods belong to the reactor's thread.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: FileLock, around: Surroundings) -> None:
        self.path = path
        self._connection = connection
        self._lock = lock
        self._clock = around.clock
        self._in_thread = around.in_thread
        self._puts: dict[int, tuple[int, bytes, int | None]] = {}
        self._drops: list[tuple[int]] = []
        self._remembered: dict[tuple[str, str], Remembered] = {}
        self._forgotten: list[tuple[str, str]] = []
        self._others: list[tuple[str, tuple[Any, ...]]] = []
        self._retry_at_s: float | None = None
        self._timer: Timer | None = None
        self._syncing: Pending[None] | None = None
        self._closed = False

    @classmethod
    def open(cls, directory: Path, around: Surroundings) -> AgentFile:
        """Open, or make, the file in a directory of its own.

        Raises:
            StateBusy: another process uses it.
            StateUnusable: it is no file of an agent, damaged, or of a newer version.
            OSError: the directory or the file can't be made or written to, or not locked, as on Windows: an agent
                there remembers only as long as it lives.
        """
        # Each of them: a node may keep its state in the one above, and lets nobody look in there.
        for missing in reversed([one for one in (directory, *directory.parents) if not one.exists()]):
            missing.mkdir(mode=0o700, exist_ok=True)
        lock = _take_lock(directory)
        path = directory / _FILE_NAME
        try:
            # Made before SQLite does, for the mode; its log and index files get the same one.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            path.chmod(0o600)
            connection = _connect(path)
            try:
                _migrate(connection, path)
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.execute("PRAGMA wal_autocheckpoint=0")
            except sqlite3.Error as error:
                raise StateUnusable(
                    f"the agent's file {path} can't be used ({error}); if it is damaged, move it away: the agent then "
                    "begins without what it had not sent yet and without its memory of what it handled"
                ) from None
            except BaseException:
                connection.close()
                raise
        except BaseException:
            lock.release()
            raise
        return cls(path, connection, lock, around)

    def load(self) -> Saved:
        """What an earlier run left.

        Raises:
            StateUnusable: it can't be read.
        """
        read = self._connection.execute
        try:
            messages = [
                SavedMessage(number, blob, copies)
                for number, blob, copies in read("SELECT number, message, copies FROM outbox ORDER BY number")
            ]
            handled = read("SELECT sender, id, at, content FROM handled ORDER BY at").fetchall()
            nodes = {url: (epoch, position) for url, epoch, position in read("SELECT url, epoch, position FROM node")}
            bus = read("SELECT value FROM property WHERE key = 'bus'").fetchone()
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise StateUnusable(f"the agent's file {self.path} is damaged ({error}); move it away") from None
        return Saved(messages, handled, nodes, None if bus is None else bus[0])

    # -- changes -------------------------------------------------------------------------------------------------------

    @property
    def is_dirty(self) -> bool:
        """Whether there is something to commit."""
        return bool(self._puts or self._drops or self._remembered or self._forgotten or self._others)

    def put(self, number: int, message: bytes, copies: int | None) -> None:
        """A message is in the outbox."""
        self._puts[number] = (number, message, copies)

    def drop(self, number: int) -> None:
        """A message is settled."""
        if self._puts.pop(number, None) is None:
            self._drops.append((number,))

    def set_aside(self, message: bytes, reason: str) -> None:
        """A message can't be sent: it is kept in a table of its own, out of the outbox.

        The table is made when it is first needed and not by a migration: an earlier release, which somebody goes back
        to, refuses a file of a newer version.
        """
        self._others.append(("CREATE TABLE IF NOT EXISTS aside (message BLOB NOT NULL, reason TEXT NOT NULL)", ()))
        self._others.append(("INSERT INTO aside VALUES (?, ?)", (message, reason)))

    def remember(self, sender: str, message_id: str, at_ms: int, content: int | None = None) -> None:
        """A message of an agent is handled."""
        self._remembered[(sender, message_id)] = sender, message_id, at_ms, content

    def forget(self, sender: str, message_id: str) -> None:
        """A handled message is too old, or one too many."""
        self._remembered.pop((sender, message_id), None)
        self._forgotten.append((sender, message_id))

    def note_node(self, url: str, epoch: str, position: int) -> None:
        """We attached to a node."""
        self._others.append(("INSERT OR REPLACE INTO node VALUES (?, ?, ?)", (url, epoch, position)))

    def note_bus(self, bus: str) -> None:
        """Which bus the contents belong to."""
        self._others.append(("INSERT OR REPLACE INTO property VALUES ('bus', ?)", (bus,)))

    def commit(self) -> bool:
        """Write what was gathered; whether nothing is left to write."""
        if not self.is_dirty or self._closed:
            return True
        if self._retry_at_s is not None and self._clock.seconds() < self._retry_at_s:
            return False
        write = self._connection
        try:
            write.execute("BEGIN IMMEDIATE")
            if self._puts:
                write.executemany("INSERT OR REPLACE INTO outbox VALUES (?, ?, ?)", self._puts.values())
            if self._drops:
                write.executemany("DELETE FROM outbox WHERE number = ?", self._drops)
            if self._forgotten:
                write.executemany("DELETE FROM handled WHERE sender = ? AND id = ?", self._forgotten)
            if self._remembered:
                write.executemany("INSERT OR REPLACE INTO handled VALUES (?, ?, ?, ?)", self._remembered.values())
            for statement, values in self._others:
                write.execute(statement, values)
            write.execute("COMMIT")
        except sqlite3.Error as error:
            self._failed(error)
            return False
        for gathered in (self._puts, self._drops, self._remembered, self._forgotten, self._others):
            gathered.clear()
        if self._retry_at_s is not None:
            self._retry_at_s = None
            _log.warning("The agent's file %s can be written again, and is complete", self.path)
        if self._timer is None:
            self._timer = self._clock.callLater(SYNC_AFTER_S, self._sync_timer)
        return True

    def _failed(self, error: sqlite3.Error) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        if self._retry_at_s is None:
            _log.error(
                "The agent's file %s can't be written (%s): until it can, what is not sent yet and what is handled is "
                "remembered only as long as this process lives",
                self.path,
                error,
            )
        self._retry_at_s = self._clock.seconds() + _RETRY_S
        if self._timer is None:
            self._timer = self._clock.callLater(_RETRY_S, self._try_again)

    def _try_again(self) -> None:
        self._timer = None
        self.commit()

    # -- the disk ------------------------------------------------------------------------------------------------------

    def sync(self) -> Pending[None]:
        """Have everything that is committed now on disk; resolved when it is."""
        if self._closed or not self.commit():
            return rejected(StateUnusable(f"the agent's file {self.path} can't be written now"))
        running = self._syncing
        if running is None:
            return self._sync()
        # The one that runs may have begun before the last commit.
        after: Pending[None] = Pending()
        running.when_done(lambda _: self.sync().when_done(lambda pending: after.settle(pending.error)))
        return after

    def _sync(self) -> Pending[None]:
        synced: Pending[None] = Pending()
        self._syncing = synced
        path = self.path

        def done(pending: Pending[None]) -> None:
            self._syncing = None
            error = pending.error
            if error is not None:
                _log.warning("The agent's file %s can't be written to its disk: %s", path, error)
                synced.reject(error)
                return
            if not self._closed:
                self._shorten_log()
            synced.resolve(None)

        self._in_thread(lambda: _checkpoint(path)).when_done(done)
        return synced

    def _sync_timer(self) -> None:
        self._timer = None
        # Its failure was logged.
        self.sync().when_done(lambda pending: pending.error)

    def _shorten_log(self) -> None:
        try:
            if os.stat(f"{self.path}-wal").st_size > _WAL_LIMIT_BYTES:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except (OSError, sqlite3.Error) as error:
            _log.warning("The log of the agent's file %s can't be shortened: %s", self.path, error)

    async def close(self) -> None:
        """Write what is left, and let the file go."""
        if self._closed:
            return
        self._retry_at_s = None
        self.commit()
        self._closed = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._syncing is not None:
            with contextlib.suppress(Exception):
                await self._syncing
        with contextlib.suppress(sqlite3.Error):
            # The last one to close makes a checkpoint and removes the log.
            self._connection.close()
        self._lock.release()

    def vanish(self) -> None:
        """Let the file go as a killed process does: what was gathered and not committed is lost."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        self._lock.release()


def read_handled(directory: Path) -> frozenset[tuple[str, str]]:
    """What a process that has ended left on record as handled, (agent, id) each; nothing is changed there.

    Raises:
        StateUnusable: it can't be read.
    """
    path = directory / _FILE_NAME
    if not path.exists():
        return frozenset()
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                # It ended while it made the file.
                return frozenset()
            rows = connection.execute("SELECT sender, id FROM handled")
            return frozenset((agent_of(sender), message_id) for sender, message_id in rows)
    except sqlite3.Error as error:
        raise StateUnusable(f"the agent's file {path} can't be read ({error})") from None


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    # For macOS, whose fsync stops at the drive's cache; elsewhere it is the same.
    connection.execute("PRAGMA fullfsync = ON")
    return connection


def _checkpoint(path: Path) -> None:
    connection = _connect(path)
    try:
        # Nobody reads, so it goes through to the end as it was when it began.
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    finally:
        connection.close()


def _take_lock(directory: Path) -> FileLock:
    try:
        lock = FileLock(directory / "agent.lock")
    except FileHeld as held:
        holder = held.words.decode(errors="replace").strip() or "unknown"
        raise StateBusy(
            f"the agent's directory {directory} is in use by the process {holder}: only one at a time; stop it first, "
            "or name another directory with state= or TRISHULA_AGENT_STATE"
        ) from None
    try:
        lock.write(f"{os.getpid()}\n".encode())
    except OSError:
        # The disk is full: the file would take nothing either.
        lock.release()
        raise
    return lock


def _migrate(connection: sqlite3.Connection, path: Path, directory: Path = SCHEMA_DIRECTORY) -> None:
    """Bring the file to the newest schema; each step and its number are one transaction.

    Raises:
        StateUnusable: a newer program wrote it, or it is something else.
    """
    steps = {int(match[1]): step for step in directory.iterdir() if (match := _STEP.match(step.name))}
    newest = max(steps)
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > newest:
        raise StateUnusable(
            f"the agent's file {path} has schema version {version} and this program knows versions up to {newest}; "
            "start the agent with the TRISHULA that wrote it, or a newer one"
        )
    if version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise StateUnusable(f"{path} is a SQLite database but not an agent's file; name another directory")
    for step in range(version + 1, newest + 1):
        script = steps[step].read_text(encoding="utf-8")
        connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {step};\nCOMMIT;")
