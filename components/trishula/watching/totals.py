"""What happened on a bus in some stretch of time, as figures that add up: of minutes to hours, of nodes to a bus.

Durations are sketches (:mod:`.sketches`), so that quantiles of the sum can be told as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trishula.watching.sketches import Sketch, SketchInvalid

__all__ = ["COUNTS", "SKETCHES", "SPANS", "Totals"]

#: The fields of :class:`Totals`, by their kinds.
SPANS = ("watched_s", "up_s", "planned_s", "present_s")
COUNTS = (
    "accepted",
    "done",
    "dead",
    "expired",
    "cancelled",
    "refused",
    "joins",
    "reconnects",
    "canaries",
    "canaries_lost",
    "link_canaries",
    "link_canaries_lost",
    "file_canaries",
    "file_canaries_lost",
)
SKETCHES = ("delivery_ms", "done_ms", "failover_ms", "connect_ms", "canary_ms", "link_canary_ms", "file_canary_ms")


@dataclass(slots=True)
class Totals:
    """The figures of a stretch of time.

    Attributes:
        watched_s: for how long the node was watched, whether it was up or not, but not what is planned.
        up_s: for how much of that it could serve.
        planned_s: for how long the node was down within declared maintenance.
        present_s: for how long agents were present, of all agents together.
        accepted: messages that were accepted; of a broadcast one for each recipient.
        done, dead, expired, cancelled: messages that ended so.
        refused: messages that were refused.
        joins: clients that joined.
        reconnects: how often an agent that was there before attached to its mailbox again.
        canaries: canaries between agents of one node that were answered, or lost.
        canaries_lost: those that were lost.
        link_canaries: canaries to agents of linked nodes that were answered, or lost; counted at the sender's node.
        link_canaries_lost: those that were lost.
        file_canaries: canaries by files between agents of one node that were answered, or lost.
        file_canaries_lost: those that were lost.
        delivery_ms: how long messages took from their acceptance until they were handed to an agent that was attached
            by then already.
        done_ms: how long messages took from their acceptance until they were done.
        failover_ms: how long agents whose node was gone were nowhere, until they attached at another one.
        connect_ms: how long clients took from the proof of their identity until their first call.
        canary_ms: how long canaries took from one agent of a node to another.
        link_canary_ms: how long canaries took to agents of linked nodes.
        file_canary_ms: how long canaries took by files, until the recipient had read them.
    """

    watched_s: float = 0.0
    up_s: float = 0.0
    planned_s: float = 0.0
    present_s: float = 0.0
    accepted: int = 0
    done: int = 0
    dead: int = 0
    expired: int = 0
    cancelled: int = 0
    refused: int = 0
    joins: int = 0
    reconnects: int = 0
    canaries: int = 0
    canaries_lost: int = 0
    link_canaries: int = 0
    link_canaries_lost: int = 0
    file_canaries: int = 0
    file_canaries_lost: int = 0
    delivery_ms: Sketch = field(default_factory=Sketch)
    done_ms: Sketch = field(default_factory=Sketch)
    failover_ms: Sketch = field(default_factory=Sketch)
    connect_ms: Sketch = field(default_factory=Sketch)
    canary_ms: Sketch = field(default_factory=Sketch)
    link_canary_ms: Sketch = field(default_factory=Sketch)
    file_canary_ms: Sketch = field(default_factory=Sketch)

    def add(self, other: Totals) -> None:
        """Count all that another stretch of time, or another node, has."""
        for name in (*SPANS, *COUNTS):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in SKETCHES:
            getattr(self, name).merge(getattr(other, name))

    @classmethod
    def sum(cls, many: Iterable[Totals]) -> Totals:
        """All of them together."""
        total = cls()
        for one in many:
            total.add(one)
        return total

    @property
    def lost(self) -> int:
        """Messages that ended without anybody having handled them: dead and expired."""
        return self.dead + self.expired

    @property
    def ended(self) -> int:
        """Messages that were handled, or lost; what its sender cancelled is neither."""
        return self.done + self.lost

    def as_map(self) -> dict[str, Any]:
        """As it travels and is kept: what is 0 or empty is left out, sketches are base64."""
        told: dict[str, Any] = {name: round(value, 3) for name in SPANS if (value := getattr(self, name))}
        told |= {name: value for name in COUNTS if (value := getattr(self, name))}
        return told | {name: sketch.text() for name in SKETCHES if (sketch := getattr(self, name)).count}

    @classmethod
    def of_map(cls, told: Mapping[str, Any]) -> Totals:
        """The totals of a map that travelled; keys of a later release are passed over.

        Raises:
            ValueError: a value is none.
        """
        found = cls()
        for name in (*SPANS, *COUNTS):
            value = told.get(name, 0)
            if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
                raise ValueError(f"{name} is no number of at least 0")
            setattr(found, name, float(value) if name in SPANS else int(value))
        for name in SKETCHES:
            text = told.get(name)
            if text is not None:
                if not isinstance(text, str):
                    raise SketchInvalid(f"{name} is no text")
                setattr(found, name, Sketch.of_text(text))
        return found
