"""How many strangers of one address a node sees to, and in which order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.task import Clock

from trishula_router.client_ips import Proxies
from trishula_router.upstream import pacing
from trishula_router.upstream.arrivals import Arrivals
from trishula_router.upstream.pacing import Pace
from trishula_router.upstream.strangers import Step

HERE, THERE, PROXY = "10.0.0.1", "10.0.0.2", "127.0.0.9"


def test_who_joins_pays_nothing() -> None:
    pace = Pace()
    for _ in range(10_000):
        assert pace.begins(HERE, 0.0)
        pace.joined(HERE)


def test_who_does_not_join_is_seen_to_at_a_rate() -> None:
    pace = Pace()
    begun = sum(pace.begins(HERE, tenth / 100) for tenth in range(1000))
    assert 128 + 390 <= begun <= 128 + 401
    assert pace.begins(THERE, 10.0)


def test_what_is_kept_is_bounded() -> None:
    pace = Pace()
    for number in range(pacing._MOST + 100):
        pace.begins(f"address{number}", 0.0)
        pace.joined(f"other{number}")
    assert len(pace._buckets) == pacing._MOST


class Channel:
    """As much of Twisted's as is needed."""

    def __init__(self, name: str, heard: list[str]) -> None:
        self.transport: Any = SimpleNamespace(
            connected=True, pauseProducing=lambda: heard.append(f"{name} waits"), resumeProducing=lambda: None
        )
        self._name, self._heard = name, heard

    def makeConnection(self, transport: object) -> None:
        """It is there."""

    def connectionLost(self, reason: object) -> None:
        """It is gone."""

    def dataReceived(self, data: bytes) -> None:
        self._heard.append(f"{self._name} {data.decode()}")


class Door:
    def came(self, connection: Any, step: Step) -> None:
        """Somebody came."""

    def left(self, connection: Any) -> None:
        """Somebody left."""


def come(arrivals: Arrivals, name: str, heard: list[str], host: str = HERE, says: bytes = b"hello") -> Channel:
    channel = Channel(name, heard)
    arrivals.come(channel, host)
    channel.dataReceived(says)
    return channel


def crowded() -> tuple[Arrivals, Clock, list[str]]:
    """An address has used up what it may."""
    clock, heard = Clock(), list[str]()
    arrivals = Arrivals(Door(), cast(Any, clock), Proxies([PROXY]))
    for number in range(128):
        come(arrivals, f"crowd{number}", heard)
    assert len(heard) == 128
    heard.clear()
    return arrivals, clock, heard


def test_who_came_last_is_next() -> None:
    arrivals, clock, heard = crowded()
    for name in ("one", "two", "three"):
        come(arrivals, name, heard)
    come(arrivals, "elsewhere", heard, THERE)
    assert heard == ["one waits", "two waits", "three waits", "elsewhere hello"]
    clock.pump([0.025] * 2)
    assert heard[4:] == ["three hello", "two hello"]
    come(arrivals, "four", heard)
    clock.pump([0.025] * 4)
    assert heard[6:] == ["four waits", "four hello", "one hello"]


def test_who_joins_makes_room_for_the_next() -> None:
    arrivals, clock, heard = crowded()
    for _ in range(50):
        come(arrivals, "agent", heard)
        arrivals.is_earnest(HERE)
    clock.advance(0.025)
    assert heard.count("agent hello") == 50


def test_who_is_gone_is_not_waited_for() -> None:
    arrivals, clock, heard = crowded()
    gone = come(arrivals, "gone", heard)
    closed = come(arrivals, "closed", heard)
    come(arrivals, "there", heard)
    gone.connectionLost(None)
    closed.transport.connected = False
    clock.pump([0.025] * 3)
    assert heard[3:] == ["there hello"]
    clock.advance(1.0)
    assert not clock.getDelayedCalls()


def test_behind_a_proxy_each_pays_for_itself() -> None:
    arrivals, _, heard = crowded()
    come(arrivals, "near", heard, PROXY, b"GET /\r\nX-Forwarded-For: 10.0.0.7\r\n\r\n")
    come(arrivals, "crowd", heard, PROXY, b"GET /\r\nx-forwarded-for: 10.0.0.7\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n")
    assert heard == ["near GET /\r\nX-Forwarded-For: 10.0.0.7\r\n\r\n", "crowd waits"]


class Tls:
    """A connection with TLS, between the socket and the web server's channel: what comes first is its handshake."""

    def __init__(self, name: str, heard: list[str]) -> None:
        self.channel = Channel(name, heard)
        self.transport: Any = SimpleNamespace(
            connected=True,
            pauseProducing=lambda: heard.append(f"{name} waits"),
            resumeProducing=lambda: heard.append(f"{name} goes on"),
        )
        self.channel.transport = self
        self._name, self._heard, self._is_greeted = name, heard, False

    def pauseProducing(self) -> None:
        """Of what it has read already the channel is told."""
        self._heard.append(f"{self._name}'s request waits")

    def resumeProducing(self) -> None:
        """The channel reads on."""

    def dataReceived(self, data: bytes) -> None:
        if not self._is_greeted:
            self._is_greeted = True
            self._heard.append(f"{self._name} greeted with {data.decode()}")
        else:
            self.channel.dataReceived(data)


def come_with_tls(arrivals: Arrivals, name: str, heard: list[str], host: str = HERE) -> Tls:
    tls = Tls(name, heard)
    arrivals.come(tls.channel, host)
    tls.channel.makeConnection(tls)
    tls.dataReceived(b"hello")
    return tls


def test_the_handshake_of_tls_waits_and_is_paid_for_once() -> None:
    arrivals, clock, heard = crowded()
    near = come_with_tls(arrivals, "near", heard)
    far = come_with_tls(arrivals, "far", heard, THERE)
    far.dataReceived(b"GET /")
    assert heard == ["near waits", "far greeted with hello", "far GET /"]
    near.dataReceived(b", late")
    clock.advance(0.025)
    assert heard[3:] == ["near goes on", "near greeted with hello, late"]
    near.dataReceived(b"GET /")
    near.dataReceived(b"more")
    assert heard[5:] == ["near GET /", "near more"]
    # One token for each of them: the next one has to wait for another 25 ms.
    come_with_tls(arrivals, "next", heard)
    assert heard[7:] == ["next waits"]


def test_a_proxys_handshakes_do_not_wait_and_its_requests_do() -> None:
    arrivals, clock, heard = crowded()
    proxy = come_with_tls(arrivals, "proxy", heard, PROXY)
    proxy.dataReceived(b"GET /\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n")
    assert heard == ["proxy greeted with hello", "proxy's request waits"]
    clock.advance(0.025)
    assert len(heard) == 3


def test_a_handshake_that_waits_and_is_gone_is_not_waited_for() -> None:
    arrivals, clock, heard = crowded()
    gone = come_with_tls(arrivals, "gone", heard)
    gone.channel.connectionLost(None)
    clock.advance(1.0)
    assert heard == ["gone waits"]
    assert not clock.getDelayedCalls()
