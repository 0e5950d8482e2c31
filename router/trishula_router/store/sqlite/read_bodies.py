"""The bodies of messages, read from SQLite and proved by checksums; what is damaged is read around."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from trishula_router.store.signed_bodies import with_signature
from trishula_router.store.sqlite.damage import is_damage
from trishula_router.store.sqlite.read_journal import is_whole, record_at
from trishula_router.store.sqlite.statements import as_list
from trishula_router.store.telling import is_proven

__all__ = ["bodies"]


def bodies(connection: sqlite3.Connection, positions: Sequence[int]) -> dict[int, bytes]:
    """See :meth:`trishula_router.store.interface.Store.bodies`.

    Each is checked against the checksum in its record: what the disk gives back is perhaps not what was written.
    """
    try:
        rows = connection.execute(
            _BODY + " WHERE m.position IN (SELECT value FROM json_each(?))", (as_list(positions),)
        )
        found = {position: (envelope, facts) for position, envelope, facts in rows}
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        found = dict.fromkeys(positions, (b"", None))
    return {
        position: with_signature(body, facts)
        for position, (envelope, facts) in found.items()
        if (body := envelope if is_proven(facts, envelope) else _one_body(connection, position)) is not None
    }


_BODY = (
    "SELECT m.position, b.envelope, j.facts FROM message AS m JOIN body AS b ON b.position = m.body"
    " LEFT JOIN journal AS j ON j.position = m.position"
)


def _one_body(connection: sqlite3.Connection, position: int) -> bytes | None:
    """The body of a message if it is what was accepted, as far as anybody can tell; read around what is damaged."""
    envelope = None
    # A message's row says where its body is; where the row is damaged, that of a message to one is at its own place.
    for question in (
        _BODY.replace("j.facts", "NULL") + " WHERE m.position = ?",
        "SELECT 0, envelope FROM body WHERE position = ?",
    ):
        try:
            found = connection.execute(question, (position,)).fetchone()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            continue
        if found is not None:
            envelope = found[1]
            break
    if not isinstance(envelope, bytes):
        return None
    record = record_at(connection, position)
    if record is not None and is_proven(record.facts, envelope):
        return with_signature(envelope, record.facts)
    if record is not None and is_whole(connection, record):
        return None
    # The damage is in the record, so it proves nothing either way; it hit nothing else, so the body is as it was.
    return envelope
