"""Dead letters: what an operator can do with messages that ended as ``dead``.

A dead letter is kept with its body until somebody decides: *replay* puts it back into its mailbox, with no failures and
as long to live as it had at first (at most ``limits.ttl``); *purge* deletes its body, and the journal still tells its
life. Both are in the journal. What is replayed reaches the sender as no second notice: it knows that the message was
dead, and hears of ``done`` by its receipts.

A letter whose recipient is gone (an instance that left, an agent that is not registered any more) is not replayed:
it would wait for nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from twisted.logger import Logger

from trishula.errors import MessageUnknown
from trishula_router.mail.entry import Entry
from trishula_router.mail.settlement import Settlement
from trishula_router.store.interface import Store
from trishula_router.store.messages import DeadLetter, State
from trishula_router.store.signed_bodies import split_signature

__all__ = ["DeadLetters"]

log = Logger()

#: Letters purged in one transaction: the writer must not keep senders waiting.
_PAGE = 500


class DeadLetters:
    """The verbs of ``admin.dead``.

    Args:
        store: where they are.
        settlement: brings messages back.
        is_there: whether an address can be delivered to, now or later.
        ttl_ms: how long a message lives at most; a letter of before may have had longer.
    """

    def __init__(self, store: Store, settlement: Settlement, is_there: Callable[[str], bool], ttl_ms: int) -> None:
        self._store = store
        self._settlement = settlement
        self._is_there = is_there
        self._ttl_ms = ttl_ms

    async def page(self, *, agent: str | None, limit: int, after: int) -> dict[str, Any]:
        """Dead letters behind a position, oldest first."""
        found = await self._store.dead_letters(after, limit + 1, agent)
        return {"letters": [_told(letter) for letter in found[:limit]], "more": len(found) > limit}

    async def show(self, position: int) -> dict[str, Any]:
        """One dead letter with its message.

        Raises:
            MessageUnknown: there is none at that position.
        """
        found = await self._store.dead_letters(position - 1, 1)
        if not found or found[0].message.position != position:
            raise MessageUnknown(
                f"there is no dead letter {position}: `trishula dead list` has those that there are; what was replayed "
                "or purged is none any more"
            )
        bodies = await self._store.bodies([position])
        message: dict[str, Any] | None = None
        beside: dict[str, Any] = {}
        if position in bodies:
            try:
                message, beside = split_signature(msgspec.json.decode(bodies[position]))
            except msgspec.DecodeError:
                log.warn("the body of dead letter {position} is damaged", position=position)
        return {**_told(found[0]), "message": message, **beside}

    async def replay(self, positions: Sequence[int], now: int, by: str) -> list[bool]:
        """Put dead letters back into their mailboxes; for each, whether it is there now."""
        stored = await self._store.at_positions(positions)
        entries = {
            position: Entry.of(message)
            for position, message in stored.items()
            if message.state is State.DEAD and self._is_there(message.recipient)
        }
        replayed = await self._settlement.replay(
            {
                position: now + min(stored[position].expires_at - stored[position].accepted_at, self._ttl_ms)
                for position in entries
            },
            by,
        )
        return [position in replayed for position in positions]

    async def purge(self, positions: Sequence[int], now: int, by: str) -> int:
        """Delete the bodies of dead letters; how many were some."""
        return len(await self._store.purge(positions, now, by))

    async def purge_all(self, before: int | None, now: int, by: str) -> int:
        """Purge all dead letters, or those that died before an instant (ms), as far as this node knows; how many."""
        count, after = 0, 0
        while True:
            page = await self._store.dead_letters(after, _PAGE)
            old = [letter.message.position for letter in page if before is None or letter.message.ended_by < before]
            if old:
                count += await self.purge(old, now, by)
            if len(page) < _PAGE:
                return count
            after = page[-1].message.position


def _told(letter: DeadLetter) -> dict[str, Any]:
    message = letter.message
    return {
        "seq": message.position,
        "from": message.sender,
        "id": message.id,
        "to": message.recipient,
        "type": message.type,
        "reason": letter.reason,
        "failures": message.failures,
        "attempts": message.attempts,
        "dead_at": message.settled_at,
        "bytes": message.size_bytes,
    }
