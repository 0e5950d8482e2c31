"""A bus in memory (:mod:`trishula.testing`) for tests of the wire contract: it plays a node and a plain client of it.

The tests of ``test_wire_contract.py`` run on it as they run on a real node, so what they hold is the same on both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import pytest_twisted
from twisted.internet.defer import Deferred

from tests.support.plain import TIMEOUT_S, Refused
from trishula import testing
from trishula.errors import NotAllowed, TrishulaError
from trishula.runtime.pending import Pending, resolved
from trishula.session.transport import Link
from trishula.testing.session import Session

__all__ = ["MemoryNode", "MemoryPlainClient"]

T = TypeVar("T")


class MemoryNode:
    """As much of :class:`tests.support.node.NodeProcess` as those tests need."""

    def __init__(self, agents: Mapping[str, testing.Grants]) -> None:
        self._opening = testing.bus(agents)

    def __enter__(self) -> MemoryNode:
        self._bus = _blockon(self._opening.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        _blockon(self._opening.__aexit__(None, None, None))

    def log(self) -> str:
        return ""

    async def join(self, name: str) -> MemoryPlainClient:
        """A session of an agent."""
        client = MemoryPlainClient(self._bus, name)
        await client.joined
        return client


def _blockon(coroutine: Coroutine[Any, Any, T]) -> T:
    outcome: T = pytest_twisted.blockon(Deferred.fromFuture(asyncio.ensure_future(coroutine)))
    return outcome


class MemoryPlainClient:
    """Plays :class:`tests.support.plain.PlainClient`; also its own listener (:mod:`trishula.session.transport`)."""

    def __init__(self, bus: testing.MemoryBus, name: str) -> None:
        self.gone: Deferred[str] = Deferred()
        self.joined: Pending[None] = Pending()
        self._link: Session | None = None
        self._wire = bus.wire(name)
        self._wire.start(self)

    # -- its connection tells it ---------------------------------------------------------------------------------------

    def link_joined(self, link: Link) -> None:
        assert isinstance(link, Session)
        self._link = link
        self.joined.resolve(None)

    def link_lost(self, error: TrishulaError) -> None:
        # Others would join anew.
        self._wire.stop()
        if not self.gone.called:
            self.gone.callback(error.uri or "disconnected")

    def node_unreachable(self, url: str, error: TrishulaError, retry_in_s: float) -> None:
        self.joined.reject(error)

    def given_up(self, error: TrishulaError) -> None:
        self.joined.reject(error)

    def link_offered(self, link: Link) -> None:
        raise AssertionError("there is one node")

    def link_withdrawn(self, error: TrishulaError) -> None:
        raise AssertionError("there is one node")

    # -- what a test asks ----------------------------------------------------------------------------------------------

    @property
    def _session(self) -> Session:
        assert self._link is not None
        return self._link

    async def call(self, uri: str, *args: Any, named: Mapping[str, Any] | None = None) -> Any:
        return await _answer(self._session.call(uri, args, named))

    def begin_call(self, uri: str, *args: Any) -> Deferred[Any]:
        return self._session.call(uri, args).deferred()

    async def publish(self, topic: str, *args: Any) -> None:
        await _answer(self._session.publish(topic, args))

    async def subscribe(self, topic: str, handler: Callable[..., object], *, match: str | None = None) -> None:
        if match is not None:
            raise Refused("wamp.error.not_authorized", "a bus in memory has no patterns")
        await _answer(self._session.subscribe(topic, lambda *args: handler(*args, details=None)))

    async def register(self, uri: str, procedure: Callable[..., object]) -> None:
        def called(args: Any, kwargs: Any) -> Pending[Any]:
            return resolved(procedure(*args, **kwargs, details=None))

        await _answer(self._session.register(uri, called))

    def hang_up(self) -> None:
        self._session.drop()

    async def leave(self) -> None:
        self._session.lost("it left")
        await _in_time(self.gone)


async def _answer(pending: Pending[Any]) -> Any:
    try:
        return await _in_time(pending.deferred())
    except TrishulaError as error:
        # What the router refuses, and not the node, a plain client gets in the router's words.
        uri = "wamp.error.not_authorized" if isinstance(error, NotAllowed) else error.uri
        raise Refused(uri, error.sentence) from None


def _in_time(answer: Deferred[Any]) -> Deferred[Any]:
    from twisted.internet import reactor

    clock: Any = reactor
    return answer.addTimeout(TIMEOUT_S, clock)
