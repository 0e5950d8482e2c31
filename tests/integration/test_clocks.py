"""Two real nodes whose clocks differ, by a minute and by hours: what one accepts lives as long at the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_cluster import all_in_step, at, until
from tests.support.cluster import Cluster
from tests.support.plain import PlainClient
from tests.support.reactor import on_reactor
from trishula.contract import uris

pytestmark = pytest.mark.node


@pytest.fixture(params=[-60.0, -3 * 3600.0, 3 * 3600.0], ids=["a minute behind", "3 h behind", "3 h ahead"])
def ahead_s(request: pytest.FixtureRequest) -> float:
    ahead: float = request.param
    return ahead


@pytest.fixture
def cluster(tmp_path: Path, ahead_s: float) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, ["agni", "rushabdev"], aheads_s={"rushabdev": ahead_s})
    for agent in ("alpha", "beta"):
        cluster.token(agent)
    cluster.token("dc", operator=True)
    with cluster:
        yield cluster


async def send(client: PlainClient, **message: Any) -> dict[str, Any]:
    (receipt,) = await client.call(uris.MAILBOX_SEND, [{"type": "STATUS", "to": "beta", **message}])
    return dict(receipt)


async def state_at(client: PlainClient, message_id: str) -> str:
    return str((await client.call(uris.MAILBOX_STATUS, [message_id]))[message_id]["state"])


async def until_it_is(client: PlainClient, message_id: str, state: str) -> None:
    async def holds() -> bool:
        return await state_at(client, message_id) == state

    await until(holds)


@on_reactor
async def test_a_time_to_live_is_a_span(cluster: Cluster) -> None:
    await all_in_step(cluster)
    there, here = await at(cluster, "rushabdev", "alpha"), await at(cluster, "agni", "alpha")
    assert (await send(there, id="m1", ttl_ms=30_000))["copies"] == 2
    assert (await send(there, id="short", ttl_ms=500))["copies"] == 2
    for client in (there, here):
        assert await state_at(client, "m1") == "accepted"
        # Of those that nobody takes, the node where they were accepted says it, within ten seconds.
        await until_it_is(client, "short", "expired")
    beta = await at(cluster, "agni", "beta")
    (delivery,) = (await beta.call(uris.MAILBOX_FETCH))["deliveries"]
    assert delivery["message"]["id"] == "m1"
    assert await beta.call(uris.MAILBOX_ACK, [delivery["token"]]) == [True]
    for client in (there, here):
        await until_it_is(client, "m1", "done")
        told = await client.call(uris.AUDIT_WHY, "m1")
        (life,) = told["messages"]
        assert [event["kind"] for event in life["events"]] == ["accepted", "delivered", "done"]
        first, second, third = (event["at"] - event.get("clock_ahead_ms", 0) for event in life["events"])
        # The clocks are compared to a few milliseconds.
        assert -100 <= second - first < 30_000
        assert -100 <= third - second < 30_000
        assert -100 <= life["settled_at"] - life["accepted_at"] < 30_000


@on_reactor
async def test_operators_are_warned(cluster: Cluster, ahead_s: float) -> None:
    await all_in_step(cluster)
    for node, expected_s in (("agni", ahead_s), ("rushabdev", -ahead_s)):
        operator = await at(cluster, node, "dc")

        async def warned(operator: PlainClient = operator) -> dict[str, Any] | None:
            (peer,) = (await operator.call(uris.NODE_STATUS))["peers"]
            return dict(peer) if peer["warning"] else None

        peer = await until(warned)
        assert abs(peer["clock_ahead_ms"] / 1000 - expected_s) < 0.5
        await operator.leave()
        cluster[node].wait_log("have both follow NTP", 10.0)


@on_reactor
async def test_a_node_believes_a_step_that_lasts(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, ["agni", "rushabdev"], aheads_s={"agni": -3 * 3600.0})
    for agent in ("alpha", "beta"):
        cluster.token(agent)
    cluster.token("dc", operator=True)
    node, dials = cluster["agni"], cluster.dials["agni"]
    with cluster:
        alpha, operator = await at(cluster, "agni", "alpha"), await at(cluster, "agni", "dc")
        # As a machine whose clock was wrong when it started.
        await send(alpha, id="m1", ttl_ms=3600_000)
        before = (await operator.call(uris.NODE_STATUS))["started_at"]
        dials.ahead_ms = 0
        await until_told(operator, lambda status: abs(status["clock_gap_ms"] - 3 * 3600_000) < 5000)
        # A restart is no way to have it believed sooner, and changes nothing of it.
        node.stop()
        node.restart()
        alpha = await at(cluster, "agni", "alpha")
        await send(alpha, id="m2", ttl_ms=3600_000)
        # Nobody answers the node's pings meanwhile.
        node.wait_log("so the node believes it", 120.0)
        alpha, operator = await at(cluster, "agni", "alpha"), await at(cluster, "agni", "dc")
        status = await operator.call(uris.NODE_STATUS)
        assert abs(status["clock_gap_ms"]) < 100
        assert abs(status["started_at"] - before - 3 * 3600_000) < 120_000
        assert await state_at(alpha, "m1") == await state_at(alpha, "m2") == "accepted"
        beta = await at(cluster, "agni", "beta")
        deliveries = (await beta.call(uris.MAILBOX_FETCH))["deliveries"]
        assert [one["message"]["id"] for one in deliveries] == ["m1", "m2"]
        assert await beta.call(uris.MAILBOX_ACK, [one["token"] for one in deliveries]) == [True, True]
        (life,) = (await alpha.call(uris.AUDIT_WHY, "m2"))["messages"]
        assert 0 <= life["settled_at"] - life["accepted_at"] < 120_000
        assert abs(life["settled_at"] - time.time() * 1000) < 60_000


async def until_told(operator: PlainClient, holds: Callable[[dict[str, Any]], bool]) -> None:
    async def ask() -> bool:
        return holds(await operator.call(uris.NODE_STATUS))

    await until(ask)
