"""Visiting canaries: those that a linked node hands to this one, for an agent that is here.

The node hands each to the client of the agent, and tells the peer what the client's answer shows: how long the canary
was here, and how much of that it took to the client, half of the round trip. The peer counts it. One that nobody
answers is forgotten without a word; the peer gives it up by itself.

Policy only; ``now_s`` is the clock for spans.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from trishula_router.objectives.canaries import PATIENCE_S

__all__ = ["Visit", "Visits"]

#: Of one peer at a time: it may send 60 a minute, and gives each up after ten seconds.
_MOST_OF_PEER = 60


@dataclass(frozen=True, slots=True)
class Visit:
    """A canary of another node.

    Attributes:
        id: what it is called at this node; ids of two nodes may be the same.
        peer: whose it is.
        canary: its id there.
        session: of the client that is to answer.
        came_s: when it came.
        arrived_at: the same by the wall clock, ms.
    """

    id: str
    peer: str
    canary: str
    session: int
    came_s: float
    arrived_at: int


class Visits:
    """See the module's docstring.

    Args:
        run: names the node's run, so that no id comes twice.
    """

    def __init__(self, run: str) -> None:
        self._run, self._count = run, 0
        self._visits: dict[str, Visit] = {}

    def came(self, peer: str, canary: str, session: int, now_s: float, now: int) -> Visit | None:
        """A peer hands over a canary; ``None`` if it has too many here, or has handed this one over already."""
        self.look(now_s)
        if any((one.peer, one.canary) == (peer, canary) for one in self._visits.values()):
            return None
        if Counter(one.peer for one in self._visits.values())[peer] >= _MOST_OF_PEER:
            return None
        self._count += 1
        visit = Visit(f"{self._run}-v{self._count}", peer, canary, session, now_s, now)
        self._visits[visit.id] = visit
        return visit

    def heard(self, visit: str, session: int) -> Visit | None:
        """A client answered; ``None`` if nobody asked that session."""
        found = self._visits.get(visit)
        if found is None or found.session != session:
            return None
        return self._visits.pop(visit)

    def look(self, now_s: float) -> None:
        """Forget those that nobody answered."""
        for one in [one for one in self._visits.values() if now_s - one.came_s > PATIENCE_S]:
            del self._visits[one.id]
