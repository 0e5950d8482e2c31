"""The automatic fallback: when a node puts the bus into fallback by itself, because of its triggers, and ends that.

============================  =======================  =============================================================
the bus's mode                the triggers             what the node does
============================  =======================  =============================================================
live                          want the fallback        turns it on; sends go on
live, an operator said so     want it                  nothing, until what fired by then has cleared
fallback, by this node        want it no more          turns it off
fallback, by somebody else    whatever                 nothing: who turned it on ends it
============================  =======================  =============================================================

Policy only. It is asked about once a step, and what it wants is wanted again if it could not be done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trishula_router.objectives.triggers import Triggers

__all__ = ["Automatic", "Word"]

#: Whoever says something by itself is no agent: no agent's name has a colon.
_NODES = "node:"
#: The longest reason of a mode.
_REASON_LENGTH = 500
_OVER = "what was wrong with the service is over"


@dataclass(frozen=True, slots=True)
class Word:
    """What was said of the bus's mode last, or is to be said.

    Attributes:
        mode: ``live`` or ``fallback``.
        by: who said it.
        reason: why, in one line.
        since: when it was said, ms; 0 of what nobody has said, or is to be said.
    """

    mode: Literal["live", "fallback"]
    by: str
    reason: str = ""
    since: int = 0


class Automatic:
    """See the module's docstring.

    Args:
        node: this node's name.
    """

    def __init__(self, node: str) -> None:
        self._by = f"{_NODES}{node}"
        self._heard: int | None = None

    def step(self, last: Word, triggers: Triggers) -> Word | None:
        """What this node says of the mode now; ``None`` if nothing."""
        # What was said before the node started was said of other troubles.
        is_news = self._heard is not None and last.since > self._heard
        self._heard = last.since
        if is_news and last.mode == "live" and not last.by.startswith(_NODES):
            triggers.overrule()
        if last.mode == "live" and triggers.reason is not None:
            return Word("fallback", self._by, triggers.reason[:_REASON_LENGTH])
        if last.mode == "fallback" and last.by == self._by and triggers.reason is None:
            return Word("live", self._by, _OVER)
        return None
