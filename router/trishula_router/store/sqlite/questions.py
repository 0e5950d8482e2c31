"""What the store on disk is asked that changes nothing: on a thread with a connection of its own, beside the writer.

Reads never wait for the writer, and see what was committed before they began. The check of the whole store takes as
long as the store is large, and has a thread of its own: whoever wants a body must not wait for it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.internet.defer import Deferred, succeed

from trishula.errors import StorageFailed
from trishula_router.store.interface import History, Verification
from trishula_router.store.journal import Record
from trishula_router.store.messages import DeadLetter, MailboxSize, StoredMessage
from trishula_router.store.sqlite import dead_letters, read_bodies, read_journal, reads
from trishula_router.store.sqlite.check import check_store
from trishula_router.store.sqlite.connection import connect
from trishula_router.store.sqlite.writer import Writer

__all__ = ["Questions"]


class Questions:
    """The half of :class:`.store.SqliteStore` that only reads.

    Args:
        file: the store's.
        readings: a connection, used by the reader's thread alone from now on.
        call_in_reactor: hands a function over to the reactor's thread.
    """

    def __init__(
        self,
        file: Path,
        readings: sqlite3.Connection,
        call_in_reactor: Callable[[Callable[[], None]], None],
    ) -> None:
        self._file = file
        self._call_in_reactor = call_in_reactor
        self._reader = Writer(readings, None, call_in_reactor)
        self._checker: Writer | None = None
        self._closing = False

    def bodies(self, positions: Sequence[int]) -> Deferred[dict[int, bytes]]:
        return self._reader.submit(lambda connection: read_bodies.bodies(connection, positions))

    def open_mailboxes(self) -> Deferred[dict[str, MailboxSize]]:
        return self._reader.submit(reads.open_mailboxes)

    def oldest(self, mailboxes: Sequence[str]) -> Deferred[dict[str, int]]:
        return self._reader.submit(lambda connection: reads.oldest(connection, mailboxes))

    def expired(self, now: int, limit: int) -> Deferred[list[int]]:
        return self._reader.submit(lambda connection: reads.expired(connection, now, limit))

    def dead_letters(self, after: int, limit: int, agent: str | None = None) -> Deferred[list[DeadLetter]]:
        return self._reader.submit(lambda connection: dead_letters.dead_letters(connection, after, limit, agent))

    def remembered(self, prefix: str) -> Deferred[dict[str, str]]:
        return self._reader.submit(lambda connection: reads.remembered(connection, prefix))

    def with_ids(self, ids: Sequence[str]) -> Deferred[list[StoredMessage]]:
        return self._reader.submit(lambda connection: reads.with_ids(connection, ids))

    def answers(
        self, ids: Sequence[str], *, before: int | None = None, limit: int | None = None
    ) -> Deferred[list[StoredMessage]]:
        return self._reader.submit(lambda connection: reads.answers(connection, ids, before, limit))

    def holders(self, positions: Sequence[int]) -> Deferred[dict[int, set[str]]]:
        return self._reader.submit(lambda connection: reads.holders(connection, positions))

    def history(self, message_id: str) -> Deferred[list[History]]:
        return self._reader.submit(lambda connection: reads.history(connection, message_id))

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
        return self._reader.submit(
            lambda connection: read_journal.records(
                connection,
                after=after,
                limit=limit,
                kind=kind,
                since=since,
                until=until,
                origin=origin,
                end=end,
            )
        )

    def modes(self) -> Deferred[list[Record]]:
        return self._reader.submit(read_journal.modes)

    def verify(self) -> Deferred[Verification]:
        if self._checker is None:
            self._checker = Writer(connect(self._file), None, self._call_in_reactor)
        return self._checker.submit(lambda connection: check_store(connection, self._go_on))

    def _go_on(self, _: float) -> None:
        if self._closing:
            raise StorageFailed("the node's store was closed before its check was done; ask again when the node is up")

    def _end_questions(self) -> Deferred[None]:
        self._closing = True
        closed: Deferred[None] = succeed(None)
        if self._checker is not None:
            # Whoever asked for the check learns that the store was closed; nobody waits for it to be done.
            self._checker.interrupt()
            closed = self._checker.close()
        return closed.addCallback(lambda _: self._reader.close())
