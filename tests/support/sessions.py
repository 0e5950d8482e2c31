"""Sessions of an agent at a node for as long as a block lasts: of a plain WAMP client, and on a raw socket."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from tests.support.node import NodeProcess
from tests.support.plain import PlainClient, join
from tests.support.raw import RawClient

__all__ = ["raw_session", "session"]


@contextlib.asynccontextmanager
async def session(node: NodeProcess, name: str, serializer: str = "json", **more: Any) -> AsyncIterator[PlainClient]:
    """A session with the token that the node made for the agent."""
    client = await join(node.url, name, node.tokens[name], serializer=serializer, **more)
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
