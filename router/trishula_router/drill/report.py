"""What a drill found: counts of rounds, messages and faults, and the promises that were broken."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from trishula_router.drill.checker import Verdict

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
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.duration_s += other.duration_s
        self.faults_by_kind = dict(Counter(self.faults_by_kind) + Counter(other.faults_by_kind))
        self.ends = dict(Counter(self.ends) + Counter(other.ends))
        self.refused = dict(Counter(self.refused) + Counter(other.refused))
        self.violations += other.violations

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
