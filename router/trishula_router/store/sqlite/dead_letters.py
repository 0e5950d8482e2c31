"""Dead letters in SQLite, as plain functions of a connection: which there are, replay, purge.

A letter is a row with the state ``dead`` that has its body. One that was purged (its ``body`` is 0), or whose body went
with its time, keeps its row, so that its id stays taken and its life can be told.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from trishula_router.store.facts import REASON_PATH
from trishula_router.store.messages import DeadLetter
from trishula_router.store.sqlite import reads
from trishula_router.store.sqlite.statements import as_list, insert
from trishula_router.store.standing import PURGED_LIFE

__all__ = ["dead_letters", "drop_bodies", "keep_ends", "letters_among", "lives", "purge", "redact", "replay"]


_IS_LETTER = "m.state = 2 AND m.body != 0 AND EXISTS (SELECT 1 FROM body AS b WHERE b.position = m.body)"


def letters_among(connection: sqlite3.Connection, positions: Sequence[int]) -> list[int]:
    """Which of them are dead letters, oldest first."""
    rows = connection.execute(
        f"SELECT m.position FROM message AS m WHERE {_IS_LETTER}"
        " AND m.position IN (SELECT value FROM json_each(?)) ORDER BY m.position",
        (as_list(positions),),
    )
    return [position for (position,) in rows]


def dead_letters(connection: sqlite3.Connection, after: int, limit: int, agent: str | None) -> list[DeadLetter]:
    """See :meth:`trishula_router.store.interface.Store.dead_letters`."""
    reasons = dict(
        connection.execute(
            "SELECT m.position, CASE WHEN json_valid(CAST(j.facts AS TEXT))"
            f" THEN json_extract(CAST(j.facts AS TEXT), '{REASON_PATH}') END"
            " FROM message AS m LEFT JOIN journal AS j ON j.position = m.settled"
            f" WHERE {_IS_LETTER} AND m.position > :after"
            # An instance's address is the agent's with "/…" behind, and "0" is the character after "/".
            " AND (:agent IS NULL OR m.recipient = :agent"
            " OR (m.recipient > :agent || '/' AND m.recipient < :agent || '0'))"
            " ORDER BY m.position LIMIT :limit",
            {"after": after, "agent": agent, "limit": limit},
        ).fetchall()
    )
    found = reads.at_positions(connection, list(reasons))
    return [DeadLetter(found[position], reason or "") for position, reason in reasons.items() if position in found]


def lives(connection: sqlite3.Connection, positions: Sequence[int]) -> dict[int, int]:
    """How often messages were replayed; those that never were are left out."""
    rows = connection.execute(
        "SELECT position, life FROM message WHERE life > 0 AND position IN (SELECT value FROM json_each(?))",
        (as_list(positions),),
    )
    return dict(rows.fetchall())


def replay(connection: sqlite3.Connection, lives: Mapping[int, int], revived: Mapping[int, int], record: int) -> None:
    """Open dead letters again.

    Args:
        connection: in a transaction.
        lives: the life that each begins.
        revived: when each expires (ms).
        record: the position of the record that tells it.
    """
    insert(connection, "trace", [(position, record) for position in lives])
    # What they died of stays explainable.
    connection.execute(
        "INSERT INTO trace SELECT position, settled FROM message WHERE settled IS NOT NULL"
        " AND position IN (SELECT value FROM json_each(?)) ON CONFLICT DO NOTHING",
        (as_list(lives),),
    )
    connection.executemany(
        "UPDATE message SET state = 0, life = ?, settled = NULL, failures = 0, due_at = 0, expires_at = ?,"
        " by_deadline = 0 WHERE position = ?",
        [(life, revived[position], position) for position, life in lives.items()],
    )


def purge(connection: sqlite3.Connection, letters: Sequence[int], record: int) -> None:
    """Delete the bodies of dead letters."""
    insert(connection, "trace", [(position, record) for position in letters])
    drop_bodies(connection, letters)
    connection.execute(
        "UPDATE message SET life = ? WHERE position IN (SELECT value FROM json_each(?))",
        (PURGED_LIFE, as_list(letters)),
    )


def redact(connection: sqlite3.Connection, messages: Sequence[int], record: int) -> None:
    """Delete the bodies of messages, whatever became of them."""
    insert(connection, "trace", [(position, record) for position in messages])
    drop_bodies(connection, messages)


def drop_bodies(connection: sqlite3.Connection, positions: Sequence[int]) -> None:
    """Delete the bodies of messages; recipients of one broadcast share theirs, so it may have to stay.

    Somebody wanted them to be gone, so the file's bytes are overwritten, and not only free for others.
    """
    connection.execute("PRAGMA secure_delete = ON")
    listed = as_list(positions)
    bodies = connection.execute(
        "SELECT DISTINCT m.body FROM message AS m JOIN json_each(:them) AS it ON it.value = m.position"
        " WHERE NOT EXISTS (SELECT 1 FROM message AS o WHERE o.id = m.id AND o.sender = m.sender AND o.body = m.body"
        " AND o.position NOT IN (SELECT value FROM json_each(:them)))",
        {"them": listed},
    ).fetchall()
    # What other nodes accepted as the same message goes with it.
    bodies += connection.execute(
        "SELECT a.position FROM json_each(?) AS it JOIN trace AS t ON t.message = it.value"
        " JOIN alias AS a ON a.position = t.position JOIN message AS m ON m.position = it.value"
        " WHERE m.body IN (SELECT value FROM json_each(?))",
        (listed, as_list(body for (body,) in bodies)),
    ).fetchall()
    connection.execute("UPDATE message SET body = 0 WHERE position IN (SELECT value FROM json_each(?))", (listed,))
    connection.execute(
        "DELETE FROM body WHERE position IN (SELECT value FROM json_each(?))", (as_list(body for (body,) in bodies),)
    )
    # Retention deletes far more, and in no hurry.
    connection.execute("PRAGMA secure_delete = OFF")


def keep_ends(connection: sqlite3.Connection, listed: str) -> None:
    """Have what an earlier final state was stay explainable, of a JSON list of messages that get done all the same."""
    connection.execute(
        "INSERT INTO trace SELECT position, settled FROM message WHERE state > 1 AND settled IS NOT NULL"
        " AND position IN (SELECT value FROM json_each(?)) ON CONFLICT DO NOTHING",
        (listed,),
    )
