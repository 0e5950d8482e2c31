"""The archiver: has the oldest records of the node's journal written into a segment, and then cut from the store.

The order, and what a crash behind each step leaves:

1. The segment is written beside its place, synced, put into its place, and read back. A crash leaves a file that
   nobody began to rely on: at the next start it is taken up as if it had just been written if it has what the journal
   has, and else set aside.
2. The store appends the record ``archived``. A crash leaves a base that is behind (:attr:`.Base.is_behind`): the next
   round looks whether the segment is there, and goes on once all peers have told again that they hold its records.
3. The records go, some at a time, so that sends and acks come in between. A crash leaves the base where it was moved
   to.

So each record is at every moment in the store, in a segment on disk, or in both.

Of a linked node, records go once all its peers have told that they hold them: a peer that was away comes back to where
it was. What peers acknowledged isn't kept over a restart; none of it is cut until they tell it again. A node cuts its
copy of a peer's journal as far as that peer has archived it, and all others hold it: see :mod:`.copies`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec
from twisted.internet.defer import Deferred, DeferredLock, maybeDeferred
from twisted.logger import Logger

from trishula.errors import NodeFailed, StorageFailed, StorageFull
from trishula.evidence.writing import ChainBroken
from trishula_router.archiving.copies import Holders, cut_copies, held_by_all, lacking
from trishula_router.archiving.dropping import Dropping
from trishula_router.archiving.due import SEGMENT_RECORDS, Due, due
from trishula_router.archiving.segments import Contents, Segments, SegmentUnusable
from trishula_router.settings.options import NodeConfig, RetentionPolicy
from trishula_router.store.bases import Base, NotArchivable
from trishula_router.store.interface import Store

__all__ = ["Archived", "Archiver", "InThread", "archiver_of"]

log = Logger()

_T = TypeVar("_T")

#: Records read and written at a time.
_PAGE = 500
#: Records cut in one transaction: some milliseconds for the writer.
_STEP = 250
#: Messages looked at in one transaction, whether their records are held for nothing or their ids may be forgotten.
_MESSAGES = 500
#: Such transactions a round: enough to keep up with 10,000 messages a second at a round each 5 s.
_STEPS_A_ROUND = 200
#: Of those that look at held records: there may be a hundred thousand, and nearly all of them stay.
_HELD_STEPS_A_ROUND = 20


#: What keeps a journal from being cut, besides a store that can't be written.
_FAULTS = (OSError, ChainBroken, NotArchivable, SegmentUnusable)


class InThread(Protocol):
    """Has something done by a thread, for what blocks."""

    def __call__(self, work: Callable[[], _T]) -> Deferred[_T]: ...


class Archived(msgspec.Struct, frozen=True):
    """What was archived, or would be.

    Attributes:
        records: how many; 0 if nothing is old enough.
        first, last: the sequences of the first and the last of them.
        first_at, last_at: when they were written, ms.
        file: the segment, as a path within the state directory; ``None`` if none was written.
    """

    records: int = 0
    first: int = 0
    last: int = 0
    first_at: int | None = None
    last_at: int | None = None
    file: str | None = None


def _at_once(work: Callable[[], _T]) -> Deferred[_T]:
    return maybeDeferred(work)


class Archiver:
    """Keeps the journal of a node from growing for ever.

    Args:
        store: what is durable.
        segments: the archive's files.
        policy: what is kept, and for how long.
        now: the wall clock in ms.
        earlier: what the clock told at an instant of the past; see :meth:`.Timeline.earlier`.
        holders: what the nodes that this one is linked with hold.

    Attributes:
        in_thread: has files written; the edge puts a thread here.
        fault: why the journal can't be cut, and what to do; ``None`` while it can.
        holds_back: which peers keep records that are due in the store, and what comes of it; ``None`` if none does.
    """

    def __init__(
        self,
        store: Store,
        segments: Segments,
        policy: RetentionPolicy,
        *,
        now: Callable[[], int],
        earlier: Callable[[int], int],
        holders: Holders,
    ) -> None:
        self.segments = segments
        self.in_thread: InThread = _at_once
        self.fault: str | None = None
        self.holds_back: str | None = None
        self._store = store
        self._policy = policy
        self._now = now
        self._earlier = earlier
        self._holders = holders
        self._lock = DeferredLock()
        self._has_looked = False
        self._held_after = 0
        self._dropping = Dropping(store, holders)
        self._contents = Contents(0, 0, 0, 0)

    def makes_room(self, fullness: float) -> bool:
        """Whether the store will be given room before it is full, so that by its growth alone nothing can be foretold.

        Args:
            fullness: as that of :meth:`round`.
        """
        return self.holds_back is None and self.fault is None and fullness < self._policy.early < 1.0

    async def round(self, fullness: float) -> None:
        """Cut what is due.

        Args:
            fullness: how much of what the store may take it takes: 1.0 is all.
        """
        if not self._lock.locked:
            await self._run(lambda: self._once(due(self._policy, self._now(), fullness, self._earlier)))

    async def archive(self, older_than_ms: int | None) -> Archived:
        """Cut what is older than a span, at once, in one segment; by default what is due by its age.

        Raises:
            NodeFailed: it can't be done; the sentence says why.
        """
        what = self._older_than(older_than_ms)
        try:
            done: Archived = await self._lock.run(lambda: Deferred.fromCoroutine(self._once(what)))
        except _FAULTS as error:
            raise NodeFailed(self._sentence(error)) from None
        return done

    async def plan(self, older_than_ms: int | None) -> Archived:
        """What :meth:`archive` would do, of as many records as a segment has."""
        return await self._walk(self._older_than(older_than_ms), self._store.base(), None)

    def _older_than(self, span_ms: int | None) -> Due:
        before = self._earlier(self._now() - (self._policy.records_ms if span_ms is None else span_ms))
        return Due(before, 1, before)

    def told(self) -> dict[str, Any]:
        """What there is to know of it, as it travels."""
        base = self._store.base()
        return {
            "base": base.sequence,
            "segments": self._contents.segments,
            "bytes": self._contents.size_bytes,
            "fault": self.fault,
            "holds_back": self.holds_back,
        }

    # -- one segment ---------------------------------------------------------------------------------------------------

    async def _run(self, work: Callable[[], Any]) -> None:
        """Do a round's work; what goes wrong is kept for whoever asks, and logged once."""
        try:
            await self._lock.run(lambda: Deferred.fromCoroutine(work()))
        except (StorageFull, StorageFailed):
            # The store tells of it itself.
            return
        except _FAULTS as error:
            fault = self._sentence(error)
            if fault != self.fault:
                log.error("{fault}", fault=fault)
            self.fault = fault
            return
        if self.fault is not None:
            log.warn("the journal is cut again")
        self.fault = None

    def _sentence(self, error: Exception) -> str:
        folder = self.segments.archive.folder
        if isinstance(error, OSError):
            why = error.strerror or str(error)
            return f"the archive {folder} can't be written ({why}), so the journal is not cut: see to its disk"
        if isinstance(error, ChainBroken):
            return f"the journal is damaged and is not cut: {error}; see: trishula node verify"
        return f"the journal is not cut: {error}"

    async def _once(self, what: Due) -> Archived:
        if not self._has_looked:
            await self._take_up()
            self._has_looked = True
            self._contents = await self.in_thread(self.segments.contents)
        if self._store.base().is_behind:
            await self._go_on()
        # One segment is cut before the next is written: what peers don't hold any more waits for them.
        done = Archived() if self._store.base().is_behind else await self._archive(what)
        self.holds_back = await self._held_back(what)
        await cut_copies(self._store, self._holders, _STEP, _STEPS_A_ROUND)
        await self._let_go()
        now = self._now()
        await self._dropping.round(self._earlier(now - self._policy.ids_ms), now, _MESSAGES, _STEPS_A_ROUND)
        if done.records or self._policy.archive_ms is not None:
            await self._delete_old()
            self._contents = await self.in_thread(self.segments.contents)
        return done

    async def _take_up(self) -> None:
        """Look at what a run before this one left of its archive: files that no record tells of yet."""
        base = self._store.base()
        for segment in await self.in_thread(lambda: self.segments.behind(max(base.sequence, base.until))):
            try:
                if base.is_behind or self._store.base().is_behind:
                    raise SegmentUnusable("another one is still to be cut")
                facts = await self.in_thread(partial(self.segments.facts_of, segment))
                await self._store.archived(facts, self._now())
                log.info("the archive segment {file} was written before the node ended; it is used", file=facts.file)
            except (SegmentUnusable, NotArchivable) as error:
                aside = await self.in_thread(partial(self.segments.set_aside, segment))
                log.warn(
                    "a file in the archive is not of this journal ({why}); it is {aside} now, and not used",
                    why=str(error),
                    aside=aside,
                )

    async def _go_on(self) -> None:
        """Cut what a run before this one has archived."""
        base = self._store.base()
        name = await self.in_thread(lambda: self.segments.name_of(base.until))
        if name is None and self._policy.archive_ms is None:
            raise SegmentUnusable(
                f"the segment with the records {base.sequence + 1} to {base.until} is not in "
                f"{self.segments.archive.folder} any more; put it back, or set retention.archive to none"
            )
        await self._cut()

    async def _archive(self, what: Due) -> Archived:
        base = self._store.base()
        if not await self._is_worth_it(what, base):
            return Archived()
        await self.in_thread(lambda: self.segments.begin(base, self._now()))
        try:
            found = await self._walk(what, base, self.segments)
            if not found.records:
                return found
            facts = await self.in_thread(self.segments.finish)
        finally:
            await self.in_thread(self.segments.give_up)
        await self._store.archived(facts, self._now())
        await self._cut()
        log.info(
            "records {first} to {last} of the journal are in the archive segment {file}, and {cut} from the store",
            first=facts.first,
            last=facts.last,
            file=facts.file,
            cut="to be cut" if self._store.base().is_behind else "cut",
        )
        return msgspec.structs.replace(found, file=await self.in_thread(lambda: self.segments.name_of(facts.last)))

    async def _is_worth_it(self, what: Due, base: Base) -> bool:
        now, bound = self._now(), held_by_all(self._holders, self._store.high_water)
        for distance, takes in ((1, what.is_overdue), (min(what.records, SEGMENT_RECORDS), what.takes)):
            found = await self._store.records(after=base.sequence + distance - 1, limit=1)
            if found and takes(found[0].at, now) and found[0].position <= bound:
                return True
        return False

    async def _held_back(self, what: Due) -> str | None:
        """Why records stay that are due."""
        base = self._store.base()
        after = max(base.sequence, held_by_all(self._holders, self._store.high_water))
        found = await self._store.records(after=after, limit=1)
        names = lacking(self._holders, after + 1)
        if not names or not found or not (base.is_behind or what.takes(found[0].at, self._now())):
            return None
        return (
            f"{', '.join(names)} has not told that it holds the records behind {after} of this node's journal, so "
            "these stay in the store; when that is full, sends are refused; have it come back, or take it out of the "
            "peers"
        )

    async def _walk(self, what: Due, base: Base, into: Segments | None) -> Archived:
        """Go through the records that are taken, and write them."""
        now, last, count, bound = self._now(), base.sequence, 0, held_by_all(self._holders, self._store.high_water)
        first_at = last_at = None
        while count < SEGMENT_RECORDS:
            page = await self._store.records(after=last, limit=min(_PAGE, SEGMENT_RECORDS - count))
            taken = []
            for record in page:
                if not what.takes(record.at, now) or record.position > bound:
                    break
                taken.append(record)
            if taken and into is not None:
                await self.in_thread(partial(into.add, taken))
            if taken:
                first_at = taken[0].at if first_at is None else first_at
                last, last_at, count = taken[-1].position, taken[-1].at, count + len(taken)
            if len(taken) < _PAGE:
                break
        return Archived(count, base.sequence + 1 if count else 0, last if count else 0, first_at, last_at)

    async def _cut(self) -> None:
        """Cut what is archived, if all peers hold it by what they told since this node's start."""
        until = self._store.base().until
        while held_by_all(self._holders, self._store.high_water) >= until:
            if not (await self._store.cut(_STEP)).is_behind:
                return

    # -- what a cut leaves ---------------------------------------------------------------------------------------------

    async def _let_go(self) -> None:
        for _ in range(_HELD_STEPS_A_ROUND):
            self._held_after = await self._store.let_go(self._held_after, _MESSAGES)
            if not self._held_after:
                return

    async def _delete_old(self) -> None:
        if self._policy.archive_ms is None:
            return
        until, before = self._store.base().sequence, self._now() - self._policy.archive_ms
        for name in await self.in_thread(lambda: self.segments.delete_old(until, before)):
            log.info("the archive segment {name} was deleted, as retention.archive says", name=name)


def archiver_of(
    config: NodeConfig, store: Store, now: Callable[[], int], earlier: Callable[[int], int], holders: Holders
) -> Archiver:
    """The archiver of a node, with its archive in the state directory."""
    segments = Segments(config.state_dir, config.node, store.epoch)
    return Archiver(store, segments, config.retention, now=now, earlier=earlier, holders=holders)
