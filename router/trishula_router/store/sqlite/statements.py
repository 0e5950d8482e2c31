"""Many rows in few statements.

Python's sqlite3 lets go of the interpreter lock at each step of a statement and must win it back from the busy reactor
thread: with a row a statement (``executemany``) a group of 256 messages waited for the lock a thousand times, and that,
not the disk, bounded the node. A statement over many rows is one step.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import msgspec

__all__ = ["as_list", "at_positions", "insert", "update"]

#: Rows a statement: few sizes, because each is a statement that SQLite prepares and keeps.
_CHUNKS = (64, 16, 4, 1)


@cache
def _statement(into: str, columns: int, rows: int) -> str:
    row = "(" + ", ".join("?" * columns) + ")"
    return f"INSERT INTO {into} VALUES " + ", ".join([row] * rows)


def _chunked(rows: Sequence[Sequence[Any]]) -> Iterator[tuple[int, list[Any]]]:
    """The values of rows in as few parts as there are statements for, each with how many rows it is."""
    start = 0
    for size in _CHUNKS:
        while len(rows) - start >= size:
            yield size, [value for row in rows[start : start + size] for value in row]
            start += size


def insert(connection: sqlite3.Connection, into: str, rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows.

    Args:
        connection: in a transaction.
        into: a table, with its columns if the rows don't have all: ``"journal"``, ``"message (position, sender)"``.
        rows: each with a value for each column.
    """
    for size, values in _chunked(rows):
        connection.execute(_statement(into, len(rows[0]), size), values)


def update(connection: sqlite3.Connection, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    """Change rows, each by the values of one row.

    A list of JSON in one statement (:func:`as_list`) takes SQLite twice as long: it looks for each value in the text.

    Args:
        connection: in a transaction.
        statement: with ``{}`` in the place of the rows, whose values it calls ``column1`` and so on.
        rows: all of the same length.
    """
    for size, values in _chunked(rows):
        connection.execute(_update(statement, len(rows[0]), size), values)


@cache
def _update(statement: str, columns: int, rows: int) -> str:
    row = "(" + ", ".join("?" * columns) + ")"
    return statement.format("VALUES " + ", ".join([row] * rows))


def as_list(values: Iterable[object]) -> str:
    """Values as the JSON list that ``IN (SELECT value FROM json_each(?))`` takes: one step, whatever their number."""
    return msgspec.json.encode(list(values)).decode()


def at_positions(positions: Sequence[int]) -> tuple[str, object]:
    """The condition of a statement on rows at positions, and what it is given: of one, as of most, without a list."""
    return ("position = ?", positions[0]) if len(positions) == 1 else (_AT_LISTED, as_list(positions))


_AT_LISTED = "position IN (SELECT value FROM json_each(?))"
