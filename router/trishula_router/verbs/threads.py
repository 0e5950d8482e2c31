"""The procedure about threads: an agent reads what it sent and got before, by what answers what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from trishula.contract import uris
from trishula_router.agents.callers import Caller, Verb
from trishula_router.mail.threads import MOST_MESSAGES, Threads
from trishula_router.verbs import arguments

if TYPE_CHECKING:
    # Its type alone, as in procedures.
    from trishula_router.node import Node

__all__ = ["ThreadVerbs"]


class ThreadOptions(arguments.Options, frozen=True, kw_only=True):
    """``mailbox.thread``."""

    max: Annotated[int, msgspec.Meta(ge=1, le=MOST_MESSAGES)] = 50
    RULES: ClassVar[Mapping[str, str]] = {"max": f"an integer from 1 to {MOST_MESSAGES}"}


class ThreadVerbs:
    """The procedure ``mailbox.thread`` of one node.

    Args:
        node: whose messages they are.
    """

    def __init__(self, node: Node) -> None:
        self._threads = Threads(node.store)

    def by_uri(self) -> dict[str, Verb]:
        """It, by its URI."""
        return {uris.MAILBOX_THREAD: self._thread}

    async def _thread(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        message_id, raw = arguments.read_positional(args, "thread", 1, 2)
        (checked,) = arguments.read_ids([message_id], "id", 1)
        options = arguments.read(ThreadOptions, raw, "options")
        return await self._threads.of(caller.agent, checked, options.max)
