"""The outcome of one check, and of all: the map that ``/ready`` and ``trishula.node.ready`` answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Check", "told"]


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        check: its name.
        ok: whether the node can serve as far as this goes.
        refused: whether, where it is not ok, that is because the store answered and refused: no restart mends that.
        reason: what is wrong and what to do, as a sentence; "" if nothing is.
        degraded: whether something is wrong, and the node serves all the same.
        figures: what it went by, with units in their names.
    """

    check: str
    ok: bool
    reason: str = ""
    degraded: bool = False
    refused: bool = False
    figures: Mapping[str, Any] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """As it travels."""
        flags = {name: True for name, is_so in (("degraded", self.degraded), ("refused", self.refused)) if is_so}
        return {"check": self.check, "ok": self.ok, **flags, "reason": self.reason, **self.figures}


def told(node: str, version: str, checks: Iterable[Check]) -> dict[str, Any]:
    """``{ready, node, version, checks}``: ready if every check is ok."""
    found = list(checks)
    return {
        "ready": all(one.ok for one in found),
        "node": node,
        "version": version,
        "checks": [one.told() for one in found],
    }
