"""Whether the zones of a store are those of the records that it has now.

The two files are apart, so one can be put back without the other: a copy of the store alone, by hand, has the epoch
that it had. Then the zones tell of records that were given up, and of those that got their numbers since they know
nothing: a search would pass these over. So for each journal the file has a mark, the last record that was gathered, by
its digest in the chain; where the store has another record there, or none, the zones are made anew.

What was cut since is not there either, and then what is gathered can't be told from what is not. Zones are made anew
for that as well: nearly all of them were of what was cut.
"""

from __future__ import annotations

import sqlite3

from trishula_router.store.journal import ORIGIN_SHIFT
from trishula_router.store.zones import ZONE_SHIFT

__all__ = ["MARKS", "are_of", "mark"]

#: By journal: its zones before this one have terms; the last record that is in them, and its digest.
MARKS = """
    CREATE TABLE gathered (
        origin INTEGER PRIMARY KEY, zone INTEGER NOT NULL, position INTEGER NOT NULL, digest BLOB NOT NULL
    ) STRICT;
"""


def mark(store: sqlite3.Connection, index: sqlite3.Connection, number: int, zone: int) -> None:
    """The zones of a journal before this one are gathered."""
    last = store.execute(
        "SELECT position, digest FROM journal WHERE position >= ? AND position < ? ORDER BY position DESC LIMIT 1",
        (number << ORIGIN_SHIFT, zone << ZONE_SHIFT),
    ).fetchone()
    if last is None:
        # Nothing is left of what is before, so there is nothing to pass over either.
        index.execute("DELETE FROM gathered WHERE origin = ?", (number,))
    else:
        index.execute("INSERT OR REPLACE INTO gathered VALUES (?, ?, ?, ?)", (number, zone, *last))


def are_of(store: sqlite3.Connection, index: sqlite3.Connection) -> bool:
    """Whether what is gathered is of this store's records."""
    marks = index.execute("SELECT position, digest FROM gathered").fetchall()
    return all(
        store.execute("SELECT digest FROM journal WHERE position = ?", (position,)).fetchone() == (digest,)
        for position, digest in marks
    )
