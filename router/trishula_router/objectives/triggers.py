"""Triggers: when things go so badly that the bus turns its fallback on by itself, and when they are well again.

============  ==========================================================  ======================================
trigger       fires                                                       clears
============  ==========================================================  ======================================
``uptime``    the node was down for more than 5 % of the last 24 h        below 4 %
``p99``       p99 above 200 ms in each of the last 5 minutes              below 150 ms in each of 5 minutes
``loss``      more than 1 % of the last hour's messages were lost, for    below 0.5 %, for as long
              5 minutes
``away``      an agent that was there within the last 24 h and did not    it is back, left, or is gone for so long
              leave by itself is away for more than 1 h                   that it must have been switched off
============  ==========================================================  ======================================

The lengths of time are the usual ones of :class:`.ObjectiveOptions`; a step is the minute.

Each fires beyond one bound and clears below another, so that what lies between turns nothing on and off all the time.
Few messages prove nothing: a step counts with :data:`LEAST_MESSAGES`, the hour with ten times as many. Planned
maintenance is no downtime.

The fallback is on while any trigger fires. What an operator says counts more: an ``off`` holds until the triggers that
fired by then have cleared, and an ``on`` is not ended by a trigger that clears. Instants are ms. Policy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trishula_router.settings.objectives import ObjectiveOptions

__all__ = ["LEAST_MESSAGES", "STEPS", "TriggerFacts", "Triggers"]

_DAY_MS = 86_400_000
#: So many steps in a row are looked at.
STEPS = 5
#: With fewer messages a step says nothing.
LEAST_MESSAGES = 20

_UPTIME, _UPTIME_CLEAR = 0.05, 0.04
_P99_MS, _P99_CLEAR_MS = 200.0, 150.0
_LOSS, _LOSS_CLEAR = 0.01, 0.005
#: Agents that are named in a reason.
_NAMED = 3


@dataclass(frozen=True, slots=True)
class TriggerFacts:
    """What the triggers look at.

    Attributes:
        down_s: for how long the node was down in the window of ``uptime``, planned maintenance apart.
        steps: of each of the last whole steps, the newest last: how many messages were handed over, and their p99
            in ms.
        lost: messages that were lost in the window of ``loss``.
        ended: messages that ended in it.
        away: agents that are away and did not leave by themselves → since when.
    """

    down_s: float = 0.0
    steps: Sequence[tuple[int, float]] = ()
    lost: int = 0
    ended: int = 0
    away: Mapping[str, int] = field(default_factory=dict)


class Triggers:
    """See the module's docstring.

    Args:
        options: which triggers never fire, and for how long the others look back.

    Attributes:
        firing: trigger → why it fires, one sentence.
    """

    def __init__(self, options: ObjectiveOptions) -> None:
        self._options = options
        self.firing: dict[str, str] = {}
        self._overruled: set[str] = set()
        self._since: dict[str, int] = {}

    def step(self, facts: TriggerFacts, now: int) -> None:
        """Look which triggers fire now; to be called about once a step."""
        judged = {
            "uptime": self._uptime(facts),
            "p99": self._p99(facts),
            "loss": self._loss(facts, now),
            "away": self._away(facts, now),
        }
        for name, why in judged.items():
            if why is None or name in self._options.triggers_off:
                self.firing.pop(name, None)
                self._overruled.discard(name)
            else:
                self.firing[name] = why

    def overrule(self) -> None:
        """An operator turned the fallback off: what fires now is known, and no reason to turn it on again."""
        self._overruled = set(self.firing)

    @property
    def reason(self) -> str | None:
        """Why the fallback is to be on, in one sentence; ``None`` if it needn't be."""
        told = [why for name, why in self.firing.items() if name not in self._overruled]
        return "; ".join(told) or None

    def _uptime(self, facts: TriggerFacts) -> str | None:
        bound = _UPTIME_CLEAR if "uptime" in self.firing else _UPTIME
        window_s = self._options.uptime_window_s
        part = facts.down_s / window_s
        return f"the node was down for {100 * part:.1f} % of the last {_span(window_s)}" if part > bound else None

    def _p99(self, facts: TriggerFacts) -> str | None:
        bound_ms = _P99_CLEAR_MS if "p99" in self.firing else _P99_MS
        steps = list(facts.steps)[-STEPS:]
        slow = [p99_ms for count, p99_ms in steps if count >= LEAST_MESSAGES and p99_ms > bound_ms]
        # Five slow ones to fire, five others to clear.
        if len(slow) < (1 if "p99" in self.firing else STEPS):
            return None
        span = _span(STEPS * self._options.step_ms / 1000)
        return f"p99 was up to {max(slow):.0f} ms in the last {span}, and {_P99_MS:.0f} ms is the bound"

    def _loss(self, facts: TriggerFacts, now: int) -> str | None:
        fires = "loss" in self.firing
        part = facts.lost / facts.ended if facts.ended >= 10 * LEAST_MESSAGES else 0.0
        is_other = part < _LOSS_CLEAR if fires else part > _LOSS
        if self._lasts("loss", is_other, now):
            fires = not fires
            self._since.pop("loss", None)
        if not fires:
            return None
        span = _span(self._options.loss_window_s)
        lost = f"({facts.lost} of {facts.ended})"
        return f"{100 * part:.1f} % of the messages of the last {span} ended dead or expired {lost}"

    def _lasts(self, what: str, is_so: bool, now: int) -> bool:
        if not is_so:
            self._since.pop(what, None)
            return False
        return now - self._since.setdefault(what, now) >= STEPS * self._options.step_ms

    def _away(self, facts: TriggerFacts, now: int) -> str | None:
        bound_ms = self._options.away_ms
        missing = sorted(agent for agent, since in facts.away.items() if bound_ms < now - since <= _DAY_MS)
        if not missing:
            return None
        more = len(missing) - _NAMED
        names = ", ".join(missing[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        return f"{names} could not be reached for more than {_span(bound_ms / 1000)}"


def _span(seconds: float) -> str:
    """A length of time for a sentence, in the largest unit that fits."""
    for unit, unit_s in (("h", 3600), ("min", 60)):
        if seconds >= unit_s and seconds % unit_s == 0:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:g} s"
