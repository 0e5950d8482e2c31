"""The procedures about conversations that had no end: operators see them, and let one go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trishula.contract import uris
from trishula_router.agents.callers import Caller, Verb
from trishula_router.verbs import arguments

if TYPE_CHECKING:
    # Its type alone, as in procedures.
    from trishula_router.node import Node

__all__ = ["LoopVerbs"]


class LoopVerbs:
    """The procedures ``node.loops`` and ``admin.loop_release`` of one node.

    Args:
        node: whose conversations they are about.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    def by_uri(self) -> dict[str, Verb]:
        """Both of them, by their URIs."""
        return {uris.NODE_LOOPS: self._loops, uris.ADMIN_LOOP_RELEASE: self._release}

    async def _loops(self, caller: Caller, args: tuple[Any, ...]) -> list[dict[str, Any]]:
        arguments.read_positional(args, "loops", 0, 0)
        return self._node.conversations.told()

    async def _release(self, caller: Caller, args: tuple[Any, ...]) -> int:
        (message_id,) = arguments.read_positional(args, "loop_release", 1, 1)
        (checked,) = arguments.read_ids([message_id], "id", 1)
        return self._node.conversations.release(checked)
