"""What the fold of copied records asks and writes, in SQLite: a statement of one step each, whatever the row count.

Rows come back as one JSON text, because fetching them one by one is a step each; see :mod:`.statements`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from trishula_router.store.facts import HOLDER_PATH
from trishula_router.store.fold_changes import Changes, Identity, RecipientKey, Row
from trishula_router.store.journal import Record
from trishula_router.store.messages import State
from trishula_router.store.origins import Learned
from trishula_router.store.sqlite.appender import remember
from trishula_router.store.sqlite.dead_letters import drop_bodies
from trishula_router.store.sqlite.statements import as_list, insert, update
from trishula_router.store.standing import standing_of, state_of

__all__ = ["SqliteShelf", "write", "write_learned"]

_KEYS = (
    "SELECT json_group_array(json_array(it.value, m.position, m.sender, m.type, m.digest, m.use))"
    " FROM json_each(?) AS it JOIN message AS m INDEXED BY message_key"
    # An instance's address is the agent's with "/…" behind, and "0" is the character after "/".
    " ON m.id = it.value ->> 1 AND m.sender >= it.value ->> 0 AND m.sender < (it.value ->> 0) || '0'"
    " AND m.recipient = it.value ->> 2"
)
_ALIASES = (
    "SELECT json_group_array(json_array(a.position, a.message))"
    " FROM json_each(?) AS it JOIN alias AS a ON a.position = it.value"
)
_EARLY = (
    "SELECT json_group_array(json_array(e.message, e.record))"
    " FROM json_each(?) AS it JOIN early AS e ON e.message = it.value"
)
_ROWS = (
    "SELECT json_group_array(json_array(m.position, m.sender, m.id, m.recipient, m.type, m.priority, m.accepted_at,"
    " m.expires_at, m.by_deadline, m.size_bytes, m.arrival, m.body, m.state, m.life, m.attempts, m.failures, m.due_at,"
    " m.delivered, d.at, m.settled, s.at,"
    " CASE WHEN m.recipient LIKE 'capability:%' AND json_valid(CAST(d.facts AS TEXT))"
    f" THEN json_extract(CAST(d.facts AS TEXT), '{HOLDER_PATH}') END, m.keeper, m.hop, m.digest, m.use, m.reply_to,"
    " m.surfaced_at))"
    " FROM json_each(?) AS it JOIN message AS m ON m.position = it.value"
    " LEFT JOIN journal AS d ON d.position = m.delivered LEFT JOIN journal AS s ON s.position = m.settled"
)

_NEW = (
    "message (position, sender, id, recipient, type, priority, accepted_at, expires_at, size_bytes, body, by_deadline,"
    " arrival, attempts, failures, due_at, state, life, delivered, settled, keeper, hop, digest, use,"
    " reply_to, surfaced_at)"
)
_CHANGE = (
    "UPDATE message SET expires_at = new.column2, by_deadline = new.column3, body = new.column4,"
    " attempts = new.column5, failures = new.column6, due_at = new.column7, state = new.column8, life = new.column9,"
    " delivered = new.column10, settled = new.column11, keeper = new.column12, hop = new.column13,"
    " surfaced_at = new.column14 FROM ({}) AS new WHERE message.position = new.column1"
)
_TRACE = "INSERT OR IGNORE INTO trace SELECT value ->> 0, value ->> 1 FROM json_each(?)"
_EARLY_NEW = "INSERT OR IGNORE INTO early SELECT value ->> 0, value ->> 1 FROM json_each(?)"
_EARLY_DONE = "DELETE FROM early WHERE message IN (SELECT value FROM json_each(?))"


def _asked(connection: sqlite3.Connection, question: str, values: Iterable[object]) -> list[Any]:
    found: list[Any] = msgspec.json.decode(connection.execute(question, (as_list(values),)).fetchone()[0])
    return found


class SqliteShelf:
    """Implements :class:`trishula_router.store.fold_changes.Shelf`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def with_keys(self, keys: Iterable[RecipientKey]) -> Mapping[RecipientKey, Sequence[Identity]]:
        """See :meth:`trishula_router.store.fold_changes.Shelf.with_keys`."""
        found: dict[RecipientKey, list[Identity]] = {}
        for key, *identity in sorted(_asked(self._connection, _KEYS, keys)):
            found.setdefault((key[0], key[1], key[2]), []).append(Identity(*identity))
        return found

    def aliases(self, positions: Iterable[int]) -> Mapping[int, int]:
        """See :meth:`trishula_router.store.fold_changes.Shelf.aliases`."""
        return dict(_asked(self._connection, _ALIASES, positions))

    def rows(self, positions: Iterable[int]) -> dict[int, Row]:
        """See :meth:`trishula_router.store.fold_changes.Shelf.rows`."""
        return {values[0]: _row(*values) for values in _asked(self._connection, _ROWS, positions)}

    def early(self, positions: Iterable[int]) -> Sequence[tuple[int, Record]]:
        """See :meth:`trishula_router.store.fold_changes.Shelf.early`."""
        found = _asked(self._connection, _EARLY, positions)
        records = {
            row[0]: Record(*row)
            for row in self._connection.execute(
                "SELECT position, at, kind, facts, digest FROM journal WHERE position IN"
                " (SELECT value FROM json_each(?))",
                (as_list({record for _, record in found}),),
            )
        }
        return [(message, records[record]) for message, record in sorted(found) if record in records]


def _row(*values: Any) -> Row:
    # In the order of the row's fields, but for what its standing is made of.
    by_deadline, (state, life) = values[8], values[12:14]
    standing = standing_of(State(state), life)
    fields: list[Any] = [*values[:8], bool(by_deadline), *values[9:12], standing, *values[14:], standing]
    return Row(*fields)


def write_learned(connection: sqlite3.Connection, learned: Learned) -> None:
    """Keep an origin's number, and what its numbers mean."""
    insert(connection, "origin", learned.origins)
    insert(connection, "numbering", learned.numbering)


def write(connection: sqlite3.Connection, changes: Changes) -> None:
    """Do what the fold decided."""
    insert(connection, "journal", [msgspec.structs.astuple(record) for record in changes.records])
    insert(connection, "body", list(changes.bodies.items()))
    insert(connection, _NEW, [_new(row) for row in changes.new])
    insert(connection, "alias", list(changes.aliases.items()))
    update(connection, _CHANGE, [_changed(row) for row in changes.changed])
    if changes.traces:
        connection.execute(_TRACE, (as_list(changes.traces),))
    if changes.early:
        connection.execute(_EARLY_NEW, (as_list(changes.early),))
    if changes.late:
        connection.execute(_EARLY_DONE, (as_list(changes.late),))
    if changes.purged:
        drop_bodies(connection, changes.purged)
    connection.executemany("INSERT OR IGNORE INTO body VALUES (?, ?)", list(changes.revived.items()))
    if changes.notes:
        remember(connection, changes.notes)


def _state(row: Row) -> tuple[int, int]:
    state, life = state_of(row.standing)
    return int(state), life


def _new(row: Row) -> tuple[object, ...]:
    return (
        row.position,
        row.sender,
        row.id,
        row.recipient,
        row.type,
        row.priority,
        row.accepted_at,
        row.expires_at,
        row.size_bytes,
        row.body,
        row.by_deadline,
        row.arrival,
        row.attempts,
        row.failures,
        row.due_at,
        *_state(row),
        row.delivered,
        row.settled,
        row.keeper,
        row.hop,
        row.digest,
        row.use,
        row.reply_to,
        row.surfaced_at,
    )


def _changed(row: Row) -> tuple[object, ...]:
    return (
        row.position,
        row.expires_at,
        int(row.by_deadline),
        row.body,
        row.attempts,
        row.failures,
        row.due_at,
        *_state(row),
        row.delivered,
        row.settled,
        row.keeper,
        row.hop,
        row.surfaced_at,
    )
