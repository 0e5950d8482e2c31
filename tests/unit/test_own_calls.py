"""Calls of the node's own procedures, taken from their frames: which they are, and when they go the whole way."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from trishula_router.upstream.frames import guard_frames
from trishula_router.upstream.own_calls import OwnCall, OwnCalls

# In this order: it has to know by then which framework it runs in.
import_module("autobahn.twisted.websocket")
message = import_module("autobahn.wamp.message")
serializer = import_module("autobahn.wamp.serializer")

OURS = "trishula.mailbox.send"


class Bench:
    """A session, and what becomes of its calls."""

    def __init__(self) -> None:
        self.served: list[Any] = []
        self.heard: list[Any] = []
        self.is_free = self.may_call = True
        self.session = SimpleNamespace(_session_id=1, _goodbye_sent=False, onMessage=self.heard.append)
        direct: Any = SimpleNamespace(take=self._serve)
        self.calls = OwnCalls({OURS: None}, direct, lambda session: self.may_call, message)

    def _serve(self, session: Any, call: Any) -> bool:
        assert session is self.session
        if self.is_free:
            self.served.append(call)
        return self.is_free


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_plain_call_of_ours_is_taken(bench: Bench) -> None:
    call = bench.calls.parse([48, 2**53, {}, OURS, [[{"to": "agni"}], {}]])
    assert isinstance(call, OwnCall)
    assert (call.request, call.procedure, call.args, call.kwargs) == (2**53, OURS, [[{"to": "agni"}], {}], None)
    assert bench.calls.take(bench.session, call)
    assert (bench.served, bench.heard) == ([call], [])


@pytest.mark.parametrize(
    "raw",
    [
        [48, 1, {}, "com.example.other", [1]],
        [48, 1, {"timeout": 5}, OURS, [1]],
        [48, 1, {"forward_for": [{"session": 1, "authid": "agni", "authrole": "agent"}]}, OURS, [1]],
        [48, 1, {}, OURS],
        [48, 1, {}, OURS, [1], {"a": 2}],
        [48, 1, {}, OURS, b"payload"],
        [48, 1, {}, OURS, None],
        [48, 0, {}, OURS, [1]],
        [48, 2**53 + 1, {}, OURS, [1]],
        [48, True, {}, OURS, [1]],
        [48, 1, [], OURS, [1]],
        [48, 1, {}, [], [1]],
        [48],
    ],
)
def test_every_other_call_is_read_and_refused_by_autobahn(bench: Bench, raw: list[Any]) -> None:
    try:
        expected = message.Call.parse(list(raw))
    except Exception as refusal:  # several classes of its own
        with pytest.raises(type(refusal)) as ours:
            bench.calls.parse(raw)
        assert str(ours.value) == str(refusal)
        return
    call = bench.calls.parse(raw)
    assert call == expected
    assert not bench.calls.take(bench.session, call)
    assert bench.served == []


@pytest.mark.parametrize(
    "against",
    [
        {"is_free": False},
        {"may_call": False},
        {"session": {"_goodbye_sent": True}},
        {"session": {"_session_id": None}},
    ],
)
def test_a_call_that_something_speaks_against_goes_the_whole_way(bench: Bench, against: dict[str, Any]) -> None:
    vars(bench.session).update(against.get("session", {}))
    vars(bench).update({name: value for name, value in against.items() if name != "session"})
    call = bench.calls.parse([48, 7, {}, OURS, [1]])
    assert bench.calls.take(bench.session, call)
    assert bench.served == []
    assert bench.heard == [message.Call(7, OURS, args=[1])]


@pytest.mark.parametrize("kind", ["MsgPackSerializer", "JsonSerializer", "CBORSerializer"])
def test_whoever_joins_has_its_calls_taken_from_then_on_and_nobody_else(kind: str, bench: Bench) -> None:
    names = ("_dumps", "_loads", "_packb", "_unpackb", "_msgpack", "_cbor_loads", "ProtocolError")
    module = SimpleNamespace(**{name: getattr(serializer, name) for name in names})
    protocol: Any = type("Connection", (), {"onMessage": None})
    assert guard_frames(protocol, module, own_calls=bench.calls)
    connection, other = protocol(), getattr(serializer, kind)()
    connection._serializer, connection._session = getattr(serializer, kind)(), bench.session
    vars(bench.session).update(_session_id=None, _pending_session_id=None, _router=object(), _session_details=None)

    def come(raw: list[Any]) -> None:
        connection.onMessage(other._serializer.serialize(raw), other._serializer.BINARY)

    come([1, "trishula", {"roles": {"caller": {}}}])
    assert [type(one) for one in bench.heard] == [message.Hello]
    bench.session._session_id = 1
    come([48, 7, {}, OURS, [1]])
    come([48, 8, {}, "com.example.other", [1]])
    assert [one.request for one in bench.served] == [7]
    assert bench.heard[1:] == [message.Call(8, "com.example.other", args=[1])]
    # Of other connections, to peers say, Autobahn reads all calls.
    (read,) = other.unserialize(other._serializer.serialize([48, 9, {}, OURS, [1]]))
    assert type(read) is message.Call
