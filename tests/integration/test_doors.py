"""The doors of a node, tried by attackers: agents with a token of their own, and strangers; against a real node."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.support.node import NodeProcess
from tests.support.plain import PlainClient, Refused, join
from tests.support.reactor import on_reactor
from trishula import uris

pytestmark = pytest.mark.node

FORGED = [{"session": 1, "authid": "agni", "authrole": "operator"}]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("doors") / "state") as node:
        for name in ("agni", "dc", "eve", "mallory"):
            node.token(name)
        node.token("boss", operator=True)
        yield node


@asynccontextmanager
async def session(node: NodeProcess, name: str, **more: Any) -> AsyncIterator[PlainClient]:
    client = await join(node.url, name, node.tokens[name], **more)
    try:
        yield client
    finally:
        await client.leave()


def frame(*parts: object) -> bytes:
    return json.dumps(parts).encode()


async def noted(node: NodeProcess, agent: str, sentence: str) -> None:
    """Wait until a refusal of an agent is on record; such a record may wait for the next one of another kind."""
    async with session(node, "boss") as boss:
        for _ in range(100):
            answer = await boss.call(uris.AUDIT_QUERY, {"agent": agent, "kind": "refused"})
            if any(sentence in str(record) for record in answer["records"]):
                return
            await boss.call(uris.MAILBOX_SEND, [{"type": "STATUS", "id": os.urandom(8).hex(), "to": "dc"}])
    raise AssertionError(f"no refusal of {agent} says: {sentence}")


# -- forged answers ----------------------------------------------------------------------------------------------------

#: What an attacker answers with, by the invocation's number: ERROR, YIELD, a YIELD of progress.
ANSWERS = {
    "error": lambda number: frame(8, 68, number, {}, "trishula.error.storage_full", ["forged"]),
    "result": lambda number: frame(70, number, {}, ["forged"]),
    "progress": lambda number: frame(70, number, {"progress": True}, ["forged"]),
}


async def number_of_a_call(callee: PlainClient, caller: PlainClient) -> int:
    """The number of an invocation that was just made and answered."""
    uri, answer = uris.procedure_of("agni", "number"), Deferred[str]()
    await callee.register(uri, lambda *args, details: answer)
    called = Deferred.fromCoroutine(caller.call(uri))
    while not callee.asked:
        await caller.call(uris.DIRECTORY_LIST)
    (number,) = callee.asked
    answer.callback("answered")
    await called
    return number


@on_reactor
@pytest.mark.parametrize("kind", ANSWERS)
async def test_a_live_call_is_answered_by_whom_it_was_made_of_alone(node: NodeProcess, kind: str) -> None:
    uri, answer = uris.procedure_of("agni", "slow"), Deferred[str]()
    heard: list[object] = []
    async with session(node, "agni") as agni, session(node, "dc") as dc, session(node, "eve") as eve:
        await agni.register(uri, lambda *args, details: answer)
        begun = Deferred.fromCoroutine(dc.call(uri, on_progress=heard.append))
        while not agni.asked:
            await dc.call(uris.DIRECTORY_LIST)
        # Numbers are counted up for the whole router, so the right one is easily met.
        (number,) = agni.asked
        eve.send_frame(ANSWERS[kind](number))
        assert await eve.ended() != ""
        answer.callback("honest")
        assert await begun == "honest"
        assert heard == []
    await noted(node, "eve", f"another session was asked (invocation {number})")


@on_reactor
@pytest.mark.parametrize("kind", ANSWERS)
async def test_the_nodes_own_calls_are_answered_by_the_node_alone(node: NodeProcess, kind: str) -> None:
    async with session(node, "agni") as agni, session(node, "dc") as dc:
        number = await number_of_a_call(agni, dc)
        waiting = Deferred.fromCoroutine(dc.call(uris.MAILBOX_FETCH, {"wait_s": 3}))
        await dc.call(uris.DIRECTORY_LIST)
        for guess in range(number + 1, number + 40):
            async with session(node, "eve") as eve:
                eve.send_frame(ANSWERS[kind](guess))
                try:
                    # It is still there if it met no invocation.
                    await eve.call(uris.DIRECTORY_LIST)
                except (ConnectionError, Refused):
                    break
        else:
            raise AssertionError("no guess met the fetch that waits")
        assert (await waiting)["deliveries"] == []


@on_reactor
async def test_an_answer_names_nobody_else(node: NodeProcess) -> None:
    uri = uris.procedure_of("mallory", "who")
    async with session(node, "mallory") as mallory, session(node, "dc") as dc:
        await mallory.register(uri, lambda *args, details: Deferred())
        called = Deferred.fromCoroutine(dc.call(uri))
        while not mallory.asked:
            await dc.call(uris.DIRECTORY_LIST)
        mallory.send_frame(frame(70, mallory.asked[0], {"forward_for": FORGED}, ["forged"]))
        assert await mallory.ended() != ""
        with pytest.raises(Refused):
            await called
    await noted(node, "mallory", "as if for somebody else")
