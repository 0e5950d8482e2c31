"""What a delivery, a surfacing, an end, and a clock that was set change in the rows of messages; others record it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from trishula_router.store.messages import State
from trishula_router.store.sqlite.dead_letters import keep_ends
from trishula_router.store.sqlite.reads import settled_by
from trishula_router.store.sqlite.statements import as_list, at_positions, insert

__all__ = ["mark_delivered", "mark_settled", "mark_surfaced", "move_instants"]

_SETTLE = "UPDATE message SET state = ?, settled = ? WHERE "


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
        which, listed = at_positions(positions)
        if attempt > 1:
            connection.execute(
                "INSERT INTO trace SELECT position, delivered FROM message WHERE delivered IS NOT NULL"
                f" AND {which} ON CONFLICT DO NOTHING",
                (listed,),
            )
        connection.execute(f"UPDATE message SET attempts = ?, delivered = ? WHERE {which}", (attempt, record, listed))


def mark_surfaced(
    connection: sqlite3.Connection, surfacings: Sequence[tuple[int, int]], record: int, at: int
) -> list[tuple[int, int]]:
    """Write down that messages were put into a model's context; returns those for which this is the first time.

    Args:
        connection: the writer's.
        surfacings: (position, attempt) each.
        record: the position of the record that will tell of it, which is in the message's trace.
        at: now.
    """
    by_position = dict(surfacings)
    new = connection.execute(
        "SELECT json_group_array(position) FROM message WHERE surfaced_at IS NULL"
        " AND position IN (SELECT value FROM json_each(?))",
        (as_list(by_position),),
    ).fetchone()[0]
    first = [(position, by_position[position]) for position in sorted(json.loads(new))]
    if first:
        connection.execute(
            "UPDATE message SET surfaced_at = ? WHERE position IN (SELECT value FROM json_each(?))", (at, new)
        )
        insert(connection, "trace", [(position, record) for position, _ in first])
    return first


def mark_settled(connection: sqlite3.Connection, positions: Sequence[int], state: State, record: int) -> Sequence[int]:
    """Write down that messages came to an end; returns those for which that is so.

    Args:
        connection: the writer's.
        positions: of messages; one that is done stays so, and one that ended otherwise can only get done.
        state: the final one.
        record: the position of the record that will tell of it.
    """
    which, given = at_positions(positions)
    count = connection.execute(f"{_SETTLE}{which} AND state = 0", (state.value, record, given)).rowcount
    if count < len(positions) and state is State.DONE:
        # What an earlier final state was stays explainable after the work got done all the same.
        keep_ends(connection, as_list(positions))
        count += connection.execute(f"{_SETTLE}{which} AND state > 1", (state.value, record, given)).rowcount
    if count == len(positions):
        return positions
    return settled_by(connection, record, as_list(positions)) if count else []


def move_instants(connection: sqlite3.Connection, by_ms: int, after: int) -> None:
    """Have open messages end, and be due, later by so much; but for those with an ``arrival`` up to ``after``."""
    connection.execute(
        "UPDATE message SET accepted_at = accepted_at + :by, expires_at = expires_at + :by,"
        " due_at = CASE due_at WHEN 0 THEN 0 ELSE due_at + :by END WHERE state = 0 AND arrival > :after",
        {"by": by_ms, "after": after},
    )
