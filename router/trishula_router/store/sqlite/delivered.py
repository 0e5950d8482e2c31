"""What a delivery changes in the rows of messages; the record of it is the appender's."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from trishula_router.store.sqlite.statements import as_list

__all__ = ["mark_delivered"]


def mark_delivered(connection: sqlite3.Connection, deliveries: Sequence[tuple[int, int]], record: int) -> None:
    """Write down that messages went out.

    Args:
        connection: the writer's.
        deliveries: (position, attempt) each.
        record: the position of the record that tells of it; a former one stays in the message's trace.
    """
    by_attempt: dict[int, list[int]] = {}
    for position, attempt in deliveries:
        by_attempt.setdefault(attempt, []).append(position)
    for attempt, positions in by_attempt.items():
        listed = as_list(positions)
        if attempt > 1:
            connection.execute(
                "INSERT INTO trace SELECT position, delivered FROM message WHERE delivered IS NOT NULL"
                " AND position IN (SELECT value FROM json_each(?)) ON CONFLICT DO NOTHING",
                (listed,),
            )
        connection.execute(
            "UPDATE message SET attempts = ?, delivered = ? WHERE position IN (SELECT value FROM json_each(?))",
            (attempt, record, listed),
        )
