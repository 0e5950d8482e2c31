"""The one thread that writes: it runs all jobs that wait in one transaction, so that they share one fsync.

A *job* is a function of the database connection. Jobs run in the order of their submission; a job that fails is undone
alone and its submitter is told, the others are kept: after a failed group each of its jobs is tried in a transaction of
its own. A job that has *patience* waits so long for another one that hasn't, and rides with it.

Threads rather than a process of its own: SQLite lets go of the interpreter lock while it writes and syncs, and a second
process would cost a copy of every body.
"""

from __future__ import annotations

import math
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from trishula.errors import StorageFailed, StorageFull

__all__ = ["NOTE_PATIENCE_S", "SETTLE_PATIENCE_S", "Tail", "Writer", "storage_error"]

T = TypeVar("T")

#: For records that nobody waits for and that change no message's state: long enough for the ack of a live agent to
#: arrive and take the record of its delivery along, short enough that the journal tells of it while one still looks.
NOTE_PATIENCE_S = 0.05

#: For acks: their place in the window is free already, so the next message doesn't wait for them. At a few hundred
#: messages a second each ack rides with the next send, and the disk syncs half as often.
SETTLE_PATIENCE_S = 0.005

#: Jobs a transaction; bounds how long the first of them waits for the last.
GROUP_LIMIT = 256


class Tail(Protocol):
    """State in memory that follows the transaction: the chain's end."""

    def commit(self) -> None:
        """What was done since the last commit is durable."""

    def rollback(self) -> None:
        """What was done since the last commit never happened."""


def storage_error(error: sqlite3.Error) -> StorageFull | StorageFailed:
    """What SQLite says, as what a sender is told."""
    if "full" in str(error):
        return StorageFull(
            "the node's store is full, so it accepted nothing; free disk space on the node or raise limits.store",
            retry_after_s=5.0,
        )
    return StorageFailed(f"the node can't use its store ({error}); see the node's log", retry_after_s=5.0)


class _Job:
    __slots__ = ("done", "run")

    def __init__(self, run: Callable[[sqlite3.Connection], Any]) -> None:
        self.run = run
        self.done: Deferred[Any] = Deferred()


class Writer:
    """Runs jobs on a thread of its own.

    Args:
        connection: used by this thread alone from now on.
        tail: rolled back together with the transaction.
        call_in_reactor: hands a function over to the reactor's thread.
        begin: the statement that opens a transaction; a thread that only reads must not take SQLite's write lock.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        tail: Tail,
        call_in_reactor: Callable[[Callable[[], None]], None],
        *,
        begin: str = "BEGIN IMMEDIATE",
    ) -> None:
        self._begin = begin
        self._connection = connection
        self._tail = tail
        self._call_in_reactor = call_in_reactor
        self._jobs: deque[_Job] = deque()
        #: Of the most impatient of the jobs that wait.
        self._patience_s = math.inf
        self._closing = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, run: Callable[[sqlite3.Connection], T], *, patience_s: float = 0.0) -> Deferred[T]:
        """Have a job run; the Deferred fires in the reactor's thread once it is durable.

        Args:
            run: the job.
            patience_s: how long it may wait for another job to share a transaction with.
        """
        job = _Job(run)
        with self._wake:
            if self._closing:
                raise StorageFailed("the node's store is closed; the node is stopping")
            self._jobs.append(job)
            if patience_s < self._patience_s:
                self._patience_s = patience_s
                self._wake.notify()
        return job.done

    def close(self) -> Deferred[None]:
        """Run what waits, close the connection, end the thread."""
        closed = self.submit(lambda connection: None)
        with self._wake:
            self._closing = True
            self._wake.notify()
        return closed.addCallback(lambda _: self._thread.join())

    def interrupt(self) -> None:
        """End the statement that runs now, if one does; its job fails."""
        self._connection.interrupt()

    def _next_group(self) -> list[_Job] | None:
        with self._wake:
            while not self._closing and self._patience_s > 0:
                was_told = self._wake.wait(None if self._patience_s == math.inf else self._patience_s)
                if not was_told:
                    break
            if not self._jobs:
                return None
            group = [self._jobs.popleft() for _ in range(min(len(self._jobs), GROUP_LIMIT))]
            self._patience_s = 0.0 if self._jobs else math.inf
            return group

    def _work(self) -> None:
        while (group := self._next_group()) is not None:
            outcomes = self._transact(group)
            if isinstance(outcomes, Failure) and len(group) > 1:
                outcomes = [alone[0] if isinstance(alone := self._transact([job]), list) else alone for job in group]
            elif isinstance(outcomes, Failure):
                outcomes = [outcomes]
            self._call_in_reactor(lambda jobs=group, results=outcomes: _answer(jobs, results))  # type: ignore[misc]
        self._connection.close()

    def _transact(self, group: list[_Job]) -> list[Any] | Failure:
        try:
            self._connection.execute(self._begin)
            results = [job.run(self._connection) for job in group]
            self._connection.execute("COMMIT")
            self._tail.commit()
        except Exception as error:  # whatever a job raises belongs to its submitter, not to this thread
            self._tail.rollback()
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            return Failure(storage_error(error)) if isinstance(error, sqlite3.Error) else Failure(error)  # type: ignore[no-untyped-call]
        return results


def _answer(jobs: list[_Job], results: list[Any]) -> None:
    for job, result in zip(jobs, results, strict=True):
        job.done.callback(result)
