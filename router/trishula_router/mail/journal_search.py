"""Searching the journals: the records that fit a question, page by page.

A question about an agent or a message finds the records that name it, and those of what became of its messages, which
list messages by their positions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec

from trishula.contract.texts import show_value
from trishula.errors import ArgumentInvalid, NodeUnknown
from trishula_router.mail.mailroom import is_party
from trishula_router.mail.told_records import ToldRecords, here_at
from trishula_router.store.facts import POSITION_LISTS
from trishula_router.store.interface import Store
from trishula_router.store.journal import SEQUENCE_MASK, Kind
from trishula_router.store.origins import position_in

__all__ = ["JournalSearch", "Query"]

#: Records read from the store at a time, while looking for those that a question asks for.
_PAGE = 2000
#: The kinds of records that a question may name.
_KINDS = frozenset(map(str, Kind))
#: Records looked at for one question; then the answer says where to go on.
_LOOK_LIMIT = 50_000

#: As a question's ``node``: the journals of all.
ALL_NODES = "*"


class Query(Protocol):
    """What is asked of the journal: records that fit all that is not ``None``; see ``trishula.audit.query``."""

    @property
    def agent(self) -> str | None: ...

    @property
    def id(self) -> str | None: ...

    @property
    def kind(self) -> str | None: ...

    @property
    def since(self) -> int | None: ...

    @property
    def until(self) -> int | None: ...

    @property
    def after(self) -> int: ...

    @property
    def limit(self) -> int: ...

    @property
    def node(self) -> str | None: ...


class JournalSearch:
    """Finds records.

    Args:
        node: the node's name.
        store: with the node's own journal, and copies of others.
        records: tells them.
        missing: the nodes of whose journals there may be more than is here, see :meth:`Peering.missing`.
    """

    def __init__(
        self, node: str, store: Store, records: ToldRecords, missing: Callable[[], list[dict[str, Any]]]
    ) -> None:
        self._node = node
        self._store = store
        self._records = records
        self._missing = missing

    async def query(self, options: Query) -> dict[str, Any]:
        """Records of a journal, oldest first, behind ``after``; of all nodes' journals: by time, without ``after``.

        A question about an agent or a message finds the records that name it, and those of what became of its messages.

        Raises:
            NodeUnknown: no journal of that node is here.
            ArgumentInvalid: ``after`` is given for all nodes, or there is no such kind of record.
        """
        if options.kind is not None and options.kind not in _KINDS:
            # Of a slip "no records" would be no true answer.
            raise ArgumentInvalid(
                f"options.kind is {show_value(options.kind)}, and the journal has no such kind of record; there are: "
                f"{', '.join(sorted(_KINDS))}"
            )
        if options.node == ALL_NODES:
            return {**await self._query_all(options), "missing": self._missing()}
        answer = await self._query_one(options, self._newest_of(options.node))
        return answer if options.node is None else {**answer, "missing": self._missing()}

    def _newest_of(self, node: str | None) -> int:
        """The number of the journal that a node writes, or wrote last as far as this one knows."""
        if node in (None, self._node):
            return 0
        numbers = [origin.number for origin in self._store.origins() if origin.node == node]
        if not numbers:
            raise NodeUnknown(
                f"there is no journal of a node {show_value(node)} here; `trishula node status` names the peers of "
                "this one"
            )
        return max(numbers)

    async def _query_all(self, options: Query) -> dict[str, Any]:
        if options.after:
            raise ArgumentInvalid(
                f'options.after is {options.after}, and records of all nodes have no common numbers; leave "after" out '
                'and narrow the question by "since"'
            )
        found: list[dict[str, Any]] = []
        more = False
        for origin in self._store.origins():
            answer = await self._query_one(options, origin.number)
            found += answer["records"]
            more = more or answer["more"]
        found.sort(key=here_at)
        return {"records": found[: options.limit], "more": more or len(found) > options.limit}

    async def _query_one(self, options: Query, number: int) -> dict[str, Any]:
        found: list[dict[str, Any]] = []
        after, looked = position_in(number, options.after), 0
        while True:
            page = await self._store.records(
                after=after,
                limit=_PAGE,
                kind=options.kind,
                since=options.since,
                until=options.until,
                origin=number,
            )
            decoded = [(record, msgspec.json.decode(record.facts)) for record in page]
            asked_for = await self._asked_for([facts for _, facts in decoded], options)
            for record, facts in decoded:
                after = record.position
                if _concerns(facts, options) or not asked_for.isdisjoint(_positions_in(facts)):
                    told = self._records.told(record, facts)
                    # By its position other records list a message.
                    found.append({**told, "position": after} if number and record.kind == Kind.ACCEPTED else told)
                    if len(found) == options.limit:
                        return {"records": found, "more": True, "after": after & SEQUENCE_MASK}
            looked += len(page)
            if len(page) < _PAGE or looked >= _LOOK_LIMIT:
                return {"records": found, "more": len(page) == _PAGE, "after": after & SEQUENCE_MASK}

    async def _asked_for(self, many_facts: Iterable[dict[str, Any]], options: Query) -> set[int]:
        """Of the messages that records list by position, those that the question is about; none if it is about all."""
        if options.agent is None and options.id is None:
            return set()
        listed = sorted({position for facts in many_facts for position in _positions_in(facts)})
        asked_for: set[int] = set()
        for begin in range(0, len(listed), _PAGE):
            for position, message in (await self._store.at_positions(listed[begin : begin + _PAGE])).items():
                is_theirs = options.agent is None or is_party(options.agent, message)
                if is_theirs and options.id in (None, message.id):
                    asked_for.add(position)
        return asked_for


def _positions_in(facts: dict[str, Any]) -> list[int]:
    """The messages that a record tells of and doesn't name: ends, returns and deliveries list their positions."""
    listed = (one for name in POSITION_LISTS for one in facts.get(name, ()))
    return [one[0] if isinstance(one, list) else one for one in listed]


def _concerns(facts: dict[str, Any], options: Query) -> bool:
    """Whether a record itself names what the question is about."""
    if options.id is not None and facts.get("id") != options.id:
        return False
    if options.agent is None:
        return True
    parties = (facts.get(key) for key in ("agent", "from", "to"))
    return any(isinstance(party, str) and party.partition("/")[0] == options.agent for party in parties)
