"""The appender: writes messages and records into the file, and the records into the node's own chain.

Each of its methods is part of a job on the writer's thread, inside the job's transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from trishula_router.store.identity import Ids, key_of
from trishula_router.store.journal import Kind
from trishula_router.store.messages import (
    Accepted,
    Draft,
)
from trishula_router.store.origins import Tails
from trishula_router.store.runs import Fresh
from trishula_router.store.sqlite import reads
from trishula_router.store.sqlite.statements import insert
from trishula_router.store.telling import accepted_facts

__all__ = ["Appender", "remember"]

_NEW_MESSAGE = (
    "message (position, sender, id, recipient, type, priority, accepted_at, expires_at, size_bytes, body,"
    " by_deadline, arrival, digest, use, reply_to)"
)


class Appender:
    """Appends to the node's own journal.

    Args:
        tails: the ends of all journals.
    """

    def __init__(self, tails: Tails) -> None:
        self._tails = tails

    def append(
        self, connection: sqlite3.Connection, drafts: Sequence[Draft], at: int, ids_since: int = 0
    ) -> list[Accepted]:
        keys = [key_of(draft) for draft in drafts]
        ids = Ids(reads.known_keys(connection, keys), at, ids_since)
        own, copied = self._tails.own, self._tails.copied
        extend, collects = own.extend, own.collects
        journal: list[tuple[int, int, str, bytes, bytes]] = []
        messages: list[tuple[object, ...]] = []
        bodies: list[tuple[int, bytes]] = []
        accepted = []
        for key, draft in zip(keys, drafts, strict=True):
            known = ids.known(key, draft)
            if known is not None:
                accepted.append(known)
                continue
            use, positions = ids.use(key), []
            for recipient in draft.recipients:
                record = extend(at, "accepted", accepted_facts(draft, recipient, use))
                journal.append(record)
                positions.append(record[0])
                if collects:
                    own.keep(
                        Fresh(record[0], record[1:], positions[0], draft.envelope, draft.expires_at, draft.by_deadline)
                    )
                messages.append(
                    (
                        record[0],
                        draft.sender,
                        draft.id,
                        recipient,
                        draft.type,
                        draft.priority,
                        at,
                        draft.expires_at,
                        len(draft.envelope),
                        positions[0],
                        draft.by_deadline,
                        record[0] + copied,
                        draft.digest,
                        use,
                        draft.reply_to,
                    )
                )
            if positions:
                bodies.append((positions[0], draft.envelope))
                ids.taken(key, draft, tuple(positions))
            accepted.append(Accepted(tuple(positions), False, positions[0] + copied if positions else 0))
        insert(connection, "journal", journal)
        insert(connection, _NEW_MESSAGE, messages)
        insert(connection, "body", bodies)
        return accepted

    def record(self, connection: sqlite3.Connection, at: int, kind: Kind, facts: object) -> int:
        row = self._tails.own.extend(at, kind.value, facts)
        connection.execute("INSERT INTO journal VALUES (?, ?, ?, ?, ?)", row)
        if self._tails.own.collects:
            self._tails.own.keep(Fresh(row[0], row[1:]))
        return row[0]


def remember(connection: sqlite3.Connection, notes: Mapping[str, str]) -> None:
    """Keep short texts by key, each in place of the one before; an empty one in no place at all."""
    connection.executemany(
        "INSERT INTO property VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        [note for note in notes.items() if note[1]],
    )
    connection.executemany("DELETE FROM property WHERE key = ?", [(key,) for key, text in notes.items() if not text])
