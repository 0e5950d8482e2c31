"""What the fold of copied records asks and writes, and runs for other stores, in memory; see :mod:`.fold`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from trishula.contract.addresses import agent_of
from trishula_router.store.bases import Base
from trishula_router.store.fold_changes import Changes, Identity, RecipientKey, Row
from trishula_router.store.identity import Key
from trishula_router.store.journal import ORIGIN_SHIFT, SEQUENCE_MASK, Kind, Record
from trishula_router.store.keepers import claim
from trishula_router.store.messages import State, StoredMessage
from trishula_router.store.noted import handed_on
from trishula_router.store.origins import End, Numbering, position_in
from trishula_router.store.remembering import remembered_as
from trishula_router.store.runs import Extract, Origin, Particulars, Rest
from trishula_router.store.standing import standing_of, state_of, tellings

__all__ = ["MemoryShelf"]


@dataclass
class MemoryShelf:
    """Implements :class:`trishula_router.store.fold_changes.Shelf` on a memory store's own dictionaries.

    Attributes:
        messages, bodies: by position; recipients of a broadcast have a body each.
        by_key: positions by the key of their messages, of every use.
        reasons: why messages were settled.
        lives: of messages that were replayed, or purged.
        journals: records by origin.
        resolved: positions of messages by those of their aliases.
        alias_bodies: what other nodes accepted as the same message, by alias; see :mod:`.fold`.
        waiting: early records, by the position of the message that they tell of.
        base: where the own journal begins.
        bases: where those of others begin that were cut.
        held: records before that, of all journals.
        notes: what is remembered.
        tellers: by message, the positions of records that told of it and were cut.
    """

    messages: dict[int, StoredMessage] = field(default_factory=dict)
    bodies: dict[int, bytes] = field(default_factory=dict)
    by_key: dict[Key, tuple[int, ...]] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    lives: dict[int, int] = field(default_factory=dict)
    journals: dict[int, list[Record]] = field(default_factory=lambda: {0: []})
    resolved: dict[int, int] = field(default_factory=dict)
    alias_bodies: dict[int, bytes] = field(default_factory=dict)
    waiting: dict[int, list[Record]] = field(default_factory=dict)
    base: Base = field(default_factory=Base)
    bases: dict[int, Base] = field(default_factory=dict)
    held: list[Record] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    tellers: dict[int, set[int]] = field(default_factory=dict)

    @property
    def own_end(self) -> End:
        """The newest record of the own journal."""
        own = self.journals[0]
        return End(own[-1].position, own[-1].digest) if own else End(self.base.sequence, self.base.digest)

    def base_of(self, number: int) -> Base:
        """Where a journal begins."""
        return self.bases.get(number, Base()) if number else self.base

    def with_keys(self, keys: Iterable[RecipientKey]) -> Mapping[RecipientKey, Sequence[Identity]]:
        """See :meth:`trishula_router.store.fold_changes.Shelf.with_keys`."""
        return {
            key: [
                Identity(message.position, message.sender, message.type, message.digest, message.use)
                for message in map(self.messages.__getitem__, sorted(self.by_key.get(key[:2], ())))
                if message.recipient == key[2]
            ]
            for key in keys
        }

    def aliases(self, positions: Iterable[int]) -> Mapping[int, int]:
        """See :meth:`trishula_router.store.fold_changes.Shelf.aliases`."""
        return {position: self.resolved[position] for position in positions if position in self.resolved}

    def rows(self, positions: Iterable[int]) -> dict[int, Row]:
        """See :meth:`trishula_router.store.fold_changes.Shelf.rows`."""
        return {position: self._row(self.messages[position]) for position in positions if position in self.messages}

    def _row(self, message: StoredMessage) -> Row:
        standing = standing_of(message.state, self.lives.get(message.position, 0))
        return Row(
            message.position,
            message.sender,
            message.id,
            message.recipient,
            message.type,
            message.priority,
            message.accepted_at,
            message.expires_at,
            message.by_deadline,
            message.size_bytes,
            message.arrival,
            message.position if message.position in self.bodies else 0,
            standing,
            message.attempts,
            message.failures,
            message.due_at,
            delivered_at=message.delivered_at,
            settled_at=message.settled_at,
            holder=message.holder,
            keeper=message.keeper,
            hop=message.hop,
            digest=message.digest,
            use=message.use,
            reply_to=message.reply_to,
            surfaced_at=message.surfaced_at,
            was=standing,
        )

    def early(self, positions: Iterable[int]) -> Sequence[tuple[int, Record]]:
        """See :meth:`trishula_router.store.fold_changes.Shelf.early`."""
        return [(position, record) for position in positions for record in self.waiting.get(position, ())]

    def write(self, number: int, changes: Changes, *, are_held: bool = False) -> None:
        """Do what the fold decided; ``are_held``: the records are before the base of their journal."""
        journal = self.journals.setdefault(number, [])
        if are_held:
            self.held += changes.records
        else:
            journal += changes.records
        written = {record.position: record for record in changes.records}
        for row in changes.new:
            key = agent_of(row.sender), row.id
            self.by_key[key] = (*self.by_key.get(key, ()), row.position)
            if row.body:
                self.bodies[row.position] = changes.bodies[row.body]
        for row in (*changes.new, *changes.changed):
            self.messages[row.position] = row.message()
            self.lives[row.position] = state_of(row.standing)[1]
            if row.reason is not None:
                self.reasons[row.position] = row.reason
        self.resolved.update(changes.aliases)
        for position, record in changes.early:
            self.waiting.setdefault(position, []).append(written[record])
        for position in changes.late:
            del self.waiting[position]
        for alias in changes.alias_bodies:
            self.alias_bodies[alias] = changes.bodies[alias]
        for position in changes.purged:
            self.forget(position)
        for position, envelope in changes.revived.items():
            self.bodies.setdefault(position, envelope)

    def forget(self, position: int) -> bytes:
        """Delete the body of a message."""
        for alias in [alias for alias, message in self.resolved.items() if message == position]:
            self.alias_bodies.pop(alias, None)
        return self.bodies.pop(position, b"")

    # -- for other stores ----------------------------------------------------------------------------------------------

    def run(self, origin: Origin, numbering: Numbering, after: int, limit: int, limit_bytes: int) -> Extract:
        """See :meth:`trishula_router.store.interface.Store.extract`."""
        journal = self.journals.get(origin.number, [])
        base = self.base_of(origin.number)
        if after < base.sequence:
            return self._rest(origin, numbering, base, after)
        skipped = after - base.sequence
        records: list[Record] = []
        size, key = 0, None
        for record in journal[skipped:] if skipped >= 0 else ():
            message = self._accepted_by(record)
            before, key = key, message and (message.sender, message.id, message.use, message.digest)
            shares = key is not None and key == before
            size += len(record.facts) + (message.size_bytes if message and not shares else 0)
            if records and not shares and (len(records) >= limit or size > limit_bytes):
                break
            records.append(record)
        messages, bodies = self._told_with(numbering, records)
        renewed = self._renewed(numbering, records)
        return Extract(
            origin.epoch,
            after + 1,
            base.digest if skipped == 0 else journal[skipped - 1].digest if 0 < skipped <= len(journal) else b"",
            [(record.at, record.kind, record.facts, record.digest) for record in records],
            messages,
            bodies,
            {
                there: self.bodies[one.position]
                for there, one in renewed.items()
                if one.state is State.OPEN and one.position in self.bodies
            },
            numbering.of(origin.number),
            {there: one.expires_at for there, one in renewed.items()},
        )

    def _rest(self, origin: Origin, numbering: Numbering, base: Base, after: int) -> Extract:
        begin, end = position_in(origin.number, after), position_in(origin.number, base.sequence)
        records = sorted(
            (one for one in self.held if begin < one.position <= end and one.kind in (Kind.ACCEPTED, Kind.MODE)),
            key=lambda one: one.position,
        )
        messages, bodies = self._told_with(numbering, records)
        notes = handed_on(self.notes, numbering.node_of(origin.number))
        told = {one.position for one in records}
        remembered = [
            remembered_as(place & SEQUENCE_MASK, message, self.lives.get(message.position, 0))
            for place in sorted(self.messages.keys() | self.resolved.keys())
            if begin < place <= end and place not in told
            if (message := self.messages[self.resolved.get(place, place)]).state is not State.OPEN
        ]
        return Extract(
            origin.epoch,
            after + 1,
            b"",
            [(record.at, record.kind, record.facts, record.digest) for record in records],
            messages,
            bodies,
            {},
            numbering.of(origin.number),
            rest=Rest(
                [one.position & SEQUENCE_MASK for one in records],
                base.sequence,
                base.digest,
                max(base.sequence, base.until if origin.number else 0),
                notes,
                remembered,
            ),
        )

    def _told_with(
        self, numbering: Numbering, records: Sequence[Record]
    ) -> tuple[dict[int, Particulars], dict[int, bytes]]:
        messages: dict[int, Particulars] = {}
        bodies: dict[int, bytes] = {}
        for record in records:
            if (message := self._accepted_by(record)) is not None:
                sequence = record.position & SEQUENCE_MASK
                of_its_own = self.bodies if record.position == message.position else self.alias_bodies
                body = of_its_own.get(record.position)
                if body is not None:
                    bodies[sequence] = body
                messages[sequence] = Particulars(
                    message.expires_at,
                    message.by_deadline,
                    0 if body is None else sequence,
                    message.state.value,
                    self.lives.get(message.position, 0),
                    message.hop,
                    claim(numbering, message.position, message.keeper, message.hop)[1] if message.hop else "",
                    0 if message.accepted_at == record.at else message.accepted_at,
                )
        return messages, bodies

    def _accepted_by(self, record: Record) -> StoredMessage | None:
        if record.kind != Kind.ACCEPTED:
            return None
        return self.messages.get(self.resolved.get(record.position, record.position))

    def _renewed(self, numbering: Numbering, records: Sequence[Record]) -> dict[int, StoredMessage]:
        """The messages that were replayed, by their positions in the origin's numbering."""
        found = {}
        for record in records:
            for telling in tellings(record.kind, record.facts) if record.kind == Kind.REPLAYED else ():
                here = numbering.translate(record.position >> ORIGIN_SHIFT, telling.position) or 0
                message = self.messages.get(self.resolved.get(here, here))
                if message is not None and self.lives.get(message.position, 0) >= state_of(telling.standing)[1]:
                    found[telling.position] = message
        return found
