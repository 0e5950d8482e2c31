"""Handing over: messages to a capability that nobody here can take, and that somebody at another node can.

Who hands out such a message is its keeper, and there is one at a time (:mod:`trishula_router.store.keepers`). The
keeper keeps it while an agent of its own is present that announced the capability, also one whose window is full: that
one takes it soon, and what is handed over is out of reach if the nodes are cut off from each other just then. Where
there is none, it is handed over at once, because waiting for one that may never come gains nothing: to the first of the
nodes in sight that said with its last presence that such an agent is there. That one, if its agent is gone by then,
does the same. Each step takes an agent somewhere, so a message that nobody can take stays where it is.

What is out with an agent, pauses after a failure or is being settled is not handed over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trishula.contract.addresses import Address
from trishula.errors import StorageFailed, StorageFull
from trishula_router.mail.entry import Entry
from trishula_router.mail.mailroom import Mailroom
from trishula_router.store.interface import Store
from trishula_router.store.messages import State

__all__ = ["BATCH", "RETRY_MS", "Handover"]

#: Messages handed over by one record.
BATCH = 256
#: What the store could not hand over waits so long, so that a full disk is no busy loop.
RETRY_MS = 5000


class Handover:
    """Gives messages to another node.

    Args:
        mailroom: where they wait.
        store: makes it durable.
        able_at: the node in sight where an agent can take messages to a capability, if there is one.
        now: the wall clock in ms.
    """

    def __init__(
        self, mailroom: Mailroom, store: Store, *, able_at: Callable[[str], str | None], now: Callable[[], int]
    ) -> None:
        self._mailroom = mailroom
        self._store = store
        self._able_at = able_at
        self._now = now

    def node_for(self, address: str) -> str | None:
        """Where the messages to a capability can be handed over to."""
        return self._able_at(Address.parse(address).capability or "")

    async def hand(self, entries: Sequence[Entry], node: str) -> None:
        """Hand over messages that were taken out of their turn."""
        # Until the store has answered they are nobody's: neither delivered here nor settled by two at once.
        withdrawn = {entry.position: self._mailroom.withdraw(entry) for entry in entries}
        try:
            answer = await self._store.hand_over(list(withdrawn), node, self._now())
        except (StorageFull, StorageFailed):
            # If the record is on the disk all the same, the next commit writes over it; see store/sqlite/writer.py.
            self._mailroom.put_back(withdrawn.values(), self._now() + RETRY_MS)
            raise
        stored = {message.position: message for message in answer}
        for position, entry in withdrawn.items():
            message = stored.get(position)
            if message is not None and message.state is not State.OPEN:
                # Another node settled it meanwhile, and whoever copied that left the rest to us.
                self._mailroom.settled([entry])
                continue
            was_handed = message is not None and message.keeper != entry.keeper
            self._mailroom.put_back([entry], 0 if was_handed else self._now() + RETRY_MS)
            if message is not None and was_handed:
                self._mailroom.move(message, entry.keeper)
