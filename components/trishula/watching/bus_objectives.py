"""The objectives of a whole bus, out of what its nodes say of theirs. Policy only.

Counts and sketches add up. What becomes of the nodes' times, :mod:`.availability` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trishula.watching.availability import NodeTime, availability, told_time
from trishula.watching.objectives import NAMES, WINDOWS_S, Objectives, Verdict, judge
from trishula.watching.outages import length_ms
from trishula.watching.totals import Totals

__all__ = ["BusObjectives", "merge"]

#: Of an answer of ``trishula.node.objectives``.
Answer = Mapping[str, Any]


@dataclass(slots=True)
class BusObjectives:
    """How a bus keeps its objectives.

    Attributes:
        nodes: whose answers these are.
        targets: the first node's.
        totals: of each window.
        verdicts: of each objective, by window.
        maintenance: what was declared, each with the ``node``.
        triggers: what fires, each with the ``node``.
        canaries: each pair's last ones, each with the ``node``; those with losses first, then the slowest.
        canaries_unmeasured: ``{node, peer}`` of each link over which none are sent, because the peer knows none.
        not_asked: ``{node, known_until, stopped_at}`` of each node that did not answer: until when anything is known of
            it, ms; ``None``: until now. ``stopped_at`` is when it stopped in order, if it did.
    """

    nodes: list[str]
    targets: Objectives
    totals: dict[str, Totals]
    verdicts: dict[str, dict[str, Verdict]]
    maintenance: list[dict[str, Any]] = field(default_factory=list)
    triggers: list[dict[str, Any]] = field(default_factory=list)
    canaries: list[dict[str, Any]] = field(default_factory=list)
    canaries_unmeasured: list[dict[str, Any]] = field(default_factory=list)
    not_asked: list[dict[str, Any]] = field(default_factory=list)

    def as_map(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "nodes": self.nodes,
            "targets": self.targets.as_map(),
            "verdicts": {
                name: {window: one.as_map() for window, one in of_windows.items()}
                for name, of_windows in self.verdicts.items()
            },
            "windows": {window: totals.as_map() for window, totals in self.totals.items()},
            "maintenance": self.maintenance,
            "triggers": self.triggers,
            "canaries": self.canaries,
            "canaries_unmeasured": self.canaries_unmeasured,
            "not_asked": self.not_asked,
        }


def merge(answers: Sequence[Answer], others: Mapping[str, NodeTime] | None = None) -> BusObjectives:
    """The objectives of the bus whose nodes answered; at least one did.

    Args:
        answers: what they said.
        others: what is known of the time of those that did not answer, by their names.

    Raises:
        ValueError: an answer is none.
    """
    targets = Objectives.of_map(answers[0]["targets"])
    times = [told_time(answer) for answer in answers]
    now = max(int(answer["now"]) for answer in answers)
    others = others or {}
    times += others.values()
    totals = {}
    for window in WINDOWS_S:
        of_nodes = [Totals.of_map(answer["windows"].get(window, {})) for answer in answers]
        totals[window] = Totals.sum(of_nodes)
        _put_times(totals[window], times, now, WINDOWS_S[window])
    verdicts = {
        name: {window: judge(name, targets, totals[window], WINDOWS_S[window]) for window in WINDOWS_S}
        for name in NAMES
    }
    return BusObjectives(
        [str(answer["node"]) for answer in answers],
        targets,
        totals,
        verdicts,
        [{"node": answer["node"], **one} for answer in answers for one in answer.get("maintenance", ())],
        [{"node": answer["node"], **one} for answer in answers for one in answer.get("triggers", ())],
        sorted(
            # A node of the release before tells none.
            ({"node": answer["node"], **one} for answer in answers for one in answer.get("canaries", ())),
            key=lambda one: (-one["lost"], -(one["p99_ms"] or 0)),
        ),
        [
            {"node": answer["node"], "peer": peer}
            for answer in answers
            for peer in answer.get("canaries_unmeasured", ())
        ],
        [
            {
                "node": name,
                "known_until": one.until,
                "stopped_at": next((begin for begin, end in one.down if end >= now), None),
            }
            for name, one in sorted(others.items())
        ],
    )


def _put_times(totals: Totals, times: Sequence[NodeTime], now: int, window_s: float) -> None:
    """Make of the nodes' times the bus's."""
    found = availability(times, now - round(window_s * 1000), now)
    totals.planned_s = length_ms(found.planned) / 1000
    totals.watched_s = found.watched_ms / 1000
    totals.up_s = (found.watched_ms - found.down_ms) / 1000
