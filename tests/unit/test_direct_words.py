"""The shorter way of what nodes say to each other: from the link to the node and back, and nobody else's words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import LoggedErrors
from trishula.contract import uris
from trishula_router.realm import AGENT_ROLE, LINK_ROLE
from trishula_router.upstream.direct_events import Event
from trishula_router.upstream.direct_words import DirectWords

NODE = SimpleNamespace(_session_id=99, _authid="agni", _authrole="node")
TO_US, TO_PEER = uris.peer_topic("agni", "hello"), uris.peer_topic("laptop", "hello")
FOR_NODE = [{"session": 4, "authid": "laptop", "authrole": "rlink"}]


class Embedded:
    """The session inside of the router of a link that this node has made."""


class Bench:
    """A router with the topic of a peer, its subscription 5, and a record of what happens."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, Any]] = []
        self.published: list[tuple[Any, Any]] = []
        self.heard: list[tuple[str, object, str]] = []
        self.fault: Exception | None = None
        self.far, self.near = SimpleNamespace(), Embedded()
        self.topic = SimpleNamespace(id=5, observers=[self.far])
        self._broker = SimpleNamespace(
            _subscription_map=SimpleNamespace(get_observation={TO_PEER: self.topic}.get),
            processPublish=lambda session, event: self.published.append((session, event)),
        )
        self.words = DirectWords(NODE, lambda *args, **named: (args, named), Embedded, lambda: 77)
        hear = lambda kind, text, peer: self.heard.append((kind, text, peer))  # noqa: E731
        assert self.words.install(SimpleNamespace(_router=self), "agni", ["hello", "journal"], hear)

    def send(self, session: Any, message: Any) -> None:
        if self.fault is not None:
            raise self.fault
        self.sent.append((session, message))

    def publish(self, topic: str = TO_US, role: str = LINK_ROLE, **said: Any) -> None:
        """What a session in some role of somebody called laptop publishes."""
        plain: dict[str, Any] = {"args": [b"text"], "forward_for": FOR_NODE, "retain": None, "acknowledge": None}
        session = SimpleNamespace(_authid="laptop", _authrole=role)
        self._broker.processPublish(session, SimpleNamespace(topic=topic, **{**plain, **said}))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_what_a_link_says_to_the_node_is_heard_as_its_peers(bench: Bench) -> None:
    bench.publish(forward_for=[{"session": 4, "authid": "rushabdev", "authrole": "node"}])
    bench.publish(uris.peer_topic("agni", "journal"))
    assert bench.heard == [("hello", b"text", "laptop"), ("journal", b"text", "laptop")]
    assert bench.published == []


@pytest.mark.parametrize(
    "said",
    [
        {"role": AGENT_ROLE},
        {"topic": TO_PEER},
        {"topic": f"{TO_US}.more"},
        {"topic": uris.peer_topic("agni", "unheard_of")},
        {"topic": uris.EVENT_NODE},
        {"forward_for": None},
        {"forward_for": []},
        {"forward_for": FOR_NODE * 2},
        {"retain": True},
        {"acknowledge": True},
        {"args": None},
        {"args": []},
        {"args": [b"text", b"more"]},
    ],
)
def test_all_else_is_left_to_the_router(bench: Bench, said: dict[str, Any]) -> None:
    bench.publish(**said)
    assert bench.heard == []
    assert len(bench.published) == 1


def test_a_word_goes_to_the_link_of_the_peer_as_the_nodes(bench: Bench) -> None:
    bench.topic.observers.append(bench.near)
    assert bench.words.say("laptop", "hello", b"text")
    assert bench.words.say("laptop", "journal", b"nobody listens")
    said: dict[str, Any] = {
        "args": [b"text"],
        "publisher": 99,
        "publisher_authid": "agni",
        "publisher_authrole": "node",
    }
    (far, event), near = bench.sent
    assert far is bench.far
    assert isinstance(event, Event)
    assert repr(event) == repr(Event(5, 77, **said))
    # Inside of the router it is a message of Autobahn's.
    assert near == (bench.near, ((5, 77), said))


def test_a_word_that_cannot_be_sent_is_lost_and_said_so(bench: Bench, logged_errors: LoggedErrors) -> None:
    bench.fault = ValueError("it can't be written")
    assert bench.words.say("laptop", "hello", b"text")
    assert len(logged_errors.flush(ValueError)) == 1


@pytest.mark.parametrize("transport", [None, SimpleNamespace(), SimpleNamespace(_router=SimpleNamespace(send=print))])
def test_in_a_crossbar_that_is_not_as_expected_nothing_is_said(transport: object) -> None:
    words = DirectWords(NODE, print, Embedded, lambda: 1)
    assert not words.install(transport, "agni", ["hello"], print)
    assert not words.say("laptop", "hello", b"text")
