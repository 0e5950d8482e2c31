"""Fallback: keeps the bus's mode at one node: reads it at the start, sets it, follows the peers, and tells the agents.

What counts is decided in :mod:`.bus_mode`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from twisted.logger import Logger

from trishula.contract import uris
from trishula_router.bus_mode import BusMode
from trishula_router.clocks.clock import WRONG_CLOCK_MS
from trishula_router.store.facts import ModeFacts
from trishula_router.store.interface import Copied, Store
from trishula_router.store.journal import Kind
from trishula_router.store.runs import Extract
from trishula_router.store.telling import read_mode

__all__ = ["Fallback"]

log = Logger()


class Fallback:
    """See the module's docstring.

    Args:
        node: this node's name.
        store: keeps the records.
        announce: publishes an event for all.
        now: the wall clock in ms.

    Attributes:
        mode: what counts now.
    """

    def __init__(
        self,
        node: str,
        store: Store,
        announce: Callable[[str, Mapping[str, Any]], None],
        now: Callable[[], int],
    ) -> None:
        self.mode = BusMode()
        self._node = node
        self._store = store
        self._announce = announce
        self._now = now

    async def begin(self) -> None:
        """Take over what the journals say that the store holds."""
        for record in await self._store.modes():
            facts = self._read(record.facts)
            if facts is not None:
                self.mode.fold(facts, self._store.place(record.position)[0] or self._node)
        if self.mode.facts.mode == "fallback":
            self._log()

    def _read(self, text: bytes) -> ModeFacts | None:
        """A word on the mode; ``None`` if it is none, or a lie that no word of any node could follow."""
        facts = read_mode(text)
        return None if facts is None or facts.since > self._now() + WRONG_CLOCK_MS else facts

    async def set(self, mode: Literal["live", "fallback"], *, sends: bool, reason: str, by: str) -> dict[str, Any]:
        """Set the mode of the bus; the answer is what counts then, and comes when that is durable.

        Args:
            mode: which.
            sends: whether messages are taken all the same; without meaning while the bus is live.
            reason: why: one line of at most 500 characters.
            by: the agent that says so.

        Raises:
            StorageFull, StorageFailed: it could not be written, and nothing has changed.
        """
        now = self._now()
        facts = self.mode.word(mode, sends=sends, reason=reason, by=by, now=now)
        await self._store.note(Kind.MODE, facts, now)
        self._fold(facts, self._node)
        return self.told()

    def copied(self, copy: Copied, extract: Extract) -> None:
        """Follow what was copied of another node's journal."""
        for index, (_, kind, text, _) in enumerate(extract.records):
            # What lies behind a gap is not held, and comes again.
            if kind == Kind.MODE and extract.first + index <= copy.sequence:
                facts = self._read(text)
                if facts is not None:
                    self._fold(facts, self._writer_of(extract.epoch))

    def told(self) -> dict[str, Any]:
        """As ``trishula.node.fallback`` and the event have it: the mode, and this node's name."""
        return {"node": self._node, **self.mode.told()}

    def _writer_of(self, epoch: str) -> str:
        return next((one.node for one in self._store.origins() if one.epoch == epoch and one.number), self._node)

    def _fold(self, facts: ModeFacts, writer: str) -> None:
        if self.mode.fold(facts, writer):
            self._log()
            self._announce(uris.EVENT_FALLBACK, self.told())

    def _log(self) -> None:
        facts = self.mode.facts
        what = "live" if facts.mode == "live" else "in fallback, and takes " + ("messages" if facts.sends else "none")
        log.warn("{by} says that the bus is {what}: {reason}", by=facts.by, what=what, reason=facts.reason)
