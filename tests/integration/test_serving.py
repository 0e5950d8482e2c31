"""Who serves what: capabilities and the answers to COMMANDs, tried by agents that have a token and no good intentions.

Against real nodes, one and two, with plain WAMP clients.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.support.cluster import Cluster
from tests.support.node import NodeProcess
from tests.support.plain import PlainClient, join
from tests.support.reactor import on_reactor
from trishula import uris
from trishula.client import Client
from trishula.deliveries import Delivery
from trishula.names import Address
from trishula.settings import Settings

pytestmark = pytest.mark.node

DEPLOY = "capability:deploy"
REFUSED = ("answer_refused", "answer_early")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("serving") / "state") as node:
        for name in ("agni", "dc", "mallory"):
            node.token(name)
        node.token("boss", operator=True)
        yield node


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("serving"), ["agni", "rushabdev"])
    for name in ("agni", "dc", "mallory"):
        cluster.token(name)
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
        self._waiting: list[Deferred[None]] = []

    async def attach(self, *capabilities: str, instance: str | None = None) -> None:
        topic = uris.inbox_of(Address(self.name, instance))
        await self.client.subscribe(topic, self._came)
        options = {"capabilities": list(capabilities), **({} if instance is None else {"instance": instance})}
        await self.client.call(uris.MAILBOX_ATTACH, options)

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
            assert await mallory.answer(command_id, kind, payload="forged") in REFUSED
            assert await mallory.answer(command_id, kind, **{"from": "mallory/x"}) in REFUSED
        assert await agni.answer(command_id, id=f"{command_id}.r", payload="honest") == "accepted"
        assert await agni.answer(command_id, "ERROR", payload="second") == "answer_refused"
        assert await agni.answer(command_id, id=f"{command_id}.r", payload="honest") == "duplicate"
        assert await agni.client.call(uris.MAILBOX_ACK, [delivery["token"]]) == [True]
        assert await agni.answer(command_id, payload="third") == "answer_refused"
        assert await mallory.answer(command_id) in REFUSED
        assert (await dc.got(command_id, "reply_to"))["message"]["payload"] == "honest"
        await boss.send(id=f"{command_id}.end", type="STATUS", to="dc")
        await dc.got(f"{command_id}.end")
        answers = [one["message"]["id"] for one in dc.inbox if one["message"].get("reply_to") == command_id]
        assert answers == [f"{command_id}.r"]
        await noted(boss, "mallory", *REFUSED)


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
        call = caller.call_with(DEPLOY, "f", id=command_id, timeout_s=20.0)
        try:
            await caller.start()
            await agni.got(command_id)
            assert await mallory.answer(command_id, payload="forged") in REFUSED
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
        assert await mallory.answer(command_id, payload="forged") in REFUSED
        # Who was given it may have moved, and its answer may be early where it is now.
        async with member(here, "agni", token=cluster.tokens["agni"]) as moved:
            while (outcome := await moved.answer(command_id, id=f"{command_id}.r", payload=1)) == "answer_early":
                pass
            assert outcome == "accepted"
        assert (await dc.got(command_id, "reply_to"))["message"]["payload"] == 1
        assert await mallory.answer(command_id, payload="forged") in REFUSED
        answers = [one["message"]["from"] for one in dc.inbox if one["message"].get("reply_to") == command_id]
        assert answers == ["agni"]
