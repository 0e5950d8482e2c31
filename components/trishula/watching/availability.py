"""Availability: for which part of the time a node, or a bus of nodes, could serve. ``slo`` and reports both use this.

- A node is *down* while it is not ready, while its process stands still, and while it does not run.
- A bus is down while all of its nodes are: agents go from one to the other.
- What a node is down for within declared maintenance is *planned*, and counts neither as up nor as down. Of a bus that
  is time in which all nodes were down as planned.
- Time of which nothing is known is not *watched*, and counts neither as up nor as down: a node's before it begins to
  count, and after the last sign of life of one that nobody can ask.
- A bus is up while one of its nodes at least is known to be up, and watched while one of them is. So a node counts as
  down for the bus while nothing is known of it: it hides nothing of the others, and promises nothing.

Instants are ms since the epoch. Policy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trishula.watching.outages import Stretch, common, length_ms, united, within, without
from trishula.watching.totals import Totals

__all__ = ["Availability", "NodeTime", "availability", "told_time"]


@dataclass(frozen=True, slots=True)
class NodeTime:
    """What is known of a node's time.

    Attributes:
        since: from when on it is known.
        down: when the node was down, planned or not.
        declared: when maintenance was declared.
        until: until when it is known; ``None``: until now.
    """

    since: int
    down: Sequence[Stretch] = ()
    declared: Sequence[Stretch] = ()
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Availability:
    """How a stretch of time was spent.

    Attributes:
        known_ms: for how long it is known.
        down: when nobody could be served, and that was not planned.
        planned: when nobody could be served, as planned.
    """

    known_ms: int
    down: list[Stretch] = field(default_factory=list)
    planned: list[Stretch] = field(default_factory=list)

    @property
    def watched_ms(self) -> int:
        """For how long it was watched: all that is known, and was not planned."""
        return self.known_ms - length_ms(self.planned)

    @property
    def down_ms(self) -> int:
        """For how long nobody could be served."""
        return length_ms(self.down)

    @property
    def share(self) -> float:
        """The part of the watched time in which the bus could serve; 1 of no time."""
        return 1.0 - self.down_ms / self.watched_ms if self.watched_ms > 0 else 1.0


def availability(nodes: Sequence[NodeTime], begin: int, end: int) -> Availability:
    """How a bus of some nodes spent the time between two instants; of one node: how that did."""
    begin = max(begin, min((node.since for node in nodes), default=end))
    ends = [end if node.until is None else min(end, node.until) for node in nodes]
    end = max(ends, default=end)
    if begin >= end:
        return Availability(0)
    down: list[list[Stretch]] = []
    planned: list[list[Stretch]] = []
    for node, known_until in zip(nodes, ends, strict=True):
        known = max(begin, node.since)
        its_down = united([(begin, known), *within(node.down, known, known_until), (known_until, end)])
        down.append(its_down)
        planned.append(common([its_down, node.declared]))
    all_planned = common(planned)
    return Availability(end - begin, without(common(down), all_planned), all_planned)


def told_time(answer: Mapping[str, Any], ahead_ms: int = 0) -> NodeTime:
    """What a node said of its time.

    Args:
        answer: of ``trishula.node.objectives``.
        ahead_ms: the node's clock less the one in which it is to be told.

    Raises:
        ValueError: the answer is none.
    """
    since = answer.get("watched_since")
    if since is None:
        # A node of the release before. It counts as long as it knows, up to the longest window that was asked for.
        windows = [Totals.of_map(told) for told in answer["windows"].values()]
        known_s = max((one.watched_s + one.planned_s for one in windows), default=0.0)
        since = int(answer["now"]) - round(known_s * 1000)

    def here(begin: Any, end: Any) -> Stretch:
        return int(begin) - ahead_ms, int(end) - ahead_ms

    return NodeTime(
        int(since) - ahead_ms,
        [here(begin, end) for begin, end in answer["outages"]],
        [here(one["begin"], one["until"]) for one in answer.get("maintenance", ())],
    )
