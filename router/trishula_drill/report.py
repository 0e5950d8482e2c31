"""What a drill found: counts of rounds, messages and faults, and the promises that were broken."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from trishula.tools.bench import percentile
from trishula_drill.checker import Verdict

__all__ = ["Report"]


@dataclass(slots=True)
class Report:
    """What a drill found; times in seconds.

    Attributes:
        messages: that have a receipt.
        sent: that were given to a client.
        faults: how many struck.
        faults_by_kind: likewise.
        excused: handlers that ran a second time because their process was killed before the first run was on record.
        unpromised: messages whose sender was killed before it had a receipt or a refusal.
        refused: messages that were refused for good, by the class of the error.
        violations: the sentences of the checker.
        gaps_ms: of the drill failover: from the kill of a node to a sender's first receipt from the other one.
        delay_max_ms: of the drill rolling-restart: the longest time from the sending of a message to its handler.
        accept_delay_max_ms: the same to its receipt.
        filed: of the drill fallback: files that were put away as handled.
        before_receipt: likewise: effects before any node had accepted the message, which came by a file so.
    """

    drill: str
    seed: int
    rounds: int = 0
    messages: int = 0
    sent: int = 0
    faults: int = 0
    lost: int = 0
    twice: int = 0
    excused: int = 0
    effects: int = 0
    empties: int = 0
    duration_s: float = 0.0
    faults_by_kind: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    unpromised: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    gaps_ms: list[float] = field(default_factory=list)
    delay_max_ms: float | None = None
    accept_delay_max_ms: float | None = None
    filed: int = 0
    before_receipt: int = 0

    def told(self, shown: int) -> dict[str, Any]:
        """What ``--json`` prints, with so many of the violations."""
        facts = asdict(self)
        gaps = sorted(facts.pop("gaps_ms"))
        delays = {name: facts.pop(name) for name in ("delay_max_ms", "accept_delay_max_ms")}
        filed = {name: facts.pop(name) for name in ("filed", "before_receipt")}
        facts["violations"] = self.violations[:shown]
        if self.drill == "failover":
            facts |= {"gap_p50_ms": _rounded(percentile(gaps, 0.5)), "gap_max_ms": _rounded(percentile(gaps, 1.0))}
        if self.drill == "fallback":
            facts |= filed
        if self.drill == "rolling-restart":
            facts |= {name: _rounded(delay) for name, delay in delays.items()}
        return facts

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.twice or self.violations)

    def merge(self, other: Report) -> None:
        """The report on another drill."""
        for name in (
            "rounds",
            "messages",
            "sent",
            "faults",
            "lost",
            "twice",
            "excused",
            "effects",
            "empties",
            "unpromised",
            "filed",
            "before_receipt",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.duration_s += other.duration_s
        self.faults_by_kind = dict(Counter(self.faults_by_kind) + Counter(other.faults_by_kind))
        self.ends = dict(Counter(self.ends) + Counter(other.ends))
        self.refused = dict(Counter(self.refused) + Counter(other.refused))
        self.violations += other.violations
        self.gaps_ms += other.gaps_ms
        self.delay_max_ms = _later(self.delay_max_ms, other.delay_max_ms)
        self.accept_delay_max_ms = _later(self.accept_delay_max_ms, other.accept_delay_max_ms)

    def delayed(self, accepted_ms: float, handled_ms: float) -> None:
        """The longest delays of a leg."""
        self.accept_delay_max_ms = _later(self.accept_delay_max_ms, accepted_ms)
        self.delay_max_ms = _later(self.delay_max_ms, handled_ms)

    def add(self, verdict: Verdict) -> None:
        """The verdict on a leg."""
        self.messages += verdict.receipts
        self.sent += verdict.sent
        self.lost += verdict.lost
        self.twice += verdict.twice
        self.excused += verdict.excused
        self.effects += verdict.effects
        self.empties += verdict.empties
        self.unpromised += verdict.unpromised
        self.ends = dict(Counter(self.ends) + Counter(verdict.ends))
        self.refused = dict(Counter(self.refused) + Counter(verdict.refused))
        self.violations += [f"{violation.kind}: {violation.sentence}" for violation in verdict.violations]


def _later(one_ms: float | None, other_ms: float | None) -> float | None:
    return max((delay_ms for delay_ms in (one_ms, other_ms) if delay_ms is not None), default=None)


def _rounded(value_ms: float | None) -> float | None:
    return None if value_ms is None or math.isnan(value_ms) else round(value_ms, 1)
