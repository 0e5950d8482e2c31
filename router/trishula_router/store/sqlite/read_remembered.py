"""Messages whose own records were cut, read from SQLite; see :mod:`trishula_router.store.remembering`."""

from __future__ import annotations

import sqlite3

import msgspec

from trishula_router.store.journal import SEQUENCE_MASK
from trishula_router.store.runs import Remembered

__all__ = ["read_remembered"]

_COLUMNS = "m.sender, m.id, m.recipient, m.type, m.digest, m.use, m.state, m.accepted_at, m.expires_at, m.life"
#: Of messages that another node accepted as well, too: by the record that it accepted them with.
_ROWS = f"""
    SELECT json_group_array(json_array(it.position & {SEQUENCE_MASK}, {_COLUMNS}, m.priority, m.size_bytes, m.reply_to))
    FROM (
        SELECT * FROM (
            SELECT position, position AS message FROM message
            WHERE position > :begin AND position <= :end AND state != 0
                AND NOT EXISTS (SELECT 1 FROM journal AS j WHERE j.position = message.position)
            ORDER BY position LIMIT :limit)
        UNION ALL
        SELECT * FROM (
            SELECT a.position, a.message FROM alias AS a JOIN message AS of ON of.position = a.message
            WHERE a.position > :begin AND a.position <= :end AND of.state != 0
                AND NOT EXISTS (SELECT 1 FROM journal AS j WHERE j.position = a.position)
            ORDER BY a.position LIMIT :limit)
        ORDER BY position LIMIT :limit
    ) AS it JOIN message AS m ON m.position = it.message
"""


def read_remembered(connection: sqlite3.Connection, begin: int, end: int, limit: int) -> list[Remembered]:
    """Messages that are settled, whose records were behind a position, up to another; in order."""
    span = {"begin": begin, "end": end, "limit": limit}
    text = connection.execute(_ROWS, span).fetchone()[0]
    return sorted(msgspec.json.decode(text, type=list[Remembered]), key=lambda one: one.sequence)
