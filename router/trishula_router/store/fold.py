"""Copying a run of another node's records, as decisions: which records are new, and what they make of which messages.

A store looks up what the run touches (:class:`Shelf`), :func:`fold` says what is to be written (:class:`Changes`), and
the store writes it, all in one transaction. So both stores fold alike, and SQLite is asked in few statements.

* ``accepted``: a message that is here already, as :mod:`.identity` says, is one message; the further position is its
  alias. What each node accepted has its own ``accepted_at``, so an alias has a body of its own. Nobody here reads it,
  but it is kept with the message's: whoever copies that journal from here, and knows no other, needs it.
* Everything else names messages. Where one of them is not here yet, because it is in a journal that is copied later,
  the record is kept as an *early* one and told when the message arrives. Where its journal has come further and the
  message is not here, it was forgotten (:mod:`.first_use`), and what is told of it is passed over.
* Of the nodes that a message to a capability was handed to the last one counts; see :mod:`.keepers`.
* Instants that are counted with here (when a message was accepted, when it expires) are put into this node's clock; by
  how much the clock of the node that handed out the run is ahead of it, the caller knows. Those in records stay as they
  were written.
* Of several surfacings the earliest counts, by the clocks of whoever wrote them.
* States add up as :mod:`.standing` says; of attempts and failures the maximum counts. When a message is due again and
  when retention deletes its body is each node's own matter, and so is nothing of it copied.

Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import NamedTuple

from trishula.contract.addresses import agent_of, is_capability
from trishula_router.store.facts import AcceptedFacts
from trishula_router.store.first_use import FIRST_USE, first_use_in
from trishula_router.store.fold_changes import Changes, Identity, Row, Shelf
from trishula_router.store.identity import is_one_message
from trishula_router.store.journal import ORIGIN_SHIFT, SEQUENCE_MASK, Kind, Record
from trishula_router.store.keepers import claim, keeper_as_stored
from trishula_router.store.messages import State
from trishula_router.store.noted import handed_on, notes_in
from trishula_router.store.origins import Numbering, position_in
from trishula_router.store.remembering import row_of
from trishula_router.store.runs import Extract, JournalForked, Particulars, Remembered
from trishula_router.store.standing import PURGED_LIFE, Telling, standing_of, state_of, tellings
from trishula_router.store.telling import is_countable, read_accepted

__all__ = ["fold"]

_PURGED = standing_of(State.DEAD, PURGED_LIFE)
#: No message has more; one whose body is gone takes no room, whatever its record says.
_MOST_BYTES = 2**31


class _Told(NamedTuple):
    record: Record
    telling: Telling
    message: int


def fold(
    shelf: Shelf,
    numbering: Numbering,
    number: int,
    arrival: int,
    fresh: Sequence[tuple[int, int, str, bytes, bytes]],
    extract: Extract,
    ahead_ms: int,
    held: Callable[[int], int],
) -> Changes:
    """What new records of an origin make of the store.

    Args:
        shelf: the store.
        numbering: with what the run told.
        number: of the origin.
        arrival: of the newest record that the store holds.
        fresh: see :func:`joined`.
        extract: the run.
        ahead_ms: see :meth:`~trishula_router.store.interface.Store.copy`.
        held: up to which sequence the journal of a number is held here.
    """
    is_told = fresh or (extract.rest is not None and extract.rest.remembered)
    folding = _Fold(shelf, numbering, number, arrival, fresh, extract, ahead_ms, held)
    changes = folding.run() if is_told else Changes([])
    if extract.rest is not None:
        notes = handed_on(extract.rest.notes, numbering.node_of(number))
        changes.first_use = first_use_in(notes)
        changes.notes.update({key: text for key, text in notes.items() if key != FIRST_USE})
    return changes


class _Fold:
    def __init__(
        self,
        shelf: Shelf,
        numbering: Numbering,
        number: int,
        arrival: int,
        fresh: Sequence[tuple[int, int, str, bytes, bytes]],
        extract: Extract,
        ahead_ms: int,
        held: Callable[[int], int],
    ) -> None:
        self._held = held
        self._shelf = shelf
        self._numbering = numbering
        self._number = number
        self._arrival = arrival
        self._first = fresh[0][0] if extract.rest is None else extract.first
        self._extract = extract
        self._ahead_ms = ahead_ms
        self._records = [
            Record(position_in(number, sequence), at, kind, facts, digest)
            for sequence, at, kind, facts, digest in fresh
        ]
        self._changes = Changes(self._records)
        self._rows: dict[int, Row] = {}
        self._aliases: dict[int, int] = {}
        # What is told of messages that are here by another record: their states, whose own records may be cut.
        self._ended: dict[int, int] = {}
        # By the sequence of an accepted record, what it says of its envelope; of each body what is so; and its place.
        self._stated: dict[int, tuple[Record, str]] = {}
        self._sums: dict[int, str] = {}
        self._places: dict[int, int] = {}

    def run(self) -> Changes:
        accepted: list[tuple[Record, AcceptedFacts]] = []
        told: list[_Told] = []
        for record in self._records:
            if record.kind != Kind.ACCEPTED:
                told += self._told_by(record)
                self._changes.notes.update(notes_in(record.kind, record.at, record.facts))
            elif (facts := read_accepted(record)) is not None:
                if not is_countable(facts):
                    raise self._forked(record, "has numbers that no message has")
                accepted.append((record, facts))
        self._take_in(accepted)
        early = self._early(accepted)
        changes = self._changes
        self._look_up([*(one.message for one in early), *(one.message for one in told), *changes.aliases.values()])
        for one in early:
            self._tell(one)
        for one in told:
            self._tell(one)
        for message, standing in self._ended.items():
            self._end(self._rows[message], standing)
        self._claim_for_others()
        self._revive()
        self._keep_alias_bodies()
        changes.changed = [row for row in self._rows.values() if row.was >= 0 and row.is_changed]
        return changes

    def _told_by(self, record: Record) -> list[_Told]:
        origin = record.position >> ORIGIN_SHIFT
        found = []
        for telling in tellings(record.kind, record.facts):
            message = self._numbering.translate(origin, telling.position)
            if message is None:
                raise self._forked(record, "names a journal that nobody told of")
            found.append(_Told(record, telling, message))
        return found

    def _forked(self, record: Record, why: str) -> JournalForked:
        node, epoch = self._numbering.names[record.position >> ORIGIN_SHIFT]
        return JournalForked(node, epoch, record.position & SEQUENCE_MASK, why)

    # -- messages that are new, or that have one position more ---------------------------------------------------------

    def _take_in(self, accepted: Sequence[tuple[Record, AcceptedFacts]]) -> None:
        rest = self._extract.rest
        remembered = [] if rest is None else [self._remembered(one) for one in rest.remembered]
        keys = [(agent_of(facts.sender), facts.id, facts.to) for _, facts in accepted]
        asked = [*keys, *((agent_of(row.sender), row.id, row.recipient) for row in remembered)]
        known = {key: list(found) for key, found in self._shelf.with_keys(asked).items()} if asked else {}
        for key, (record, facts) in zip(keys, accepted, strict=True):
            self._stated[record.position & SEQUENCE_MASK] = record, facts.sha256
            it = Identity(record.position, facts.sender, facts.type, facts.digest, facts.use)
            told = None if rest is None else self._extract.messages.get(record.position & SEQUENCE_MASK)
            standing = standing_of(State(told.state), told.life) if told is not None and told.state else 0
            if (here := self._take(known.setdefault(key, []), it, standing)) is None:
                self._add(self._new_row(record, facts))
            else:
                self._changes.traces.add((here, record.position))
        for key, row in zip(asked[len(keys) :], remembered, strict=True):
            it = Identity(row.position, row.sender, row.type, row.digest, row.use)
            if self._take(known.setdefault(key, []), it, row.standing) is None:
                self._add(row)

    def _take(self, known: list[Identity], it: Identity, standing: int) -> int | None:
        """The message here that is the same one, whose alias it is then; ``None`` if it is new, and known from now."""
        here = next((one.position for one in known if is_one_message(one[1:], it[1:])), None)
        if here is None:
            known.append(it)
        elif here != it.position:
            self._aliases[it.position] = self._changes.aliases[it.position] = here
            self._ended[here] = max(standing, self._ended.get(here, 0))
        return here

    def _add(self, row: Row) -> None:
        self._rows[row.position] = row
        self._changes.new.append(row)

    def _remembered(self, told: Remembered) -> Row:
        return row_of(told, self._number, self._arrival + told.sequence - self._first + 1, self._ahead_ms)

    def _new_row(self, record: Record, facts: AcceptedFacts) -> Row:
        sequence = record.position & SEQUENCE_MASK
        particulars = self._extract.messages.get(sequence)
        if particulars is None:
            raise self._forked(record, "came without what belongs to its message")
        row = Row(
            record.position,
            facts.sender,
            facts.id,
            facts.to,
            facts.type,
            facts.priority,
            (particulars.accepted_at or record.at) - self._ahead_ms,
            particulars.expires_at - self._ahead_ms,
            particulars.by_deadline,
            # As long as it says, or the mailbox of its recipient would be full of nothing.
            len(self._extract.bodies.get(particulars.body, b"")) or min(max(0, facts.bytes), _MOST_BYTES),
            self._arrival + sequence - self._first + 1,
            self._body_of(sequence, particulars),
            standing_of(State(particulars.state), particulars.life),
            digest=facts.digest,
            use=facts.use,
            reply_to=facts.reply_to,
        )
        if is_capability(row.recipient):
            if self._numbering.node_of(self._number) == self._numbering.node:
                # A former store of this node accepted it.
                row.keeper = ""
            self._claim(row, particulars.hop, particulars.keeper)
        return row

    def _body_of(self, sequence: int, particulars: Particulars) -> int:
        body = self._extract.bodies.get(particulars.body)
        if body is None:
            return 0
        found = self._sums.get(particulars.body)
        if found is None:
            found = self._sums[particulars.body] = sha256(body).hexdigest()
        record, stated = self._stated[sequence]
        # The chain proves the record alone: who hands on the journal of another node could put any words into it.
        if found != stated:
            raise self._forked(record, "came with a body that is not that of its message")
        # The first recipients of a broadcast may be here from a run before, with the body at their place.
        first = particulars.body if particulars.body in self._stated else sequence
        place = self._places.setdefault(particulars.body, position_in(self._number, first))
        self._changes.bodies[place] = body
        return place

    def _keep_alias_bodies(self) -> None:
        for alias, message in self._changes.aliases.items():
            row = self._rows.get(message)
            particulars = self._extract.messages.get(alias & SEQUENCE_MASK)
            if row is not None and particulars is not None and state_of(row.standing)[0] is State.OPEN:
                place = self._body_of(alias & SEQUENCE_MASK, particulars)
                if place:
                    # Of a broadcast it is another recipient's, and the message that this is an alias of has its own: it
                    # would be found by nobody.
                    self._changes.bodies[alias] = self._changes.bodies[place]
                    self._changes.alias_bodies.append(alias)

    def _early(self, accepted: Sequence[tuple[Record, AcceptedFacts]]) -> list[_Told]:
        positions = [record.position for record, _ in accepted]
        kept = self._shelf.early(positions) if positions else []
        here = [one for one in kept if one[0] in self._rows or one[0] in self._aliases]
        self._changes.late = list(dict.fromkeys(message for message, _ in here))
        return [told for message, record in here for told in self._told_by(record) if told.message == message]

    # -- what is told of messages --------------------------------------------------------------------------------------

    def _look_up(self, positions: Sequence[int]) -> None:
        wanted = {position for position in positions if position not in self._rows and position not in self._aliases}
        if wanted:
            self._aliases.update(self._shelf.aliases(wanted))
        asked = {self._aliases.get(position, position) for position in positions} - self._rows.keys()
        if asked:
            self._rows.update(self._shelf.rows(asked))

    def _tell(self, told: _Told) -> None:
        record, telling = told.record, told.telling
        row = self._rows.get(self._aliases.get(told.message, told.message))
        if row is None:
            if not self._is_past(told.message):
                self._changes.early.append((told.message, record.position))
            return
        row.is_changed = True
        if telling.attempt:
            self._deliver(row, record, telling)
        elif telling.surfaced:
            self._surface(row, record)
        elif telling.redacted:
            self._changes.purged.append(row.position)
            self._trace(row, record.position)
        elif telling.hop:
            self._claim(row, telling.hop, telling.keeper)
            self._trace(row, record.position)
        elif telling.standing < 0:
            row.failures = max(row.failures, telling.failures)
            self._trace(row, record.position)
        elif telling.standing > row.standing:
            self._raise(row, record, telling)
        elif (
            telling.standing == row.standing and row.settled_at is None and state_of(row.standing)[0] is not State.OPEN
        ):
            # It came here settled; this is the record that tells by what.
            row.settled, row.settled_at = record.position, record.at
        else:
            self._trace(row, record.position)

    def _is_past(self, position: int) -> bool:
        """Whether the record that accepted a message came here, now or before."""
        number = position >> ORIGIN_SHIFT
        last = self._extract.last if number == self._number else self._held(number)
        return position & SEQUENCE_MASK <= last

    def _deliver(self, row: Row, record: Record, telling: Telling) -> None:
        if telling.attempt < row.attempts:
            self._trace(row, record.position)
            return
        self._trace(row, row.delivered)
        row.attempts, row.delivered, row.delivered_at = telling.attempt, record.position, record.at
        row.holder = telling.holder if is_capability(row.recipient) else None

    def _surface(self, row: Row, record: Record) -> None:
        row.has_surfaced = row.has_surfaced or row.surfaced_at is None
        # The earliest counts: whichever journal comes first.
        row.surfaced_at = record.at if row.surfaced_at is None else min(row.surfaced_at, record.at)
        self._trace(row, record.position)

    def _claim(self, row: Row, hop: int, keeper: str) -> None:
        """A node claims to be a message's keeper."""
        numbering = self._numbering
        if is_capability(row.recipient) and (hop, keeper) > claim(numbering, row.position, row.keeper, row.hop):
            row.former = row.former or (row.keeper,)
            row.hop, row.keeper = hop, keeper_as_stored(numbering, keeper)
            row.is_changed = True

    def _claim_for_others(self) -> None:
        """Of several nodes that accepted a message one keeps it."""
        node = self._numbering.node_of(self._number)
        for message in self._changes.aliases.values():
            row = self._rows.get(message)
            if row is not None:
                self._claim(row, 0, node)

    def _raise(self, row: Row, record: Record, telling: Telling) -> None:
        is_open = state_of(telling.standing)[0] is State.OPEN
        row.standing = telling.standing
        if telling.standing == _PURGED:
            self._changes.purged.append(row.position)
        if telling.standing == _PURGED and row.settled_at is not None:
            # What it died of stays its end.
            self._trace(row, record.position)
            return
        self._trace(row, row.settled)
        if is_open:
            self._trace(row, record.position)
            row.settled = row.settled_at = None
            row.failures = row.due_at = 0
            row.expires_at, row.by_deadline = self._renewed(record, telling) or row.expires_at, False
        else:
            row.settled, row.settled_at, row.reason = record.position, record.at, telling.reason

    def _end(self, row: Row, standing: int) -> None:
        """It has come to an end by a record that was cut."""
        if standing > row.standing:
            self._trace(row, row.settled)
            row.standing, row.settled, row.settled_at = standing, None, None
            row.is_changed = True
            if standing == _PURGED:
                self._changes.purged.append(row.position)

    def _renewed(self, record: Record, telling: Telling) -> int:
        """When a message that was replayed expires, by this node's clock; 0 if nothing tells."""
        expires_at = telling.expires_at
        # The record has it by the clock of whoever wrote it, as that was then. That is all there is if a node of an
        # older version hands it out, or if the record was here before its message.
        if record.position >> ORIGIN_SHIFT == self._number:
            expires_at = self._extract.renewed.get(telling.position, expires_at)
        return expires_at and expires_at - self._ahead_ms

    def _trace(self, row: Row, record: int | None) -> None:
        if record is not None:
            self._changes.traces.add((row.position, record))

    def _revive(self) -> None:
        for theirs, envelope in self._extract.revived.items():
            position = self._numbering.translate(self._number, theirs)
            row = None if position is None else self._rows.get(self._aliases.get(position, position))
            if row is None or state_of(row.standing)[0] is not State.OPEN:
                continue
            row.body = row.body or row.position
            row.is_changed = True
            self._changes.revived[row.body] = envelope
