"""Joins: how many clients a node lets in at a time, so that a thousand that come at once are all there soon.

A client that waits longer for its join than its patience lasts (5 s, ours) goes away and comes again; what the node has
done for it is lost, and is to be done once more. A node that takes all at once may so be busy with nothing else for
ever. So it takes as many as it can have joined within :data:`_WITHIN_S`; the others are refused for now, each with an
instant of its own at which its turn may be: they come back at the rate that the node can take.

*Under way* is a client from the proof of its identity (a stranger must not take anybody's place) until its first call
was served, which is when it is set up, or until it is gone, or for :data:`_LONGEST_S`. What one costs is measured in
the time that the node's thread worked, not in time on the clock: far clients join slowly, and cost no more than near
ones. Where the thread has work all the time and doesn't get the machine for it, because others have it too, its work
takes so much longer.

Policy only; instants are seconds.
"""

from __future__ import annotations

from trishula.errors import NodeBusy
from trishula_router.agents.sessions import Session

__all__ = ["Joins"]

#: Within that time the node can have those joined that are under way. A third of a client's patience, because the
#: thread doesn't have the machine for itself, and a client is under way before its identity is proved, too.
_WITHIN_S = 1.5
#: Whatever they seem to cost, so many may always be under way.
_LEAST = 64
#: What one costs, before any was measured: on two cores 1.5 ms.
_FIRST_COST_S = 0.002
#: No machine joins a client for less.
_LEAST_COST_S = 0.0002
#: So many make a measurement; the cost of fewer is lost in what the node does besides.
_MEASURED = 64
#: A measurement that comes so much too late, or more, tells that the thread had work all the time.
_BEHIND_S = 0.25
#: A guess that is too bad has clients wait for nothing, and a machine that stood still for a while was not shared by a
#: hundred.
_MOST_STRETCHED = 4.0
#: A client that only listens never calls.
_LONGEST_S = 5.0
#: Nobody is told to come later than that: the guess may be wrong.
_LATEST_S = 30.0


class Joins:
    """The clients that are about to join a node."""

    def __init__(self) -> None:
        # The oldest first.
        self._under_way: dict[Session, None] = {}
        self._cost_s = _FIRST_COST_S
        self._next_s = 0.0
        self._served = 0
        self._worked_s: float | None = None
        # How long a second of work takes.
        self._stretch = 1.0
        self._looked: tuple[float, float] | None = None

    @property
    def room(self) -> int:
        """How many may be under way."""
        return max(_LEAST, int(_WITHIN_S / self._each_s))

    @property
    def _each_s(self) -> float:
        return max(self._cost_s, _LEAST_COST_S) * self._stretch

    def begin(self, session: Session, now_s: float) -> None:
        """A client proved who it is, at that moment.

        Raises:
            NodeBusy: there is no room for it now.
        """
        while self._under_way and self._has_taken_long(next(iter(self._under_way)), now_s):
            del self._under_way[next(iter(self._under_way))]
        if len(self._under_way) < self.room:
            self._under_way[session] = None
            return
        self._next_s = max(self._next_s, now_s + len(self._under_way) * self._each_s) + self._each_s
        # Also after a clock was set back.
        self._next_s = min(self._next_s, now_s + _LATEST_S)
        retry_after_s = round(self._next_s - now_s, 3)
        raise NodeBusy(
            f"{len(self._under_way)} clients join this node just now, and more would only hold each other up; try "
            f"again in {retry_after_s:g} s",
            retry_after_s=retry_after_s,
        )

    @staticmethod
    def _has_taken_long(session: Session, now_s: float) -> bool:
        return abs(now_s - session.authenticated_s) > _LONGEST_S

    def served(self, session: Session) -> bool:
        """The first call of a session is served; returns whether the session was under way until now."""
        if session not in self._under_way:
            return False
        del self._under_way[session]
        self._served += 1
        return True

    def left(self, session: Session) -> None:
        """A session is gone."""
        self._under_way.pop(session, None)

    def measure(self, worked_s: float, now_s: float, late_s: float) -> None:
        """To be called a few times a second.

        Args:
            worked_s: for how long the node's thread has worked so far.
            now_s: the clock.
            late_s: how much later than planned this call comes.
        """
        stretch = 1.0
        if self._looked is not None and late_s >= _BEHIND_S:
            stretch = max(1.0, (now_s - self._looked[1]) / max(worked_s - self._looked[0], 0.001))
        self._stretch = (self._stretch + min(stretch, _MOST_STRETCHED)) / 2
        self._looked = worked_s, now_s
        if self._worked_s is not None and self._served >= _MEASURED:
            self._cost_s = (self._cost_s + (worked_s - self._worked_s) / self._served) / 2
            self._served, self._worked_s = 0, worked_s
        if not self._under_way:
            # Nobody joins: what the node does until somebody does is no part of a join.
            self._served, self._worked_s = 0, worked_s
