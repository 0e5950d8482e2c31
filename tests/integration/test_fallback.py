"""Two linked real nodes are put into fallback and back by the commands of the runbook; nothing is lost by it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.support.alerts import DEPLOY
from tests.support.cluster import Cluster
from tests.support.node import environment
from tests.support.plain import PlainClient, Refused, join
from tests.support.reactor import on_reactor
from trishula.contract import uris

pytestmark = pytest.mark.node

TIMEOUT_S = 40.0
NODES = ("agni", "rushabdev")
TITLE = "Take the bus out of use, and back"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, NODES)
    for agent in ("alpha", "beta"):
        cluster.token(agent)
    cluster.token("ops", operator=True)
    cluster.token("wall", observer=True)
    with cluster:
        yield cluster


def runbook() -> list[str]:
    """The commands of the section, in their order."""
    section = (DEPLOY / "runbooks.rst").read_text(encoding="utf-8").partition(f"\n{TITLE}\n-")[2]
    return re.findall(r"^ +(trishula .*)$", section.partition("\n\n\n")[0], re.M)


def type_in(cluster: Cluster, command: str, who: str = "ops") -> str:
    """Run a command of the runbook as its reader does; what it printed, with what it remarked."""
    words = shlex.split(command)
    assert words[0] == "trishula"
    done = subprocess.run(
        [sys.executable, "-m", "trishula.cli.main", *words[1:]],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(
            TRISHULA_URL=",".join(cluster[node].url for node in NODES), TRISHULA_TOKEN=cluster.tokens[who], COLUMNS="80"
        ),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


async def at(cluster: Cluster, node: str, agent: str) -> PlainClient:
    return await join(cluster[node].url, agent, cluster.tokens[agent], serializer="msgpack")


async def until(holds: Callable[[], Any]) -> Any:
    """Wait until something asked again and again is true; what it was then."""
    from twisted.internet import reactor

    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        if answer := await holds():
            return answer
        await deferLater(cast(Any, reactor), 0.05)
    raise AssertionError(f"it never came true: {holds}")


async def send(client: PlainClient, message_id: str) -> str:
    """What became of a message to beta: its status, or the error."""
    (receipt,) = await client.call(uris.MAILBOX_SEND, [{"id": message_id, "type": "STATUS", "to": "beta"}])
    return str(receipt.get("error", receipt["status"])).rpartition(".")[2]


async def mode_at(cluster: Cluster, node: str, who: str = "wall") -> dict[str, Any]:
    client = await at(cluster, node, who)
    told: dict[str, Any] = await client.call(uris.NODE_FALLBACK)
    await client.leave()
    return told


async def in_mode(cluster: Cluster, word: str) -> None:
    async def all_say_so() -> bool:
        return [(await mode_at(cluster, node))["mode"] for node in NODES] == [word] * len(NODES)

    await until(all_say_so)


async def linked(cluster: Cluster) -> None:
    async def is_up() -> bool:
        found = []
        for node in NODES:
            client = await at(cluster, node, "ops")
            (peer,) = (await client.call(uris.NODE_STATUS))["peers"]
            found.append(peer["state"] == "up" and not peer["to_copy_records"] and not peer["lag_records"])
            await client.leave()
        return all(found)

    await until(is_up)


def scraped(cluster: Cluster, node: str) -> str:
    address = cluster[node].url.replace("ws://", "http://").removesuffix("/ws") + "/metrics"
    asked = urllib.request.Request(address, headers={"Authorization": f"Bearer {cluster.tokens['wall']}"})
    with urllib.request.urlopen(asked, timeout=20) as answer:
        found = re.search(r"^trishula_fallback ([0-9.]+)$", answer.read().decode(), re.M)
    assert found is not None
    return found[1]


@on_reactor
async def test_the_runbook_stops_all_sends_and_brings_all_back(cluster: Cluster) -> None:
    on, status, mailboxes, off = runbook()
    await linked(cluster)
    heard: dict[str, list[dict[str, Any]]] = {node: [] for node in NODES}
    clients = {}
    for node in NODES:
        clients[node] = await at(cluster, node, "alpha")
        await clients[node].subscribe(uris.EVENT_FALLBACK, lambda event, node=node, **_: heard[node].append(event))
        assert await send(clients[node], f"before-{node}") == "accepted"

    told = await deferToThread(type_in, cluster, on)
    assert all(len(line) <= 100 for line in told.splitlines())
    told = await deferToThread(type_in, cluster, status, "wall")
    rows = [line.split()[:3] for line in told.splitlines()[1:3]]
    assert rows == [[node, "fallback", "no"] for node in NODES]
    for node in NODES:
        assert await send(clients[node], f"during-{node}") == "fallback_on"

        async def is_heard(node: str = node) -> list[dict[str, Any]]:
            return [one for one in heard[node] if one["mode"] == "fallback"]

        (event, *_) = await until(is_heard)
        assert (event["sends"], event["by"], event["reason"]) == (False, "ops", "rollback of both nodes")
        assert await deferToThread(scraped, cluster, node) == "2.0"

    # What was accepted goes out all the same, each once.
    beta = await at(cluster, "rushabdev", "beta")
    got: list[str] = []

    async def all_came() -> bool:
        answer = await beta.call(uris.MAILBOX_FETCH, {"wait_s": 1})
        got.extend(one["message"]["id"] for one in answer["deliveries"])
        assert all(await beta.call(uris.MAILBOX_ACK, [one["token"] for one in answer["deliveries"]]))
        return len(got) >= 2

    await until(all_came)
    assert sorted(got) == ["before-agni", "before-rushabdev"]
    assert "nothing waits" in await deferToThread(type_in, cluster, mailboxes)

    # A power cut at either, one after the other.
    for node in NODES:
        await deferToThread(cluster[node].kill)
        await deferToThread(cluster[node].restart)
        assert (await mode_at(cluster, node))["mode"] == "fallback"
        clients[node] = await at(cluster, node, "alpha")
        assert await send(clients[node], f"during-{node}") == "fallback_on"
    await linked(cluster)

    await deferToThread(type_in, cluster, off)
    await in_mode(cluster, "live")
    for node in NODES:
        assert await send(clients[node], f"during-{node}") == "accepted"
        assert await deferToThread(scraped, cluster, node) == "0.0"
    got.clear()
    beta = await at(cluster, "rushabdev", "beta")
    await until(all_came)
    assert sorted(got) == ["during-agni", "during-rushabdev"]
    query = "trishula audit query --kind mode --node '*' --json"
    records = json.loads(await deferToThread(type_in, cluster, query))["records"]
    assert [(one["mode"], one["by"]) for one in records] == [("fallback", "ops"), ("live", "ops")]
    await _set_while_a_node_is_down(cluster)


async def _set_while_a_node_is_down(cluster: Cluster) -> None:
    await linked(cluster)
    await _operators_alone(cluster)
    ops = await at(cluster, "agni", "ops")
    await deferToThread(cluster["rushabdev"].kill)
    await ops.call(uris.ADMIN_FALLBACK, "on", {"reason": "one is down"})
    await deferToThread(cluster["rushabdev"].restart)
    await in_mode(cluster, "fallback")
    await ops.call(uris.ADMIN_FALLBACK, "off", {"reason": "over"})
    await in_mode(cluster, "live")


async def _operators_alone(cluster: Cluster) -> None:
    for who in ("alpha", "wall"):
        client = await at(cluster, "agni", who)
        with pytest.raises(Refused) as caught:
            await client.call(uris.ADMIN_FALLBACK, "on", {"reason": "mine"})
        assert caught.value.error == "wamp.error.not_authorized"
        await client.leave()
    alpha = await at(cluster, "agni", "alpha")
    with pytest.raises(Refused):
        await alpha.call(uris.NODE_FALLBACK)
    assert (await mode_at(cluster, "agni"))["mode"] == "live"
