"""What comes in on a connection, before it is read; on as much of Autobahn's protocol as is used."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
from autobahn.websocket.protocol import WebSocketProtocol

from trishula_router.upstream.incoming import GREETING_BYTES, Bounds, Incoming, speak_as_configured
from trishula_router.upstream.unfinished import Unfinished

MIB = 1024 * 1024


class Base:
    """Of Autobahn."""

    def onFrameBegin(self) -> None:
        """A frame's head is here."""

    def dataReceived(self, data: bytes) -> None:
        """Bytes are here."""

    def connectionLost(self, *args: Any) -> None:
        """It is gone."""


class Connection(Incoming, Base):
    def __init__(self, name: str, unfinished: Unfinished, session: Any = None) -> None:
        self.name, self.now_s, self.freed = name, 100.0, 0
        self.bounds = Bounds(unfinished, lambda: self.now_s, self._free)
        self.factory = SimpleNamespace(maxFramePayloadSize=8 * MIB, maxMessagePayloadSize=16 * MIB)
        self.maxFramePayloadSize, self.maxMessagePayloadSize = 8 * MIB, 16 * MIB
        self._session = session
        self.failedByMe = False
        self.data = b"more"
        self.current_frame: Any = SimpleNamespace(opcode=1)
        self.message_data: list[bytes] = []
        self.frame_data: list[bytes] = []
        self.message_data_total_length = 0
        self.ended: list[object] = []

    def _free(self, size_bytes: int) -> None:
        self.freed += size_bytes

    def too_many_frames(self) -> None:
        self.ended.append("too many frames")

    def _fail_connection(self, code: int, reason: str) -> None:
        self.ended.append((code, reason))

    def part(self, size_bytes: int, pieces: int = 1, missing: int = 0) -> None:
        """A read has left so much of a message here."""
        self.inside_message = True
        self.message_data = [b""] * pieces
        self.message_data_total_length = size_bytes + missing
        masker = SimpleNamespace(pointer=lambda: 0)
        self.current_frame = SimpleNamespace(opcode=1, length=missing) if missing else None
        self.current_frame_masker = masker
        self.dataReceived(b"")


def joined(authid: str, role: str = "agent") -> Any:
    return SimpleNamespace(_session_id=1, _authid=authid, _authrole=role)


def test_before_a_session_has_joined_messages_are_small_and_again_when_it_has_left() -> None:
    session = SimpleNamespace(_session_id=None)
    connection = Connection("a", Unfinished(), session)
    for session_id, frame, message in (
        (None, GREETING_BYTES, GREETING_BYTES),
        (1, 8 * MIB, 16 * MIB),
        (None, GREETING_BYTES, GREETING_BYTES),
        (2, 8 * MIB, 16 * MIB),
    ):
        session._session_id = session_id
        connection.onFrameBegin()
        assert (connection.maxFramePayloadSize, connection.maxMessagePayloadSize) == (frame, message)


def test_a_stranger_sends_some_frames_at_once_and_more_in_time() -> None:
    connection = Connection("a", Unfinished())
    for _ in range(64):
        connection.onFrameBegin()
    connection.now_s += 1.0
    for _ in range(16):
        connection.onFrameBegin()
    assert (connection.ended, connection.data) == ([], b"more")
    connection.onFrameBegin()
    assert (connection.ended, connection.data) == (["too many frames"], b"")


def test_a_member_sends_as_many_messages_as_it_likes() -> None:
    connection = Connection("a", Unfinished(), joined("dc"))
    for _ in range(10_000):
        connection.onFrameBegin()
    assert connection.ended == []


@pytest.mark.parametrize("opcode", [0, 8, 9, 10])
def test_a_thousand_frames_at_once_that_say_nothing_end_a_member(opcode: int) -> None:
    connection = Connection("a", Unfinished(), joined("dc"))
    for _ in range(10):
        connection.dataReceived(b"")
        connection.current_frame = SimpleNamespace(opcode=opcode, length=0)
        for _ in range(999):
            connection.onFrameBegin()
    assert connection.ended == []
    connection.onFrameBegin()
    assert connection.ended == [(1008, "1000 fragments or control frames came at once")]


def test_a_part_is_counted_with_its_pieces_and_let_go_when_the_message_is_whole() -> None:
    unfinished = Unfinished()
    connection = Connection("a", unfinished, joined("dc"))
    connection.part(1000, pieces=3, missing=500)
    assert unfinished.buffered_bytes == 1000 + 3 * 64
    connection.inside_message = False
    connection.dataReceived(b"")
    assert (unfinished.buffered_bytes, connection.freed) == (0, 1192)
    connection.part(2000)
    connection.connectionLost()
    assert (unfinished.buffered_bytes, connection.message_data) == (0, [])


def test_who_has_most_is_ended_and_its_part_forgotten() -> None:
    unfinished = Unfinished(members_bytes=10_000)
    large, small = Connection("large", unfinished, joined("eve")), Connection("small", unfinished, joined("dc"))
    large.part(9000)
    small.part(800)
    assert large.ended == []
    small.part(2000)
    assert (large.ended, large.message_data) == ([(1009, "too much of unfinished messages is kept for it")], [])
    assert small.ended == []
    assert unfinished.buffered_bytes == 2064


def test_a_message_of_too_many_pieces_ends_its_connection() -> None:
    connection = Connection("a", Unfinished(), joined("dc"))
    connection.part(16_000, pieces=16_000)
    assert connection.ended == []
    connection.part(17_000, pieces=17_000)
    assert connection.ended == [(1009, "a message comes in more pieces than its size is worth")]


@pytest.mark.parametrize("asked", [["json", "cbor"], None])
def test_what_is_not_configured_is_not_spoken(asked: list[str] | None) -> None:
    names = ["cbor.batched", "cbor", "ubjson.batched", "ubjson", "json.batched", "json"]
    factory = SimpleNamespace(
        _config={} if asked is None else {"serializers": asked},
        _serializers={name: object() for name in names},
        protocols=[f"wamp.2.{name}" for name in names],
    )
    speak_as_configured(factory)
    assert list(factory._serializers) == ["cbor", "json"]
    assert factory.protocols == ["wamp.2.cbor", "wamp.2.json"]


# -- what is at fault upstream -----------------------------------------------------------------------------------------


def test_upstream_still_offers_batches_unasked() -> None:
    from crossbar.router.protocol import WampWebSocketServerFactory

    assert "JsonSerializer(batched=True)" in inspect.getsource(WampWebSocketServerFactory.__init__)


def test_upstream_still_asks_what_we_answer() -> None:
    source = inspect.getsource(WebSocketProtocol)
    assert "self.onFrameBegin()" in source
    assert "0 < self.maxMessagePayloadSize < self.message_data_total_length" in source
    assert "if not self.failedByMe" in inspect.getsource(WebSocketProtocol.onMessageFrameData)
