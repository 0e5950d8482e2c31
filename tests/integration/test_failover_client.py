"""Clients with a list of two nodes: the first one is killed, frozen, cut off, and comes back.

Most of it runs on nodes that are not linked, and have the same agents: whatever the clients do by themselves shows
there. What only nodes that know of each other can promise is at the end.
"""

from __future__ import annotations

import logging
import random
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.support.cluster import Cluster
from tests.support.node import NodeProcess
from tests.support.reactor import on_reactor
from trishula.agent import Agent
from trishula.client import Client
from trishula.contract.message import Message
from trishula.contract.receipts import Receipt
from trishula.errors import ProcedureUnknown
from trishula.runtime.pending import Pending
from trishula.runtime.surroundings import real
from trishula.settings import Settings
from trishula_drill.faults import Kind
from trishula_drill.proxy import Network, Toxic, free_port

pytestmark = pytest.mark.node

#: The figures: pytest --log-cli-level=INFO shows them. They are never asserted.
_log = logging.getLogger("tests.failover")

NAMES = ("agni", "dc")


class Pair:
    """Two nodes that run, on ports of their own."""

    def __init__(self, first: NodeProcess, second: NodeProcess, *, are_linked: bool) -> None:
        self.first, self.second = first, second
        self.are_linked = are_linked
        self.ports = {node: node.port for node in self.nodes}

    @property
    def nodes(self) -> tuple[NodeProcess, NodeProcess]:
        return self.first, self.second

    def url(self, node: NodeProcess, port: int | None = None) -> str:
        return f"ws://127.0.0.1:{port or self.ports[node]}/ws"

    def settings(self, name: str, *, failback_s: float | None = None, urls: tuple[str, ...] = ()) -> Settings:
        urls = urls or tuple(self.url(node) for node in self.nodes)
        return replace(Settings(urls, name, self.first.tokens[name]), failback_s=failback_s)

    def send_signal(self, node: NodeProcess, number: signal.Signals) -> None:
        for process in node.processes():
            process.send_signal(number)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    nodes = [NodeProcess(tmp_path / name, port=free_port()) for name in ("first", "second")]
    for name in NAMES:
        nodes[0].token(name)
    (tmp_path / "second").mkdir(mode=0o700)
    shutil.copy2(tmp_path / "first" / "agents.json", tmp_path / "second" / "agents.json")
    try:
        # Side by side: most of a start is waiting.
        for node in nodes:
            node.spawn()
        for node in nodes:
            node.url = node.wait_ready()
        yield Pair(*nodes, are_linked=False)
    finally:
        for node in nodes:
            node.stop()


@pytest.fixture
def linked(tmp_path: Path) -> Iterator[Pair]:
    cluster = Cluster(tmp_path, ["agni", "rushabdev"])
    for name in NAMES:
        cluster.token(name)
    with cluster:
        first, second = cluster["agni"], cluster["rushabdev"]
        first.tokens.update(cluster.tokens)
        yield Pair(first, second, are_linked=True)


def sleep(seconds: float) -> Deferred[None]:
    done: Deferred[None] = Deferred()
    real().clock.callLater(seconds, done.callback, None)
    return done


async def until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    clock = real().clock
    deadline_s = clock.seconds() + timeout_s
    while not condition():
        assert clock.seconds() < deadline_s, "it did not come true in time"
        await sleep(0.002)


class Traffic:
    """dc sends to agni, again and again; what was confirmed, when and by which node, and what was handled."""

    def __init__(self, pair: Pair, state: Path, **options: Any) -> None:
        self.pair = pair
        self.confirmed: dict[str, tuple[float, str]] = {}
        self.handled: Counter[str] = Counter()
        self.order: list[int] = []
        self.sender = Agent("dc", state=state)
        self.receiver = Agent("agni", state=state)
        self.receiver.on("STATUS")(self._handle)
        self.receiver.add_procedure(self._slowly, name="slowly")
        self._options = options
        self._number = 0
        self._going = False

    def _handle(self, message: Message) -> None:
        self.handled[message.id] += 1
        self.order.append(message.payload)

    async def _slowly(self) -> str:
        import asyncio

        await asyncio.sleep(1.5)
        return "through"

    @property
    def now_s(self) -> float:
        return real().clock.seconds()

    def go(self) -> None:
        """Send from now on, one every 5 ms."""
        self._going = True
        self._send()

    def _send(self) -> None:
        if self._going:
            self._number += 1
            message_id = f"m{self._number}"
            self.sender.send("agni", payload=self._number, id=message_id).when_done(
                lambda pending: self._sent(message_id, pending)
            )
            real().clock.callLater(0.005, self._send)

    def _sent(self, message_id: str, pending: Pending[Receipt]) -> None:
        # A URL, because both nodes have the shipped configuration's name.
        self.confirmed[message_id] = self.now_s, self.sender.client.url or ""

    def halt(self) -> None:
        self._going = False

    def on(self, node: NodeProcess) -> bool:
        """Whether both are on that node."""
        return all(agent.client.url == self.pair.url(node) for agent in (self.sender, self.receiver))

    def first_on(self, node: NodeProcess, since_s: float) -> float:
        """How long after an instant the first message was confirmed by a node, in s."""
        return (
            min(at_s for at_s, url in self.confirmed.values() if url == self.pair.url(node) and at_s > since_s)
            - since_s
        )

    def longest_gap_s(self, since_s: float) -> float:
        """The longest time without a receipt after an instant."""
        instants = sorted(at_s for at_s, _ in self.confirmed.values() if at_s >= since_s)
        return max(later - earlier for earlier, later in pairwise(instants))

    async def all_through(self) -> None:
        """Stop sending, and wait until everything is confirmed and was handled, on whichever node it is."""
        self.halt()
        await until(lambda: not self.sender.client.unconfirmed)
        assert len(self.confirmed) == self._number
        if self.on(self.pair.first) and not self.pair.are_linked:
            # Nothing links the nodes: what was sent to the second one while its recipient moved away lies there.
            await until(lambda: self._confirmed_by(self.pair.first) <= self.handled.keys())
            await deferToThread(self.pair.first.stop)
        await until(lambda: len(self.handled) == self._number)
        # A repeat would have come by now: everything before it is through.
        await sleep(0.2)
        assert set(self.handled.values()) == {1}

    def _confirmed_by(self, node: NodeProcess) -> set[str]:
        return {name for name, (_, url) in self.confirmed.items() if url == self.pair.url(node)}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        agents = self.receiver, self.sender
        try:
            for agent in agents:
                await agent.start(self.pair.settings(agent.name, **self._options), timeout=10.0)
            yield
        finally:
            self.halt()
            for agent in agents:
                await agent.stop(grace_s=1.0)


@on_reactor
async def test_the_first_node_is_killed_in_mid_traffic_and_comes_back(pair: Pair, tmp_path: Path) -> None:
    traffic = Traffic(pair, tmp_path / "state", failback_s=1.0)
    async with traffic.running():
        traffic.go()
        await until(lambda: len(traffic.confirmed) > 50)
        assert traffic.on(pair.first)
        await deferToThread(pair.first.kill)
        killed_s = traffic.now_s
        await until(lambda: traffic.on(pair.second))
        await until(lambda: len(traffic.handled) > 100)
        # Before the kill returned to us, the clients had noticed it; the gap is what a user would have seen.
        _log.info(f"longest gap without a receipt around the kill: {1000 * traffic.longest_gap_s(killed_s - 5):.0f} ms")
        await deferToThread(pair.first.start, port=pair.ports[pair.first])
        back_s = traffic.now_s
        await until(lambda: traffic.on(pair.first))
        await sleep(0.5)
        _log.info(f"longest gap while moving back: {1000 * traffic.longest_gap_s(back_s):.0f} ms")
        await traffic.all_through()


@on_reactor
async def test_the_first_node_is_frozen_and_comes_to_its_senses(pair: Pair, tmp_path: Path) -> None:
    traffic = Traffic(pair, tmp_path / "state", failback_s=1.0)
    async with traffic.running():
        traffic.go()
        await until(lambda: len(traffic.confirmed) > 50)
        assert traffic.on(pair.first)
        pair.send_signal(pair.first, signal.SIGSTOP)
        try:
            frozen_s = traffic.now_s
            await until(lambda: traffic.on(pair.second))
            await sleep(0.2)
            _log.info(
                f"first message on the second node {traffic.first_on(pair.second, frozen_s):.2f} s after the freeze"
            )
        finally:
            pair.send_signal(pair.first, signal.SIGCONT)
        await until(lambda: traffic.on(pair.first))
        await traffic.all_through()


@on_reactor
async def test_a_first_node_that_is_cut_off(pair: Pair, tmp_path: Path) -> None:
    with Network() as network:
        proxy = network.proxy(pair.ports[pair.first], random.Random(1))
        urls = pair.url(pair.first, proxy.port), pair.url(pair.second)
        network.spoil(proxy, Toxic(Kind.BLACK_HOLE))
        client = Client(pair.settings("dc", failback_s=1.0, urls=urls), instance="test")
        began_s = real().clock.seconds()
        await client.start(timeout=10.0)
        try:
            _log.info(f"joined the second node {real().clock.seconds() - began_s:.2f} s after the start")
            assert client.url == urls[1]
            await deferToThread(network.spoil, proxy, None)
            await until(lambda: client.url == urls[0])
            await deferToThread(network.spoil, proxy, Toxic(Kind.BLACK_HOLE))
            cut_s = real().clock.seconds()
            sent = client.send("agni", payload="cut off", ttl_ms=1000)
            await sent
            assert client.url == urls[1]
            _log.info(f"first message on the second node {real().clock.seconds() - cut_s:.2f} s after the cut")
            await deferToThread(network.spoil, proxy, None)
        finally:
            await client.stop()
            # What the proxy held up comes to its end before the proxy does.
            await sleep(0.1)


@on_reactor
async def test_calls_under_way_survive_the_way_back(pair: Pair, tmp_path: Path) -> None:
    traffic = Traffic(pair, tmp_path / "state", failback_s=1.0)
    async with traffic.running():
        await deferToThread(pair.first.kill)
        await until(lambda: traffic.on(pair.second))
        await deferToThread(pair.first.start, port=pair.ports[pair.first])
        traffic.go()
        through = 0
        while not traffic.on(pair.first):
            are_together = traffic.sender.client.url == traffic.receiver.client.url
            calls = [traffic.sender.rpc("agni", "slowly", timeout=5.0) for _ in range(2)]
            for call in calls:
                try:
                    assert await call == "through"
                    through += 1
                except ProcedureUnknown:
                    # These nodes are not linked: who has moved can't reach who has not.
                    assert not are_together
                    await sleep(0.01)
        assert through > 0
        assert await traffic.sender.rpc("agni", "slowly", timeout=5.0) == "through"
        await traffic.all_through()


@on_reactor
async def test_it_stays_where_it_is_if_the_operator_says_so(pair: Pair, tmp_path: Path) -> None:
    traffic = Traffic(pair, tmp_path / "state", failback_s=None)
    async with traffic.running():
        await deferToThread(pair.first.kill)
        await until(lambda: traffic.on(pair.second))
        await deferToThread(pair.first.start, port=pair.ports[pair.first])
        traffic.go()
        await sleep(3.0)
        assert traffic.on(pair.second)
        await traffic.all_through()


# -- linked nodes ------------------------------------------------------------------------------------------------------


@on_reactor
async def test_a_killed_node_costs_neither_a_message_nor_their_order(linked: Pair, tmp_path: Path) -> None:
    traffic = Traffic(linked, tmp_path / "state", failback_s=1.0)
    async with traffic.running():
        traffic.go()
        await until(lambda: len(traffic.confirmed) > 50)
        assert traffic.on(linked.first)
        await deferToThread(linked.first.kill)
        killed_s = traffic.now_s
        await until(lambda: traffic.on(linked.second))
        await until(lambda: len(traffic.handled) > 100)
        _log.info(f"longest gap without a receipt around the kill: {1000 * traffic.longest_gap_s(killed_s - 5):.0f} ms")
        await deferToThread(linked.first.start, port=linked.ports[linked.first])
        back_s = traffic.now_s
        await until(lambda: traffic.on(linked.first))
        await sleep(0.5)
        _log.info(f"longest gap while moving back: {1000 * traffic.longest_gap_s(back_s):.0f} ms")
        await traffic.all_through()
        assert traffic.order == sorted(traffic.order)


@on_reactor
async def test_a_session_that_a_frozen_node_still_believes_in_ends_nobody(linked: Pair, tmp_path: Path) -> None:
    traffic = Traffic(linked, tmp_path / "state", failback_s=2.0)
    async with traffic.running():
        traffic.go()
        await until(lambda: len(traffic.confirmed) > 50)
        linked.send_signal(linked.first, signal.SIGSTOP)
        try:
            frozen_s = traffic.now_s
            await until(lambda: traffic.on(linked.second))
            await sleep(0.2)
            _log.info(
                f"first message on the second node {traffic.first_on(linked.second, frozen_s):.2f} s after the freeze"
            )
        finally:
            linked.send_signal(linked.first, signal.SIGCONT)
        await until(lambda: traffic.on(linked.first))
        await sleep(0.5)
        assert traffic.on(linked.first)
        await traffic.all_through()
        assert traffic.order == sorted(traffic.order)
