"""The terms of a zone, as plain functions of connections to a store and to the file of its zones.

See :mod:`.zone_index` for when they are gathered, and :mod:`trishula_router.store.zones` for what they are.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from trishula_router.store.facts import HOLDER_PATH
from trishula_router.store.messages import State
from trishula_router.store.sqlite.read_journal import shown
from trishula_router.store.sqlite.statements import as_list
from trishula_router.store.zones import (
    ZONE_SHIFT,
    about_id,
    forgetting,
    of_kind,
    of_type,
    parties_terms,
    with_outcome,
    zone_of,
)

__all__ = ["drop_cut", "gather_zone"]

#: So many zones whose records may be gone are worth going through the terms.
_WORTH_DROPPING = 2000

_HOLDER = (
    "CASE WHEN m.recipient LIKE 'capability:%' THEN (SELECT json_extract(CAST(d.facts AS TEXT), '"
    + HOLDER_PATH
    + "') FROM journal AS d WHERE d.position = m.delivered AND json_valid(CAST(d.facts AS TEXT))) END"
)
#: What messages are, and which zones have their records; most messages of a zone are alike. Those that were accepted in
#: a span, and those that are listed.
_MESSAGE = f"""
    SELECT DISTINCT m.sender, m.recipient, {_HOLDER}, m.type, m.state,
        m.position >> {ZONE_SHIFT}, m.delivered >> {ZONE_SHIFT}, m.settled >> {ZONE_SHIFT} FROM message AS m
"""
_TRACE = f"""
    SELECT DISTINCT m.sender, m.recipient, {_HOLDER}, m.type, m.state, t.position >> {ZONE_SHIFT}
    FROM trace AS t JOIN message AS m ON m.position = t.message
"""
_IN_SPAN = (f"{_MESSAGE} WHERE m.position BETWEEN ? AND ?", f"{_TRACE} WHERE t.message BETWEEN ? AND ?")
_LISTED = (
    f"{_MESSAGE} WHERE m.position IN (SELECT value FROM json_each(?))",
    f"{_TRACE} WHERE t.message IN (SELECT value FROM json_each(?))",
)

_SPAN = "FROM journal WHERE position BETWEEN ? AND ?"
#: Of what a message's row tells as well the facts need not be read.
_OTHERS = (
    f"SELECT position, at, kind, facts, digest {_SPAN}"
    " AND (kind != 'accepted' OR NOT EXISTS (SELECT 1 FROM message AS m WHERE m.position = journal.position))"
)


class _Named(msgspec.Struct, gc=False):
    """What any record may name."""

    agent: Any = None
    sender: Any = msgspec.field(name="from", default=None)
    to: Any = None
    by: Any = None
    id: Any = None
    type: Any = None
    messages: Any = ()
    bodies: Any = ()


_read_named = msgspec.json.Decoder(_Named).decode


def gather_zone(store: sqlite3.Connection, index: sqlite3.Connection, zone: int, *, is_full: bool = True) -> None:
    """Gather the terms of one zone, and add those of its messages to all zones that tell of them."""
    span = (zone << ZONE_SHIFT, ((zone + 1) << ZONE_SHIFT) - 1)
    first_at, last_at = store.execute(f"SELECT min(at), max(at) {_SPAN}", span).fetchone()
    if first_at is None:
        return
    here = {of_kind(kind) for (kind,) in store.execute(f"SELECT DISTINCT kind {_SPAN}", span)}
    aliases = dict(store.execute("SELECT position, message FROM alias WHERE position BETWEEN ? AND ?", span).fetchall())
    listed: set[int] = set(aliases.values())
    for record in shown(store, store.execute(_OTHERS, span)):
        try:
            named = _read_named(record.facts)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        here.update(parties_terms(_texts(named.agent, named.sender, named.to, named.by)))
        here.update(map(of_type, _texts(named.type)))
        here.update(map(about_id, _texts(named.id)))
        listed.update(_positions(named.messages))
        forgotten = _positions(named.bodies)
        listed.update(forgotten)
        here.update(forgetting(zone_of(position)) for position in forgotten)
    terms = {(term, zone) for term in here}
    told: dict[tuple[Any, ...], set[int | None]] = {}
    among = as_list(listed)
    for statements, parameters in ((_IN_SPAN, span), (_LISTED, (among,))):
        for statement in statements:
            for sender, recipient, holder, kind, state, *zones in store.execute(statement, parameters):
                told.setdefault((sender, recipient, holder, kind, state), {zone}).update(zones)
    for (sender, recipient, holder, kind, state), in_zones in told.items():
        of_message = [*parties_terms(_texts(sender, recipient, holder)), of_type(kind)]
        if state != State.OPEN:
            of_message.append(with_outcome(State(state).name.lower()))
        terms.update((term, one) for one in in_zones if one is not None for term in of_message)
    index.executemany("INSERT OR IGNORE INTO term VALUES (?, ?)", sorted(terms))
    if is_full:
        index.execute("INSERT OR REPLACE INTO zone VALUES (?, ?, ?)", (zone, first_at, last_at))


def _texts(*values: Any) -> tuple[str, ...]:
    return tuple(value for value in values if isinstance(value, str))


def _positions(listed: Any) -> list[int]:
    if not isinstance(listed, list | tuple):
        return []
    alone = (one[0] if isinstance(one, list) and one else one for one in listed)
    return [one for one in alone if isinstance(one, int)]


def drop_cut(store: sqlite3.Connection, index: sqlite3.Connection, number: int, first: int) -> None:
    """Drop the terms of zones that were cut from a journal."""
    base = store.execute("SELECT sequence FROM base WHERE origin = ?", (number,)).fetchone()
    if base is None:
        return
    end = first + zone_of(base[0])
    zones = [zone for (zone,) in index.execute("SELECT zone FROM zone WHERE zone >= ? AND zone < ?", (first, end))]
    if len(zones) < _WORTH_DROPPING:
        return
    # Some records are held behind the cut, and their zones with them.
    held = {
        zone
        for (zone,) in store.execute(
            f"SELECT DISTINCT position >> {ZONE_SHIFT} FROM journal WHERE position >= ? AND position < ?",
            (first << ZONE_SHIFT, end << ZONE_SHIFT),
        )
    }
    gone = as_list(zone for zone in zones if zone not in held)
    index.execute("DELETE FROM term WHERE zone IN (SELECT value FROM json_each(?))", (gone,))
    index.execute("DELETE FROM zone WHERE zone IN (SELECT value FROM json_each(?))", (gone,))
