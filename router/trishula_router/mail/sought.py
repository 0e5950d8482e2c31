"""What a question to the journal seeks, as the zones of a store tell it; see :mod:`trishula_router.store.zones`.

A zone that lacks what is made here has no record that fits; whether a record of another zone does is for
:mod:`.record_filter` to say. What a message is about (its procedure, its subject) is in no zone: bodies are read.
"""

from __future__ import annotations

from collections.abc import Sequence

from trishula_router.mail.record_filter import REFUSED, Asked
from trishula_router.store.interface import Store
from trishula_router.store.journal import Kind
from trishula_router.store.zones import (
    Sought,
    about_id,
    forgetting,
    of_kind,
    of_pair,
    of_party,
    of_type,
    with_outcome,
    zone_of,
)

__all__ = ["sought_by"]

#: Of an id that more messages have than this its messages are no shorter way.
_MOST_OF_ID = 200


async def sought_by(asked: Asked, kinds: Sequence[str], since: int | None, until: int | None, store: Store) -> Sought:
    """What a zone must have for a question, that is about these kinds of records, and this time (ms)."""
    terms: list[tuple[str, ...]] = []
    if kinds:
        terms.append(tuple(map(of_kind, kinds)))
    parties = [party for party in (asked.agent, asked.peer) if party is not None]
    if parties:
        terms.append((of_pair(*parties) if len(parties) > 1 else of_party(parties[0]),))
    if asked.type is not None:
        terms.append((of_type(asked.type),))
    if asked.outcome is not None:
        terms.append((of_kind(Kind.REFUSED) if asked.outcome == REFUSED else with_outcome(asked.outcome),))
    zones: frozenset[int] | None = None
    if asked.id is not None:
        messages = await store.with_ids([asked.id])
        if len(messages) <= _MOST_OF_ID:
            histories = await store.history(asked.id)
            zones = frozenset(zone_of(record.position) for one in histories for record in one.records)
            accepted_in = {zone_of(message.position) for message in messages}
            terms.append((about_id(asked.id), *map(forgetting, sorted(accepted_in))))
    return Sought(tuple(terms), zones, since, until)
