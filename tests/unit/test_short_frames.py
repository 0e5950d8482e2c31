"""Small messages by the short way, beside Autobahn's own way: the same comes in, and the same goes out."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
from autobahn.twisted.websocket import WebSocketAdapterProtocol, WebSocketServerFactory, WebSocketServerProtocol
from autobahn.wamp.message import Result
from autobahn.wamp.serializer import JsonSerializer, MsgPackSerializer
from autobahn.wamp.websocket import WampWebSocketProtocol
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport

from trishula.session.carrying import Carrying
from trishula_router.upstream.short_frames import SHORT_BYTES, ShortFrames, framed, unframed

MASK = bytes((1, 2, 3, 4))


def of_client(payload: bytes, first: int = 0x82, mask: bytes | None = MASK, told: int | None = None) -> bytes:
    """A frame, its length told in so many bytes more, or in as few as can be."""
    size = len(payload)
    told = (0 if size < 126 else 2 if size < 65536 else 8) if told is None else told
    masked = 0x80 if mask else 0
    head = bytes((first, masked | {0: size, 2: 126, 8: 127}[told])) + (size.to_bytes(told, "big") if told else b"")
    if mask:
        payload = mask + bytes(one ^ mask[index % 4] for index, one in enumerate(payload))
    return head + payload


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 127, 300, 65535 // 4, SHORT_BYTES])
def test_a_short_frame_is_read(size: int) -> None:
    payload = bytes(index % 251 for index in range(size))
    frame = of_client(payload)
    assert unframed(frame) == (payload, len(frame))
    assert unframed(frame + b"more") == (payload, len(frame))
    assert unframed(frame[:-1]) is None


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x82",
        of_client(b"x", mask=None),
        # Text, a ping, one of several, a later one, with an extension's bit.
        *(of_client(b"x", first) for first in (0x81, 0x89, 0x02, 0x80, 0xC2)),
        of_client(bytes(SHORT_BYTES + 1)),
        of_client(bytes(70_000)),
        # Not the shortest way to tell a length: a violation, of which Autobahn has to judge.
        of_client(bytes(125), told=2),
        of_client(bytes(200), told=8),
    ],
)
def test_what_else_comes_is_left_to_autobahn(frame: bytes) -> None:
    assert unframed(frame) is None


class Kept(WebSocketServerProtocol):  # type: ignore[misc]  # Autobahn is untyped
    """A server's end of an open WebSocket, which keeps what came."""

    def __init__(self) -> None:
        super().__init__()
        self.came: list[tuple[bytes, bool]] = []
        self.pings: list[bytes] = []

    def begin(self) -> Kept:
        self.factory = WebSocketServerFactory()
        self.transport = StringTransport()  # type: ignore[no-untyped-call]
        self._connectionMade()
        self.openHandshakeTimeoutCall.cancel()
        self.state, self._perMessageCompress, self.websocket_version = self.STATE_OPEN, None, 13
        self.inside_message, self.current_frame, self.data = False, None, b""
        self.onOpen = lambda: None
        return self

    def unregisterProducer(self) -> None:
        """There is none, and Twisted's transport for tests minds."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.came.append((payload, isBinary))

    def onPing(self, payload: bytes) -> None:
        self.pings.append(payload)

    def advance(self) -> bool:
        return self.state != self.STATE_CLOSED and bool(self.processData()) and self.state != self.STATE_CLOSED

    def feed(self, pieces: list[bytes]) -> tuple[Any, ...]:
        for piece in pieces:
            self.data += piece
            while self.advance():
                pass
        counted = self.trafficStats
        return (
            self.came,
            self.pings,
            b"" if self.failedByMe else self.data,
            self.failedByMe,
            self.inside_message,
            counted.incomingWebSocketFrames,
            counted.incomingWebSocketMessages,
            counted.incomingOctetsAppLevel,
            counted.incomingOctetsWebSocketLevel,
        )


class Short(ShortFrames, Carrying, Kept):
    """The same, by the short way."""

    _is_stranger = False
    _session: Any = SimpleNamespace(_session_id=1)


FRAMES = st.one_of(
    st.binary(max_size=300).map(of_client),
    st.binary(max_size=300).map(of_client),
    st.binary(max_size=20).map(lambda payload: of_client(payload, 0x89)),
    st.binary(max_size=20).map(lambda payload: of_client(payload, 0x02) + of_client(payload, 0x80)),
    st.binary(max_size=20).map(lambda payload: of_client(payload.hex().encode(), 0x81)),
    st.sampled_from(
        [of_client(b"x", 0x02), of_client(b"x", 0x80), of_client(b"x", mask=None), of_client(b"xx", told=2)]
    ),
)


@given(st.lists(FRAMES, max_size=6).map(b"".join), st.lists(st.integers(1, 400), max_size=8))
def test_whatever_comes_and_in_whichever_pieces_the_same_is_made_of_it(data: bytes, cuts: list[int]) -> None:
    pieces = []
    for cut in cuts:
        pieces.append(data[:cut])
        data = data[cut:]
    pieces.append(data)
    assert Short().begin().feed(pieces) == Kept().begin().feed(pieces)


def test_frames_of_strangers_and_those_that_are_too_large_go_autobahns_way() -> None:
    frame = of_client(b"hello")
    for attributes in (
        {"_is_stranger": True},
        {"_session": SimpleNamespace(_session_id=None)},
        {"maxFramePayloadSize": 4},
        {"maxMessagePayloadSize": 4},
        {"logFrames": True},
        {"_perMessageCompress": object()},
    ):
        short = Short().begin()
        seen: list[bytes] = []
        short.processData = lambda seen=seen, short=short: seen.append(short.data) or False
        for name, value in attributes.items():
            setattr(short, name, value)
        short.feed([frame])
        assert seen == [frame], attributes


def open_ones(serializer: Any) -> tuple[Any, Any]:
    """Autobahn's end of a WebSocket, and one with the short way."""

    class Plain(Kept):
        def send(self, message: Any) -> None:
            self.sendMessage(*serializer.serialize(message))

    class Brief(Short):
        _serializer = serializer
        _session = SimpleNamespace(_session_id=1)

        def send(self, message: Any) -> None:
            assert self.send_message(message)

    plain, brief = Plain().begin(), Brief().begin()
    brief.carry(lambda: 0.0, 10.0, 10.0)
    brief.outflow.window_bytes = 10**9
    brief.autoFragmentSize = 0
    return plain, brief


@pytest.mark.parametrize("serializer", [MsgPackSerializer(), JsonSerializer()])
@pytest.mark.parametrize("size", [0, 90, 130, 300, 5000, SHORT_BYTES, 70_000])
def test_the_same_goes_out(serializer: Any, size: int) -> None:
    plain, brief = open_ones(serializer)
    message = Result(1, args=["x" * size])
    for one in (plain, brief):
        one.send(message)
    # Behind much follows a mark of the outflow.
    sent = plain.transport.value()
    assert brief.transport.value()[: len(sent)] == sent
    for name in ("Frames", "Messages"):
        assert getattr(brief.trafficStats, f"outgoingWebSocket{name}") == 1


def test_what_can_not_be_written_is_left_to_autobahn() -> None:
    _, brief = open_ones(MsgPackSerializer())
    assert not brief.send_message(Result(1, args=[object()]))
    for attributes in ({"outflow": None}, {"_session": None}, {"maskServerFrames": True}, {"_perMessageCompress": 1}):
        _, brief = open_ones(MsgPackSerializer())
        for name, value in attributes.items():
            setattr(brief, name, value)
        assert not brief.send_message(Result(1, args=["x"])), attributes
    assert framed(b"x", False)[0] == 0x81


# -- what is at fault upstream -----------------------------------------------------------------------------------------


def test_upstream_puts_lines_together_that_no_log_takes() -> None:
    assert inspect.getsource(WampWebSocketProtocol.send).count("hlval(") == 5
    source = inspect.getsource(WebSocketAdapterProtocol.dataReceived)
    assert "hltype(" in source
    assert source.count("self.") - source.count("self.log") - source.count("self.peer") == 2
