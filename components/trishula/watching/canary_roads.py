"""What the canaries of each road came to, out of totals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trishula.watching.sketches import Sketch
from trishula.watching.totals import Totals

__all__ = ["CanaryRoad", "canary_roads"]


@dataclass(frozen=True, slots=True)
class CanaryRoad:
    """The canaries of one road.

    Attributes:
        road: ``live``, ``link`` or ``files``.
        words: the same for people.
        canaries: that were answered, or lost; 0: nothing was measured.
        lost: those that were lost.
        one_way_ms: how long those took that were answered.
    """

    road: str
    words: str
    canaries: int
    lost: int
    one_way_ms: Sketch

    def as_map(self) -> dict[str, Any]:
        """As JSON has it, durations in whole ms; ``null`` for what nothing was measured of."""
        p50, p99 = (self.one_way_ms.quantile(part) for part in (0.5, 0.99))
        return {
            "road": self.road,
            "canaries": self.canaries,
            "lost": self.lost,
            "p50_ms": None if p50 is None else round(p50),
            "p99_ms": None if p99 is None else round(p99),
        }


def canary_roads(totals: Totals) -> list[CanaryRoad]:
    """Each road, also those of which nothing was measured."""
    one = totals
    return [
        CanaryRoad("live", "between agents of a node", one.canaries, one.canaries_lost, one.canary_ms),
        CanaryRoad("link", "over links between nodes", one.link_canaries, one.link_canaries_lost, one.link_canary_ms),
        CanaryRoad("files", "by files between folders", one.file_canaries, one.file_canaries_lost, one.file_canary_ms),
    ]
