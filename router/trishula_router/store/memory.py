"""The store in memory: the reference implementation, and what unit and property tests run on.

It is as plain as the contract allows, so that SQLite can be compared with it. A restart of a node is played by a new
node on the same object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace
from twisted.internet.defer import Deferred, succeed

from trishula.names import is_capability
from trishula_router.journal import GENESIS, Damage, Kind, Record, digest_of, verify
from trishula_router.store.facts import accepted_facts, body_damage, mentions, returned_facts, settled_facts
from trishula_router.store.interface import (
    Accepted,
    DeadLetter,
    Draft,
    Forgotten,
    History,
    MailboxSize,
    Return,
    State,
    StoredMessage,
    Verdict,
)

__all__ = ["MemoryStore"]


class MemoryStore:
    """Implements :class:`trishula_router.store.interface.Store`."""

    def __init__(self, epoch: str) -> None:
        self._epoch = epoch
        self._journal: list[Record] = []
        self._messages: dict[int, StoredMessage] = {}
        self._bodies: dict[int, bytes] = {}
        self._by_key: dict[tuple[str, str], tuple[int, ...]] = {}
        self._reasons: dict[int, str] = {}
        self._notes: dict[str, str] = {}

    @property
    def epoch(self) -> str:
        return self._epoch

    @property
    def high_water(self) -> int:
        return len(self._journal)

    def _record(self, kind: Kind, facts: object, at: int) -> int:
        position = len(self._journal) + 1
        previous = self._journal[-1].digest if self._journal else GENESIS
        encoded = msgspec.json.encode(facts)
        self._journal.append(
            Record(position, at, kind.value, encoded, digest_of(previous, position, at, kind.value, encoded))
        )
        return position

    def append(self, drafts: Sequence[Draft], at: int) -> Deferred[list[Accepted]]:
        return succeed(self._append(drafts, at))

    def _append(self, drafts: Sequence[Draft], at: int) -> list[Accepted]:
        accepted = []
        for draft in drafts:
            key = (draft.sender, draft.id)
            known = self._by_key.get(key)
            if known is not None:
                accepted.append(Accepted(known, True))
                continue
            positions = []
            for recipient in draft.recipients:
                position = self._record(Kind.ACCEPTED, accepted_facts(draft, recipient), at)
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
                )
                self._bodies[position] = draft.envelope
                positions.append(position)
            if positions:
                self._by_key[key] = tuple(positions)
            accepted.append(Accepted(tuple(positions), False))
        return accepted

    def deliver(self, deliveries: Sequence[tuple[int, int]], facts: Mapping[str, Any], at: int) -> Deferred[None]:
        self._record(Kind.DELIVERED, {"messages": [list(one) for one in deliveries], **facts}, at)
        for position, attempt in deliveries:
            self._change(position, attempts=attempt, delivered_at=at)
            if is_capability(self._messages[position].recipient):
                self._change(position, holder=facts.get("to"))
        return succeed(None)

    def give_back(self, returns: Sequence[Return], reason: str, at: int) -> Deferred[None]:
        self._record(Kind.RETURNED, returned_facts(returns, reason), at)
        for one in returns:
            self._change(one.position, failures=one.failures, due_at=one.due_at)
        return succeed(None)

    def settle(
        self, positions: Sequence[int], state: State, reason: str | None, at: int, notices: Sequence[Draft] = ()
    ) -> Deferred[list[Accepted]]:
        self._record(Kind(state.name.lower()), settled_facts(positions, reason), at)
        for position in positions:
            now = self._messages[position].state
            if now is State.OPEN or (state is State.DONE and now is not State.DONE):
                self._change(position, state=state, settled_at=at)
                self._reasons[position] = reason or ""
        return succeed(self._append(notices, at))

    def replay(self, revived: Mapping[int, int], at: int) -> Deferred[list[StoredMessage]]:
        positions = [position for position in revived if self._is_letter(position)]
        if positions:
            self._record(Kind.REPLAYED, settled_facts(positions, None), at)
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

    def purge(self, positions: Sequence[int], at: int) -> Deferred[list[int]]:
        letters = [position for position in dict.fromkeys(positions) if self._is_letter(position)]
        if letters:
            self._record(Kind.PURGED, settled_facts(letters, None), at)
        for position in letters:
            del self._bodies[position]
        return succeed(letters)

    def _is_letter(self, position: int) -> bool:
        message = self._messages.get(position)
        return message is not None and message.state is State.DEAD and position in self._bodies

    def dead_letters(self, after: int, limit: int, agent: str | None = None) -> Deferred[list[DeadLetter]]:
        letters = [
            DeadLetter(message, self._reasons[position])
            for position, message in sorted(self._messages.items())
            if position > after
            and self._is_letter(position)
            and (agent is None or message.recipient.partition("/")[0] == agent)
        ]
        return succeed(letters[:limit])

    def forget(self, after: int, limit: int, *, before: int, dead_before: int, at: int) -> Deferred[Forgotten]:
        looked_at: list[int] = []
        for position in self._bodies:
            if len(looked_at) == limit or self._messages[position].accepted_at >= max(before, dead_before):
                break
            if position > after:
                looked_at.append(position)
        forgotten = [place for place in looked_at if self._can_go(place, before, dead_before)]
        size_bytes = sum(len(self._bodies.pop(place)) for place in forgotten)
        if forgotten:
            self._record(Kind.FORGOTTEN, {"bodies": forgotten, "bytes": size_bytes}, at)
        return succeed(Forgotten(looked_at[-1] if len(looked_at) == limit else 0, len(forgotten), size_bytes, 0.0))

    def _can_go(self, position: int, before: int, dead_before: int) -> bool:
        key = self._messages[position].sender, self._messages[position].id
        return all(
            message.settled_at is not None
            and message.settled_at < (dead_before if message.state is State.DEAD else before)
            for message in map(self._messages.__getitem__, self._by_key[key])
        )

    def note(self, kind: Kind, facts: Mapping[str, Any], at: int) -> Deferred[None]:
        self._record(kind, facts, at)
        return succeed(None)

    def remember(self, notes: Mapping[str, str]) -> Deferred[None]:
        self._notes.update(notes)
        return succeed(None)

    def remembered(self, prefix: str) -> Deferred[dict[str, str]]:
        return succeed({key: text for key, text in self._notes.items() if key.startswith(prefix)})

    def _change(self, position: int, **changes: object) -> None:
        self._messages[position] = replace(self._messages[position], **changes)

    def head(self, recipient: str, after: tuple[int, int], limit: int) -> Deferred[list[StoredMessage]]:
        waiting = [
            message
            for message in self._messages.values()
            if message.recipient == recipient
            and message.state is State.OPEN
            and (message.priority, message.position) > after
        ]
        waiting.sort(key=lambda message: (message.priority, message.position))
        return succeed(waiting[:limit])

    def bodies(self, positions: Sequence[int]) -> Deferred[dict[int, bytes]]:
        return succeed({position: self._bodies[position] for position in positions if position in self._bodies})

    def open_mailboxes(self) -> Deferred[dict[str, MailboxSize]]:
        sizes: dict[str, MailboxSize] = {}
        for message in self._messages.values():
            if message.state is State.OPEN:
                size = sizes.get(message.recipient, MailboxSize(0, 0))
                sizes[message.recipient] = MailboxSize(size.messages + 1, size.size_bytes + message.size_bytes)
        return succeed(sizes)

    def expired(self, now: int, limit: int) -> Deferred[list[int]]:
        over = [m.position for m in self._messages.values() if m.state is State.OPEN and m.expires_at <= now]
        return succeed(over[:limit])

    def at_positions(self, positions: Sequence[int]) -> Deferred[dict[int, StoredMessage]]:
        return succeed({position: self._messages[position] for position in positions if position in self._messages})

    def with_ids(self, ids: Sequence[str]) -> Deferred[list[StoredMessage]]:
        wanted = set(ids)
        return succeed([message for message in self._messages.values() if message.id in wanted])

    def history(self, message_id: str) -> Deferred[list[History]]:
        return succeed(
            [
                History(message, tuple(record for record in self._journal if mentions(record, message.position)))
                for message in self._messages.values()
                if message.id == message_id
            ]
        )

    def records(
        self, *, after: int, limit: int, kind: str | None = None, since: int | None = None, until: int | None = None
    ) -> Deferred[list[Record]]:
        found = [
            record
            for record in self._journal[max(0, after) :]
            if (kind is None or record.kind == kind)
            and (since is None or record.at >= since)
            and (until is None or record.at < until)
        ]
        return succeed(found[:limit])

    def verify(self) -> Deferred[Verdict]:
        damages = verify(self._journal)
        damages += [
            Damage(record.position, damage)
            for record in self._journal
            if record.kind == Kind.ACCEPTED
            and (damage := body_damage(record, self._bodies.get(record.position))) is not None
        ]
        return succeed(Verdict(len(self._journal), len(self._bodies), tuple(damages)))

    def size_bytes(self) -> int:
        return sum(len(record.facts) for record in self._journal) + sum(map(len, self._bodies.values()))

    def close(self) -> Deferred[None]:
        return succeed(None)
