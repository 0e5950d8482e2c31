"""Messages as a store has them: on their way in, kept, given back, dead; and which mailbox each waits in.

The rules and every implementation of the store speak of messages by these types; nothing here does I/O.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from trishula.contract.addresses import agent_of, is_capability, is_nodes_own
from trishula_router.store.journal import ORIGIN_SHIFT, is_own

__all__ = [
    "Accepted",
    "DeadLetter",
    "Draft",
    "Earlier",
    "MailboxSize",
    "OpenSize",
    "Return",
    "State",
    "StoredMessage",
    "is_kept_here",
    "mailbox_of",
    "payer_of",
]


class State(IntEnum):
    """Where a message's life stands, as stored. ``OPEN`` covers waiting and delivered-but-not-settled."""

    OPEN = 0
    DONE = 1
    DEAD = 2
    EXPIRED = 3
    CANCELLED = 4


def is_kept_here(position: int, keeper: str | None) -> bool:
    """Whether this node is a message's keeper: the one it was handed to, or else the one that accepted it."""
    return is_own(position) if keeper is None else not keeper


def payer_of(sender: str, message_id: str, recipient: str) -> str:
    """For which agent a message counts: its sender's, or, of what the node says itself, the one that it is told.

    What a node tells goes out in the name of the recipient that a message had: that one has no part in it, and who
    floods others with COMMANDs that expire would use up their share.
    """
    return agent_of(recipient if is_nodes_own(message_id) else sender)


def mailbox_of(recipient: str, position: int, keeper: str | None = None) -> str:
    """The mailbox that a message waits in: its recipient's.

    One to a capability is handed out by its keeper, and by no other node: two that can't reach each other would give it
    to an agent each. Elsewhere it waits apart, in a mailbox that nobody consumes. Who its keeper is: :mod:`.keepers`.
    """
    if not is_capability(recipient) or is_kept_here(position, keeper):
        return recipient
    return f"{recipient}@{keeper or position >> ORIGIN_SHIFT}"


#: The priority of urgent mail, for which room is kept.
URGENT = 1


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A message on its way into the store.

    Attributes:
        sender, id: with the sender's agent, its key.
        recipients: addresses; more than one for a broadcast. Without any nothing is stored, so a repeat is none.
        expires_at: ms; after it nobody gets the message any more.
        envelope: the message as JSON, which is what recipients read back.
        by_deadline: whether ``expires_at`` is the message's own deadline, not the end of its time to live.
        digest: tells it from other messages under its key, see :mod:`.identity`; "" if nothing does.
        reply_to: the id of the message that it answers.
        signature: its sender's, as it came; "" if there is none.
        encrypted: whether its payload is for its recipient's eyes alone.
        proof: by what its sender was known, see :class:`~trishula_router.store.facts.AcceptedFacts`.
        apart: whether its recipients come one by one, as those of a broadcast do that another cell accepted: then the
            same message to another recipient is no repeat.
    """

    sender: str
    id: str
    recipients: tuple[str, ...]
    type: str
    priority: int
    expires_at: int
    envelope: bytes
    by_deadline: bool = False
    digest: str = ""
    reply_to: str | None = None
    signature: str = ""
    encrypted: bool = False
    proof: str = ""
    apart: bool = False


class Earlier(msgspec.Struct, frozen=True, gc=False):
    """The message that uses an id already, as the refusal of another one names it.

    Attributes:
        type: COMMAND, STATUS, …
        to: its recipient, or ``broadcast``.
        accepted_at: ms.
    """

    type: str
    to: str
    accepted_at: int


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """What became of a draft.

    Attributes:
        positions: of its accepted records, one a recipient, in the order of ``recipients``; for a duplicate those of
            the message that was first, which another node may have accepted.
        duplicate: whether it was there before; then nothing was stored.
        arrival: of the first of its messages, the others follow one by one; 0 for a duplicate.
        earlier: another message that uses its id already; then nothing was stored either, and there are no positions.
    """

    positions: tuple[int, ...]
    duplicate: bool
    arrival: int = 0
    earlier: Earlier | None = None


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
        position: of its accepted record, the first one here if several nodes accepted it; its identity within the node.
        attempts: how often it was delivered.
        failures: how often an attempt failed (nacked, or its lease ran out).
        due_at: not to be delivered before.
        delivered_at: of the last delivery, ``None`` before the first.
        settled_at: when it reached its final state.
        by_deadline: whether ``expires_at`` is the message's own deadline.
        holder: of a message to a capability: the agent it was delivered to last.
        arrival: its place in the order in which messages became durable in this store, whichever node accepted them.
        keeper: of a message to a capability: the node that hands it out; "" is this one, ``None`` the one that accepted
            it.
        hop: how often it was handed over to another keeper.
        digest: see :mod:`.identity`; "" if nobody knows.
        use: how often its id was used by others before, and forgotten.
        reply_to: the id of the message that it answers, if that is known.
        surfaced_at: when it was first put into a model's context, ``None`` before.
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
    arrival: int = 0
    keeper: str | None = None
    hop: int = 0
    digest: str = ""
    use: int = 0
    reply_to: str | None = None
    surfaced_at: int | None = None

    @property
    def is_kept_here(self) -> bool:
        """Whether this node is its keeper."""
        return is_kept_here(self.position, self.keeper)

    @property
    def ended_by(self) -> int:
        """When it reached its final state, at the latest: one that came here settled ended before its time was over."""
        return self.expires_at if self.settled_at is None else self.settled_at

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


class OpenSize(msgspec.Struct, frozen=True, gc=False):
    """How much one agent has open in one mailbox; ``urgent`` is what of it has priority 1."""

    messages: int
    size_bytes: int
    urgent: int = 0
    urgent_bytes: int = 0

    def plus(self, other: OpenSize) -> OpenSize:
        """Both together."""
        return OpenSize(
            self.messages + other.messages,
            self.size_bytes + other.size_bytes,
            self.urgent + other.urgent,
            self.urgent_bytes + other.urgent_bytes,
        )


class MailboxSize(msgspec.Struct, frozen=True):
    """How much one address has open, by the agents for whom it counts (:func:`payer_of`)."""

    senders: dict[str, OpenSize]

    @property
    def messages(self) -> int:
        """How many messages."""
        return sum(size.messages for size in self.senders.values())

    @property
    def size_bytes(self) -> int:
        """How large they are together."""
        return sum(size.size_bytes for size in self.senders.values())
