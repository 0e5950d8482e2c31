"""Where a journal begins that was cut: its oldest records are in archive segments, and the store has them no more.

The *base* is the place up to which records were cut. What follows is chained to the digest there, so the chain holds
across the cut: from the last archived record to the first one here. Before the base the store keeps single records that
a message still needs, because the message is open or its body is kept, and the newest word on the bus's mode: they are
*held*. A held record can't be proved by its neighbours any more; the segment that has it proves it.

A cut has three steps, each durable before the next one begins: the segment is written (elsewhere), the record
``archived`` is appended and states what the segment has (:meth:`~trishula_router.store.interface.Store.archived`), and
then records are deleted, some at a time (:meth:`~trishula_router.store.interface.Store.cut`). Whatever step a crash
meets, the base tells how far the last one came and ``until`` how far it is to go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trishula_router.store.journal import GENESIS

if TYPE_CHECKING:
    from trishula_router.store.facts import ArchivedFacts

__all__ = ["Base", "Dropped", "NotArchivable", "Shared", "checked_end"]


class Base(NamedTuple):
    """Where the records of a journal begin.

    Attributes:
        sequence: up to here they were cut.
        digest: of the last one that was cut.
        until: up to here they are archived, and are being cut; never before ``sequence``.
    """

    sequence: int = 0
    digest: bytes = GENESIS
    until: int = 0

    @property
    def is_behind(self) -> bool:
        """Whether records that are archived are still to be cut."""
        return self.until > self.sequence


class Dropped(msgspec.Struct, frozen=True, gc=False):
    """What one step of dropping messages did.

    Attributes:
        after: where to go on; 0 if there is nothing further that is old enough.
        messages: how many were dropped.
    """

    after: int
    messages: int


class Shared(NamedTuple):
    """What linked nodes have in common, each by the number of a journal, as sequences.

    Attributes:
        lasts: up to here all peers hold it, and what they had written by then is held here.
        bares: up to here no peer keeps the body of any message.
    """

    lasts: Mapping[int, int]
    bares: Mapping[int, int]


class NotArchivable(Exception):
    """What is said to be archived is not what the journal has next; the text is the sentence for the operator."""


def checked_end(base: Base, facts: ArchivedFacts, newest: int, digest: bytes | None) -> int:
    """The sequence up to which a segment allows to cut.

    Args:
        base: of the journal.
        facts: what the segment has.
        newest: the sequence of the journal's newest record.
        digest: of the record at the segment's end, as the journal has it; ``None`` if it is not there.

    Raises:
        NotArchivable: the segment doesn't join on to the base, or ends with another record than the journal has there.
    """
    if base.is_behind:
        raise NotArchivable(f"the records up to {base.until} are archived and are to be cut first")
    if facts.first != base.sequence + 1 or facts.previous != base.digest.hex():
        raise NotArchivable(
            f"the segment {facts.file} begins with record {facts.first}, and {base.sequence + 1} is next"
        )
    if not base.sequence < facts.last <= newest or digest is None or facts.digest != digest.hex():
        raise NotArchivable(f"the segment {facts.file} ends with a record {facts.last} that the journal doesn't have")
    return facts.last
