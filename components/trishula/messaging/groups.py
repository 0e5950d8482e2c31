"""Several messages that are sent together, with one awaitable for all their receipts."""

from __future__ import annotations

from typing import Any

from trishula.contract.receipts import Receipt
from trishula.errors import NotAllSent, TrishulaError
from trishula.runtime.pending import Pending

__all__ = ["Group", "Slot"]


class Group:
    """The outcomes of a group of messages, until the last one is there.

    Args:
        count: how many messages they are.
        outcome: gets the receipts, in the order of the messages; or :class:`~trishula.errors.NotAllSent`, if any of the
            messages has an error.
    """

    __slots__ = ("left", "outcome", "outcomes")

    def __init__(self, count: int, outcome: Pending[list[Receipt]]) -> None:
        self.left = count
        self.outcome = outcome
        self.outcomes: list[Any] = [None] * count


class Slot:
    """Where the outcome of one message of a group goes: called with it; the first outcome counts."""

    __slots__ = ("_group", "_index")

    def __init__(self, group: Group, index: int) -> None:
        self._group = group
        self._index = index

    @property
    def is_open(self) -> bool:
        """Whether its outcome is not there yet."""
        return self._group.outcomes[self._index] is None

    def __call__(self, outcome: Receipt | TrishulaError) -> None:
        group = self._group
        if group.outcomes[self._index] is not None:
            # It was given up before.
            return
        group.outcomes[self._index] = outcome
        group.left -= 1
        if group.left:
            return
        if any(isinstance(one, TrishulaError) for one in group.outcomes):
            group.outcome.reject(NotAllSent(group.outcomes))
        else:
            group.outcome.resolve(group.outcomes)
