"""Stores under test, without a reactor: a queue in its place, and a store that answers only when a test says so."""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from trishula_router.store.bases import Base, Dropped, Shared
from trishula_router.store.commits import Commits
from trishula_router.store.facts import ArchivedFacts, Attempts, Facts
from trishula_router.store.interface import Condition, Copied, Forgotten, History, Store, Verification
from trishula_router.store.journal import Kind, Record
from trishula_router.store.messages import Accepted, DeadLetter, Draft, MailboxSize, Return, State, StoredMessage
from trishula_router.store.runs import Extract, Origin
from trishula_router.store.sqlite.opening import open_store
from trishula_router.store.sqlite.store import SqliteStore
from trishula_router.store.zones import Zones

__all__ = ["HeldStore", "ReactorQueue", "open_sqlite", "result_of"]

T = TypeVar("T")

GIB = 1024**3


def result_of(deferred: Deferred[T]) -> T:
    """What a Deferred fired with, or its error raised; it must have fired."""
    box: list[Any] = []
    deferred.addBoth(box.append)
    assert box, "the Deferred has not fired yet"
    if isinstance(box[0], Failure):
        box[0].raiseException()
    found: T = box[0]
    return found


class ReactorQueue:
    """Stands in for the reactor's thread: what other threads hand over runs while a test waits."""

    def __init__(self) -> None:
        self._calls: queue.Queue[Callable[[], None]] = queue.Queue()

    def call(self, function: Callable[[], None]) -> None:
        """As ``reactor.callFromThread``."""
        self._calls.put(function)

    def wait(self, deferred: Deferred[T], timeout_s: float = 20.0) -> T:
        """Run what is handed over until the Deferred has fired; its result, or its error raised."""
        box: list[Any] = []
        deferred.addBoth(box.append)
        deadline = time.monotonic() + timeout_s
        while not box:
            self._calls.get(timeout=max(0.001, deadline - time.monotonic()))()
        if isinstance(box[0], Failure):
            box[0].raiseException()
        found: T = box[0]
        return found

    def drain(self) -> None:
        """Run what was handed over so far."""
        while not self._calls.empty():
            self._calls.get()()


def open_sqlite(
    directory: Path,
    calls: ReactorQueue,
    *,
    epoch: str = "epoch-1",
    limit_bytes: int = 8 * GIB,
    urgent_room: float = 0.0,
    node: str = "",
) -> SqliteStore:
    """The SQLite store of a directory."""
    return open_store(
        directory,
        new_epoch=lambda: epoch,
        call_in_reactor=calls.call,
        limit_bytes=limit_bytes,
        urgent_room=urgent_room,
        node=node,
    )


class HeldStore:
    """A store that takes its time, as a disk does: verbs wait until the test lets them go, and some fail at its wish.

    As in SQLite, verbs that write and those that the rules decide by share one queue; the questions have another.
    What is let go takes effect then, not when it was called.

    Args:
        inner: the store behind it.

    Attributes:
        holding: whether verbs wait; if not, they go through at once, and that is how it begins.
    """

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.holding = False
        self._writes: deque[tuple[str, Callable[[], None]]] = deque()
        self._reads: deque[tuple[str, Callable[[], None]]] = deque()
        self._is_cut = False
        self._failures: dict[str, deque[Exception]] = {}
        self._failed = 0
        self._behind: dict[str, tuple[int, Exception]] = {}

    def fail_next(self, verb: str, *errors: Exception) -> None:
        """The next calls of a verb fail, and have no effect."""
        self._failures.setdefault(verb, deque()).extend(errors)

    @property
    def waiting(self) -> list[str]:
        """The verbs that wait: those that write first."""
        return [verb for verb, _ in (*self._writes, *self._reads)]

    def let_write(self, count: int | None = None) -> None:
        """Let verbs that write (or that the rules decide by) go: so many, or all, also those that they bring about."""
        self._let(self._writes, count)

    def let_read(self, count: int | None = None) -> None:
        """Let questions go."""
        self._let(self._reads, count)

    def let_all(self) -> None:
        """Let everything go, until nothing waits."""
        while self._writes or self._reads:
            self.let_write()
            self.let_read()

    def cut_power(self) -> None:
        """What waits never happens, nothing further does, and nobody is told: the process is gone."""
        self._writes.clear()
        self._reads.clear()
        self._is_cut = True

    def _let(self, waiting: deque[tuple[str, Callable[[], None]]], count: int | None) -> None:
        done = 0
        while waiting and (count is None or done < count):
            waiting.popleft()[1]()
            done += 1

    def _ask(
        self,
        waiting: deque[tuple[str, Callable[[], None]]],
        verb: str,
        call: Callable[[], Deferred[T]],
    ) -> Deferred[T]:
        error = self._next_failure(verb)
        return self._wait(waiting, verb, call if error is None else partial(_fail, error))

    def _next_failure(self, verb: str) -> Exception | None:
        errors = self._failures.get(verb)
        return errors.popleft() if errors and not self._is_cut else None

    def _wait(
        self,
        waiting: deque[tuple[str, Callable[[], None]]],
        verb: str,
        call: Callable[[], Deferred[T]],
    ) -> Deferred[T]:
        if self._is_cut:
            return Deferred()
        if not self.holding and not waiting:
            return call()
        answer: Deferred[T] = Deferred()

        def run() -> None:
            call().addBoth(answer.callback)

        waiting.append((verb, run))
        return answer

    @property
    def epoch(self) -> str:
        return self.inner.epoch

    @property
    def high_water(self) -> int:
        return self.inner.high_water

    @property
    def commits(self) -> Commits:
        return self.inner.commits

    @property
    def zones(self) -> Zones:
        return self.inner.zones

    def origins(self) -> list[Origin]:
        return self.inner.origins()

    def place(self, position: int) -> tuple[str, int]:
        return self.inner.place(position)

    def base(self, number: int = 0) -> Base:
        return self.inner.base(number)

    def on_advance(self, tell: Callable[[], None]) -> None:
        self.inner.on_advance(tell)

    def append(self, drafts: Sequence[Draft], at: int, *, ids_since: int = 0) -> Deferred[list[Accepted]]:
        # As the interface says: after one that failed, those that its agent had called by then fail too.
        agent = drafts[0].sender.partition("/")[0] if drafts else ""
        error, known = self._next_failure("append"), self._failed

        def call() -> Deferred[list[Accepted]]:
            number, before = self._behind.get(agent, (0, None))
            fault = error or (before if known < number else None)
            if fault is None:
                return self.inner.append(drafts, at, ids_since=ids_since)
            self._failed += 1
            self._behind[agent] = self._failed, fault
            return fail(fault)

        return self._wait(self._writes, "append", call)

    def deliver(self, deliveries: Attempts, holder: str | None, session: int | None, at: int) -> Deferred[None]:
        return self._ask(self._writes, "deliver", lambda: self.inner.deliver(deliveries, holder, session, at))

    def surface(self, surfacings: Attempts, holder: str, session: int | None, at: int) -> Deferred[list[int]]:
        return self._ask(self._writes, "surface", lambda: self.inner.surface(surfacings, holder, session, at))

    def give_back(self, returns: Sequence[Return], reason: str, at: int) -> Deferred[None]:
        return self._ask(self._writes, "give_back", lambda: self.inner.give_back(returns, reason, at))

    def hand_over(self, positions: Sequence[int], keeper: str, at: int) -> Deferred[list[StoredMessage]]:
        return self._ask(self._writes, "hand_over", lambda: self.inner.hand_over(positions, keeper, at))

    def settle(
        self, positions: Sequence[int], state: State, reason: str | None, at: int, notices: Sequence[Draft] = ()
    ) -> Deferred[list[Accepted]]:
        return self._ask(self._writes, "settle", lambda: self.inner.settle(positions, state, reason, at, notices))

    def replay(self, revived: Mapping[int, int], at: int, by: str | None = None) -> Deferred[list[StoredMessage]]:
        return self._ask(self._writes, "replay", lambda: self.inner.replay(revived, at, by))

    def purge(self, positions: Sequence[int], at: int, by: str | None = None) -> Deferred[list[int]]:
        return self._ask(self._writes, "purge", lambda: self.inner.purge(positions, at, by))

    def forget(self, after: int, limit: int, *, before: int, dead_before: int, at: int) -> Deferred[Forgotten]:
        return self._ask(
            self._writes,
            "forget",
            lambda: self.inner.forget(after, limit, before=before, dead_before=dead_before, at=at),
        )

    def dead_letters(self, after: int, limit: int, agent: str | None = None) -> Deferred[list[DeadLetter]]:
        return self._ask(self._reads, "dead_letters", lambda: self.inner.dead_letters(after, limit, agent))

    def archived(self, facts: ArchivedFacts, at: int) -> Deferred[Base]:
        return self._ask(self._writes, "archived", lambda: self.inner.archived(facts, at))

    def cut(self, limit: int) -> Deferred[Base]:
        return self._ask(self._writes, "cut", lambda: self.inner.cut(limit))

    def cut_copy(self, number: int, until: int, limit: int) -> Deferred[Base]:
        return self._ask(self._writes, "cut_copy", lambda: self.inner.cut_copy(number, until, limit))

    def let_go(self, after: int, limit: int) -> Deferred[int]:
        return self._ask(self._writes, "let_go", lambda: self.inner.let_go(after, limit))

    def shrink(self) -> Deferred[bool]:
        return self._ask(self._writes, "shrink", self.inner.shrink)

    def drop(
        self, after: int, limit: int, *, ids_since: int, at: int, shared: Shared | None = None
    ) -> Deferred[Dropped]:
        return self._ask(
            self._writes, "drop", lambda: self.inner.drop(after, limit, ids_since=ids_since, at=at, shared=shared)
        )

    @property
    def first_use(self) -> int:
        return self.inner.first_use

    def raise_first_use(self, first_use: int) -> Deferred[None]:
        return self._ask(self._writes, "raise_first_use", lambda: self.inner.raise_first_use(first_use))

    def bare(self) -> Deferred[dict[str, int]]:
        return self._ask(self._writes, "bare", self.inner.bare)

    def note(self, kind: Kind, facts: Facts | Mapping[str, Any], at: int) -> Deferred[None]:
        return self._ask(self._writes, "note", lambda: self.inner.note(kind, facts, at))

    def remember(self, notes: Mapping[str, str]) -> Deferred[None]:
        return self._ask(self._writes, "remember", lambda: self.inner.remember(notes))

    def prove(self, text: str) -> Deferred[str]:
        return self._ask(self._writes, "prove", lambda: self.inner.prove(text))

    def follow_clock(self, by_ms: int, after: int, notes: Mapping[str, str], at: int) -> Deferred[None]:
        return self._ask(self._writes, "follow_clock", lambda: self.inner.follow_clock(by_ms, after, notes, at))

    def remembered(self, prefix: str) -> Deferred[dict[str, str]]:
        return self._ask(self._reads, "remembered", lambda: self.inner.remembered(prefix))

    def head(self, recipient: str, after: tuple[int, int], limit: int) -> Deferred[list[StoredMessage]]:
        return self._ask(self._writes, "head", lambda: self.inner.head(recipient, after, limit))

    def at_positions(self, positions: Sequence[int]) -> Deferred[dict[int, StoredMessage]]:
        return self._ask(self._writes, "at_positions", lambda: self.inner.at_positions(positions))

    def bodies(self, positions: Sequence[int]) -> Deferred[dict[int, bytes]]:
        return self._ask(self._reads, "bodies", lambda: self.inner.bodies(positions))

    def open_mailboxes(self) -> Deferred[dict[str, MailboxSize]]:
        return self._ask(self._reads, "open_mailboxes", self.inner.open_mailboxes)

    def oldest(self, mailboxes: Sequence[str]) -> Deferred[dict[str, int]]:
        return self._ask(self._reads, "oldest", lambda: self.inner.oldest(mailboxes))

    def expired(self, now: int, limit: int) -> Deferred[list[int]]:
        return self._ask(self._reads, "expired", lambda: self.inner.expired(now, limit))

    def with_ids(self, ids: Sequence[str]) -> Deferred[list[StoredMessage]]:
        return self._ask(self._reads, "with_ids", lambda: self.inner.with_ids(ids))

    def answers(
        self, ids: Sequence[str], *, before: int | None = None, limit: int | None = None
    ) -> Deferred[list[StoredMessage]]:
        return self._ask(self._reads, "answers", lambda: self.inner.answers(ids, before=before, limit=limit))

    def holders(self, positions: Sequence[int]) -> Deferred[dict[int, set[str]]]:
        return self._ask(self._reads, "holders", lambda: self.inner.holders(positions))

    def history(self, message_id: str) -> Deferred[list[History]]:
        return self._ask(self._reads, "history", lambda: self.inner.history(message_id))

    def copy(self, node: str, extract: Extract, ahead_ms: int = 0) -> Deferred[Copied]:
        return self._ask(self._writes, "copy", lambda: self.inner.copy(node, extract, ahead_ms))

    def extract(self, number: int, after: int, *, limit: int, limit_bytes: int) -> Deferred[Extract]:
        return self._ask(
            self._reads, "extract", lambda: self.inner.extract(number, after, limit=limit, limit_bytes=limit_bytes)
        )

    def records(
        self,
        *,
        after: int,
        limit: int,
        kind: str | Sequence[str] | None = None,
        since: int | None = None,
        until: int | None = None,
        origin: int | None = 0,
        end: int | None = None,
    ) -> Deferred[list[Record]]:
        return self._ask(
            self._reads,
            "records",
            lambda: self.inner.records(
                after=after, limit=limit, kind=kind, since=since, until=until, origin=origin, end=end
            ),
        )

    def modes(self) -> Deferred[list[Record]]:
        return self._ask(self._reads, "modes", self.inner.modes)

    def verify(self) -> Deferred[Verification]:
        return self._ask(self._reads, "verify", self.inner.verify)

    def condition(self) -> Condition:
        return self.inner.condition()

    def close(self) -> Deferred[None]:
        return self._ask(self._writes, "close", self.inner.close)


def _fail(error: Exception) -> Deferred[Any]:
    return fail(error)
