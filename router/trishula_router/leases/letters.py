"""What a node tells holders of leases by a message: that a claim's turn has come, and that a lease was lost.

A message is like any other, durable, in the mailbox of whoever claimed it::

    {"type": "STATUS", "id": "node:<node>:lease:<lease's id>:granted", "from": <the holder's agent>, "to": <the holder>,
     "subject": "work lease granted: path:src", "payload": {"event": "granted" | "ended", "lease": {…}, "message": …}}

That it is the node who speaks, its id says. What its holder released itself it is not told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from trishula_router.leases.book import Lease
from trishula_router.mail.entry import Entry
from trishula_router.mail.mailroom import Mailroom
from trishula_router.store.interface import Store
from trishula_router.store.messages import Draft, payer_of

__all__ = ["Letters"]

_PRIORITY = 2


class Letters:
    """Sends them.

    Args:
        node: this node's name.
        store: keeps them.
        mailroom: delivers them.
        reach: which address to write to for an address that claimed something: itself, its agent, or ``None``.
        ttl_ms: for how long they are tried.
        now: the wall clock in ms.
    """

    def __init__(
        self,
        node: str,
        store: Store,
        mailroom: Mailroom,
        reach: Callable[[str], str | None],
        ttl_ms: int,
        now: Callable[[], int],
    ) -> None:
        self._node = node
        self._store = store
        self._mailroom = mailroom
        self._reach = reach
        self._ttl_ms = ttl_ms
        self._now = now

    async def tell(self, event: str, lease: Lease, told: dict[str, Any], sentence: str) -> None:
        """Tell the holder.

        Raises:
            StorageFull, StorageFailed: it could not be written.
        """
        to, now = self._reach(lease.holder), self._now()
        if to is None:
            return
        wire: dict[str, Any] = {
            "type": "STATUS",
            "id": f"node:{self._node}:lease:{lease.id}:{event}",
            "to": to,
            "from": lease.agent,
            "timestamp": now,
            "payload": {"event": event, "lease": told, "message": sentence},
            "priority": _PRIORITY,
            "subject": f"work lease {event}: {lease.scope.text}"[:200],
            "accepted_at": now,
        }
        envelope = msgspec.json.encode(wire)
        draft = Draft(lease.agent, wire["id"], (to,), "STATUS", _PRIORITY, now + self._ttl_ms, envelope)
        payer = payer_of(draft.sender, draft.id, to)
        # Whatever the mailbox holds: who has no room for this would go on working on what is somebody else's.
        self._mailroom.reserve(to, payer, len(envelope), _PRIORITY)
        is_stored = False
        try:
            (accepted,) = await self._store.append([draft], now)
            is_stored = not accepted.duplicate
        finally:
            if not is_stored:
                self._mailroom.discount(to, payer, len(envelope), _PRIORITY)
        if is_stored:
            self._mailroom.arrived([Entry.of_draft(draft, accepted, wire)])
