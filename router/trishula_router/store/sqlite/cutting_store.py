"""The part of the store on disk that cuts journals, and drops what a cut leaves; each job is in :mod:`.cutting`."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from twisted.internet.defer import Deferred, succeed

from trishula_router.store.bases import Base, Dropped, Shared, checked_end
from trishula_router.store.facts import ArchivedFacts
from trishula_router.store.first_use import FIRST_USE, MOST_FIRST_USE
from trishula_router.store.journal import Kind
from trishula_router.store.origins import Tails
from trishula_router.store.sqlite import cutting, dropping
from trishula_router.store.sqlite.appender import Appender, remember
from trishula_router.store.sqlite.questions import Questions
from trishula_router.store.sqlite.shrinking import STEP_BYTES, Shrinking
from trishula_router.store.sqlite.writer import Writer

__all__ = ["CuttingStore"]


class CuttingStore(Questions):
    """The part of :class:`.store.SqliteStore`, which has what is named here, that cuts journals."""

    _appender: Appender
    _epoch: str
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

    def drop(
        self, after: int, limit: int, *, ids_since: int, at: int, shared: Shared | None = None
    ) -> Deferred[Dropped]:
        def job(connection: sqlite3.Connection) -> Dropped:
            if shared is None:
                return cutting.drop(connection, self._tails.own.base, after, limit, ids_since, at)
            within = Shared(self._cut_of(shared.lasts), self._cut_of(shared.bares))
            dropped, first_use = dropping.drop(connection, within, after, limit, ids_since, at)
            self._count_from(connection, first_use)
            return dropped

        return self._writer.submit(job)

    def _cut_of(self, lasts: Mapping[int, int]) -> dict[int, int]:
        """Of journals that are shared what was cut here; nothing of one that is being taken over."""
        bases = {number: self._tails.base_of(number) if number else self._tails.own.base for number in lasts}
        return {
            number: 0 if number and bases[number].is_behind else min(last, bases[number].sequence)
            for number, last in lasts.items()
        }

    @property
    def first_use(self) -> int:
        return self._tails.own.durable_first_use

    def raise_first_use(self, first_use: int) -> Deferred[None]:
        return self._writer.submit(lambda connection: self._count_from(connection, first_use))

    def _count_from(self, connection: sqlite3.Connection, first_use: int) -> None:
        chain, first_use = self._tails.own, min(first_use, MOST_FIRST_USE)
        if first_use > chain.first_use:
            remember(connection, {FIRST_USE: str(first_use)})
            chain.first_use = first_use

    def bare(self) -> Deferred[dict[str, int]]:
        def job(connection: sqlite3.Connection) -> dict[str, int]:
            tails = self._tails
            bases = {number: tails.base_of(number).sequence for number in tails.numbering.names}
            found = dropping.bare(connection, {0: tails.own.base.sequence, **bases})
            return {tails.numbering.names[number][1] if number else self._epoch: last for number, last in found.items()}

        return self._writer.submit(job, reads=True)

    def shrink(self) -> Deferred[bool]:
        if not self._shrinking.is_due:
            return succeed(False)
        return self._writer.submit(self._shrinking.step, draws=False, size_bytes=STEP_BYTES)
