"""Receipts: what a sender is told of each message, and on how many nodes the message is by then.

``copies`` in a receipt counts the nodes on whose disk the message is, as far as this one knows when it answers. A
sender that asks for nothing gets two where a peer is in step, and is answered with one, honestly, where none is or the
peer doesn't confirm in time; when the second copy is there, news on its receipts topic says so. One that insists on two
is refused, for a while, where no peer is in step. One that asks for one doesn't wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from trishula.contract.addresses import is_message_id
from trishula.errors import CopiesUnavailable, TrishulaError
from trishula_router.mail.outlet import News
from trishula_router.peers.copies import Copies
from trishula_router.store.interface import Store
from trishula_router.store.journal import ORIGIN_SHIFT
from trishula_router.store.messages import Draft

__all__ = ["Receipts"]

#: How soon a sender who insists on more copies than there can be now may ask again.
COPIES_RETRY_S = 5.0
#: What a sender gets where it can be had.
USUAL_COPIES = 2


class Receipts:
    """Writes receipts.

    Args:
        node: the node's name.
        store: knows whose record is where.
        copies: knows who has copies.
        tell: takes news for senders.
        now: the wall clock in ms.

    Attributes:
        copies_told: how many receipts of stored messages told of so many copies.
        refused: an error's URI → how many messages were refused with it.
    """

    def __init__(
        self,
        node: str,
        store: Store,
        copies: Copies,
        *,
        tell: Callable[[Iterable[News]], None],
        now: Callable[[], int],
    ) -> None:
        self._node = node
        self._store = store
        self._copies = copies
        self._tell = tell
        self._now = now
        self.copies_told: Counter[int] = Counter()
        self.refused: Counter[str] = Counter()

    def check(self, copies: int | None) -> None:
        """Refuse a sender that insists on more copies than it can have now.

        Raises:
            CopiesUnavailable: it does.
        """
        if copies is None or copies <= self._copies.available():
            return
        peers = self._copies.replication.peers
        whom = f"of its peers ({', '.join(peers)}) none is in step to" if peers else "this node has no peer to"
        raise CopiesUnavailable(
            f"the sender insists on {copies} copies and {whom} keep a second one; ask for 1, or try again when a peer "
            "is there",
            retry_after_s=COPIES_RETRY_S,
        )

    async def secure(self, positions: Iterable[int], copies: int | None) -> None:
        """Wait until messages that were just accepted have their copies, or don't get them in time."""
        if copies == 1 or not self._copies.replication.peers:
            return
        newest = max((position for position in positions if position >> ORIGIN_SHIFT == 0), default=0)
        if newest:
            await self._copies.secure(newest, copies or USUAL_COPIES)

    def of(self, message_id: str, status: str, position: int, *, copies: int | None = None) -> dict[str, Any]:
        """The receipt of a message whose record is at a position.

        Args:
            message_id: its id.
            status: ``accepted`` or ``duplicate``.
            position: of its accepted record.
            copies: on how many nodes it is, unless that is to be counted.
        """
        node, sequence = self._place(position)
        if copies is None:
            copies = self._copies_of(position, sequence)
            self.copies_told[copies] += 1
        return {"id": message_id, "status": status, "node": node or self._node, "seq": sequence, "copies": copies}

    def _place(self, position: int) -> tuple[str, int]:
        # Almost all are our own.
        return self._store.place(position) if position >> ORIGIN_SHIFT else ("", position)

    def _copies_of(self, position: int, sequence: int) -> int:
        replication, number = self._copies.replication, position >> ORIGIN_SHIFT
        if not replication.peers:
            return 1
        if not number:
            return replication.copies_of(sequence)
        return replication.copies_of(
            sequence, next(origin.epoch for origin in self._store.origins() if origin.number == number)
        )

    def owe(self, draft: Draft, position: int, copies: int | None) -> None:
        """If a message has fewer copies than its sender may have, tell it when there are more."""
        if copies == 1 or not self._copies.replication.peers:
            return
        node, sequence = self._place(position)
        if node or self._copies.replication.copies_of(sequence) >= USUAL_COPIES:
            return

        # Not the draft: its body would stay in memory until the peer is back.
        sender, message_id, recipients = draft.sender, draft.id, draft.recipients

        def told(number: int) -> None:
            at = self._now()
            self._tell(News(sender, message_id, to, "copies", at, copies=number) for to in recipients)

        self._copies.owe(sequence, told, len(sender) + len(message_id) + sum(map(len, recipients)))

    def refusal(self, message_id: object, error: TrishulaError) -> dict[str, Any]:
        """The receipt of a message that was not accepted."""
        self.refused[str(error.uri)] += 1
        receipt: dict[str, Any] = {
            "id": message_id if is_message_id(message_id) else None,
            "status": "refused",
            "node": self._node,
            "seq": None,
            "copies": 0,
            "error": error.uri,
            "detail": error.sentence,
        }
        if error.retry_after_s is not None:
            receipt["retry_after_s"] = error.retry_after_s
        return receipt
