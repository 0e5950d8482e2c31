"""Who serves what: capabilities and the answers to COMMANDs, tried by agents that have a token and no good intentions.

Against real nodes, one and two, with plain WAMP clients.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.support.cluster import Cluster
from tests.support.node import NodeProcess, environment
from tests.support.plain import PlainClient, Refused, join
from tests.support.reactor import on_reactor
from trishula.client import Client
from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula.contract.deliveries import Delivery
from trishula.settings import Settings

pytestmark = pytest.mark.node

DEPLOY = "capability:deploy"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("serving") / "state") as node:
        for name in ("agni", "dc", "mallory"):
            node.token(name, serve=["deploy"] if name == "agni" else [])
        node.token("boss", operator=True)
        yield node


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("serving"), ["agni", "rushabdev"])
    for name in ("agni", "dc", "mallory"):
        cluster.token(name, serve=["deploy"] if name == "agni" else [])
    cluster.token("boss", operator=True)
    with cluster:
        cluster.wait_linked()
        yield cluster


class Member:
    """A plain client, and what came to its inbox."""

    def __init__(self, client: PlainClient, name: str) -> None:
        self.client = client
        self.name = name
        self.inbox: list[dict[str, Any]] = []
        self._topics: set[str] = set()
        self._waiting: list[Deferred[None]] = []

    async def attach(self, *capabilities: str, **options: Any) -> None:
        topic = uris.inbox_of(Address(self.name, options.get("instance")))
        if topic not in self._topics:
            self._topics.add(topic)
            await self.client.subscribe(topic, self._came)
        await self.client.call(uris.MAILBOX_ATTACH, {"capabilities": list(capabilities), **options})

    def _came(self, items: list[dict[str, Any]], *_: object, details: object) -> None:
        self.inbox += items
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)

    async def got(self, message_id: str, key: str = "id") -> dict[str, Any]:
        """Wait for a message."""
        from twisted.internet import reactor

        while True:
            for delivery in self.inbox:
                if delivery["message"].get(key) == message_id:
                    return delivery
            came: Deferred[None] = Deferred()
            self._waiting.append(came)
            await came.addTimeout(20.0, reactor)

    async def send(self, **message: Any) -> dict[str, Any]:
        (receipt,) = await self.client.call(uris.MAILBOX_SEND, [{"id": os.urandom(8).hex(), **message}])
        return dict(receipt)

    async def answer(self, command_id: str, kind: str = "RESULT", **fields: Any) -> str:
        """Answer dc's COMMAND; the status, or the error."""
        receipt = await self.send(type=kind, to="dc", reply_to=command_id, **fields)
        return str(receipt.get("error", receipt["status"])).removeprefix("trishula.error.")


@asynccontextmanager
async def member(node: NodeProcess, name: str, *, token: str | None = None, **more: Any) -> AsyncIterator[Member]:
    client = await join(node.url, name, token or node.tokens[name], **more)
    try:
        yield Member(client, name)
    finally:
        await client.leave()


async def noted(boss: Member, agent: str, *errors: str) -> None:
    """Wait until a refusal of an agent is on record; such a record may wait for the next one of another kind."""
    for _ in range(100):
        answer = await boss.client.call(uris.AUDIT_QUERY, {"agent": agent, "kind": "refused"})
        if any(record["error"].removeprefix("trishula.error.") in errors for record in answer["records"]):
            return
        await boss.send(type="STATUS", to="boss")
    raise AssertionError(f"no refusal of {agent} says {errors}")


# -- announcements -----------------------------------------------------------------------------------------------------


@on_reactor
@pytest.mark.parametrize("serializer", ["json", "msgpack", "cbor"])
async def test_an_agent_announces_only_what_it_is_granted(node: NodeProcess, serializer: str) -> None:
    ids = [os.urandom(8).hex() for _ in range(20)]
    async with (
        member(node, "agni") as agni,
        member(node, "dc") as dc,
        member(node, "mallory", serializer=serializer) as mallory,
        member(node, "boss") as boss,
    ):
        for options in ({}, {"heartbeat_s": 1.0}, {"window": 1024, "run": "a"}):
            with pytest.raises(Refused) as caught:
                await mallory.attach("deploy", **options)
            assert caught.value.error == "trishula.error.capability_forbidden"
            assert caught.value.args[0].endswith("on the node with: trishula token grant mallory --serve deploy")
        # Neither with one that it may, nor beside its own mailbox, as an instance, nor by other names of it.
        for capabilities in (["web", "deploy"], ["deploy", "deploy"]):
            with pytest.raises(Refused):
                await mallory.attach(*capabilities)
        await mallory.attach("deploy", instance="x")
        await mallory.attach()
        await agni.attach("deploy")
        for command_id in ids:
            assert (await dc.send(id=command_id, type="COMMAND", to=DEPLOY, procedure="f"))["status"] == "accepted"
        for command_id in ids:
            delivery = await agni.got(command_id)
            assert await agni.client.call(uris.MAILBOX_ACK, [delivery["token"]]) == [True]
        assert mallory.inbox == []
        with pytest.raises(Refused):
            await mallory.client.call(uris.MAILBOX_ATTACH, {"capabilities": ["deploy"]})
        await noted(boss, "mallory", "capability_forbidden")
        entry = await dc.client.call(uris.DIRECTORY_GET, "mallory")
        assert entry["capabilities"] == []


def test_agent_run_says_which_command_grants_it_and_ends(node: NodeProcess, tmp_path: Path) -> None:
    program = tmp_path / "bot.py"
    program.write_text('from trishula import Agent\n\nagent = Agent("mallory", capabilities=["deploy"])\n')
    command = [sys.executable, "-m", "trishula.cli.main", "agent", "run", str(program)]
    given = environment(TRISHULA_URL=node.url, TRISHULA_TOKEN=node.tokens["mallory"], HOME=str(tmp_path))
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=60.0, check=False)
    assert done.returncode != 0
    assert done.stderr.count("trishula token grant mallory --serve deploy") == 1, done.stderr
    assert "Traceback" not in done.stderr


@on_reactor
async def test_a_running_node_heeds_grants_that_come_and_go(tmp_path: Path) -> None:
    state = ("--state", str(tmp_path / "state"))
    with NodeProcess(tmp_path / "state") as node:
        for name in ("agni", "dc"):
            node.token(name)
        async with member(node, "agni") as agni, member(node, "dc") as dc:
            with pytest.raises(Refused):
                await agni.attach("deploy")
            node.command("token", "grant", "agni", "--serve", "deploy", *state)
            await agni.attach("deploy")
            await dc.send(id="one", type="STATUS", to=DEPLOY)
            await agni.got("one")
            node.command("token", "grant", "agni", "--no-serve", "deploy", *state)
            while (await dc.client.call(uris.DIRECTORY_GET, "agni"))["capabilities"]:
                pass
            receipt = await dc.send(id="two", type="STATUS", to=DEPLOY)
            assert "warning" in receipt
            await dc.send(id="three", type="STATUS", to="agni")
            await agni.got("three")
            assert [one["message"]["id"] for one in agni.inbox] == ["one", "three"]


@on_reactor
async def test_agents_of_an_earlier_file_go_on_and_the_log_says_what_to_write_down(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / "state")
    for name in ("agni", "dc"):
        node.token(name)
    file = tmp_path / "state" / "agents.json"
    known = json.loads(file.read_text())
    for record in known["agents"].values():
        del record["serve"]
    file.write_text(json.dumps(known))
    with node:
        node.token("boss", operator=True)
        async with member(node, "agni") as agni, member(node, "dc") as dc, member(node, "boss") as boss:
            await agni.attach("host", "deploy")
            await dc.send(id="one", type="STATUS", to=DEPLOY)
            await agni.got("one")
            status = await boss.client.call(uris.NODE_STATUS)
            assert status["serve_unwritten"] == ["agni", "dc"]
            assert "write it down with: trishula token grant agni --serve host --serve deploy" in node.log()
            # Written down for one, it is nobody else's any more.
            node.command("token", "grant", "agni", "--serve", "deploy", "--state", str(tmp_path / "state"))
            with pytest.raises(Refused):
                await dc.attach("deploy")


# -- answers -----------------------------------------------------------------------------------------------------------


@on_reactor
@pytest.mark.parametrize("serializer", ["json", "msgpack", "cbor"])
@pytest.mark.parametrize("to", ["agni", DEPLOY])
async def test_a_command_has_one_answer_from_who_was_given_it(node: NodeProcess, serializer: str, to: str) -> None:
    command_id = os.urandom(8).hex()
    async with (
        member(node, "agni", serializer=serializer) as agni,
        member(node, "dc", serializer=serializer) as dc,
        member(node, "mallory", serializer=serializer) as mallory,
        member(node, "boss") as boss,
    ):
        await agni.attach("deploy")
        await dc.attach()
        assert (await dc.send(id=command_id, type="COMMAND", to=to, procedure="f"))["status"] == "accepted"
        delivery = await agni.got(command_id)
        for kind in ("RESULT", "ERROR"):
            assert await mallory.answer(command_id, kind, payload="forged") == "answer_refused"
            assert await mallory.answer(command_id, kind, **{"from": "mallory/x"}) == "answer_refused"
        assert await agni.answer(command_id, id=f"{command_id}.r", payload="honest") == "accepted"
        assert await agni.answer(command_id, "ERROR", payload="second") == "answer_refused"
        assert await agni.answer(command_id, id=f"{command_id}.r", payload="honest") == "duplicate"
        assert await agni.client.call(uris.MAILBOX_ACK, [delivery["token"]]) == [True]
        assert await agni.answer(command_id, payload="third") == "answer_refused"
        assert await mallory.answer(command_id) == "answer_refused"
        assert (await dc.got(command_id, "reply_to"))["message"]["payload"] == "honest"
        await boss.send(id=f"{command_id}.end", type="STATUS", to="dc")
        await dc.got(f"{command_id}.end")
        answers = [one["message"]["id"] for one in dc.inbox if one["message"].get("reply_to") == command_id]
        assert answers == [f"{command_id}.r"]
        await noted(boss, "mallory", "answer_refused")


@on_reactor
async def test_a_call_to_a_capability_takes_no_forged_answer(node: NodeProcess) -> None:
    """Also none that was there before the call, when no node could know what it claims to answer."""
    command_id = os.urandom(8).hex()
    others: list[Delivery] = []
    async with member(node, "agni") as agni, member(node, "mallory") as mallory:
        await agni.attach("deploy")
        assert await mallory.answer(command_id, payload="forged") == "accepted"
        caller = Client(Settings((node.url,), "dc", node.tokens["dc"]))
        caller.attach(others.extend)
        call = caller.call_with(DEPLOY, "f", id=command_id, timeout=20.0)
        try:
            await caller.start()
            await agni.got(command_id)
            assert await mallory.answer(command_id, payload="forged") == "answer_refused"
            assert await agni.answer(command_id, payload="honest") == "accepted"
            assert await call == "honest"
        finally:
            await caller.stop()


@on_reactor
@pytest.mark.parametrize("to", ["agni", DEPLOY])
@pytest.mark.parametrize("at", ["agni", "rushabdev"])
async def test_on_two_nodes(cluster: Cluster, to: str, at: str) -> None:
    """The COMMAND is accepted at one node and given out at the other; whoever forges is at either."""
    command_id = os.urandom(8).hex()
    here, there = cluster["agni"], cluster["rushabdev"]
    async with (
        member(here, "dc", token=cluster.tokens["dc"]) as dc,
        member(there, "agni", token=cluster.tokens["agni"]) as agni,
        member(cluster[at], "mallory", token=cluster.tokens["mallory"]) as mallory,
    ):
        await dc.attach()
        await agni.attach("deploy")
        receipt = await dc.send(id=command_id, type="COMMAND", to=to, procedure="f")
        assert (receipt["status"], receipt["node"]) == ("accepted", "agni")
        await agni.got(command_id)
        assert await mallory.answer(command_id, payload="forged") == "answer_refused"
        # Who was given it may have moved, and its answer may be early where it is now.
        async with member(here, "agni", token=cluster.tokens["agni"]) as moved:
            while (outcome := await moved.answer(command_id, id=f"{command_id}.r", payload=1)) == "answer_early":
                pass
            assert outcome == "accepted"
        assert (await dc.got(command_id, "reply_to"))["message"]["payload"] == 1
        assert await mallory.answer(command_id, payload="forged") == "answer_refused"
        answers = [one["message"]["from"] for one in dc.inbox if one["message"].get("reply_to") == command_id]
        assert answers == ["agni"]
