"""Who takes messages elsewhere: at which node a mailbox is consumed, and where a capability has somebody."""

from __future__ import annotations

from collections.abc import Callable

from trishula.contract.addresses import Address
from trishula_router.agents.directory import Directory
from trishula_router.peers.journal_exchange import Peering
from trishula_router.peers.presence_exchange import Neighbourhood

__all__ = ["Elsewhere"]


class Elsewhere:
    """Answers out of what linked nodes have told.

    Args:
        directory: who is here.
        neighbourhood: who is at the other nodes.
        peering: which of them hear what they are handed.
        now: the wall clock in ms.
    """

    def __init__(
        self, directory: Directory, neighbourhood: Neighbourhood, peering: Peering, now: Callable[[], int]
    ) -> None:
        self._directory = directory
        self._neighbourhood = neighbourhood
        self._peering = peering
        self._now = now

    def consumed(self, address: Address) -> tuple[str, str | None] | None:
        """Where a mailbox is consumed that isn't here: (its node, the host of its client); ``None`` if nowhere."""
        node, life = self._neighbourhood.consumer_of(address), self._neighbourhood.holder_of(address)
        return None if node is None else (node, None if life is None else life.host)

    def able(self, address: str) -> tuple[list[str], list[str]]:
        """The agents here that are present and serve a capability, and the nodes elsewhere that have some."""
        capability = Address.parse(address).capability or ""
        return sorted(self._directory.able(capability, self._now())), self._neighbourhood.able(capability)

    def able_at(self, capability: str) -> str | None:
        """The node where an agent can take messages to a capability, if it hears what it is handed."""
        able = self._neighbourhood.able(capability)
        return next((name for name in able if name not in self._peering.faults), None)
