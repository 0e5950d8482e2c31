"""The questions of the store in memory: what it has, told without a change.

As in SQLite (``reads.py`` there), what is asked is apart from what changes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import msgspec
from twisted.internet.defer import Deferred, succeed

from trishula_router.store.bases import Base
from trishula_router.store.commits import Commits
from trishula_router.store.interface import Condition, History, Verification
from trishula_router.store.journal import ORIGIN_SHIFT, SEQUENCE_MASK, Damage, Kind, Record, verify
from trishula_router.store.memory_fold import MemoryShelf
from trishula_router.store.messages import DeadLetter, MailboxSize, OpenSize, State, StoredMessage, mailbox_of, payer_of
from trishula_router.store.origins import Tails
from trishula_router.store.runs import Extract, Origin
from trishula_router.store.signed_bodies import with_signature
from trishula_router.store.standing import tellings
from trishula_router.store.telling import body_damage
from trishula_router.store.translating import translated
from trishula_router.store.zones import NoZones, Zones

__all__ = ["MemoryReads"]


class MemoryReads:
    """The part of :class:`trishula_router.store.interface.Store` that changes nothing.

    Args:
        epoch: of the store.
        node: its node's name, which only linked nodes need.
    """

    def __init__(self, epoch: str, node: str) -> None:
        self._epoch = epoch
        self._tails = Tails(epoch, node)
        self._shelf = MemoryShelf()
        self._journal = self._shelf.journals[0]
        self._messages = self._shelf.messages
        self._bodies = self._shelf.bodies
        self._reasons = self._shelf.reasons
        self._notes = self._shelf.notes
        self._commits = Commits()

    @property
    def epoch(self) -> str:
        return self._epoch

    @property
    def high_water(self) -> int:
        return self._shelf.own_end.sequence

    @property
    def commits(self) -> Commits:
        return self._commits

    @property
    def zones(self) -> Zones:
        return NoZones()

    def origins(self) -> list[Origin]:
        bases = self._shelf.bases
        others = (
            msgspec.structs.replace(one, base=bases[one.number].sequence) if one.number in bases else one
            for one in self._tails.durable
        )
        return [Origin(0, "", self._epoch, self.high_water, self._shelf.base.sequence), *others]

    def base(self, number: int = 0) -> Base:
        return self._shelf.base_of(number)

    def place(self, position: int) -> tuple[str, int]:
        number = position >> ORIGIN_SHIFT
        return self._tails.numbering.names[number][0] if number else "", position & SEQUENCE_MASK

    def head(self, recipient: str, after: tuple[int, int], limit: int) -> Deferred[list[StoredMessage]]:
        waiting = [
            message
            for message in self._messages.values()
            if message.state is State.OPEN
            and mailbox_of(message.recipient, message.position, message.keeper) == recipient
            and (message.priority, message.arrival) > after
        ]
        waiting.sort(key=lambda message: (message.priority, message.arrival))
        return succeed(waiting[:limit])

    def bodies(self, positions: Sequence[int]) -> Deferred[dict[int, bytes]]:
        found = {position: self._bodies[position] for position in positions if position in self._bodies}
        return succeed({position: with_signature(body, self._facts_at(position)) for position, body in found.items()})

    def _facts_at(self, position: int) -> bytes | None:
        journal = self._shelf.journals.get(position >> ORIGIN_SHIFT, [])
        at = bisect_left(journal, position, key=lambda record: record.position)
        return journal[at].facts if at < len(journal) and journal[at].position == position else None

    def open_mailboxes(self) -> Deferred[dict[str, MailboxSize]]:
        found: dict[str, dict[str, OpenSize]] = {}
        for message in self._messages.values():
            if message.state is State.OPEN:
                senders = found.setdefault(mailbox_of(message.recipient, message.position, message.keeper), {})
                agent = payer_of(message.sender, message.id, message.recipient)
                size_bytes = message.size_bytes
                urgent = (1, size_bytes) if message.priority == 1 else (0, 0)
                senders[agent] = senders.get(agent, OpenSize(0, 0)).plus(OpenSize(1, size_bytes, *urgent))
        return succeed({mailbox: MailboxSize(senders) for mailbox, senders in found.items()})

    def oldest(self, mailboxes: Sequence[str]) -> Deferred[dict[str, int]]:
        firsts: dict[tuple[str, int], StoredMessage] = {}
        for message in self._messages.values():
            place = mailbox_of(message.recipient, message.position, message.keeper), message.priority
            if message.state is State.OPEN and (place not in firsts or message.arrival < firsts[place].arrival):
                firsts[place] = message
        found: dict[str, int] = {}
        for (mailbox, _), message in firsts.items():
            if mailbox in mailboxes:
                found[mailbox] = min(message.accepted_at, found.get(mailbox, message.accepted_at))
        return succeed(found)

    def expired(self, now: int, limit: int) -> Deferred[list[int]]:
        over = [m.position for m in self._messages.values() if m.state is State.OPEN and m.expires_at <= now]
        return succeed(over[:limit])

    def at_positions(self, positions: Sequence[int]) -> Deferred[dict[int, StoredMessage]]:
        return succeed({position: self._messages[position] for position in positions if position in self._messages})

    def with_ids(self, ids: Sequence[str]) -> Deferred[list[StoredMessage]]:
        wanted = set(ids)
        return succeed([message for message in self._messages.values() if message.id in wanted])

    def answers(
        self, ids: Sequence[str], *, before: int | None = None, limit: int | None = None
    ) -> Deferred[list[StoredMessage]]:
        wanted = set(ids)
        found = [
            message
            for position, message in sorted(self._messages.items())
            if message.reply_to in wanted and (before is None or position < before)
        ]
        return succeed(found if limit is None else found[-limit:])

    def holders(self, positions: Sequence[int]) -> Deferred[dict[int, set[str]]]:
        told = [
            telling
            for record in self._shown(None)
            if record.kind == Kind.DELIVERED
            for telling in tellings(record.kind, record.facts)
        ]
        return succeed(
            {it: {one.holder for one in told if one.position == it and one.holder is not None} for it in positions}
        )

    def history(self, message_id: str) -> Deferred[list[History]]:
        shown = sorted(self._shown(None), key=lambda record: (record.at, record.position))
        return succeed(
            [
                History(message, tuple(record for record in shown if self._tells_of(record, message.position)))
                for message in self._messages.values()
                if message.id == message_id
            ]
        )

    def _shown(self, origin: int | None) -> list[Record]:
        journals = self._shelf.journals
        chosen = sorted(journals) if origin is None else [origin]
        held = [one for one in self._shelf.held if one.position >> ORIGIN_SHIFT in chosen]
        records = [*held, *(record for number in chosen for record in journals.get(number, []))]
        return translated(records, self._tails.numbering, self._shelf.aliases)

    def _tells_of(self, record: Record, position: int) -> bool:
        if record.kind == Kind.ACCEPTED:
            return self._shelf.resolved.get(record.position, record.position) == position
        return any(telling.position == position for telling in tellings(record.kind, record.facts))

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
        kinds = [kind] if isinstance(kind, str) else kind
        found = [
            record
            for record in self._shown(origin)
            if record.position > after
            and (end is None or record.position <= end)
            and (kinds is None or record.kind in kinds)
            and (since is None or record.at >= since)
            and (until is None or record.at < until)
        ]
        return succeed(found[:limit])

    def modes(self) -> Deferred[list[Record]]:
        newest = {record.position >> ORIGIN_SHIFT: record for record in self._shown(None) if record.kind == Kind.MODE}
        return succeed([newest[number] for number in sorted(newest)])

    def verify(self) -> Deferred[Verification]:
        names = {origin.number: origin.node for origin in self.origins()}
        journals = self._shelf.journals
        damages = [
            damage
            for number, journal in journals.items()
            for base in [self._shelf.base_of(number)]
            for damage in verify(journal, base.digest, base.sequence, names[number])
        ]
        damages += [
            Damage(record.position, damage)
            for journal in (self._shelf.held, *journals.values())
            for record in journal
            if record.kind == Kind.ACCEPTED
            and (damage := body_damage(record, self._bodies.get(record.position))) is not None
        ]
        return succeed(Verification(sum(map(len, journals.values())), len(self._bodies), tuple(damages)))

    def _is_letter(self, position: int) -> bool:
        message = self._messages.get(position)
        return message is not None and message.state is State.DEAD and position in self._bodies

    def dead_letters(self, after: int, limit: int, agent: str | None = None) -> Deferred[list[DeadLetter]]:
        letters = [
            DeadLetter(message, self._reasons.get(position, ""))
            for position, message in sorted(self._messages.items())
            if position > after
            and self._is_letter(position)
            and (agent is None or message.recipient.partition("/")[0] == agent)
        ]
        return succeed(letters[:limit])

    def extract(self, number: int, after: int, *, limit: int, limit_bytes: int) -> Deferred[Extract]:
        origin = next((origin for origin in self.origins() if origin.number == number), None)
        if origin is None:
            raise ValueError(f"the store holds no origin {number}")
        return succeed(self._shelf.run(origin, self._tails.numbering, after, limit, limit_bytes))

    def remembered(self, prefix: str) -> Deferred[dict[str, str]]:
        return succeed({key: text for key, text in self._notes.items() if key.startswith(prefix)})

    def condition(self) -> Condition:
        facts = sum(len(record.facts) for journal in self._shelf.journals.values() for record in journal)
        size_bytes = facts + sum(map(len, self._bodies.values()))
        return Condition(size_bytes, size_bytes)
