"""The procedure by which a client says that messages were put into a model's context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trishula.contract import uris
from trishula_router.agents.callers import Caller, Verb
from trishula_router.verbs import arguments

if TYPE_CHECKING:
    # Its type alone, as in procedures.
    from trishula_router.node import Node

__all__ = ["SurfacingVerbs"]


class SurfacingVerbs:
    """The procedure ``mailbox.surfaced`` of one node.

    Args:
        node: whose deliveries they were.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    def by_uri(self) -> dict[str, Verb]:
        """It, by its URI."""
        return {uris.MAILBOX_SURFACED: self._surfaced}

    async def _surfaced(self, caller: Caller, args: tuple[Any, ...]) -> list[bool]:
        (raw,) = arguments.read_positional(args, "surfaced", 1, 1)
        deliveries = arguments.read_deliveries(raw, "tokens", arguments.WINDOW_LIMIT, self._node.store.epoch)
        return await self._node.surfacing.surfaced(caller.agent, caller.session, deliveries)
