"""The loader: what the delivery reads from the store, because it is not in memory.

A mailbox has its next messages in memory, and of those as many bodies as there is room for. :class:`Loader` reads on
where a mailbox runs low, and reads the bodies of messages whose turn has come.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec
from twisted.internet.defer import Deferred

from trishula.contract.binary import is_marked_json
from trishula.errors import StorageFailed, StorageFull
from trishula_router.mail.entry import Entry
from trishula_router.mail.mailbox import Mailbox
from trishula_router.mail.mailroom import Mailroom
from trishula_router.mail.settlement import STORE_RETRY_MS, Settlement
from trishula_router.store.interface import Store
from trishula_router.store.messages import State

__all__ = ["Loader"]


class Loader:
    """Reads messages and bodies for the delivery.

    Args:
        mailroom: where they belong.
        store: where they are.
        settlement: ends messages whose bodies are lost.
        longest_pause_ms: no message waits longer than that for its next attempt.
        now: the wall clock in ms.
    """

    def __init__(
        self,
        mailroom: Mailroom,
        store: Store,
        settlement: Settlement,
        longest_pause_ms: int,
        now: Callable[[], int],
    ) -> None:
        self._mailroom = mailroom
        self._store = store
        self._settlement = settlement
        self._longest_pause_ms = longest_pause_ms
        self._now = now
        # By address, who waits until what is being read is there.
        self._refilling: dict[str, list[Deferred[None]]] = {}

    def is_refilling(self, address: str) -> bool:
        """Whether the store is being read for a mailbox."""
        return address in self._refilling

    async def with_bodies(self, entries: list[Entry]) -> list[Entry]:
        """The same entries, with their bodies.

        One whose body the store has lost is dead; one that was settled while the bodies were read is left out.
        """
        missing = [entry for entry in entries if entry.wire is None]
        if not missing:
            return entries
        try:
            bodies = await self._store.bodies([entry.position for entry in missing])
        except (StorageFull, StorageFailed):
            self._mailroom.put_back(self._mailroom.not_withdrawn(entries), self._now() + STORE_RETRY_MS)
            raise
        entries = self._mailroom.not_withdrawn(entries)
        for entry in entries:
            if entry.wire is None and entry.position in bodies:
                body = bodies[entry.position]
                with contextlib.suppress(msgspec.DecodeError):
                    self._mailroom.keep_body(entry, msgspec.json.decode(body))
                    entry.binary = is_marked_json(body)
        lost = [entry for entry in entries if entry.wire is None]
        if lost:
            self._settlement.settle_soon(lost, State.DEAD, "its body is missing from the node's store, or damaged")
        return [entry for entry in entries if entry.wire is not None]

    async def refill(self, mailbox: Mailbox) -> None:
        """Read on in the store; if that is being done already, wait until it is."""
        name = mailbox.address
        if name in self._refilling:
            done: Deferred[None] = Deferred()
            self._refilling[name].append(done)
            return await done
        self._refilling[name] = []
        try:
            after, limit = mailbox.begin_refill()
            stored = await self._store.head(name, after, limit)
            entries = [Entry.of(message) for message in stored]
            for entry in entries:
                if entry.due_at:
                    # No pause is longer; a clock that was wrong then, or is now, says otherwise.
                    entry.due_at = min(entry.due_at, self._now() + self._longest_pause_ms)
                    self._mailroom.pause(name, entry.due_at)
            mailbox.refill(entries, limit)
        finally:
            for waiting in self._refilling.pop(name):
                waiting.callback(None)
