"""The procedure by which an agent says that its turn is open, blocked or closed, and asks how it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from trishula.contract import uris
from trishula.contract.texts import LINE, LINE_RULE
from trishula_router.agents.callers import Caller, Verb
from trishula_router.agents.turns import LONGEST_S, STATES, TurnState
from trishula_router.verbs import arguments

if TYPE_CHECKING:
    # Its type alone, as in procedures.
    from trishula_router.node import Node

__all__ = ["TurnVerbs"]

#: What a directory's progress may have, less what is said before it.
_DOING_LETTERS = 900


class TurnOptions(arguments.Options, frozen=True, kw_only=True):
    """``directory.turn``."""

    state: TurnState | None = None
    doing: Annotated[str, msgspec.Meta(min_length=1, max_length=_DOING_LETTERS, pattern=LINE)] | None = None
    for_s: Annotated[float, msgspec.Meta(gt=0, le=LONGEST_S)] = 1800.0
    RULES: ClassVar[Mapping[str, str]] = {
        "state": f"one of {', '.join(STATES)}",
        "doing": f"a string of 1 to {_DOING_LETTERS} characters, {LINE_RULE}",
        "for_s": f"a number of seconds above 0, at most {LONGEST_S:g}",
    }


class TurnVerbs:
    """The procedure ``directory.turn`` of one node.

    Args:
        node: whose agents they are.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    def by_uri(self) -> dict[str, Verb]:
        """It, by its URI."""
        return {uris.DIRECTORY_TURN: self._turn}

    async def _turn(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        (raw,) = arguments.read_positional(args, "turn", 0, 1)
        options = arguments.read(TurnOptions, raw, "options")
        if options.state is None:
            return self._node.turns.of(caller.agent)
        told = self._node.turns.take(caller.agent, options.state, options.doing, options.for_s)
        self._node.tell_presence()
        return told
