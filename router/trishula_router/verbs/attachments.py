"""The procedures by which agents send and fetch the files that are attached to messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from trishula.contract import uris
from trishula.contract.addresses import agent_of
from trishula.contract.attached import DIGEST_RULE, LARGEST_BYTES, is_digest
from trishula.contract.texts import show_value
from trishula.errors import ArgumentInvalid
from trishula_router.agents.callers import Caller, Verb
from trishula_router.attachments.keeping import CHUNK_BYTES
from trishula_router.verbs import arguments
from trishula_router.verbs.scalars import Text

if TYPE_CHECKING:
    # Its type alone, as in procedures.
    from trishula_router.node import Node

__all__ = ["AttachmentVerbs"]

_SIZE_RULE = f"an integer from 0 to {LARGEST_BYTES}"


class OfOptions(arguments.Options, frozen=True, kw_only=True):
    """``attachment.of``: of which message."""

    sender: Text | None = msgspec.field(name="from", default=None)
    RULES: ClassVar[Mapping[str, str]] = {"from": "the agent that sent the message"}


class GetOptions(arguments.Options, frozen=True, kw_only=True):
    """``attachment.get``: of which message, and which piece."""

    sender: Text | None = msgspec.field(name="from", default=None)
    offset: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_BYTES)] = 0
    max_bytes: Annotated[int, msgspec.Meta(ge=1, le=CHUNK_BYTES)] = CHUNK_BYTES
    RULES: ClassVar[Mapping[str, str]] = {
        "from": "the agent that sent the message",
        "offset": _SIZE_RULE,
        "max_bytes": f"an integer from 1 to {CHUNK_BYTES}",
    }


class AttachmentVerbs:
    """The procedures ``attachment.*`` of one node.

    Args:
        node: whose attachments they are.
    """

    def __init__(self, node: Node) -> None:
        self._keeping = node.attachments

    def by_uri(self) -> dict[str, Verb]:
        """All of them, by their URIs."""
        return {
            uris.ATTACHMENT_BEGIN: self._begin,
            uris.ATTACHMENT_PUT: self._put,
            uris.ATTACHMENT_GET: self._get,
            uris.ATTACHMENT_OF: self._of,
        }

    async def _begin(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        digest, size = arguments.read_positional(args, "attachment.begin", 2, 2)
        return await self._keeping.started(caller.agent, _digest(digest), _count(size, "size_bytes"))

    async def _put(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        digest, offset, data = arguments.read_positional(args, "attachment.put", 3, 3)
        if not isinstance(data, bytes):
            raise ArgumentInvalid(f"data is {show_value(data)}; it must be bytes")
        if not 0 < len(data) <= CHUNK_BYTES:
            raise ArgumentInvalid(f"data has {len(data)} bytes; it must have from 1 to {CHUNK_BYTES}")
        return await self._keeping.arrived(caller.agent, _digest(digest), _count(offset, "offset"), data)

    async def _get(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        message_id, raw = arguments.read_positional(args, "attachment.get", 1, 2)
        options = arguments.read(GetOptions, raw, "options")
        owner = _owner(caller, options.sender)
        return await self._keeping.piece(
            caller.agent,
            owner,
            _id(message_id),
            options.offset,
            options.max_bytes,
            is_operator=caller.is_operator,
        )

    async def _of(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        message_id, raw = arguments.read_positional(args, "attachment.of", 1, 2)
        options = arguments.read(OfOptions, raw, "options")
        owner = _owner(caller, options.sender)
        return await self._keeping.described(caller.agent, owner, _id(message_id), is_operator=caller.is_operator)


def _digest(raw: object) -> str:
    if not isinstance(raw, str) or is_digest(raw) is None:
        raise ArgumentInvalid(f"digest is {show_value(raw)}; it must be {DIGEST_RULE}")
    return raw


def _count(raw: object, key: str) -> int:
    if isinstance(raw, float) and raw.is_integer():
        raw = int(raw)
    if not isinstance(raw, int) or isinstance(raw, bool) or not 0 <= raw <= LARGEST_BYTES:
        raise ArgumentInvalid(f"{key} is {show_value(raw)}; it must be {_SIZE_RULE}")
    return raw


def _id(raw: object) -> str:
    (checked,) = arguments.read_ids([raw], "id", 1)
    return checked


def _owner(caller: Caller, sender: str | None) -> str:
    """The agent that sent the message: the caller itself, if it names nobody."""
    if sender is None:
        return caller.agent
    return agent_of(sender)
