"""The check of a node's mirrors: *degraded* where one is far behind; that turns nobody away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trishula.contract.units import show_duration
from trishula_router.health.report import Check

__all__ = ["mirror_check"]


def mirror_check(mirrors: Sequence[Mapping[str, Any]], bound_s: float) -> Check:
    """Whether the mirrors keep up.

    Args:
        mirrors: as ``node.status`` tells them.
        bound_s: so old may the oldest record be that one has not taken.
    """
    figures = {
        "lag_records": max((one["lag_records"] for one in mirrors), default=0),
        "lag_s": max((one["lag_s"] for one in mirrors), default=0.0),
    }
    late = [one for one in mirrors if one["lag_s"] > bound_s]
    reason = "; ".join(
        f"the mirror to {one['where']} lacks {one['lag_records']} records, the oldest of "
        f"{show_duration(one['lag_s'])} ago: {one['fault'] or 'it is slower than records come'}"
        for one in late
    )
    return Check("mirror", True, reason, degraded=bool(late), figures=figures)
