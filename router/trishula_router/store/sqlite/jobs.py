"""The jobs that a writer runs, and what it needs beside its database to run them: :mod:`.writer`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

__all__ = ["LARGE_BYTES", "Ground", "Job", "Tail"]

#: A job that writes more is large: a full call of small messages is not.
LARGE_BYTES = 128 * 1024


class Tail(Protocol):
    """State in memory that follows the transaction: the chain's end."""

    def commit(self) -> None:
        """What was done since the last commit is durable."""

    def rollback(self) -> None:
        """What was done since the last commit never happened."""

    def reload(self, connection: sqlite3.Connection) -> None:
        """Nobody knows whether the last commit happened: read from the file what is so."""


class Ground(Protocol):
    """What the database stands on: its file, and the room for it."""

    @property
    def is_lost(self) -> bool:
        """Whether the file is not where it was, so that nothing can be written."""

    @property
    def group_bytes(self) -> int:
        """How many bytes of bodies jobs may write together in one transaction; a single job may write more."""

    def check(self) -> None:
        """Before each commit: raise ``StorageFailed`` if what is written would not be there after a restart."""

    def committed(self) -> None:
        """After each commit, before anybody is told of it."""

    def tend(self, connection: sqlite3.Connection, size_bytes: int) -> None:
        """After commits, when those who wait for them were told; ``size_bytes``: of the bodies that were written."""

    def close(self) -> None:
        """Before the connection is closed."""

    def make_room(self, connection: sqlite3.Connection, *, draws: bool) -> bool:
        """After a transaction that found no room; whether to try again. ``draws``: also from the reserve."""


class Job:
    """One job.

    Attributes:
        known: of how many failures in lines its submitter had been told when it was submitted.
        is_next: whether others have gone ahead of it once, and may not again.
    """

    __slots__ = ("done", "draws", "gathers", "is_next", "known", "line", "reads", "run", "size_bytes")

    def __init__(
        self,
        run: Callable[[sqlite3.Connection], Any],
        *,
        reads: bool,
        line: str | None,
        known: int,
        draws: bool,
        size_bytes: int,
        gathers: bool,
    ) -> None:
        self.run = run
        self.reads = reads
        self.line = line
        self.known = known
        self.draws = draws
        self.size_bytes = size_bytes
        self.gathers = gathers
        self.is_next = False
        self.done: Deferred[Any] = Deferred()
