"""Which alerts are sent: a condition that lasts is told once, told again now and then, and its end is told too.

A condition must have lasted for a while before it is told, and must be gone for as long before its end is: so one that
comes and goes is told once. What was not told begins and ends in silence. A token bucket bounds all that is sent; what
it holds back is counted, the next alert says so, and it goes out as soon as there is room, the new before what is told
again. An end waits for its turn too.

Of a kind of which there are too many, one that no longer stands for itself may be among the rest: its end is told once
there is no rest. What a node can't or needn't say anything of for a while (:meth:`AlertPolicy.forget`) has not ended,
and no end of it is told. What was told outlives a restart of the node (:meth:`AlertPolicy.memory`,
:meth:`AlertPolicy.recall`): it is not told anew, and its end is told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from trishula_router.alerts.conditions import OTHERS, Condition

__all__ = ["Alert", "AlertPolicy", "Told"]

#: So many alerts may go at once.
_BURST = 10.0


@dataclass(frozen=True, slots=True)
class Alert:
    """Something to be told.

    Attributes:
        state: ``firing``, ``resolved`` or ``test``.
        node: which node tells it.
        condition: what is, or was, wrong.
        since: since when, in ms.
        at: when it is told, in ms.
        is_repeat: whether it was told before.
        held_back: how many others had to wait since the alert before, because there were too many.
    """

    state: str
    node: str
    condition: Condition
    since: int
    at: int
    is_repeat: bool = False
    held_back: int = 0


class Told(msgspec.Struct, frozen=True):
    """A condition of which somebody was told and of whose end nobody was, for the node's next run.

    Attributes:
        kind, about, sentence: see :class:`.Condition`.
        since: since when it is, in ms.
        told_at: when somebody was told last, in ms.
    """

    kind: str
    about: str
    sentence: str
    since: int
    told_at: int


@dataclass(slots=True)
class _Known:
    """A condition that is there, or was lately; instants in seconds, ``since`` and ``told_at`` in ms."""

    condition: Condition
    since: int
    began_s: float
    seen_s: float
    told_s: float | None = None
    told_at: int = 0
    was_told: bool = False
    is_held_back: bool = False


class AlertPolicy:
    """See the module's docstring; no I/O.

    Args:
        node: the node's name.
        after_s: how long a condition must last, or be gone, before that is told.
        repeat_s: after how long it is told again.
        rate_per_s: how many alerts there are in the long run.
    """

    def __init__(self, node: str, *, after_s: float, repeat_s: float, rate_per_s: float) -> None:
        self._node = node
        self._after_s = after_s
        self._repeat_s = repeat_s
        self._rate_per_s = rate_per_s
        self._known: dict[tuple[str, str], _Known] = {}
        self._tokens = _BURST
        self._filled_s: float | None = None
        self._held_back = 0

    def step(self, conditions: Iterable[Condition], now: int, now_s: float) -> list[Alert]:
        """What is to be told, now that these are the conditions.

        Args:
            conditions: all that is wrong.
            now: the wall clock, in ms.
            now_s: the clock for spans.
        """
        if self._filled_s is not None:
            self._tokens = min(_BURST, self._tokens + (now_s - self._filled_s) * self._rate_per_s)
        self._filled_s = now_s
        for condition in conditions:
            known = self._known.setdefault(condition.key, _Known(condition, now, now_s, now_s))
            known.condition, known.seen_s = condition, now_s
        alerts = []
        has_rest = {kind for (kind, about), known in self._known.items() if about == OTHERS and known.seen_s == now_s}
        # What nobody knows of yet comes first, in the order in which it began.
        for key, known in sorted(self._known.items(), key=lambda one: one[1].was_told):
            is_there = known.seen_s == now_s
            if is_there:
                is_due = known.told_s is None or now_s - known.told_s >= self._repeat_s
                if is_due and now_s - known.began_s >= self._after_s:
                    if self._may_send():
                        alerts.append(self._alert("firing", known, now))
                        known.was_told, known.is_held_back = True, False
                        known.told_s, known.told_at = now_s, now
                    elif not known.is_held_back:
                        known.is_held_back = True
                        self._held_back += 1
            elif not known.was_told:
                del self._known[key]
            elif key[0] in has_rest:
                known.seen_s = now_s
            elif now_s - known.seen_s >= self._after_s and self._may_send():
                alerts.append(self._alert("resolved", known, now))
                del self._known[key]
        return alerts

    def forget(self, kinds: Collection[str]) -> None:
        """Know nothing of some kinds of conditions any more: neither that they are there nor that they ended."""
        for key in [key for key in self._known if key[0] in kinds]:
            del self._known[key]

    def memory(self, waiting: Collection[Alert]) -> list[Told]:
        """What the node's next run is to know.

        Args:
            waiting: the alerts that no road has taken yet. A condition of which one tells is not yet told, so the next
                run tells it; of an end that waits, the next run tells it too.
        """
        untold = {alert.condition.key for alert in waiting if alert.state == "firing" and not alert.is_repeat}
        told = [
            Told(*key, known.condition.sentence, known.since, known.told_at)
            for key, known in self._known.items()
            if known.was_told and key not in untold
        ]
        ends = {
            alert.condition.key: Told(*alert.condition.key, alert.condition.sentence, alert.since, alert.at)
            for alert in waiting
            if alert.state == "resolved" and alert.condition.key not in self._known
        }
        return [*told, *ends.values()]

    def recall(self, told: Iterable[Told], now: int, now_s: float) -> None:
        """What the node's last run kept, before the first step."""
        for one in told:
            # The wall clock may have been set meanwhile.
            ago_s = min(max(0.0, (now - one.told_at) / 1000), self._repeat_s)
            condition = Condition(one.kind, one.about, one.sentence)
            began_s = now_s - self._after_s
            known = _Known(condition, one.since, began_s, now_s, now_s - ago_s, one.told_at, was_told=True)
            self._known[condition.key] = known

    def _alert(self, state: str, known: _Known, now: int) -> Alert:
        held_back, self._held_back = self._held_back, 0
        is_repeat = state == "firing" and known.was_told
        return Alert(state, self._node, known.condition, known.since, now, is_repeat, held_back)

    def _may_send(self) -> bool:
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def told(self) -> list[dict[str, Any]]:
        """The conditions that are known, for ``trishula alert list``."""
        return [
            {
                "kind": known.condition.kind,
                "about": known.condition.about,
                "sentence": known.condition.sentence,
                "since": known.since,
                "notified": known.was_told,
            }
            for known in self._known.values()
        ]
