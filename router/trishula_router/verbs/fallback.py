"""The procedures about the bus's mode: operators set it, operators and observers ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trishula.contract import uris
from trishula.contract.texts import show_value
from trishula.errors import ArgumentInvalid
from trishula_router.agents.callers import Caller, Verb
from trishula_router.verbs import arguments

if TYPE_CHECKING:
    # Its type alone, as in procedures.
    from trishula_router.node import Node

__all__ = ["FallbackVerbs"]


class FallbackVerbs:
    """The procedures ``admin.fallback`` and ``node.fallback`` of one node.

    Args:
        node: whose mode it is.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    def by_uri(self) -> dict[str, Verb]:
        """Both of them, by their URIs."""
        return {uris.ADMIN_FALLBACK: self._set, uris.NODE_FALLBACK: self._ask}

    async def _set(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        word, raw = arguments.read_positional(args, "fallback", 2, 2)
        if word not in ("on", "off"):
            raise ArgumentInvalid(f'mode is {show_value(word)}; it must be "on" or "off"')
        options = arguments.read(arguments.FallbackOptions, raw, "options")
        if word == "off" and options.sends is not None:
            raise ArgumentInvalid(
                f'options.sends is {show_value(options.sends)} with "off"; leave the key out: a bus that is live takes '
                "messages"
            )
        return await self._node.fallback.set(
            "live" if word == "off" else "fallback",
            sends=bool(options.sends),
            reason=options.reason,
            by=caller.agent,
        )

    async def _ask(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        arguments.read_positional(args, "fallback", 0, 0)
        return self._node.fallback.told()
