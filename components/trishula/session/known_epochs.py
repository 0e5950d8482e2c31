"""What we know of the nodes' stores: each node has its own, with an epoch and positions that mean nothing elsewhere.

So what we know is kept for each node's URL: that another node has another store is no news, and that the same node has
another one than before is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

__all__ = ["KnownStores"]

_log = logging.getLogger("trishula")


class KnownStores:
    """The store of each node as we last knew it."""

    def __init__(self) -> None:
        # URL → epoch and position.
        self._known: dict[str, tuple[str, int]] = {}

    def restore(self, known: Mapping[str, tuple[str, int]]) -> None:
        """What an earlier run knew."""
        self._known.update(known)

    def told(self, url: str | None) -> dict[str, Any]:
        """What we know of the store there, as it is told to the node."""
        known = None if url is None else self._known.get(url)
        return {} if known is None else {"epoch": known[0], "position": known[1]}

    def met(self, url: str, node: str, epoch: str, position: int, told: bool) -> bool:
        """How far a node's store is; whether it is another store than the one we knew there, or is ``told`` to be.

        A node tells it of the same epoch, too, if its store is behind what we have seen of it: an old copy.
        """
        known = self._known.get(url)
        self._known[url] = epoch, position
        if known is None or not (told or known[0] != epoch):
            return False
        _log.warning(
            "The node%s at %s has another store than before (epoch %s, was %s): what only the old one had is "
            "gone; what has no receipt is offered again",
            f" {node}" if node else "",
            url,
            epoch,
            known[0],
        )
        return True
