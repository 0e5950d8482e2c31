"""The outcome of a check, and its states, whose numbers are those of Nagios and the exit codes of ``trishula check``.

============  ====  =====================================================================================
``ok``        0     what was looked at is as it should be
``warning``   1     beyond the first threshold
``critical``  2     beyond the second threshold, or the node can't be reached, or doesn't answer now
``unknown``   3     it could not be looked at: no token, no right, or a node of a release that can't tell
============  ====  =====================================================================================

A node that can't be reached is critical, and not unknown: what is watched doesn't serve whoever asks, and many monitors
wake nobody for what is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

__all__ = ["Bounds", "Figure", "Level", "Outcome", "worst"]


class Level(IntEnum):
    """How bad it is; the numbers are Nagios' own."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3

    @property
    def word(self) -> str:
        """As it is printed."""
        return self.name.lower()


#: From the best to the worst: a fault that is known outweighs one that may be there.
_ORDER = (Level.OK, Level.UNKNOWN, Level.WARNING, Level.CRITICAL)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Two thresholds, in the unit of the figure that they are for.

    Attributes:
        warn: from here on it is a warning.
        crit: from here on it is critical.
        is_floor: whether what falls to a threshold is bad, and not what rises to it.
    """

    warn: float
    crit: float
    is_floor: bool = False

    def level(self, value: float) -> Level:
        """The state of a value; one that is equal to a threshold has reached it."""
        if self.is_floor:
            return Level.CRITICAL if value <= self.crit else Level.WARNING if value <= self.warn else Level.OK
        return Level.CRITICAL if value >= self.crit else Level.WARNING if value >= self.warn else Level.OK


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that a check saw.

    Attributes:
        name: with its unit in it, as Prometheus wants it: ``mailbox_oldest_seconds``.
        value: in that unit.
        help: what it is, in one sentence.
        bounds: what it was held against; ``None`` if it was not.
        labels: whose it is, such as ``{"peer": "rushabdev"}``.
    """

    name: str
    value: float
    help: str
    bounds: Bounds | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check found.

    Attributes:
        check: its name, that of the subcommand.
        level: the state.
        sentence: what was found; somebody else's text in it is on one line.
        figures: what was measured.
    """

    check: str
    level: Level
    sentence: str
    figures: tuple[Figure, ...] = ()

    def as_map(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "check": self.check,
            "state": self.level.word,
            "sentence": self.sentence,
            "figures": [
                {"name": one.name, "value": one.value, "labels": dict(one.labels)}
                | ({} if one.bounds is None else {"warn": one.bounds.warn, "crit": one.bounds.crit})
                for one in self.figures
            ],
        }


def worst(levels: Iterable[Level]) -> Level:
    """The worst of some states; ``OK`` of none. Critical outweighs warning, and warning outweighs unknown."""
    return max(levels, key=_ORDER.index, default=Level.OK)
