"""Searching what a node's store has no more of its journal: records in its archive, page by page.

A page costs a bounded amount, as one of the store does: so many records looked at, and the segments in which the
messages were accepted that these list. One question at a time reads, so no caller, and no number of them, keeps more
than one thread busy. What can't be read is said (``archive_faults``) and passed over.

How a message ended only the store can say, as long as it knows the message: see :attr:`.RecordFilter.asks_what_became`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from twisted.internet.defer import Deferred, DeferredLock

from trishula.evidence.lines import RecordLine
from trishula_router.archiving.walking import ArchiveWalk, Message, Piece
from trishula_router.mail.fitting import Fitting, Looked
from trishula_router.mail.record_filter import RecordFilter
from trishula_router.mail.told_records import ToldRecords
from trishula_router.store.facts import AcceptedFacts
from trishula_router.store.interface import Store
from trishula_router.store.journal import SEQUENCE_MASK, Record
from trishula_router.store.messages import StoredMessage

if TYPE_CHECKING:
    from trishula_router.mail.journal_search import Query

__all__ = ["ArchiveSearch", "InThread", "message_of", "record_of"]

#: Records looked at for one page; what was found by then is told.
_LOOK_LIMIT = 20_000
_SOON = 5_000

_read_accepted = msgspec.json.Decoder(AcceptedFacts).decode


class InThread(Protocol):
    """Has something done by a thread, for what blocks."""

    def __call__(self, work: Callable[[], Any]) -> Deferred[Any]: ...


class ArchiveSearch:
    """Finds records.

    Args:
        walk: reads the archive.
        in_thread: has that done.
        store: knows messages that are not forgotten yet, and those of other nodes.
        records: tells records.
    """

    def __init__(self, walk: ArchiveWalk, in_thread: InThread, store: Store, records: ToldRecords) -> None:
        self._walk = walk
        self._in_thread = in_thread
        self._records = records
        self._fitting = Fitting(store)
        self._lock = DeferredLock()

    async def page(self, options: Query, asked: RecordFilter, end: int) -> dict[str, Any]:
        """Records behind ``options.after`` up to ``end``, oldest first; there are more, of the store if not of this."""
        found: dict[str, Any] = await self._lock.run(lambda: Deferred.fromCoroutine(self._page(options, asked, end)))
        return found

    async def _page(self, options: Query, asked: RecordFilter, end: int) -> dict[str, Any]:
        kinds = frozenset((*options.kinds, *(() if options.kind is None else (options.kind,))))
        found: list[dict[str, Any]] = []
        faults: list[str] = []
        looked, after = Looked(), options.after
        while after < end and len(found) < options.limit and looked.records < (_SOON if found else _LOOK_LIMIT):
            room = options.limit - len(found)
            piece = await self._piece(after, end, room, kinds, options.since, options.until)
            page = [record_of(one) for one in piece.records]
            fitting = await self._fitting.of(page, asked, looked, self._messages)
            found += [self._records.told(record, facts) for record, facts in fitting]
            looked.records += piece.looked
            faults += piece.faults
            after = piece.after
        if after >= end:
            await self._in_thread(self._walk.forget)
        told = {"records": found, "more": True, "after": after, **looked.told()}
        return {**told, "archive_faults": faults} if faults else told

    async def _piece(
        self, after: int, end: int, limit: int, kinds: frozenset[str], since: int | None, until: int | None
    ) -> Piece:
        piece: Piece = await self._in_thread(lambda: self._walk.piece(after, end, limit, kinds, since, until))
        return piece

    async def _messages(self, positions: set[int]) -> dict[int, StoredMessage]:
        # Those that other nodes accepted are in no segment of this one.
        own = [position for position in positions if position <= SEQUENCE_MASK]
        found: dict[int, Message] = await self._in_thread(lambda: self._walk.messages(own))
        told = {position: message_of(position, one) for position, one in found.items()}
        return {position: message for position, message in told.items() if message is not None}


def record_of(line: RecordLine) -> Record:
    """A record as the store would have it."""
    return Record(line.sequence, line.at, line.kind, line.facts.encode(), bytes.fromhex(line.digest))


def message_of(position: int, message: Message) -> StoredMessage | None:
    """A message as the archive has it, without what became of it; ``None`` if its facts can't be read."""
    try:
        facts = _read_accepted(message.facts)
    except (msgspec.MsgspecError, UnicodeError):
        return None
    return StoredMessage(
        position,
        facts.sender,
        facts.id,
        facts.to,
        facts.type,
        facts.priority,
        message.at,
        message.at,
        facts.bytes,
        holder=message.holder,
        use=facts.use,
        reply_to=facts.reply_to,
    )
