"""Cutting the journal of the store in memory; in SQLite it is :mod:`.sqlite.cutting`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from msgspec.structs import replace
from twisted.internet.defer import Deferred, fail, succeed

from trishula_router.store.bases import Base, Dropped, NotArchivable, Shared, checked_end
from trishula_router.store.facts import ArchivedFacts
from trishula_router.store.first_use import FIRST_USE, MOST_FIRST_USE, first_use_in
from trishula_router.store.identity import is_known, key_of
from trishula_router.store.journal import ORIGIN_SHIFT, SEQUENCE_MASK, Kind, Record, is_own
from trishula_router.store.memory_reads import MemoryReads
from trishula_router.store.messages import State, StoredMessage
from trishula_router.store.origins import position_in
from trishula_router.store.standing import PURGED_LIFE, tellings

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
            self._cut_away(gone)
            del self._journal[: len(gone)]
            shelf.base = Base(end, gone[-1].digest, base.until)
            self._keep_held(base.until)
        return succeed(shelf.base)

    def cut_copy(self, number: int, until: int, limit: int) -> Deferred[Base]:
        shelf, base, journal = self._shelf, self._shelf.base_of(number), self._shelf.journals.get(number, [])
        gone = journal[: max(0, min(base.sequence + limit, until) - base.sequence)]
        if gone and not base.is_behind:
            self._cut_away(gone)
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

    def _cut_away(self, gone: list[Record]) -> None:
        for record in gone:
            for position in self._told(record):
                self._shelf.tellers.setdefault(position, set()).add(record.position)
        self._shelf.held += gone

    def drop(
        self, after: int, limit: int, *, ids_since: int, at: int, shared: Shared | None = None
    ) -> Deferred[Dropped]:
        if shared is not None:
            return succeed(self._drop_shared(after, limit, ids_since, at, shared))
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

    def _drop_shared(self, after: int, limit: int, ids_since: int, at: int, shared: Shared) -> Dropped:
        within = Shared(self._cut_of(shared.lasts), self._cut_of(shared.bares))
        number = after >> ORIGIN_SHIFT
        end = position_in(number, within.lasts.get(number, 0))
        gone = 0
        for looked_at, position in enumerate(sorted(one for one in self._messages if after < one <= end), 1):
            message = self._messages[position]
            if ids_since <= message.accepted_at <= at:
                break
            is_over = message.accepted_at < ids_since and message.expires_at <= at
            # While one recipient's is known, a further one's under its id is of the same use.
            alike = [one for one in self._messages.values() if (one.id, one.use) == (message.id, message.use)]
            is_over = is_over and not is_known(alike, ids_since, at)
            if message.state is not State.OPEN and is_over and self._is_within(message, within):
                self._count_from(message.use + 1)
                for place in self._places_of(position):
                    self._shelf.resolved.pop(place, None)
                    self._shelf.tellers.pop(place, None)
                self._drop(position)
                gone += 1
            if looked_at == limit:
                return Dropped(position, gone)
        return Dropped(0, gone)

    def _is_within(self, message: StoredMessage, shared: Shared) -> bool:
        places = self._places_of(message.position)
        here = [*self._shelf.held, *(record for journal in self._shelf.journals.values() for record in journal)]
        if message.use >= MOST_FIRST_USE or any(message.position in self._told(record) for record in here):
            return False
        bodies = self._bodies.keys() | self._shelf.alias_bodies.keys()
        records = {*places, *(one for place in places for one in self._shelf.tellers.get(place, ()))}
        is_letter = message.state is State.DEAD and self._shelf.lives.get(message.position, 0) != PURGED_LIFE
        return (
            bodies.isdisjoint(places)
            and all(_is_covered(shared.lasts, one) for one in records)
            and (not is_letter or all(_is_covered(shared.bares, one) for one in places))
        )

    def _places_of(self, position: int) -> list[int]:
        return [position, *(alias for alias, message in self._shelf.resolved.items() if message == position)]

    def _cut_of(self, lasts: Mapping[int, int]) -> dict[int, int]:
        bases = {number: self._shelf.base_of(number) for number in lasts}
        return {
            number: 0 if number and bases[number].is_behind else min(last, bases[number].sequence)
            for number, last in lasts.items()
        }

    @property
    def first_use(self) -> int:
        return first_use_in(self._notes)

    def raise_first_use(self, first_use: int) -> Deferred[None]:
        self._count_from(first_use)
        return succeed(None)

    def _count_from(self, first_use: int) -> None:
        if min(first_use, MOST_FIRST_USE) > self.first_use:
            self._notes[FIRST_USE] = str(min(first_use, MOST_FIRST_USE))

    def bare(self) -> Deferred[dict[str, int]]:
        found = {}
        for origin in self.origins():
            begin, end = position_in(origin.number, 0), position_in(origin.number, origin.base)
            kept = [one for one in (*self._bodies, *self._shelf.alias_bodies) if begin < one <= end]
            found[origin.epoch] = (min(kept) & SEQUENCE_MASK) - 1 if kept else origin.base
        return succeed(found)

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


def _is_covered(lasts: Mapping[int, int], position: int) -> bool:
    return position & SEQUENCE_MASK <= lasts.get(position >> ORIGIN_SHIFT, 0)
