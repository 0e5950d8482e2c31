"""Looking at a mailbox without taking anything out of it: no lease, no attempt, no record, no news to the sender.

A ``fetch`` whose messages are not acknowledged would leave them in the mailbox as well, but it hands them over: their
senders are told so, other sessions don't get them meanwhile, their handlers see later that an attempt was made, and
after twenty such looks a message is dead. So to look is a verb of its own. It shows also what is with somebody else at
the moment, and doesn't disturb an agent that is being pushed its messages.
"""

from __future__ import annotations

from typing import Any

import msgspec

from trishula_router.mail.mailbox import BEFORE_ALL
from trishula_router.mail.parcels import ROOM_BYTES, parcels
from trishula_router.store.interface import Store
from trishula_router.store.signed_bodies import split_signature

__all__ = ["Peeking"]


class Peeking:
    """Answers from the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def page(self, address: str, after: tuple[int, int] | None, limit: int) -> dict[str, Any]:
        """The open messages of an address in order of delivery, behind ``after``: that of a former page.

        ``after`` is (priority, arrival) of the last message that was shown: its place in this node's store. Not its
        position: those of messages that another node accepted are in that node's order.

        A body that is lost or damaged is left out: its message is dead when its turn comes.
        """
        found = await self._store.head(address, after or BEFORE_ALL, limit + 1)
        shown, size_bytes = 0, 0
        for message in found[:limit]:
            size_bytes += message.size_bytes
            if shown and size_bytes > ROOM_BYTES:
                break
            shown += 1
        page = found[:shown]
        bodies = await self._store.bodies([message.position for message in page])
        wires = [msgspec.json.decode(bodies.get(message.position, b"{}")) for message in page]
        # The answer is one frame.
        shown = next(iter(parcels([(one.size_bytes, wire) for one, wire in zip(page, wires, strict=True)])), 0)
        page = page[:shown]
        messages = [
            {"message": wire, "state": message.state_word, "attempts": message.attempts, **beside}
            for message, (wire, beside) in zip(page, map(split_signature, wires[:shown]), strict=True)
            if wire
        ]
        last = (page[-1].priority, page[-1].arrival) if page else after or BEFORE_ALL
        return {"messages": messages, "more": len(found) > shown, "after": list(last)}
