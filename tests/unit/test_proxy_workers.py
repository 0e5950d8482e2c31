"""What a proxy worker says of a client, and how it carries bytes: each side waits for the other."""

from __future__ import annotations

import copy
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from trishula_router.proxy_workers.relay import Relay
from trishula_router.proxy_workers.task import Task
from trishula_router.settings.check import check_config, check_with_crossbar
from trishula_router.settings.crossbar_config import (
    ListenEndpoint,
    effective_config,
    listen_endpoint_of,
    listener_of,
    options_of,
    without_proxy_workers,
)
from trishula_router.settings.options import parse_options
from trishula_router.upstream.introduction import Introduction, read_introduction

CHANNEL = bytes(range(32))


class Socket(StringTransport):
    """One side's transport."""

    producer: Any

    is_nodelay = False
    connected = True
    is_half_closed = False

    def loseWriteConnection(self) -> None:
        self.is_half_closed = True

    def setTcpNoDelay(self, is_on: bool) -> None:
        self.is_nodelay = is_on


class Routers:
    """Takes what is connected to the router worker."""

    def __init__(self) -> None:
        self.inner: list[tuple[Any, Any]] = []

    def connect(self, factory: Factory) -> Deferred[Any]:
        protocol: Any = factory.buildProtocol(None)
        transport: Any = Socket()  # type: ignore[no-untyped-call]
        self.inner.append((protocol, transport))
        protocol.makeConnection(transport)
        return succeed(protocol)


class Stage:
    """A relay with a client."""

    def __init__(self) -> None:
        clock: Any = Clock()
        self.clock = clock
        self.routers = Routers()
        task = Task("router.sock", None, (), 5.0, 10, 10, number=2)
        self.relay = Relay(self.routers.connect, self.clock, lambda _: CHANNEL, task, descriptors=1000)
        self.client, self.outer = self.come("10.0.0.5", 4711)

    def come(self, host: str, port: int) -> tuple[Any, Any]:
        client: Any = self.relay.buildProtocol(IPv4Address("TCP", host, port))
        transport: Any = Socket()  # type: ignore[no-untyped-call]
        client.makeConnection(transport)
        return client, transport

    @property
    def router(self) -> tuple[Any, Any]:
        (found,) = self.routers.inner
        return found


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.mark.parametrize("ip", ["10.0.0.5", "2001:db8::1", "fe80::1%eth0"])
@pytest.mark.parametrize("channel", [None, CHANNEL])
def test_an_introduction_says_the_same_at_the_other_end(ip: str, channel: bytes | None) -> None:
    told = Introduction(ip, 65_535, channel, 3)
    assert read_introduction(told.line().removesuffix(b"\n")) == told


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b'["10.0.0.5", 1, null]',
        b'["dc", 1, null, 1]',
        b"[1, 1, null, 1]",
        b'["10.0.0.5", -1, null, 1]',
        b'["10.0.0.5", 65536, null, 1]',
        b'["10.0.0.5", true, null, 1]',
        b'["10.0.0.5", 1, "zz", 1]',
        b'["10.0.0.5", 1, "00", 1]',
        b'["10.0.0.5", 1, null, "1"]',
        b'["10.0.0.5", 1, null, 1, "boss"]',
    ],
)
def test_anything_else_is_none(line: bytes) -> None:
    with pytest.raises(ValueError):
        read_introduction(line)


def test_a_client_that_says_nothing_does_not_get_to_the_router_worker(stage: Stage) -> None:
    assert stage.outer.is_nodelay and stage.routers.inner == []
    stage.clock.pump([0.5] * 20)
    assert stage.outer.disconnected and stage.routers.inner == []


def test_the_first_bytes_come_behind_the_introduction(stage: Stage) -> None:
    stage.client.dataReceived(b"GET")
    _, inner = stage.router
    line, _, rest = inner.value().partition(b"\n")
    assert read_introduction(line) == Introduction("10.0.0.5", 4711, CHANNEL, 2) and rest == b"GET"
    inner.clear()
    stage.client.dataReceived(b" /")
    assert inner.value() == b" /"
    # Who has begun is the router worker's stranger, and none of the proxy worker's.
    stage.clock.pump([0.5] * 40)
    assert not stage.outer.disconnected


def test_neither_side_is_read_while_the_other_one_is_full(stage: Stage) -> None:
    stage.client.dataReceived(b"GET")
    _, inner = stage.router
    assert stage.outer.producerState == inner.producerState == "producing"
    stage.outer.producer.pauseProducing()
    assert inner.producerState == "paused"
    stage.outer.producer.resumeProducing()
    inner.producer.pauseProducing()
    assert (inner.producerState, stage.outer.producerState) == ("producing", "paused")


@pytest.mark.parametrize("is_client", [True, False])
def test_where_one_end_is_closed_the_other_one_gets_what_was_sent(stage: Stage, is_client: bool) -> None:
    stage.client.dataReceived(b"GET")
    protocol, inner = stage.router
    closed, other = (stage.client, inner) if is_client else (protocol, stage.outer)
    closed.connectionLost(None)
    assert (other.disconnecting if is_client else other.is_half_closed) and other.producer is None
    if not is_client:
        # It goes nowhere, and is no new beginning.
        stage.client.dataReceived(b"pong")
        assert len(stage.routers.inner) == 1
    # It takes nothing of it, for too long.
    stage.clock.advance(5.0)
    assert other.disconnected


def test_who_takes_what_was_sent_slowly_gets_all_of_it(stage: Stage) -> None:
    stage.client.dataReceived(b"GET")
    protocol, _ = stage.router
    outer: Any = stage.outer
    outer.dataBuffer = b"x" * 5
    protocol.connectionLost(None)
    for left in range(4, -1, -1):
        outer.dataBuffer = b"x" * left
        stage.clock.advance(5.0)
        assert not outer.disconnected
    stage.clock.advance(5.0)
    assert outer.disconnected


def test_a_client_that_is_gone_before_its_connection_is_there_leaves_none(stage: Stage) -> None:
    waiting: list[Factory] = []
    never: Deferred[Any] = Deferred()

    def connect(factory: Factory) -> Deferred[Any]:
        waiting.append(factory)
        return never

    stage.relay.connect = connect
    stage.client.dataReceived(b"GET")
    stage.client.connectionLost(None)
    stage.routers.connect(waiting[0])
    assert stage.router[1].disconnected
    assert stage.relay.clients == set()


# -- the configuration -------------------------------------------------------------------------------------------------

SHIPPED = json.loads((files("trishula_router.config") / "single.json").read_text())


def faults_of(change: dict[str, Any], *workers: dict[str, Any], base: Path = Path("/srv")) -> list[str]:
    config = copy.deepcopy(SHIPPED)
    config["workers"][0]["components"][0]["extra"] |= change
    config["workers"] += workers
    return [fault.sentence for fault in check_config(config, base=base)]


def test_a_number_of_them_is_taken() -> None:
    assert faults_of({"proxy_workers": 4}) == []


@pytest.mark.parametrize("number", [-1, 65, "2", True, 1.5, None])
def test_another_number_of_them_is_told(number: object) -> None:
    (told,) = faults_of({"proxy_workers": number})
    assert told.endswith(f"proxy_workers is {json.dumps(number)}; it must be a whole number from 0 to 64")


def test_a_state_directory_whose_path_is_too_long_for_a_socket_is_told() -> None:
    (told,) = faults_of({"proxy_workers": 1}, base=Path("/srv") / ("long" * 25))
    assert "proxy_workers is 1; it must be 0 with the state directory /srv/long" in told and "too long" in told
    assert faults_of({"proxy_workers": 0}, base=Path("/srv") / ("long" * 25)) == []


def test_what_a_command_puts_in_is_no_operators() -> None:
    (told,) = faults_of({"proxy_workers": 1, "proxy_endpoint": {"type": "tcp", "port": 1}})
    assert told.endswith("extra.proxy_endpoint: it must go: trishula node start puts it in")


def test_proxies_of_crossbars_own_are_refused() -> None:
    own = {"type": "proxy", "id": "proxy_one", "connections": {}, "routes": {}, "transports": []}
    (told,) = faults_of({"proxy_workers": 1}, own)
    assert told.startswith('workers[1].type is "proxy"; it must not be a proxy of Crossbar\'s')


def test_the_port_is_theirs_and_the_socket_the_router_workers() -> None:
    config = copy.deepcopy(SHIPPED)
    options_of(config)["proxy_workers"] = 2
    listener_of(config)["endpoint"]["tls"] = {"key": "tls/node.key", "certificate": "tls/node.crt"}
    address = ListenEndpoint("10.0.0.5", 9000)
    run = effective_config(config, base=Path("/etc/bus"), state_dir=Path("/srv/state"), address=address)
    assert listener_of(run)["endpoint"] == {"type": "unix", "path": "/srv/state/proxy/sock", "backlog": 1024}
    theirs = options_of(run)["proxy_endpoint"]
    assert (theirs["interface"], theirs["port"]) == ("10.0.0.5", 9000)
    assert theirs["tls"] == {"key": "/etc/bus/tls/node.key", "certificate": "/etc/bus/tls/node.crt"}
    assert check_with_crossbar(run) == ()
    # What looks up where a node listens finds it, and what the router worker reads is good.
    assert listen_endpoint_of(run).port == 9000
    options = parse_options(options_of(run), base=Path("/srv"), path="extra")
    assert (options.proxy_workers, options.proxy_endpoint) == (2, theirs)


def test_who_looks_at_what_ran_last_sees_what_was_written() -> None:
    address = ListenEndpoint("127.0.0.1", 9000)
    written = copy.deepcopy(SHIPPED)
    options_of(written)["proxy_workers"] = 2
    run = effective_config(written, base=Path("/etc/bus"), state_dir=Path("/srv/state"), address=address)
    assert check_config(run, base=Path("/srv/state")) != ()
    before = copy.deepcopy(run)
    seen = without_proxy_workers(run)
    assert run == before
    assert listener_of(seen)["endpoint"] == {**listener_of(written)["endpoint"], "port": 9000}
    assert check_config(seen, base=Path("/srv/state")) == ()


@pytest.mark.parametrize("broken", [{}, {"workers": None}, {"workers": [{"components": 1}]}, {"workers": [1]}])
def test_who_looks_at_a_broken_one_sees_it_as_it_is(broken: dict[str, Any]) -> None:
    assert without_proxy_workers(broken) == broken


def test_without_any_nothing_is_another() -> None:
    address = ListenEndpoint("127.0.0.1", 9000)
    run = effective_config(SHIPPED, base=Path("/etc/bus"), state_dir=Path("/srv/state"), address=address)
    assert listener_of(run)["endpoint"]["type"] == "tcp" and "proxy_endpoint" not in options_of(run)
