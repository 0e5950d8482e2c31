"""A thread that works on a database: it runs all jobs that wait in one transaction, so that they share one fsync.

A *job* is a function of the database connection. Jobs run in the order of their submission; a job that fails is undone
alone and its submitter is told, the others are kept: after a failed group each of its jobs is tried in a transaction of
its own. A job that has *patience* waits so long for another one that hasn't, and rides with it. A job that only *reads*
is not undone with others: SQLite commits no transaction that met a damaged page, so after a failure such a job runs
outside of any, and reads around the damage.

What a failing disk leads to: when COMMIT fails (the disk is full, or an fsync failed), nothing of the group is answered
as done. Whether it is done is then an open question: its pages may be in the write-ahead log, and after an fsync that
failed nobody knows what a power cut would leave of them. Three things make every answer to that question harmless:

* The chain's end in memory goes back to the last commit that succeeded, and is read from the file anew before the next
  transaction (:meth:`Tail.reload`): what the next record is chained to is what is really there.
* SQLite goes on from the last good commit too, so the next transaction is written over the frames of the failed one,
  and they are new writes to the disk: a later fsync that succeeds stands for bytes that were written after the failure,
  never for those that the kernel gave up on.
* Should a crash bring a refused send to light all the same, it is under its key, (sender, id): its sender, who was told
  to try again, gets the receipt of a repeat, and its recipient gets it once.

Jobs of a group whose disk failed are not tried one by one: each would only meet the same disk.

Jobs may stand in a *line*, as the sends of one agent do: after one of a line failed, those behind it fail with it,
until its submitter was told. Else a send that found room again would overtake the one before it that found none, before
anybody who minds their order knows of that.

A job that writes much is *large*, and has a transaction of its own: who sends little doesn't wait until ten others have
sent a megabyte each. What is small, and stands in a line, goes ahead of the large ones of other lines that wait at the
end, past each of them for one transaction at most: of two agents' sends nobody knows which came first. It passes
nothing else: who reads what is there, or changes it, counts on all that was submitted before.

The thread is woken once a turn of the reactor. What the reactor reads in one turn, often the sends of several agents,
is one transaction then; and the thread doesn't ask for the interpreter while the reactor is still busy with the rest.

Threads rather than a process of its own: SQLite lets go of the interpreter lock while it writes and syncs, and a second
process would cost a copy of every body.
"""

from __future__ import annotations

import math
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from trishula.errors import StorageFailed, StorageFull
from trishula_router.store.sqlite.faults import log_fault, storage_error
from trishula_router.store.sqlite.gathered_rows import Rows
from trishula_router.store.sqlite.jobs import LARGE_BYTES, Ground, Job, Tail

__all__ = ["NOTE_PATIENCE_S", "SETTLE_PATIENCE_S", "Writer", "at_once"]

T = TypeVar("T")

#: For records that nobody waits for and that change no message's state: long enough for the ack of a live agent to
#: arrive and take the record of its delivery along, short enough that the journal tells of it while one still looks.
NOTE_PATIENCE_S = 0.05

#: For acks: their place in the window is free already, so the next message doesn't wait for them. At a few hundred
#: messages a second each ack rides with the next send, and the disk syncs half as often.
SETTLE_PATIENCE_S = 0.005

#: Jobs a transaction; bounds how long the first of them waits for the last.
GROUP_LIMIT = 256
#: How often room is made for a job that may draw on the reserve.
_ROOM_ATTEMPTS = 3


def _lacks_room(error: Exception) -> bool:
    return isinstance(error, sqlite3.Error) and isinstance(storage_error(error), StorageFull)


def _is_disk_fault(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR


def at_once(work: Callable[[], None]) -> None:
    """Where there is no reactor, each of its turns is over at once."""
    work()


class Writer:
    """Runs jobs on a thread of its own.

    Args:
        connection: used by this thread alone from now on.
        tail: rolled back together with the transaction; ``None`` for a thread that only reads: it takes no write lock,
            and there is nothing to commit.
        call_in_reactor: hands a function over to the reactor's thread.
        ground: what a thread that writes sees to between its transactions.
        rows: what jobs leave to be inserted together.
        on_fault: told in the reactor's thread why the file fails now (``None``: it works again), and why it did before.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        tail: Tail | None,
        call_in_reactor: Callable[[Callable[[], None]], None],
        ground: Ground | None = None,
        on_fault: Callable[[str | None, str | None], None] | None = None,
        rows: Rows | None = None,
        at_turns_end: Callable[[Callable[[], None]], object] = at_once,
    ) -> None:
        self._at_turns_end = at_turns_end
        # Of the most impatient of the jobs that were submitted in this turn of the reactor.
        self._waking_s = math.inf
        self._rows = rows or Rows()
        self._on_fault = on_fault or log_fault
        self._connection = connection
        self._tail = tail
        self._ground = ground
        self._call_in_reactor = call_in_reactor
        self._jobs: deque[Job] = deque()
        #: Of the most impatient of the jobs that wait.
        self._patience_s = math.inf
        self._closing = False
        self._tail_is_known = True
        # Of the bodies of transactions after which the ground was not seen to; None: there was none.
        self._untended_bytes: int | None = None
        self._fault: str | None = None
        # By line, of the job that failed last: its number among all that failed in lines, and why. The writer's thread
        # counts, and the reactor's knows up to which number it was told.
        self._failed: dict[str, tuple[int, Exception]] = {}
        self._failures = 0
        self._told = 0
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    def submit(
        self,
        run: Callable[[sqlite3.Connection], T],
        *,
        patience_s: float = 0.0,
        reads: bool = False,
        line: str | None = None,
        draws: bool = True,
        size_bytes: int = 0,
        gathers: bool = False,
    ) -> Deferred[T]:
        """Have a job run; the Deferred fires in the reactor's thread once it is durable.

        Args:
            run: the job.
            patience_s: how long it may wait for another job to share a transaction with.
            reads: whether it writes nothing.
            line: in which line it stands.
            draws: whether it may use what is kept back for acks when the disk is full.
            size_bytes: how much it writes, roughly, if that may be much.
            gathers: whether it leaves rows to be inserted together, and looks for its own among those that are left.
        """
        reads = reads or self._tail is None
        job = Job(run, reads=reads, line=line, known=self._told, draws=draws, size_bytes=size_bytes, gathers=gathers)
        with self._wake:
            if self._closing:
                raise StorageFailed("the node's store is closed; the node is stopping")
            self._jobs.insert(self._place_of(job), job)
        if self._waking_s == math.inf:
            self._waking_s = patience_s
            self._at_turns_end(self._wake_up)
        elif patience_s < self._waking_s:
            self._waking_s = patience_s
        return job.done

    def _wake_up(self) -> None:
        """Have what was submitted in this turn done: together, and by a thread that the reactor leaves in peace."""
        patience_s, self._waking_s = self._waking_s, math.inf
        with self._wake:
            # The thread may have taken them by now.
            if self._jobs and patience_s < self._patience_s:
                self._patience_s = patience_s
                self._wake.notify()

    def _place_of(self, job: Job) -> int:
        """Where a job is to stand among those that wait."""
        place = len(self._jobs)
        if job.line is None or job.size_bytes > LARGE_BYTES:
            return place
        while place:
            before = self._jobs[place - 1]
            if before.line in (None, job.line) or before.size_bytes <= LARGE_BYTES or before.is_next:
                break
            place -= 1
        return place

    def close(self) -> Deferred[None]:
        """Run what waits, close the connection, end the thread."""
        closed = self.submit(lambda connection: None, reads=True)
        with self._wake:
            self._closing = True
            self._wake.notify()
        return closed.addCallback(lambda _: self._thread.join())

    def interrupt(self) -> None:
        """End the statement that runs now, if one does; its job fails."""
        self._connection.interrupt()

    def _next_group(self) -> list[Job] | None:
        with self._wake:
            while not self._closing and self._patience_s > 0:
                was_told = self._wake.wait(None if self._patience_s == math.inf else self._patience_s)
                if not was_told:
                    break
            if not self._jobs:
                return None
            group = [self._jobs.popleft()]
            size_bytes = group[0].size_bytes
            while self._jobs and len(group) < GROUP_LIMIT:
                job = self._jobs[0]
                size_bytes += job.size_bytes
                if self._ground is not None and size_bytes > self._ground.group_bytes:
                    break
                if job.line is not None and max(job.size_bytes, group[0].size_bytes) > LARGE_BYTES:
                    break
                group.append(self._jobs.popleft())
            if self._jobs:
                # Whatever ended this transaction: a large send has been passed by it, and is by no other one.
                self._jobs[0].is_next = True
            self._patience_s = 0.0 if self._jobs else math.inf
            return group

    def _work(self) -> None:
        while (group := self._next_group()) is not None:
            self._call_in_reactor(partial(self._answer, group, self._run(group), self._failures))
            self._tend()
        if self._ground is not None:
            self._ground.close()
        self._connection.close()

    def _tend(self) -> None:
        """See to the ground, which may take an fsync or two: who waits for what is committed doesn't wait for that."""
        size_bytes, self._untended_bytes = self._untended_bytes, None
        if self._ground is not None and size_bytes is not None:
            self._ground.tend(self._connection, size_bytes)

    def _answer(self, jobs: list[Job], results: list[Any], failures: int) -> None:
        for job, result in zip(jobs, results, strict=True):
            job.done.callback(result)
        self._told = failures

    def _run(self, group: list[Job]) -> list[Any]:
        """The outcome of each job: what it returned, or the Failure that its submitter is told."""
        if not self._failed:
            return self._try(group)
        behind = {job: failure for job in group if (failure := self._behind_a_failure(job)) is not None}
        others = [job for job in group if job not in behind]
        outcomes = {**behind, **dict(zip(others, self._try(others) if others else [], strict=True))}
        return [outcomes[job] for job in group]

    def _behind_a_failure(self, job: Job) -> Failure | None:
        number, error = self._failed.get(job.line or "", (0, None))
        if error is None:
            return None
        if job.known >= number:
            # So do all that come after it.
            del self._failed[job.line or ""]
            return None
        return self._fail(job, _for_those_behind(error))

    def _fail(self, job: Job, error: Exception) -> Failure:
        if job.line is not None:
            self._failures += 1
            self._failed[job.line] = self._failures, error
        return _failure(error)

    def _try(self, group: list[Job]) -> list[Any]:
        try:
            outcomes = self._transact(group)
        except Exception as error:  # whatever a job raises belongs to its submitter, not to this thread
            self._note_fault(error)
            if _is_disk_fault(error) or (self._ground is not None and self._ground.is_lost):
                return [self._alone(job) if job.reads else self._fail(job, error) for job in group]
            lacks_room = _lacks_room(error)
            has_room = lacks_room and self._make_room(draws=False)
            if len(group) == 1 and not group[0].reads and not has_room and not (lacks_room and group[0].draws):
                return [self._fail(group[0], error)]
            return [self._alone(job) for job in group]
        if self._tail is not None and any(not job.reads for job in group):
            self._note_fault(None)
        return outcomes

    def _alone(self, job: Job) -> Any:
        # Of the same group one before it may have failed by now.
        failure = self._behind_a_failure(job)
        if failure is not None:
            return failure
        attempts = _ROOM_ATTEMPTS if job.draws else 0
        while True:
            try:
                return job.run(self._connection) if job.reads else self._transact([job])[0]
            except Exception as error:
                if not (attempts and _lacks_room(error) and self._make_room(draws=True)):
                    return self._fail(job, error)
            attempts -= 1

    def _make_room(self, *, draws: bool) -> bool:
        return self._ground is not None and self._ground.make_room(self._connection, draws=draws)

    def _transact(self, group: list[Job]) -> list[Any]:
        committing = False
        try:
            if self._tail is None:
                self._connection.execute("BEGIN")
            else:
                if not self._tail_is_known:
                    self._tail.reload(self._connection)
                    self._tail_is_known = True
                self._connection.execute("BEGIN IMMEDIATE")
            results = [self._run_one(job) for job in group]
            self._rows.write(self._connection)
            if self._ground is not None and any(not job.reads for job in group):
                self._ground.check()
            committing = self._tail is not None
            self._connection.execute("COMMIT" if committing else "ROLLBACK")
        except Exception:
            self._rows.drop()
            if self._tail is not None:
                self._tail.rollback()
                self._tail_is_known = self._tail_is_known and not committing
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        if self._tail is not None:
            self._tail.commit()
        if self._ground is not None:
            self._ground.committed()
            self._untended_bytes = (self._untended_bytes or 0) + sum(job.size_bytes for job in group)
        return results

    def _run_one(self, job: Job) -> Any:
        if not job.gathers:
            self._rows.write(self._connection)
        return job.run(self._connection)

    def _note_fault(self, error: Exception | None) -> None:
        """Tell when the file begins to fail and when it works again, not each of a thousand refusals between."""
        text = None if error is None or not isinstance(error, sqlite3.Error) else str(error)
        if text == self._fault or (error is not None and text is None):
            return
        before, self._fault = self._fault, text
        self._call_in_reactor(lambda: self._on_fault(text, before))


def _failure(error: Exception) -> Failure:
    return Failure(storage_error(error) if isinstance(error, sqlite3.Error) else error)  # type: ignore[no-untyped-call]


def _for_those_behind(error: Exception) -> StorageFull | StorageFailed:
    if isinstance(error, sqlite3.Error):
        return storage_error(error)
    if isinstance(error, StorageFull | StorageFailed):
        return error
    return StorageFailed(
        "a send before this one failed, and this one must not overtake it; nothing of it was accepted, try again",
        retry_after_s=5.0,
    )
