"""When to wake: for mail that was not told of yet, not too often, again if it stays. Decisions, no I/O and no clock.

====================================  =============================================================================
mail                                  wakes
====================================  =============================================================================
1, 2 (urgent)                         at once
3 (or down to what was asked for)     at once, if the model is in no turn; else at the end of its turn
4, 5                                  nothing: the model finds it at its next look
told of, and still on the node        after ``again_s``, then after twice that, and so on up to 16 times
handed to the model                   nothing; should it come back to the node, then as new mail
====================================  =============================================================================

Between two wakes are at least ``gap_s``, and after one that failed 5 s, then 10 s, up to five minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trishula.contract.addresses import agent_of
from trishula.front_door.nudges import pointer
from trishula.front_door.turns import URGENT

__all__ = ["Look", "Pointer", "WakePolicy"]

_RETRY_S, _MOST_RETRY_S = 5.0, 300.0
_MOST_DOUBLINGS = 4


@dataclass(frozen=True, slots=True)
class Look:
    """What a node told of a mailbox.

    Attributes:
        messages: those in nobody's hands, the most urgent first, as ``mailbox.peek`` tells of them.
        pending: how many wait, the ones beyond ``messages`` included.
        turn: whether the model is in a turn: ``open``, ``blocked`` or ``closed``.
    """

    messages: Sequence[Mapping[str, Any]] = ()
    pending: int = 0
    turn: str = "closed"


@dataclass(frozen=True, slots=True)
class Pointer:
    """What a wake tells; nothing of it is the text of a message.

    Attributes:
        message_id: of the first message that it is about.
        sender: the agent that sent that one.
        count: how many messages wait.
        urgent: how many of them, as far as was looked, are urgent.
        text: the same for a model, in one line.
        keys: of all that it is about; for the memory.
        is_reminder: whether all of it was told of before.
    """

    message_id: str
    sender: str
    count: int
    urgent: int
    text: str
    keys: frozenset[str] = field(repr=False)
    is_reminder: bool = False


class WakePolicy:
    """See the module's docstring. Instants are seconds since the epoch, because they outlive the process.

    Args:
        gap_s: the least time between two wakes.
        again_s: how long mail that was told of may stay before it is told of once more; ``None``: never.
        priority: mail of this priority and of more urgent ones wakes; 1 is most urgent.
        saved: what :meth:`saved` told before; anything else begins anew.
    """

    def __init__(self, *, gap_s: float, again_s: float | None, priority: int, saved: object = None) -> None:
        self._gap_s = gap_s
        self._again_s = again_s
        self._priority = priority
        self._told: frozenset[str] = frozenset()
        self._woke_s: float | None = None
        self._reminders = 0
        self._failures = 0
        self._retry_s = 0.0
        match saved:
            case {"told": [*told], "woke_s": int() | float() as woke_s, "reminders": int() as reminders}:
                self._told = frozenset(map(str, told))
                self._woke_s = float(woke_s)
                self._reminders = max(reminders, 0)

    def saved(self) -> dict[str, Any]:
        """What a next process needs, so that it neither forgets mail nor wakes twice for it."""
        return {"told": sorted(self._told), "woke_s": self._woke_s, "reminders": self._reminders}

    def due(self, look: Look, now_s: float) -> Pointer | None:
        """What to wake for now, if anything."""
        waiting = {_key(one["message"]): one["message"] for one in look.messages}
        # What is gone from the node and comes back was taken by somebody who did not settle it: that is news.
        self._told &= waiting.keys()
        least_urgent = self._priority if look.turn == "closed" else min(self._priority, URGENT)
        about = {key: head for key, head in waiting.items() if _priority(head) <= least_urgent}
        fresh = [key for key in about if key not in self._told]
        if not about:
            return None
        if self._woke_s is not None:
            # The clock was set back.
            self._woke_s = min(self._woke_s, now_s)
            if now_s < self._woke_s + self._gap_s or not (fresh or self._is_again_due(now_s)):
                return None
        if now_s < self._retry_s <= now_s + _MOST_RETRY_S:
            return None
        head = about[fresh[0]] if fresh else next(iter(about.values()))
        return Pointer(
            message_id=str(head["id"]),
            sender=_sender(head),
            count=look.pending,
            urgent=sum(_priority(one) <= URGENT for one in waiting.values()),
            text=pointer(look.messages, look.pending),
            keys=frozenset(about),
            is_reminder=not fresh,
        )

    def _is_again_due(self, now_s: float) -> bool:
        if self._again_s is None or self._woke_s is None:
            return False
        return now_s >= self._woke_s + self._again_s * (1 << min(self._reminders, _MOST_DOUBLINGS))

    def woke(self, told: Pointer, now_s: float) -> None:
        """The wake went well."""
        self._told |= told.keys
        self._woke_s = now_s
        self._reminders = self._reminders + 1 if told.is_reminder else 0
        self._failures = 0
        self._retry_s = 0.0

    def failed(self, now_s: float) -> float:
        """The wake failed; in how many seconds it is tried again."""
        delay_s = min(_RETRY_S * (1 << min(self._failures, 16)), _MOST_RETRY_S)
        self._failures += 1
        self._retry_s = now_s + delay_s
        return delay_s


def _sender(head: Mapping[str, Any]) -> str:
    return agent_of(str(head.get("from") or "the node"))


def _key(head: Mapping[str, Any]) -> str:
    return f"{_sender(head)} {head['id']}"


def _priority(head: Mapping[str, Any]) -> int:
    return int(head.get("priority", 3))
