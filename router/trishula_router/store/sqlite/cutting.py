"""Cutting a journal in SQLite, as plain functions of a connection: which records go, and which are held.

A step reads what the next records tell of (the message that one accepts, those that another one lists), and holds the
records of messages that still need them; the others it deletes, and moves the base, all in one transaction of some
milliseconds. What is held is looked at again and again (:func:`let_go`), message by message: a record may be held by
several. The row of a message stays when its records go: it makes a repeat a repeat, and tells what became of it, until
its id may be forgotten (:func:`drop`).

Ids are remembered by these rows, and not in a table of their own: then everything that asks for a message by its id
(repeats, answers, states) works before and after a cut alike.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from trishula_router.store.bases import Base, Dropped
from trishula_router.store.journal import ORIGIN_SHIFT, Kind, Record
from trishula_router.store.messages import State
from trishula_router.store.origins import Numbering, position_in
from trishula_router.store.sqlite.statements import as_list
from trishula_router.store.standing import tellings

__all__ = ["begin", "cut", "cut_copy", "drop", "let_go", "take_over"]

#: Whether a message's records are still needed where all of the own journal up to ``:until`` are archived. Whether
#: another node that tells of its end has archived its records says nothing of them.
_IS_NEEDED = (
    f"(m.state = 0 OR (m.settled > :until AND m.settled < {1 << ORIGIN_SHIFT})"
    " OR EXISTS (SELECT 1 FROM body AS b WHERE b.position = m.body))"
)
#: What is held of a message stays together, until all of it is let go.
_IS_HELD = "EXISTS (SELECT 1 FROM held AS h WHERE h.message = m.position)"
#: Of the own journal alone: positions in its facts are what they are here. A damaged record lists nothing.
_HOLD = f"""
    INSERT OR IGNORE INTO held
    SELECT m.position, m.position FROM message AS m
    WHERE m.position > :base AND m.position <= :end AND {_IS_NEEDED}
    UNION ALL
    SELECT m.position, j.position
    FROM (
        SELECT position, CASE WHEN json_valid(CAST(facts AS TEXT)) THEN CAST(facts AS TEXT) ELSE '{{}}' END AS facts
        FROM journal WHERE position > :base AND position <= :end AND kind != 'accepted'
    ) AS j, json_each(j.facts, '$.messages') AS it
    JOIN message AS m ON m.position = CASE it.type WHEN 'array' THEN it.value ->> 0 ELSE it.value END
    WHERE {_IS_NEEDED} OR {_IS_HELD}
"""
_NEWEST_MODE = (
    f"(SELECT max(position) FROM journal INDEXED BY mode_record WHERE kind = 'mode' AND position < {1 << ORIGIN_SHIFT})"
)
_DELETE = (
    "DELETE FROM journal WHERE position > :base AND position <= :end"
    " AND position NOT IN (SELECT record FROM held WHERE record > :base AND record <= :end)"
    f" AND NOT (kind = 'mode' AND position IS {_NEWEST_MODE})"
)
#: A word on the mode that was the newest when it was passed.
_DELETE_MODES = (
    f"DELETE FROM journal INDEXED BY mode_record WHERE kind = 'mode' AND position <= :end AND position < {_NEWEST_MODE}"
)
_MOVE = "INSERT OR REPLACE INTO base VALUES (0, ?, ?, ?)"
_MOVE_COPY = "INSERT OR REPLACE INTO base VALUES (?, ?, ?, ?)"

_HELD = "SELECT DISTINCT message FROM held WHERE message > ? ORDER BY message LIMIT ?"
_NEEDED = (
    f"SELECT m.position FROM message AS m WHERE m.position IN (SELECT value FROM json_each(:listed)) AND {_IS_NEEDED}"
)
_DELETE_HELD = (
    "DELETE FROM journal WHERE position IN (SELECT value FROM json_each(?))"
    f" AND (position <= ? OR position >= {1 << ORIGIN_SHIFT})"
    " AND NOT EXISTS (SELECT 1 FROM held WHERE held.record = journal.position)"
    # It tells of a message that is not here yet as well.
    " AND position NOT IN (SELECT record FROM early)"
)

#: Of another's journal: [a message, a record of it] each.
_HOLD_COPY = (
    "INSERT OR IGNORE INTO held SELECT m.position, it.value ->> 1 FROM json_each(:told) AS it JOIN message AS m"
    " ON m.position = coalesce((SELECT a.message FROM alias AS a WHERE a.position = it.value ->> 0), it.value ->> 0)"
    f" WHERE {_IS_NEEDED} OR {_IS_HELD}"
)
_DELETE_COPY = (
    "DELETE FROM journal WHERE position > :base AND position <= :end AND kind != 'mode'"
    " AND position NOT IN (SELECT record FROM held WHERE record > :base AND record <= :end)"
    " AND position NOT IN (SELECT e.record FROM early AS e WHERE e.message IN"
    " (SELECT value ->> 0 FROM json_each(:told)))"
)

_ROWS = (
    "SELECT position, accepted_at, expires_at, state,"
    " EXISTS (SELECT 1 FROM held WHERE held.message = message.position)"
    " FROM message WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
)


def begin(connection: sqlite3.Connection, base: Base, until: int) -> Base:
    """Records up to ``until`` are archived: from now on they are cut."""
    begun = base._replace(until=until)
    connection.execute(_MOVE, begun)
    return begun


def cut(connection: sqlite3.Connection, base: Base, limit: int) -> Base:
    """See :meth:`trishula_router.store.interface.Store.cut`."""
    end = min(base.sequence + limit, base.until)
    if end <= base.sequence:
        return base
    (digest,) = connection.execute("SELECT digest FROM journal WHERE position = ?", (end,)).fetchone()
    span = {"base": base.sequence, "end": end}
    connection.execute(_HOLD, {**span, "until": base.until})
    connection.execute(_DELETE, span)
    connection.execute(_DELETE_MODES, {"end": end})
    moved = Base(end, digest, base.until)
    connection.execute(_MOVE, moved)
    return moved


def cut_copy(
    connection: sqlite3.Connection, own: Base, numbering: Numbering, number: int, base: Base, end: int
) -> Base:
    """Cut the journal of another node up to a sequence; where it begins then. ``own``: where the own one begins."""
    span = {"base": position_in(number, base.sequence), "end": position_in(number, end)}
    rows = connection.execute(
        "SELECT position, kind, facts, digest FROM journal WHERE position > :base AND position <= :end"
        " ORDER BY position",
        span,
    ).fetchall()
    told: list[tuple[int, int]] = []
    for position, kind, facts, _ in rows:
        if kind == Kind.ACCEPTED:
            told.append((position, position))
            continue
        # Positions in its facts are what they are at the node that wrote it.
        of = (numbering.translate(number, telling.position) for telling in tellings(kind, facts))
        told += [(message, position) for message in of if message is not None]
    listed = {**span, "told": as_list(told)}
    connection.execute(_HOLD_COPY, {"told": listed["told"], "until": own.sequence})
    connection.execute(_DELETE_COPY, listed)
    moved = Base(end, rows[-1][3], end)
    connection.execute(_MOVE_COPY, (number, *moved))
    return moved


def take_over(connection: sqlite3.Connection, own: Base, number: int, base: Base, left: Iterable[Record]) -> None:
    """Have a copied journal begin where whoever handed it out has it begin; ``left``: records, some of before."""
    connection.execute(_MOVE_COPY, (number, *base))
    end = position_in(number, base.sequence)
    told = as_list((one.position,) * 2 for one in left if one.kind == Kind.ACCEPTED and one.position <= end)
    connection.execute(_HOLD_COPY, {"told": told, "until": own.sequence})


def let_go(connection: sqlite3.Connection, base: Base, after: int, limit: int) -> int:
    """See :meth:`trishula_router.store.interface.Store.let_go`."""
    looked_at = [message for (message,) in connection.execute(_HELD, (after, limit)).fetchall()]
    if not looked_at:
        return 0
    listed = as_list(looked_at)
    needed = {message for (message,) in connection.execute(_NEEDED, {"listed": listed, "until": base.sequence})}
    free = as_list(message for message in looked_at if message not in needed)
    records = connection.execute(
        "SELECT DISTINCT record FROM held WHERE message IN (SELECT value FROM json_each(?))", (free,)
    ).fetchall()
    if records:
        connection.execute("DELETE FROM held WHERE message IN (SELECT value FROM json_each(?))", (free,))
        connection.execute(_DELETE_HELD, (as_list(record for (record,) in records), base.sequence))
    return looked_at[-1] if len(looked_at) == limit else 0


def drop(connection: sqlite3.Connection, base: Base, after: int, limit: int, ids_since: int, at: int) -> Dropped:
    """See :meth:`trishula_router.store.interface.Store.drop`."""
    rows = connection.execute(_ROWS, (after, base.sequence, limit)).fetchall()
    gone: list[int] = []
    for position, accepted_at, expires_at, state, is_held in rows:
        if ids_since <= accepted_at <= at:
            # So are all behind it; one that a clock accepted that was ahead says nothing of them.
            return Dropped(0, _drop(connection, gone))
        if state != State.OPEN and not is_held and accepted_at < ids_since and expires_at <= at:
            gone.append(position)
    return Dropped(rows[-1][0] if len(rows) == limit else 0, _drop(connection, gone))


def _drop(connection: sqlite3.Connection, positions: list[int]) -> int:
    if positions:
        for statement in (
            "DELETE FROM trace WHERE message IN (SELECT value FROM json_each(?))",
            "DELETE FROM message WHERE position IN (SELECT value FROM json_each(?))",
        ):
            connection.execute(statement, (as_list(positions),))
    return len(positions)
