"""Two real nodes as one: what one accepts is on both disks, reaches agents at both, and outlives either."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.task import deferLater

from tests.support.cluster import Cluster
from tests.support.node import environment
from tests.support.plain import PlainClient, join
from tests.support.reactor import on_reactor
from trishula.contract import uris
from trishula.contract.addresses import Address

pytestmark = pytest.mark.node

TIMEOUT_S = 20.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, ["agni", "rushabdev"])
    for agent in ("alpha", "beta"):
        cluster.token(agent, serve=["deploy"])
    cluster.token("dc", operator=True)
    with cluster:
        yield cluster


async def at(cluster: Cluster, node: str, agent: str) -> PlainClient:
    return await join(cluster[node].url, agent, cluster.tokens[agent], serializer="msgpack")


async def pause(seconds: float) -> None:
    from twisted.internet import reactor

    await deferLater(cast(Any, reactor), seconds)


async def until(holds: Callable[[], Any]) -> Any:
    """Wait until something asked again and again is true; what it was then."""
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        if answer := await holds():
            return answer
        await pause(0.05)
    raise AssertionError(f"it never came true: {holds}")


async def peer_of(operator: PlainClient) -> dict[str, Any]:
    (told,) = (await operator.call(uris.NODE_STATUS))["peers"]
    return dict(told)


async def in_step(operator: PlainClient) -> None:
    async def ask() -> bool:
        told = await peer_of(operator)
        return told["state"] == "up" and not told["lag_records"] and not told["to_copy_records"]

    await until(ask)


async def all_in_step(cluster: Cluster) -> None:
    """Each node sees the other, and has what it has: one may see it before the other does."""
    for node in cluster.nodes:
        operator = await at(cluster, node, "dc")
        await in_step(operator)
        await operator.leave()


@on_reactor
async def test_an_id_counts_once_on_both_nodes_and_its_answer_is_there_for_every_process(cluster: Cluster) -> None:
    await all_in_step(cluster)
    one, other = await at(cluster, "agni", "alpha"), await at(cluster, "rushabdev", "alpha")
    beta = await at(cluster, "agni", "beta")
    inbox: list[dict[str, Any]] = []
    await beta.subscribe(uris.inbox_of(Address("beta")), lambda items, details: inbox.extend(items))
    await beta.call(uris.MAILBOX_ATTACH)
    command = {"type": "COMMAND", "id": "job", "to": "beta", "procedure": "f", "payload": {"args": [1], "kwargs": {}}}
    (first,) = await one.call(uris.MAILBOX_SEND, [{**command, "from": "alpha/one"}])
    (again,) = await other.call(uris.MAILBOX_SEND, [{**command, "from": "alpha/other"}])
    assert (first["status"], again["status"]) == ("accepted", "duplicate")
    assert (again["node"], again["seq"]) == ("agni", first["seq"])
    (refused,) = await other.call(uris.MAILBOX_SEND, [{**command, "procedure": "g", "from": "alpha/other"}])
    assert refused["error"] == "trishula.error.id_reused"
    assert (await other.call(uris.MAILBOX_ANSWER, "job"))["state"] in ("accepted", "delivered")

    async def arrived() -> bool:
        return bool(inbox)

    await until(arrived)
    # Who asked is gone; it never even attached.
    reply = {"type": "RESULT", "id": "job.r", "to": "alpha/one", "reply_to": "job", "payload": 7}
    (receipt,) = await beta.call(uris.MAILBOX_SEND, [reply])
    assert receipt["status"] == "accepted"
    assert await beta.call(uris.MAILBOX_ACK, [one["token"] for one in inbox]) == [True]

    async def answered() -> Any:
        return (await other.call(uris.MAILBOX_ANSWER, "job")).get("message")

    assert (await until(answered))["payload"] == 7
    assert len(inbox) == 1


async def send(client: PlainClient, *ids: str, to: str = "beta") -> list[dict[str, Any]]:
    receipts = await client.call(uris.MAILBOX_SEND, [{"type": "STATUS", "id": one, "to": to} for one in ids])
    return list(receipts)


@on_reactor
async def test_a_message_crosses_and_both_nodes_tell_the_same_of_it(cluster: Cluster) -> None:
    await all_in_step(cluster)
    operator, there = await at(cluster, "agni", "dc"), await at(cluster, "rushabdev", "dc")
    alpha, beta = await at(cluster, "agni", "alpha"), await at(cluster, "rushabdev", "beta")
    inbox: list[dict[str, Any]] = []
    await beta.subscribe(uris.inbox_of(Address("beta")), lambda items, details: inbox.extend(items))
    await beta.call(uris.MAILBOX_ATTACH)
    (receipt,) = await send(alpha, "m1")
    assert (receipt["status"], receipt["node"], receipt["copies"]) == ("accepted", "agni", 2)

    async def arrived() -> bool:
        return bool(inbox)

    await until(arrived)
    assert await beta.call(uris.MAILBOX_ACK, [one["token"] for one in inbox]) == [True]

    async def done() -> bool:
        states = await alpha.call(uris.MAILBOX_STATUS, ["m1"])
        return bool(states["m1"]["state"] == "done")

    await until(done)
    lives = []
    for asked in (operator, there):
        (life,) = (await asked.call(uris.AUDIT_WHY, "m1"))["messages"]
        lives.append((life["state"], [(event["kind"], event["node"]) for event in life["events"]]))
    assert lives[0] == lives[1]
    assert lives[0] == ("done", [("accepted", "agni"), ("delivered", "rushabdev"), ("done", "rushabdev")])
    entries = {entry["agent"]: entry for entry in await alpha.call(uris.DIRECTORY_LIST)}
    assert (entries["beta"]["presence"], entries["beta"]["node"]) == ("online", "rushabdev")


@on_reactor
async def test_a_node_that_is_killed_leaves_nothing_behind_that_the_other_lacks(cluster: Cluster) -> None:
    await all_in_step(cluster)
    alpha = await at(cluster, "agni", "alpha")
    receipts = await send(alpha, *(f"m{number}" for number in range(200)))
    assert {receipt["copies"] for receipt in receipts} == {2}
    cluster["agni"].kill()
    beta = await at(cluster, "rushabdev", "beta")
    answer = await beta.call(uris.MAILBOX_FETCH, {"max": 256})
    assert [one["message"]["id"] for one in answer["deliveries"]] == [f"m{number}" for number in range(200)]
    assert await beta.call(uris.MAILBOX_ACK, [one["token"] for one in answer["deliveries"]]) == [True] * 200
    cluster["agni"].restart()
    again = await at(cluster, "agni", "dc")
    await in_step(again)
    beta = await at(cluster, "agni", "beta")
    answer = await beta.call(uris.MAILBOX_FETCH, {"max": 256})
    assert (answer["deliveries"], answer["pending"], answer["in_flight"]) == ([], 0, 0)


@on_reactor
async def test_what_reached_a_model_at_one_node_is_known_at_the_other(cluster: Cluster) -> None:
    await all_in_step(cluster)
    alpha, operator = await at(cluster, "agni", "alpha"), await at(cluster, "agni", "dc")
    news: list[dict[str, Any]] = []
    await alpha.subscribe(uris.receipts_of("alpha"), lambda items, details: news.extend(items))
    await send(alpha, "m1")
    beta = await at(cluster, "rushabdev", "beta")

    async def fetched() -> Any:
        return (await beta.call(uris.MAILBOX_FETCH, {}))["deliveries"]

    (delivery,) = await until(fetched)
    assert await beta.call(uris.MAILBOX_SURFACED, [delivery["token"]]) == [True]
    there = (await beta.call(uris.MAILBOX_STATUS, ["m1"]))["m1"]

    async def here() -> Any:
        told = (await alpha.call(uris.MAILBOX_STATUS, ["m1"]))["m1"]
        return told if told["surfaced_at"] is not None else None

    assert (await until(here))["surfaced_at"] == there["surfaced_at"]
    (life,) = (await operator.call(uris.AUDIT_WHY, "m1"))["messages"]
    assert [event["kind"] for event in life["events"]] == ["accepted", "delivered", "surfaced"]
    assert [one["state"] for one in news] == ["surfaced"]
    # The node that the model was at is gone and comes back: it has not forgotten.
    cluster["rushabdev"].kill()
    cluster["rushabdev"].restart()
    beta = await at(cluster, "rushabdev", "beta")
    assert (await beta.call(uris.MAILBOX_STATUS, ["m1"]))["m1"]["surfaced_at"] == there["surfaced_at"]


async def able(cluster: Cluster, node: str, agent: str) -> tuple[PlainClient, list[dict[str, Any]]]:
    """An agent that can deploy, and what is delivered to it."""
    client, inbox = await at(cluster, node, agent), []
    await client.subscribe(uris.inbox_of(Address(agent)), lambda items, details: inbox.extend(items))
    await client.call(uris.MAILBOX_ATTACH, {"capabilities": ["deploy"]})
    return client, inbox


async def settle_all(client: PlainClient, inbox: list[dict[str, Any]], *ids: str) -> None:
    """Wait until just these have been delivered, and acknowledge them."""

    async def arrived() -> bool:
        return len(inbox) >= len(ids)

    await until(arrived)
    assert [one["message"]["id"] for one in inbox] == list(ids)
    assert await client.call(uris.MAILBOX_ACK, [one["token"] for one in inbox]) == [True] * len(ids)


async def all_empty(cluster: Cluster) -> None:
    """No node has anything open any more."""
    for node in cluster.nodes:
        operator = await at(cluster, node, "dc")

        async def is_empty(operator: PlainClient = operator) -> bool:
            status = await operator.call(uris.NODE_STATUS)
            return (status["pending"], status["in_flight"]) == (0, 0)

        await until(is_empty)


@on_reactor
async def test_a_capability_message_goes_to_the_node_where_somebody_can_take_it(cluster: Cluster) -> None:
    await all_in_step(cluster)
    alpha = await at(cluster, "agni", "alpha")
    beta, there = await able(cluster, "rushabdev", "beta")
    await send(alpha, "m1", "m2", to="capability:deploy")
    await settle_all(beta, there, "m1", "m2")

    async def done() -> bool:
        states = await alpha.call(uris.MAILBOX_STATUS, ["m1", "m2"])
        return all(told["state"] == "done" for told in states.values())

    await until(done)
    (life,) = (await alpha.call(uris.AUDIT_WHY, "m1"))["messages"]
    events = {event["kind"]: event for event in life["events"]}
    assert [(kind, events[kind]["node"]) for kind in ("accepted", "handed", "delivered", "done")] == [
        ("accepted", "agni"),
        ("handed", "agni"),
        ("delivered", "rushabdev"),
        ("done", "rushabdev"),
    ]
    assert events["handed"]["reason"] == "handed to rushabdev, where an agent can do it"
    # It moves to the sender's node, and gets the next one there.
    await beta.leave()
    beta, here = await able(cluster, "agni", "beta")
    await send(alpha, "m3", to="capability:deploy")
    await settle_all(beta, here, "m3")
    assert [one["message"]["id"] for one in there] == ["m1", "m2"]
    await all_empty(cluster)


@on_reactor
async def test_a_capability_message_waits_for_the_node_that_it_was_handed_to(cluster: Cluster) -> None:
    await all_in_step(cluster)
    alpha = await at(cluster, "agni", "alpha")
    _, there = await able(cluster, "rushabdev", "beta")
    await send(alpha, "m1", to="capability:deploy")

    async def delivered() -> bool:
        told = await alpha.call(uris.MAILBOX_STATUS, ["m1"])
        return bool(told["m1"]["state"] == "delivered")

    await until(delivered)
    assert [one["message"]["id"] for one in there] == ["m1"]
    cluster["rushabdev"].kill()
    beta, here = await able(cluster, "agni", "beta")
    # Its agent is here now and takes the next one; m1 may have been begun, and is where nobody can ask.
    await send(alpha, "m2", to="capability:deploy")
    await settle_all(beta, here, "m2")
    # While the test waits for the node, nobody answers pings: its session would be handed m1 and lose it.
    await beta.leave()
    cluster["rushabdev"].restart()
    # No pong went out meanwhile, so the connections of this process are gone.
    await in_step(await at(cluster, "agni", "dc"))
    beta, here = await able(cluster, "agni", "beta")
    await settle_all(beta, here, "m1")
    assert here[0]["attempt"] == 2
    await all_empty(cluster)
    assert len(here) == 1


@on_reactor
async def test_a_store_that_was_lost_is_built_anew_by_the_peer(cluster: Cluster) -> None:
    await all_in_step(cluster)
    await send(await at(cluster, "agni", "alpha"), "m1", "m2")
    before = (await (await at(cluster, "agni", "dc")).call(uris.NODE_STATUS))["epoch"]
    agni = cluster["agni"]
    agni.stop()
    told = json.loads(agni.command("node", "reseed", "--state", str(agni.state_dir), "--json"))
    assert told["peers"] == ["rushabdev"]
    assert Path(told["kept"]).exists()
    agni.restart()
    again = await at(cluster, "agni", "dc")
    assert (await again.call(uris.NODE_STATUS))["epoch"] != before

    async def known() -> bool:
        lives = await (await at(cluster, "agni", "alpha")).call(uris.MAILBOX_STATUS, ["m1", "m2"])
        return set(lives) == {"m1", "m2"}

    await until(known)
    await in_step(again)
    beta = await at(cluster, "agni", "beta")
    answer = await beta.call(uris.MAILBOX_FETCH, {"max": 10})
    assert [one["message"]["id"] for one in answer["deliveries"]] == ["m1", "m2"]


@on_reactor
async def test_what_a_node_kept_that_never_comes_back_goes_on_from_one_in_its_place(cluster: Cluster) -> None:
    await all_in_step(cluster)
    (receipt,) = await send(await at(cluster, "agni", "alpha"), "m1", to="capability:deploy")
    assert (receipt["node"], receipt["copies"]) == ("agni", 2)
    agni = cluster["agni"]
    agni.kill()
    beta, there = await able(cluster, "rushabdev", "beta")
    # Whether agni has given it to somebody, nobody here can know.
    await pause(1.0)
    assert there == []
    await beta.leave()
    # Nothing of its store is left.
    for file in agni.state_dir.glob("node.sqlite*"):
        file.unlink()
    agni.restart()
    beta, there = await able(cluster, "rushabdev", "beta")
    await settle_all(beta, there, "m1")
    await all_empty(cluster)
    assert there[0]["attempt"] == 1


@on_reactor
async def test_the_status_command_tells_of_the_peer(cluster: Cluster) -> None:
    await all_in_step(cluster)
    import subprocess
    import sys

    agni = cluster["agni"]
    shown = subprocess.run(
        [sys.executable, "-m", "trishula.cli.main", "node", "status", "--state", str(agni.state_dir)],
        env=environment(TRISHULA_TOKEN=cluster.tokens["dc"]),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "peer rushabdev: up, has our journal up to " in shown
