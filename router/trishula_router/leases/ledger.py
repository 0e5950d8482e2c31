"""The ledger: writes what becomes of leases into the journal and into the book, and says who is to be told.

What is granted is in the book at once, so that the next claim is judged by it; it is answered when it is durable. What
can't be written is taken out of the book again. What ends is in the book until that is durable, so that nobody else is
granted it before; to its holder it is gone from the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trishula.errors import StorageFailed, StorageFull
from trishula_router.clocks.clock import Clock
from trishula_router.leases.agreement import Agreement
from trishula_router.leases.book import Book, Lease
from trishula_router.store.interface import Store
from trishula_router.store.journal import Kind
from trishula_router.store.lease_facts import LeaseFacts

__all__ = ["Ledger"]

log = Logger()

#: Nodes that are in reach confirm a grant within milliseconds; a claim waits for that so long.
_CONFIRM_S = 1.0
_LOOK_S = 0.02

_What = Literal["waiting", "granted", "confirmed", "renewed", "ended"]


class Ledger:
    """See the module's docstring.

    Args:
        node: this node's name.
        store: keeps the records.
        agreement: what the other nodes know.
        book: the same book as that of ``agreement``.
        secure: waits, but not for ever, until a record of this node is on all nodes in reach: given its sequence.
        clock: timers.
        now: the wall clock in ms.
    """

    def __init__(
        self,
        node: str,
        store: Store,
        agreement: Agreement,
        book: Book,
        *,
        secure: Callable[[int], Deferred[int]],
        clock: Clock,
        now: Callable[[], int],
    ) -> None:
        self.node = node
        self.book = book
        self._store = store
        self._agreement = agreement
        self._secure = secure
        self._clock = clock
        self._now = now
        #: Told of each lease that ended: (lease, by whom, why).
        self.when_ended: Callable[[Lease, str, str], None] = lambda lease, by, reason: None
        # Claims whose grant is on its way to the disk and to the other nodes; who waits for the outcome.
        self._granting: dict[str, list[Deferred[None]]] = {}
        # The same for those whose end is on its way to the disk.
        self._ending: dict[str, list[Deferred[None]]] = {}

    def new(self, **facts: Any) -> Lease:
        """A claim that nobody knows of yet; the arguments are those of :class:`.Lease` that a client gives."""
        stamp = self.book.stamp(self._now())
        return Lease(id=f"{self.node}-{stamp:x}", order=stamp, keeper=self.node, kept_by=stamp, **facts)

    async def wait(self, lease: Lease) -> None:
        """Have a claim wait.

        Raises:
            StorageFull, StorageFailed: it does not wait.
        """
        await self._write(self._facts("waiting", lease, lease.order))

    async def grant(self, lease: Lease) -> bool:
        """Grant a lease, and wait a moment for the other nodes; false if it gave way to another node's grant.

        Raises:
            StorageFull, StorageFailed: it is not granted.
        """
        self._granting[lease.id] = []
        try:
            return await self._grant(lease)
        finally:
            for waiter in self._granting.pop(lease.id):
                waiter.callback(None)

    async def settled(self, lease: Lease) -> None:
        """Wait until a grant or an end that is under way is through."""
        for under_way in (self._granting, self._ending):
            if (waiters := under_way.get(lease.id)) is not None:
                turn: Deferred[None] = Deferred()
                waiters.append(turn)
                await turn

    def is_settled(self, lease: Lease) -> bool:
        """Whether neither a grant nor an end is under way."""
        return lease.id not in self._granting and lease.id not in self._ending

    def is_gone(self, lease: Lease) -> bool:
        """Whether it has ended, as far as its holder is concerned."""
        return lease.id in self._ending or self.book.get(lease.id) is None

    async def _grant(self, lease: Lease) -> bool:
        await self._write(self._facts("granted", lease, self.book.stamp(self._now())))
        there = self.book.get(lease.id)
        if there is None:
            return False
        if (rival := self._agreement.written(there)) is not None:
            await self.give_way(there, rival)
            return False
        await self._confirm(there)
        return self.book.get(lease.id) is there

    async def _confirm(self, lease: Lease) -> None:
        until_s = self._clock.seconds() + _CONFIRM_S
        if not self._agreement.is_alone:
            await self._secure(self._store.high_water)
        while not self.look_confirmed(lease) and self._agreement.may_soon(lease) and self._clock.seconds() < until_s:
            turn: Deferred[None] = Deferred()
            self._clock.callLater(_LOOK_S, turn.callback, None)
            await turn

    def look_confirmed(self, lease: Lease | None = None) -> bool:
        """Write down what is confirmed by now; whether that lease is."""
        for one in self._agreement.confirmed():
            # Nobody waits for the record: a node that starts again asks the others anew.
            facts = LeaseFacts("confirmed", one.id, self.book.stamp(self._now()), self.node)
            self.book.fold(facts)
            self._store.note(Kind.LEASE, facts, self._now()).addErrback(_passed_over)
        return lease is not None and lease.confirmed

    async def renew(self, lease: Lease, ttl_ms: int, *, kept: bool = False) -> None:
        """Note that its holder is there, and at this node; and perhaps that it is kept.

        Raises:
            StorageFull, StorageFailed: it was not noted.
        """
        stamp = self.book.stamp(self._now())
        await self._write(LeaseFacts("renewed", lease.id, stamp, self.node, ttl_ms=ttl_ms, kept=kept or lease.kept))

    async def end(self, lease: Lease, by: str, reason: str) -> None:
        """End a lease, or withdraw a claim.

        Raises:
            StorageFull, StorageFailed: it has not ended.
        """
        while lease.id in self._ending:
            await self.settled(lease)
            if self.book.get(lease.id) is None:
                return
        self._ending[lease.id] = []
        facts = LeaseFacts("ended", lease.id, self.book.stamp(self._now()), self.node, by=by, reason=reason[:500])
        try:
            # First: the other nodes would go on with what has ended here alone.
            await self._store.note(Kind.LEASE, facts, self._now())
            if (ended := self.book.fold(facts)) is not None:
                self.when_ended(ended, facts.by, facts.reason)
        finally:
            for waiter in self._ending.pop(lease.id):
                waiter.callback(None)

    async def give_way(self, lease: Lease, rival: Lease) -> None:
        """End a grant that another node's speaks against."""
        reason = f"{rival.holder} was granted {rival.scope.text} at the node {rival.keeper} before"
        await self.end(lease, f"node:{self.node}", reason)

    async def _write(self, facts: LeaseFacts) -> None:
        known = self.book.get(facts.lease)
        lease = self.book.fold(facts) or known
        try:
            await self._store.note(Kind.LEASE, facts, self._now())
        except (StorageFull, StorageFailed):
            if facts.what in ("waiting", "granted") and lease is not None:
                self.book.undo(lease, was_waiting=known is not None)
            raise

    def _facts(self, what: _What, lease: Lease, stamp: int) -> LeaseFacts:
        return LeaseFacts(
            what,
            lease.id,
            stamp,
            self.node,
            holder=lease.holder,
            scope=lease.scope.text,
            shared=lease.shared,
            note=lease.note,
            ttl_ms=lease.ttl_ms,
            order=lease.order,
            kept=lease.kept,
        )


def _passed_over(failure: Any) -> None:
    log.warn("that a work lease is confirmed could not be noted: {why}", why=failure.getErrorMessage())
