"""Whether the peer of a connection lives: policy, no I/O; whoever owns the connection asks, and acts.

Every byte from the peer is a sign of life, of an unfinished frame as well. Where none came for a while the peer is
pinged, and given up when nothing comes then either. So a connection with traffic costs no pings; of two ends that do
this the one with the shorter patience pings, and the other one hears it.

A timer that fires late tells of this process, which stood still, and not of the peer, whose bytes may lie in the
kernel unread. So the sentence is passed one look later than it could be, with a turn of the reactor in between.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Pulse", "PulseStep"]

#: Between the look that finds a peer dead and the one that says so.
_SECOND_LOOK_S = 0.1


class PulseStep(Enum):
    """What is to be done now."""

    NOTHING = "nothing"
    PING = "ping"
    DEAD = "dead"


class Pulse:
    """The signs of life of one peer.

    Args:
        quiet_s: after so much silence it is pinged.
        patience_s: so long nothing may come after that.
        now_s: the connection is there since then.

    Attributes:
        heard_s: when something came last; the owner sets it.
    """

    __slots__ = ("_asked_s", "_doubted_s", "_from_s", "_patience_s", "_quiet_s", "heard_s")

    def __init__(self, quiet_s: float, patience_s: float, now_s: float) -> None:
        self._quiet_s = quiet_s
        self._patience_s = patience_s
        self._from_s = now_s
        self._asked_s: float | None = None
        self._doubted_s: float | None = None
        self.heard_s = now_s

    def begin(self, from_s: float) -> None:
        """Count silence from this instant on, which may be to come: a peer that is yet to serve us may be busy."""
        self._from_s = from_s

    def look(self, now_s: float) -> tuple[PulseStep, float]:
        """What to do now, and after how many seconds to look again."""
        since_s = max(self.heard_s, self._from_s)
        if self._asked_s is not None and self._asked_s < since_s:
            self._asked_s = self._doubted_s = None
        if self._asked_s is None:
            wait_s = since_s + self._quiet_s - now_s
            if wait_s > 0:
                # No later: the instant from which silence counts may be moved to an earlier one.
                return PulseStep.NOTHING, min(wait_s, self._quiet_s)
            self._asked_s = now_s
            return PulseStep.PING, self._patience_s
        wait_s = self._asked_s + self._patience_s - now_s
        if wait_s > 0:
            return PulseStep.NOTHING, wait_s
        if self._doubted_s is None:
            self._doubted_s = now_s
        wait_s = self._doubted_s + _SECOND_LOOK_S - now_s
        if wait_s > 0:
            return PulseStep.NOTHING, wait_s
        return PulseStep.DEAD, 0.0
