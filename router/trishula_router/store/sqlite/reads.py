"""The store's questions about messages, as plain functions of a connection: they run on whichever thread owns it.

Those about the journal are in :mod:`.read_journal`, and what messages hold is read in :mod:`.read_bodies`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from trishula.contract.addresses import agent_of, is_capability
from trishula_router.store.facts import HOLDER_PATH
from trishula_router.store.identity import Key, digest_of_envelope, key_of, latest_use
from trishula_router.store.interface import History
from trishula_router.store.journal import ORIGIN_SHIFT, is_own
from trishula_router.store.keepers import IS_KEPT_HERE
from trishula_router.store.messages import MailboxSize, OpenSize, State, StoredMessage, mailbox_of, payer_of
from trishula_router.store.sqlite.damage import is_damage
from trishula_router.store.sqlite.read_bodies import bodies
from trishula_router.store.sqlite.read_journal import record_at, shown
from trishula_router.store.sqlite.statements import as_list
from trishula_router.store.telling import read_accepted

__all__ = [
    "answers",
    "at_positions",
    "expired",
    "head",
    "history",
    "holders",
    "known_keys",
    "oldest",
    "open_mailboxes",
    "remembered",
    "settled_by",
    "with_ids",
]

#: No position is as large.
_BEHIND_ALL = 2**63 - 1

_MESSAGE = f"""
    SELECT m.position, m.sender, m.id, m.recipient, m.type, m.priority, m.accepted_at, m.expires_at, m.size_bytes,
           m.attempts, m.failures, m.due_at, m.state, d.at, s.at, m.by_deadline,
           CASE WHEN m.recipient LIKE 'capability:%' AND json_valid(CAST(d.facts AS TEXT))
                THEN json_extract(CAST(d.facts AS TEXT), '{HOLDER_PATH}') END,
           m.arrival, m.keeper, m.hop, m.digest, m.use, m.reply_to, m.surfaced_at
    FROM message AS m
    LEFT JOIN journal AS d ON d.position = m.delivered
    LEFT JOIN journal AS s ON s.position = m.settled
"""

#: An instance's address is the agent's with "/…" behind, and "0" is the character after "/".
_UNDER_KEYS = (
    "SELECT m.position FROM json_each(?) AS it JOIN message AS m INDEXED BY message_key"
    " ON m.id = it.value ->> 1 AND m.sender >= it.value ->> 0 AND m.sender < (it.value ->> 0) || '0'"
)
#: The same of one key, as most calls have: without a list that SQLite has to read.
_UNDER_KEY = "SELECT position FROM message INDEXED BY message_key WHERE id = ? AND sender >= ? AND sender < ?"

#: What the first columns of a message are; a flipped bit can make something else of a value.
_TYPES = (int, str, str, str, str, int, int, int, int, int, int, int, int)


class _Garbled(Exception):
    """A row holds what nobody wrote."""


def _messages(rows: Iterable[tuple[Any, ...]]) -> list[StoredMessage]:
    found = []
    for row in rows:
        if tuple(map(type, row[:13])) != _TYPES or row[12] not in _STATES:
            raise _Garbled(f"the row of message {row[0]}")
        values = (*row[:12], State(row[12]), *row[13:15], bool(row[15]), *row[16:])
        found.append(StoredMessage(*values))
    return found


_STATES = frozenset(State)


def known_keys(connection: sqlite3.Connection, keys: Sequence[Key]) -> dict[Key, list[StoredMessage]]:
    """The messages that are stored under keys: those of the latest use, in order of arrival.

    What a row doesn't tell, because it was written before it could or is damaged, is read from the body.
    """
    # The index alone: nearly always there is nothing, and no row need be touched for that.
    if len(keys) == 1:
        agent, message_id = keys[0]
        rows = connection.execute(_UNDER_KEY, (message_id, agent, f"{agent}0")).fetchall()
    else:
        rows = connection.execute(_UNDER_KEYS, (as_list(keys),)).fetchall()
    # A key that comes twice finds its messages twice.
    positions = list({position for (position,) in rows})
    if not positions:
        return {}
    found: dict[Key, list[StoredMessage]] = {}
    for message in sorted(_listed(connection, positions), key=lambda message: message.arrival):
        found.setdefault(key_of(message), []).append(message)
    return {key: _with_digests(connection, latest_use(messages)) for key, messages in found.items()}


def _with_digests(connection: sqlite3.Connection, messages: list[StoredMessage]) -> list[StoredMessage]:
    unknown = [message.position for message in messages if not message.digest]
    if not unknown:
        return messages
    envelopes = bodies(connection, unknown)
    return [
        message
        if message.digest
        else msgspec.structs.replace(message, digest=digest_of_envelope(envelopes.get(message.position)))
        for message in messages
    ]


def _listed(connection: sqlite3.Connection, positions: Sequence[int]) -> list[StoredMessage]:
    """Messages by position; where a row is damaged, its message is told from its record."""
    found = at_positions(connection, positions)
    for position in positions:
        record = None if position in found else record_at(connection, position)
        facts = None if record is None else read_accepted(record)
        if record is None or facts is None:
            continue
        told = (facts.sender, facts.id, facts.to, facts.type, facts.priority, record.at)
        found[position] = StoredMessage(
            position, *told, 0, facts.bytes, digest=facts.digest, use=facts.use, reply_to=facts.reply_to
        )
    return list(found.values())


def head(connection: sqlite3.Connection, recipient: str, after: tuple[int, int], limit: int) -> list[StoredMessage]:
    """See :meth:`trishula_router.store.interface.Store.head`.

    Where a row is damaged, its message is told from the index and its record: it keeps its place and reaches its
    recipient all the same.
    """
    behind = " WHERE {0}recipient = ? AND {0}state = 0 AND ({0}priority, {0}arrival) > (?, ?)"
    if is_capability(recipient):
        behind += f" AND {IS_KEPT_HERE}"
    order = " ORDER BY {0}priority, {0}arrival LIMIT ?"
    values = (recipient, *after, limit)
    try:
        return _messages(connection.execute(_MESSAGE + behind.format("m.") + order.format("m."), values))
    except (sqlite3.DatabaseError, _Garbled) as error:
        if not (isinstance(error, _Garbled) or is_damage(error)):
            raise
    # All of it is in the index message_open, so no row is touched.
    entries = connection.execute(
        "SELECT position, priority, expires_at, size_bytes, arrival FROM message"
        + behind.format("")
        + order.format(""),
        values,
    ).fetchall()
    return [
        _one(connection, position) or _from_record(connection, recipient, position, *rest)
        for position, *rest in entries
    ]


def _one(connection: sqlite3.Connection, position: int) -> StoredMessage | None:
    try:
        found = _messages(connection.execute(_MESSAGE + " WHERE m.position = ?", (position,)))
    except (sqlite3.DatabaseError, _Garbled) as error:
        if not (isinstance(error, _Garbled) or is_damage(error)):
            raise
        return None
    return found[0] if found else None


def _from_record(
    connection: sqlite3.Connection,
    recipient: str,
    position: int,
    priority: int,
    expires_at: int,
    size_bytes: int,
    arrival: int,
) -> StoredMessage:
    record = record_at(connection, position)
    facts = None if record is None else read_accepted(record)
    if record is None or facts is None:
        # Both are damaged: nobody can tell whose it was. Its body can't be proved either, so it ends as dead.
        told, at = ("unknown", f"damaged.{position}", recipient, "?"), 0
    else:
        told, at = (facts.sender, facts.id, recipient, facts.type), record.at
    # Nobody asks for a mailbox of what others keep.
    keeper = None if is_own(position) or not is_capability(recipient) else ""
    return StoredMessage(position, *told, priority, at, expires_at, size_bytes, arrival=arrival, keeper=keeper)


#: See :func:`payer_of`; ids that begin so are the node's own.
_PAYER = "CASE WHEN id LIKE 'node:%' THEN recipient ELSE sender END"


def open_mailboxes(connection: sqlite3.Connection) -> dict[str, MailboxSize]:
    """See :meth:`trishula_router.store.interface.Store.open_mailboxes`."""
    try:
        rows = connection.execute(
            f"SELECT recipient, position >> {ORIGIN_SHIFT}, keeper, {_PAYER}, count(*), sum(size_bytes),"
            " sum(priority = 1), sum(CASE WHEN priority = 1 THEN size_bytes ELSE 0 END) FROM message WHERE state = 0"
            " GROUP BY recipient, CASE WHEN recipient LIKE 'capability:%'"
            f" THEN coalesce(keeper, position >> {ORIGIN_SHIFT}) END, {_PAYER}"
        ).fetchall()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        rows = _open_one_by_one(connection)
    found: dict[str, dict[str, OpenSize]] = {}
    for recipient, number, keeper, payer, *counts in rows:
        # What this node accepted and what it was handed is in one mailbox, and what instances sent is their agent's.
        senders = found.setdefault(mailbox_of(recipient, number << ORIGIN_SHIFT, keeper), {})
        agent, size = agent_of(payer), OpenSize(*counts)
        senders[agent] = senders[agent].plus(size) if agent in senders else size
    return {mailbox: MailboxSize(senders) for mailbox, senders in found.items()}


#: The first message of each priority, by the index alone but for its row.
_OLDEST = (
    "SELECT box.value, min((SELECT accepted_at FROM message AS m INDEXED BY message_open"
    " WHERE m.recipient = box.value AND m.state = 0 AND m.priority = urgency.value"
    f" AND (box.value NOT LIKE 'capability:%' OR {IS_KEPT_HERE.format('m.')})"
    " ORDER BY m.arrival LIMIT 1)) AS at"
    " FROM json_each(?) AS box, json_each('[1, 2, 3, 4, 5]') AS urgency GROUP BY box.value HAVING at IS NOT NULL"
)


def oldest(connection: sqlite3.Connection, mailboxes: Sequence[str]) -> dict[str, int]:
    """See :meth:`trishula_router.store.interface.Store.oldest`; where rows are damaged nothing is told."""
    try:
        rows = connection.execute(_OLDEST, (as_list(mailboxes),)).fetchall()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return {}
    return {mailbox: at for mailbox, at in rows if isinstance(at, int)}


def _open_one_by_one(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """The same rows where some can't be read: see :func:`head`."""
    entries = connection.execute(
        "SELECT position, recipient, keeper, priority, expires_at, size_bytes, arrival FROM message WHERE state = 0"
    ).fetchall()
    rows: list[tuple[Any, ...]] = []
    for position, recipient, keeper, *rest in entries:
        message = _one(connection, position) or _from_record(connection, recipient, position, *rest)
        urgent = (1, message.size_bytes) if message.priority == 1 else (0, 0)
        payer = payer_of(message.sender, message.id, recipient)
        rows.append((recipient, position >> ORIGIN_SHIFT, keeper, payer, 1, message.size_bytes, *urgent))
    return rows


def expired(connection: sqlite3.Connection, now: int, limit: int) -> list[int]:
    """See :meth:`trishula_router.store.interface.Store.expired`; a scan of the index of open messages."""
    rows = connection.execute("SELECT position FROM message WHERE state = 0 AND expires_at <= ? LIMIT ?", (now, limit))
    return [position for (position,) in rows]


def at_positions(connection: sqlite3.Connection, positions: Sequence[int]) -> dict[int, StoredMessage]:
    """See :meth:`trishula_router.store.interface.Store.at_positions`."""
    try:
        rows = connection.execute(
            _MESSAGE + " WHERE m.position IN (SELECT value FROM json_each(?))", (as_list(positions),)
        )
        return {message.position: message for message in _messages(rows)}
    except (sqlite3.DatabaseError, _Garbled) as error:
        if not (isinstance(error, _Garbled) or is_damage(error)):
            raise
    return {position: found for position in positions if (found := _one(connection, position)) is not None}


def remembered(connection: sqlite3.Connection, prefix: str) -> dict[str, str]:
    """See :meth:`trishula_router.store.interface.Store.remembered`."""
    rows = connection.execute("SELECT key, value FROM property WHERE substr(key, 1, ?) = ?", (len(prefix), prefix))
    return dict(rows.fetchall())


def with_ids(connection: sqlite3.Connection, ids: Sequence[str]) -> list[StoredMessage]:
    """See :meth:`trishula_router.store.interface.Store.with_ids`."""
    return _in_order(connection, "SELECT position FROM message WHERE id IN (SELECT value FROM json_each(?))", ids)


def answers(
    connection: sqlite3.Connection, ids: Sequence[str], before: int | None, limit: int | None
) -> list[StoredMessage]:
    """See :meth:`trishula_router.store.interface.Store.answers`."""
    return _in_order(
        connection,
        "SELECT position FROM message WHERE reply_to IN (SELECT value FROM json_each(?)) AND position < ?"
        " ORDER BY position DESC LIMIT ?",
        ids,
        _BEHIND_ALL if before is None else before,
        -1 if limit is None else limit,
    )


def _in_order(connection: sqlite3.Connection, positions: str, ids: Sequence[str], *further: int) -> list[StoredMessage]:
    # All of that is in an index, so damaged rows are named too.
    named = [position for (position,) in connection.execute(positions, (as_list(ids), *further))]
    return sorted(_listed(connection, named), key=lambda message: message.position) if named else []


def settled_by(connection: sqlite3.Connection, record: int, listed: str) -> list[int]:
    """Which messages of a JSON list a record settled."""
    rows = connection.execute(
        "SELECT position FROM message WHERE settled = ? AND position IN (SELECT value FROM json_each(?))",
        (record, listed),
    )
    return [position for (position,) in rows]


def holders(connection: sqlite3.Connection, positions: Sequence[int]) -> dict[int, set[str]]:
    """See :meth:`trishula_router.store.interface.Store.holders`."""
    found: dict[int, set[str]] = {position: set() for position in positions}
    rows = connection.execute(
        f"SELECT it.message, json_extract(CAST(j.facts AS TEXT), '{HOLDER_PATH}') FROM ("
        " SELECT position AS message, delivered AS record FROM message"
        "  WHERE position IN (SELECT value FROM json_each(:listed)) UNION"
        " SELECT message, position FROM trace WHERE message IN (SELECT value FROM json_each(:listed))"
        ") AS it JOIN journal AS j ON j.position = it.record"
        " WHERE j.kind = 'delivered' AND json_valid(CAST(j.facts AS TEXT))",
        {"listed": as_list(positions)},
    )
    for position, to in rows:
        if isinstance(to, str):
            found[position].add(to)
    return found


def history(connection: sqlite3.Connection, message_id: str) -> list[History]:
    """See :meth:`trishula_router.store.interface.Store.history`."""
    return [
        History(
            message,
            tuple(
                shown(
                    connection,
                    connection.execute(
                        "SELECT position, at, kind, facts, digest FROM journal WHERE position IN ("
                        " SELECT position FROM message WHERE position = :it UNION"
                        " SELECT delivered FROM message WHERE position = :it UNION"
                        " SELECT settled FROM message WHERE position = :it UNION"
                        " SELECT position FROM trace WHERE message = :it) ORDER BY at, position",
                        {"it": message.position},
                    ),
                )
            ),
        )
        for message in with_ids(connection, [message_id])
    ]
