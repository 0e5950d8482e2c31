"""Objectives: what a bus promises in figures, and how far a window of time kept it.

Each objective lets a part of something be bad: of the time that a node is down, of the messages that are lost, of the
messages that take longer than a bound. That part is its *error budget*. The *burn rate* is how fast the budget is used:
1 uses it up just when the window is over, 10 in a tenth of the window. Policy only.

================  ===================================================================================================
``availability``  the part of the time that the node could serve, planned maintenance apart
``p50``, ``p99``  of how long messages took from their acceptance until they were handed to an agent that was there
``loss``          dead and expired messages, of all that ended but were not cancelled
``failover``      p99 of how long an agent was nowhere whose node was gone
``connect``       p99 of how long a client took from the proof of its identity until its first call
``reconnects``    how often an agent attached to its mailbox again, for each agent and day
================  ===================================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trishula.watching.totals import Totals

__all__ = ["NAMES", "WINDOWS_S", "Objectives", "Verdict", "judge"]

_DAY_S = 86_400.0

#: The windows, by the names under which they are told.
WINDOWS_S: Mapping[str, float] = {
    "5m": 300.0,
    "1h": 3600.0,
    "24h": _DAY_S,
    "7d": 7 * _DAY_S,
    "30d": 30 * _DAY_S,
}
NAMES = ("availability", "p50", "p99", "loss", "failover", "connect", "reconnects")

#: Objective → which sketch, and the part of its values that must be below the bound.
_QUANTILES = {
    "p50": ("delivery_ms", 0.5),
    "p99": ("delivery_ms", 0.99),
    "failover": ("failover_ms", 0.99),
    "connect": ("connect_ms", 0.99),
}


@dataclass(frozen=True, slots=True)
class Objectives:
    """The targets.

    Attributes:
        availability: the least part of the time.
        p50_ms, p99_ms, failover_ms, connect_ms: bounds, in ms.
        loss: the most that may be lost, as a part.
        reconnects: the most for each agent and day.
    """

    availability: float = 0.99
    p50_ms: float = 50.0
    p99_ms: float = 100.0
    loss: float = 0.001
    failover_ms: float = 5000.0
    connect_ms: float = 500.0
    reconnects: float = 24.0

    def target(self, name: str) -> float:
        """The target of one, by its name."""
        return float(getattr(self, name if name in ("availability", "loss", "reconnects") else f"{name}_ms"))

    def as_map(self) -> dict[str, float]:
        """By name, as they travel: ms, parts, and a number."""
        return {name: self.target(name) for name in NAMES}

    @classmethod
    def of_map(cls, told: Mapping[str, Any]) -> Objectives:
        """From a map that travelled; what isn't there, or is no number, is as by default."""
        plain = cls()
        values = {
            name: float(value)
            for name in NAMES
            if isinstance(value := told.get(name, plain.target(name)), int | float) and value > 0
        }
        keys = {name: name if hasattr(plain, name) else f"{name}_ms" for name in NAMES}
        return cls(**{keys[name]: value for name, value in values.items()})


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an objective stands in a window.

    Attributes:
        value: the figure, in the target's unit; ``None`` if nothing was measured.
        budget: the part of the error budget that is left; below 0 it is overdrawn; ``None`` as above.
        burn: the burn rate; ``None`` as above.
        is_proven: whether so much was measured that a single bad one would not use up the budget.
    """

    value: float | None
    budget: float | None
    burn: float | None
    is_proven: bool = True

    @property
    def is_met(self) -> bool:
        """Whether the objective is kept, as far as that is proven."""
        return self.burn is None or self.burn <= 1.0 or not self.is_proven

    def as_map(self) -> dict[str, Any]:
        """As it travels."""
        told = {"value": self.value, "budget": self.budget, "burn": self.burn}
        rounded = {name: None if figure is None else round(figure, 6) for name, figure in told.items()}
        return {**rounded, "proven": self.is_proven}


_NOTHING = Verdict(None, None, None)


def judge(name: str, targets: Objectives, totals: Totals, window_s: float) -> Verdict:
    """How one objective stands.

    Args:
        name: which one.
        targets: all of them.
        totals: what happened in the window.
        window_s: how long it is; a node that is younger has its whole budget for it all the same.
    """
    target = targets.target(name)
    if name == "availability":
        if totals.watched_s <= 0:
            return _NOTHING
        down_s = max(0.0, totals.watched_s - totals.up_s)
        allowed = max(1.0 - target, 1e-9)
        spent = down_s / (allowed * max(window_s, totals.watched_s))
        return Verdict(1.0 - down_s / totals.watched_s, 1.0 - spent, down_s / totals.watched_s / allowed)
    if name == "loss":
        return _of_parts(totals.lost, totals.ended, target)
    if name == "reconnects":
        if totals.present_s <= 0:
            return _NOTHING
        # Of less than an hour, one reconnect would be counted for hundreds a day.
        days = max(totals.present_s, 3600.0) / _DAY_S
        value = totals.reconnects / days
        # An agent of a young bus whose node was restarted once is no used-up budget.
        is_proven = target * days > 1.0 or totals.reconnects > 1
        return Verdict(value, 1.0 - value / target, value / target, is_proven)
    sketch_name, part = _QUANTILES[name]
    sketch = getattr(totals, sketch_name)
    found = _of_parts(sketch.above(target), sketch.count, 1.0 - part)
    return Verdict(sketch.quantile(part), found.budget, found.burn, found.is_proven)


def _of_parts(bad: int, of: int, allowed: float) -> Verdict:
    if not of:
        return _NOTHING
    burn = bad / of / allowed
    return Verdict(bad / of, 1.0 - burn, burn, is_proven=of * allowed >= 1.0 or bad > 1)
