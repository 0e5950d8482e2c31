"""What a node accepted with fewer copies than its sender needs: entries of an outbox that have a receipt. No I/O.

The sender of such a message has the receipt and waits no more. The entry is *under-replicated*: the outbox offers it
again to each node that the client meets, until the entry has its copies or the message is settled. Two nodes that each
have the message are two copies. An entry that is offered again insists on no number of copies any more: a lone node,
which would have to refuse it then, may take it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from trishula.contract.addresses import BROADCAST
from trishula.contract.receipts import Receipt
from trishula.messaging.entries import Entry

__all__ = ["UnderReplicated", "is_short_of_copies"]


def is_short_of_copies(entry: Entry, receipt: Receipt, enough: int) -> bool:
    """Whether a message has fewer than ``enough`` copies, by its newest receipt and by the nodes that have it."""
    return max(receipt.copies or 0, len(entry.nodes)) < enough


class UnderReplicated:
    """The under-replicated entries; see the module's docstring.

    Args:
        let_go: told of each entry that is over, because it has its copies or is settled.

    Attributes:
        by_number: an entry's place in the order of sending → the entry.
    """

    __slots__ = ("_let_go", "by_number")

    def __init__(self, let_go: Callable[[Entry], object]) -> None:
        self._let_go = let_go
        # Open to the outbox, which looks into it for each entry that is settled.
        self.by_number: dict[int, Entry] = {}

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.by_number)

    @property
    def ids(self) -> list[str]:
        """Their ids."""
        return [entry.id for entry in self.by_number.values()]

    def settled(self, message_ids: Collection[str], *, by_one: bool = False) -> None:
        """The node told that these have come to their end; ``by_one``: at one recipient, of perhaps several."""
        self._end(lambda entry: entry.id in message_ids and not (by_one and entry.to == BROADCAST))

    def copied(self, message_id: str, copies: int) -> None:
        """The node told that a message has so many copies now."""
        self._end(lambda entry: entry.id == message_id and entry.enough is not None and copies >= entry.enough)

    def _end(self, is_over: Callable[[Entry], bool]) -> None:
        for entry in [entry for entry in self.by_number.values() if is_over(entry)]:
            del self.by_number[entry.number]
            self._let_go(entry)

    def take_all(self) -> list[Entry]:
        """Take them all out, to be offered again."""
        again = list(self.by_number.values())
        self.by_number.clear()
        for entry in again:
            # Its sender has a receipt; what comes now is only for us.
            entry.done = _ignore
            entry.copies = None
        return again

    def renumber(self) -> None:
        """The numbers of entries were changed."""
        self.by_number = {entry.number: entry for entry in self.by_number.values()}


def _ignore(_: object) -> None:
    """The outcome of what its sender has a receipt of."""
