"""Quantiles of what was measured, exactly: all values are kept, 8 bytes each."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["Spread", "quantile", "spans", "spread_of"]

#: How a spread is told: of no values all but ``messages`` are ``None``.
Spread = dict[str, Any]


def spread_of(values_ms: Iterable[int]) -> Spread:
    """How values lie: ``{messages, p50_ms, p90_ms, p99_ms, max_ms}``; a quantile is one of the values.

    Args:
        values_ms: how long each message took.
    """
    ordered = sorted(values_ms)
    return {
        "messages": len(ordered),
        "p50_ms": quantile(ordered, 0.5),
        "p90_ms": quantile(ordered, 0.9),
        "p99_ms": quantile(ordered, 0.99),
        "max_ms": ordered[-1] if ordered else None,
    }


def spans() -> array[int]:
    """Where values are gathered."""
    return array("q")


def quantile(ordered: Sequence[int], share: float) -> int | None:
    """The smallest value that at least this share of the values, in their order, doesn't exceed; ``None`` of none."""
    if not ordered:
        return None
    # Rounded up without floats' dust: 0.99 of 100 values is the 99th.
    rank = -(-round(share * 1000) * len(ordered) // 1000)
    return ordered[max(1, rank) - 1]
