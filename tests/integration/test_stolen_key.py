"""Somebody has the key of a linked node: what it may do with it, and what not, at nodes that are linked with others."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import msgpack
import pytest
from twisted.internet.task import deferLater

from tests.support.cluster import Cluster
from tests.support.peers import (
    ABORT,
    CALL,
    ERROR,
    PUBLISH,
    PUBLISHED,
    REGISTER,
    REGISTERED,
    RESULT,
    WELCOME,
    Intruder,
    NodeKey,
    intrude,
)
from tests.support.plain import PlainClient, join
from tests.support.reactor import on_reactor
from tests.support.siege import in_thread
from trishula.contract import uris
from trishula_router.settings.node_key import read_public_key

pytestmark = pytest.mark.node

#: The one whose key is stolen; it makes a link to the first one, as the last one does to both.
STOLEN = "rushabdev"
TIMEOUT_S = 20.0
NOT_AUTHORIZED = "wamp.error.not_authorized"


class Bus:
    """Three nodes, each a peer of the others. ``alice`` is at agni, ``bob`` at the laptop, ``dave`` nowhere."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.agni, self.laptop, self.rushabdev = (cluster[name] for name in ("agni", "laptop", STOLEN))
        self._key = NodeKey.stolen(self.rushabdev.state_dir)
        self._agni_key = read_public_key(self.agni.state_dir / "crossbar") or ""

    async def at(self, node: str, agent: str) -> PlainClient:
        return await join(self.cluster[node].url, agent, self.cluster.tokens[agent], serializer="msgpack")

    @asynccontextmanager
    async def intruder(self) -> AsyncIterator[Intruder]:
        """Who has the key, and comes in with it at agni."""
        intruder = await intrude(self.agni.url)
        try:
            # The link that it takes the place of may have to be noticed first.
            answer = await intruder.prove("agni", STOLEN, self._key, self._agni_key)
            assert answer[0] == WELCOME, answer
            yield intruder
        finally:
            intruder.hang_up()

    async def try_second(self) -> list[Any]:
        """Come in beside the real one; the answer."""
        intruder = await intrude(self.agni.url)
        answer = await intruder.prove("agni", STOLEN, self._key, self._agni_key)
        intruder.hang_up()
        return answer


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    cluster = Cluster(tmp_path_factory.mktemp("bus"), ["agni", STOLEN, "laptop"])
    for agent in ("bob", "carol", "dave"):
        cluster.token(agent)
    for agent in ("alice", "boss"):
        cluster.token(agent, operator=True)
    try:
        # The stolen one doesn't run, until a test starts it.
        for name in ("agni", "laptop"):
            cluster[name].start()
        cluster["laptop"].wait_log("the link to agni is up")
        cluster["agni"].wait_log("the node laptop is there")
        yield Bus(cluster)
    finally:
        cluster.stop()


async def pause(seconds: float) -> None:
    from twisted.internet import reactor

    await deferLater(cast(Any, reactor), seconds)


async def until(holds: Callable[[], Awaitable[Any]]) -> Any:
    end = time.monotonic() + TIMEOUT_S
    while not (answer := await holds()):
        assert time.monotonic() < end, "it never came true"
        await pause(0.1)
    return answer


def on_behalf_of(authid: object, role: object = "agent") -> list[dict[str, Any]]:
    return [{"session": 4711, "authid": authid, "authrole": role}]


async def records(client: PlainClient, kind: str) -> list[dict[str, Any]]:
    answer = await client.call(uris.AUDIT_QUERY, {"kind": kind, "limit": 200})
    return list(answer["records"])


def hello(node: str, epoch: str, held: dict[str, int], **more: Any) -> bytes:
    return cast(bytes, msgpack.packb({"node": node, "epoch": epoch, "held": held, **more}))


@on_reactor
async def test_no_word_of_a_peer_stops_replication_with_the_others_or_with_the_real_one(bus: Bus) -> None:
    boss, alice = await bus.at("agni", "boss"), await bus.at("laptop", "alice")

    async def peers() -> dict[str, dict[str, Any]]:
        return {one["node"]: one for one in (await boss.call(uris.NODE_STATUS))["peers"]}

    own, other = (await boss.call(uris.NODE_STATUS))["epoch"], (await peers())["laptop"]["epoch"]
    assert own and other and own != other
    record = [1, "noted", b"{}", bytes(32)]
    run = {"first": 1, "previous": bytes(32), "records": [record], "messages": {}, "bodies": {}, "revived": {}}

    def journal(node: str, writer: str, epoch: str, **more: Any) -> bytes:
        extract = {"epoch": epoch, "origins": {}, **run, **more}
        return cast(bytes, msgpack.packb({"node": node, "writer": writer, "extract": extract}))

    presence = {"node": STOLEN, "agents": [], "claims": {}, "instances": []}

    def present(**more: Any) -> bytes:
        return cast(bytes, msgpack.packb({**presence, **more}))

    entry = {"agent": "bob", "presence": "online", "node": "agni", "capabilities": []}
    said: list[tuple[str, object]] = [
        # As another, or as oneself.
        ("hello", hello("laptop", other, {own: 10**12})),
        ("hello", hello("laptop", "ff" * 8, {})),
        ("hello", hello("agni", own, {})),
        ("journal", journal("laptop", "laptop", other)),
        ("presence", present(node="laptop", agents=[])),
        # In the name of another's store.
        ("hello", hello(STOLEN, own, {})),
        ("hello", hello(STOLEN, other, {})),
        ("journal", journal(STOLEN, "laptop", other)),
        ("journal", journal(STOLEN, "laptop", other, first=10**6)),
        ("journal", journal(STOLEN, "laptop", "ab" * 8)),
        ("journal", journal(STOLEN, "agni", own)),
        # What can't be.
        ("hello", hello(STOLEN, "ee" * 8, {own: 10**12})),
        ("hello", hello(STOLEN, "ee" * 8, {own: -1})),
        ("hello", hello(STOLEN, "ee" * 8, {own: 2**63})),
        ("hello", hello(STOLEN, "ee" * 8, {}, sent_at=-(2**62), mark=2**62, echo=2**62, echo_age_ms=-1)),
        ("hello", hello(STOLEN, "e" * 100_000, {str(number): 1 for number in range(5000)})),
        ("journal", journal(STOLEN, STOLEN, "ee" * 8)),
        ("journal", journal(STOLEN, STOLEN, "ee" * 8, first=-5)),
        # What is nothing at all.
        *(
            (kind, data)
            for kind in ("hello", "journal", "presence")
            for data in (b"", b"\xc1", os.urandom(64), b"\x80")
        ),
        *((kind, data) for kind in ("hello", "journal", "presence") for data in ("text", 7, None, {"node": STOLEN})),
        ("presence", present(agents=[{}])),
        (
            "presence",
            present(agents=[{"agent": 7, "presence": "online"}, entry | {"presence": "?"}, entry | {"since": "x"}]),
        ),
        (
            "presence",
            present(agents=[entry | {"agent": "ghost"}], claims={"alice": 2**63, "no address!": 1, "ghost": 5}),
        ),
        ("presence", present(instances=["%%", "bob/x"], sent_at=-(2**62))),
        # What is read in no time, or not at all.
        ("presence", present(agents=[{}] * 900_000)),
        ("presence", present(claims={f"bob/{number}": number for number in range(60_000)})),
    ]
    async with bus.intruder() as intruder:
        for kind, text in said:
            topic = uris.peer_topic("agni", kind)
            answer = await intruder.ask(
                PUBLISH, topic, [text], acknowledge=True, forward_for=on_behalf_of("laptop", "node")
            )
            assert answer[0] == PUBLISHED, (kind, text, answer)
        # The others go on as ever: what the laptop accepts is here too, and it is who it was.
        (receipt,) = await alice.call(
            uris.MAILBOX_SEND, [{"type": "STATUS", "id": "after", "to": "boss", "from": "alice"}], {"copies": 2}
        )
        assert (receipt["status"], receipt["copies"]) == ("accepted", 2)
        told = (await peers())["laptop"]
        assert (told["state"], told["fault"], told["epoch"]) == ("up", None, other)
        entries = {one["agent"]: one for one in await boss.call(uris.DIRECTORY_LIST)}
        assert set(entries) == {"alice", "bob", "boss", "carol", "dave"}
        assert all(isinstance(one["since"], int | None) for one in entries.values())
        assert not alice.gone.called
    # And with the real one nothing is wrong, whatever was said in its name.
    # In a thread, so that the clients answer pings meanwhile.
    await in_thread(bus.rushabdev.start)
    await in_thread(lambda: bus.rushabdev.wait_log("the link to agni is up"))

    async def in_step() -> bool:
        told = (await peers())[STOLEN]
        return bool(
            told["state"] == "up" and told["fault"] is None and not told["lag_records"] and not told["to_copy_records"]
        )

    await until(in_step)
    real = await bus.at(STOLEN, "carol")
    (receipt,) = await real.call(
        uris.MAILBOX_SEND, [{"type": "STATUS", "id": "real", "to": "boss", "from": "carol"}], {"copies": 2}
    )
    assert (receipt["status"], receipt["copies"] >= 2) == ("accepted", True)
    assert "Traceback" not in bus.agni.log()
    # On record, if not all of it: who could have each one written would fill the disk.
    refused = [one["detail"] for one in await records(boss, "refused") if one["agent"] == STOLEN]
    assert "what the node rushabdev said as hello is not taken: it speaks as laptop" in refused
    assert any("its epoch" in detail for detail in refused)
    for client in (boss, alice, real):
        await client.leave()
    await in_thread(bus.rushabdev.stop)


@on_reactor
async def test_a_peer_speaks_only_for_agents_at_its_side_and_gives_nobody_a_role(bus: Bus) -> None:
    alice, bob, carol = await bus.at("agni", "alice"), await bus.at("laptop", "bob"), await bus.at("agni", "carol")
    seen: list[tuple[Any, Any]] = []
    await carol.register(
        uris.procedure_of("carol", "who"), lambda details: [details.caller_authid, details.caller_authrole]
    )
    heard = lambda *args, details: seen.append((details.publisher_authid, details.publisher_authrole))  # noqa: E731
    for topic in (uris.topic_of("bob", "news"), uris.topic_of("dave", "news"), uris.EVENT_AGENT, uris.EVENT_NODE):
        await carol.subscribe(topic, heard)

    async def settled() -> bool:
        # Both are known where they are, for long enough.
        found = {one["agent"]: one for one in await alice.call(uris.DIRECTORY_LIST)}
        return bool(found["bob"]["node"] == "laptop" and found["bob"]["presence"] == "online")

    await until(settled)
    await pause(2.5)
    seen.clear()
    who, unknown = uris.procedure_of("carol", "who"), {"session": 1, "authid": "dave", "authrole": "agent"}
    async with bus.intruder() as intruder:
        for forwarded in (
            *(on_behalf_of(name, role) for name in ("ghost", "alice", "bob") for role in ("agent", "operator")),
            on_behalf_of("carol"),
            on_behalf_of(None),
            [unknown, unknown],
            [],
        ):
            answer = await intruder.ask(CALL, who, [], forward_for=forwarded)
            assert (answer[0], answer[4]) == (ERROR, NOT_AUTHORIZED), (forwarded, answer)
        # For who is nowhere else it may speak, and what it says of a role counts for nothing.
        for role in ("agent", "operator", "node", "trusted"):
            answer = await intruder.ask(CALL, who, [], forward_for=on_behalf_of("dave", role))
            assert (answer[0], answer[3]) == (RESULT, [["dave", "agent"]]), answer
        for topic, name in (("bob", "bob"), ("dave", "bob"), ("bob", "dave"), ("carol", "carol"), ("ghost", "ghost")):
            where = uris.topic_of(topic, "news")
            answer = await intruder.ask(PUBLISH, where, [1], acknowledge=True, forward_for=on_behalf_of(name))
            assert (answer[0], answer[4]) == (ERROR, NOT_AUTHORIZED), (topic, name)
        forged = {"agent": "bob", "presence": "offline", "node": "laptop"}
        for topic, event in (
            (uris.EVENT_AGENT, forged),
            (uris.EVENT_AGENT, {**forged, "node": STOLEN}),
            (uris.EVENT_AGENT, {**forged, "agent": "ghost", "node": STOLEN}),
            (uris.EVENT_NODE, {"node": "agni", "peer": "laptop", "state": "down", "at": 1}),
            (uris.EVENT_NODE, "no event"),
        ):
            node = on_behalf_of("agni", "node")
            answer = await intruder.ask(PUBLISH, topic, [event], acknowledge=True, forward_for=node)
            assert answer[0] == ERROR, (topic, event)
            intruder.send(PUBLISH, 9, {"forward_for": node}, topic, [event])
        for name in ("alice", "bob", "carol", "ghost"):
            answer = await intruder.ask(REGISTER, uris.procedure_of(name, "mine"), invoke="last")
            assert (answer[0], answer[4]) == (ERROR, NOT_AUTHORIZED), name
        # Nothing of all that was heard; what is its own is.
        assert seen == []
        news = uris.topic_of("dave", "news")
        answer = await intruder.ask(PUBLISH, news, [1], acknowledge=True, forward_for=on_behalf_of("dave", "operator"))
        assert answer[0] == PUBLISHED
        told = {"node": STOLEN, "peer": "agni", "state": "up", "at": 1}
        answer = await intruder.ask(
            PUBLISH, uris.EVENT_NODE, [told], acknowledge=True, forward_for=on_behalf_of("agni", "operator")
        )
        assert answer[0] == PUBLISHED
        assert (await intruder.ask(REGISTER, uris.procedure_of("dave", "mine"), invoke="last"))[0] == REGISTERED

        async def both() -> bool:
            return len(seen) >= 2

        await until(both)
        assert seen[:2] == [("dave", "agent"), (STOLEN, "node")]
        # Nor does it get at what is the node's, or is on its way to another peer.
        for uri in (uris.MAILBOX_SEND, uris.NODE_STATUS, "wamp.session.list"):
            assert (await intruder.ask(CALL, uri, [], forward_for=on_behalf_of("dave")))[0] == ERROR
    for client in (alice, bob, carol):
        await client.leave()


@on_reactor
async def test_a_second_link_is_refused_while_the_first_lives_and_replaces_one_that_is_silent(bus: Bus) -> None:
    bus.rushabdev.start()
    boss = await bus.at("agni", "boss")

    async def links(event: str) -> list[dict[str, Any]]:
        found = [one for one in await records(boss, "link") if one["node"] == "agni"]
        return [one for one in found if (one["event"], one["peer"]) == (event, STOLEN)]

    async def is_up() -> bool:
        told = {one["node"]: one for one in (await boss.call(uris.NODE_STATUS))["peers"]}[STOLEN]
        return bool(told["state"] == "up")

    await until(is_up)
    before, downs = await links("up"), await links("down")
    for _ in range(3):
        answer = await bus.try_second()
        assert answer[0] == ABORT
        assert "a second one doubles every event" in str(answer)
    await until(lambda: links("refused"))
    # The good link never noticed.
    assert (await links("up"), await links("down")) == (before, downs)
    bus.rushabdev.freeze()
    try:

        async def let_in() -> bool:
            return bool((await bus.try_second())[0] == WELCOME)

        await until(let_in)
        assert await until(lambda: links("replaced"))
        assert len(await links("up")) > len(before)
    finally:
        bus.rushabdev.thaw()
    await until(is_up)
    assert await until(lambda: links("down"))
    bus.agni.wait_log(f"the link of {STOLEN} was replaced")
    await boss.leave()
    bus.rushabdev.stop()
