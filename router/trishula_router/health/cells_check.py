"""The check of a node's cell: *degraded* where mail for other cells waits for long, or the reader may be dead.

It turns nobody away: what is sent is accepted all the same, and waits here durably.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trishula.contract.units import show_duration
from trishula_router.health.report import Check

__all__ = ["cells_check"]


def cells_check(told: Mapping[str, Any], bound_s: float) -> Check:
    """Whether the road to other cells works both ways.

    Args:
        told: as ``node.status`` tells it.
        bound_s: so long may a message wait, and so old may the canary be that came back last.
    """
    canary_s = told["canary_s"] or 0.0
    figures = {"waiting_messages": told["waiting_messages"], "waiting_s": told["waiting_s"], "canary_s": canary_s}
    reasons = []
    if told["waiting_s"] > bound_s:
        reasons.append(
            f"{told['waiting_messages']} messages are not known to have reached their cells, the first of them for "
            f"{show_duration(told['waiting_s'])}"
        )
    if canary_s > bound_s:
        reasons.append(
            f"what the cell {told['cell']} puts on its own stream has not come back for {show_duration(canary_s)}, so "
            "what other cells send does not come either"
        )
    why = f": {told['fault']}" if reasons and told["fault"] else ""
    return Check("cells", True, "; ".join(reasons) + why, degraded=bool(reasons), figures=figures)
