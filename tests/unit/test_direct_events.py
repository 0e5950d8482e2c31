"""The shorter way of deliveries: the same event, to the one session, if it listens."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import LoggedErrors
from trishula_router.upstream.direct_events import DirectEvents, Event

NODE = SimpleNamespace(_session_id=99, _authid="single", _authrole="node")


class Bench:
    """A router with one topic and its subscription 5, and a record of what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, Any]] = []
        self.fault: Exception | None = None
        self.listener, self.other = SimpleNamespace(_session_id=1), SimpleNamespace(_session_id=2)
        subscription = SimpleNamespace(id=5, observers=[self.listener])
        known = SimpleNamespace(get_observation={"topic": subscription}.get)
        router = SimpleNamespace(
            _broker=SimpleNamespace(_subscription_map=known),
            _session_id_to_session={1: self.listener, 2: self.other},
            send=self._send,
        )
        self.events = DirectEvents(NODE, lambda *args, **named: (args, named), lambda: 77)
        assert self.events.install(SimpleNamespace(_router=router))

    def _send(self, session: Any, message: Any) -> None:
        if self.fault is not None:
            raise self.fault
        self.sent.append((session, message))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_an_event_goes_to_the_session_as_one_of_the_nodes(bench: Bench) -> None:
    assert bench.events.send("topic", 1, ["a delivery"])
    said = {"args": [["a delivery"]], "publisher": 99, "publisher_authid": "single", "publisher_authrole": "node"}
    assert bench.sent == [(bench.listener, ((5, 77), said))]


@pytest.mark.parametrize(("topic", "session"), [("topic", 2), ("topic", 3), ("nobody's", 1)])
def test_who_does_not_listen_gets_nothing(bench: Bench, topic: str, session: int) -> None:
    assert bench.events.send(topic, session, [])
    assert bench.sent == []


def test_an_event_that_cannot_be_sent_is_lost_and_said_so(bench: Bench, logged_errors: LoggedErrors) -> None:
    bench.fault = ValueError("it can't be written")
    assert bench.events.send("topic", 1, [])
    assert len(logged_errors.flush(ValueError)) == 1


@pytest.mark.parametrize("transport", [None, SimpleNamespace(), SimpleNamespace(_router=SimpleNamespace(send=print))])
def test_in_a_crossbar_that_is_not_as_expected_nothing_is_sent(transport: object) -> None:
    events = DirectEvents(NODE, print, lambda: 1)
    assert not events.install(transport)
    assert not events.send("topic", 1, [])


@pytest.mark.parametrize("kind", ["MsgPackSerializer", "JsonSerializer", "CBORSerializer"])
def test_an_event_travels_as_autobahns_does(kind: str) -> None:
    # In this order: it has to know by then which framework it runs in.
    import_module("autobahn.twisted.websocket")
    serializer = getattr(import_module("autobahn.wamp.serializer"), kind)()
    autobahns = import_module("autobahn.wamp.message").Event
    said: dict[str, Any] = {"args": [[{"token": "t", "message": {"payload": "ä"}}]], "publisher": 99}
    said |= {"publisher_authid": "single", "publisher_authrole": "node"}
    (came,) = serializer.unserialize(*serializer.serialize(Event(5, 77, **said)))
    (meant,) = serializer.unserialize(*serializer.serialize(autobahns(5, 77, **said)))
    assert came == meant
    assert (came.args, came.publisher_authid) == (said["args"], "single")
    assert Event.__name__ == autobahns.__name__
