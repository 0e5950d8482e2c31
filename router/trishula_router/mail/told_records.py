"""Records of the journals as they are told to whoever asks: by the node that wrote one, and its number there.

A record's ``at`` is what its node wrote, by its own clock. Where that clock is known to differ from this node's now,
the record says by how much (``clock_ahead_ms``); records of several nodes are ordered by that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trishula_router.clocks.peer_clocks import TOLERATED_MS
from trishula_router.store.interface import Store
from trishula_router.store.journal import Record

__all__ = ["ToldRecords", "here_at"]


class ToldRecords:
    """Tells records.

    Args:
        node: the node's name.
        store: with the node's own journal, and copies of others.
        ahead_ms: by how much the clock of a node is ahead of this one's; ``None`` if that isn't known.
    """

    def __init__(self, node: str, store: Store, ahead_ms: Callable[[str], int | None]) -> None:
        self._node = node
        self._store = store
        self._ahead_ms = ahead_ms
        #: (of the record that tells it, by how much) each time that this node's clock was set since its start.
        self._set_by: list[tuple[int, int]] = []
        self._since = store.high_water

    def follow_clock(self, by_ms: int, position: int) -> None:
        """The node's clock was set: it is ahead by so much behind the record at a position."""
        self._set_by.append((position, by_ms))

    def told(self, record: Record, facts: dict[str, Any]) -> dict[str, Any]:
        """A record with these facts, as it travels."""
        node, sequence = self._store.place(record.position)
        told = {"seq": sequence, "node": node or self._node, "at": record.at, "kind": record.kind}
        # In this order: a peer's facts may not say that another node wrote them.
        told = {**told, **facts, **told}
        ahead_ms = self._ahead_ms(node) if node else self._was_ahead_ms(record.position)
        return told if ahead_ms is None or abs(ahead_ms) < TOLERATED_MS else {**told, "clock_ahead_ms": ahead_ms}

    def _was_ahead_ms(self, position: int) -> int:
        """By how much this node's clock was ahead of what it is now when it wrote a record, in this run of the node."""
        if position <= self._since:
            return 0
        return -sum(by_ms for at, by_ms in self._set_by if position < at)


def here_at(told: dict[str, Any]) -> int:
    """When a record was written, by this node's clock as far as the difference is known."""
    return int(told["at"]) - int(told.get("clock_ahead_ms", 0))
