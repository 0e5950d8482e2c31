"""Threads: the messages that a message belongs to, by what answers what.

A thread is a message, what it answers, what that answers, and all answers to any of these. Somebody who asks sees what
they sent and what was handed to them, and nothing of others: what still waits for them comes by their mailbox, which
says that it came, and what ended before it was handed to them (cancelled, expired) is never theirs. A thread is found
over the messages that the asker may see, so one that leads over a message between others ends there.

What one question may take is bounded, whatever the store has: so many answers are looked at, so many of them are kept,
and bodies are read of what one frame has room for.
"""

from __future__ import annotations

from typing import Any

import msgspec

from trishula.errors import MessageUnknown
from trishula_router.mail.mailroom import is_of, is_party
from trishula_router.mail.parcels import ROOM_BYTES, parcels
from trishula_router.store.interface import Store
from trishula_router.store.messages import State, StoredMessage
from trishula_router.store.signed_bodies import split_signature

__all__ = ["MOST_MESSAGES", "Threads", "may_see"]

#: Of one thread; a conversation that is longer is told from its newest messages.
MOST_MESSAGES = 200
#: Answers to answers that are followed; a conversation with more is quarantined long before.
_MOST_HOPS = 500
#: Answers that are read at a time; and how many of them one question looks at: others' may have the same ids.
_PAGE, _MOST_LOOKED_AT = 500, 20_000
#: Messages of a thread that are kept while it is sought; what is behind them is neither shown nor counted.
_MOST_FOUND = 5_000


class Threads:
    """Answers from the store.

    Args:
        store: what there is.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def of(self, agent: str, message_id: str, limit: int) -> dict[str, Any]:
        """The thread of a message, as far as the agent may see it: its newest messages, the oldest first.

        Raises:
            MessageUnknown: the agent neither sent nor got a message of that id.
        """
        return await self._told(await self.members(agent, message_id), limit)

    async def members(self, agent: str, message_id: str) -> list[StoredMessage]:
        """All messages of a thread, as far as one question looks, and the agent may see; as :meth:`of`."""
        found = {one.position: one for one in await self._store.with_ids([message_id]) if may_see(agent, one)}
        if not found:
            raise MessageUnknown(
                f"there is no message {message_id} that {agent} sent, or that was handed to {agent}; check the id"
            )
        fresh, asked, look = list(found.values()), {message_id}, _Look()
        for _ in range(_MOST_HOPS):
            before = {one.reply_to for one in fresh if one.reply_to is not None} - asked
            ids = sorted({one.id for one in fresh})
            met = await self._answers(agent, ids, look, _MOST_FOUND - len(found))
            met += [one for one in await self._store.with_ids(sorted(before)) if may_see(agent, one)] if before else []
            asked |= before
            fresh = [one for one in met if one.position not in found]
            if not fresh:
                break
            found.update({one.position: one for one in fresh})
        return sorted(found.values(), key=lambda one: (one.accepted_at, one.arrival))

    async def _answers(self, agent: str, ids: list[str], look: _Look, room: int) -> list[StoredMessage]:
        """The last answers to messages, of those that the agent may see, as far as there is room and a look is free."""
        seen: list[StoredMessage] = []
        before = None
        while look.left > 0 and len(seen) < room:
            page = await self._store.answers(ids, before=before, limit=_PAGE)
            look.left -= len(page)
            seen += [one for one in page if may_see(agent, one)]
            if len(page) < _PAGE:
                break
            before = page[0].position
        return seen

    async def _told(self, ordered: list[StoredMessage], limit: int) -> dict[str, Any]:
        page = _that_fit(ordered[-limit:])
        bodies = await self._store.bodies([one.position for one in page])
        wires = [msgspec.json.decode(bodies.get(one.position, b"{}")) for one in page]
        # The answer is one frame; the newest are what matters.
        sizes = [(one.size_bytes, wire) for one, wire in zip(page, wires, strict=True)]
        shown = next(iter(parcels(sizes[::-1])), 0)
        messages = [
            {"message": wire, "state": one.state_word, **beside}
            for one, (wire, beside) in zip(
                page[len(page) - shown :], map(split_signature, wires[len(page) - shown :]), strict=True
            )
            if wire
        ]
        return {"messages": messages, "left_out": len(ordered) - len(messages)}


class _Look:
    """How many answers a question may still look at."""

    def __init__(self) -> None:
        self.left = _MOST_LOOKED_AT


def _that_fit(messages: list[StoredMessage]) -> list[StoredMessage]:
    """The newest messages whose JSON one frame can take, but the newest one in any case."""
    size = 0
    for count, one in enumerate(reversed(messages)):
        size += one.size_bytes
        if count and size > ROOM_BYTES:
            return messages[-count:]
    return messages


def may_see(agent: str, stored: StoredMessage) -> bool:
    """Whether an agent may read a message again: it sent it, or was handed it."""
    if is_of(agent, stored.sender):
        return True
    # Done elsewhere, by a record of before the base there, its deliveries are not known here.
    return is_party(agent, stored) and (stored.attempts > 0 or stored.state is State.DONE)
