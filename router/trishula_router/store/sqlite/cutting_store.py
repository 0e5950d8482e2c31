"""The part of the store on disk that cuts journals, and drops what a cut leaves; each job is in :mod:`.cutting`."""

from __future__ import annotations

import sqlite3

from twisted.internet.defer import Deferred, succeed

from trishula_router.store.bases import Base, Dropped, checked_end
from trishula_router.store.facts import ArchivedFacts
from trishula_router.store.journal import Kind
from trishula_router.store.origins import Tails
from trishula_router.store.sqlite import cutting
from trishula_router.store.sqlite.appender import Appender
from trishula_router.store.sqlite.questions import Questions
from trishula_router.store.sqlite.shrinking import STEP_BYTES, Shrinking
from trishula_router.store.sqlite.writer import Writer

__all__ = ["CuttingStore"]


class CuttingStore(Questions):
    """The part of :class:`.store.SqliteStore`, which has what is named here, that cuts journals."""

    _appender: Appender
    _shrinking: Shrinking
    _tails: Tails
    _writer: Writer

    def archived(self, facts: ArchivedFacts, at: int) -> Deferred[Base]:
        def job(connection: sqlite3.Connection) -> Base:
            chain = self._tails.own
            digest = connection.execute("SELECT digest FROM journal WHERE position = ?", (facts.last,)).fetchone()
            until = checked_end(chain.base, facts, chain.sequence, digest and digest[0])
            self._appender.record(connection, at, Kind.ARCHIVED, facts)
            chain.base = cutting.begin(connection, chain.base, until)
            return chain.base

        return self._writer.submit(job)

    def cut(self, limit: int) -> Deferred[Base]:
        def job(connection: sqlite3.Connection) -> Base:
            chain = self._tails.own
            chain.base = cutting.cut(connection, chain.base, limit)
            return chain.base

        return self._writer.submit(job)

    def cut_copy(self, number: int, until: int, limit: int) -> Deferred[Base]:
        def job(connection: sqlite3.Connection) -> Base:
            tails, base = self._tails, self._tails.base_of(number)
            end = min(base.sequence + limit, until, tails.end_of(number).sequence)
            if end > base.sequence and not base.is_behind:
                base = cutting.cut_copy(connection, tails.own.base, tails.numbering, number, base, end)
                tails.rebase(number, base)
            return base

        return self._writer.submit(job)

    def let_go(self, after: int, limit: int) -> Deferred[int]:
        return self._writer.submit(lambda connection: cutting.let_go(connection, self._tails.own.base, after, limit))

    def drop(self, after: int, limit: int, *, ids_since: int, at: int) -> Deferred[Dropped]:
        return self._writer.submit(
            lambda connection: cutting.drop(connection, self._tails.own.base, after, limit, ids_since, at)
        )

    def shrink(self) -> Deferred[bool]:
        if not self._shrinking.is_due:
            return succeed(False)
        return self._writer.submit(self._shrinking.step, draws=False, size_bytes=STEP_BYTES)
