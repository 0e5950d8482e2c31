"""Searching the journals: the records that fit a question, page by page.

What fits is decided by :mod:`.record_filter`; here is what must be read for that, and no more of it at a time than
a node has room for. A question looks at :data:`_LOOK_LIMIT` records at most, and then says where to go on: no question
keeps the store's reader from others for long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from trishula.contract.texts import show_value
from trishula.errors import ArgumentInvalid, NodeUnknown
from trishula_router.mail.record_filter import Asked, RecordFilter, read_heading
from trishula_router.mail.sought import sought_by
from trishula_router.mail.told_records import ToldRecords, here_at
from trishula_router.store.interface import Store
from trishula_router.store.journal import SEQUENCE_MASK, Kind, Record
from trishula_router.store.messages import StoredMessage
from trishula_router.store.origins import position_in

__all__ = ["JournalSearch", "Query"]

#: Records read from the store at a time, while looking for those that a question asks for.
_PAGE = 2000
#: The kinds of records that a question may name.
_KINDS = frozenset(map(str, Kind))
#: Records looked at for one question; then the answer says where to go on.
_LOOK_LIMIT = 50_000
#: What was found by then is told: who asks sees the first records soon, and goes on.
_SOON = 8_000

#: Bodies read from the store at a time.
_BODIES_BYTES = 4 * 1024 * 1024

#: As a question's ``node``: the journals of all.
ALL_NODES = "*"


class Query(Asked, Protocol):
    """What is asked of the journal: records that fit all that is not ``None``; see ``trishula.audit.query``."""

    @property
    def kind(self) -> str | None: ...

    @property
    def kinds(self) -> Sequence[str]: ...

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


class _Looked:
    """How far a search has looked.

    Attributes:
        records: how many records it has looked at.
        without_body: the positions of the messages whose bodies are gone, so that nobody knows what they were about.
    """

    def __init__(self) -> None:
        self.records = 0
        self.without_body: set[int] = set()

    def told(self) -> dict[str, int]:
        """The same, as it travels."""
        gone = {"bodies_gone": len(self.without_body)} if self.without_body else {}
        return {"looked": self.records, **gone}


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
        for key, kind in (("kind", options.kind), *(("kinds", kind) for kind in options.kinds)):
            if kind is not None and kind not in _KINDS:
                # Of a slip "no records" would be no true answer.
                raise ArgumentInvalid(
                    f"options.{key} is {show_value(kind)}, and the journal has no such kind of record; there are: "
                    f"{', '.join(sorted(_KINDS))}"
                )
        if options.node == ALL_NODES:
            archived = {**await self._archived(options), **await self._archived_of_others(options)}
            return {**await self._query_all(options), **archived, "missing": self._missing()}
        number = self._newest_of(options.node)
        answer = await self._query_one(options, number, _Looked())
        answer = {**answer, **await self._archived(options, number)}
        return answer if options.node is None else {**answer, "missing": self._missing()}

    async def _archived(self, options: Query, number: int = 0) -> dict[str, int]:
        """Up to which record a journal is in its node's archive alone, if the question is about any of those."""
        base = self._store.base(number).sequence
        if options.after >= base:
            return {}
        first = await self._store.records(after=position_in(number, base), limit=1, origin=number)
        if options.since is not None and first and options.since > first[0].at:
            return {}
        return {"archived_to": base}

    async def _archived_of_others(self, options: Query) -> dict[str, dict[str, int]]:
        """The same of the copies here, by the node that has the archive."""
        told: dict[str, int] = {}
        for origin in self._store.origins()[1:]:
            for base in (await self._archived(options, origin.number)).values():
                told[origin.node] = max(base, told.get(origin.node, 0))
        return {"archived_of": told} if told else {}

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
        looked = _Looked()
        for origin in self._store.origins():
            answer = await self._query_one(options, origin.number, looked)
            found += answer["records"]
            more = more or answer["more"]
        found.sort(key=here_at)
        return {"records": found[: options.limit], "more": more or len(found) > options.limit, **looked.told()}

    async def _query_one(self, options: Query, number: int, looked: _Looked) -> dict[str, Any]:
        found: list[dict[str, Any]] = []
        after, end = position_in(number, options.after), position_in(number, SEQUENCE_MASK)
        soon, most = looked.records + _SOON, looked.records + _LOOK_LIMIT
        asked = RecordFilter(options)
        kinds = [*options.kinds, *(() if options.kind is None else (options.kind,))]
        sought = await sought_by(options, kinds, options.since, options.until, self._store)
        stretches: deque[tuple[int, int]] = deque()
        upto = after
        while looked.records < (soon if found else most) and len(found) < options.limit:
            if not stretches:
                if upto == end:
                    break
                # Nothing between them fits.
                after = upto
                likely = await self._store.zones.likely(sought, after, end)
                stretches.extend(likely.stretches)
                upto = likely.upto
                continue
            begin, last = stretches[0]
            page = await self._store.records(
                after=max(after, begin),
                limit=_PAGE,
                kind=kinds or None,
                since=options.since,
                until=options.until,
                origin=number,
                end=last,
            )
            looked.records += len(page)
            for record, facts in await self._fitting(page, asked, looked):
                if len(found) == options.limit:
                    break
                told = self._records.told(record, facts)
                # By its position other records list a message.
                found.append({**told, "position": record.position} if number and record.kind == Kind.ACCEPTED else told)
                after = record.position
            else:
                after = page[-1].position if page else after
                if len(page) < _PAGE:
                    stretches.popleft()
        more = bool(stretches) or upto != end
        return {"records": found, "more": more, "after": after & SEQUENCE_MASK, **looked.told()}

    async def _fitting(
        self, page: Sequence[Record], asked: RecordFilter, looked: _Looked
    ) -> list[tuple[Record, dict[str, Any]]]:
        """The records of a page that fit, with their facts."""
        decoded = [(record, msgspec.json.decode(record.facts)) for record in page]
        if not asked.asks_for_messages:
            return decoded
        by_itself = {record.position for record, facts in decoded if asked.fits_by_itself(record.kind, facts)}
        told_of = {
            record.position: asked.messages_of(record.kind, record.position, facts)
            for record, facts in decoded
            if record.position not in by_itself
        }
        messages = await self._messages({position for positions in told_of.values() for position in positions}, decoded)
        fitting = {position for position, message in messages.items() if asked.is_asked_for(message)}
        if asked.asks_for_headings:
            fitting = await self._about({position: messages[position] for position in fitting}, asked, looked)
        return [
            (record, facts)
            for record, facts in decoded
            if record.position in by_itself or not fitting.isdisjoint(told_of[record.position])
        ]

    async def _messages(
        self, positions: set[int], page: Iterable[tuple[Record, dict[str, Any]]]
    ) -> dict[int, StoredMessage]:
        """Messages by the positions that records have for them.

        Where several nodes accepted one message, it has one row, at the position of one of its accepted records; the
        others find it by what they name.
        """
        found: dict[int, StoredMessage] = {}
        ordered = sorted(positions)
        for begin in range(0, len(ordered), _PAGE):
            found.update(await self._store.at_positions(ordered[begin : begin + _PAGE]))
        others = {
            record.position: (facts.get("from"), facts.get("id"), facts.get("to"), facts.get("use", 0))
            for record, facts in page
            if record.kind == Kind.ACCEPTED and record.position in positions and record.position not in found
        }
        if others:
            ids = sorted({str(message_id) for _, message_id, _, _ in others.values()})
            by_name = {
                (message.sender, message.id, message.recipient, message.use): message
                for message in await self._store.with_ids(ids)
            }
            found.update({position: by_name[name] for position, name in others.items() if name in by_name})
        return found

    async def _about(self, messages: Mapping[int, StoredMessage], asked: RecordFilter, looked: _Looked) -> set[int]:
        """Those of the messages that are about what is asked for, as their bodies say."""
        about: set[int] = set()
        for some in _few_bytes(messages):
            # Bodies are found under the positions of the rows.
            bodies = await self._store.bodies([messages[position].position for position in some])
            for position in some:
                heading = read_heading(bodies.get(messages[position].position))
                if heading is None:
                    looked.without_body.add(messages[position].position)
                elif asked.is_about(heading):
                    about.add(position)
        return about


def _few_bytes(messages: Mapping[int, StoredMessage]) -> Iterator[list[int]]:
    """The positions of messages, in runs whose bodies take little memory."""
    run: list[int] = []
    size_bytes = 0
    for position, message in messages.items():
        if run and size_bytes + message.size_bytes > _BODIES_BYTES:
            yield run
            run, size_bytes = [], 0
        run.append(position)
        size_bytes += message.size_bytes
    if run:
        yield run
