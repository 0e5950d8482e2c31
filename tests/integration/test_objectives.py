"""The objectives of a real node: its figures are those that its own journal tells, and they outlive the node."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.integration.test_agents import client_of, failure_of, running, sleep, until
from tests.support.node import NodeProcess, environment
from tests.support.reactor import on_reactor
from trishula.agent import Agent
from trishula.client import Client
from trishula.contract import uris
from trishula.contract.message import Message
from trishula.errors import TrishulaError
from trishula.watching.totals import Totals
from trishula_router.store.sqlite.objectives_file import OBJECTIVES_FILE

pytestmark = pytest.mark.node

MESSAGES = 200


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("objectives") / "state") as node:
        for name in ("agni", "dc"):
            node.token(name)
        node.token("boss", operator=True)
        yield node


async def journal_of(boss: Client) -> list[dict[str, Any]]:
    """All records of the node's journal."""
    records: list[dict[str, Any]] = []
    after, more = 0, True
    while more:
        page = await boss.request(uris.AUDIT_QUERY, {"after": after, "limit": 1000})
        records += page["records"]
        after, more = page["after"], page["more"]
    return records


def slo_of(node: NodeProcess) -> dict[str, Any]:
    """What ``trishula slo`` prints."""
    known = {"TRISHULA_URL": node.url, "TRISHULA_TOKEN": node.tokens["boss"]}
    ran = subprocess.run(
        [sys.executable, "-m", "trishula.cli.main", "slo", "--json"],
        capture_output=True,
        text=True,
        env=environment(**known),
        timeout=60.0,
    )
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


def exact(values: list[int], part: float) -> int:
    return sorted(values)[int(part * (len(values) - 1))]


@on_reactor
async def test_the_figures_are_those_of_the_journal(node: NodeProcess) -> None:
    agni = Agent("agni", state=False)
    handled: list[int] = []

    @agni.on("STATUS")
    def slowly(message: Message) -> Deferred[None]:
        # So that the sketch has something to tell apart.
        return sleep(message.payload % 40 / 1000).addCallback(lambda _: handled.append(message.payload))

    async with running(node, agni), client_of(node) as dc, client_of(node, "boss") as boss:
        for number in range(MESSAGES):
            await dc.send("agni", payload=number)
        assert isinstance(await failure_of(dc.send("nobody", payload=0)), TrishulaError)
        await until(lambda: len(handled) == MESSAGES, timeout_s=30.0)

        told: dict[str, Any] = {}
        totals = Totals()
        for _ in range(200):
            told = await boss.request(uris.NODE_OBJECTIVES, {"since": 0})
            totals = Totals.of_map(told["windows"]["1h"])
            if totals.done >= MESSAGES:
                break
            await sleep(0.1)
        records = await journal_of(boss)

    accepted = {one["seq"]: one["at"] for one in records if one["kind"] == "accepted"}
    done_ms = [one["at"] - accepted[at] for one in records if one["kind"] == "done" for at in one["messages"]]
    delivered = [one for one in records if one["kind"] == "delivered"]
    delivery_ms = [one["at"] - accepted[at] for one in delivered for at, attempt in one["messages"] if attempt == 1]
    assert (totals.accepted, totals.done, totals.refused) == (len(accepted), len(done_ms), 1)
    assert (totals.done_ms.count, totals.delivery_ms.count) == (MESSAGES, MESSAGES)
    for sketch, values in ((totals.done_ms, done_ms), (totals.delivery_ms, delivery_ms)):
        for part in (0.5, 0.9, 0.99, 1.0):
            assert sketch.quantile(part) == pytest.approx(exact(values, part), rel=0.011)
    assert totals.joins == sum(one["kind"] == "joined" for one in records)
    assert totals.connect_ms.count >= 3
    # The minutes add up to the window.
    assert Totals.sum(map(Totals.of_map, told["series"])).done == MESSAGES
    assert told["verdicts"]["loss"]["24h"]["value"] == 0


async def mode_of(boss: Client, wanted: str) -> dict[str, Any]:
    """The bus's mode, once it is the wanted one."""
    told: dict[str, Any] = {}
    for _ in range(300):
        told = await boss.request(uris.NODE_FALLBACK)
        if told["mode"] == wanted:
            return told
        await sleep(0.1)
    raise AssertionError(f"the bus did not become {wanted}: {told}")


@on_reactor
async def test_they_outlive_the_node_whose_long_absence_puts_the_bus_into_fallback(node: NodeProcess) -> None:
    async with client_of(node, "boss") as boss:
        before = Totals.of_map((await boss.request(uris.NODE_OBJECTIVES))["windows"]["24h"])
        await boss.request(uris.ADMIN_MAINTENANCE, "start", {"for_s": 1, "reason": "a new disk"})
    node.stop()
    try:
        file = node.state_dir / OBJECTIVES_FILE
        assert file.stat().st_mode & 0o077 == 0
        _look_was(file, hours_ago=2)
        node.start()
        async with client_of(node, "boss") as boss:
            told = await boss.request(uris.NODE_OBJECTIVES)
            after = Totals.of_map(told["windows"]["24h"])
            assert after.accepted == before.accepted and after.done_ms.count == before.done_ms.count
            assert after.watched_s - after.up_s > 7000 and after.planned_s > 0
            assert [one["reason"] for one in told["maintenance"]] == ["a new disk"]
            mode = await mode_of(boss, "fallback")
            assert mode["sends"] and mode["by"] == "node:single" and "the node was down" in mode["reason"]
            # Nobody is kept from sending.
            assert (await boss.send("agni", payload=0)).status == "accepted"
        shown = slo_of(node)
        assert shown["windows"]["24h"]["done"] == before.done
        assert [one["trigger"] for one in shown["triggers"]] == ["uptime"] and shown["state"] != "ok"
        node.stop()
        # A node that knows nothing of its absence has no reason any more.
        file.write_bytes(b"no figures")
        node.start()
        async with client_of(node, "boss") as boss:
            assert (await mode_of(boss, "live"))["by"] == "node:single"
        assert "begins to count anew" in node.log()
    finally:
        # What a test starts it ends, also the node of all tests: this one is the last.
        node.stop()


def _look_was(file: Path, hours_ago: float) -> None:
    """Have the node's last run look last some hours ago."""
    connection = sqlite3.connect(file)
    with connection:
        connection.execute("UPDATE note SET value = value - ? WHERE name = 'tick'", (round(hours_ago * 3_600_000),))
    connection.close()
