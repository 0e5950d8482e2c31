"""How the frames of clients are read and written: with Autobahn's way of calling, and without a connection."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import cbor2
import pytest
from twisted.internet.task import Clock

from trishula_router.frames import guard_frames


class ProtocolError(Exception):
    pass


class Base:
    """A connection without WAMP."""

    written: list[object]

    def _fail_connection(self, code: int, reason: str) -> None:
        self.written.append(("cut", code, reason))


class Connection(Base):
    """As much of Autobahn's as is used."""

    CLOSE_STATUS_CODE_PROTOCOL_ERROR = 1002
    STATE_OPEN = 3
    failByDrop = True

    def __init__(self, messages: Any = ()) -> None:
        self.ended: list[tuple[int, str]] = []
        self.handed: list[object] = []
        self._serializer = SimpleNamespace(unserialize=self._unserialize)
        self._session: Any = SimpleNamespace(onMessage=self._take)
        self._messages = messages
        self.state = self.STATE_OPEN
        self.log = SimpleNamespace(warn=lambda *_, **__: None)
        self.clock = Clock()
        self.factory = SimpleNamespace(reactor=self.clock)
        self.written: list[object] = []
        self.transport = SimpleNamespace(abortConnection=lambda: self.written.append("abort"))

    def sendFrame(self, opcode: int, payload: bytes) -> None:
        self.written.append((opcode, payload))

    def dropConnection(self, abort: bool) -> None:
        self.written.append(f"drop, abort={abort}")

    def onMessage(self, payload: bytes, is_binary: bool) -> None:
        raise AssertionError("this is what is replaced")

    def _unserialize(self, payload: bytes, is_binary: bool) -> Any:
        if isinstance(self._messages, Exception):
            raise self._messages
        return self._messages

    def _take(self, message: object) -> None:
        if isinstance(message, Exception):
            raise message
        self.handed.append(message)

    def _bailout(self, code: int, reason: str) -> None:
        self.ended.append((code, reason))
        self._session = None


def autobahn(**other: Any) -> Any:
    names: dict[str, Any] = {
        "_dumps": lambda value, use_binary_hex_encoding=False: json.dumps(value, ensure_ascii=False),
        "_cbor_loads": cbor2.loads,
        "ProtocolError": ProtocolError,
    }
    return SimpleNamespace(**{**names, **other})


def guarded(messages: Any = ()) -> Connection:
    kind: Any = type("Guarded", (Connection,), {})
    assert guard_frames(kind, autobahn())
    connection = kind(messages)
    assert isinstance(connection, Connection)
    return connection


def test_messages_are_handed_over() -> None:
    connection = guarded(["a", "b"])
    connection.onMessage(b"", True)
    assert (connection.handed, connection.ended) == (["a", "b"], [])


def test_it_is_told_how_large_each_frame_was_once_it_was_handled() -> None:
    came: list[tuple[int, int]] = []
    kind: Any = type("Guarded", (Connection,), {})
    assert guard_frames(kind, autobahn(), lambda size_bytes: came.append((size_bytes, len(connection.handed))))
    connection = kind(["a", "b"])
    connection.onMessage(b"x" * 1000, True)
    connection.onMessage(b"", True)
    assert came == [(1000, 2), (0, 4)]


@pytest.mark.parametrize("messages", [ValueError("no frame\n" + "x" * 5000), ["a", ProtocolError("what?"), "b"]])
def test_a_bad_frame_ends_its_session_with_a_short_reason_and_no_traceback(messages: Any) -> None:
    connection = guarded(messages)
    connection.onMessage(b"", True)
    ((code, reason),) = connection.ended
    assert code == 1002
    assert reason.startswith(("WAMP Protocol Error ('no frame\\nxxx", "WAMP Protocol Error ('what?')"))
    assert len(reason) < 250
    assert connection.handed in ([], ["a"])


def test_whoever_is_cut_off_for_what_it_sent_is_told_why() -> None:
    connection: Any = guarded()
    connection._fail_connection(1009, "ä" * 100)
    # A character that would be cut in two is left out.
    assert connection.written == [(8, b"\x03\xf1" + "ä".encode() * 61), "drop, abort=False"]
    connection.clock.advance(1.0)
    assert connection.written[2:] == ["abort"]


@pytest.mark.parametrize(("state", "by_drop"), [(2, True), (3, False)])
def test_who_has_not_shaken_hands_or_is_told_by_autobahn_is_left_to_it(state: int, by_drop: bool) -> None:
    connection: Any = guarded()
    connection.state, connection.failByDrop = state, by_drop
    connection._fail_connection(1002, "what?")
    assert connection.written == [("cut", 1002, "what?")]


def test_a_fault_of_our_own_is_logged(logged_errors: Any) -> None:
    connection = guarded([KeyError("ours")])
    connection.onMessage(b"", True)
    assert len(connection.ended) == 1
    assert len(logged_errors.flush(KeyError)) == 1


def test_references_in_cbor_are_not_read() -> None:
    serializer = autobahn()
    assert guard_frames(type("Guarded", (Connection,), {}), serializer)
    assert serializer._cbor_loads(cbor2.dumps([1, {"a": b"x"}])) == [1, {"a": b"x"}]
    twice = ["x" * 100]
    with pytest.raises(Exception, match="decoding semantic tag"):
        serializer._cbor_loads(cbor2.dumps([twice, twice], value_sharing=True))
    with pytest.raises(Exception, match="decoding semantic tag"):
        serializer._cbor_loads(cbor2.dumps(["x" * 100, "x" * 100], string_referencing=True))


def test_a_lone_surrogate_goes_out_as_an_escape() -> None:
    serializer = autobahn()
    assert guard_frames(type("Guarded", (Connection,), {}), serializer)
    assert serializer._dumps(["ä\ud800"]) == '["ä\\ud800"]'.encode()
    assert serializer._dumps("x", use_binary_hex_encoding=False) == b'"x"'


@pytest.mark.parametrize(
    "other",
    [
        {"_dumps": None},
        {"_cbor_loads": lambda data: data},
    ],
)
def test_an_autobahn_that_is_not_as_expected_is_left_as_it_is(other: dict[str, Any]) -> None:
    serializer = autobahn(**other)
    before = dict(vars(serializer))
    kind = type("Guarded", (Connection,), {})
    assert not guard_frames(kind, serializer)
    assert vars(serializer) == before
    assert "onMessage" not in vars(kind)
