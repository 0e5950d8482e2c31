"""Sessions of an agent at a node for as long as a block lasts: of a plain WAMP client, and on a raw socket."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

from tests.support.memory_plain import MemoryNode
from tests.support.node import NodeProcess
from tests.support.plain import PlainClient, join
from tests.support.raw import RawClient

__all__ = ["joined", "raw_session", "session"]


async def joined(node: NodeProcess | MemoryNode, name: str, serializer: str = "json", **more: Any) -> PlainClient:
    """The same, and whoever asks ends it; a bus in memory has no serializer, and plays a plain client."""
    if isinstance(node, MemoryNode):
        return cast(PlainClient, await node.join(name))
    return await join(node.url, name, node.tokens[name], serializer=serializer, **more)


@contextlib.asynccontextmanager
async def session(
    node: NodeProcess | MemoryNode, name: str, serializer: str = "json", **more: Any
) -> AsyncIterator[PlainClient]:
    """A session with the token that the node made for the agent."""
    client = await joined(node, name, serializer, **more)
    try:
        yield client
    finally:
        await client.leave()


@contextlib.contextmanager
def raw_session(node: NodeProcess, name: str, **options: Any) -> Iterator[RawClient]:
    """The same on a raw socket."""
    with RawClient(node.url, **options) as client:
        client.open()
        client.join(name, node.tokens[name])
        yield client
