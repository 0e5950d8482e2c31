"""The statements of a message's hand-over to another keeper (:mod:`trishula_router.store.keepers`)."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from trishula_router.store.keepers import IS_KEPT_HERE
from trishula_router.store.sqlite.statements import as_list, insert

__all__ = ["hand_over", "hops_of"]


def hops_of(connection: sqlite3.Connection, positions: Sequence[int]) -> dict[int, int]:
    """Which of the messages can be handed over, and how often each was so far."""
    rows = connection.execute(
        "SELECT position, hop FROM message WHERE position IN (SELECT value FROM json_each(?)) AND state = 0"
        f" AND recipient LIKE 'capability:%' AND {IS_KEPT_HERE.format('')}",
        (as_list(positions),),
    )
    return dict(rows.fetchall())


def hand_over(connection: sqlite3.Connection, hops: Mapping[int, int], keeper: str, record: int) -> None:
    """Give messages another keeper.

    Args:
        connection: in a transaction.
        hops: how often each was handed over now.
        keeper: as stored.
        record: the position of the record that tells it.
    """
    insert(connection, "trace", [(position, record) for position in hops])
    connection.executemany(
        "UPDATE message SET keeper = ?, hop = ? WHERE position = ?",
        [(keeper, hop, position) for position, hop in hops.items()],
    )
