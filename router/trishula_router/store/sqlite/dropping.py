"""Dropping the messages of linked nodes from SQLite; why that is safe, is in :mod:`trishula_router.store.first_use`.

A message of a node by itself goes as :func:`.cutting.drop` says. That of a linked one may have been accepted by
several nodes, and told of by each: all such records are in its row, its traces and its aliases, and each must be within
what all nodes share.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

import msgspec

from trishula_router.store.bases import Dropped, Shared
from trishula_router.store.first_use import MOST_FIRST_USE
from trishula_router.store.journal import ORIGIN_SHIFT, SEQUENCE_MASK
from trishula_router.store.messages import State
from trishula_router.store.origins import position_in
from trishula_router.store.sqlite.statements import as_list
from trishula_router.store.standing import PURGED_LIFE

__all__ = ["bare", "drop"]

#: While one recipient's message is known, a further one's under its id is of the same use: so all of them stay.
_ROWS = """
    SELECT m.position, m.accepted_at, m.expires_at, m.state, m.life, m.use, m.settled, m.delivered,
        (SELECT json_group_array(t.position) FROM trace AS t WHERE t.message = m.position),
        (SELECT json_group_array(a.position) FROM alias AS a WHERE a.message = m.position),
        EXISTS (SELECT 1 FROM held AS h WHERE h.message = m.position)
        OR EXISTS (SELECT 1 FROM body AS b WHERE b.position = m.body)
        OR EXISTS (SELECT 1 FROM message AS o WHERE o.id = m.id AND o.use = m.use
            AND (o.accepted_at >= :since OR o.state = 0 OR o.expires_at > :at))
        OR EXISTS (SELECT 1 FROM alias AS a JOIN body AS b ON b.position = a.position WHERE a.message = m.position)
    FROM message AS m WHERE m.position > :after AND m.position <= :end ORDER BY m.position
"""
_DELETE = tuple(
    f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))"
    for table, column in (("trace", "message"), ("alias", "message"), ("message", "position"))
)
_FIRST_BODY = "SELECT min(position) FROM body WHERE position > ? AND position <= ?"


def drop(
    connection: sqlite3.Connection, shared: Shared, after: int, limit: int, ids_since: int, at: int
) -> tuple[Dropped, int]:
    """See :meth:`trishula_router.store.interface.Store.drop`; and a number above the uses of what was dropped."""
    number = after >> ORIGIN_SHIFT
    end = position_in(number, shared.lasts.get(number, 0))
    span = {"after": after, "end": end, "since": ids_since, "at": at}
    gone: list[int] = []
    go_on, first_use = 0, 0
    for looked_at, row in enumerate(connection.execute(_ROWS, span), 1):
        position, accepted_at, expires_at, state, life, use, *told, traces, aliases, is_needed = row
        if ids_since <= accepted_at <= at:
            # So are all behind it; one that a clock accepted that was ahead says nothing of them.
            break
        places = [position, *_listed(aliases)]
        records = [*places, *_listed(traces), *(record for record in told if record is not None)]
        if (
            state != State.OPEN
            and not is_needed
            and accepted_at < ids_since
            and expires_at <= at
            and use < MOST_FIRST_USE
            and all(_is_within(shared.lasts, record) for record in records)
            # Where somebody has its body it can be replayed.
            and (state != State.DEAD or life == PURGED_LIFE or all(_is_within(shared.bares, one) for one in places))
        ):
            gone.append(position)
            first_use = max(first_use, use + 1)
        if looked_at == limit:
            go_on = position
            break
    for statement in _DELETE if gone else ():
        connection.execute(statement, (as_list(gone),))
    return Dropped(go_on, len(gone)), first_use


def _listed(text: str) -> list[int]:
    return [] if text == "[]" else msgspec.json.decode(text, type=list[int])


def _is_within(lasts: Mapping[int, int], position: int) -> bool:
    return position & SEQUENCE_MASK <= lasts.get(position >> ORIGIN_SHIFT, 0)


def bare(connection: sqlite3.Connection, bases: Mapping[int, int]) -> dict[int, int]:
    """See :meth:`trishula_router.store.interface.Store.bare`; by the numbers of journals, which begin at ``bases``."""
    found = {}
    for number, base in bases.items():
        span = position_in(number, 0), position_in(number, base)
        first = connection.execute(_FIRST_BODY, span).fetchone()[0]
        found[number] = base if first is None else (first & SEQUENCE_MASK) - 1
    return found
