"""Which bodies a SQLite store can delete: those of messages that are settled at all their recipients, for long enough.

The rows of one message stand one behind the other from the place of its body on, one for each recipient, so they are
read from there until the next message begins. A message can't be settled before it is accepted, so the first one that
was accepted too late ends the search in the journal of the node that accepted it; one that was accepted in the future,
by a clock that was wrong, says nothing about those behind it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from trishula_router.store.journal import SEQUENCE_MASK
from trishula_router.store.messages import State
from trishula_router.store.sqlite.statements import as_list

__all__ = ["BATCH_BYTES", "Forgettable", "delete_bodies", "forgettable"]

#: Bodies deleted in one go, in bytes: other jobs wait for so long. Some builds of SQLite write zeros over what is
#: deleted, so on a small disk it is less.
BATCH_BYTES = 8 * 1024 * 1024

#: What came here settled, or lost the record of its end, ended before its time was over: see StoredMessage.ended_by.
_ROWS = (
    "SELECT m.body, m.state, m.accepted_at, m.size_bytes, coalesce(s.at, m.expires_at) FROM message AS m"
    " LEFT JOIN journal AS s ON s.position = m.settled WHERE m.position >= ? ORDER BY m.position"
)


#: Where another node accepted the same message, the body is an alias's; see copying.py.
_ALIAS_ROWS = (
    "SELECT m.state, m.accepted_at, m.size_bytes, coalesce(s.at, m.expires_at)"
    " FROM alias AS a JOIN message AS one ON one.position = a.message"
    " JOIN message AS m ON m.id = one.id AND m.sender = one.sender"
    " LEFT JOIN journal AS s ON s.position = m.settled WHERE a.position = :place"
)


class Forgettable(NamedTuple):
    """What a look at some bodies found: which can go, their bytes, and where to go on (0: nowhere)."""

    bodies: list[int]
    size_bytes: int
    after: int


def forgettable(
    connection: sqlite3.Connection,
    after: int,
    limit: int,
    before: int,
    dead_before: int,
    at: int,
    batch_bytes: int = BATCH_BYTES,
) -> Forgettable:
    """Look at the next ``limit`` bodies behind ``after``; see :meth:`trishula_router.store.interface.Store.forget`."""
    found: list[int] = []
    size = 0
    places = connection.execute(
        "SELECT position FROM body WHERE position > ? ORDER BY position LIMIT ?", (after, limit)
    ).fetchall()
    for (place,) in places:
        can_go, accepted_at, size_bytes = True, None, 0
        for state, row_at, row_bytes, ended_by in _rows_of(connection, place):
            accepted_at, size_bytes = row_at, row_bytes
            limit_at = dead_before if state == State.DEAD else before
            can_go = can_go and state != State.OPEN and ended_by < limit_at
        if accepted_at is not None and max(before, dead_before) <= accepted_at <= at:
            end = place | SEQUENCE_MASK
            more = connection.execute("SELECT 1 FROM body WHERE position > ? LIMIT 1", (end,)).fetchone()
            return Forgettable(found, size, end if more else 0)
        if can_go and accepted_at is not None:
            found.append(place)
            size += size_bytes
            if size >= batch_bytes:
                return Forgettable(found, size, place)
    return Forgettable(found, size, places[-1][0] if len(places) == limit else 0)


def _rows_of(connection: sqlite3.Connection, place: int) -> Iterator[tuple[int, int, int, int]]:
    """(state, accepted_at, size_bytes, and when it ended at the latest) of each message whose body is there."""
    found = False
    for body, *row in connection.execute(_ROWS, (place,)):
        if body != place:
            break
        found = True
        yield tuple(row)
    if not found:
        yield from connection.execute(_ALIAS_ROWS, {"place": place}).fetchall()


def delete_bodies(connection: sqlite3.Connection, bodies: list[int]) -> None:
    """Delete bodies by position."""
    connection.execute("DELETE FROM body WHERE position IN (SELECT value FROM json_each(?))", (as_list(bodies),))
