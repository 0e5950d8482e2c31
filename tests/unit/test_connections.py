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
from twisted.internet.abstract import FileDescriptor
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection as TwistedConnection
from twisted.web.http import HTTPChannel

from tests.support.nodes import LIMITS
from trishula.session.written_soon import write_soon
from trishula_router.client_ips import Proxies
from trishula_router.upstream.connections import Connections
from trishula_router.upstream.guarded_connection import answer_to_ping, guard_connections
from trishula_router.upstream.turns import Turns
from trishula_router.upstream.written_together import Writes


class Base:
    """As much of Crossbar's connection as is needed."""

    def method(self, *_: Any) -> None:
        """Whatever it does."""

    onConnect = onOpen = send = sendFrame = sendData = sendCloseFrame = onPong = method
    onFrameBegin = dataReceived = connectionLost = onMessage = consumeData = processData = method
    sendMessage = _dataReceived = method


def crossbar(base: Any) -> Any:
    return SimpleNamespace(WampWebSocketServerFactory=type("Factory", (), {"protocol": base}))


def guard(base: Any, writes: Writes | None = None) -> tuple[bool, Any, Clock]:
    clock = Clock()
    module = crossbar(base)
    site = type("Site", (), {"buildProtocol": Base.method})
    turns = Turns(clock.seconds, cast(Any, clock).callLater)
    connections = Connections(LIMITS, cast(Any, clock), print, Proxies(), 1024, print)
    done = guard_connections(connections, turns, writes or Writes(), module, site)
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


# -- pings -------------------------------------------------------------------------------------------------------------

MASK = bytes((1, 2, 3, 4))


def masked(first: int, payload: bytes) -> bytes:
    """A short frame of a client."""
    hidden = bytes(one ^ MASK[index % 4] for index, one in enumerate(payload))
    return bytes((first, 0x80 | len(payload))) + MASK + hidden


@pytest.mark.parametrize("payload", [b"", b"x", b"twelve bytes", bytes(range(125))])
def test_one_ping_and_nothing_else_is_answered(payload: bytes) -> None:
    assert answer_to_ping(masked(0x89, payload)) == bytes((0x8A, len(payload))) + payload


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89",
        masked(0x89, b"x")[:-1],
        masked(0x89, b"x") + b"y",
        masked(0x89, b"") * 2,
        masked(0x8A, b"x"),
        masked(0x88, b"x"),
        masked(0x81, b"x"),
        # Not masked, in fragments, with an extension's bit: for Autobahn to judge.
        b"\x89\x04xxxx",
        masked(0x09, b"x"),
        masked(0xC9, b"x"),
        # A length of two bytes, of 132 in all and of 126.
        b"\x89\xfe\x00\x7e" + MASK + bytes(126),
        b"\x89\xfe" + MASK + bytes(126),
    ],
)
def test_whatever_else_is_left_to_autobahn(data: bytes) -> None:
    assert answer_to_ping(data) is None


class Socket:
    """A transport of Twisted's, as far as it is used; the kernel takes so many bytes at a time."""

    def __init__(self, takes: int | Exception, waiting: bytes = b"") -> None:
        self.dataBuffer, self._tempDataBuffer = waiting, list[bytes]()
        self.connected, self.disconnecting = True, False
        self.at_once = b""
        self.later = b""
        self._takes = takes

    def writeSomeData(self, data: bytes) -> int | Exception:
        if isinstance(self._takes, int):
            self.at_once += data[: self._takes]
            return min(self._takes, len(data))
        return self._takes

    def write(self, data: bytes) -> None:
        self.later += data


@pytest.mark.parametrize(
    ("socket", "at_once", "later"),
    [
        (Socket(10), b"pong", b""),
        (Socket(1), b"p", b"ong"),
        (Socket(0), b"", b"pong"),
        (Socket(ConnectionError()), b"", b"pong"),
        (Socket(10, waiting=b"before"), b"", b"pong"),
    ],
)
def test_a_pong_is_written_whole_and_in_its_place(socket: Socket, at_once: bytes, later: bytes) -> None:
    write_soon(socket, b"pong")
    assert (socket.at_once, socket.later) == (at_once, later)


def test_other_transports_write_as_they_do() -> None:
    written: list[bytes] = []
    write_soon(SimpleNamespace(write=written.append), b"pong")
    assert written == [b"pong"]


def test_of_the_frames_of_a_turn_the_first_small_one_is_written_at_once() -> None:
    _, made, clock = guard(Base)
    connection = made()
    connection._seconds = clock.seconds
    connection.transport = socket = Socket(100_000)
    connection.write_out(bytes(20_000))
    assert (len(socket.at_once), len(socket.later)) == (0, 20_000)
    socket.later = b""
    connection.write_out(b"a")
    connection.write_out(b"b")
    assert (socket.at_once, socket.later) == (b"a", b"b")
    clock.advance(0.002)
    connection.write_out(b"c")
    assert (socket.at_once, socket.later) == (b"ac", b"b")
    clock.advance(0.002)
    socket.connected = False
    connection.write_out(b"d")
    assert (socket.at_once, socket.later) == (b"ac", b"bd")


class Ours(Base):
    """Writes what it is given, behind what is kept back."""

    def sendData(self, data: bytes, *_: Any) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]

    def sendPing(self, payload: bytes) -> None:
        self.sendData(b"ping")


def open_connection(writes: Writes) -> tuple[Any, Socket]:
    _, made, clock = guard(Ours, writes)
    connection, socket = made(), Socket(100_000)
    connection.transport, connection._session = socket, None
    connection.carry(clock.seconds, 10.0, 10.0)
    return connection, socket


def test_what_leaves_together_is_one_write_of_each_connection() -> None:
    writes = Writes()
    (one, its), (other, others) = open_connection(writes), open_connection(writes)
    with writes.together():
        for frame in (b"a", b"b"):
            one.send_data_frame(frame)
            other.send_data_frame(frame * 8_500)
        assert its.at_once == b""
        # It is more than goes at once, and is followed by a mark.
        assert others.later == b"a" * 8_500 + b"b" * 8_500 + b"ping"
    # However soon it is after another one, which Twisted would be asked to write later.
    assert (its.at_once, its.later) == (b"ab", b"")
    one.send_data_frame(b"c")
    assert its.at_once == b"abc"


def test_a_ping_does_not_pass_what_is_kept_back_and_a_fault_keeps_back_nothing() -> None:
    writes = Writes()
    connection, socket = open_connection(writes)

    def send() -> None:
        with writes.together():
            connection.send_data_frame(b"a")
            connection.sendData(b"ping")
            assert (socket.at_once, socket.later) == (b"a", b"ping")
            connection.send_data_frame(b"b")
            raise ValueError

    with pytest.raises(ValueError):
        send()
    assert (socket.at_once, socket.later) == (b"ab", b"ping")


class Wrapper:
    """As Twisted's wrappers, TLS above all: what it hasn't itself is what it wraps."""

    def __init__(self, wrapped: Socket) -> None:
        self._wrapped = wrapped
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)


def test_nothing_is_written_beneath_tls() -> None:
    beneath = Socket(10)
    tls = Wrapper(beneath)
    write_soon(tls, b"pong")
    assert tls.written == [b"pong"]
    assert (beneath.at_once, beneath.later) == (b"", b"")


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
    assert "self.current_frame = None" in inspect.getsource(WebSocketProtocol.onFrameEnd)
    assert "_tempDataBuffer" in vars(FileDescriptor(cast(Any, Clock()))) and callable(TwistedConnection.writeSomeData)
    assert hasattr(Site(None).buildProtocol(None), "_channel")
    assert "self._handlingRequest = False" in inspect.getsource(HTTPChannel.__init__)
    assert "request.channel.transport = request.channel.transport, None" in inspect.getsource(WebSocketResource.render)
