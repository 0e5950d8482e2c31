"""The journal: a node's append-only, hash-chained log of all that happened to messages and sessions.

A *record* is one event: its position, its instant, its kind and its facts (JSON). Records that tell of messages are
either one per message (``accepted``) or one per batch (``delivered``, ``done``, …: facts list the messages); the chain
costs one SHA-256 a record, and a batch is acknowledged in one go anyway.

The chain: ``digest(n) = SHA-256(digest(n-1) | position | at | kind | 0 | facts)``. Whoever holds the newest digest can
tell whether anything before it was changed, left out or put in. The body of a message is not in the journal: the
``accepted`` record holds the SHA-256 of the envelope, so that retention may delete bodies and the chain still proves
what they were.

Positions: ``(origin << ORIGIN_SHIFT) | sequence``. The node's own origin is 0, so its positions are plain sequence
numbers; journals copied from peers get other origins and share the table.

Nothing here does I/O.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from enum import StrEnum

import msgspec

__all__ = ["GENESIS", "ORIGIN_SHIFT", "Damage", "Kind", "Record", "digest_of", "verify"]

#: 2**48 records per origin: at 50,000 a second that is 178 years; 15 bits remain for origins.
ORIGIN_SHIFT = 48

#: What the first record's digest is chained to.
GENESIS = bytes(32)


class Kind(StrEnum):
    """What a record tells. The facts of each kind stand behind it."""

    NODE_STARTED = "node_started"  # {node, version, pid}
    NODE_STOPPED = "node_stopped"  # {node}: absent after a crash
    JOINED = "joined"  # {agent, session, role, instance?, capabilities}
    LEFT = "left"  # {agent, session, reason}
    TAKEN_OVER = "taken_over"  # {agent, instance?, session, by}
    REFUSED = "refused"  # {agent, error, detail, id?, to?}
    ACCEPTED = "accepted"  # {from, id, to, type, priority, bytes, sha256}
    DELIVERED = "delivered"  # {messages: [[position, attempt]…], to, session}
    RETURNED = "returned"  # {messages: [[position, failures, due_at]…], reason}
    DONE = "done"  # {messages: [position…], reason?}
    DEAD = "dead"  # the same
    EXPIRED = "expired"  # the same
    CANCELLED = "cancelled"  # the same


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
    """A record that is not what was written.

    Attributes:
        position: of the record at fault.
        what: a sentence.
    """

    position: int
    what: str


_HEAD = struct.Struct(">qq")


def digest_of(previous: bytes, position: int, at: int, kind: str, facts: bytes) -> bytes:
    """The digest of a record that follows one with the digest ``previous``."""
    return hashlib.sha256(previous + _HEAD.pack(position, at) + kind.encode() + b"\0" + facts).digest()


def verify(records: Iterable[Record], previous: bytes = GENESIS, position: int = 0) -> list[Damage]:
    """Check a run of records of one origin against the chain.

    A damaged record is reported once: the check goes on from the digest it states, so that what follows it is judged
    by itself.

    Args:
        records: in order of position.
        previous: the digest before the first of them.
        position: the position before the first of them.
    """
    damages = []
    for record in records:
        if record.position != position + 1:
            missing = f"records {position + 1} to {record.position - 1} are missing"
            damages.append(Damage(record.position, missing))
        elif digest_of(previous, record.position, record.at, record.kind, record.facts) != record.digest:
            damages.append(
                Damage(record.position, f"record {record.position} ({record.kind}) doesn't match its digest")
            )
        previous, position = record.digest, record.position
    return damages
