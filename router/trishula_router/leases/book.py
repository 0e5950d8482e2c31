"""The book: which work leases there are and who waits for which, as all records ``lease`` that a node holds add up.

The order in which records come makes no difference: what ended stays ended, what was granted waits no more, of two
words about who looks after a lease the one with the higher stamp counts. So nodes that hold the same journals have the
same book.

A *stamp* is the wall clock's ms, or one more than the highest stamp known, whichever is more. So each is higher than
all that its writer knew of, over restarts and failovers, and where a record was lost with a disk the clock still makes
those that follow higher. The stamp of a grant is its *fencing token*.

Two leases are *rivals* if they are about the same (:meth:`.Scope.overlaps`), not both shared, and of two agents. An
agent's own sessions share what it has.

Policy only: no I/O, and no clock but ``now`` (ms).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trishula.contract.addresses import Address, agent_of
from trishula.contract.scopes import Scope
from trishula.errors import ArgumentInvalid
from trishula_router.store.lease_facts import LeaseFacts

__all__ = ["Book", "Lease"]

#: The end of a lease is remembered for so long: what another node wrote of it may come later.
_REMEMBERED_MS = 7 * 86_400_000
#: And for so long where there is no other node.
_REMEMBERED_ALONE_MS = 3_600_000


@dataclass(slots=True, eq=False)
class Lease:
    """A lease, or a claim that waits for one.

    Attributes:
        id: its name.
        scope: what it is about.
        holder: whose it is, an address.
        shared: whether others may share it.
        note: what for.
        ttl_ms: for how long it stays when its holder is gone.
        order: of two that wait the one with the lower one is first.
        keeper: the node that looks after it: it ends the lease when the holder is gone, or grants it.
        kept_by: the stamp of the word that says so.
        fence: the fencing token; 0 while it waits.
        confirmed: whether all linked nodes had it before anything that speaks against it.
        kept: whether it stays until its agent gives it back, whoever of the agent uses it (:mod:`.uses`).
    """

    id: str
    scope: Scope
    holder: str
    shared: bool
    note: str
    ttl_ms: int
    order: int
    keeper: str
    kept_by: int
    fence: int = 0
    confirmed: bool = False
    kept: bool = False

    @property
    def agent(self) -> str:
        """The agent whose it is."""
        return agent_of(self.holder)

    def is_rival(self, agent: str, scope: Scope, *, shared: bool) -> bool:
        """Whether it keeps an agent from having a scope, if it is granted."""
        return self.agent != agent and not (self.shared and shared) and self.scope.overlaps(scope)


class Book:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}
        # With the stamp of the end, also of those that were never heard of.
        self._ended: dict[str, int] = {}
        # Words about leases that were not heard of yet.
        self._early: dict[str, list[LeaseFacts]] = {}
        self._highest = 0
        #: How often anything changed: whose turn it is need be looked at no more often.
        self.changes = 0

    def stamp(self, now: int) -> int:
        """A stamp for a record that is written now."""
        self._highest = max(now, self._highest + 1)
        return self._highest

    def fold(self, facts: LeaseFacts) -> Lease | None:
        """Take a record into account; the lease it is about, if it is known and anything changed."""
        self._highest = max(self._highest, facts.stamp)
        self.changes += 1
        lease = self._leases.get(facts.lease)
        if facts.what == "ended":
            if facts.lease in self._ended:
                return None
            self._ended[facts.lease] = facts.stamp
            self._early.pop(facts.lease, None)
            return self._leases.pop(facts.lease, None)
        if facts.lease in self._ended:
            return None
        if facts.what in ("waiting", "granted"):
            return self._claimed(lease, facts)
        if lease is None:
            self._early.setdefault(facts.lease, []).append(facts)
            return None
        if facts.what == "confirmed":
            lease.confirmed = True
        elif facts.stamp > lease.kept_by:
            lease.keeper, lease.kept_by, lease.ttl_ms = facts.node, facts.stamp, facts.ttl_ms
        lease.kept = lease.kept or facts.kept
        return lease

    def _claimed(self, lease: Lease | None, facts: LeaseFacts) -> Lease | None:
        is_new = lease is None
        if lease is None:
            try:
                scope, holder = Scope.of_record(facts.scope), str(Address.parse(facts.holder))
            except (ArgumentInvalid, ValueError):
                # A newer node knows more kinds of scopes.
                return None
            order = facts.order or facts.stamp
            lease = Lease(
                facts.lease, scope, holder, facts.shared, facts.note, facts.ttl_ms, order, facts.node, facts.stamp
            )
            self._leases[lease.id] = lease
        lease.kept = lease.kept or facts.kept
        if facts.what == "granted":
            lease.fence = max(lease.fence, facts.stamp)
            if facts.stamp > lease.kept_by:
                lease.keeper, lease.kept_by, lease.ttl_ms = facts.node, facts.stamp, facts.ttl_ms
        if is_new:
            for early in self._early.pop(lease.id, ()):
                self.fold(early)
        return lease

    def undo(self, lease: Lease, *, was_waiting: bool) -> None:
        """A claim or a grant could not be written after all."""
        self.changes += 1
        if was_waiting:
            lease.fence = 0
        else:
            self._leases.pop(lease.id, None)

    def unfit(self, now: int, *, is_alone: bool = False) -> list[str]:
        """Ids of leases that ended long ago, which nothing more is heard of; they are forgotten."""
        before = now - (_REMEMBERED_ALONE_MS if is_alone else _REMEMBERED_MS)
        gone = [id for id, stamp in self._ended.items() if stamp < before]
        gone += [id for id, early in self._early.items() if all(one.stamp < before for one in early)]
        for id in gone:
            self._ended.pop(id, None)
            self._early.pop(id, None)
        return gone

    # -- answers -------------------------------------------------------------------------------------------------------

    def get(self, lease_id: str) -> Lease | None:
        """A lease, or a claim that waits."""
        return self._leases.get(lease_id)

    def all(self) -> list[Lease]:
        """Those that are granted, and then those that wait, each in their order."""
        return sorted(self._leases.values(), key=_order)

    def waiting(self) -> list[Lease]:
        """Those that wait, in their order."""
        return [one for one in self.all() if not one.fence]

    def of(self, agent: str) -> list[Lease]:
        """Those of an agent."""
        return [one for one in self.all() if one.agent == agent]

    def against(
        self,
        agent: str,
        scope: Scope,
        *,
        shared: bool,
        claim: Lease | None = None,
        counts: Callable[[Lease], bool] = lambda one: True,
    ) -> list[Lease]:
        """What keeps an agent from having a scope now: what is granted to others, and what others wait for longer.

        Args:
            agent: who would have it.
            scope: what.
            shared: whether others could share it.
            claim: the claim, if it waits already.
            counts: whether another claim that waits keeps its place.
        """
        found = [one for one in self._leases.values() if _is_before(one, claim)]
        found = [one for one in found if one.is_rival(agent, scope, shared=shared) and (one.fence or counts(one))]
        return sorted(found, key=_order)

    def bar(self, claim: Lease, known: Lease | None, counts: Callable[[Lease], bool]) -> Lease | None:
        """One of those that keep a claim that waits from being granted; ``None``: it can be granted.

        Args:
            claim: the claim.
            known: what was found the last time. While it is there, nothing need be compared.
            counts: whether another claim that waits keeps its place.
        """

        def bars(one: Lease) -> bool:
            return _is_before(one, claim) and (one.fence > 0 or counts(one))

        if known is not None and self._leases.get(known.id) is known and bars(known):
            return known
        for one in self._leases.values():
            if one.is_rival(claim.agent, claim.scope, shared=claim.shared) and bars(one):
                return one
        return None

    def rivals(self, lease: Lease) -> list[Lease]:
        """What was granted to others though this one was, at nodes that didn't know of each other's grant."""
        return [
            one
            for one in self._leases.values()
            if one is not lease and one.fence and one.is_rival(lease.agent, lease.scope, shared=lease.shared)
        ]


def _order(lease: Lease) -> tuple[bool, int, str]:
    return not lease.fence, lease.order, lease.id


def _is_before(lease: Lease, claim: Lease | None) -> bool:
    return bool(lease.fence) or claim is None or (lease.order, lease.id) < (claim.order, claim.id)
