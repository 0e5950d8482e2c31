"""The store's questions, as plain functions of a connection, so that they run on whichever thread owns it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from trishula_router.journal import ORIGIN_SHIFT, Damage, Record, verify
from trishula_router.store.facts import AcceptedFacts, body_damage, message_damage
from trishula_router.store.interface import Draft, History, MailboxSize, State, StoredMessage, Verdict
from trishula_router.store.rows import as_list

__all__ = [
    "at_positions",
    "bodies",
    "expired",
    "head",
    "history",
    "known_keys",
    "open_mailboxes",
    "records",
    "verify_all",
    "with_ids",
]

_MESSAGE = """
    SELECT m.position, m.sender, m.id, m.recipient, m.type, m.priority, m.accepted_at, m.expires_at, m.size_bytes,
           m.attempts, m.failures, m.due_at, m.state, d.at, s.at
    FROM message AS m
    LEFT JOIN journal AS d ON d.position = m.delivered
    LEFT JOIN journal AS s ON s.position = m.settled
"""


def _messages(rows: Iterable[tuple[Any, ...]]) -> list[StoredMessage]:
    typed = ((*row[:12], State(row[12]), *row[13:]) for row in rows)
    return [StoredMessage(*row) for row in typed]


def known_keys(connection: sqlite3.Connection, drafts: Sequence[Draft]) -> dict[tuple[str, str], tuple[int, ...]]:
    """Which keys of the drafts are stored already, with the positions of their messages."""
    ids_of: dict[str, list[str]] = {}
    for draft in drafts:
        ids_of.setdefault(draft.sender, []).append(draft.id)
    known: dict[tuple[str, str], tuple[int, ...]] = {}
    for sender, ids in ids_of.items():
        for message_id, position in connection.execute(
            "SELECT id, position FROM message WHERE sender = ? AND id IN (SELECT value FROM json_each(?))"
            " ORDER BY position",
            (sender, as_list(ids)),
        ):
            known[sender, message_id] = (*known.get((sender, message_id), ()), position)
    return known


def head(connection: sqlite3.Connection, recipient: str, after: tuple[int, int], limit: int) -> list[StoredMessage]:
    """See :meth:`trishula_router.store.interface.Store.head`."""
    return _messages(
        connection.execute(
            _MESSAGE + " WHERE m.recipient = ? AND m.state = 0 AND (m.priority, m.position) > (?, ?)"
            " ORDER BY m.priority, m.position LIMIT ?",
            (recipient, *after, limit),
        )
    )


def bodies(connection: sqlite3.Connection, positions: Sequence[int]) -> dict[int, bytes]:
    """See :meth:`trishula_router.store.interface.Store.bodies`."""
    rows = connection.execute(
        "SELECT m.position, b.envelope FROM message AS m JOIN body AS b ON b.position = m.body"
        " WHERE m.position IN (SELECT value FROM json_each(?))",
        (as_list(positions),),
    )
    return dict(rows.fetchall())


def open_mailboxes(connection: sqlite3.Connection) -> dict[str, MailboxSize]:
    """See :meth:`trishula_router.store.interface.Store.open_mailboxes`."""
    rows = connection.execute(
        "SELECT recipient, count(*), sum(size_bytes) FROM message WHERE state = 0 GROUP BY recipient"
    )
    return {recipient: MailboxSize(count, size) for recipient, count, size in rows}


def expired(connection: sqlite3.Connection, now: int, limit: int) -> list[int]:
    """See :meth:`trishula_router.store.interface.Store.expired`; a scan of the index of open messages."""
    rows = connection.execute("SELECT position FROM message WHERE state = 0 AND expires_at <= ? LIMIT ?", (now, limit))
    return [position for (position,) in rows]


def at_positions(connection: sqlite3.Connection, positions: Sequence[int]) -> dict[int, StoredMessage]:
    """See :meth:`trishula_router.store.interface.Store.at_positions`."""
    rows = connection.execute(_MESSAGE + " WHERE m.position IN (SELECT value FROM json_each(?))", (as_list(positions),))
    return {message.position: message for message in _messages(rows)}


def with_ids(connection: sqlite3.Connection, ids: Sequence[str]) -> list[StoredMessage]:
    """See :meth:`trishula_router.store.interface.Store.with_ids`."""
    return _messages(
        connection.execute(
            _MESSAGE + " WHERE m.id IN (SELECT value FROM json_each(?)) ORDER BY m.position", (as_list(ids),)
        )
    )


def history(connection: sqlite3.Connection, message_id: str) -> list[History]:
    """See :meth:`trishula_router.store.interface.Store.history`."""
    return [
        History(
            message,
            tuple(
                Record(*row)
                for row in connection.execute(
                    "SELECT position, at, kind, facts, digest FROM journal WHERE position IN ("
                    " SELECT position FROM message WHERE position = :it UNION"
                    " SELECT delivered FROM message WHERE position = :it UNION"
                    " SELECT settled FROM message WHERE position = :it UNION"
                    " SELECT position FROM trace WHERE message = :it) ORDER BY position",
                    {"it": message.position},
                )
            ),
        )
        for message in with_ids(connection, [message_id])
    ]


def records(
    connection: sqlite3.Connection, *, after: int, limit: int, kind: str | None, since: int | None, until: int | None
) -> list[Record]:
    """See :meth:`trishula_router.store.interface.Store.records`."""
    return [
        Record(*row)
        for row in connection.execute(
            "SELECT position, at, kind, facts, digest FROM journal WHERE position > :after AND position < :end"
            " AND (:kind IS NULL OR kind = :kind)"
            " AND (:since IS NULL OR at >= :since) AND (:until IS NULL OR at < :until)"
            " ORDER BY position LIMIT :limit",
            {
                "after": after,
                "end": 1 << ORIGIN_SHIFT,
                "kind": kind,
                "since": since,
                "until": until,
                "limit": limit,
            },
        )
    ]


def verify_all(connection: sqlite3.Connection) -> Verdict:
    """Check the whole chain and every message and body; see :meth:`trishula_router.store.interface.Store.verify`."""
    damages: list[Damage] = []
    records, bodies = _Counted(), _Counted()
    checks: list[Callable[[], Iterable[Damage]]] = [
        lambda: verify(Record(*row) for row in records.of(connection.execute(_JOURNAL))),
        lambda: _body_damages(bodies.of(connection.execute(_BODIES))),
        lambda: _message_damages(connection.execute(_ACCEPTED)),
        lambda: _file_damages(connection),
    ]
    for check in checks:
        # Where a page of the file is unreadable, that is what there is to tell; the other checks may still tell more.
        try:
            damages += check()
        except sqlite3.DatabaseError as error:
            damages.append(Damage(0, f"the store's file is damaged ({error})"))
            # SQLite commits no transaction that met such a page.
            connection.execute("ROLLBACK")
            connection.execute("BEGIN")
    return Verdict(records.count, bodies.count, tuple(dict.fromkeys(damages)))


_JOURNAL = "SELECT position, at, kind, facts, digest FROM journal ORDER BY position"
_BODIES = (
    "SELECT j.position, j.at, j.kind, j.facts, j.digest, b.envelope FROM body AS b JOIN journal AS j USING (position)"
)
_ACCEPTED = (
    "SELECT j.position, j.at, j.kind, j.facts, j.digest, m.sender, m.id, m.recipient, m.type, m.priority, m.size_bytes"
    " FROM message AS m JOIN journal AS j USING (position)"
)


class _Counted:
    """Counts rows as they pass."""

    def __init__(self) -> None:
        self.count = 0

    def of(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        for row in rows:
            self.count += 1
            yield row


def _body_damages(rows: Iterable[tuple[Any, ...]]) -> Iterator[Damage]:
    for *record, envelope in rows:
        damage = body_damage(Record(*record), envelope)
        if damage is not None:
            yield Damage(record[0], damage)


def _message_damages(rows: Iterable[tuple[Any, ...]]) -> Iterator[Damage]:
    for position, at, kind, facts, digest, sender, message_id, recipient, message_type, priority, size_bytes in rows:
        stored = AcceptedFacts(sender, message_id, recipient, message_type, priority, size_bytes, "")
        damage = message_damage(Record(position, at, kind, facts, digest), stored)
        if damage is not None:
            yield Damage(position, damage)


def _file_damages(connection: sqlite3.Connection) -> Iterator[Damage]:
    """What SQLite finds wrong with the file's structure: its pages, its indexes."""
    for (said,) in connection.execute("PRAGMA integrity_check(10)"):
        if said != "ok":
            yield Damage(0, f"the store's file is damaged ({said})")
