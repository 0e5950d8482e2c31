"""The procedure by which an agent searches what it sent and was handed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from trishula.contract import uris
from trishula.contract.addresses import ID_RULE
from trishula_router.agents.callers import Caller, Verb
from trishula_router.mail.message_search import MessageSearch
from trishula_router.mail.threads import Threads
from trishula_router.verbs import arguments
from trishula_router.verbs.scalars import INSTANT_RULE, TEXT, Instant, Text

if TYPE_CHECKING:
    # Its type alone, as in procedures.
    from trishula_router.node import Node

__all__ = ["MessageSearchVerbs"]

_MOST = 100
_MOST_WORDS = 16
_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=TEXT)]
_Place = Annotated[str, msgspec.Meta(min_length=1, max_length=16_384, pattern=r"^[!-~]+\Z")]


class SearchOptions(arguments.Options, frozen=True, kw_only=True):
    """``mailbox.search``."""

    words: Annotated[tuple[_Word, ...], msgspec.Meta(max_length=_MOST_WORDS)] = ()
    peer: Text | None = msgspec.field(name="with", default=None)
    id: Text | None = None
    thread: Text | None = None
    since: Instant | None = None
    until: Instant | None = None
    encrypted: bool = False
    after: _Place | None = None
    max: Annotated[int, msgspec.Meta(ge=1, le=_MOST)] = 20
    RULES: ClassVar[Mapping[str, str]] = {
        "words": f"a list of at most {_MOST_WORDS} texts of 1 to 200 characters",
        "with": "the name of an agent: what is between you and it",
        "id": ID_RULE,
        "thread": ID_RULE,
        "since": INSTANT_RULE,
        "until": INSTANT_RULE,
        "encrypted": "true or false: whether to tell those too that the node can't read",
        "after": "what the answer before told as more",
        "max": f"an integer from 1 to {_MOST}",
    }


class MessageSearchVerbs:
    """The procedure ``mailbox.search`` of one node.

    Args:
        node: whose messages they are.
    """

    def __init__(self, node: Node) -> None:
        self._search = MessageSearch(node.config.node, node.store, Threads(node.store))

    def by_uri(self) -> dict[str, Verb]:
        """It, by its URI."""
        return {uris.MAILBOX_SEARCH: self._searched}

    async def _searched(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        (raw,) = arguments.read_positional(args, "search", 0, 1)
        options = arguments.read(SearchOptions, raw, "options")
        for key, value in (("id", options.id), ("thread", options.thread)):
            if value is not None:
                arguments.read_ids([value], f"options.{key}", 1)
        return await self._search.of(caller.agent, options)
