"""The connections of a node, as Crossbar makes them of our class; and what is at fault upstream.

What they do to real clients is in ``tests/integration/test_strangers.py`` and ``test_slow_lines.py``.
"""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any, cast

import pytest
from autobahn.twisted.resource import WebSocketResource
from autobahn.websocket.protocol import WebSocketProtocol
from crossbar.common.twisted.web import Site
from crossbar.router import protocol as crossbar_protocol
from twisted.internet.task import Clock
from twisted.web.http import HTTPChannel

from tests.support.nodes import LIMITS
from trishula_router.connections import Connections, guard_connections


class Base:
    """As much of Crossbar's connection as is needed."""

    def method(self, *_: Any) -> None:
        """Whatever it does."""

    onOpen = send = sendFrame = sendData = sendCloseFrame = onPong = dataReceived = connectionLost = method


def crossbar(base: Any) -> Any:
    return SimpleNamespace(WampWebSocketServerFactory=type("Factory", (), {"protocol": base}))


def guard(base: Any) -> tuple[bool, Any, Clock]:
    clock = Clock()
    module = crossbar(base)
    site = type("Site", (), {"buildProtocol": Base.method})
    done = guard_connections(Connections(LIMITS, cast(Any, clock), print), module, site)
    return done, module.WampWebSocketServerFactory.protocol, clock


def test_crossbar_makes_connections_of_our_class() -> None:
    done, made, clock = guard(Base)
    assert done
    assert issubclass(made, Base) and made is not Base
    assert clock.getDelayedCalls()


@pytest.mark.parametrize("base", [None, type("Other", (), {"onOpen": Base.method})])
def test_a_crossbar_that_is_built_otherwise_is_left_alone(base: Any) -> None:
    done, made, clock = guard(base)
    assert not done
    assert made is base
    assert not clock.getDelayedCalls()


# -- what is at fault upstream -----------------------------------------------------------------------------------------


def test_upstream_takes_whole_frames_alone_for_a_sign_of_life_and_pings_before_anybody_is_served() -> None:
    assert "_cancelAutoPingTimeoutCall" in inspect.getsource(WebSocketProtocol.onFrameEnd)
    assert "autoPing" not in inspect.getsource(WebSocketProtocol._dataReceived)


def test_upstream_hands_all_frames_to_the_socket_at_once() -> None:
    source = inspect.getsource(WebSocketProtocol.sendMessage) + inspect.getsource(WebSocketProtocol.sendData)
    assert "waiting" not in source and "registerProducer" not in source


def test_upstream_bounds_neither_what_is_queued_nor_who_does_not_join() -> None:
    source = inspect.getsource(crossbar_protocol.set_websocket_options)
    assert "queue" not in source and "hello" not in source.lower()


def test_upstream_still_has_what_we_reach_into() -> None:
    base = crossbar_protocol.WampWebSocketServerFactory.protocol
    assert {"autoPingInterval", "autoPingTimeout", "autoFragmentSize"} <= set(WebSocketProtocol.CONFIG_ATTRS_COMMON)
    assert list(inspect.signature(base.sendCloseFrame).parameters) == ["self", "code", "reasonUtf8", "isReply"]
    # A frame goes from the one to the other, with nothing in between.
    assert inspect.getsource(base.sendFrame).rstrip().endswith("self.sendData(raw, sync, chopsize)")
    assert "hasattr(self, configAttr)" in inspect.getsource(WebSocketProtocol._connectionMade)
    assert hasattr(Site(None).buildProtocol(None), "_channel")
    assert "self._handlingRequest = False" in inspect.getsource(HTTPChannel.__init__)
    assert "request.channel.transport = request.channel.transport, None" in inspect.getsource(WebSocketResource.render)
