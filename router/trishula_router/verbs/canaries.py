"""The procedure by which clients answer canaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from trishula.contract import uris
from trishula_router.agents.callers import Caller, Verb
from trishula_router.verbs import arguments
from trishula_router.verbs.scalars import TEXT

if TYPE_CHECKING:
    # Its type alone, as in procedures.
    from trishula_router.node import Node

__all__ = ["CanaryVerbs"]


class CanaryAnswer(arguments.Options, frozen=True, kw_only=True):
    """``mailbox.canary``: which one."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=TEXT)]
    RULES: ClassVar[Mapping[str, str]] = {"id": "the id of a canary, as the node told it"}


class CanaryVerbs:
    """The procedure ``mailbox.canary`` of one node.

    Args:
        node: whose canaries they are.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    def by_uri(self) -> dict[str, Verb]:
        """It, by its URI."""
        return {uris.MAILBOX_CANARY: self._heard}

    async def _heard(self, caller: Caller, args: tuple[Any, ...]) -> bool:
        (raw,) = arguments.read_positional(args, "canary", 1, 1)
        return await self._node.canary_rounds.heard(caller.session, arguments.read(CanaryAnswer, raw, "canary").id)
