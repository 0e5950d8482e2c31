"""Large messages over slow lines: whatever moves bytes is alive, and what doesn't move any is noticed all the same."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from tests.support.cluster import Cluster
from tests.support.node import NodeProcess
from tests.support.reactor import on_reactor
from trishula.agent import Agent
from trishula.contract.message import Message
from trishula.runtime.surroundings import real
from trishula.settings import Settings
from trishula_drill.faults import Kind
from trishula_drill.proxy import Network, Proxy, Toxic

pytestmark = pytest.mark.node

#: 1 Mbit/s.
SLOW = Toxic(Kind.BANDWIDTH, 125_000)
MEGABYTE = "x" * 1_000_000


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    node = NodeProcess(tmp_path / "state")
    for name in ("agni", "dc"):
        node.token(name)
    with node:
        yield node


@pytest.fixture
def line(node: NodeProcess) -> Iterator[tuple[Network, Proxy]]:
    """A way to the node through a proxy."""
    with Network() as network:
        yield network, network.proxy(int(node.url.rpartition(":")[2].partition("/")[0]), random.Random(1))


async def until(condition: Callable[[], object], timeout_s: float = 90.0) -> None:
    clock = real().clock
    deadline_s = clock.seconds() + timeout_s
    while not condition():
        assert clock.seconds() < deadline_s, "it did not come true in time"
        done: Deferred[None] = Deferred()
        clock.callLater(0.01, done.callback, None)
        await done


@asynccontextmanager
async def crew(node: NodeProcess, state: Path, **urls: str) -> AsyncIterator[tuple[Agent, Agent, Counter[str]]]:
    """dc and agni, each at a URL of its own, and how often agni handled which message."""
    handled: Counter[str] = Counter()
    agents = [Agent(name, state=state) for name in urls]

    def handle(message: Message) -> None:
        assert message.payload == MEGABYTE or isinstance(message.payload, int)
        handled[message.id] += 1

    for agent in agents:
        agent.on("STATUS")(handle)
    async with contextlib.AsyncExitStack() as stack:
        for agent in agents:
            settings = Settings((urls[agent.name],), agent.name, node.tokens[agent.name])
            await agent.start(settings, timeout=20.0)
            stack.push_async_callback(agent.stop, grace_s=1.0)
        yield agents[0], agents[1], handled


def through(proxy: Proxy) -> str:
    return f"ws://127.0.0.1:{proxy.port}/ws"


@on_reactor
async def test_megabytes_go_up_a_slow_line(node: NodeProcess, line: tuple[Network, Proxy], tmp_path: Path) -> None:
    network, proxy = line
    network.spoil(proxy, SLOW)
    async with crew(node, tmp_path, dc=through(proxy), agni=node.url) as (dc, _, handled):
        # Three in flight at once; the last one waits longer than any ping would.
        sent = [dc.send("agni", payload=MEGABYTE, id=f"m{number}") for number in range(3)]
        for receipt in sent:
            assert (await receipt).status == "accepted"
        await until(lambda: len(handled) == 3)
        assert set(handled.values()) == {1}
        assert proxy.accepted == 1, "the connection was lost"


@on_reactor
async def test_megabytes_come_down_a_slow_line(node: NodeProcess, line: tuple[Network, Proxy], tmp_path: Path) -> None:
    network, proxy = line
    network.spoil(proxy, SLOW)
    async with crew(node, tmp_path, dc=node.url, agni=through(proxy)) as (dc, agni, handled):
        for number in range(3):
            assert (await dc.send("agni", payload=MEGABYTE, id=f"m{number}")).status == "accepted"
        # What the slow one asks meanwhile is answered, and not behind all of it.
        assert (await agni.send("dc", payload=1, id="up")).status == "accepted"
        await until(lambda: all(handled[f"m{number}"] for number in range(3)))
        assert set(handled.values()) == {1}
        assert proxy.accepted == 1, "the connection was lost"


@on_reactor
async def test_both_ways_at_once(node: NodeProcess, line: tuple[Network, Proxy], tmp_path: Path) -> None:
    network, proxy = line
    network.spoil(proxy, SLOW)
    async with crew(node, tmp_path, dc=through(proxy), agni=node.url) as (dc, agni, handled):
        sent = [dc.send("agni", payload=MEGABYTE, id="there"), agni.send("dc", payload=MEGABYTE, id="back")]
        for receipt in sent:
            assert (await receipt).status == "accepted"
        await until(lambda: len(handled) == 2)
        assert proxy.accepted == 1, "the connection was lost"


@on_reactor
async def test_a_line_that_dies_in_the_midst_of_a_megabyte_is_noticed(
    node: NodeProcess, line: tuple[Network, Proxy], tmp_path: Path
) -> None:
    network, proxy = line
    network.spoil(proxy, SLOW)
    async with crew(node, tmp_path, dc=through(proxy), agni=node.url) as (dc, _, handled):
        receipt = dc.send("agni", payload=MEGABYTE, id="m")
        done: Deferred[None] = Deferred()
        real().clock.callLater(3.0, done.callback, None)
        await done
        network.spoil(proxy, Toxic(Kind.BLACK_HOLE))
        await until(lambda: dc.client.url is None)
        network.spoil(proxy, SLOW)
        assert (await receipt).status in ("accepted", "duplicate")
        await until(lambda: handled["m"])
        assert handled["m"] == 1


@on_reactor
async def test_megabytes_go_over_a_slow_link_between_nodes(tmp_path: Path) -> None:
    proxies: list[Proxy] = []
    with Network() as network:

        def reached_at(port: int) -> int:
            proxies.append(network.proxy(port, random.Random(1)))
            network.spoil(proxies[-1], SLOW)
            return proxies[-1].port

        cluster = Cluster(tmp_path, ["agni", "rushabdev"], reached_at=reached_at)
        for name in ("agni", "dc"):
            cluster.token(name)
        with cluster:
            nodes = cluster["agni"], cluster["rushabdev"]
            for node in nodes:
                node.tokens.update(cluster.tokens)
            ups = [node.log().count("the link to") for node in nodes]
            # The node that makes the link may have tried before the other one listened.
            tried = sum(proxy.accepted for proxy in proxies)
            async with crew(nodes[0], tmp_path, dc=nodes[0].url, agni=nodes[1].url) as (dc, agni, handled):
                for number in range(3):
                    assert (await dc.send("agni", payload=MEGABYTE, id=f"there{number}")).status == "accepted"
                assert (await agni.send("dc", payload=MEGABYTE, id="back")).status == "accepted"
                await until(lambda: len(handled) == 4)
                assert set(handled.values()) == {1}
            assert [node.log().count("the link to") for node in nodes] == ups, "the link broke"
            assert not any("can't be reached" in node.log() for node in nodes)
            assert sum(proxy.accepted for proxy in proxies) == tried
