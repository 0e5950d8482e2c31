"""A connection that the test drives: it plays :class:`trishula.session.transport.Connection` and records what it is
asked.

What every session needs (attach, ack, heartbeats, topics) is answered at once; sends are answered as a node does unless
the test holds them back (``link.holding``) to answer them itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.task import Clock

from trishula.contract import uris
from trishula.errors import BusUnreachable, TrishulaError
from trishula.runtime.pending import Pending, resolved
from trishula.runtime.surroundings import Surroundings
from trishula.session.transport import Connection, Ending, Endpoint, Link, LinkLost, Listener, unpacked
from trishula.settings import Settings

__all__ = ["NOW_MS", "PROCESS", "Asked", "FakeConnection", "FakeLink", "settings", "surroundings"]

NOW_MS = 1_800_000_000_000
#: What a client tells of its process as it attaches.
PROCESS = {"run": "00" * 8, "host": "somewhere"}


def settings(agent: str = "dc", *urls: str) -> Settings:
    return Settings(urls or ("ws://one/ws",), agent, f"{agent}.secret")


def surroundings(clock: Clock) -> Surroundings:
    """Everything is known beforehand: the wall clock follows the test's, words are zeros, chance is one half."""
    return Surroundings(clock, lambda: NOW_MS + int(clock.seconds() * 1000), lambda: 0.5, lambda n: "00" * n)


@dataclass
class Asked:
    """A call that waits for its answer."""

    uri: str
    args: list[Any]
    kwargs: dict[str, Any] = field(default_factory=dict)
    answer: Pending[Any] = field(default_factory=Pending)


class FakeLink:
    """One session; see the module's docstring."""

    def __init__(self, connection: FakeConnection, url: str) -> None:
        self.url = url
        self.asked: list[Asked] = []
        self.topics: dict[str, Callable[..., object]] = {}
        self.procedures: dict[str, Endpoint] = {}
        self.published: list[tuple[str, list[Any]]] = []
        self.holding: set[str] = set()
        self.refusing: dict[str, TrishulaError] = {}
        self.is_open = True
        self.ending: Ending | None = None
        self.limits: dict[str, int] | None = None
        self.node = "single"
        self.copies = 1
        self.epoch = "e"
        self._connection = connection
        self._seq = 0

    # transport.Link

    def call(
        self, uri: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> Pending[Any]:
        one = Asked(uri, unpacked(list(args)), unpacked(dict(kwargs or {})))
        self.asked.append(one)
        if not self.is_open:
            one.answer.reject(LinkLost("gone"))
        elif uri in self.refusing:
            one.answer.reject(self.refusing[uri])
        elif uri not in self.holding:
            one.answer.resolve(self.usual(one))
        return one.answer

    def subscribe(self, topic: str, handler: Callable[..., object]) -> Pending[None]:
        self.asked.append(Asked("subscribe", [topic], answer=resolved(None)))
        self.topics[topic] = handler
        return resolved(None)

    def register(self, uri: str, endpoint: Endpoint) -> Pending[None]:
        self.asked.append(Asked("register", [uri], answer=resolved(None)))
        self.procedures[uri] = endpoint
        return resolved(None)

    def publish(self, topic: str, args: Sequence[Any]) -> Pending[None]:
        self.published.append((topic, unpacked(list(args))))
        return resolved(None)

    def drop(self) -> None:
        self._connection.dropped(self)

    # what the test does and asks

    def close(self) -> None:
        """Its network goes."""
        self.is_open = False
        for one in self.asked:
            one.answer.reject(LinkLost("gone"))

    def usual(self, asked: Asked) -> Any:
        """What a node answers."""
        if asked.uri == uris.MAILBOX_SEND:
            return [self.receipt(message) for message in asked.args[0]]
        if asked.uri == uris.MAILBOX_ATTACH:
            told = {} if self.limits is None else {"limits": self.limits}
            return {"node": self.node, "epoch": self.epoch, "high_water": 7, **told}
        if asked.uri in (uris.MAILBOX_ACK, uris.MAILBOX_NACK, uris.MAILBOX_SURFACED):
            return [True] * len(asked.args[0])
        if asked.uri == uris.DIRECTORY_BEAT:
            return {"received_at": NOW_MS, "answered_at": NOW_MS}
        return None

    def receipt(self, message: Mapping[str, Any]) -> dict[str, Any]:
        self._seq += 1
        return {"id": message["id"], "status": "accepted", "node": self.node, "seq": self._seq, "copies": self.copies}

    def args_of(self, uri: str) -> list[list[Any]]:
        """The arguments of every call of a procedure so far."""
        return [one.args for one in self.asked if one.uri == uri]

    def sent(self) -> list[dict[str, Any]]:
        """Every message sent so far."""
        return [message for args in self.args_of(uris.MAILBOX_SEND) for message in args[0]]

    def open_calls(self, uri: str) -> list[Asked]:
        return [one for one in self.asked if one.uri == uri and not one.answer.done]

    def push(self, topic: str, *deliveries: Mapping[str, Any]) -> None:
        """The node pushes deliveries."""
        self.topics[topic](list(deliveries))


class FakeConnection:
    """Joins when the test says so."""

    def __init__(self) -> None:
        self.listener: Listener | None = None
        self.links: list[FakeLink] = []
        self.offered: FakeLink | None = None
        self.is_stopped = False

    def start(self, listener: Listener) -> None:
        self.listener = listener

    def stop(self) -> Pending[None]:
        self.is_stopped = True
        if self.links and self.links[-1].is_open:
            self.lose()
        return resolved(None)

    def moved(self) -> None:
        assert self.offered is not None
        self.links.append(self.offered)
        self.offered = None

    def offer(self, url: str, prepare: Callable[[FakeLink], object] = lambda _: None) -> FakeLink:
        """A better node is there."""
        assert self.listener is not None
        self.offered = link = FakeLink(self, url)
        prepare(link)
        self.listener.link_offered(link)
        return link

    def withdraw(self) -> None:
        """The better node goes, before it was moved to."""
        assert self.listener is not None
        link, self.offered = self.offered, None
        assert link is not None
        link.close()
        self.listener.link_withdrawn(BusUnreachable("gone"))

    def dropped(self, link: FakeLink) -> None:
        """The client gave a link up."""
        if link is self.offered:
            self.withdraw()
        elif link.is_open:
            self.lose()

    def join(self, url: str = "ws://one/ws", prepare: Callable[[FakeLink], object] = lambda _: None) -> FakeLink:
        assert self.listener is not None
        link = FakeLink(self, url)
        prepare(link)
        self.links.append(link)
        self.listener.link_joined(link)
        return link

    def lose(self, ending: Ending | None = None) -> None:
        """The network goes, or the node ends the session: calls fail, then the loss is told, as with Autobahn."""
        assert self.listener is not None
        self.links[-1].ending = ending
        self.links[-1].close()
        if self.offered is not None:
            self.moved()
        self.listener.link_lost(BusUnreachable("gone"))

    def fail(self, error: TrishulaError, url: str = "ws://one/ws") -> None:
        assert self.listener is not None
        self.listener.node_unreachable(url, error, 0.1)

    def end(self, error: TrishulaError) -> None:
        assert self.listener is not None
        self.listener.given_up(error)


def _plays_the_interfaces(connection: FakeConnection, link: FakeLink) -> tuple[Connection, Link]:
    # For mypy: the fakes have exactly the methods that the real ones have.
    return connection, link
