"""The file in which a node keeps its figures: minutes and hours of what happened, beside the store and apart from it.

What users said to each other is in the store; how the service ran is the operators', and is in this file. A file that
can't be used is set aside, and the node begins a new one: figures are never worth a node that doesn't start. Writing is
done by a thread, because a disk may hang.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
from twisted.logger import Logger

from trishula_router.objectives.book import Page, SavedBook

__all__ = ["OBJECTIVES_FILE", "ObjectivesFile"]

log = Logger()

OBJECTIVES_FILE = "node.objectives.sqlite"
_DAMAGED = "node.objectives.damaged"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS bucket (span_ms INTEGER, at INTEGER, totals BLOB NOT NULL, PRIMARY KEY (span_ms, at))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
#: A node that stops doesn't wait longer for a disk that hangs.
_LAST_WRITE_S = 2.0
#: While a disk hangs, pages that nobody writes are not piled up.
_MOST_WAITING = 8


class ObjectivesFile:
    """See the module's docstring; a :class:`~trishula_router.objectives.book.BookFile`.

    Args:
        directory: the state directory.
        call_in_reactor: hands a function over to the reactor's thread.
    """

    def __init__(self, directory: Path, call_in_reactor: Callable[[Callable[[], None]], None]) -> None:
        self._file = directory / OBJECTIVES_FILE
        self._aside = directory / _DAMAGED
        self._call_in_reactor = call_in_reactor
        self._pages: queue.Queue[Page | None] = queue.Queue(_MOST_WAITING)
        self._fault: str | None = None
        self._thread = threading.Thread(target=self._work, name="objectives", daemon=True)
        self._thread.start()

    def read(self) -> SavedBook:
        """What was kept; of a file that can't be used: nothing, with a sentence in the log."""
        if not self._file.exists():
            return SavedBook()
        try:
            return self._read()
        except (sqlite3.Error, OSError, msgspec.MsgspecError, ValueError) as error:
            self.set_aside(str(error))
            return SavedBook()

    def _read(self) -> SavedBook:
        connection = _connect(self._file)
        try:
            rows = [
                (int(span_ms), int(at), bytes(totals))
                for span_ms, at, totals in connection.execute("SELECT span_ms, at, totals FROM bucket")
            ]
            notes = {str(name): str(value) for name, value in connection.execute("SELECT name, value FROM note")}
        finally:
            connection.close()
        return SavedBook(rows, notes)

    def set_aside(self, why: str) -> None:
        """What is in the file can't be used: the node begins a new one."""
        log.warn(
            "the node's figures in {file} can't be used ({why}); the file is {aside} now, and the node begins to count "
            "anew",
            file=str(self._file),
            why=why,
            aside=self._aside.name,
        )
        try:
            self._file.replace(self._aside)
        except OSError:
            # Then each write says why.
            return
        for suffix in ("-wal", "-shm", "-journal"):
            self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)

    def write(self, page: Page) -> None:
        """Have a page written by the thread."""
        try:
            self._pages.put_nowait(page)
        except queue.Full:
            self._say("its disk hangs")

    def close(self) -> None:
        """Wait for what is to be written, but not for ever."""
        try:
            self._pages.put(None, timeout=_LAST_WRITE_S)
        except queue.Full:
            return
        self._thread.join(_LAST_WRITE_S)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (page := self._pages.get()) is not None:
            try:
                self._write(page)
            except (sqlite3.Error, OSError) as error:
                self._say(str(error))
            else:
                self._fault = None

    def _write(self, page: Page) -> None:
        # Anew each minute: whoever deletes the file while the node runs has it made again.
        connection = _connect(self._file)
        try:
            with connection:
                connection.executemany("INSERT OR REPLACE INTO bucket VALUES (?, ?, ?)", page.rows)
                connection.executemany("INSERT OR REPLACE INTO note VALUES (?, ?)", page.notes.items())
                oldest = [(span_ms, at) for span_ms, at in page.oldest.items()]
                connection.executemany("DELETE FROM bucket WHERE span_ms = ? AND at < ?", oldest)
        finally:
            connection.close()

    def _say(self, fault: str) -> None:
        # Once for a fault that lasts.
        if fault != self._fault:
            self._fault = fault
            file = str(self._file)
            self._call_in_reactor(
                lambda: log.warn("the node's figures can't be kept in {file}: {fault}", file=file, fault=fault)
            )


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file)
    try:
        connection.execute("PRAGMA busy_timeout = 2000")
        connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection
