"""Searching the journals: the records that fit a question, page by page.

What fits is decided by :mod:`.record_filter`; here is what must be read for that, and no more of it at a time than
a node has room for. A question looks at :data:`_LOOK_LIMIT` records at most, and then says where to go on: no question
keeps the store's reader from others for long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from trishula.contract.texts import show_value
from trishula.errors import ArgumentInvalid, NodeUnknown
from trishula_router.mail.archive_search import ArchiveSearch
from trishula_router.mail.fitting import Fitting, Looked
from trishula_router.mail.record_filter import Asked, RecordFilter
from trishula_router.mail.sought import sought_by
from trishula_router.mail.told_records import ToldRecords, here_at
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
#: What was found by then is told: who asks sees the first records soon, and goes on.
_SOON = 8_000

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

    @property
    def archive(self) -> bool: ...


class JournalSearch:
    """Finds records.

    Args:
        node: the node's name.
        store: with the node's own journal, and copies of others.
        records: tells them.
        missing: the nodes of whose journals there may be more than is here, see :meth:`Peering.missing`.
        archive: searches what the store has no more of the node's own journal.
    """

    def __init__(
        self,
        node: str,
        store: Store,
        records: ToldRecords,
        missing: Callable[[], list[dict[str, Any]]],
        archive: ArchiveSearch | None = None,
    ) -> None:
        self._node = node
        self._store = store
        self._records = records
        self._missing = missing
        self._archive = archive
        self._fitting = Fitting(store)

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
            before = {**await self._archived(options), **await self._archived_of_others(options)}
            return {**await self._query_all(options), **before, "missing": self._missing()}
        number = self._newest_of(options.node)
        if (archived := await self._out_of_archive(options, number)) is not None:
            return archived if options.node is None else {**archived, "missing": self._missing()}
        answer: dict[str, Any] = await self._query_one(options, number, Looked())
        if (archived := await self._out_of_archive(options, number)) is not None:
            # What the question was about was cut meanwhile.
            return archived if options.node is None else {**archived, "missing": self._missing()}
        answer = {**answer, **await self._archived(options, number)}
        return answer if options.node is None else {**answer, "missing": self._missing()}

    async def _out_of_archive(self, options: Query, number: int) -> dict[str, Any] | None:
        """A page of what the store has no more; ``None`` if it is for the store to answer."""
        base = self._store.base().sequence
        asked = RecordFilter(options)
        if number or not options.archive or self._archive is None or options.after >= base or asked.asks_what_became:
            return None
        return await self._archive.page(options, asked, base)

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
        looked = Looked()
        for origin in self._store.origins():
            answer = await self._query_one(options, origin.number, looked)
            found += answer["records"]
            more = more or answer["more"]
        found.sort(key=here_at)
        return {"records": found[: options.limit], "more": more or len(found) > options.limit, **looked.told()}

    async def _query_one(self, options: Query, number: int, looked: Looked) -> dict[str, Any]:
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
            for record, facts in await self._fitting.of(page, asked, looked):
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
