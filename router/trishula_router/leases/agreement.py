"""Agreement: whether all linked nodes know of a grant, and none of them has made another one.

A node grants what nothing speaks against that it knows of. Another node may do the same in that moment. So a grant is
*provisional* until it is *confirmed*: each linked node holds its record, and this node holds all that each of them had
written by then. Two nodes that grant rivals at once can't both be confirmed:

* Whoever finds a rival when its own record becomes durable gives way, whatever the numbers: the other node may have
  been told already that this one knew of nothing.
* Of two that had both become durable before either was known at the other node, the one with the higher stamp gives
  way; that is what happens when nodes that were apart meet again.

A node can't see which of the two it was at the other one. If both rules had their way at once, neither would stay. So a
grant with an older rival at a node in reach is not confirmed, and gives way only when that rival is confirmed, or has
not given way itself within :data:`YIELD_AFTER_S`.

A node that can't be reached confirms nothing, and keeps nobody from working: what is granted meanwhile stays
provisional. Nodes without peers confirm at once.

Policy only.
"""

from __future__ import annotations

from trishula_router.leases.book import Book, Lease
from trishula_router.peers.journal_policy import Replication
from trishula_router.store.interface import Store

__all__ = ["YIELD_AFTER_S", "Agreement"]

#: A node in reach that gives way says so within milliseconds.
YIELD_AFTER_S = 0.5


class Agreement:
    """What this node granted, and how far the others know of it.

    Args:
        node: this node's name.
        store: what is held here.
        replication: what the others hold.
        book: all leases.
    """

    def __init__(self, node: str, store: Store, replication: Replication, book: Book) -> None:
        self._node = node
        self._store = store
        self._replication = replication
        self._book = book
        # By the id of a lease that is not confirmed: the sequence that its record has at most, and of each node that
        # holds the record, how long that one's journal was by then.
        self._marks: dict[str, tuple[int, dict[str, int]]] = {}
        # Since when those have been known to have an older rival.
        self._opposed_s: dict[str, float] = {}

    @property
    def is_alone(self) -> bool:
        """Whether this node has no peers."""
        return not self._replication.peers

    def written(self, lease: Lease) -> Lease | None:
        """A grant of this node became durable; the rival that it gives way to, if there is one."""
        rivals = self._book.rivals(lease)
        if not rivals:
            self._marks[lease.id] = self._store.high_water, {}
        return rivals[0] if rivals else None

    def confirmed(self) -> list[Lease]:
        """The grants of this node that are confirmed from now on."""
        found = []
        held: dict[str, int] | None = None
        for lease_id in list(self._marks):
            lease = self._book.get(lease_id)
            if lease is None or lease.confirmed:
                del self._marks[lease_id]
                continue
            if self._older(lease):
                continue
            held = held or {origin.epoch: origin.sequence for origin in self._store.origins()}
            if self._is_known(*self._marks[lease_id], held):
                del self._marks[lease_id]
                found.append(lease)
        return found

    def _is_known(self, sequence: int, marks: dict[str, int], held: dict[str, int]) -> bool:
        for name, peer in self._replication.peers.items():
            if peer.epoch is None or self._replication.durable_at(name) < sequence:
                return False
            mark = marks.setdefault(f"{name} {peer.epoch}", self._replication.durable_at(name, peer.epoch))
            if held.get(peer.epoch, 0) < mark:
                return False
        return True

    def may_soon(self, lease: Lease) -> bool:
        """Whether it can be confirmed without a node coming into reach."""
        return lease.id in self._marks and all(peer.is_up for peer in self._replication.peers.values())

    def begin(self) -> None:
        """Take up what an earlier run of this node granted and did not see confirmed."""
        for lease in self._book.all():
            if lease.fence and not lease.confirmed and lease.keeper == self._node:
                self._marks[lease.id] = self._store.high_water, {}

    def yielding(self, now_s: float) -> list[tuple[Lease, Lease]]:
        """The grants of this node that give way now, each with the rival that it gives way to."""
        found, opposed_s = [], {}
        for lease_id in self._marks:
            lease = self._book.get(lease_id)
            if lease is None or lease.confirmed or not (older := self._older(lease)):
                continue
            since_s = opposed_s[lease_id] = self._opposed_s.get(lease_id, now_s)
            settled = [one for one in older if one.confirmed or not self._is_in_reach(one.keeper)]
            if settled or now_s - since_s >= YIELD_AFTER_S:
                found.append((lease, (settled or older)[0]))
        self._opposed_s = opposed_s
        return found

    @property
    def is_opposed(self) -> bool:
        """Whether a grant of this node will have to give way in a moment, if its rival doesn't."""
        return bool(self._opposed_s)

    def _older(self, lease: Lease) -> list[Lease]:
        rivals = self._book.rivals(lease)
        return [one for one in rivals if one.confirmed or (one.fence, one.id) < (lease.fence, lease.id)]

    def _is_in_reach(self, node: str) -> bool:
        peer = self._replication.peers.get(node)
        return peer is not None and peer.is_up
