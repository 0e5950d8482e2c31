"""Rows that the jobs of one transaction leave to be inserted together, in few statements.

A hundred agents with a message each are a hundred jobs with one row for each table, and a statement costs nearly as
much for one row as for a dozen: Python lets go of the interpreter lock at each, and must win it back from the busy
reactor. So jobs of the three kinds that live agents bring about (a send, the note of a delivery, an ack) leave their
rows here. They are inserted before the transaction commits, and before any job of another kind, so that nobody but
those three can see that they were not there yet; and these ask first whether what they look for is among them.

It is the writer's thread's alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from trishula_router.store.identity import Key
from trishula_router.store.sqlite.statements import insert

__all__ = ["NEW_MESSAGE", "Rows"]

Row = Sequence[Any]

#: The columns of a message that a send fills.
NEW_MESSAGE = (
    "message (position, sender, id, recipient, type, priority, accepted_at, expires_at, size_bytes, body,"
    " by_deadline, arrival, digest, use, reply_to)"
)


class Rows:
    """What is to be inserted yet."""

    def __init__(self) -> None:
        self._journal: list[Row] = []
        self._messages: list[Row] = []
        self._bodies: list[Row] = []
        self._keys: set[Key] = set()
        self._positions: set[int] = set()

    def add_record(self, row: Row) -> None:
        """A record for the journal."""
        self._journal.append(row)

    def add_messages(
        self, keys: Iterable[Key], journal: Sequence[Row], messages: Sequence[Row], bodies: Sequence[Row]
    ) -> None:
        """Messages under their keys, with their records and bodies; a row of each begins with its position."""
        if not messages:
            return
        self._keys.update(keys)
        self._positions.update(row[0] for row in messages)
        self._journal += journal
        self._messages += messages
        self._bodies += bodies

    def has_any_of(self, *, keys: Iterable[Key] = (), positions: Iterable[int] = ()) -> bool:
        """Whether a message is among them that has one of these keys or positions."""
        return not (self._keys.isdisjoint(keys) and self._positions.isdisjoint(positions))

    def write(self, connection: sqlite3.Connection) -> None:
        """Insert them."""
        if not self._journal:
            return
        insert(connection, "journal", self._journal)
        insert(connection, NEW_MESSAGE, self._messages)
        insert(connection, "body", self._bodies)
        self.drop()

    def drop(self) -> None:
        """Nothing of it is to be inserted any more: it was, or its transaction failed."""
        for rows in (self._journal, self._messages, self._bodies):
            rows.clear()
        self._keys.clear()
        self._positions.clear()
