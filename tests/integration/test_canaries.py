"""Canaries on a real node: agents answer them, a client that does not know them never gets one, and nothing counts them
as messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_agents import client_of, running, sleep
from tests.support.node import ROOT, NodeProcess
from tests.support.reactor import on_reactor
from tests.support.scraped import Scraped
from tests.support.web import ask
from trishula.agent import Agent
from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula.contract.message import Message
from trishula.watching.totals import Totals
from trishula_router.settings.check import read_config_file
from trishula_router.settings.crossbar_config import options_of, render_config

pytestmark = pytest.mark.node


@on_reactor
async def test_agents_answer_canaries_that_nobody_else_sees(tmp_path: Path) -> None:
    config = read_config_file(ROOT / "config" / "single.json")
    # Six pairs: one each ten seconds.
    options_of(config)["objectives"] = {"canaries": 60, "step": "1s"}
    file = tmp_path / "node.json"
    file.write_text(render_config(config))
    with NodeProcess(tmp_path / "state", config=file) as node:
        for name in ("agni", "dc", "surya", "old"):
            node.token(name)
        node.token("boss", operator=True)
        agents = [Agent(name, state=False) for name in ("agni", "dc", "surya")]
        seen: list[Message] = []
        for agent in agents:
            agent.on("STATUS")(seen.append)
        async with client_of(node, "boss") as boss, client_of(node, "old", instance=None) as old:
            heard: list[Any] = []
            # As a client of the release before attaches.
            await old.subscribe(uris.inbox_of(Address("old")), lambda *args, **_: heard.append(args))
            await old.request(uris.MAILBOX_ATTACH, {"window": 8})
            async with running(node, agents[0]), running(node, agents[1]), running(node, agents[2]):
                told: dict[str, Any] = {}
                totals = Totals()
                for _ in range(300):
                    told = await boss.request(uris.NODE_OBJECTIVES, {"windows": ["1h"]})
                    totals = Totals.of_map(told["windows"]["1h"])
                    if totals.canaries >= 2:
                        break
                    await sleep(0.2)
                assert totals.canaries == totals.canary_ms.count >= 2 and totals.canaries_lost == 0
                assert all({one["from"], one["to"]} < {"agni", "dc", "surya"} for one in told["canaries"])
                records = (await boss.request(uris.AUDIT_QUERY, {"limit": 1000}))["records"]
                mailboxes = await boss.request(uris.NODE_MAILBOXES)
            scraped = Scraped(ask(node, "/metrics").body)
    assert seen == heard == []
    assert {one["kind"] for one in records} <= {"node_started", "token", "grants", "joined", "left"}
    assert totals.accepted == totals.done == 0
    assert all(one["pending"] == one["in_flight"] == 0 for one in mailboxes)
    assert scraped["trishula_canaries_total", "answered", "live"] >= 2
