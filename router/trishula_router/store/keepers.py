"""Who hands out a message to a capability: its keeper, one node at a time.

The first keeper is the node that accepted the message. A keeper may hand it over to another node, by a ``handed``
record in its own journal, which states the message's *hop*: how often it was handed over, this time included. Only the
keeper of hop n writes hop n + 1, in the transaction that reads that it is the keeper; so the keepers of a message are
in one order, and the highest hop that anybody has read of is the newest keeper that it can know. Whoever reads the
records of several nodes takes the highest, in whatever order they come.

From the moment when the record is durable the old keeper hands the message out no more, also after a crash; the new one
begins when it has copied the record. Between the two, and as long as they can't reach each other, nobody does: that is
the price of no two nodes ever handing out one message at the same time. A vote would need a majority, which two nodes
don't have; a lease needs clocks that agree.

Keepers are told by the node's name and not by the store's epoch: a node whose store was lost, or put in place from a
backup, keeps what it kept, as far as the others can tell it. Only a message that several nodes accepted, because its
sender offered it to each, has more than one keeper in the beginning; when they learn of each other, the one with the
higher name stays.

:func:`claim` decides. The statements of a hand-over are in :mod:`trishula_router.store.sqlite.handing_over`.
"""

from __future__ import annotations

from trishula_router.store.journal import ORIGIN_SHIFT
from trishula_router.store.origins import Numbering

__all__ = ["IS_KEPT_HERE", "claim", "keeper_as_stored"]

#: Whether the store's node keeps the message of a row: :func:`~trishula_router.store.messages.is_kept_here` in SQL.
#: The braces are for the table's name and a dot.
IS_KEPT_HERE = f"({{0}}keeper = '' OR ({{0}}keeper IS NULL AND {{0}}position < {1 << ORIGIN_SHIFT}))"


def claim(numbering: Numbering, position: int, keeper: str | None, hop: int) -> tuple[int, str]:
    """What a keeper's claim to a message weighs: of two the higher one counts.

    Args:
        numbering: of the store.
        position: of the message.
        keeper: as stored.
        hop: how often the message was handed over.
    """
    if keeper is None:
        return hop, numbering.node_of(position >> ORIGIN_SHIFT)
    return hop, keeper or numbering.node


def keeper_as_stored(numbering: Numbering, keeper: str) -> str:
    """A node's name as rows have it: "" for the own one."""
    return "" if keeper == numbering.node else keeper
