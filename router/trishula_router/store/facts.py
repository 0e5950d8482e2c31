"""The facts of journal records: one type for each kind, written and read here, so that every journal is the same.

How they are made of what the store is asked, and judged against what it holds, is in :mod:`.telling`.

What is written is fixed to the byte: the chain is over the bytes, and other nodes, older ones too, read them. A field
may be added at the end of a type, with a default that is not written; nothing may be renamed, moved or dropped. Keys
that a type doesn't know are a newer node's, and are passed over in reading.

What is shown to people keeps such keys too, so :mod:`.translating` and the audit work on the plain map; the names of
the lists of messages in a map are here.
"""

# Long because: each kind of record has its type here, beside the one list that says which.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from trishula.contract.texts import LINE
from trishula_router.store.facts_base import Facts
from trishula_router.store.journal import Kind
from trishula_router.store.lease_facts import LeaseFacts

__all__ = [
    "FACTS",
    "HOLDER_PATH",
    "POSITION_LISTS",
    "REASON_PATH",
    "AcceptedFacts",
    "ArchivedFacts",
    "Attempts",
    "ClockSetFacts",
    "DeliveredFacts",
    "Facts",
    "ForgottenFacts",
    "GrantsFacts",
    "HandedFacts",
    "JoinedFacts",
    "LeaseFacts",
    "LeftFacts",
    "LinkFacts",
    "ModeFacts",
    "NodeStartedFacts",
    "NodeStoppedFacts",
    "PurgedFacts",
    "RedactedFacts",
    "RefusedFacts",
    "ReplayedFacts",
    "RestoredFacts",
    "ReturnedFacts",
    "SettledFacts",
    "SurfacedFacts",
    "TakenOverFacts",
    "TokenFacts",
    "read_facts",
    "write_facts",
]

_F = TypeVar("_F", bound="Facts")

#: The keys whose lists name messages by position, alone or as the first of a list.
POSITION_LISTS = ("messages", "bodies")

#: For SQL: who a message was delivered to (:class:`DeliveredFacts`), and why it ended (:class:`SettledFacts`).
HOLDER_PATH = "$.to"
REASON_PATH = "$.reason"


#: Deliveries: (position, attempt) each.
Attempts = Sequence[tuple[int, int]]


class NodeStartedFacts(Facts, frozen=True, gc=False):
    """A run of the node began. ``pid`` is its process."""

    node: str
    version: str
    pid: int


class NodeStoppedFacts(Facts, frozen=True, gc=False):
    """A run of the node ended in order; after a crash there is no such record."""

    node: str


class RestoredFacts(Facts, frozen=True, gc=False):
    """The store was put in place from a backup. ``former_epoch`` is the backup's, if it had one."""

    epoch: str
    former_epoch: str | None


class JoinedFacts(Facts, frozen=True, gc=False):
    """A session joined.

    Attributes:
        agent: whose.
        session: its number.
        role: as what.
        address: where it came from; see :mod:`trishula_router.client_ips`.
        key: the short id of the key by which it proved who it is; empty: it was a token.
    """

    agent: str
    session: int
    role: str
    address: str | None = None
    key: str = ""


class LeftFacts(Facts, frozen=True, gc=False):
    """A session is gone."""

    agent: str
    session: int


class TakenOverFacts(Facts, frozen=True, gc=False):
    """A mailbox went to another process.

    Attributes:
        agent: whose mailbox.
        address: of the mailbox.
        session: the one that had it.
        by: the session that has it now; a node's name, if it is there.
        host: where the other process runs, if it said so.
    """

    agent: str
    address: str
    session: int
    by: int | str
    host: str | None = None


class RefusedFacts(Facts, frozen=True, gc=False):
    """Somebody was refused something.

    Attributes:
        agent: who that is, or says so; ``None`` if that is no name.
        error: the URI of what was answered.
        detail: its sentence.
        address: where a refused join came from, ``None`` if that is not known; unset for what a session asked.
        more: how many before it were not noted one by one.
    """

    agent: str | None
    error: str
    detail: str
    address: str | msgspec.UnsetType | None = msgspec.UNSET
    more: int = 0


class AcceptedFacts(Facts, frozen=True, gc=False):
    """A message was accepted for one recipient. ``sha256`` is of the envelope, in hexadecimal.

    The next three are :class:`~trishula_router.store.messages.StoredMessage`'s, and ``signature`` is the sender's, as
    :mod:`trishula.contract.signed` has it; ``encrypted`` says that the payload is. ``proof`` is by what the node
    verified its sender: ``token`` or ``key``, and the short id of that; empty: the node says it itself. Older nodes
    neither write nor read them.
    """

    sender: str = msgspec.field(name="from")
    id: str
    to: str
    type: str
    priority: int
    bytes: int
    sha256: str
    digest: str = ""
    use: int = 0
    reply_to: str | None = None
    signature: str = ""
    encrypted: bool = False
    proof: str = ""


class DeliveredFacts(Facts, frozen=True, gc=False):
    """Messages were handed out: (position, attempt) each, to an agent's session."""

    messages: Attempts
    to: str | None = None
    session: int | None = None


class SurfacedFacts(Facts, frozen=True, gc=False):
    """Messages were put into a model's context: (position, attempt) each, by an agent's session. Only the first counts.

    Nodes of earlier releases copy the record and pass over it.
    """

    messages: Attempts
    to: str | None = None
    session: int | None = None


class ReturnedFacts(Facts, frozen=True, gc=False):
    """Messages went back into their mailboxes: (position, failures, due_at in ms) each."""

    messages: Sequence[tuple[int, int, int]]
    reason: str | None = None


class SettledFacts(Facts, frozen=True, gc=False):
    """Messages reached the final state that the kind names: ``done``, ``dead``, ``expired`` or ``cancelled``.

    Attributes:
        messages: their positions.
        reason: why.
        lives: how often each had been replayed; empty if none was.
    """

    messages: Sequence[int]
    reason: str | None = None
    lives: list[int] = msgspec.field(default_factory=list)


class ReplayedFacts(Facts, frozen=True, gc=False):
    """Dead letters went back into their mailboxes.

    Attributes:
        messages: their positions.
        lives: the life that each begins; empty in records of the time before there were linked nodes.
        expires_at: when each expires, ms; empty likewise.
        by: the operator who did it; nodes of earlier releases don't tell.
    """

    messages: list[int]
    lives: list[int] = msgspec.field(default_factory=list)
    expires_at: list[int] = msgspec.field(default_factory=list)
    by: str | None = None


class PurgedFacts(Facts, frozen=True, gc=False):
    """The bodies of dead letters were deleted. ``by`` is as that of :class:`ReplayedFacts`."""

    messages: Sequence[int]
    by: str | None = None


class ForgottenFacts(Facts, frozen=True, gc=False):
    """Retention deleted the bodies of settled messages, so many bytes."""

    bodies: Sequence[int]
    bytes: int


class HandedFacts(Facts, frozen=True, gc=False):
    """Messages got another keeper; ``hops``: how often each was handed over now. See :mod:`.keepers`."""

    messages: list[int]
    keeper: str
    hops: list[int]


class ClockSetFacts(Facts, frozen=True, gc=False):
    """The node's clock followed a step of the machine's; see :mod:`trishula_router.clocks.timeline`."""

    by_ms: int


class LinkFacts(Facts, frozen=True, gc=False):
    """What became of a link to another node; ``more`` is how many before it were not noted one by one."""

    peer: str
    event: str
    detail: str
    more: int = 0


#: A year far beyond all: what a peer says must leave room for the records that follow it.
_MOST_SINCE = 2**52
_Line = Annotated[str, msgspec.Meta(max_length=500, pattern=LINE)]


class ModeFacts(Facts, frozen=True, gc=False):
    """The facts of a ``mode`` record: which mode the bus is in; see :mod:`trishula_router.bus_mode`.

    Attributes:
        mode: ``live``, or ``fallback``.
        sends: whether messages are taken; always true while the bus is live.
        reason: why, in one line.
        by: the agent that set it.
        since: ms, by the clock of the node at which it was set, or right behind the record that it replaces.
    """

    mode: Literal["live", "fallback"]
    sends: bool
    reason: _Line
    by: _Line
    since: Annotated[int, msgspec.Meta(ge=0, le=_MOST_SINCE)]


class TokenFacts(Facts, frozen=True, gc=False):
    """A token came, or went, or got an end; see :mod:`trishula_router.agents.changes`.

    Attributes:
        agent: whose token.
        what: ``new``, ``rotated``, ``revoked`` or ``expired``.
        token: the first eight hexadecimal digits of its SHA-256.
        by: who did it: a user of the operating system, or ``edited by hand``; empty if its end came.
        reason: why, as that user said.
        until: when the token ends, ms, of one that is new or rotated.
        sha256: all digits, of one that is revoked everywhere.
        before: all tokens that the agent has anywhere, made before this instant (ms), are revoked; then there is no
            ``token``, and ``agent`` may be ``*``: every agent.
        everywhere: whether all linked nodes heed it; see :mod:`.revoked`.
        is_key: whether it is a key in the place of a token.
    """

    agent: str
    what: str
    token: str
    by: str
    reason: str | None = None
    until: int | None = None
    sha256: str = ""
    before: int | None = None
    everywhere: bool = False
    is_key: bool = False


class GrantsFacts(Facts, frozen=True, gc=False):
    """The grants of an agent changed; ``before`` or ``after`` is ``None`` where the agent was, or is, not registered.

    ``by`` and ``reason`` are as those of :class:`TokenFacts`; ``by`` is empty if grants ended by themselves.
    """

    agent: str
    before: str | None
    after: str | None
    by: str
    reason: str | None = None


class ArchivedFacts(Facts, frozen=True, gc=False):
    """Records went into an archive segment, and are cut from the store from here on; see :mod:`.bases`.

    Attributes:
        first, last: the sequences of the first and the last of them.
        previous: the digest before the first, in hexadecimal.
        digest: the digest of the last, in hexadecimal.
        records: how many there are.
        file: the segment's name.
        sha256: of the whole file, in hexadecimal.
    """

    first: int
    last: int
    previous: str
    digest: str
    records: int
    file: str
    sha256: str


class RedactedFacts(Facts, frozen=True, gc=False):
    """An operator had the payloads of messages deleted; see :mod:`trishula_router.mail.redaction`.

    Nodes of earlier releases copy the record and pass over it: they keep what they have.
    """

    messages: Sequence[int]
    by: str
    reason: str


#: Each kind of record → what its facts are.
FACTS: Mapping[Kind, type[Facts]] = {
    Kind.NODE_STARTED: NodeStartedFacts,
    Kind.NODE_STOPPED: NodeStoppedFacts,
    Kind.RESTORED: RestoredFacts,
    Kind.JOINED: JoinedFacts,
    Kind.LEFT: LeftFacts,
    Kind.TAKEN_OVER: TakenOverFacts,
    Kind.REFUSED: RefusedFacts,
    Kind.ACCEPTED: AcceptedFacts,
    Kind.DELIVERED: DeliveredFacts,
    Kind.SURFACED: SurfacedFacts,
    Kind.RETURNED: ReturnedFacts,
    Kind.DONE: SettledFacts,
    Kind.DEAD: SettledFacts,
    Kind.EXPIRED: SettledFacts,
    Kind.CANCELLED: SettledFacts,
    Kind.REPLAYED: ReplayedFacts,
    Kind.FORGOTTEN: ForgottenFacts,
    Kind.HANDED: HandedFacts,
    Kind.CLOCK_SET: ClockSetFacts,
    Kind.LINK: LinkFacts,
    Kind.PURGED: PurgedFacts,
    Kind.MODE: ModeFacts,
    Kind.TOKEN: TokenFacts,
    Kind.GRANTS: GrantsFacts,
    Kind.ARCHIVED: ArchivedFacts,
    Kind.LEASE: LeaseFacts,
    Kind.REDACTED: RedactedFacts,
}

#: Made once: records are written for each message.
write_facts = msgspec.json.Encoder().encode
_DECODERS: Mapping[type[Facts], msgspec.json.Decoder[Any]] = {
    facts: msgspec.json.Decoder(facts) for facts in FACTS.values()
}


def read_facts(text: bytes, facts: type[_F]) -> _F | None:
    """What a record tells, as one of :data:`FACTS`; ``None`` if it is garbled, or a newer node tells it otherwise."""
    try:
        told: _F = _DECODERS[facts].decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return told
