"""The store's contract: what every implementation promises to the rules above it.

The store decides nothing. It keeps messages and the journal, each verb in one transaction, and answers when that
transaction is durable. The rules (who may send, which attempt is the last) are in ``intake``, ``delivery`` and
``lifecycle``; they are the only writers, and they call from one thread, so verbs take effect in the order of the calls.

Promises, held by ``tests/contract/test_store.py``:

* A verb's Deferred fires only after its effect would survive a power cut (memory: a restart of the node object).
* Verbs take effect in the order in which they were called, and one that fails has no effect at all.
* ``append`` is idempotent by (sender, id), also within one batch.
* ``settle`` never unsettles; ``done`` overrides ``dead``, ``expired`` and ``cancelled`` and nothing else overrides.
* ``replay`` alone opens what was settled, and only dead letters whose body is there.
* Each verb that changes something appends its record to the journal in the same transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred

from trishula_router.journal import Damage, Kind, Record

__all__ = [
    "Accepted",
    "DeadLetter",
    "Draft",
    "Forgotten",
    "History",
    "MailboxSize",
    "Return",
    "State",
    "Store",
    "StoreError",
    "StoredMessage",
    "Verdict",
]


class StoreError(Exception):
    """The store can't be opened; the text is the sentence for the operator."""


class State(IntEnum):
    """Where a message's life stands, as stored. ``OPEN`` covers waiting and delivered-but-not-settled."""

    OPEN = 0
    DONE = 1
    DEAD = 2
    EXPIRED = 3
    CANCELLED = 4


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A message on its way into the store.

    Attributes:
        sender, id: its key.
        recipients: addresses; more than one for a broadcast. Without any nothing is stored, so a repeat is none.
        expires_at: ms; after it nobody gets the message any more.
        envelope: the message as JSON, which is what recipients read back.
        by_deadline: whether ``expires_at`` is the message's own deadline, not the end of its time to live.
    """

    sender: str
    id: str
    recipients: tuple[str, ...]
    type: str
    priority: int
    expires_at: int
    envelope: bytes
    by_deadline: bool = False


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """What became of a draft.

    Attributes:
        positions: of its accepted records, one a recipient, in the order of ``recipients``; for a duplicate those of
            the message that was first.
        duplicate: whether (sender, id) was there before; then nothing was stored.
    """

    positions: tuple[int, ...]
    duplicate: bool


class Return(msgspec.Struct, frozen=True, gc=False):
    """A message that goes back into its mailbox.

    Attributes:
        failures: how often it has failed now.
        due_at: ms; not delivered again before.
    """

    position: int
    failures: int
    due_at: int


class StoredMessage(msgspec.Struct, frozen=True, gc=False):
    """A message of the store, without its body. Instants in ms.

    Attributes:
        position: of its accepted record; its identity within the node.
        attempts: how often it was delivered.
        failures: how often an attempt failed (nacked, or its lease ran out).
        due_at: not to be delivered before.
        delivered_at: of the last delivery, ``None`` before the first.
        settled_at: when it reached its final state.
        by_deadline: whether ``expires_at`` is the message's own deadline.
        holder: of a message to a capability: the agent it was delivered to last.
    """

    position: int
    sender: str
    id: str
    recipient: str
    type: str
    priority: int
    accepted_at: int
    expires_at: int
    size_bytes: int
    attempts: int = 0
    failures: int = 0
    due_at: int = 0
    state: State = State.OPEN
    delivered_at: int | None = None
    settled_at: int | None = None
    by_deadline: bool = False
    holder: str | None = None

    @property
    def state_word(self) -> str:
        """The state as the wire contract names it."""
        if self.state is State.OPEN:
            return "accepted" if self.delivered_at is None else "delivered"
        return self.state.name.lower()


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """A dead message whose body is kept, and why it is dead."""

    message: StoredMessage
    reason: str


class Forgotten(msgspec.Struct, frozen=True, gc=False):
    """What one step of retention did.

    Attributes:
        after: where to go on; 0 if there is nothing further that is old enough.
        bodies: how many bodies were deleted.
        size_bytes: their size.
        fullness: how much of what the store may take it takes now: 1.0 is all.
    """

    after: int
    bodies: int
    size_bytes: int
    fullness: float


class MailboxSize(msgspec.Struct, frozen=True, gc=False):
    """How much one address has open."""

    messages: int
    size_bytes: int


class History(msgspec.Struct, frozen=True):
    """A message and every record that tells of it, oldest first."""

    message: StoredMessage
    records: tuple[Record, ...]


class Verdict(msgspec.Struct, frozen=True):
    """The outcome of a check of the whole store."""

    records: int
    bodies: int
    damages: tuple[Damage, ...]


class Store(Protocol):
    """What a node keeps. All instants are ms since the epoch; nothing here reads a clock."""

    @property
    def epoch(self) -> str:
        """Changes when the store is made anew: positions of another epoch mean nothing here."""

    @property
    def high_water(self) -> int:
        """The position of the newest durable record of this node."""

    def append(self, drafts: Sequence[Draft], at: int) -> Deferred[list[Accepted]]:
        """Store messages. Fails with ``StorageFull`` or ``StorageFailed``; then none of them is stored."""

    def deliver(self, deliveries: Sequence[tuple[int, int]], facts: Mapping[str, Any], at: int) -> Deferred[None]:
        """Note deliveries, (position, attempt) each.

        May wait for the next verb of another kind, because nothing is lost with it: a message whose delivery was not
        on record is delivered again, and its receiver remembers its id.
        """

    def give_back(self, returns: Sequence[Return], reason: str, at: int) -> Deferred[None]:
        """Put messages back into their mailboxes."""

    def settle(
        self, positions: Sequence[int], state: State, reason: str | None, at: int, notices: Sequence[Draft] = ()
    ) -> Deferred[list[Accepted]]:
        """Bring messages to a final state, and append the notices that tell their senders, both or neither.

        The answer is that of :meth:`append` for the notices.
        """

    def replay(self, revived: Mapping[int, int], at: int) -> Deferred[list[StoredMessage]]:
        """Put dead letters back into their mailboxes, with no failures, to expire at the given instants (ms).

        What is not a dead letter (any more) is left alone; the answer has those that are open now.
        """

    def purge(self, positions: Sequence[int], at: int) -> Deferred[list[int]]:
        """Delete the bodies of dead letters; the answer has the positions of those that were some."""

    def forget(self, after: int, limit: int, *, before: int, dead_before: int, at: int) -> Deferred[Forgotten]:
        """Delete bodies of messages that are settled at all their recipients; of ``limit`` bodies behind ``after``.

        Args:
            after: a position; 0 to begin.
            limit: how many bodies to look at.
            before: those that were settled before this instant (ms) can go.
            dead_before: the same for dead letters.
            at: now.
        """

    def note(self, kind: Kind, facts: Mapping[str, Any], at: int) -> Deferred[None]:
        """Append a record that changes no message. May wait for the next verb, like :meth:`deliver`."""

    def remember(self, notes: Mapping[str, str]) -> Deferred[None]:
        """Keep short texts by key, each in place of the one before; no record tells of it.

        May wait for the next verb, like :meth:`deliver`.
        """

    # -- what the rules decide by: these see every verb that was called before them -----------------------------------

    def head(self, recipient: str, after: tuple[int, int], limit: int) -> Deferred[list[StoredMessage]]:
        """The next open messages of an address behind ``after``, in order of delivery: by (priority, position)."""

    def at_positions(self, positions: Sequence[int]) -> Deferred[dict[int, StoredMessage]]:
        """Messages by position; unknown positions are left out."""

    # -- questions: as of some instant between the call and the answer ------------------------------------------------

    def bodies(self, positions: Sequence[int]) -> Deferred[dict[int, bytes]]:
        """The envelopes of messages, as JSON."""

    def open_mailboxes(self) -> Deferred[dict[str, MailboxSize]]:
        """Every address that has open messages."""

    def expired(self, now: int, limit: int) -> Deferred[list[int]]:
        """Positions of open messages whose time is over."""

    def dead_letters(self, after: int, limit: int, agent: str | None = None) -> Deferred[list[DeadLetter]]:
        """Dead letters behind a position, oldest first: all, or those to an agent and its instances."""

    def remembered(self, prefix: str) -> Deferred[dict[str, str]]:
        """What is kept under keys that begin so."""

    def with_ids(self, ids: Sequence[str]) -> Deferred[list[StoredMessage]]:
        """Messages by id, of all senders and recipients: the caller filters by who asks."""

    def history(self, message_id: str) -> Deferred[list[History]]:
        """The life of every message of that id."""

    def records(
        self, *, after: int, limit: int, kind: str | None = None, since: int | None = None, until: int | None = None
    ) -> Deferred[list[Record]]:
        """Records behind a position, oldest first."""

    def verify(self) -> Deferred[Verdict]:
        """Check the chain, and every message and body against it; what is unreadable is a damage, not a fault."""

    def size_bytes(self) -> int:
        """What the store takes on disk now."""

    def close(self) -> Deferred[None]:
        """Make durable what waits, and let go of everything."""
