"""What a fold works on: the rows of messages as they are here, what it looks up, and what it changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec

from trishula_router.store.interface import Copied
from trishula_router.store.journal import Record
from trishula_router.store.messages import State, StoredMessage
from trishula_router.store.standing import state_of

__all__ = ["Changes", "Identity", "RecipientKey", "Row", "Shelf"]

#: (the sender's agent, id, recipient)
RecipientKey = tuple[str, str, str]


class Identity(NamedTuple):
    """A message under a key, and what tells it from others under that key."""

    position: int
    sender: str
    type: str
    digest: str
    use: int


class Row(msgspec.Struct, gc=False):
    """A message as the fold changes it; see :class:`~trishula_router.store.messages.StoredMessage`.

    Attributes:
        body: the position of its envelope, 0 if it has none.
        standing: see :mod:`.standing`.
        delivered, settled: positions of the records of its last delivery and of its end.
        was: its standing before this run; -1 if it is new.
        reason: why it was settled in this run.
        former: its keeper before this run, if that is known to be another one: in a tuple, because it may be ``None``.
        has_surfaced: whether its first surfacing is told in this run.
    """

    position: int
    sender: str
    id: str
    recipient: str
    type: str
    priority: int
    accepted_at: int
    expires_at: int
    by_deadline: bool
    size_bytes: int
    arrival: int
    body: int
    standing: int
    attempts: int = 0
    failures: int = 0
    due_at: int = 0
    delivered: int | None = None
    delivered_at: int | None = None
    settled: int | None = None
    settled_at: int | None = None
    holder: str | None = None
    keeper: str | None = None
    hop: int = 0
    digest: str = ""
    use: int = 0
    reply_to: str | None = None
    surfaced_at: int | None = None
    was: int = -1
    reason: str | None = None
    is_changed: bool = False
    former: tuple[str | None] | None = None
    has_surfaced: bool = False

    def message(self) -> StoredMessage:
        """It as the rules see it."""
        return StoredMessage(
            self.position,
            self.sender,
            self.id,
            self.recipient,
            self.type,
            self.priority,
            self.accepted_at,
            self.expires_at,
            self.size_bytes,
            self.attempts,
            self.failures,
            self.due_at,
            state_of(self.standing)[0],
            self.delivered_at,
            self.settled_at,
            self.by_deadline,
            self.holder,
            self.arrival,
            self.keeper,
            self.hop,
            self.digest,
            self.use,
            self.reply_to,
            self.surfaced_at,
        )


class Shelf(Protocol):
    """What the fold asks its store."""

    def with_keys(self, keys: Iterable[RecipientKey]) -> Mapping[RecipientKey, Sequence[Identity]]:
        """The messages that are here under these keys, in order of position."""

    def aliases(self, positions: Iterable[int]) -> Mapping[int, int]:
        """Positions of messages by those of their aliases; what is no alias is left out."""

    def rows(self, positions: Iterable[int]) -> dict[int, Row]:
        """Messages by position."""

    def early(self, positions: Iterable[int]) -> Sequence[tuple[int, Record]]:
        """Records that were copied before the messages they tell of: (the message's position, record) each."""


@dataclass(slots=True)
class Changes:
    """What a store writes.

    Attributes:
        records: for the journal.
        new, changed: messages.
        bodies: envelopes of new messages, by position.
        revived: bodies that a replay needs, by position; one that is there stays.
        aliases: position → the message's.
        alias_bodies: positions of aliases that have a body of their own among ``bodies``.
        early: (position of a message that is not here yet, of the record) each.
        late: positions that early records told of and that are here now.
        traces: (position of a message, of a further record that tells of it) each.
        purged: positions of messages whose bodies are to be deleted.
        notes: what is to be remembered; see :mod:`.revoked`.
        first_use: at least from there on uses are counted; see :mod:`.first_use`.
        copied: the answer.
    """

    records: list[Record]
    new: list[Row] = field(default_factory=list)
    changed: list[Row] = field(default_factory=list)
    bodies: dict[int, bytes] = field(default_factory=dict)
    revived: dict[int, bytes] = field(default_factory=dict)
    aliases: dict[int, int] = field(default_factory=dict)
    alias_bodies: list[int] = field(default_factory=list)
    early: list[tuple[int, int]] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    traces: set[tuple[int, int]] = field(default_factory=set)
    purged: list[int] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    first_use: int = 0

    def copied(self, sequence: int) -> Copied:
        """The answer to whoever asked for the copy."""
        settled, reopened, moved = [], [], []
        for row in self.changed:
            was_open, is_open = state_of(row.was)[0] is State.OPEN, state_of(row.standing)[0] is State.OPEN
            if was_open and row.former is not None and row.former != (row.keeper,):
                moved.append((row.message(), row.former[0]))
            if was_open and not is_open:
                settled.append((row.message(), row.reason))
            elif is_open and not was_open:
                reopened.append(row.message())
        arrived = [row.message() for row in self.new if state_of(row.standing)[0] is State.OPEN]
        surfaced = [row.message() for row in self.changed if row.has_surfaced]
        return Copied(sequence, arrived, settled, reopened, moved, surfaced)
