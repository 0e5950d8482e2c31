"""Retention: how long a node keeps the bodies of messages that are settled.

A message has three parts in the store. Its *records* in the journal tell what became of it; they go into the archive
after ``retention.records``, see :mod:`trishula_router.archiving`. Its *row* tells where it stands, and makes a repeat
of it a repeat (:mod:`trishula_router.store.identity`): it stays for ``retention.ids``, until its time to live is over,
and until its records are archived. Its *body* is needed until it is settled, and is kept a while longer for whoever
asks: ``retention.bodies`` for what is done, expired or cancelled, ``retention.dead`` for dead letters: so long they can
be shown and replayed. The accepted record's SHA-256 still proves what a deleted body was. Open messages are never
touched.

When the store is nearly as large as ``limits.store`` allows, room for new messages is worth more than bodies that
nobody needs: then those of settled messages go at once, the oldest first; dead letters keep their time.

Deleted bodies leave free pages in the file, which are filled before the file grows, or given back to the disk
(:mod:`trishula_router.store.sqlite.shrinking`).

Work is done in small steps, each a transaction of its own, so that sends and acks come in between. :class:`Retention`
decides what is old enough; the store finds it.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from trishula.errors import StorageFailed, StorageFull
from trishula_router.settings.options import RetentionPolicy
from trishula_router.store.interface import Store

__all__ = ["Retention"]

log = Logger()

#: Bodies looked at in one transaction: some milliseconds for the writer.
_STEP = 200
#: Steps a round: enough to keep up with 10,000 messages a second at a round each 10 s.
_STEPS_A_ROUND = 500
#: From this share of the limit on, settled messages give their bodies early.
_TIGHT = 0.8


class Retention:
    """Deletes bodies whose time is over.

    Args:
        store: what is durable.
        policy: how long bodies are kept.
        now: the wall clock in ms.
        earlier: what the clock told at an instant of the past; see :meth:`.Timeline.earlier`.
    """

    def __init__(
        self,
        store: Store,
        policy: RetentionPolicy,
        now: Callable[[], int],
        earlier: Callable[[int], int] = lambda instant: instant,
    ) -> None:
        self._store = store
        self._policy = policy
        self._now = now
        self._earlier = earlier
        self._after = 0
        self._is_tight = False
        # Records go early from there on, and are held for bodies: so bodies go by then, too.
        self._tight = min(_TIGHT, policy.early)
        #: How much of what the store may take it took at the last look.
        self.fullness = 0.0

    async def round(self) -> int:
        """Go on where the last round ended; returns how many bodies were deleted.

        A round ends when all that may be old enough was looked at. One that meets a fault goes on behind that place
        the next time, so that a page that can't be read doesn't keep the rest.
        """
        count = size_bytes = 0
        try:
            for _ in range(_STEPS_A_ROUND):
                now = self._now()
                kept_ms = 0 if self._is_tight else self._policy.bodies_ms
                done = await self._store.forget(
                    self._after,
                    _STEP,
                    before=self._earlier(now - kept_ms),
                    dead_before=self._earlier(now - self._policy.dead_ms),
                    at=now,
                )
                count += done.bodies
                size_bytes += done.size_bytes
                self._after = done.after
                self.fullness = done.fullness
                self._is_tight = done.fullness >= self._tight
                if not done.after:
                    break
        except (StorageFull, StorageFailed):
            # The store tells of it itself; the next round is soon.
            self._after += _STEP
        if count:
            log.debug("{count} bodies of settled messages were deleted, {bytes} bytes", count=count, bytes=size_bytes)
        return count
