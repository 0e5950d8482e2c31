"""Cutting the journal of the store in memory; in SQLite it is :mod:`.sqlite.cutting`."""

from __future__ import annotations

from abc import abstractmethod

from msgspec.structs import replace
from twisted.internet.defer import Deferred, fail, succeed

from trishula_router.store.bases import Base, Dropped, NotArchivable, checked_end
from trishula_router.store.facts import ArchivedFacts
from trishula_router.store.identity import key_of
from trishula_router.store.journal import ORIGIN_SHIFT, Kind, Record, is_own
from trishula_router.store.memory_reads import MemoryReads
from trishula_router.store.messages import State
from trishula_router.store.standing import tellings

__all__ = ["MemoryCutting"]


class MemoryCutting(MemoryReads):
    """The part of :class:`trishula_router.store.interface.Store` that cuts the journal.

    Args:
        epoch: of the store.
        node: its node's name, which only linked nodes need.
    """

    @abstractmethod
    def _record(self, kind: Kind, facts: object, at: int) -> int:
        """Append a record; its position."""

    def archived(self, facts: ArchivedFacts, at: int) -> Deferred[Base]:
        shelf = self._shelf
        digest = next((record.digest for record in self._journal if record.position == facts.last), None)
        try:
            until = checked_end(shelf.base, facts, shelf.own_end.sequence, digest)
        except NotArchivable as error:
            return fail(error)
        self._record(Kind.ARCHIVED, facts, at)
        shelf.base = shelf.base._replace(until=until)
        return succeed(shelf.base)

    def cut(self, limit: int) -> Deferred[Base]:
        shelf, base = self._shelf, self._shelf.base
        end = min(base.sequence + limit, base.until)
        gone = self._journal[: max(0, end - base.sequence)]
        if gone:
            shelf.held += gone
            del self._journal[: len(gone)]
            shelf.base = Base(end, gone[-1].digest, base.until)
            self._keep_held(base.until)
        return succeed(shelf.base)

    def cut_copy(self, number: int, until: int, limit: int) -> Deferred[Base]:
        shelf, base, journal = self._shelf, self._shelf.base_of(number), self._shelf.journals.get(number, [])
        gone = journal[: max(0, min(base.sequence + limit, until) - base.sequence)]
        if gone and not base.is_behind:
            shelf.held += gone
            del journal[: len(gone)]
            end = base.sequence + len(gone)
            base = shelf.bases[number] = Base(end, gone[-1].digest, end)
            self._keep_held(shelf.base.sequence)
        return succeed(base)

    def let_go(self, after: int, limit: int) -> Deferred[int]:
        self._keep_held(self._shelf.base.sequence)
        return succeed(0)

    def shrink(self) -> Deferred[bool]:
        return succeed(False)

    def _keep_held(self, until: int) -> None:
        """Of the records before the base keep those that a message still needs, and the newest word on the mode."""
        modes = [one for one in (*self._shelf.held, *self._journal) if one.kind == Kind.MODE]
        newest = [one for one in modes if is_own(one.position)][-1:] + [
            one for one in modes if not is_own(one.position)
        ]
        early = [record for waiting in self._shelf.waiting.values() for record in waiting]
        kept: list[Record] = []
        for record in self._shelf.held:
            if (
                record in newest
                or record in early
                or any(self._needs_records(position, until) for position in self._told(record))
            ):
                kept.append(record)
                continue
            for position in self._told(record):
                message = self._messages.get(position)
                # The record told when that was.
                if message is not None and message.delivered_at == record.at:
                    message = self._messages[position] = replace(message, delivered_at=None)
                if message is not None and message.settled_at == record.at:
                    self._messages[position] = replace(message, settled_at=None)
        self._shelf.held[:] = kept

    def _needs_records(self, position: int, until: int) -> bool:
        message = self._messages.get(position)
        if message is None:
            return False
        if message.state is State.OPEN or position in self._bodies:
            return True
        ends = str(Kind(message.state.name.lower()))
        return any(
            record.kind == ends and any(one.position == position for one in tellings(record.kind, record.facts))
            for record in self._journal
            if record.position > until
        )

    def drop(self, after: int, limit: int, *, ids_since: int, at: int) -> Deferred[Dropped]:
        held = {position for record in self._shelf.held for position in self._told(record)}
        base = self._shelf.base.sequence
        looked_at = sorted(one for one in self._messages if is_own(one) and after < one <= base)[:limit]
        dropped = 0
        for position in looked_at:
            message = self._messages[position]
            if ids_since <= message.accepted_at <= at:
                return succeed(Dropped(0, dropped))
            is_over = message.accepted_at < ids_since and message.expires_at <= at
            if message.state is not State.OPEN and position not in held and is_over:
                self._drop(position)
                dropped += 1
        return succeed(Dropped(looked_at[-1] if len(looked_at) == limit else 0, dropped))

    def _told(self, record: Record) -> list[int]:
        told, resolved = [record.position], self._shelf.resolved
        if record.kind != Kind.ACCEPTED:
            # Positions in facts are what they are at the node that wrote them.
            number, translate = record.position >> ORIGIN_SHIFT, self._tails.numbering.translate
            of = (translate(number, telling.position) for telling in tellings(record.kind, record.facts))
            told = [position for position in of if position is not None]
        return [resolved.get(position, position) for position in told]

    def _drop(self, position: int) -> None:
        key = key_of(self._messages.pop(position))
        rest = tuple(one for one in self._shelf.by_key[key] if one != position)
        if rest:
            self._shelf.by_key[key] = rest
        else:
            del self._shelf.by_key[key]
        self._reasons.pop(position, None)
        self._shelf.lives.pop(position, None)
