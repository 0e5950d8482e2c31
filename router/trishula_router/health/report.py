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
        reason: what is wrong and what to do, as a sentence; "" if nothing is.
        degraded: whether something is wrong, and the node serves all the same.
        figures: what it went by, with units in their names.
    """

    check: str
    ok: bool
    reason: str = ""
    degraded: bool = False
    figures: Mapping[str, Any] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """As it travels."""
        flag = {"degraded": True} if self.degraded else {}
        return {"check": self.check, "ok": self.ok, **flag, "reason": self.reason, **self.figures}


def told(node: str, version: str, checks: Iterable[Check]) -> dict[str, Any]:
    """``{ready, node, version, checks}``: ready if every check is ok."""
    found = list(checks)
    return {
        "ready": all(one.ok for one in found),
        "node": node,
        "version": version,
        "checks": [one.told() for one in found],
    }
