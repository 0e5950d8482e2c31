"""Records of other journals as they are shown: with the positions that messages have here.

The digest of such a record is over what its node wrote, so this is for people and for rules, never for the chain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from trishula_router.store.facts import POSITION_LISTS
from trishula_router.store.journal import ORIGIN_SHIFT, Record
from trishula_router.store.origins import Numbering

__all__ = ["translated"]


def translated(
    records: Sequence[Record], numbering: Numbering, aliases: Callable[[set[int]], Mapping[int, int]]
) -> list[Record]:
    """Records with the positions in their facts translated; own ones and those that can't be read stay as they are.

    Args:
        records: of any origins.
        numbering: of the store.
        aliases: positions of messages by those of their aliases.
    """
    told = {record.position: facts for record in records if (facts := _foreign_facts(record)) is not None}
    mentioned: set[int] = set()
    for position, facts in told.items():
        origin = position >> ORIGIN_SHIFT
        _change(facts, {theirs: numbering.translate(origin, theirs) or 0 for theirs in _positions(facts)})
        mentioned.update(_positions(facts))
    resolved = aliases(mentioned) if mentioned else {}
    for facts in told.values():
        _change(facts, resolved)
    return [
        msgspec.structs.replace(record, facts=msgspec.json.encode(told[record.position]))
        if record.position in told
        else record
        for record in records
    ]


def _foreign_facts(record: Record) -> dict[str, Any] | None:
    """The facts of a copied record that names messages; ``None`` if there is nothing to translate."""
    if not record.position >> ORIGIN_SHIFT:
        return None
    try:
        facts = msgspec.json.decode(record.facts)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return facts if isinstance(facts, dict) and _positions(facts) else None


def _listed(facts: dict[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    # A newer node may mean something else by the same name.
    return ((name, facts[name]) for name in POSITION_LISTS if isinstance(facts.get(name), list))


def _position(one: object) -> int | None:
    if isinstance(one, list) and one:
        one = one[0]
    return one if isinstance(one, int) else None


def _positions(facts: dict[str, Any]) -> set[int]:
    listed = (_position(one) for _, all_of_them in _listed(facts) for one in all_of_them)
    return {position for position in listed if position is not None}


def _change(facts: dict[str, Any], positions: Mapping[int, int]) -> None:
    def changed(one: Any) -> Any:
        position = _position(one)
        here = None if position is None else positions.get(position, position)
        return one if here is None else [here, *one[1:]] if isinstance(one, list) else here

    for name, listed in list(_listed(facts)):
        facts[name] = [changed(one) for one in listed]
