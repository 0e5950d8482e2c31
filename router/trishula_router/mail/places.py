"""Where a message was accepted, as other nodes can name it too."""

from __future__ import annotations

from trishula_router.store.interface import Store
from trishula_router.store.journal import ORIGIN_SHIFT, is_own

__all__ = ["place_of"]


def place_of(store: Store, node: str, position: int) -> tuple[str, str, int]:
    """(Node, epoch of its store, sequence) of a position in the store of a node."""
    if is_own(position):
        return node, store.epoch, position
    writer, sequence = store.place(position)
    epoch = next(one.epoch for one in store.origins() if one.number == position >> ORIGIN_SHIFT)
    return writer, epoch, sequence
