"""Runs of a journal's records for other stores, read from SQLite in few steps; see :mod:`trishula_router.store.runs`.

What is held of a message is told with its record: also that it is settled, so that a node that was away for long isn't
given what was done in the meantime, and delivers none of it again while the record of its end is still on the way.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from trishula.contract.message import DEFAULT_TTL_MS
from trishula_router.store.bases import Base
from trishula_router.store.journal import SEQUENCE_MASK, Kind
from trishula_router.store.keepers import claim
from trishula_router.store.messages import State
from trishula_router.store.noted import handed_on
from trishula_router.store.origins import Numbering, position_in, read_base
from trishula_router.store.runs import Extract, Origin, Particulars, Rest
from trishula_router.store.sqlite.damage import is_damage
from trishula_router.store.sqlite.read_remembered import read_remembered
from trishula_router.store.sqlite.statements import as_list
from trishula_router.store.standing import state_of, tellings
from trishula_router.store.telling import is_proven

__all__ = ["read_run"]

#: Facts and bodies are JSON, so all comes as one JSON text, in one step; see :mod:`.statements`.
_RECORDS = """
    SELECT json_group_array(json_array(j.position, j.at, j.kind, CAST(j.facts AS TEXT), hex(j.digest),
        m.position, m.body, m.size_bytes, m.expires_at, m.by_deadline, m.state, m.life, m.hop, m.keeper, m.accepted_at))
    FROM (SELECT * FROM journal WHERE position > ? AND position <= ? ORDER BY position LIMIT ?) AS j
    LEFT JOIN message AS m ON j.kind = 'accepted'
        AND m.position = coalesce((SELECT a.message FROM alias AS a WHERE a.position = j.position), j.position)
"""
#: The same of records whose messages can't be read.
_RECORDS_ALONE = """
    SELECT json_group_array(json_array(position, at, kind, CAST(facts AS TEXT), hex(digest))) FROM (
        SELECT * FROM journal WHERE position > ? AND position <= ? ORDER BY position LIMIT ?)
"""
_BODIES = """
    SELECT json_group_array(json_array(b.position, CAST(b.envelope AS TEXT)))
    FROM json_each(?) AS it JOIN body AS b ON b.position = it.value
"""
_REVIVED = """
    SELECT json_group_array(json_array(it.value, m.body, m.state, m.life, m.expires_at)) FROM json_each(?) AS it
    JOIN message AS m
        ON m.position = coalesce((SELECT a.message FROM alias AS a WHERE a.position = it.value), it.value)
"""
_DIGEST = "SELECT digest FROM journal WHERE position = ?"

#: The kinds that are told of the records before the base: the others changed messages, whose state is told with them.
_LEFT = (Kind.ACCEPTED, Kind.MODE)
#: Recipients of a broadcast that are read at a time to complete it.
_MORE = 64


class _Row(NamedTuple):
    position: int
    at: int
    kind: str
    facts: str
    digest: str
    message: int | None = None
    body: int | None = None
    size_bytes: int | None = None
    expires_at: int | None = None
    by_deadline: int | None = None
    state: int | None = None
    life: int | None = None
    hop: int | None = None
    keeper: str | None = None
    accepted_at: int | None = None

    @property
    def place(self) -> int:
        """Where the body is that its message was accepted with: its own one, if it is an alias or its row is lost."""
        return self.position if self.body is None or self.message != self.position else self.body


def read_run(
    connection: sqlite3.Connection,
    numbering: Numbering,
    origin: Origin,
    after: int,
    limit: int,
    limit_bytes: int,
) -> Extract:
    """See :meth:`trishula_router.store.interface.Store.extract`."""
    number, base = origin.number, read_base(connection, origin.number)
    if after < base.sequence:
        return _read_rest(connection, numbering, origin, base, after, limit, limit_bytes)
    begin, end = position_in(number, after), position_in(number, origin.sequence)
    found = _digest_at(connection, number, after)
    rows = [] if found is None else _cut(_read(connection, begin, end, limit), limit_bytes)
    if not rows or found is None:
        return Extract(origin.epoch, after + 1, found[0] if found else b"", [], {}, {}, {}, numbering.of(number))
    messages, envelopes = _messages(connection, numbering, rows)
    revived, renewed = _replayed(connection, numbering, number, rows)
    return Extract(
        origin.epoch,
        after + 1,
        found[0],
        [(row.at, row.kind, row.facts.encode(), bytes.fromhex(row.digest)) for row in rows],
        messages,
        envelopes,
        revived,
        numbering.of(number),
        renewed,
    )


def _read_rest(
    connection: sqlite3.Connection,
    numbering: Numbering,
    origin: Origin,
    base: Base,
    after: int,
    limit: int,
    limit_bytes: int,
) -> Extract:
    """What is left of the records before the base: those of messages that are open or dead letters, and modes.

    And of the other messages what a repeat is known by.
    """
    number = origin.number
    begin, end = position_in(number, after), position_in(number, base.sequence)
    found = _cut(_read_some(connection, begin, end, limit), limit_bytes)
    is_last = len(found) < limit and not _read_some(connection, found[-1].position if found else begin, end, 1)
    stop = end if is_last else found[-1].position
    settled = read_remembered(connection, begin, stop, limit)
    if len(settled) == limit:
        # There may be more: records behind the last one are told with those.
        stop = position_in(number, settled[-1].sequence)
        found = [row for row in found if row.position <= stop]
    # Of a record that was cut the digest is in the archive alone; nothing is chained to it before all is told.
    digest = bytes.fromhex(found[-1].digest) if found and found[-1].position == stop else b""
    last, digest = stop & SEQUENCE_MASK, base.digest if stop == end else digest
    rows = [row for row in found if row.kind in _LEFT]
    messages, envelopes = _messages(connection, numbering, rows)
    remembered = dict(connection.execute("SELECT key, value FROM property WHERE key LIKE '%:%'").fetchall())
    notes = handed_on(remembered, numbering.node_of(number))
    return Extract(
        origin.epoch,
        after + 1,
        b"",
        [(row.at, row.kind, row.facts.encode(), bytes.fromhex(row.digest)) for row in rows],
        messages,
        envelopes,
        {},
        numbering.of(origin.number),
        rest=Rest(
            [row.position & SEQUENCE_MASK for row in rows],
            last,
            digest,
            # Of another's journal more may be on its way here.
            max(base.sequence, base.until if number else 0),
            notes,
            settled,
        ),
    )


def _digest_at(connection: sqlite3.Connection, number: int, after: int) -> tuple[bytes] | None:
    """The digest that a run behind a sequence is chained to; ``None`` if that was cut, or is not here yet."""
    base = read_base(connection, number)
    if after <= base.sequence:
        return (base.digest,) if after == base.sequence else None
    found: tuple[bytes] | None = connection.execute(_DIGEST, (position_in(number, after),)).fetchone()
    return found


def _messages(
    connection: sqlite3.Connection, numbering: Numbering, rows: list[_Row]
) -> tuple[dict[int, Particulars], dict[int, bytes]]:
    """Particulars and envelopes of the accepted records of a run."""
    accepted = [row for row in rows if row.kind == Kind.ACCEPTED]
    bodies = _bodies(connection, {row.place for row in accepted} | {row.body for row in accepted if row.body})
    messages: dict[int, Particulars] = {}
    envelopes: dict[int, bytes] = {}
    shared: dict[int | None, int] = {None: 0}
    for row in accepted:
        sequence = row.position & SEQUENCE_MASK
        place = shared.get(row.body, 0)
        body = bodies.get(row.place, bodies.get(row.body or 0))
        if not place and body is not None and is_proven(row.facts.encode(), body):
            place = sequence
            envelopes[sequence] = body
            if row.body is not None:
                shared[row.body] = sequence
        # A message whose row is lost is told from its record: where it comes from it is told so, too.
        expires_at = row.at + DEFAULT_TTL_MS if row.expires_at is None else row.expires_at
        messages[sequence] = Particulars(
            expires_at,
            bool(row.by_deadline),
            place,
            row.state or 0,
            row.life or 0,
            *_keeper(numbering, row),
            0 if row.accepted_at in (None, row.at) else row.accepted_at,
        )
    return messages, envelopes


def _keeper(numbering: Numbering, row: _Row) -> tuple[int, str]:
    return claim(numbering, row.message or 0, row.keeper, row.hop) if row.hop else (0, "")


def _read(connection: sqlite3.Connection, begin: int, end: int, limit: int) -> list[_Row]:
    """Records behind ``begin`` up to ``end`` without gaps; up to the first that can't be read.

    The end is what the node was told of, not the file's: a peer that acknowledges more than the node knows to be
    durable looks like one that knows another history of this journal.
    """
    rows = _read_some(connection, begin, end, limit)
    while len(rows) >= limit and rows[-1].body:
        more = [row for row in _read_some(connection, rows[-1].position, end, _MORE) if row.body == rows[-1].body]
        rows += more
        if len(more) < _MORE:
            break
    return [row for place, row in enumerate(rows, begin + 1) if row.position == place]


def _read_some(connection: sqlite3.Connection, begin: int, end: int, limit: int) -> list[_Row]:
    try:
        return _decoded(connection, begin, end, limit)
    except (sqlite3.DatabaseError, msgspec.MsgspecError) as error:
        if isinstance(error, sqlite3.DatabaseError) and not is_damage(error):
            raise
    # One of them is damaged: nobody can continue the chain behind it, but what is before it can be copied.
    rows: list[_Row] = []
    for position in range(begin, min(begin + limit, end)):
        found: list[_Row] = []
        for question in (_RECORDS, _RECORDS_ALONE):
            with contextlib.suppress(sqlite3.DatabaseError, msgspec.MsgspecError):
                found = found or _decoded(connection, position, position + 1, 1, question)
        if not found:
            break
        rows += found
    return rows


def _decoded(connection: sqlite3.Connection, begin: int, end: int, limit: int, question: str = _RECORDS) -> list[_Row]:
    text = connection.execute(question, (begin, end, limit)).fetchone()[0]
    return sorted(msgspec.json.decode(text, type=list[_Row]), key=lambda row: row.position)


def _cut(rows: list[_Row], limit_bytes: int) -> list[_Row]:
    size, before = 0, None
    for index, row in enumerate(rows):
        shares = row.body and row.body == before
        before = row.body
        size += len(row.facts) + (0 if shares else row.size_bytes or 0)
        if size > limit_bytes and index and not shares:
            return rows[:index]
    return rows


def _bodies(connection: sqlite3.Connection, places: set[int]) -> dict[int, bytes]:
    def read(some: Iterable[int]) -> dict[int, bytes]:
        text = connection.execute(_BODIES, (as_list(some),)).fetchone()[0]
        return {place: envelope.encode() for place, envelope in msgspec.json.decode(text, type=list[tuple[int, str]])}

    try:
        return read(places)
    except (sqlite3.DatabaseError, msgspec.MsgspecError) as error:
        if isinstance(error, sqlite3.DatabaseError) and not is_damage(error):
            raise
    found: dict[int, bytes] = {}
    for place in places:
        with contextlib.suppress(sqlite3.DatabaseError, msgspec.MsgspecError):
            found |= read([place])
    return found


def _replayed(
    connection: sqlite3.Connection, numbering: Numbering, number: int, rows: list[_Row]
) -> tuple[dict[int, bytes], dict[int, int]]:
    """Bodies of the messages that were replayed and are open; and when those that were replayed expire."""
    theirs = {
        here: (telling.position, state_of(telling.standing)[1])
        for row in rows
        if row.kind == Kind.REPLAYED
        for telling in tellings(row.kind, row.facts.encode())
        if (here := numbering.translate(number, telling.position)) is not None
    }
    if not theirs:
        return {}, {}
    text = connection.execute(_REVIVED, (as_list(theirs),)).fetchone()[0]
    found = msgspec.json.decode(text, type=list[tuple[int, int, int, int, int]])
    open_ = {theirs[here][0]: place for here, place, state, _, _ in found if state == State.OPEN}
    bodies = _bodies(connection, set(open_.values()))
    return (
        {there: bodies[place] for there, place in open_.items() if place in bodies},
        {theirs[here][0]: expires_at for here, _, _, life, expires_at in found if life >= theirs[here][1]},
    )
