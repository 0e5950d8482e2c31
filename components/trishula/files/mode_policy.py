"""Which roads an agent's messages take now: live, degraded, fallback. An explicit table, pure: no I/O, no clock.

============  ==========================================================================================================
mode          what it means
============  ==========================================================================================================
``live``      there is a session with a node: messages go to the node
``degraded``  there is none, since so short a time that it is worth waiting: messages wait in the outbox
``fallback``  there is none for ``fallback_after_s``, or the bus itself is in fallback: each message of the outbox is
              written as a file as well. Only an agent with a folder comes to this mode
============  ==========================================================================================================

The mode is one of four *states*, for in ``fallback`` it matters whether there is a session: without one the next
session ends the fallback; with one the word of the bus does.

=========================  ===========  =============  ==========  ================  ==============
state                      ATTACHED     LOST           DUE         BUS_IN_FALLBACK   BUS_LIVE
=========================  ===========  =============  ==========  ================  ==============
LIVE                       LIVE         DEGRADED       LIVE        TOLD              LIVE
DEGRADED                   LIVE         DEGRADED       ALONE       DEGRADED          DEGRADED
ALONE (``fallback``)       LIVE         ALONE          ALONE       ALONE             ALONE
TOLD (``fallback``)        TOLD         ALONE          TOLD        TOLD              LIVE
=========================  ===========  =============  ==========  ================  ==============

What the bus said before a session was lost is forgotten with that session: the mode of the bus may have changed since,
and the next session tells it anew, as it begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum

from trishula.settings import DEFAULT_FALLBACK_AFTER_S

__all__ = ["TABLE", "Event", "Mode", "ModePolicy", "State"]


class Mode(StrEnum):
    """What people are told."""

    LIVE = "live"
    DEGRADED = "degraded"
    FALLBACK = "fallback"


class State(Enum):
    """A row of the table."""

    LIVE = "a session"
    DEGRADED = "no session, for a short time"
    ALONE = "no session, for a long time"
    TOLD = "a session, and the bus is in fallback"

    @property
    def mode(self) -> Mode:
        """What people are told of it."""
        return _MODES[self]


_MODES = {
    State.LIVE: Mode.LIVE,
    State.DEGRADED: Mode.DEGRADED,
    State.ALONE: Mode.FALLBACK,
    State.TOLD: Mode.FALLBACK,
}


class Event(Enum):
    """A column of the table."""

    ATTACHED = "there is a session with a node"
    LOST = "the session is gone"
    DUE = "there is none for too long"
    BUS_IN_FALLBACK = "the bus says that it is in fallback"
    BUS_LIVE = "the bus says that it is live"


#: State → event → the next state.
TABLE: Mapping[State, Mapping[Event, State]] = {
    State.LIVE: {
        Event.ATTACHED: State.LIVE,
        Event.LOST: State.DEGRADED,
        Event.DUE: State.LIVE,
        Event.BUS_IN_FALLBACK: State.TOLD,
        Event.BUS_LIVE: State.LIVE,
    },
    State.DEGRADED: {
        Event.ATTACHED: State.LIVE,
        Event.LOST: State.DEGRADED,
        Event.DUE: State.ALONE,
        # Of the session that is gone.
        Event.BUS_IN_FALLBACK: State.DEGRADED,
        Event.BUS_LIVE: State.DEGRADED,
    },
    State.ALONE: {
        Event.ATTACHED: State.LIVE,
        Event.LOST: State.ALONE,
        Event.DUE: State.ALONE,
        Event.BUS_IN_FALLBACK: State.ALONE,
        Event.BUS_LIVE: State.ALONE,
    },
    State.TOLD: {
        # It moved to another node of the same bus.
        Event.ATTACHED: State.TOLD,
        Event.LOST: State.ALONE,
        Event.DUE: State.TOLD,
        Event.BUS_IN_FALLBACK: State.TOLD,
        Event.BUS_LIVE: State.LIVE,
    },
}

#: What only an agent with a folder can do something about.
_NEED_A_FOLDER = (Event.DUE, Event.BUS_IN_FALLBACK)


class ModePolicy:
    """The mode of one agent; it begins without a session. ``now_s`` is any clock that only goes on.

    Args:
        now_s: when it begins.
        has_folder: whether files are a road at all.
        fallback_after_s: after how many seconds without a session they are.

    Attributes:
        state: the row of the table that it is in.
    """

    def __init__(self, now_s: float, *, has_folder: bool, fallback_after_s: float = DEFAULT_FALLBACK_AFTER_S) -> None:
        self.state = State.DEGRADED
        self._has_folder = has_folder
        self._after_s = fallback_after_s
        self._away_since_s = now_s

    @property
    def mode(self) -> Mode:
        """What people are told."""
        return self.state.mode

    @property
    def due_s(self) -> float | None:
        """When :meth:`tick` is to be called; ``None`` if time alone changes nothing."""
        if self.state is State.DEGRADED and self._has_folder:
            return self._away_since_s + self._after_s
        return None

    def heard(self, event: Event, now_s: float) -> bool:
        """Something happened; whether the mode changed by it."""
        if event in _NEED_A_FOLDER and not self._has_folder:
            return False
        before, self.state = self.state, TABLE[self.state][event]
        if self.state is State.DEGRADED and before is not State.DEGRADED:
            self._away_since_s = now_s
        return self.state.mode is not before.mode

    def tick(self, now_s: float) -> bool:
        """Time went on; whether the mode changed by it."""
        due_s = self.due_s
        return due_s is not None and now_s >= due_s and self.heard(Event.DUE, now_s)
