"""The store in memory: the reference implementation, and what unit and property tests run on.

It is as plain as the contract allows, so that SQLite can be compared with it. Its questions, which change nothing, are
in :mod:`.memory_reads`; here is what changes it. A restart of a node is played by a new node on the same object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred, fail, succeed

from trishula.contract.addresses import is_capability
from trishula_router.store.facts import (
    Attempts,
    ClockSetFacts,
    DeliveredFacts,
    Facts,
    PurgedFacts,
    RedactedFacts,
    SurfacedFacts,
    write_facts,
)
from trishula_router.store.fold import fold
from trishula_router.store.identity import Ids, Key, digest_of_envelope, key_of, latest_use
from trishula_router.store.interface import PROOF, Copied, Forgotten
from trishula_router.store.joining import joined, rebased
from trishula_router.store.journal import ORIGIN_SHIFT, Kind, Record, digest_of
from trishula_router.store.keepers import keeper_as_stored
from trishula_router.store.memory_cutting import MemoryCutting
from trishula_router.store.messages import Accepted, Draft, Return, State, StoredMessage
from trishula_router.store.noted import notes_in
from trishula_router.store.origins import End
from trishula_router.store.runs import Extract, JournalForked
from trishula_router.store.standing import PURGED_LIFE
from trishula_router.store.telling import accepted_facts, handed_facts, replayed_facts, returned_facts, settled_facts

__all__ = ["MemoryStore"]


class MemoryStore(MemoryCutting):
    """Implements :class:`trishula_router.store.interface.Store`.

    Args:
        epoch: of the store.
        node: its node's name, which only linked nodes need.
    """

    def __init__(self, epoch: str, node: str = "") -> None:
        super().__init__(epoch, node)
        self._by_key = self._shelf.by_key
        self._lives = self._shelf.lives
        self._tells: list[Callable[[], None]] = []

    def on_advance(self, tell: Callable[[], None]) -> None:
        self._tells.append(tell)

    def _advance(self) -> None:
        for tell in self._tells:
            tell()

    def _record(self, kind: Kind, facts: object, at: int) -> int:
        newest, previous = self._shelf.own_end
        position = newest + 1
        encoded = write_facts(facts)
        self._journal.append(
            Record(position, at, kind.value, encoded, digest_of(previous, position, at, kind.value, encoded))
        )
        self._advance()
        return position

    def append(self, drafts: Sequence[Draft], at: int, *, ids_since: int = 0) -> Deferred[list[Accepted]]:
        return succeed(self._append(drafts, at, ids_since))

    def _append(self, drafts: Sequence[Draft], at: int, ids_since: int = 0) -> list[Accepted]:
        keys = [key_of(draft) for draft in drafts]
        ids = Ids({key: self._under(key) for key in keys}, at, ids_since, self.first_use)
        accepted = []
        for key, draft in zip(keys, drafts, strict=True):
            known = ids.known(key, draft)
            if known is not None:
                accepted.append(known)
                continue
            use, positions = ids.use(key, draft), []
            for recipient in draft.recipients:
                position = self._record(Kind.ACCEPTED, accepted_facts(draft, recipient, use), at)
                self._messages[position] = StoredMessage(
                    position,
                    draft.sender,
                    draft.id,
                    recipient,
                    draft.type,
                    draft.priority,
                    at,
                    draft.expires_at,
                    len(draft.envelope),
                    by_deadline=draft.by_deadline,
                    arrival=position + self._tails.copied,
                    digest=draft.digest,
                    use=use,
                    reply_to=draft.reply_to,
                )
                self._bodies[position] = draft.envelope
                positions.append(position)
            if positions:
                self._by_key[key] = (*self._by_key.get(key, ()), *positions)
                ids.taken(key, draft, tuple(positions))
            accepted.append(Accepted(tuple(positions), False, positions[0] + self._tails.copied if positions else 0))
        return accepted

    def _under(self, key: Key) -> list[StoredMessage]:
        found = latest_use(self._messages[position] for position in self._by_key.get(key, ()))
        return [
            replace(message, digest=message.digest or digest_of_envelope(self._bodies.get(message.position)))
            for message in sorted(found, key=lambda message: message.arrival)
        ]

    def deliver(self, deliveries: Attempts, holder: str | None, session: int | None, at: int) -> Deferred[None]:
        self._record(Kind.DELIVERED, DeliveredFacts(deliveries, holder, session), at)
        for position, attempt in deliveries:
            self._change(position, attempts=attempt, delivered_at=at)
            if is_capability(self._messages[position].recipient):
                self._change(position, holder=holder)
        return succeed(None)

    def surface(self, surfacings: Attempts, holder: str, session: int | None, at: int) -> Deferred[list[int]]:
        first = {
            position: attempt
            for position, attempt in sorted(dict(surfacings).items())
            if position in self._messages and self._messages[position].surfaced_at is None
        }
        if first:
            self._record(Kind.SURFACED, SurfacedFacts(list(first.items()), holder, session), at)
        for position in first:
            self._change(position, surfaced_at=at)
        return succeed(list(first))

    def give_back(self, returns: Sequence[Return], reason: str, at: int) -> Deferred[None]:
        self._record(Kind.RETURNED, returned_facts(returns, reason), at)
        for one in returns:
            self._change(one.position, failures=one.failures, due_at=one.due_at)
        return succeed(None)

    def hand_over(self, positions: Sequence[int], keeper: str, at: int) -> Deferred[list[StoredMessage]]:
        asked = [self._messages[position] for position in dict.fromkeys(positions) if position in self._messages]
        hops = {
            message.position: message.hop + 1
            for message in asked
            if message.state is State.OPEN and is_capability(message.recipient) and message.is_kept_here
        }
        if hops:
            self._record(Kind.HANDED, handed_facts(hops, keeper), at)
        for position, hop in hops.items():
            self._change(position, keeper=keeper_as_stored(self._tails.numbering, keeper), hop=hop)
        return succeed([self._messages[message.position] for message in asked])

    def settle(
        self, positions: Sequence[int], state: State, reason: str | None, at: int, notices: Sequence[Draft] = ()
    ) -> Deferred[list[Accepted]]:
        settled = [position for position in dict.fromkeys(positions) if self._ends(position, state)]
        lives = {position: life for position in settled if (life := self._lives.get(position, 0))}
        if settled:
            facts = settled_facts(settled, reason, None if state is State.DONE else lives)
            self._record(Kind(state.name.lower()), facts, at)
        for position in settled:
            self._change(position, state=state, settled_at=at)
            self._reasons[position] = reason or ""
        return succeed(self._append(notices, at))

    def _ends(self, position: int, state: State) -> bool:
        if position not in self._messages:
            return False
        now = self._messages[position].state
        return now is State.OPEN or (state is State.DONE and now is not State.DONE)

    def replay(self, revived: Mapping[int, int], at: int, by: str | None = None) -> Deferred[list[StoredMessage]]:
        positions = [position for position in revived if self._is_letter(position)]
        lives = {position: self._lives.get(position, 0) + 1 for position in positions}
        if positions:
            self._record(Kind.REPLAYED, replayed_facts(lives, revived, by), at)
        self._lives.update(lives)
        for position in positions:
            self._change(
                position,
                state=State.OPEN,
                settled_at=None,
                failures=0,
                due_at=0,
                expires_at=revived[position],
                by_deadline=False,
            )
        return succeed([self._messages[position] for position in positions])

    def purge(self, positions: Sequence[int], at: int, by: str | None = None) -> Deferred[list[int]]:
        letters = [position for position in dict.fromkeys(positions) if self._is_letter(position)]
        if letters:
            self._record(Kind.PURGED, PurgedFacts(letters, by), at)
        for position in letters:
            self._shelf.forget(position)
            self._lives[position] = PURGED_LIFE
        return succeed(letters)

    def forget(self, after: int, limit: int, *, before: int, dead_before: int, at: int) -> Deferred[Forgotten]:
        looked_at: list[int] = []
        late: set[int] = set()
        for position in sorted(self._bodies):
            if len(looked_at) == limit:
                break
            if max(before, dead_before) <= self._messages[position].accepted_at <= at:
                late.add(position >> ORIGIN_SHIFT)
            if position > after and position >> ORIGIN_SHIFT not in late:
                looked_at.append(position)
        forgotten = [place for place in looked_at if self._can_go(place, before, dead_before)]
        size_bytes = sum(len(self._shelf.forget(place)) for place in forgotten)
        if forgotten:
            self._record(Kind.FORGOTTEN, {"bodies": forgotten, "bytes": size_bytes}, at)
        return succeed(Forgotten(looked_at[-1] if len(looked_at) == limit else 0, len(forgotten), size_bytes, 0.0))

    def _can_go(self, position: int, before: int, dead_before: int) -> bool:
        of_it = self._messages[position]
        return all(
            message.state is not State.OPEN
            and message.ended_by < (dead_before if message.state is State.DEAD else before)
            for message in map(self._messages.__getitem__, self._by_key[key_of(of_it)])
            if (message.use, message.digest) == (of_it.use, of_it.digest)
        )

    def copy(self, node: str, extract: Extract, ahead_ms: int = 0) -> Deferred[Copied]:
        try:
            return succeed(self._copy(node, extract, ahead_ms))
        except JournalForked as error:
            self._tails.rollback()
            return fail(error)

    def _copy(self, node: str, extract: Extract, ahead_ms: int) -> Copied:
        if extract.epoch == self._epoch:
            own = self._shelf.own_end
            if joined(extract, node, own):
                raise JournalForked(node, extract.epoch, own.sequence + 1, "is missing from the node's own journal")
            return Copied(own.sequence, [], [], [])
        number = self._tails.learn(node, extract).number
        end = self._tails.end_of(number)
        rest = extract.rest
        fresh = joined(extract, node, end, self._shelf.base_of(number))
        if fresh or (fresh is not None and rest and rest.last > end.sequence):
            newest_arrival = self.high_water + self._tails.copied
            changes = fold(
                self._shelf, self._tails.numbering, number, newest_arrival, fresh, extract, ahead_ms, self._held
            )
            self._shelf.write(number, changes, are_held=rest is not None)
            self._notes.update(changes.notes)
            self._count_from(changes.first_use)
            end = End(rest.last, rest.digest) if rest else End(fresh[-1][0], fresh[-1][4])
            base = rebased(extract, self._tails.end_of(number), self._shelf.base_of(number))
            if base is not None:
                self._shelf.bases[number] = base
            self._tails.move(number, end)
            self._tails.commit()
            self._advance()
            return changes.copied(end.sequence)
        self._tails.commit()
        return Copied(end.sequence, [], [], [])

    def _held(self, number: int) -> int:
        return self._tails.end_of(number).sequence if number else self.high_water

    def note(self, kind: Kind, facts: Facts | Mapping[str, Any], at: int) -> Deferred[None]:
        self._record(kind, facts, at)
        for position in facts.messages if isinstance(facts, RedactedFacts) else ():
            self._shelf.forget(position)
        self._notes.update(notes_in(kind, at, self._journal[-1].facts))
        return succeed(None)

    def remember(self, notes: Mapping[str, str]) -> Deferred[None]:
        self._notes.update(notes)
        for key in [key for key, text in notes.items() if not text]:
            del self._notes[key]
        return succeed(None)

    def prove(self, text: str) -> Deferred[str]:
        self._notes[PROOF] = text
        return succeed(self._notes[PROOF])

    def follow_clock(self, by_ms: int, after: int, notes: Mapping[str, str], at: int) -> Deferred[None]:
        self._record(Kind.CLOCK_SET, ClockSetFacts(by_ms), at)
        for message in list(self._messages.values()):
            if message.state is State.OPEN and message.arrival > after:
                self._change(
                    message.position,
                    accepted_at=message.accepted_at + by_ms,
                    expires_at=message.expires_at + by_ms,
                    due_at=message.due_at and message.due_at + by_ms,
                )
        return self.remember(notes)

    def _change(self, position: int, **changes: object) -> None:
        self._messages[position] = replace(self._messages[position], **changes)

    def close(self) -> Deferred[None]:
        return succeed(None)
