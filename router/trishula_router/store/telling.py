"""What the journal is told of what the store does: the facts of records, made of its verbs' arguments, and judged by.

The types of the facts, and their bytes, are in :mod:`.facts`. Nothing here does I/O.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from trishula_router.store.facts import (
    AcceptedFacts,
    HandedFacts,
    ModeFacts,
    ReplayedFacts,
    ReturnedFacts,
    SettledFacts,
    read_facts,
)
from trishula_router.store.journal import Record
from trishula_router.store.messages import Draft, Return

__all__ = [
    "MOST",
    "accepted_facts",
    "body_damage",
    "handed_facts",
    "is_countable",
    "is_map",
    "is_proven",
    "message_damage",
    "read_accepted",
    "read_mode",
    "replayed_facts",
    "returned_facts",
    "settled_facts",
]

#: No number of a message is larger.
MOST = 2**53
#: Brackets from which on they may be nested so deeply that they can't be read.
_DEEP = 100
_OPEN, _CLOSED = b"[" * 500, b"]" * 500


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
        draft.signature,
        draft.encrypted,
        draft.proof,
    )


def returned_facts(returns: Sequence[Return], reason: str) -> ReturnedFacts:
    """What is told of messages that go back into their mailboxes."""
    return ReturnedFacts([(one.position, one.failures, one.due_at) for one in returns], reason)


def handed_facts(hops: Mapping[int, int], keeper: str) -> HandedFacts:
    """What is told of messages that get another keeper: how often each was handed over now."""
    return HandedFacts(list(hops), keeper, list(hops.values()))


def settled_facts(positions: Sequence[int], reason: str | None, lives: Mapping[int, int] | None = None) -> SettledFacts:
    """What is told of messages that reach a final state.

    Args:
        positions: the messages'.
        reason: why.
        lives: of those that were replayed, how often.
    """
    return SettledFacts(list(positions), reason, [lives.get(position, 0) for position in positions] if lives else [])


def replayed_facts(lives: Mapping[int, int], revived: Mapping[int, int], by: str | None) -> ReplayedFacts:
    """What is told of dead letters that go back into their mailboxes: the lives they begin, when they expire (ms)."""
    return ReplayedFacts(list(lives), list(lives.values()), [revived[position] for position in lives], by)


def read_mode(facts: bytes) -> ModeFacts | None:
    """The facts of a ``mode`` record; ``None`` if they are garbled, or a newer node's, which knows more modes."""
    return read_facts(facts, ModeFacts)


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
        stored: the row, which has neither checksum nor signature, nor says that it is encrypted or how it was proven.
    """
    facts = read_accepted(record)
    if facts is None or msgspec.structs.replace(facts, sha256="", signature="", encrypted=False, proof="") == stored:
        return None
    return f"message {facts.id} from {facts.sender} (record {record.position}) is not the one that was accepted"


def is_map(facts: bytes) -> bool:
    """Whether facts are what every node writes, whatever the kind: a map of JSON, and not so deep that it is a trap.

    Whoever reads a journal reads all of it: one record that can't be read would keep everybody from any answer.
    """
    if facts.count(b"[") + facts.count(b"{") > _DEEP:
        # With levels to spare for who calls from a deeper place.
        facts = _OPEN + facts + _CLOSED
    try:
        told = msgspec.json.decode(facts)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    while isinstance(told, list) and len(told) == 1:
        told = told[0]
    return isinstance(told, dict)


def read_accepted(record: Record) -> AcceptedFacts | None:
    """The facts; ``None`` if they are garbled, which the chain tells already."""
    return read_facts(record.facts, AcceptedFacts)


def is_countable(facts: AcceptedFacts) -> bool:
    """Whether its numbers are such as a store can hold."""
    return -MOST < facts.priority < MOST and -MOST < facts.bytes < MOST and -MOST < facts.use < MOST
