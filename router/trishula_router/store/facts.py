"""The facts of journal records, written and read in one place, so that every store's journal is the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from trishula.contract.texts import LINE
from trishula_router.store.journal import Record
from trishula_router.store.messages import Draft, Return

__all__ = [
    "AcceptedFacts",
    "ModeFacts",
    "accepted_facts",
    "body_damage",
    "handed_facts",
    "is_proven",
    "message_damage",
    "read_accepted",
    "read_mode",
    "replayed_facts",
    "returned_facts",
    "settled_facts",
]


class AcceptedFacts(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The facts of an ``accepted`` record. ``sha256`` is of the envelope, in hexadecimal.

    The last three are :class:`~trishula_router.store.messages.StoredMessage`'s; older nodes neither write nor read
    them.
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


#: A year far beyond all: what a peer says must leave room for the records that follow it.
_MOST_SINCE = 2**52
_Line = Annotated[str, msgspec.Meta(max_length=500, pattern=LINE)]


class ModeFacts(msgspec.Struct, frozen=True, gc=False):
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


def accepted_facts(draft: Draft, recipient: str, use: int = 0) -> AcceptedFacts:
    """What is told of a message when it is accepted: all but its body."""
    return AcceptedFacts(
        draft.sender,
        draft.id,
        recipient,
        draft.type,
        draft.priority,
        len(draft.envelope),
        hashlib.sha256(draft.envelope).hexdigest(),
        draft.digest,
        use,
        draft.reply_to,
    )


def returned_facts(returns: Sequence[Return], reason: str) -> dict[str, Any]:
    """What is told of messages that go back into their mailboxes."""
    return {"messages": [[one.position, one.failures, one.due_at] for one in returns], "reason": reason}


def handed_facts(hops: Mapping[int, int], keeper: str) -> dict[str, Any]:
    """What is told of messages that get another keeper: how often each was handed over now."""
    return {"messages": list(hops), "keeper": keeper, "hops": list(hops.values())}


def settled_facts(
    positions: Sequence[int], reason: str | None, lives: Mapping[int, int] | None = None
) -> dict[str, Any]:
    """What is told of messages that reach a final state.

    Args:
        positions: the messages'.
        reason: why.
        lives: of those that were replayed, how often.
    """
    facts: dict[str, Any] = {"messages": list(positions)}
    if reason is not None:
        facts["reason"] = reason
    if lives:
        facts["lives"] = [lives.get(position, 0) for position in positions]
    return facts


def replayed_facts(lives: Mapping[int, int], revived: Mapping[int, int]) -> dict[str, Any]:
    """What is told of dead letters that go back into their mailboxes: the lives they begin, when they expire (ms)."""
    return {
        "messages": list(lives),
        "lives": list(lives.values()),
        "expires_at": [revived[position] for position in lives],
    }


def read_mode(facts: bytes) -> ModeFacts | None:
    """The facts of a ``mode`` record; ``None`` if they are garbled, or a newer node's, which knows more modes."""
    try:
        return msgspec.json.decode(facts, type=ModeFacts)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def body_damage(record: Record, body: bytes | None) -> str | None:
    """What is wrong with the body of an accepted message, or ``None``; a body that retention removed is not damage."""
    facts = read_accepted(record)
    if body is None or facts is None:
        return None
    if hashlib.sha256(body).hexdigest() == facts.sha256:
        return None
    return f"the body of message {facts.id} from {facts.sender} (record {record.position}) doesn't match its checksum"


def is_proven(facts: object, body: object) -> bool:
    """Whether the facts of an accepted record state the checksum of this body."""
    # Looked for as text: this runs for each body that is read back.
    if not isinstance(facts, bytes) or not isinstance(body, bytes):
        return False
    return b'"sha256":"%b"' % hashlib.sha256(body).hexdigest().encode() in facts


def message_damage(record: Record, stored: AcceptedFacts) -> str | None:
    """What is wrong with the row of an accepted message, or ``None``.

    The state of a row follows from later records; what it was accepted as, this one alone tells: a changed recipient
    would hand the message to a stranger.

    Args:
        record: its accepted record.
        stored: the row, with the checksum left empty.
    """
    facts = read_accepted(record)
    if facts is None or msgspec.structs.replace(facts, sha256="") == stored:
        return None
    return f"message {facts.id} from {facts.sender} (record {record.position}) is not the one that was accepted"


def read_accepted(record: Record) -> AcceptedFacts | None:
    """The facts; ``None`` if they are garbled, which the chain tells already."""
    try:
        return msgspec.json.decode(record.facts, type=AcceptedFacts)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
