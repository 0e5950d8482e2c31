"""One mirror: takes the journal page by page to its target, and stands still while that does not take any.

One page is under way at a time. Between two pages it rests for as long as the last one took, so that a mirror that has
a journal of millions to catch up with leaves half of the time to others. What goes wrong is told, logged once, and
tried again after growing pauses, for ever; the node never waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trishula.errors import StorageFailed, StorageFull
from trishula.evidence.archive import Archive
from trishula.runtime.backoff import Backoff
from trishula_router.archiving.archiver import InThread
from trishula_router.background import log_fault
from trishula_router.clocks.clock import Clock
from trishula_router.mirroring.archived import ArchiveWalk
from trishula_router.mirroring.pages import Entry, Pages
from trishula_router.mirroring.place import Lag, Place, TargetUnfit, allot_generation, find_start
from trishula_router.mirroring.redis_stream import RedisStream
from trishula_router.mirroring.rotated_file import RotatedFile
from trishula_router.mirroring.target import OwnThread, Target, TargetFailed
from trishula_router.settings.options import NodeConfig
from trishula_router.store.interface import Store

__all__ = ["ROUND_S", "Mirror", "mirrors_of"]

log = Logger()

#: So often a mirror that has everything looks for more.
ROUND_S = 0.25
_PAUSES = Backoff(first_s=1.0, factor=2.0, cap_s=30.0)
_LONGEST_REST_S = 0.25
#: The target knows better what it has, so the node need not write it down more often.
_KEEP_S = 10.0


class Mirror:
    """See the module's docstring.

    Args:
        target: where the records go.
        pages: of the journal.
        store: with the journal; remembers the place.
        in_thread: has done what blocks, one thing after the other.
        clock: timers.
        now: the wall clock in ms.
        random: spreads pauses.

    Attributes:
        errors: how often the target failed.
        fault: why it doesn't go on, as a sentence; ``None`` while it does.
    """

    def __init__(
        self,
        target: Target,
        pages: Pages,
        store: Store,
        *,
        in_thread: InThread,
        clock: Clock,
        now: Callable[[], int],
        random: Callable[[], float],
    ) -> None:
        self.target = target
        self.errors = 0
        self.fault: str | None = None
        self._pages = pages
        self._store = store
        self._in_thread = in_thread
        self._clock = clock
        self._now = now
        self._random = random
        self._key = f"mirror:{target.name}"
        self._place = Place(store.epoch, 0)
        self._page: Sequence[Entry] = ()
        self._oldest_at: int | None = None
        self._has_asked = False
        self._failures = 0
        self._retry_s = 0.0
        self._kept_s = 0.0
        self._is_stopped = False

    async def begin(self) -> None:
        """Take over where the node's last run was."""
        text = (await self._store.remembered(self._key)).get(self._key)
        place = None if text is None else msgspec.json.decode(text, type=Place)
        if place is None or place.epoch != self._store.epoch:
            keeps = self.target.keeps
            place = Place(self._store.epoch, max(0, self._store.high_water - keeps) if keeps else 0)
        self._place = place

    async def round(self) -> None:
        """Take over what there is, unless the target is to be left alone for a while."""
        if self._clock.seconds() < self._retry_s:
            return
        try:
            while not self._is_stopped and await self._step():
                pass
        except (TargetFailed, TargetUnfit) as error:
            self._failed(str(error))
        except (StorageFailed, StorageFull):
            # The store tells of it itself.
            return

    def stop(self) -> None:
        """Begin nothing more, and keep where it is; what is under way ends with the process."""
        self._is_stopped = True
        self._keep()

    def lag(self) -> Lag:
        """How far it is behind."""
        return Lag.of(self._place.sequence, self._store.high_water, self._oldest_at, self._now())

    def told(self) -> dict[str, Any]:
        """What there is to know of it, as it travels."""
        lag = self.lag()
        return {
            "target": self.target.name,
            "where": self.target.where,
            "sequence": self._place.sequence,
            "lag_records": lag.records,
            "lag_s": round(lag.s, 3),
            "errors": self.errors,
            "fault": self.fault,
        }

    # -- a step --------------------------------------------------------------------------------------------------------

    async def _step(self) -> bool:
        """Take over a page; whether there may be another one."""
        if self._place.sequence >= self._store.high_water:
            return False
        begun_s = self._clock.seconds()
        if not self._page:
            self._page = await self._pages.behind(self._place.sequence)
        if not self._page:
            return False
        self._oldest_at = self._page[0].at
        if not self._has_asked:
            await self._ask()
            return True
        await self._in_thread(partial(self.target.write, self._page, self._place))
        self._written(self._page[-1])
        took_s = self._clock.seconds() - begun_s
        await self._rest(min(took_s, _LONGEST_REST_S))
        return True

    async def _ask(self) -> None:
        """Find out where to go on."""
        has = await self._in_thread(partial(self.target.has, self._place))
        if self._place.generation:
            start = find_start(self._place, has, self._store.high_water, self.target.keeps)
        else:
            # A file that "trishula audit mirror" wrote until now is of no generation, and of this journal.
            is_ours = has is not None and not has.generation and has.sequence
            start = has.sequence if has is not None and is_ours else self._place.sequence
            place = Place(self._place.epoch, start, allot_generation(has, self._now()))
            # Before anything is written under it: else a crash would have all of it written again under another one.
            await self._store.remember({self._key: msgspec.json.encode(place).decode()})
            self._place = place
        if start < self._place.sequence:
            log.warn("{where} has lost what was behind record {start}; it is mirrored again", **self._named(start))
        if start != self._place.sequence:
            self._place = msgspec.structs.replace(self._place, sequence=start)
            self._page = ()
        self._has_asked = True

    def _named(self, start: int) -> dict[str, Any]:
        return {"where": self.target.where, "start": start}

    def _written(self, last: Entry) -> None:
        self._place = msgspec.structs.replace(self._place, sequence=last.sequence)
        self._page = ()
        # The next record was written then or later.
        self._oldest_at = last.at if self._place.sequence < self._store.high_water else None
        if self.fault is not None:
            log.warn("{where} takes the journal's records again", where=self.target.where)
        self.fault, self._failures = None, 0
        if self._clock.seconds() - self._kept_s >= _KEEP_S:
            self._keep()

    def _failed(self, why: str) -> None:
        self._has_asked = False
        self.errors += 1
        if self.fault is None:
            log.warn(
                "the journal's records are not mirrored to {where} just now, which nobody waits for: {why}",
                where=self.target.where,
                why=why,
            )
        self.fault = why
        self._retry_s = self._clock.seconds() + _PAUSES.pause_s(self._failures, self._random)
        self._failures += 1

    def _keep(self) -> None:
        if not self._place.generation:
            return
        self._kept_s = self._clock.seconds()
        text = msgspec.json.encode(self._place).decode()
        self._store.remember({self._key: text}).addErrback(log_fault, log, "the place of a mirror could not be kept")

    def _rest(self, for_s: float) -> Deferred[None]:
        rested: Deferred[None] = Deferred()
        self._clock.callLater(for_s, rested.callback, None)
        return rested


def mirrors_of(
    config: NodeConfig,
    store: Store,
    archive: Archive,
    call_in_reactor: Callable[..., object],
    *,
    clock: Clock,
    now: Callable[[], int],
    random: Callable[[], float],
) -> tuple[Mirror, ...]:
    """The mirrors that a node's options ask for, each with a thread of its own."""
    options, targets = config.mirror, list[Target]()
    if options.redis:
        targets.append(RedisStream(options, config.node, config.state_dir))
    if options.file:
        targets.append(RotatedFile(options, config.state_dir))
    mirrors = []
    for target in targets:
        in_thread = OwnThread(f"mirror-{target.name}", call_in_reactor)
        pages = Pages(config.node, store, ArchiveWalk(archive), in_thread, now)
        mirrors.append(Mirror(target, pages, store, in_thread=in_thread, clock=clock, now=now, random=random))
    return tuple(mirrors)
