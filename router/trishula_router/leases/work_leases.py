"""Work leases, as agents ask for them: a claim is granted, waits for its turn, or is told what speaks against it.

A claim that is repeated finds what is there already: a lease that the agent has is renewed, a claim that waits keeps
its place. So a client that lost its node claims again, at any node.
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from trishula.contract.addresses import agent_of
from trishula.contract.scopes import Scope
from trishula.contract.texts import show_value
from trishula.errors import ArgumentInvalid, LeasesExceeded, LeaseUnknown, LeaseUnsure
from trishula_router.clocks.clock import Clock
from trishula_router.leases.book import Book, Lease
from trishula_router.leases.ledger import Ledger
from trishula_router.leases.presence import Presence
from trishula_router.leases.uses import Uses

__all__ = ["MOST_LEASES", "Claim", "WorkLeases"]

#: Of one agent, claims that wait too: each new one is compared with all.
MOST_LEASES = 200
#: A holder that renews before this part of the ttl is over writes nothing.
_RENEWED_PART = 4


@dataclass(frozen=True, slots=True)
class Claim:
    """What somebody wants.

    Attributes:
        holder: the address that wants it.
        session: which session of it.
        scope: what it is about.
        shared: whether others may share it.
        note: what for.
        ttl_ms: for how long it is to stay when the holder is gone.
        wait_s: how long the call waits for its turn.
        queue: whether the claim waits on afterwards.
        sure: whether a provisional lease is none.
        take_over: whether what stands in its way ends if its node can't be reached and its holder is nowhere in sight.
        use: which use of it by the agent (:mod:`.uses`); "" if the agent keeps it.
    """

    holder: str
    session: int
    scope: Scope
    shared: bool = False
    note: str = ""
    ttl_ms: int = 120_000
    wait_s: float = 0.0
    queue: bool = False
    sure: bool = False
    take_over: bool = False
    use: str = ""


class WorkLeases:
    """See the module's docstring.

    Args:
        ledger: writes what becomes of leases.
        presence: who is where.
        clock: timers.
    """

    def __init__(self, ledger: Ledger, presence: Presence, clock: Clock) -> None:
        self._ledger = ledger
        self._presence = presence
        self._clock = clock
        self._uses = Uses(presence.is_session)
        # Calls that wait for the turn of a claim, each with its session.
        self._calls: dict[str, list[tuple[int, Deferred[None]]]] = {}
        # Claims that wait for as long as calls do.
        self._unqueued: set[str] = set()
        self._renewed_s: dict[str, float] = {}
        # By the id of a claim that waits, one of those that keep it waiting.
        self._bars: dict[str, Lease] = {}

    @property
    def _book(self) -> Book:
        return self._ledger.book

    async def claim(self, claim: Claim) -> dict[str, Any]:
        """Grant what is claimed, have it wait, or refuse it; as it travels.

        Raises:
            LeasesExceeded: the agent has too many.
            LeaseUnsure: it could not be confirmed, and is not granted.
            StorageFull, StorageFailed: it could not be written.
        """
        agent = agent_of(claim.holder)
        own = self._book.of(agent)
        lease = next((one for one in own if one.scope == claim.scope and one.shared == claim.shared), None)
        if lease is not None and not self._ledger.is_settled(lease):
            await self._ledger.settled(lease)
            return await self.claim(claim)
        is_new = lease is None
        if lease is None:
            if len(own) >= MOST_LEASES:
                raise LeasesExceeded(
                    f"{agent} has {len(own)} work leases and waiting claims, and may have {MOST_LEASES}; release some"
                )
            lease = self._new(claim)
        self._note(lease, claim)
        if not is_new:
            await self._renew(lease, max(lease.ttl_ms, claim.ttl_ms), keep=not claim.use)
            if self._ledger.is_gone(lease):
                return await self.claim(claim)
        if not lease.fence and not await self._try(lease, claim):
            return await self.claim(claim)
        return await self._checked(lease, claim, is_new=is_new)

    async def _try(self, lease: Lease, claim: Claim) -> bool:
        """Grant what is claimed, or have it wait; false if it ended while it was granted, and is to be claimed anew."""
        try:
            if claim.take_over:
                await self._take_over(lease)
            if not self._against(lease) and not await self._ledger.grant(lease):
                # Another node granted a rival in the same moment, or another call of the agent gave it back.
                return False
            if not self._is_granted(lease) and (claim.queue or claim.wait_s > 0):
                if self._book.get(lease.id) is None:
                    await self._ledger.wait(lease)
                    self._unqueued.add(lease.id)
                if claim.queue:
                    self._unqueued.discard(lease.id)
                await self._wait(lease, claim)
            await self._ledger.settled(lease)
        finally:
            if self._book.get(lease.id) is None:
                self._presence.forget(lease)
                self.forget(lease)
        return True

    def _note(self, lease: Lease, claim: Claim) -> None:
        self._presence.note(lease, claim.session)
        self._uses.note(lease, claim.use, claim.session)

    def _new(self, claim: Claim) -> Lease:
        lease = self._ledger.new(
            scope=claim.scope,
            holder=claim.holder,
            shared=claim.shared,
            note=claim.note,
            ttl_ms=claim.ttl_ms,
            kept=not claim.use,
        )
        self._note(lease, claim)
        return lease

    def _against(self, lease: Lease) -> list[Lease]:
        waits = self._book.get(lease.id)
        has_place = self._presence.has_place
        return self._book.against(lease.agent, lease.scope, shared=lease.shared, claim=waits, counts=has_place)

    def is_barred(self, claim: Lease) -> bool:
        """Whether anything keeps a claim that waits from being granted."""
        bar = self._book.bar(claim, self._bars.pop(claim.id, None), self._presence.has_place)
        if bar is not None:
            self._bars[claim.id] = bar
        return bar is not None

    def _is_granted(self, lease: Lease) -> bool:
        there = self._book.get(lease.id)
        return there is not None and there.fence > 0

    async def _take_over(self, lease: Lease) -> None:
        for one in self._against(lease):
            if self._presence.reaches(one.keeper) is False and not self._presence.is_there(one):
                reason = f"{lease.agent} took it over: the node {one.keeper} can't be reached"
                await self._ledger.end(one, lease.agent, reason)

    async def _wait(self, lease: Lease, claim: Claim) -> None:
        if claim.wait_s > 0 and not self._is_granted(lease):
            turn: Deferred[None] = Deferred()
            calls = self._calls.setdefault(lease.id, [])
            calls.append((claim.session, turn))
            timer = self._clock.callLater(claim.wait_s, _end_wait, turn)
            await turn
            if timer.active():
                timer.cancel()
            calls.remove((claim.session, turn))
            if not calls:
                del self._calls[lease.id]
        there = self._book.get(lease.id)
        if there is not None and not there.fence and lease.id in self._unqueued and lease.id not in self._calls:
            await self._ledger.end(there, there.agent, "its claim waited for as long as it was to")

    def answer(self, lease: Lease) -> bool:
        """Calls that wait for a claim need wait no more; whether anybody is there to hear of it by them."""
        calls = list(self._calls.get(lease.id, ()))
        for _, turn in calls:
            _end_wait(turn)
        return any(self._presence.is_session(session) for session, _ in calls)

    async def _checked(self, lease: Lease, claim: Claim, *, is_new: bool) -> dict[str, Any]:
        there = self._book.get(lease.id) or lease
        if claim.sure and there.fence and not there.confirmed and not self._ledger.look_confirmed(there):
            # What others of the agent have already they keep.
            if is_new or (claim.use and self._uses.give_back(there, claim.use)):
                await self._ledger.end(there, there.agent, "it was to be sure, and could not be confirmed")
            raise LeaseUnsure(
                f"{there.scope.text} could not be leased for sure: not all linked nodes can be reached, and one "
                "of them may have granted it too; try again, or take a provisional lease"
            )
        return self.told(there)

    async def renew(self, agent: str, session: int, lease_id: str, ttl_ms: int | None, use: str = "") -> dict[str, Any]:
        """Say that the holder is there, and perhaps for how long the lease is to stay without it.

        Raises:
            LeaseUnknown: the agent has no such lease (any more).
            StorageFull, StorageFailed: it could not be written.
        """
        lease = self._own(agent, lease_id)
        self._presence.note(lease, session)
        self._uses.note(lease, use, session)
        await self._renew(lease, lease.ttl_ms if ttl_ms is None else ttl_ms)
        if self._ledger.is_gone(lease):
            raise _unknown(agent, lease_id)
        return self.told(lease)

    async def _renew(self, lease: Lease, ttl_ms: int, *, keep: bool = False) -> None:
        now_s = self._clock.seconds()
        since_s = now_s - self._renewed_s.get(lease.id, float("-inf"))
        is_noted = lease.keeper == self._ledger.node and lease.ttl_ms == ttl_ms and (lease.kept or not keep)
        if not is_noted or since_s * 1000 * _RENEWED_PART >= ttl_ms:
            self._renewed_s[lease.id] = now_s
            await self._ledger.renew(lease, ttl_ms, kept=keep)

    async def release(self, agent: str, lease_id: str, use: str = "") -> dict[str, Any]:
        """Give a lease back, or withdraw a claim; what it was, with whether it ended.

        Args:
            agent: whose it is.
            lease_id: the id, or the scope.
            use: the use that is over: the lease stays while the agent keeps it, or has other uses of it. "" ends it.

        Raises:
            LeaseUnknown: the agent has no such lease (any more).
            ArgumentInvalid: it has several of that scope.
            StorageFull, StorageFailed: it could not be written.
        """
        lease = self._own(agent, lease_id, use)
        told = self.told(lease)
        if use and not self._uses.give_back(lease, use):
            return {**told, "ended": False}
        await self._ledger.end(lease, agent, "released")
        return {**told, "ended": True}

    async def force(self, by: str, lease_id: str, reason: str) -> dict[str, Any]:
        """End anybody's lease or claim; what it was.

        Raises:
            LeaseUnknown: there is none.
            StorageFull, StorageFailed: it could not be written.
        """
        lease = self._book.get(lease_id)
        if lease is None:
            raise LeaseUnknown(
                f"there is no work lease {show_value(lease_id)} at the node {self._ledger.node}; those that there are "
                "shows: trishula lease list"
            )
        told = self.told(lease)
        await self._ledger.end(lease, by, reason)
        return told

    def _own(self, agent: str, lease_id: str, use: str = "") -> Lease:
        # No id has a colon, and every scope has one.
        found = [one for one in self._book.of(agent) if lease_id in (one.id, one.scope.text)]
        found = [one for one in found if not self._ledger.is_gone(one)]
        if use and ":" in lease_id:
            found = [one for one in found if self._uses.has(one, use)]
        if not found:
            raise _unknown(agent, lease_id)
        if len(found) > 1:
            ids = " and ".join(f"{one.id} ({'shared' if one.shared else 'not shared'})" for one in found)
            raise ArgumentInvalid(
                f"{agent} has several work leases of {show_value(lease_id)}; name one by its id: {ids}"
            )
        return found[0]

    def forget(self, lease: Lease) -> None:
        """It ended."""
        self._renewed_s.pop(lease.id, None)
        self._bars.pop(lease.id, None)
        self._uses.forget(lease)
        self._unqueued.discard(lease.id)

    def list(self, scope: Scope | None = None, agent: str | None = None) -> builtins.list[dict[str, Any]]:
        """Those that are granted, and then the claims that wait, as they travel."""
        return [
            self.told(one)
            for one in self._book.all()
            if (scope is None or one.scope.overlaps(scope)) and agent in (None, one.agent)
        ]

    def told(self, lease: Lease) -> dict[str, Any]:
        """A lease or a claim, as it travels."""
        there = self._book.get(lease.id)
        state = "refused" if there is None else "granted" if there.fence else "waiting"
        lease = there or lease
        told: dict[str, Any] = {
            "id": lease.id,
            "state": state,
            "scope": lease.scope.text,
            "holder": lease.holder,
            "shared": lease.shared,
            "fence": lease.fence or None,
            "provisional": state == "granted" and not lease.confirmed,
            "ttl_s": lease.ttl_ms / 1000,
            "claimed_at": lease.order,
            "node": lease.keeper,
            "note": lease.note,
        }
        if state != "granted":
            against = self._against(lease)
            told["before"] = sum(not one.fence for one in against)
            told["blockers"] = [
                {"id": one.id, "scope": one.scope.text, "holder": one.holder, "note": one.note}
                for one in against
                if one.fence
            ]
        return told


def _end_wait(turn: Deferred[None]) -> None:
    if not turn.called:
        turn.callback(None)


def _unknown(agent: str, lease_id: str) -> LeaseUnknown:
    return LeaseUnknown(
        f"{agent} has no work lease {show_value(lease_id)}: it was released, lost or never claimed; claim it anew"
    )
