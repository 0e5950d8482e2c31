"""Limits, dead letters and capabilities as clients of a real node meet them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_agents import client_of, failure_of, running, until
from tests.support.node import NodeProcess
from tests.support.reactor import on_reactor
from trishula.agent import Agent
from trishula.contract import uris
from trishula.contract.deliveries import Delivery
from trishula.contract.message import Message
from trishula.errors import CallFailed, NotAllowed

pytestmark = pytest.mark.node

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    directory = tmp_path_factory.mktemp("limits")
    config = json.loads(SHIPPED.read_text())
    extra = config["workers"][0]["components"][0]["extra"]
    extra["limits"] = {"rate": "300/s", "burst": 40}
    extra["delivery"] = {"max_attempts": 2, "backoff_first": "10ms"}
    file = directory / "node.json"
    file.write_text(json.dumps(config))
    with NodeProcess(directory / "state", config=file) as node:
        for name in ("agni", "dc", "rushabdev"):
            node.token(name, serve=["deploy"])
        node.token("boss", operator=True)
        yield node


@on_reactor
async def test_an_outbox_keeps_to_the_rate_and_to_its_order(node: NodeProcess) -> None:
    got: list[Delivery] = []
    async with client_of(node, "agni", instance=None, got=got) as agni, client_of(node) as dc:
        receipts = [dc.send("agni", payload=number) for number in range(300)]
        for receipt in receipts:
            assert (await receipt).status == "accepted"

        def take() -> bool:
            # Deliveries that are not acked stop at the window.
            fresh = [delivery.token for delivery in got[len(taken) :]]
            taken.extend(fresh)
            for token in fresh:
                agni.ack_soon(token)
            return len(got) >= 300

        taken: list[str] = []
        await until(take, timeout_s=20.0)
        assert [delivery.message.payload for delivery in got] == list(range(300))


@on_reactor
async def test_a_dead_letter_is_told_listed_and_replayed(node: NodeProcess) -> None:
    agni, works = Agent("agni"), asyncio.Event()
    runs: list[str] = []

    @agni.on("STATUS")
    async def heard(message: Message) -> None:
        runs.append(message.id)
        if not works.is_set():
            raise RuntimeError("not today")

    got: list[Delivery] = []
    async with running(node, agni), client_of(node, got=got) as dc, client_of(node, "boss") as boss:
        await dc.send("agni", id="fails", payload=1)
        await until(lambda: got)
        told = got[0].message
        assert (told.type, told.sender, told.reply_to) == ("ERROR", "agni", "fails")
        assert told.payload["error"] == "trishula.error.dead_letter"
        assert told.payload["reason"] == "2 of 2 attempts failed, the last one: heard raised RuntimeError: not today"
        listed = await boss.request(uris.ADMIN_DEAD_LIST, {"agent": "agni"})
        (letter,) = listed["letters"]
        assert (letter["id"], letter["failures"], letter["attempts"]) == ("fails", 1, 2)
        works.set()
        assert await boss.request(uris.ADMIN_DEAD_REPLAY, [letter["seq"]]) == [True]
        await until(lambda: len(runs) == 3)
        assert await boss.request(uris.ADMIN_DEAD_LIST) == {"letters": [], "more": False}


@on_reactor
async def test_only_operators_look_after_dead_letters(node: NodeProcess) -> None:
    async with client_of(node) as dc:
        for uri, args in ((uris.ADMIN_DEAD_LIST, []), (uris.ADMIN_DEAD_SHOW, [1]), (uris.ADMIN_DEAD_PURGE, [{}])):
            assert isinstance(await failure_of(dc.request(uri, *args)), NotAllowed)


def deployer(name: str, ran: list[str]) -> Agent:
    agent = Agent(name, capabilities=["deploy"])

    @agent.procedure()
    async def deploy(what: str) -> dict[str, Any]:
        ran.append(name)
        return {"by": name, "what": what}

    return agent


@on_reactor
async def test_a_capability_is_called_and_waits_for_one_who_has_it(node: NodeProcess) -> None:
    ran: list[str] = []
    async with client_of(node) as dc:
        waiting = dc.call("capability:deploy", "deploy", "v1", timeout=20.0)
        async with running(node, deployer("agni", ran)):
            assert await waiting == {"by": "agni", "what": "v1"}
            async with running(node, deployer("rushabdev", ran)):
                outcomes = [await dc.call("capability:deploy", "deploy", f"v{number}") for number in range(2, 6)]
        assert len(ran) == 5
        assert [outcome["what"] for outcome in outcomes] == ["v2", "v3", "v4", "v5"]


@on_reactor
async def test_a_command_that_expires_fails_its_call(node: NodeProcess) -> None:
    async with client_of(node) as dc:
        error = await failure_of(dc.call_with("capability:nobody_can", "x", [], timeout=30.0, ttl_ms=500))
        assert isinstance(error, CallFailed)
        assert "its time to live was over" in str(error)
