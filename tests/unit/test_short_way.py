"""Small messages by the short way at the client's end, beside Autobahn's own way: the same comes of them."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import pytest
from autobahn.twisted.wamp import ApplicationSession
from autobahn.twisted.websocket import WampWebSocketClientFactory, WampWebSocketClientProtocol
from autobahn.wamp.exception import SerializationError, TransportLost
from autobahn.wamp.message import Call, Event, Result
from autobahn.wamp.request import CallRequest, Handler, Subscription
from autobahn.wamp.types import CallResult
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.internet.testing import StringTransport

from trishula.session.carrying import Carrying
from trishula.session.short_way import SHORT_BYTES, ShortWay, masked, unframed
from trishula.session.web_socket import JsonFrames, MsgPackFrames


def of_node(payload: bytes, first: int = 0x82, told: int | None = None) -> bytes:
    """A frame, its length told in so many bytes more, or in as few as can be."""
    size = len(payload)
    told = (0 if size < 126 else 2 if size < 65536 else 8) if told is None else told
    head = bytes((first, {0: size, 2: 126, 8: 127}[told])) + (size.to_bytes(told, "big") if told else b"")
    return head + payload


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 127, 300, SHORT_BYTES])
def test_a_short_frame_is_read_and_written(size: int) -> None:
    payload = bytes(index % 251 for index in range(size))
    frame = of_node(payload)
    assert unframed(frame) == (payload, len(frame))
    assert unframed(frame + b"more") == (payload, len(frame))
    assert unframed(frame[:-1]) is None
    mask = bytes((9, 8, 7, 6))
    hidden = bytes(one ^ mask[index % 4] for index, one in enumerate(payload))
    head = of_node(payload)[: len(frame) - size]
    assert masked(payload, True, mask) == bytes((head[0], head[1] | 0x80)) + head[2:] + mask + hidden
    assert masked(payload, False, mask)[0] == 0x81


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x82",
        b"\x82\x7e\x01",
        # Masked, as no node may; text, a ping, one of several, a later one, with an extension's bit.
        b"\x82\x81abcde",
        *(of_node(b"x", first) for first in (0x81, 0x89, 0x02, 0x80, 0xC2)),
        of_node(bytes(SHORT_BYTES + 1)),
        of_node(bytes(70_000)),
        # Not the shortest way to tell a length: a violation, of which Autobahn has to judge.
        of_node(bytes(125), told=2),
        of_node(bytes(200), told=8),
    ],
)
def test_what_else_comes_is_left_to_autobahn(frame: bytes) -> None:
    assert unframed(frame) is None


def plain(result: Any) -> Any:
    """What a call came to, comparable."""
    return (result.results, result.kwresults) if isinstance(result, CallResult) else result


class Session(ApplicationSession):  # type: ignore[misc]  # Autobahn is untyped
    """One that has joined, asked something, and listens."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []
        self._session_id = 1
        for number in range(1, 5):
            answer: Deferred[Any] = Deferred()
            answer.addCallbacks(
                lambda value, number=number: self.told.append((number, plain(value))),
                lambda failure, number=number: self.told.append((number, type(failure.value))),
            )
            self._call_reqs[number] = CallRequest(number, "a.b", answer, {})
        for topic in (1, 2):
            handlers = (self._heard, self._raises if topic == 2 else self._fails, self._heard)
            self._subscriptions[topic] = [
                Subscription(topic, f"t.{topic}", self, Handler(handler, None, None)) for handler in handlers
            ]

    def _heard(self, *args: Any) -> None:
        self.told.append(args)

    def _raises(self, *args: Any) -> None:
        raise ValueError(str(args))

    def _fails(self, *args: Any) -> Deferred[None]:
        return fail(ValueError(str(args)))

    def onUserError(self, fail: Any, msg: str) -> None:
        self.told.append((str(fail.value), msg.rpartition(" ")[2]))

    def onMessage(self, msg: Any) -> None:
        self.told.append(type(msg).__name__)
        super().onMessage(msg)


class Whole(Carrying, WampWebSocketClientProtocol):  # type: ignore[misc]  # Autobahn is untyped
    """A client's end of an open WebSocket."""

    def begin(self, serializer: Any) -> Any:
        self.factory = WampWebSocketClientFactory(Session, url="ws://127.0.0.1:1/")
        self.transport = StringTransport()  # type: ignore[no-untyped-call]
        self._connectionMade()
        self.openHandshakeTimeoutCall.cancel()
        self.transport.clear()
        self.state, self._perMessageCompress, self.websocket_version = self.STATE_OPEN, None, 13
        self.inside_message, self.current_frame, self.data = False, None, b""
        self._serializer, self._session = serializer, Session()
        self._session._transport = self
        self.ends: list[Any] = []
        return self

    def unregisterProducer(self) -> None:
        """There is none, and Twisted's transport for tests minds."""

    def _bailout(self, code: int, reason: str | None = None) -> None:
        self.ends.append((code, reason))

    def feed(self, pieces: list[bytes]) -> tuple[Any, ...]:
        for piece in pieces:
            self.dataReceived(piece)
        counted = self.trafficStats
        waits = sorted(self._session._call_reqs)
        return (
            self.ends,
            waits,
            b"" if self.failedByMe else self.data,
            self.failedByMe,
            counted.incomingWebSocketFrames,
            counted.incomingWebSocketMessages,
            counted.incomingOctetsAppLevel,
            counted.incomingOctetsWebSocketLevel,
        )


class Short(ShortWay, Whole):
    """The same, by the short way."""

    _is_msgpack = True


def of_wamp(*told: Any) -> bytes:
    return of_node(msgspec.msgpack.encode(list(told)))


DETAILS = st.sampled_from([{}, {}, {"publisher": 7, "publisher_authid": "x"}, {"topic": "t.x"}, {"progress": False}, 5])
ARGS = st.sampled_from([["one"], ["one"], [{"a": [1]}], [], ["one", "two"], None, "x", 7])
NUMBERS = st.sampled_from([1, 2, 3, 4, 1, 2, 9, "1", -1])
MESSAGES = st.one_of(
    st.builds(lambda number, details, args: of_wamp(50, number, details, args), NUMBERS, DETAILS, ARGS),
    st.builds(lambda number, details, args: of_wamp(36, number, 5, details, args), NUMBERS, DETAILS, ARGS),
    st.builds(lambda number: of_wamp(50, number, {}), NUMBERS),
    st.builds(lambda number: of_wamp(50, number, {}, ["x"], {"k": 1}), NUMBERS),
    st.builds(lambda number: of_wamp(36, number, 5, {}), NUMBERS),
    st.builds(lambda number: of_wamp(8, 48, number, {}, "a.b.c"), NUMBERS),
    st.sampled_from([of_node(b"\xc1"), of_wamp(), of_wamp("x"), of_wamp(True, 1, {}, [1]), of_node(b"\x01")]),
    st.sampled_from([of_node(b"hi", 0x89), of_node(b"x" * 10, 0x02), of_node(b"[]", 0x81)]),
)


@given(st.lists(MESSAGES, max_size=5).map(b"".join), st.lists(st.integers(1, 60), max_size=6))
def test_whatever_comes_and_in_whichever_pieces_the_same_is_made_of_it(data: bytes, cuts: list[int]) -> None:
    pieces = []
    for cut in cuts:
        pieces.append(data[:cut])
        data = data[cut:]
    pieces.append(data)
    short, whole = Short().begin(MsgPackFrames()), Whole().begin(MsgPackFrames())
    assert short.feed(pieces) == whole.feed(pieces)
    # By the short way no message was made of it: what handlers and callers hear is all that there is to compare.
    heard = [[one for one in each._session.told if not isinstance(one, str)] for each in (short, whole)]
    assert heard[0] == heard[1]


def test_plain_results_and_events_take_the_short_way_and_no_others() -> None:
    data = of_wamp(50, 1, {}, ["x"]) + of_wamp(36, 1, 5, {"publisher": 7}, ["y"])
    short = Short().begin(MsgPackFrames())
    short.feed([data])
    assert [one for one in short._session.told if isinstance(one, str)] == []
    for attributes in ({"_is_msgpack": False}, {"logFrames": True}, {"maskClientFrames": False}):
        short = Short().begin(MsgPackFrames())
        for name, value in attributes.items():
            setattr(short, name, value)
        short.feed([data])
        assert [one for one in short._session.told if isinstance(one, str)] == ["Result", "Event"], attributes
    short = Short().begin(MsgPackFrames())
    short._session._session_id = None
    short.feed([data])
    assert short.ends


def test_what_nobody_listens_to_any_more_is_judged_by_autobahn() -> None:
    short = Short().begin(MsgPackFrames())
    short._session._call_reqs[1].on_reply.callback("before")
    short.feed([of_wamp(50, 1, {}, ["late"])])
    assert short._session.told == [(1, "before")]
    short.feed([of_wamp(50, 1, {}, ["again"])])
    assert short.ends


def sent_by(one: Any, message: Any) -> bytes:
    one.carry(lambda: 0.0, 10.0, 10.0)
    one.outflow.window_bytes = 10**9
    one.autoFragmentSize = 0
    one.send(message)
    return bytes(one.transport.value())


def unmasked(frame: bytes) -> tuple[bytes, bytes]:
    """A frame's head, and its payload, whatever the mask."""
    told = frame[1] & 0x7F
    begin = {126: 4, 127: 10}.get(told, 2)
    size = told if told < 126 else struct.unpack(">H" if told == 126 else ">Q", frame[2:begin])[0]
    mask, hidden = frame[begin : begin + 4], frame[begin + 4 : begin + 4 + size]
    return frame[:begin], bytes(one ^ mask[index % 4] for index, one in enumerate(hidden))


@pytest.mark.parametrize("frames", [MsgPackFrames, JsonFrames])
@pytest.mark.parametrize("size", [0, 90, 130, 300, 5000, SHORT_BYTES, 70_000])
def test_the_same_goes_out_under_a_mask_of_its_own(frames: Any, size: int) -> None:
    message = Call(1, "a.b.c", args=["x" * size])
    plain, brief = Whole().begin(frames()), Short().begin(frames())
    assert unmasked(sent_by(brief, message)) == unmasked(sent_by(plain, message))
    for name in ("Frames", "Messages"):
        assert getattr(brief.trafficStats, f"outgoingWebSocket{name}") == 1
    masks = {sent_by(Short().begin(frames()), Result(1, args=["x"]))[2:6] for _ in range(20)}
    assert len(masks) > 1


def test_what_can_not_be_written_is_refused_as_autobahn_does() -> None:
    short = Short().begin(MsgPackFrames())
    short.carry(lambda: 0.0, 10.0, 10.0)
    with pytest.raises(SerializationError):
        short.send(Call(1, "a.b.c", args=[object()]))
    short._session = None
    with pytest.raises(TransportLost):
        short.send(Event(1, 2, args=["x"]))


def test_the_kind_of_frames_is_known_when_the_web_socket_is_open() -> None:
    class Opened:
        def onOpen(self) -> None:
            pass

    class Mixed(ShortWay, Opened):
        pass

    for serializer, is_msgpack in ((MsgPackFrames(), True), (JsonFrames(), False), (None, False)):
        mixed = Mixed()
        mixed._serializer = serializer  # type: ignore[attr-defined]
        mixed.onOpen()
        assert mixed._is_msgpack is is_msgpack
