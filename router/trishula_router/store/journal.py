"""The journal: a node's append-only, hash-chained log of all that happened to messages and sessions.

A *record* is one event: its position, its instant, its kind and its facts (JSON). Records that tell of messages are
either one per message (``accepted``) or one per batch (``delivered``, ``done``, …: facts list the messages); the chain
costs one SHA-256 a record, and a batch is acknowledged in one go anyway.

The chain is that of :mod:`trishula.evidence.chain`, on the agents' side, because who checks a copy of a journal has no
node. The body of a message is not in the journal: the ``accepted`` record holds the SHA-256 of the envelope, so that
retention may delete bodies and the chain still proves what they were.

Positions: ``(origin << ORIGIN_SHIFT) | sequence``. The node's own origin is 0, so its positions are plain sequence
numbers; journals copied from peers get other origins and share the table. A copied record keeps its facts and its
digest as they were written: the digest is over the sequence alone, and positions in the facts are in the numbering of
whoever wrote them; ``store/origins.py`` translates them.

Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from trishula.evidence.chain import GENESIS, ChainCheck, digest_of

__all__ = [
    "GENESIS",
    "ORIGIN_SHIFT",
    "SEQUENCE_MASK",
    "ChainCheck",
    "Damage",
    "Kind",
    "Record",
    "digest_of",
    "follow",
    "is_own",
    "verify",
]

#: 2**48 records per origin: at 50,000 a second that is 178 years; 15 bits remain for origins.
ORIGIN_SHIFT = 48
SEQUENCE_MASK = (1 << ORIGIN_SHIFT) - 1


class Kind(StrEnum):
    """What a record tells. The facts of each kind have a type of their own: see :mod:`.facts`."""

    NODE_STARTED = "node_started"
    NODE_STOPPED = "node_stopped"
    RESTORED = "restored"
    JOINED = "joined"
    LEFT = "left"
    TAKEN_OVER = "taken_over"
    REFUSED = "refused"
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    SURFACED = "surfaced"
    RETURNED = "returned"
    DONE = "done"
    DEAD = "dead"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    REPLAYED = "replayed"
    FORGOTTEN = "forgotten"
    HANDED = "handed"
    CLOCK_SET = "clock_set"
    LINK = "link"
    PURGED = "purged"
    MODE = "mode"
    TOKEN = "token"
    GRANTS = "grants"
    ARCHIVED = "archived"
    LEASE = "lease"
    REDACTED = "redacted"


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record of the journal.

    Attributes:
        position: its place; see the module's docstring.
        at: when the node wrote it, ms since the epoch, the node's clock.
        kind: a :class:`Kind`; a plain string, because a newer node's peer may send kinds that this one doesn't know.
        facts: JSON, as bytes: the digest is over exactly these.
        digest: 32 bytes.
    """

    position: int
    at: int
    kind: str
    facts: bytes
    digest: bytes


class Damage(msgspec.Struct, frozen=True):
    """A record, or the message that it accepted, that is not what was written.

    Attributes:
        position: of the record at fault; 0 if it is the file.
        what: a sentence.
        id: of the message that it hit, if it hit one and its name is still known.
        sender: of that message.
    """

    position: int
    what: str
    id: str | None = None
    sender: str | None = None


def is_own(position: int) -> bool:
    """Whether a position is one of the node's own journal."""
    return position >> ORIGIN_SHIFT == 0


def verify(records: Iterable[Record], previous: bytes = GENESIS, sequence: int = 0, node: str = "") -> list[Damage]:
    """Check a run of records of one origin against the chain; see :class:`ChainCheck`.

    Args:
        records: in order of position.
        previous: the digest before the first of them.
        sequence: the sequence before the first of them.
        node: whose they are, for the sentences; "" for the node's own.
    """
    chain = ChainCheck(previous, sequence, node)
    return [Damage(record.position, what) for record in records if (what := follow(chain, record)) is not None]


def follow(chain: ChainCheck, record: Record) -> str | None:
    """What is wrong with the next record of a chain, or ``None``."""
    place = record.position & SEQUENCE_MASK
    return chain.follow(place, record.at, record.kind, record.facts, record.digest)
