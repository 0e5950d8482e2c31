"""What one node's store hands to another's: a run of a journal's records, and what else it takes to copy them.

The journal that a node writes is an *origin* to the others, named by the epoch of the store that it began in: a store
that is restored or made anew writes another journal. A store numbers the origins that it holds; its own is 0. Facts
list messages by positions in the numbering of whoever wrote them, and stay as they were written, because the digests
are over them; so a run brings along what the numbers in it mean, and :mod:`.origins` translates them.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

__all__ = ["Extract", "Fresh", "JournalCut", "JournalForked", "Origin", "Particulars", "Remembered", "Rest"]


class JournalForked(Exception):
    """A record that doesn't continue the chain that is held of its journal; the text is the sentence for the operator.

    Args:
        node, epoch: whose journal it is.
        sequence: of the record.
        why: what is wrong with it.
    """

    def __init__(self, node: str, epoch: str, sequence: int, why: str) -> None:
        self.node = node
        self.epoch = epoch
        self.sequence = sequence
        super().__init__(
            f"record {sequence} of node {node} (epoch {epoch}) {why}, so nothing was copied; check the stores of both "
            "nodes with: trishula node verify"
        )


class JournalCut(JournalForked):
    """What is missing here of a journal was cut where it comes from.

    Args:
        node, epoch: whose journal it is.
        sequence: of the first record that is missing.
        last: up to which it was cut.
    """

    def __init__(self, node: str, epoch: str, sequence: int, last: int) -> None:
        super().__init__(node, epoch, sequence, "was cut")
        self.args = (
            f"records {sequence} to {last} of node {node} (epoch {epoch}) are in its archive alone, and this node "
            "lacks them: it was away, or its store was put back to a backup, while they were cut. Nothing is lost, and "
            "nothing more is copied: stop this node, move its store (node.sqlite) away, and start it; it begins anew "
            "with what its peers hold",
        )


class Origin(msgspec.Struct, frozen=True):
    """One journal that the store holds.

    Attributes:
        number: in this store; 0 is its own.
        node: whose it is; "" for the own one, because the store doesn't know its node's name.
        epoch: of the store that it was written in.
        sequence: of its newest durable record here; 0 if it was only heard of.
        base: up to here its records were cut here.
    """

    number: int
    node: str
    epoch: str
    sequence: int
    base: int = 0


class Particulars(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an ``accepted`` record doesn't tell of its message.

    Attributes:
        expires_at: ms, by the clock of the node that hands out the run.
        by_deadline: whether ``expires_at`` is the message's own deadline.
        body: sequence of the record of the run whose body it has: its own one's, or that of the first recipient of its
            broadcast; 0 if the body is gone.
        state: a final ``State`` that it has reached at the sender: it is given to nobody any more; 0 if it is open.
        life: how often it had been replayed by then; see :mod:`.standing`.
        hop: how often it had been handed over by then, if it is to a capability; see :mod:`.keepers`.
        keeper: the node that hands it out then, by its name; "" if it was never handed over.
        accepted_at: when it was accepted, ms, by the clock of the node that hands out the run; 0 if that is what the
            record says, as it is in the journal of that node itself.
    """

    expires_at: int
    by_deadline: bool
    body: int
    state: int = 0
    life: int = 0
    hop: int = 0
    keeper: str = ""
    accepted_at: int = 0


class Remembered(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message that is settled, and whose own record was cut: what a repeat of it is known by.

    Attributes:
        sequence: of the record that accepted it.
        sender, id, recipient, type, digest, use: see :mod:`.identity`.
        state: a final ``State``.
        accepted_at, expires_at: ms, by the clock of the node that hands out the run.
        life: how often it had been replayed by then; see :mod:`.standing`.
        priority, size_bytes, reply_to: the message's.
    """

    sequence: int
    sender: str
    id: str
    recipient: str
    type: str
    digest: str
    use: int
    state: int
    accepted_at: int
    expires_at: int
    life: int = 0
    priority: int = 3
    size_bytes: int = 0
    reply_to: str | None = None


class Rest(msgspec.Struct, frozen=True):
    """What makes a run one of what is left of records that were cut: whoever holds none of them can begin behind them.

    The records around those of the run are in the archive of the node that wrote them, and in no store. So the chain
    proves none of the run: who copies it believes the node that hands it out, as that node's word on its base.

    Attributes:
        sequences: of the run's records.
        last: up to here the run tells what is left; the next one begins behind it.
        digest: of the record there, to which the next one is chained; empty where that was cut, and more is left.
        until: from there on the records are without gaps: the base of the store that hands it out, or what that store
            itself is still to be told of.
        notes: what records that were cut revoked everywhere, see :mod:`.revoked`.
        remembered: messages that the run has no records of, in order; without them a repeat would be done once more. A
            node of before tells none.
    """

    sequences: list[int]
    last: int
    digest: bytes
    until: int
    notes: dict[str, str] = {}
    remembered: list[Remembered] = []


class Extract(msgspec.Struct, frozen=True):
    """A run of one journal's records without gaps, with all that another store needs to copy them.

    Attributes:
        epoch: whose journal it is.
        first: sequence of the first record.
        previous: the digest before it.
        records: (at, kind, facts, digest) each; the digest is over the plain sequence.
        messages: of all accepted records, by sequence.
        bodies: envelopes by sequence, see :attr:`Particulars.body`.
        revived: bodies of the messages that were replayed, by position in the origin's numbering: the copier may have
            deleted its own.
        origins: the origin's numbering of other journals: number → (node, epoch).
        renewed: when messages that were replayed expire, by position in the origin's numbering; ms, by the clock of the
            node that hands out the run. A node of an older version tells none.
        rest: if it is a run of what is left of records that were cut: then it has gaps.
    """

    epoch: str
    first: int
    previous: bytes
    records: list[tuple[int, str, bytes, bytes]]
    messages: dict[int, Particulars]
    bodies: dict[int, bytes]
    revived: dict[int, bytes]
    origins: dict[int, tuple[str, str]]
    renewed: dict[int, int] = {}
    rest: Rest | None = None

    @property
    def last(self) -> int:
        """The sequence up to which whoever copies it holds the journal."""
        return self.first + len(self.records) - 1 if self.rest is None else self.rest.last


class Fresh(NamedTuple):
    """A record that was just written.

    Attributes:
        sequence: its place in the journal.
        record: (at, kind, facts, digest).
        body: of an accepted record, the sequence of the one that its envelope belongs to: its own, or that of the first
            recipient of the broadcast; else 0.
        envelope: of an accepted record, the whole one, also of a further recipient of a broadcast.
        expires_at, by_deadline: the message's.
    """

    sequence: int
    record: tuple[int, str, bytes, bytes]
    body: int = 0
    envelope: bytes = b""
    expires_at: int = 0
    by_deadline: bool = False

    @property
    def size_bytes(self) -> int:
        """What it takes, an envelope counted once."""
        return len(self.record[2]) + (len(self.envelope) if self.body == self.sequence else 0)
