"""What SQLite says when bytes of the file are not what was written, and how to read on around them.

A flipped bit hits a row's content, which a checksum finds, or the structure of one page, which SQLite finds: then every
statement that comes by that page fails, also for the rows that are whole. So whoever reads many rows at once reads them
one by one after such a failure, and only what the damage hit is missing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

from trishula_router.store.journal import SEQUENCE_MASK

__all__ = ["Unreadable", "is_damage", "read_all"]

#: How many positions are tried one by one before the run is taken up again: several pages of rows.
_PROBED = 512
#: A damaged page may claim any position; nobody looks for messages behind so many that can't be read.
_HOPELESS = 4_000_000


def is_damage(error: Exception) -> bool:
    """Whether the error is the file's content, and not the disk, a lock or a fault of ours."""
    # Text that is no UTF-8 is the one thing that Python's module finds by itself, without a code of SQLite's.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "Could not decode to UTF-8" in str(error)


class Unreadable(NamedTuple):
    """A row that is, or was, at ``position``."""

    position: int
    why: str


def read_all(
    connection: sqlite3.Connection, select: str, key: str, before: int, last: int
) -> Iterator[tuple[Any, ...] | Unreadable]:
    """All rows of a question in one origin's range, in order of their position, and what can't be read of them.

    Args:
        connection: outside of any other reading.
        select: the question without WHERE; its first column is the position.
        key: the name of that column.
        before: the position before the first.
        last: where to stop looking one by one.
    """
    after, tried, end_of_range = before, 0, before | SEQUENCE_MASK
    while True:
        try:
            for row in connection.execute(
                f"{select} WHERE {key} > ? AND {key} <= ? ORDER BY {key}", (after, end_of_range)
            ):
                after = row[0]
                yield row
            return
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
        end = min(last, after + _PROBED)
        for position in range(after + 1, end + 1):
            try:
                found = connection.execute(f"{select} WHERE {key} = ?", (position,)).fetchone()
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                yield Unreadable(position, str(error))
                continue
            if found is not None:
                yield found
        tried += _PROBED
        after = end
        if after >= last or tried >= _HOPELESS:
            return
