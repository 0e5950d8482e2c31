"""Checkpoints: the write-ahead log is moved into the file in small steps, beside the writer instead of in its way.

SQLite does it in one go, in the transaction that made the log long: up to 16 MiB are written and synced while all that
is sent waits, once a second at 300 messages a second. Here a thread of its own copies what has come, whenever some
:attr:`Plan.step_pages` of it have, and the writer goes on; what is left when the log is as long as it may be is little,
and is copied by the writer itself between two transactions, because only then nothing follows it, so that the log can
begin anew.

**Two connections, and SQLite's race.** Up to 3.51.2 SQLite can lose pages when a checkpoint *starts* while another
connection begins a log anew of which all is copied (https://www.sqlite.org/wal.html#walresetbug). So none of ours
starts then: after a checkpoint that left nothing, the next one waits for a commit, which begins the log anew, and from
then on nobody begins it anew before a checkpoint has ended again. SQLite itself says that there was a commit (``PRAGMA
data_version``), checkpoints of this process exclude each other, SQLite makes none unasked, and no other process writes
(:mod:`.holding`).

What a checkpoint can't do, because of a reader or a full disk, the next one does: a disk that takes nothing is met by
the writer too, which says so.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Checkpoints", "Plan"]

#: A log that may be long is moved in so many steps, of so many bytes at least.
_STEPS, _LEAST_STEP_BYTES = 8, 256 * 1024
#: A log that is so many times as long as it may be, because the steps don't keep up, is the writer's own to move.
_TOO_LONG = 2
#: What a commit writes besides its rows, in pages; and how many rows it has on each of the others.
_COMMIT_PAGES, _ROWS_A_PAGE = 8, 2


@dataclass(slots=True)
class Plan:
    """When the log is moved. Policy: no I/O; lengths are in pages.

    Attributes:
        bound_pages: how long the log may be.
        page_bytes: how large a page is.
        new_pages: what has come since the last step, roughly.
        log_pages: how long the log was when that began.
        must_finish: whether the writer has to copy what a step left, so that the log begins anew.
    """

    bound_pages: int
    page_bytes: int
    new_pages: int = 0
    log_pages: int = 0
    must_finish: bool = False

    @property
    def step_pages(self) -> int:
        """How much has to come for a step to be worth its two fsyncs."""
        least = _LEAST_STEP_BYTES // self.page_bytes
        return max(1, min(self.bound_pages, max(least, self.bound_pages // _STEPS)))

    def wrote(self, rows: int, size_bytes: int) -> None:
        """A transaction is committed: so many rows of it changed, with bodies of so many bytes."""
        self.new_pages += _COMMIT_PAGES + rows // _ROWS_A_PAGE + size_bytes // self.page_bytes

    @property
    def is_step_due(self) -> bool:
        """Whether there is enough for a step."""
        return self.new_pages >= self.step_pages

    @property
    def is_too_long(self) -> bool:
        """Whether the log can't wait for a step any more."""
        return self.log_pages + self.new_pages >= _TOO_LONG * self.bound_pages

    def begins(self) -> None:
        """A checkpoint begins; what comes from now on is for the next one."""
        self.log_pages += self.new_pages
        self.new_pages = 0
        self.must_finish = False

    def ended(self, log_pages: int, copied_pages: int, *, by_writer: bool) -> None:
        """It is over: how long the log was as it began, and how much of that is in the file now."""
        # If all of it is, the next commit begins it anew; beside a step there may have been one already.
        self.log_pages = 0 if by_writer and copied_pages >= log_pages else log_pages
        # Not again after one of the writer: what a reader keeps it from has to wait for that reader.
        self.must_finish = not by_writer and log_pages >= self.bound_pages


class Checkpoints:
    """Moves the log of one store. :meth:`wrote`, :meth:`excluded` and :meth:`close` are the writer's thread's.

    Args:
        connection: used by its thread alone from now on. Not made when it is needed: by then the file may have been
            moved away, and SQLite would make another one.
        plan: when the log is moved.
    """

    def __init__(self, connection: sqlite3.Connection, plan: Plan) -> None:
        self._connection = connection
        self._plan = plan
        self._rows = 0
        # Held while a checkpoint runs; and while somebody looks at the plan, or changes it.
        self._running = threading.Lock()
        self._wake = threading.Condition()
        self._is_closing = False
        # Of the thread's connection: SQLite's number of what was committed when nothing was left to copy.
        self._copied_version: int | None = None
        self._is_version_stale = True
        self._thread: threading.Thread | None = None

    def take_over(self, connection: sqlite3.Connection) -> None:
        """Have SQLite make no checkpoints by itself; the connection is the writer's."""
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        self._rows = connection.total_changes

    def wrote(self, connection: sqlite3.Connection, size_bytes: int) -> None:
        """A transaction is committed that wrote, perhaps; its bodies have so many bytes."""
        rows, self._rows = connection.total_changes - self._rows, connection.total_changes
        with self._wake:
            # A step that gives pages back changes no row.
            if rows or size_bytes:
                self._plan.wrote(rows, size_bytes)
            is_mine = self._plan.must_finish or self._plan.is_too_long
            if not is_mine and self._plan.is_step_due:
                self._start_thread()
                self._wake.notify()
        if is_mine and self._running.acquire(blocking=self._plan.is_too_long):
            self._is_version_stale = True
            try:
                self._checkpoint(connection, by_writer=True)
            except sqlite3.Error:
                # Met by the next transaction too, which says so.
                return
            finally:
                self._running.release()

    @property
    def is_behind(self) -> bool:
        """Whether the log is too long although the writer has tried to move it: somebody reads, or the disk is full."""
        with self._wake:
            return self._plan.is_too_long and not self._plan.must_finish

    @contextmanager
    def excluded(self) -> Iterator[None]:
        """No checkpoint but the caller's own runs meanwhile."""
        with self._running:
            self._is_version_stale = True
            yield

    def close(self) -> None:
        """End the thread."""
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
        self._connection.close()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _start_thread(self) -> None:
        # Most stores that are opened are looked at, and closed again.
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="store-checkpoints", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while self._next_step():
            with self._running:
                self._step()

    def _next_step(self) -> bool:
        with self._wake:
            while not self._is_closing and not self._plan.is_step_due:
                self._wake.wait()
            return not self._is_closing

    def _step(self) -> None:
        try:
            version = _version(self._connection)
            if self._is_version_stale:
                self._copied_version, self._is_version_stale = version, False
            if version == self._copied_version:
                # Perhaps nothing was committed since all was copied: see above. The next commit is soon enough.
                with self._wake:
                    self._plan.begins()
                return
            is_copied = self._checkpoint(self._connection, by_writer=False)
            self._copied_version = _version(self._connection) if is_copied else None
        except sqlite3.Error:
            self._is_version_stale = True
            # Perhaps before the checkpoint began: the step would stay due, and be tried again without a pause.
            with self._wake:
                self._plan.begins()

    def _checkpoint(self, connection: sqlite3.Connection, *, by_writer: bool) -> bool:
        """Copy what can be copied; whether that is all there was."""
        with self._wake:
            self._plan.begins()
        _, log_pages, copied_pages = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        with self._wake:
            self._plan.ended(log_pages, copied_pages, by_writer=by_writer)
        return bool(copied_pages >= log_pages)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA data_version").fetchone()[0])
