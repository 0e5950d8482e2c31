"""A payload that is redacted at one of two linked nodes is gone at both, also at one that was away."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.threads import deferToThread

from tests.integration.test_cluster import at, in_step, until
from tests.support.cluster import Cluster
from tests.support.node import environment
from tests.support.plain import PlainClient
from tests.support.reactor import on_reactor
from trishula.contract import uris
from trishula.exit_codes import Exit

pytestmark = pytest.mark.node

SECRET = "4711-0815-4711-0815"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, ["agni", "rushabdev"])
    cluster.token("dc")
    cluster.token("worker")
    cluster.token("office", operator=True)
    with cluster:
        yield cluster


async def run(cluster: Cluster, node: str, who: str, *arguments: str) -> tuple[int, str]:
    settings = {"TRISHULA_URL": cluster[node].url, "TRISHULA_TOKEN": cluster.tokens[who]}
    command = [sys.executable, "-m", "trishula.cli.main", *arguments]
    work = partial(
        subprocess.run, command, capture_output=True, text=True, env=environment(**settings), timeout=60.0, check=False
    )
    done: subprocess.CompletedProcess[str] = await deferToThread(work)
    assert "Traceback" not in done.stderr
    return done.returncode, " ".join((done.stdout + done.stderr).split())


async def send(client: PlainClient, message_id: str) -> None:
    message = {"type": "STATUS", "id": message_id, "from": "dc", "to": "worker", "timestamp": 1, "payload": SECRET}
    (receipt,) = await client.call(uris.MAILBOX_SEND, [message])
    assert receipt["status"] == "accepted", receipt


async def kinds(operator: PlainClient, message_id: str) -> list[str]:
    (life,) = (await operator.call(uris.AUDIT_WHY, message_id))["messages"]
    return [event["kind"] for event in life["events"]]


def files_hold(cluster: Cluster, node: str) -> bool:
    return any(
        SECRET.encode() in file.read_bytes() for file in cluster[node].state_dir.rglob("node.sqlite*") if file.is_file()
    )


@on_reactor
async def test_a_payload_goes_at_both_nodes_also_at_one_that_was_away(cluster: Cluster) -> None:
    dc, worker = await at(cluster, "agni", "dc"), await at(cluster, "agni", "worker")
    office = await at(cluster, "agni", "office")
    await send(dc, "m1")
    code, said = await run(cluster, "agni", "office", "audit", "redact", "m1", "--reason", "a card's number")
    assert code != 0
    assert "message m1 is not settled: worker is still to get its payload" in said
    told = await worker.call(uris.MAILBOX_FETCH, {"max": 1})
    await worker.call(uris.MAILBOX_ACK, [told["deliveries"][0]["token"]])
    await in_step(office)

    await deferToThread(cluster["rushabdev"].kill)
    assert files_hold(cluster, "rushabdev")
    code, said = await run(cluster, "agni", "dc", "audit", "redact", "m1", "--reason", "it is mine")
    assert code == Exit.FORBIDDEN
    code, said = await run(cluster, "agni", "office", "audit", "redact", "m1", "--reason", "a card's number")
    assert (code, said.startswith("the payload of m1 is deleted")) == (0, True), said
    code, said = await run(cluster, "agni", "office", "audit", "redact", "m1", "--reason", "once more")
    assert (code, "is redacted already" in said, "because: a card's number" in said) == (0, True, True), said
    code, said = await run(cluster, "agni", "office", "why", "m1")
    assert "payload redacted at" in said
    assert "by office because: a card's number" in said
    assert (await office.call(uris.AUDIT_VERIFY))["ok"] is True

    await deferToThread(cluster["rushabdev"].restart)
    there = await at(cluster, "rushabdev", "office")

    async def has_come() -> Any:
        return "redacted" in await kinds(there, "m1")

    await until(has_come)
    assert (await there.call(uris.AUDIT_VERIFY))["ok"] is True
    await there.leave()
    for client in (dc, worker, office):
        await client.leave()
    for node in ("agni", "rushabdev"):
        await deferToThread(cluster[node].stop)
        assert not files_hold(cluster, node), node
