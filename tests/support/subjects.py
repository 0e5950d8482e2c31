"""Stores as tests of the store's interface use them: each kind, the stores of peers, and short words for its verbs."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from tests.support.stores import ReactorQueue, open_sqlite, result_of
from trishula.errors import StorageFull
from trishula_router.store.facts import ArchivedFacts
from trishula_router.store.interface import Copied, Store
from trishula_router.store.journal import ORIGIN_SHIFT
from trishula_router.store.memory import MemoryStore
from trishula_router.store.messages import Accepted, Draft, Return, State, StoredMessage
from trishula_router.store.runs import Extract
from trishula_router.store.sqlite.connection import FILE_NAME
from trishula_router.store.sqlite.store import SqliteStore

T = TypeVar("T")

#: The first position of the first other origin.
FAR = 1 << ORIGIN_SHIFT
FULL = "the node's store is full, so it accepted nothing; "


class Subject:
    """A store under test; :meth:`do` runs one verb, and whatever belongs between two."""

    store: Store

    def do(self, verb: Callable[[Store], Deferred[T]]) -> T:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class InMemory(Subject):
    """A store in memory."""

    def __init__(self, epoch: str = "epoch-1", node: str = "") -> None:
        self.store = MemoryStore(epoch, node)

    def do(self, verb: Callable[[Store], Deferred[T]]) -> T:
        return result_of(verb(self.store))

    def close(self) -> None:
        result_of(self.store.close())


class InSqlite(Subject):
    """A store in a directory; ``reopened``: opened anew after each verb."""

    def __init__(self, directory: Path, *, reopened: bool = False, **options: Any) -> None:
        self.directory = directory
        self.calls = ReactorQueue()
        self._reopened = reopened
        self._options = options
        self.store: SqliteStore = open_sqlite(directory, self.calls, **options)

    def do(self, verb: Callable[[Store], Deferred[T]]) -> T:
        done = self.calls.wait(verb(self.store))
        if self._reopened:
            self.reopen()
        return done

    def reopen(self) -> None:
        self.close()
        self.reopen_closed()

    def reopen_closed(self) -> None:
        """Open what was closed."""
        self.store = open_sqlite(self.directory, self.calls, **{**self._options, "epoch": "another"})

    def close(self) -> None:
        self.calls.wait(self.store.close())


class Peer(InMemory):
    """A further store in memory, under a node's name."""

    def __init__(self, node: str) -> None:
        super().__init__(f"epoch-of-{node}", node)
        self.node = node


#: The kinds of stores that keep each promise alike.
KINDS = ("memory", "sqlite", "reopened")


@contextmanager
def made(kind: str, directory: Path, node: str = "") -> Iterator[Subject]:
    """A store of one of the :data:`KINDS`, under a node's name."""
    subject: Subject
    subject = InMemory(node=node) if kind == "memory" else InSqlite(directory, reopened=kind == "reopened", node=node)
    try:
        yield subject
    finally:
        subject.close()


def draft(message_id: str, *recipients: str, sender: str = "dc", priority: int = 3, body: bytes = b"{}") -> Draft:
    return Draft(sender, message_id, recipients or ("agni",), "STATUS", priority, 10_000, body)


def append(subject: Subject, *drafts: Draft, at: int = 100) -> list[Accepted]:
    return subject.do(lambda store: store.append(drafts, at))


def one(subject: Subject, message_id: str = "m1", *recipients: str, at: int = 100) -> int:
    """Store a message; its position."""
    (accepted,) = append(subject, draft(message_id, *recipients), at=at)
    return accepted.positions[0]


def state_of(subject: Subject, position: int) -> State:
    return subject.do(lambda store: store.at_positions([position]))[position].state


def kinds(subject: Subject) -> list[str]:
    return [record.kind for record in subject.do(lambda store: store.records(after=0, limit=1000))]


def is_sound(subject: Subject) -> bool:
    return not subject.do(lambda store: store.verify()).damages


def open_ids(subject: Subject) -> list[str]:
    return [it.id for it in subject.do(lambda store: store.head("agni", (0, 0), 100_000))]


def fill(subject: InSqlite) -> list[str]:
    """Send until the store is full; the ids that were accepted."""
    accepted: list[str] = []
    for index in range(10_000):
        try:
            append(subject, draft(f"f{index}", body=b"x" * 20_000))
        except StorageFull as error:
            assert error.sentence.startswith(FULL)
            assert error.retry_after_s == 5.0
            return accepted
        accepted.append(f"f{index}")
    raise AssertionError("the store never got full")


def settle_all(subject: InSqlite) -> int:
    """Do all that needs pages and is no send, for every open message; how many there were."""
    positions = [it.position for it in subject.do(lambda store: store.head("agni", (0, 0), 100_000))]
    store = subject.store
    settled = []
    for it in positions:
        # Each in a record of its own, as an agent with a window of one has it.
        store.deliver([(it, 1)], "agni", 1, 200)
        store.give_back([Return(it, 1, 0)], "it failed", 300)
        settled.append(store.settle([it], State.DONE, None, 400))
    for answer in settled:
        subject.calls.wait(answer)
    return len(positions)


class Gate:
    """Holds the writer's thread, so that what is called meanwhile becomes one group."""

    def __init__(self, subject: InSqlite) -> None:
        self._open = threading.Event()
        begun = threading.Event()

        def wait(_: sqlite3.Connection) -> None:
            begun.set()
            assert self._open.wait(20)

        self.passed = subject.store._writer.submit(wait)
        assert begun.wait(20)

    def open(self) -> None:
        self._open.set()


def flipped(directory: Path, needle: bytes, *, at: int = 0) -> None:
    """Flip one bit in the store's file, at a place that is known by what is there."""
    file = directory / FILE_NAME
    data = bytearray(file.read_bytes())
    assert data.count(needle) == 1, f"{data.count(needle)} places"
    data[data.index(needle) + at] ^= 0x01
    file.write_bytes(data)


# -- copies of journals ------------------------------------------------------------------------------------------------


def run(source: Subject, after: int = 0, *, number: int = 0, limit: int = 100, limit_bytes: int = 10**6) -> Extract:
    return source.do(lambda store: store.extract(number, after, limit=limit, limit_bytes=limit_bytes))


def copy(target: Subject, source: Peer, extract: Extract | None = None) -> Copied:
    """Copy a run, or what is missing, of a peer's own journal."""
    after = next((one.sequence for one in target.store.origins() if one.epoch == source.store.epoch), 0)
    made = run(source, after) if extract is None else extract
    return target.do(lambda store: store.copy(source.node, made))


def head(subject: Subject, address: str = "agni") -> list[StoredMessage]:
    return subject.do(lambda store: store.head(address, (0, 0), 100))


def told(subject: Subject, message_id: str) -> list[tuple[int, str]]:
    (history,) = subject.do(lambda store: store.history(message_id))
    return [(record.position, record.kind) for record in history.records]


def cut_all(subject: Subject) -> None:
    """Cut all of the own journal, as behind a segment."""
    base = subject.store.base()
    last = subject.do(lambda store: store.records(after=base.sequence, limit=1000))[-1]
    facts = ArchivedFacts(base.sequence + 1, last.position, base.digest.hex(), last.digest.hex(), 1, "a-file", "00")
    subject.do(lambda store: store.archived(facts, 500))
    subject.do(lambda store: store.cut(1000))
