"""What becomes of leases without anybody asking: they end when nobody is there for them, and claims get their turn.

A lease stays as long as its holder has a session, at this node or at one in reach, however long the holder says
nothing: a model that thinks is not gone. When the holder has none, the lease stays for its ``ttl`` more. That is
measured by the clock for spans, which no setting of the time moves; a node that starts again gives each lease its whole
ttl anew, because nobody knows how long the holder was there meanwhile.

Only the node that granted a lease, or renewed it last, ends it so: its *keeper*. Others may not see the holder. So a
lease stands while its keeper can't be reached. If the holder comes to this node meanwhile, this node is the keeper from
then on. Else an operator can end it, or a claim with ``take_over``: they can know whether the other machine is dead or
only the road to it, which no node can.

Whose turn it is: that of the first claim that nothing speaks against. The node where its holder is grants it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trishula.errors import StorageFailed, StorageFull
from trishula_router.background import log_fault
from trishula_router.clocks.clock import WRONG_CLOCK_MS
from trishula_router.leases.agreement import Agreement
from trishula_router.leases.book import Lease
from trishula_router.leases.ledger import Ledger
from trishula_router.leases.presence import Presence
from trishula_router.leases.work_leases import WorkLeases
from trishula_router.store.interface import Copied, Store
from trishula_router.store.journal import Kind
from trishula_router.store.lease_facts import LEASES, LeaseFacts, read_lease
from trishula_router.store.runs import Extract

__all__ = ["LeaseRounds"]

log = Logger()

#: What is not needed any more is looked for so often, ms.
_SWEEP_MS = 600_000


class LeaseRounds:
    """See the module's docstring.

    Args:
        ledger: writes what becomes of leases.
        agreement: what the other nodes know.
        presence: who is where.
        leases: the calls that wait.
        store: remembers them over restarts.
        tell: tells a holder by a message: (what, lease, the lease as it travels, a sentence).
        now: the wall clock in ms.
        now_s: the clock for spans.
    """

    def __init__(
        self,
        ledger: Ledger,
        agreement: Agreement,
        presence: Presence,
        leases: WorkLeases,
        store: Store,
        *,
        tell: Callable[[str, Lease, dict[str, Any], str], Awaitable[None]],
        now: Callable[[], int],
        now_s: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._agreement = agreement
        self._presence = presence
        self._leases = leases
        self._store = store
        self._tell = tell
        self._now = now
        self._now_s = now_s
        self._swept_at = 0
        self._is_looking = False
        # What the last look was about: it finds the same until that changes.
        self._looked: tuple[int, list[tuple[str, bool, bool]]] | None = None
        ledger.when_ended = self._ended

    async def begin(self) -> None:
        """Take over what the store remembers."""
        for text in (await self._store.remembered(LEASES)).values():
            if (facts := self._read(text.encode())) is not None:
                self._ledger.book.fold(facts)
        self._agreement.begin()

    def _read(self, text: bytes) -> LeaseFacts | None:
        """A record; ``None`` if it is none, or a lie: no clock is wrong by so much.

        Stamps go on behind the highest one. Behind the highest that can be read, no node could read another's any more,
        and each would grant what the others have granted.
        """
        facts = read_lease(text)
        return None if facts is None or facts.stamp > self._now() + WRONG_CLOCK_MS else facts

    def copied(self, copy: Copied, extract: Extract) -> None:
        """Follow what was copied of another node's journal."""
        is_news = False
        for key, note in extract.rest.notes.items() if extract.rest is not None else ():
            # What is left of records that were cut.
            told = self._read(note.encode()) if key.startswith(LEASES) else None
            if told is not None:
                self._ledger.book.fold(told)
                is_news = True
        for index, (_, kind, text, _) in enumerate(extract.records):
            # What lies behind a gap is not held, and comes again.
            if kind != Kind.LEASE or extract.first + index > copy.sequence or (facts := self._read(text)) is None:
                continue
            known = self._ledger.book.get(facts.lease)
            lease = self._ledger.book.fold(facts)
            is_news = True
            if facts.what == "ended" and known is not None:
                self._ended(known, facts.by, facts.reason, is_own=False)
            elif lease is not None and facts.what == "renewed":
                self._presence.seen(lease)
        if is_news:
            self._begin(self._look())

    # -- by the clock --------------------------------------------------------------------------------------------------

    async def round(self) -> None:
        """End what nobody is there for, confirm what can be, give claims their turn: to be called twice a second."""
        self._ledger.look_confirmed()
        # What can't be written now, for which the store has said why, is tried again in the next round.
        with contextlib.suppress(StorageFull, StorageFailed):
            await self._look_after()
            await self._look()
            if self._now() - self._swept_at >= _SWEEP_MS:
                self._swept_at = self._now()
                await self._sweep()

    async def _look_after(self) -> None:
        for lease in self._ledger.book.all():
            if self._is_kept_here(lease):
                away_s = self._presence.away_s(lease)
                if away_s * 1000 >= lease.ttl_ms and self._ledger.is_settled(lease):
                    reason = f"{lease.holder} has had no session for {away_s:.0f} s"
                    await self._ledger.end(lease, f"node:{self._ledger.node}", reason)
            elif self._presence.is_here(lease) and not self._presence.reaches(lease.keeper):
                await self._ledger.renew(lease, lease.ttl_ms)

    def _is_kept_here(self, lease: Lease) -> bool:
        # A node that is no peer any more will not come back for it.
        return lease.keeper == self._ledger.node or self._presence.reaches(lease.keeper) is None

    async def _look(self) -> None:
        """What gives way gives way; then whoever has waited longest gets what is free."""
        if self._is_looking:
            return
        waiting = self._ledger.book.waiting()
        who = [(claim.id, self._presence.is_here(claim), self._presence.has_place(claim)) for claim in waiting]
        if self._looked == (self._ledger.book.changes, who) and not self._agreement.is_opposed:
            return
        self._is_looking = True
        self._looked = self._ledger.book.changes, who
        try:
            for lease, rival in self._agreement.yielding(self._now_s()):
                await self._ledger.give_way(lease, rival)
            for claim in waiting:
                if self._may_have_turn(claim) and not self._leases.is_barred(claim):
                    await self._give_turn(claim)
        except BaseException:
            # What could not be written is tried again.
            self._looked = None
            raise
        finally:
            self._is_looking = False

    def _may_have_turn(self, claim: Lease) -> bool:
        # While others were written it may have been granted or withdrawn.
        there = self._ledger.book.get(claim.id)
        return there is claim and not claim.fence and self._ledger.is_settled(claim) and self._presence.is_here(claim)

    async def _give_turn(self, claim: Lease) -> None:
        if not await self._ledger.grant(claim):
            # Another node granted a rival in the same moment; the claim has ended, and its holder was told.
            return
        if not self._leases.answer(claim):
            sentence = f"{claim.scope.text} is yours now; release it when you are through"
            await self._tell("granted", claim, self._leases.told(claim), sentence)

    # -- what follows --------------------------------------------------------------------------------------------------

    def _ended(self, lease: Lease, by: str, reason: str, *, is_own: bool = True) -> None:
        """A lease ended, here or at another node; the node that ended it tells the holder, wherever that is."""
        self._presence.forget(lease)
        self._leases.forget(lease)
        was_waited_for = self._leases.answer(lease)
        if is_own and by != lease.agent and not was_waited_for:
            self._begin(self._tell_ended(lease, by, reason))
        self._begin(self._look())

    async def _tell_ended(self, lease: Lease, by: str, reason: str) -> None:
        told = {**self._leases.told(lease), "state": "ended"}
        await self._tell("ended", lease, told, f"you have {lease.scope.text} no more: {reason}; stop what it was for")

    def _begin(self, work: Coroutine[Deferred[Any], Any, None]) -> None:
        done: Deferred[None] = Deferred.fromCoroutine(work)
        done.addErrback(log_fault, log, "what follows from the end of a work lease could not be done")

    async def _sweep(self) -> None:
        gone = set(self._ledger.book.unfit(self._now(), is_alone=self._agreement.is_alone))
        if gone:
            keys = await self._store.remembered(LEASES)
            notes = {key: "" for key in keys if key.removeprefix(LEASES).partition(":")[0] in gone}
            await self._store.remember(notes)
