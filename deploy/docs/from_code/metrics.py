"""The table of a node's metrics: the families that a scrape is written from."""

from __future__ import annotations

from deploy.docs.from_code.rst import escaped, list_table

from trishula_router.metrics.families import FAMILIES

__all__ = ["table"]


def table() -> str:
    """Name, kind, labels, meaning."""
    rows = [
        (
            f"``{family.name}``",
            family.kind,
            ", ".join(f"``{label}``" for label in family.labels),
            escaped(family.help),
        )
        for family in FAMILIES.values()
    ]
    return list_table(("Metric", "Kind", "Labels", "Meaning"), rows, (34, 10, 12, 44))
