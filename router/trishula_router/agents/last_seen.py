"""When agents were last seen, kept for the next run of the node.

After a restart the directory still tells since when an agent is away. What changed is kept now and then, and when an
agent goes; after a crash it is known as of the last time.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from twisted.logger import Logger

from trishula_router.agents.directory import Seen
from trishula_router.background import log_fault
from trishula_router.store.interface import Store

__all__ = ["LastSeen"]

log = Logger()

#: Under what the store remembers it.
_SEEN_PREFIX = "seen:"


class LastSeen:
    """What the store remembers of agents.

    Args:
        store: where it is kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[str, Seen] = {}

    async def before(self) -> dict[str, Seen]:
        """What the node's former runs have kept."""
        remembered = await self._store.remembered(_SEEN_PREFIX)
        return {key.removeprefix(_SEEN_PREFIX): _read(text) for key, text in remembered.items()}

    def keep(self, seen: Mapping[str, Seen]) -> None:
        """Keep what changed since it was kept last."""
        fresh = {agent: one for agent, one in seen.items() if self._kept.get(agent) != one}
        if fresh:
            self._kept.update(fresh)
            notes = {_SEEN_PREFIX + agent: msgspec.json.encode(one).decode() for agent, one in fresh.items()}
            self._store.remember(notes).addErrback(log_fault, log, "it could not be kept when agents were there last")


def _read(text: str) -> Seen:
    return msgspec.json.decode(text, type=Seen)
