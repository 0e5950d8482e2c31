"""Endings: what ends messages without a delivery.

A sender cancels, a time is over, an instance or an agent is gone. Each finds the messages in the store, withdraws those
that nobody else is about to end, and has ``settlement`` settle them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trishula.contract.addresses import agent_of, is_nodes_own
from trishula_router.mail.entry import Entry
from trishula_router.mail.mailbox import BEFORE_ALL
from trishula_router.mail.mailroom import Mailroom
from trishula_router.mail.recalls import Recalls
from trishula_router.mail.settlement import Settlement, by_reason
from trishula_router.store.interface import Store
from trishula_router.store.messages import State

__all__ = ["Endings"]

#: The node that accepted a message, or that it was handed over to, is the first to say that its time is over: the news
#: of that usually comes before the others have to say it too.
FOREIGN_EXPIRY_MS = 30_000
#: Messages settled in one go where nobody waits for an answer.
_BATCH = 1000


class Endings:
    """Ends messages wherever they are.

    Args:
        mailroom: what is out and what waits.
        store: what is open.
        settlement: settles.
        recalls: tells who has a message that is cancelled.
        now: the wall clock in ms.
    """

    def __init__(
        self,
        mailroom: Mailroom,
        store: Store,
        settlement: Settlement,
        recalls: Recalls,
        now: Callable[[], int],
    ) -> None:
        self._mailroom = mailroom
        self._store = store
        self._settlement = settlement
        self._recalls = recalls
        self._now = now

    async def cancel(self, positions: Sequence[int]) -> list[bool]:
        """Cancel messages that are not settled, and tell who has them; returns which were cancelled.

        The caller has checked whose they are.
        """
        cancelled: set[int] = set()
        asked = positions
        while asked:
            stored = await self._store.at_positions(asked)
            still_open = [message for message in stored.values() if message.state is State.OPEN]
            # One that is being handed over is open afterwards; asking again is waiting for that, see Settlement.ack.
            asked = [message.position for message in still_open if self._mailroom.is_settling(message.position)]
            mine = [message for message in still_open if message.position not in asked]
            out = self._recalls.out(message.position for message in mine)
            entries = [self._mailroom.withdraw(Entry.of(message)) for message in mine]
            await self._settlement.settle(entries, State.CANCELLED, "cancelled by its sender")
            self._recalls.cancelled(entries, out)
            cancelled |= {entry.position for entry in entries}
        return [position in cancelled for position in positions]

    async def expire(self) -> int:
        """Settle messages whose time is over, also those that nobody asks for; returns how many.

        What is out is left alone: its receiver works on it, and if it comes back its time is looked at again.
        """
        count = 0
        while True:
            # Those that are out come back with the answer; they must not use up its places.
            found = await self._store.expired(self._now(), _BATCH + len(self._mailroom.leases))
            over = await self._store.at_positions(found)
            entries = [
                self._mailroom.withdraw(Entry.of(message))
                for position, message in over.items()
                if message.state is State.OPEN
                and position not in self._mailroom.leases
                # Asked again, because the node's clock may have been set since it was asked first.
                and message.expires_at <= self._now() - (0 if message.is_kept_here else FOREIGN_EXPIRY_MS)
            ]
            if not entries:
                return count
            for reason, those in by_reason(entries).items():
                await self._settlement.settle(those, State.EXPIRED, reason)
            count += len(entries)

    async def close_mailbox(self, address: str, state: State, reason: str) -> int:
        """Bring all that is open for an address to an end; returns how many messages that were."""
        count = 0
        while True:
            limit = _BATCH + len(self._mailroom.leases)
            stored = await self._store.head(address, BEFORE_ALL, limit)
            entries = [
                self._mailroom.withdraw(Entry.of(message))
                for message in stored
                if not self._mailroom.is_settling(message.position)
            ]
            await self._settlement.settle(entries, state, reason)
            count += len(entries)
            # Where more comes all the time, this is no endless work.
            if not entries or len(stored) < limit:
                break
        self._settlement.forget_losses(address)
        self._mailroom.drop_if_empty(address)
        return count

    async def close_sender(self, address: str, agent: str, state: State, reason: str) -> int:
        """Bring what an agent has open in one mailbox to an end; returns how many messages that were.

        What the node itself says stays: it tells others of the agent's part.
        """
        count, after = 0, BEFORE_ALL
        while True:
            stored = await self._store.head(address, after, _BATCH)
            entries = [
                self._mailroom.withdraw(Entry.of(message))
                for message in stored
                if agent_of(message.sender) == agent
                and not is_nodes_own(message.id)
                and not self._mailroom.is_settling(message.position)
            ]
            await self._settlement.settle(entries, state, reason)
            count += len(entries)
            if len(stored) < _BATCH:
                return count
            after = (stored[-1].priority, stored[-1].arrival)
