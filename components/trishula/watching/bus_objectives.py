"""The objectives of a whole bus, out of what its nodes say of theirs. Policy only.

Counts and sketches add up. A bus is down while all of its nodes are: agents go from one to the other. What a node can't
say, because it did not exist yet, counts as down, so that it hides nothing of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trishula.watching.objectives import NAMES, WINDOWS_S, Objectives, Verdict, judge
from trishula.watching.outages import Stretch, common, length_ms, within, without
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
    """

    nodes: list[str]
    targets: Objectives
    totals: dict[str, Totals]
    verdicts: dict[str, dict[str, Verdict]]
    maintenance: list[dict[str, Any]] = field(default_factory=list)
    triggers: list[dict[str, Any]] = field(default_factory=list)

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
        }


def merge(answers: Sequence[Answer]) -> BusObjectives:
    """The objectives of the bus whose nodes answered; at least one did.

    Raises:
        ValueError: an answer is none.
    """
    targets = Objectives.of_map(answers[0]["targets"])
    totals = {}
    for window in WINDOWS_S:
        of_nodes = [Totals.of_map(answer["windows"].get(window, {})) for answer in answers]
        totals[window] = Totals.sum(of_nodes)
        if len(answers) > 1:
            _together(totals[window], answers, of_nodes, WINDOWS_S[window])
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
    )


def _together(totals: Totals, answers: Sequence[Answer], of_nodes: Sequence[Totals], window_s: float) -> None:
    """Make of the nodes' times the bus's."""
    now = max(int(answer["now"]) for answer in answers)
    known_s = [min(window_s, one.watched_s + one.planned_s) for one in of_nodes]
    begin = now - round(max(known_s) * 1000)
    down: list[list[Stretch]] = []
    planned: list[list[Stretch]] = []
    for answer, its_s in zip(answers, known_s, strict=True):
        unknown = (begin, now - round(its_s * 1000))
        down.append(within([*_stretches(answer["outages"]), unknown], begin, now))
        declared = [(int(one["begin"]), int(one["until"])) for one in answer.get("maintenance", ())]
        # Down, and not by accident.
        planned.append(without(down[-1], without(down[-1], declared)))
    planned_ms = length_ms(common(planned))
    down_ms = length_ms(without(common(down), common(planned)))
    totals.planned_s = planned_ms / 1000
    totals.watched_s = (now - begin - planned_ms) / 1000
    totals.up_s = totals.watched_s - down_ms / 1000


def _stretches(told: Any) -> list[Stretch]:
    return [(int(begin), int(end)) for begin, end in told]
