"""The store's questions about its journal, as plain functions of a connection; see :mod:`.reads`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from trishula_router.store.journal import ORIGIN_SHIFT, SEQUENCE_MASK, Record, digest_of
from trishula_router.store.origins import position_in, read_base, read_numbering
from trishula_router.store.sqlite.damage import is_damage
from trishula_router.store.sqlite.statements import as_list
from trishula_router.store.translating import translated

__all__ = ["LATE_MS", "is_whole", "modes", "record_at", "records", "shown"]

#: By how much a record may tell an earlier instant than those before it, without any clock that was set: whoever writes
#: takes the time first, and then perhaps waits.
LATE_MS = 10_000


def record_at(connection: sqlite3.Connection, position: int) -> Record | None:
    """The record at a position; ``None`` if there is none, or it can't be read."""
    try:
        found = connection.execute(
            "SELECT position, at, kind, facts, digest FROM journal WHERE position = ?", (position,)
        ).fetchone()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return None
    return None if found is None else Record(*found)


def is_whole(connection: sqlite3.Connection, record: Record) -> bool:
    """Whether the record is the one that the chain has there.

    Of one that is held where those around it were cut the chain doesn't tell any more: it counts as whole.
    """
    before, sequence = record_at(connection, record.position - 1), record.position & SEQUENCE_MASK
    base = read_base(connection, record.position >> ORIGIN_SHIFT)
    if sequence <= base.sequence:
        return True
    previous = base.digest if sequence == base.sequence + 1 else None if before is None else before.digest
    stated = None if previous is None else digest_of(previous, sequence, record.at, record.kind, record.facts)
    return stated == record.digest


def records(
    connection: sqlite3.Connection,
    *,
    after: int,
    limit: int,
    kind: str | Sequence[str] | None,
    since: int | None,
    until: int | None,
    origin: int | None,
    end: int | None = None,
) -> list[Record]:
    """See :meth:`trishula_router.store.interface.Store.records`."""
    last = 2**63 - 1 if origin is None else position_in(origin, SEQUENCE_MASK)
    after, end = max(after, position_in(origin or 0, 0)), last if end is None else min(last, end)
    if since is not None and origin is not None:
        after = max(after, _before_instant(connection, after, end, since - LATE_MS))
    return shown(
        connection,
        connection.execute(
            "SELECT position, at, kind, facts, digest FROM journal WHERE position > :after AND position <= :end"
            " AND (:kinds IS NULL OR kind IN (SELECT value FROM json_each(:kinds)))"
            " AND (:since IS NULL OR at >= :since) AND (:until IS NULL OR at < :until)"
            " ORDER BY position LIMIT :limit",
            {
                "after": after,
                "end": end,
                "kinds": None if kind is None else as_list([kind] if isinstance(kind, str) else kind),
                "since": since,
                "until": until,
                "limit": limit,
            },
        ),
    )


def _before_instant(connection: sqlite3.Connection, after: int, end: int, instant: int) -> int:
    """A position of one journal behind which all records are that were written at an instant or later.

    Records stand in the order in which they were written, so the place is found by halves: the record there tells an
    earlier instant, or it is ``after``. What stands before that place and tells a later instant was written by a clock
    that was ahead and was set back since: the instant it tells is wrong.
    """
    newest = connection.execute("SELECT max(position) FROM journal WHERE position <= ?", (end,)).fetchone()[0]
    low, high = after, max(after, newest or 0) + 1
    while high - low > 1:
        middle = (low + high) // 2
        # Not just the record there: a journal may begin behind its first record, and a damaged one has gaps.
        found = connection.execute(
            "SELECT position, at FROM journal WHERE position >= ? AND position < ? ORDER BY position LIMIT 1",
            (middle, high),
        ).fetchone()
        if found is None or found[1] >= instant:
            high = middle
        else:
            low = found[0]
    return low


def modes(connection: sqlite3.Connection) -> list[Record]:
    """See :meth:`trishula_router.store.interface.Store.modes`; an index has these records alone."""
    found = connection.execute(
        "SELECT position, at, kind, facts, digest FROM journal WHERE position IN"
        f" (SELECT max(position) FROM journal INDEXED BY mode_record WHERE kind = 'mode'"
        f" GROUP BY position >> {ORIGIN_SHIFT}) ORDER BY position"
    )
    return [Record(*row) for row in found]


def shown(connection: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> list[Record]:
    """Rows of the journal as records, with the positions that this store has for the messages of others."""
    found = [Record(*row) for row in rows]
    if not any(record.position >> ORIGIN_SHIFT for record in found):
        return found

    def aliases(positions: set[int]) -> dict[int, int]:
        return dict(
            connection.execute(
                "SELECT position, message FROM alias WHERE position IN (SELECT value FROM json_each(?))",
                (as_list(positions),),
            ).fetchall()
        )

    return translated(found, read_numbering(connection), aliases)
