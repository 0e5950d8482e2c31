"""Whether the holder of a lease is there: at this node, at one in reach, or nowhere that this node can see.

A holder is there while the session that claimed is, and while any session of its address is: of the agent itself, or
of the instance. So a coding tool's commands claim for the model that runs beside them, and the lease lives as long as
the model's own session does.
"""

from __future__ import annotations

from collections.abc import Callable

from trishula.contract.addresses import Address
from trishula_router.agents.sessions import Sessions
from trishula_router.leases.book import Lease

__all__ = ["Presence"]

#: A claim that waits keeps its place for so long without its holder: time enough for a client to connect again.
_PLACE_S = 15.0


class Presence:
    """See the module's docstring.

    Args:
        sessions: those at this node.
        is_elsewhere: whether an address has a session at another node in reach.
        reached: the names of all linked nodes, each with whether it can be reached.
        now_s: the clock for spans.
    """

    def __init__(
        self,
        sessions: Sessions,
        *,
        is_elsewhere: Callable[[Address], bool],
        reached: Callable[[], dict[str, bool]],
        now_s: Callable[[], float],
    ) -> None:
        self._sessions = sessions
        self._is_elsewhere = is_elsewhere
        self._reached = reached
        self._now_s = now_s
        self._claimed_by: dict[str, int] = {}
        self._seen_s: dict[str, float] = {}

    def note(self, lease: Lease, session: int) -> None:
        """A session claimed it, or spoke of it."""
        self._claimed_by[lease.id] = session
        self._seen_s[lease.id] = self._now_s()

    def is_here(self, lease: Lease) -> bool:
        """Whether the holder is at this node."""
        if self.is_session(self._claimed_by.get(lease.id, 0)):
            return True
        address = Address.parse(lease.holder)
        return any(
            one.stays and (one.instance == address.instance or lease.holder in one.speaks_for)
            for one in self._sessions.of_agent(address.agent)
        )

    def is_there(self, lease: Lease) -> bool:
        """Whether the holder is at this node, or at one in reach."""
        return self.is_here(lease) or self._is_elsewhere(Address.parse(lease.holder))

    def has_place(self, claim: Lease) -> bool:
        """Whether a claim that waits keeps its place: nobody need wait for who is gone, and perhaps for days."""
        return self.away_s(claim) < _PLACE_S

    def is_session(self, session: int) -> bool:
        """Whether a session is at this node."""
        found = self._sessions.get(session)
        return found is not None and found.stays

    def away_s(self, lease: Lease) -> float:
        """For how long the holder has been nowhere; 0 while it is there."""
        now_s = self._now_s()
        if self.is_there(lease):
            self._seen_s[lease.id] = now_s
        return now_s - self._seen_s.setdefault(lease.id, now_s)

    def seen(self, lease: Lease) -> None:
        """Another node says that the holder was there."""
        self._seen_s[lease.id] = self._now_s()

    def reaches(self, node: str) -> bool | None:
        """Whether a linked node can be reached; ``None``: there is no such node."""
        return self._reached().get(node)

    def forget(self, lease: Lease) -> None:
        """It ended."""
        self._claimed_by.pop(lease.id, None)
        self._seen_s.pop(lease.id, None)
