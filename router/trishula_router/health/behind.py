"""For how long a node has lacked much of what its peers have. Policy, no I/O.

A node that copies a busy peer lacks a few records at any moment. One that was away lacks thousands, and for as long as
it copies them an agent that comes here finds its mailbox as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Behind"]

#: So many records are more than what is under way at full load within one beat of the peers.
_MANY_RECORDS = 1000


class Behind:
    """Since when, by peer."""

    def __init__(self) -> None:
        self._since_s: dict[str, float] = {}

    def look(self, peers: Iterable[Mapping[str, Any]], now_s: float) -> dict[str, float]:
        """For how long each peer has had many records that are not here, in seconds; peers without are left out.

        Args:
            peers: as ``node.status`` tells them.
            now_s: the clock.
        """
        lacking = [
            str(peer["node"])
            for peer in peers
            if peer["state"] == "up" and (peer["to_copy_records"] or 0) >= _MANY_RECORDS
        ]
        self._since_s = {name: self._since_s.get(name, now_s) for name in lacking}
        return {name: now_s - since_s for name, since_s in self._since_s.items()}
