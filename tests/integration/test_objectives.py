"""The objectives of a real node: its figures are those that its own journal tells, and they outlive the node."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.integration.test_agents import client_of, failure_of, running, sleep, until
from tests.support.node import ROOT, NodeProcess, environment
from tests.support.reactor import on_reactor
from trishula.agent import Agent
from trishula.client import Client
from trishula.contract import uris
from trishula.contract.message import Message
from trishula.errors import TrishulaError
from trishula.watching.totals import Totals
from trishula_router.settings.check import read_config_file
from trishula_router.settings.crossbar_config import options_of, render_config
from trishula_router.store.sqlite.objectives_file import OBJECTIVES_FILE

pytestmark = pytest.mark.node

MESSAGES = 200
ABSENCE_S = 8.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    directory = tmp_path_factory.mktemp("objectives")
    config = read_config_file(ROOT / "config" / "single.json")
    # So that an absence that a test can wait for is more than 5 % of what the trigger looks back to.
    options_of(config)["objectives"] = {"step": "1s", "uptime_window": "2m"}
    file = directory / "node.json"
    file.write_text(render_config(config))
    with NodeProcess(directory / "state", config=file) as node:
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


def asked(node: NodeProcess, *arguments: str) -> dict[str, Any]:
    """What ``trishula`` prints with ``--json``."""
    known = {"TRISHULA_URL": node.url, "TRISHULA_TOKEN": node.tokens["boss"]}
    ran = subprocess.run(
        [sys.executable, "-m", "trishula.cli.main", *arguments],
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
    stopped_s = time.monotonic()
    try:
        file = node.state_dir / OBJECTIVES_FILE
        assert file.stat().st_mode & 0o077 == 0
        await sleep(ABSENCE_S)
        absent_s = time.monotonic() - stopped_s
        node.start()
        async with client_of(node, "boss") as boss:
            told = await boss.request(uris.NODE_OBJECTIVES)
            after = Totals.of_map(told["windows"]["24h"])
            assert after.accepted == before.accepted and after.done_ms.count == before.done_ms.count
            # A second of it was planned.
            assert after.watched_s - after.up_s > absent_s - 1.5 and 0 < after.planned_s <= 1
            assert [one["reason"] for one in told["maintenance"]] == ["a new disk"]
            mode = await mode_of(boss, "fallback")
            assert mode["sends"] and mode["by"] == "node:single" and "the node was down" in mode["reason"]
            # Nobody is kept from sending.
            assert (await boss.send("agni", payload=0)).status == "accepted"
        shown = asked(node, "slo", "--json")
        assert shown["windows"]["24h"]["done"] == before.done
        assert [one["trigger"] for one in shown["triggers"]] == ["uptime"] and shown["state"] != "ok"
        report = asked(node, "report", "--since", "1h", "--json")
        # One definition, whoever asks; what passed between the two questions was no outage.
        hour = Totals.of_map(shown["windows"]["1h"])
        [told_node] = report["nodes"]
        assert told_node["told_by"] == "node"
        assert report["bus"]["down_s"] == pytest.approx(hour.watched_s - hour.up_s, abs=0.01)
        assert report["bus"]["planned_s"] == pytest.approx(hour.planned_s, abs=0.01)
        assert report["bus"]["availability"] == pytest.approx(
            shown["verdicts"]["availability"]["1h"]["value"], abs=0.05
        )
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
