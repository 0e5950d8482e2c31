"""How the frames of clients are read and written: with Autobahn's way of calling, and without a connection."""

from __future__ import annotations

import gc
import inspect
import json
from types import SimpleNamespace
from typing import Any

import cbor2
import msgpack
import pytest
from twisted.internet.task import Clock

from trishula_router.upstream.frames import guard_frames


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
        self.read: list[object] = []
        self.collecting: list[bool] = []
        self._serializer = SimpleNamespace(
            unserialize=self._unserialize, _serializer=SimpleNamespace(unserialize=lambda payload: self.read)
        )
        self._session: Any = SimpleNamespace(onMessage=self._take, _session_id=1, _pending_session_id=None)
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
        self.collecting.append(gc.isenabled())
        return [SimpleNamespace(MESSAGE_TYPE=1 if one == "HELLO" else 48, what=one) for one in self._messages]

    def _take(self, message: Any) -> None:
        if isinstance(message.what, Exception):
            raise message.what
        self.handed.append(message.what)

    def _bailout(self, code: int, reason: str) -> None:
        self.ended.append((code, reason))
        self._session = None


def autobahn(**other: Any) -> Any:
    names: dict[str, Any] = {
        "_dumps": lambda value, use_binary_hex_encoding=False: json.dumps(value, ensure_ascii=False),
        "_loads": lambda text, **options: ("with", options),
        "_packb": msgpack.packb,
        "_unpackb": msgpack.unpackb,
        "_msgpack": msgpack,
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


def test_of_a_large_one_is_told_how_long_it_took_to_read() -> None:
    kind = type("Guarded", (Connection,), {})
    instants = iter([100.0, 100.5, 200.0, 200.25])
    told: list[tuple[object, float, bool, int]] = []
    assert guard_frames(
        kind,
        autobahn(),
        seconds=lambda: next(instants),
        read=lambda which, took_s, is_refused: told.append((which, took_s, is_refused, len(which.handed))),
    )
    connection = kind(["a"])
    connection.onMessage(b"x" * 1000, True)
    assert told == []
    connection.onMessage(b"x" * 100_000, True)
    # Before it is handled: handling a batch takes long as well, and is no misuse.
    assert told == [(connection, 0.5, False, 1)]
    refused = kind(ValueError("too much"))
    refused.onMessage(b"x" * 100_000, True)
    assert told[1:] == [(refused, 0.25, True, 0)]


def test_while_a_large_one_is_handled_no_garbage_is_collected() -> None:
    connection = guarded(["a"])
    connection.onMessage(b"x" * 1000, True)
    connection.onMessage(b"x" * 100_000, True)
    assert connection.collecting == [True, False]
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("read", "pending", "reason"),
    [
        ([[1, "realm", {}]], None, ""),
        ([[5, "signature", {}]], 7, ""),
        ([[1, "realm", {}]], 7, "a second HELLO"),
        ([[48, 1, {}, "uri"]], None, "nothing to say but HELLO"),
        ([[]], None, "nothing to say but HELLO"),
        ([7], None, "nothing to say but HELLO"),
        ([[1, "realm", {}], [5, "signature", {}]], None, "a frame is one message"),
        ([[1, "realm", {1: 2}]], None, "keys must be texts"),
    ],
)
def test_who_has_no_session_says_what_leads_to_one(read: list[object], pending: int | None, reason: str) -> None:
    connection = guarded(["a"])
    connection._session._session_id, connection._session._pending_session_id = None, pending
    connection.read = read
    connection.onMessage(b"", True)
    assert reason in str(connection.ended)
    assert connection.handed == ([] if reason else ["a"])


def test_a_session_says_hello_once() -> None:
    connection = guarded(["HELLO"])
    connection.onMessage(b"", True)
    assert connection.handed == []
    assert "the session has joined" in str(connection.ended)


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


def test_the_three_formats_are_read_by_our_rules() -> None:
    serializer = autobahn()
    assert guard_frames(type("Guarded", (Connection,), {}), serializer, most_values=1_000_000)
    assert serializer._cbor_loads(cbor2.dumps([1, {"a": b"x"}])) == [1, {"a": b"x"}]
    with pytest.raises(cbor2.CBORDecodeError, match="semantic tag"):
        serializer._cbor_loads(cbor2.dumps(10**30))
    assert serializer._unpackb(msgpack.packb([1, {"a": b"x"}])) == [1, {"a": b"x"}]
    with pytest.raises(ValueError, match="max_ext_len"):
        serializer._unpackb(msgpack.packb(msgpack.Timestamp(1)))
    assert serializer._loads('[1, "\\u0000eA=="]', use_binary_hex_encoding=False) == [1, b"x"]
    # With options that are not ours, Autobahn reads.
    assert serializer._loads("1", use_binary_hex_encoding=True) == ("with", {"use_binary_hex_encoding": True})


def test_a_lone_surrogate_goes_out_as_an_escape() -> None:
    serializer = autobahn()
    assert guard_frames(type("Guarded", (Connection,), {}), serializer)
    assert serializer._dumps(["ä\ud800"]) == '["ä\\ud800"]'.encode()
    assert serializer._dumps("x", use_binary_hex_encoding=False) == b'"x"'


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -1,
        2**63,
        2**64 - 1,
        0.5,
        "ä",
        b"\xff",
        "x" * 70_000,
        [[], {}],
        {"a": {1: (2, 3)}, b"b": bytearray(b"c")},
    ],
)
def test_messagepack_goes_out_as_the_library_writes_it(value: object) -> None:
    serializer = autobahn()
    assert guard_frames(type("Guarded", (Connection,), {}), serializer)
    assert serializer._packb([value]) == msgpack.packb([value])


@pytest.mark.parametrize("value", [2**64, "\ud800", object()])
def test_what_can_not_be_written_is_refused_in_the_librarys_words(value: object) -> None:
    serializer = autobahn()
    assert guard_frames(type("Guarded", (Connection,), {}), serializer)
    with pytest.raises(Exception) as refused:  # whatever the library raises
        msgpack.packb([value])
    with pytest.raises(type(refused.value)) as ours:
        serializer._packb([value])
    assert str(ours.value) == str(refused.value)


@pytest.mark.parametrize(
    "other",
    [
        {"_dumps": None},
        {"_packb": None},
        {"_cbor_loads": lambda data: data},
        {"_loads": None},
        {"_unpackb": None},
        {"_msgpack": SimpleNamespace(unpackb=lambda data: data)},
    ],
)
def test_an_autobahn_that_is_not_as_expected_is_left_as_it_is(other: dict[str, Any]) -> None:
    serializer = autobahn(**other)
    before = dict(vars(serializer))
    kind = type("Guarded", (Connection,), {})
    assert not guard_frames(kind, serializer)
    assert vars(serializer) == before
    assert "onMessage" not in vars(kind)


# -- what is at fault upstream -----------------------------------------------------------------------------------------


def test_upstream_still_reads_json_in_python_and_all_of_msgpack_and_cbor() -> None:
    from autobahn.wamp import serializer

    source = inspect.getsource(serializer)
    assert "self.scan_once = scanner.py_make_scanner(self)" in source
    assert "_unpackb = lambda data: msgpack.unpackb(data, raw=False)" in source
    assert "_cbor_loads = cbor2.loads" in source


def test_upstream_still_joins_a_message_and_keeps_its_pieces_meanwhile() -> None:
    from autobahn.websocket.protocol import WebSocketProtocol

    lines = [line.strip() for line in inspect.getsource(WebSocketProtocol.onMessageEnd).splitlines()]
    at = [lines.index(line) for line in ('payload = b"".join(self.message_data)', "self.message_data = None")]
    assert at == sorted(at)
