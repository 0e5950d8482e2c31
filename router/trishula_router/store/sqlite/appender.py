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
from trishula_router.store.sqlite.gathered_rows import Rows
from trishula_router.store.telling import accepted_facts

__all__ = ["Appender", "remember"]


class Appender:
    """Appends to the node's own journal.

    Args:
        tails: the ends of all journals.
        rows: what the jobs of the transaction leave to be inserted.
    """

    def __init__(self, tails: Tails, rows: Rows) -> None:
        self._tails = tails
        self._rows = rows

    def append(
        self, connection: sqlite3.Connection, drafts: Sequence[Draft], at: int, ids_since: int = 0
    ) -> list[Accepted]:
        """Store messages, but for repeats; their rows are left to be inserted with others."""
        keys = [key_of(draft) for draft in drafts]
        if self._rows.has_any_of(keys=keys):
            self._rows.write(connection)
        ids = Ids(reads.known_keys(connection, keys), at, ids_since, self._tails.own.first_use)
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
            use, positions = ids.use(key, draft), []
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
        self._rows.add_messages(keys, journal, messages, bodies)
        return accepted

    def record(self, connection: sqlite3.Connection, at: int, kind: Kind, facts: object) -> int:
        """Write a record; its position."""
        row = self._extend(at, kind, facts)
        connection.execute("INSERT INTO journal VALUES (?, ?, ?, ?, ?)", row)
        return row[0]

    def record_with_others(self, at: int, kind: Kind, facts: object) -> int:
        """The same, of a job that looks at no record: its row is left to be inserted with others."""
        row = self._extend(at, kind, facts)
        self._rows.add_record(row)
        return row[0]

    def _extend(self, at: int, kind: Kind, facts: object) -> tuple[int, int, str, bytes, bytes]:
        row = self._tails.own.extend(at, kind.value, facts)
        if self._tails.own.collects:
            self._tails.own.keep(Fresh(row[0], row[1:]))
        return row


def remember(connection: sqlite3.Connection, notes: Mapping[str, str]) -> None:
    """Keep short texts by key, each in place of the one before; an empty one in no place at all."""
    connection.executemany(
        "INSERT INTO property VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        [note for note in notes.items() if note[1]],
    )
    connection.executemany("DELETE FROM property WHERE key = ?", [(key,) for key, text in notes.items() if not text])
