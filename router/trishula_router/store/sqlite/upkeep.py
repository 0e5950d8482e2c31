"""Upkeep: what the writer sees to between transactions, so that there is ground for the next one.

* The write-ahead log stays as long as :mod:`.space` allows. It is moved into the file as :mod:`.checkpoints` says, but
  neither while somebody reads nor when the disk has no room for what the file grows by; then the log grows.
* When a verb found no room, the log gives back what it took, and for verbs that may draw on the reserve so does the
  ballast.
* The file is where it was. A file that was deleted or moved is still open: SQLite writes and syncs on, and all of it is
  gone with the process. So before each commit the file and its log are looked for under their names (two calls, 3 µs),
  and where they are not what was opened, nothing is accepted: :class:`Whereabouts`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from trishula.errors import StorageFailed
from trishula_router.store.commits import Commits
from trishula_router.store.sqlite.ballast import BITE_BYTES
from trishula_router.store.sqlite.checkpoints import Checkpoints
from trishula_router.store.sqlite.space import Space

__all__ = ["Upkeep", "Whereabouts"]

#: How long a checkpoint waits for readers that are in its way, and how often one that waits is tried.
_READERS_PATIENCE_MS = 50
_LONG_LOG_PERIOD_S = 5.0


class Whereabouts:
    """Whether the store's files are still those that were opened.

    Args:
        file: the store's; open, and written to.
        say: takes sentences for the node's log, with whether it is bad news.
    """

    def __init__(self, file: Path, say: Callable[[str, bool], None]) -> None:
        self._names = [os.fspath(file), os.fspath(file) + "-wal"]
        self._known = [_identity(name) for name in self._names]
        self._say = say
        #: What is wrong, as a sentence for the operator.
        self.fault: str | None = None

    def check(self) -> None:
        """See whether all is in place.

        Raises:
            StorageFailed: it is not.
        """
        for name, known in zip(self._names, self._known, strict=True):
            found = _identity(name)
            if found != known:
                self._lost(name, found is None)
        if self.fault is not None:
            self.fault = None
            self._say("the store's file is in its place again, the node goes on with it", False)

    def _lost(self, name: str, is_gone: bool) -> None:
        what = "was deleted or moved away" if is_gone else "was replaced by another file"
        if self.fault is None:
            self.fault = (
                f"{name} {what} while the node uses it, so nothing is accepted: it would be gone when the node ends; "
                "move it back to where it was, or stop the node and put a backup in place with: trishula node restore "
                "FILE"
            )
            self._say(self.fault, True)
        raise StorageFailed(
            f"the node's store {what} while the node runs, so it accepted nothing; see the node's log",
            retry_after_s=5.0,
        )


def _identity(name: str) -> tuple[int, int] | None:
    try:
        found = os.stat(name)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Upkeep:
    """Implements :class:`trishula_router.store.sqlite.jobs.Ground`; used by the writer's thread.

    Args:
        file: the store's.
        space: its room.
        whereabouts: of its files.
        seconds: a clock.
        commits: takes how long each commit took.
        checkpoints: moves the log.
    """

    def __init__(
        self,
        file: Path,
        space: Space,
        whereabouts: Whereabouts,
        seconds: Callable[[], float],
        commits: Commits,
        checkpoints: Checkpoints,
    ) -> None:
        self._log = Path(f"{file}-wal")
        self._space = space
        self._whereabouts = whereabouts
        self._seconds = seconds
        self._next_try_s = 0.0
        self._checked_s: float | None = None
        self._has_written = False
        self._commits = commits
        self._checkpoints = checkpoints

    @property
    def is_lost(self) -> bool:
        """Whether the store's file is not where it was."""
        return self._whereabouts.fault is not None

    @property
    def group_bytes(self) -> int:
        """How many bytes of bodies one transaction takes: the log has all of it before any of it is in the file."""
        return self._space.log_most_bytes // 2

    def check(self) -> None:
        """See :meth:`Whereabouts.check`; the commit comes next."""
        self._checked_s = None
        self._whereabouts.check()
        self._checked_s = self._seconds()

    def committed(self) -> None:
        """Count the commit that was."""
        if self._checked_s is not None:
            # Without it the transaction only read, and nothing was synced.
            self._commits.times.observe(self._seconds() - self._checked_s)
            self._checked_s = None
            self._has_written = True

    def tend(self, connection: sqlite3.Connection, size_bytes: int) -> None:
        """Move the log, and shorten one that readers have kept from being begun anew."""
        if self._has_written:
            self._has_written = False
            self._checkpoints.wrote(connection, size_bytes)
        if self._log_size() <= self._space.log_most_bytes or self._seconds() < self._next_try_s:
            return
        self._next_try_s = self._seconds() + _LONG_LOG_PERIOD_S
        self._empty_log(connection)

    def make_room(self, connection: sqlite3.Connection, *, draws: bool) -> bool:
        """Find room for what found none.

        Args:
            connection: the writer's, outside of a transaction.
            draws: whether that may draw on the reserve.

        Returns:
            whether there is more than before.
        """
        before = self._log_size()
        has_given_up = draws and self._space.is_disk_short() and self._space.ballast.give_up(before + BITE_BYTES)
        if before:
            self._empty_log(connection)
        return has_given_up or self._log_size() < before

    def close(self) -> None:
        """End what runs beside the writer."""
        self._checkpoints.close()

    def _empty_log(self, connection: sqlite3.Connection) -> None:
        try:
            patience_ms = connection.execute("PRAGMA busy_timeout").fetchone()[0]
            connection.execute(f"PRAGMA busy_timeout = {_READERS_PATIENCE_MS}")
            try:
                with self._checkpoints.excluded():
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                connection.execute(f"PRAGMA busy_timeout = {patience_ms}")
        except sqlite3.Error:
            # A disk that takes nothing is met by the next transaction too, which says so.
            return

    def _log_size(self) -> int:
        try:
            return self._log.stat().st_size
        except OSError:
            return 0
