"""Links between real nodes: what they carry, that it stays what it was, and that they come back."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import SSL4ClientEndpoint, TCP4ClientEndpoint
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import deferLater

from tests.support.certificates import make_certificate
from tests.support.cluster import Cluster
from tests.support.plain import JoinRefused, PlainClient, Refused, join
from tests.support.reactor import on_reactor
from tests.support.scraped import Scraped
from tests.support.tls import TlsFront
from tests.support.web import ask
from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula.errors import OutcomeUnknown
from trishula.runtime.backoff import Backoff
from trishula.session.trust import trust_in
from trishula_drill.faults import Kind
from trishula_drill.proxy import Network, Proxy, Toxic
from trishula_router.upstream import link_client

pytestmark = pytest.mark.node

AGENTS = ("alpha", "beta", "gamma")
NODES = ("agni", "rushabdev", "dc")
#: From whom to whom: once over the leg that lives in the caller's router, once over the other one.
DIRECTIONS = [("agni", "rushabdev"), ("rushabdev", "agni")]


class Linked:
    """Three nodes, each linked with both others, through a network that can be spoilt."""

    def __init__(self, directory: Path, network: Network) -> None:
        self._network = network
        self._proxies: dict[int, Proxy] = {}
        self.cluster = Cluster(directory, NODES, reached_at=self._proxy_port)
        for agent in AGENTS:
            self.cluster.token(agent)

    def _proxy_port(self, port: int) -> int:
        if port not in self._proxies:
            self._proxies[port] = self._network.proxy(port, random.Random(1))
        return self._proxies[port].port

    def spoil(self, toxic: Toxic | None) -> None:
        for proxy in self._proxies.values():
            self._network.spoil(proxy, toxic)

    def ups(self) -> int:
        """How often links came up."""
        return sum(node.log().count("is up\n") for node in self.cluster.nodes.values())

    async def break_links(self) -> None:
        """Break all links, and wait until they are back."""
        before = self.ups()
        self.spoil(Toxic(Kind.RESET))
        self.spoil(None)
        await until(lambda: self.ups() >= before + 3)

    @asynccontextmanager
    async def agent(self, name: str, node: str) -> AsyncIterator[PlainClient]:
        client = await join(self.cluster[node].url, name, self.cluster.tokens[name], serializer="msgpack")
        try:
            yield client
        finally:
            if not client.gone.called:
                await client.leave()


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Linked]:
    with Network() as network:
        linked = Linked(tmp_path_factory.mktemp("links"), network)
        with linked.cluster:
            yield linked


def tell(figure: str) -> None:
    """A figure for whoever runs the tests with -s; it is never judged."""
    sys.stdout.write(f"{figure}\n")


async def pause(seconds: float = 0.02) -> None:
    from twisted.internet import reactor

    await deferLater(cast(Any, reactor), seconds)


async def until(true: Callable[[], object], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not become true in time"
        await pause()


async def reached(call: Callable[[], Awaitable[Any]], expected: Any = ..., timeout_s: float = 15.0) -> Any:
    """The answer of a call, once the name is known where it is called (and the answer is the expected one)."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            answer = await call()
        except Refused as refused:
            # Whose callee went away in the midst of the call is told so.
            if not refused.error.endswith(("no_such_procedure", "procedure_unknown", "canceled")):
                raise
            answer = refused
        else:
            if expected in (..., answer):
                return answer
        assert time.monotonic() < deadline, f"still {answer!r}"
        await pause()


async def heard(publish: Callable[[], Awaitable[None]], events: list[Any]) -> None:
    """Publish until it is heard: the topic is known there now."""
    deadline = time.monotonic() + 15.0
    while not events:
        assert time.monotonic() < deadline, "no event came"
        await publish()
        await pause(0.05)
    await pause(0.2)
    events.clear()


@pytest.mark.parametrize(("here", "there"), DIRECTIONS)
@on_reactor
async def test_a_call_keeps_its_arguments_and_its_caller(linked: Linked, here: str, there: str) -> None:
    seen: list[Any] = []

    def echo(*args: Any, details: Any, **named: Any) -> Any:
        seen.append((details.caller, details.caller_authid, details.caller_authrole))
        return [list(args), named]

    async with linked.agent("alpha", here) as alpha, linked.agent("beta", there) as beta:
        await beta.register(uris.procedure_of("beta", "echo"), echo)
        # Named as arguments of Autobahn's own functions are: they must not get in each other's way.
        named = {"uri": 1, "topic": 2, "payload": b"\x00\xff"}
        answer = await reached(lambda: alpha.call(uris.procedure_of("beta", "echo"), 1, [2], None, named=named))
        assert answer == [[1, [2], None], named]
        assert seen == [(alpha.details.session, "alpha", "agent")]


@pytest.mark.parametrize(("here", "there"), DIRECTIONS)
@on_reactor
async def test_an_error_keeps_its_uri_and_its_arguments(linked: Linked, here: str, there: str) -> None:
    def fail(details: Any) -> None:
        raise Refused("com.example.broken", 7, "why", part="fuse")

    async with linked.agent("alpha", here) as alpha, linked.agent("beta", there) as beta:
        await beta.register(uris.procedure_of("beta", "fail"), fail)
        with pytest.raises(Refused) as caught:
            await reached(lambda: alpha.call(uris.procedure_of("beta", "fail")))
        assert caught.value.error == "com.example.broken"
        assert caught.value.args == (7, "why")
        assert caught.value.kwargs == {"part": "fuse"}


@pytest.mark.parametrize(("here", "there"), DIRECTIONS)
@on_reactor
async def test_progress_comes_across(linked: Linked, here: str, there: str) -> None:
    def count(details: Any) -> str:
        for number in range(3):
            details.progress(number)
        return "done"

    async with linked.agent("alpha", here) as alpha, linked.agent("beta", there) as beta:
        await beta.register(uris.procedure_of("beta", "count"), count)
        told: list[int] = []
        uri = uris.procedure_of("beta", "count")
        assert await reached(lambda: alpha.call(uri, on_progress=told.append)) == "done"
        assert told == [0, 1, 2]


@pytest.mark.parametrize(("here", "there"), DIRECTIONS)
@on_reactor
async def test_cancelling_reaches_the_callee(linked: Linked, here: str, there: str) -> None:
    begun: list[Deferred[None]] = []
    cancelled: list[Deferred[None]] = []

    def work(details: Any) -> Deferred[None]:
        begun.append(Deferred(cancelled.append))
        return begun[-1]

    async with linked.agent("alpha", here) as alpha, linked.agent("beta", there) as beta:
        await beta.register(uris.procedure_of("beta", "ready"), lambda details: True)
        await beta.register(uris.procedure_of("beta", "work"), work)
        await reached(lambda: alpha.call(uris.procedure_of("beta", "ready")))
        call = alpha.begin_call(uris.procedure_of("beta", "work"))
        await until(lambda: begun)
        call.cancel()
        with pytest.raises((CancelledError, Refused)):
            await call
        await until(lambda: cancelled)
        # The link and the names are as before.
        assert await alpha.call(uris.procedure_of("beta", "ready")) is True


@pytest.mark.parametrize(("here", "there"), DIRECTIONS)
@on_reactor
async def test_a_call_whose_link_breaks_ends_with_an_error_that_says_so(linked: Linked, here: str, there: str) -> None:
    begun: list[Deferred[None]] = []

    def work(details: Any) -> Deferred[None]:
        begun.append(Deferred())
        return begun[-1]

    async with linked.agent("alpha", here) as alpha, linked.agent("beta", there) as beta:
        await beta.register(uris.procedure_of("beta", "ready"), lambda details: True)
        await beta.register(uris.procedure_of("beta", "work"), work)
        await reached(lambda: alpha.call(uris.procedure_of("beta", "ready")))
        call = alpha.begin_call(uris.procedure_of("beta", "work"))
        await until(lambda: begun)
        await linked.break_links()
        with pytest.raises(Refused) as caught:
            await call
        # Where the leg is a client's session to the caller's router, Crossbar itself says what it says of any callee.
        assert (caught.value.error, "link" in str(caught.value.args)) in [
            (OutcomeUnknown.uri, True),
            ("wamp.error.canceled", False),
        ]
        begun[0].callback(None)
        assert await reached(lambda: alpha.call(uris.procedure_of("beta", "ready"))) is True


@on_reactor
async def test_each_event_comes_once_to_each_node_also_after_five_reconnects(linked: Linked) -> None:
    topic = uris.topic_of("alpha", "news")
    events: dict[str, list[Any]] = {node: [] for node in NODES}

    def listener(node: str) -> Callable[..., None]:
        def listen(number: int, details: Any) -> None:
            events[node].append((number, details.publisher, details.publisher_authid, details.publisher_authrole))

        return listen

    async with (
        linked.agent("alpha", "agni") as alpha,
        linked.agent("alpha", "agni") as at_agni,
        linked.agent("beta", "rushabdev") as at_rushabdev,
        linked.agent("gamma", "dc") as at_dc,
    ):
        for client, node in ((at_agni, "agni"), (at_rushabdev, "rushabdev"), (at_dc, "dc")):
            await client.subscribe(topic, listener(node))
        for number in range(6):
            for node in NODES:
                await heard(lambda: alpha.publish(topic, -1), events[node])
            await pause(0.3)
            for got in events.values():
                got.clear()
            await alpha.publish(topic, number)
            await until(lambda: all(events.values()))
            await pause(0.3)
            assert events == {node: [(number, alpha.details.session, "alpha", "agent")] for node in NODES}
            if number < 5:
                await linked.break_links()


@on_reactor
async def test_every_node_reaches_every_node(linked: Linked) -> None:
    uri = {agent: uris.procedure_of(agent, "where") for agent in AGENTS}
    async with (
        linked.agent("alpha", "agni") as alpha,
        linked.agent("beta", "rushabdev") as beta,
        linked.agent("gamma", "dc") as gamma,
    ):
        clients = {"alpha": alpha, "beta": beta, "gamma": gamma}
        for agent, client in clients.items():
            await client.register(uri[agent], lambda details, agent=agent: agent)
        for client in clients.values():
            for agent in AGENTS:
                assert await reached(partial(client.call, uri[agent])) == agent
        for node in NODES:
            assert "Traceback" not in linked.cluster[node].log()


@on_reactor
async def test_an_agent_that_moves_registers_at_once_and_is_found_there_by_all(linked: Linked) -> None:
    uri = uris.procedure_of("alpha", "where")
    async with (
        linked.agent("beta", "agni") as at_agni,
        linked.agent("beta", "rushabdev") as at_rushabdev,
        linked.agent("beta", "dc") as at_dc,
        linked.agent("alpha", "agni") as old,
        linked.agent("alpha", "rushabdev") as new,
    ):
        await old.register(uri, lambda details: "old")
        for client in (at_agni, at_rushabdev, at_dc):
            await reached(partial(client.call, uri), "old")
        # Its old node still believes in its old session.
        await new.register(uri, lambda details: "new")
        assert await at_rushabdev.call(uri) == "new"
        old.hang_up()
        for client in (at_agni, at_rushabdev, at_dc):
            await reached(partial(client.call, uri), "new")
        # And back, while the session that it leaves is there.
        async with linked.agent("alpha", "dc") as third:
            await third.register(uri, lambda details: "third")
            assert await at_dc.call(uri) == "third"
        await reached(lambda: at_dc.call(uri), "new")


@on_reactor
async def test_a_canary_goes_over_the_link_and_its_answer_comes_back(linked: Linked) -> None:
    async with linked.agent("alpha", "agni") as alpha, linked.agent("beta", "rushabdev") as beta:
        told: list[dict[str, Any]] = []

        async def attach(client: PlainClient, agent: str) -> None:
            def hear(*args: Any, details: Any) -> None:
                if len(args) > 1 and "canary" in args[1]:
                    told.append(args[1]["canary"])
                    client.begin_call(uris.MAILBOX_CANARY, {"id": args[1]["canary"]["id"]})

            await client.subscribe(uris.inbox_of(Address(agent)), hear)
            await client.call(uris.MAILBOX_ATTACH, {"canaries": True})

        await attach(alpha, "alpha")
        await attach(beta, "beta")

        def answered(node: str) -> float:
            scraped = Scraped(ask(linked.cluster[node], "/metrics").body)
            return scraped["trishula_canaries_total", "answered", "link"]

        await until(lambda: len(told) >= 4)
        await until(lambda: answered("agni") == answered("rushabdev") == 1)
        assert {(one.get("from"), one.get("to")) for one in told} == {
            *((None, "beta"), ("alpha", None)),
            *((None, "alpha"), ("beta", None)),
        }


@on_reactor
async def test_nothing_but_what_travels_is_carried(linked: Linked) -> None:
    heard: list[Any] = []
    async with linked.agent("alpha", "agni") as here, linked.agent("alpha", "rushabdev") as there:
        await there.subscribe(uris.receipts_of("alpha"), lambda *args, details: heard.append(args))
        # The node at which it is sent tells there, and there alone.
        message = {"type": "STATUS", "id": "m1", "from": "alpha", "to": "alpha", "timestamp": 0, "payload": 1}
        await here.call(uris.MAILBOX_SEND, [message])
        assert (await here.call(uris.DIRECTORY_LIST))[0]["agent"] in AGENTS
        await pause(0.3)
        for node in NODES:
            log = linked.cluster[node].log()
            assert "Traceback" not in log
            # Upstream logs each call that it forwards, twice.
            assert "invocation" not in log.lower()


@pytest.mark.parametrize(
    ("method", "ticket", "extra"),
    [
        ("ticket", "token", None),
        ("anonymous", None, None),
        ("cryptosign", "00", {"pubkey": "11" * 32}),
        ("cryptosign", "00", {"pubkey": 7}),
        ("cryptosign", "00", None),
    ],
)
@on_reactor
async def test_an_agent_does_not_get_in_where_peers_do(
    linked: Linked, method: str, ticket: str | None, extra: dict[str, Any] | None
) -> None:
    url = linked.cluster["agni"].url.removesuffix(uris.WEBSOCKET_PATH) + uris.PEER_PATH
    ticket = linked.cluster.tokens["alpha"] if ticket == "token" else ticket
    for authid in ("alpha", "rushabdev"):
        with pytest.raises(JoinRefused):
            await join(url, authid, ticket, methods=(method,), authextra=extra, serializer="msgpack")
    # Nor does it fill the log.
    assert "Traceback" not in linked.cluster["agni"].log()
    assert "authorized_keys" not in linked.cluster["agni"].log()


@on_reactor
async def test_forging_is_refused_to_agents_also_where_links_forward(linked: Linked) -> None:
    as_beta = [{"session": 1, "authid": "beta", "authrole": "agent"}]
    async with linked.agent("alpha", "agni") as alpha:
        await alpha.register(uris.procedure_of("alpha", "who"), lambda details: details.caller_authid)
        with pytest.raises(Refused) as caught:
            await alpha.call(uris.procedure_of("alpha", "who"), forward_for=as_beta)
        assert "not_authorized" in caught.value.error
        with pytest.raises(Refused):
            await alpha.publish(uris.topic_of("alpha", "news"), forward_for=as_beta)
        for topic in (f"{uris.PEER_PREFIX}agni.hello", uris.LINK_CHANGED):
            with pytest.raises(Refused):
                await alpha.subscribe(topic, lambda *_, details: None)
            with pytest.raises(Refused):
                await alpha.publish(topic, 1)


@on_reactor
async def test_an_unplugged_peer_is_noticed_and_awaited(linked: Linked) -> None:
    before = {node: linked.cluster[node].log().count(" broke: ") for node in ("rushabdev", "dc")}
    ups = linked.ups()
    linked.spoil(Toxic(Kind.BLACK_HOLE))
    began = time.monotonic()
    await until(lambda: all(linked.cluster[node].log().count(" broke: ") > count for node, count in before.items()))
    tell(f"unplugged peer noticed after {time.monotonic() - began:.2f} s")
    linked.spoil(None)
    began = time.monotonic()
    await until(lambda: linked.ups() >= ups + 3)
    tell(f"links back {time.monotonic() - began:.2f} s after the network")


def test_a_link_awaits_its_peer_and_is_back_soon_after_it(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, ["agni", "rushabdev"])
    agni, rushabdev = cluster["agni"], cluster["rushabdev"]
    try:
        # A cold start without the peer: the node serves, and says what it lacks.
        rushabdev.start()
        rushabdev.wait_log("no link to agni")
        agni.start()
        for number in (1, 2):
            began = time.monotonic()
            while rushabdev.log().count("the link to agni is up") < number:
                assert time.monotonic() - began < 6.0, rushabdev.log()
                time.sleep(0.01)
            tell(f"link up {time.monotonic() - began:.2f} s after the peer")
            if number == 1:
                agni.kill()
                rushabdev.wait_log("the link to agni broke")
                agni.start()
        agni.freeze()
        began = time.monotonic()
        while rushabdev.log().count("the link to agni broke") < 2:
            assert time.monotonic() - began < 10.0, rushabdev.log()
            time.sleep(0.01)
        tell(f"frozen peer noticed after {time.monotonic() - began:.2f} s")
        agni.thaw()
        began = time.monotonic()
        while rushabdev.log().count("the link to agni is up") < 3:
            assert time.monotonic() - began < 6.0, rushabdev.log()
            time.sleep(0.01)
        tell(f"link back {time.monotonic() - began:.2f} s after the thaw")
        # Once for each cause, not for each attempt.
        assert rushabdev.log().count("Connection was refused") <= 2
    finally:
        cluster.stop()


class Mute(WebSocketServerProtocol):  # type: ignore[misc]
    """Takes the connection, answers pings, and says nothing."""

    def onConnect(self, request: Any) -> Any:
        """Speak WAMP, as far as anybody can tell."""
        self.factory.taken.append(self)
        return request.protocols[0]


@on_reactor
async def test_a_peer_that_takes_the_connection_and_says_nothing_is_left_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from twisted.internet import reactor

    monkeypatch.setattr(link_client, "STEP_WITHIN_S", 0.3)
    monkeypatch.setattr(link_client, "RETRY", Backoff(first_s=0.05, factor=1.0, cap_s=0.05, jitter=0.0))
    clock = cast(Any, reactor)
    factory = WebSocketServerFactory(protocols=["wamp.2.msgpack"])
    factory.protocol, factory.taken = Mute, []
    listening = clock.listenTCP(0, factory, interface="127.0.0.1")
    port = listening.getHost().port
    host = SimpleNamespace(
        reactor=SimpleNamespace(
            seconds=clock.seconds, callLater=clock.callLater, addSystemEventTrigger=lambda *_: None
        ),
        endpoint=lambda _: TCP4ClientEndpoint(clock, "127.0.0.1", port),
        public_key=lambda: succeed("00" * 32),
        new_nonce=lambda: "11" * 32,
    )
    told: list[bool] = []
    transport = {"endpoint": {}, "url": f"ws://127.0.0.1:{port}"}
    records: Any = SimpleNamespace()
    client = link_client.LinkClient("agni", "realm1", transport, cast(Any, host), records, told.append, random.random)
    troubles: list[str] = []
    monkeypatch.setattr(client, "trouble", troubles.append)
    client.start()
    try:
        await until(lambda: len(factory.taken) >= 3)
        assert troubles[0] == "it took the connection, and then left something unanswered for 0.3 s"
        assert told == []
    finally:
        monkeypatch.setattr(client, "_stopped", True)
        for one in factory.taken:
            if one.transport is not None:
                one.transport.abortConnection()
        await listening.stopListening()
        await until(lambda: all(one.state == Mute.STATE_CLOSED for one in factory.taken) and client._patience is None)


@pytest.mark.parametrize(
    ("days", "hostname", "trusts", "why"),
    [
        (-1.0, "localhost", True, "its certificate is not trusted: it is over"),
        (30.0, "localhost", False, "its certificate is not trusted: it is over, or none of the link's"),
        (30.0, "agni.example.org", True, "its certificate is for other hosts than the link's tls.hostname"),
    ],
)
@on_reactor
async def test_a_certificate_that_is_wrong_is_told_as_the_cause(
    tmp_path: Path, days: float, hostname: str, trusts: bool, why: str
) -> None:
    from twisted.internet import reactor

    clock = cast(Any, reactor)
    certificate = make_certificate(tmp_path, days)
    authority = certificate if trusts else make_certificate(tmp_path, 31.0)
    options = optionsForClientTLS(hostname, trust_in(authority))
    troubles: list[str] = []
    records: Any = SimpleNamespace(troubled=lambda peer, told: troubles.append(told))
    with TlsFront(certificate, 1) as url:
        port = int(url.rpartition(":")[2].partition("/")[0])
        host = SimpleNamespace(
            reactor=SimpleNamespace(
                seconds=clock.seconds, callLater=clock.callLater, addSystemEventTrigger=lambda *_: None
            ),
            endpoint=lambda _: cast(Any, SSL4ClientEndpoint)(clock, "127.0.0.1", port, options),
        )
        transport = {"endpoint": {}, "url": f"wss://localhost:{port}"}
        client = link_client.LinkClient(
            "agni", "realm1", transport, cast(Any, host), records, lambda up: None, lambda: 0.0
        )
        client.start()
        try:
            await until(lambda: troubles)
        finally:
            client._stopped = True
    assert troubles[0].startswith(why)
