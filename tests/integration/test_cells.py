"""Two real nodes that are not linked, joined by a real Redis, with real agents: nothing is lost or runs twice.

Redis is killed, comes back empty, and somebody who is no cell writes to it; an agent moves from one cell to the other.
"""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.support.alerts import expressions, names_in
from tests.support.node import NodeProcess
from tests.support.raw import RawClient
from tests.support.reactor import on_reactor
from tests.support.redis_server import RedisServer, needs_redis
from trishula.agent import Agent
from trishula.contract import uris
from trishula.contract.message import Message
from trishula.runtime.surroundings import real
from trishula.settings import Settings

pytestmark = [pytest.mark.node, needs_redis]

PASSWORD = "s3cret-of-the-cells"
KEY = "0123456789abcdef" * 4
CELLS = ("north", "south")


class Joined:
    """Two cells, and the Redis between them."""

    def __init__(self, redis: RedisServer, nodes: dict[str, NodeProcess]) -> None:
        self.redis = redis
        self.nodes = nodes

    def settings(self, agent: str, cell: str) -> Settings:
        node = self.nodes[cell]
        return replace(Settings((node.url,), agent, self.nodes["north"].tokens[agent]), failback_s=None)

    def ask(self, cell: str, uri: str, *args: Any) -> Any:
        with RawClient(self.nodes[cell].url) as boss:
            boss.open()
            boss.join("boss", self.nodes["north"].tokens["boss"])
            return boss.call(uri, *args)

    def told(self, cell: str) -> dict[str, Any]:
        return dict(self.ask(cell, uris.NODE_STATUS)["cells"])

    def states(self, cell: str, ids: set[str]) -> Counter[str]:
        """How many of some messages are in which state at a cell."""
        with RawClient(self.nodes[cell].url) as dc:
            dc.open()
            dc.join("dc", self.nodes["north"].tokens["dc"])
            answer = dc.call(uris.MAILBOX_STATUS, sorted(ids))
        return Counter(one["state"] for one in answer.values())

    def figures(self, cell: str) -> dict[str, float]:
        """What a scrape has of the cell."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.nodes[cell].port}/metrics", timeout=20.0) as answer:
            lines = [line.rpartition(" ") for line in answer.read().decode().splitlines()]
        return {name: float(value) for name, _, value in lines if name.startswith("trishula_cells_")}


def configure(directory: Path, cell: str, redis: RedisServer) -> Path:
    """The configuration of a node, and what it needs beside it."""
    config = json.loads((resources.files("trishula_router.config") / "single.json").read_text())
    extra = config["workers"][0]["components"][0]["extra"]
    state = directory / cell
    extra["node"], extra["state"] = cell, str(state)
    extra["cells"] = {
        "name": cell,
        "redis": f"redis://127.0.0.1:{redis.port}/0",
        "redis_password": "file:redis.password",
        "key_file": "cells.key",
        "late": "5s",
    }
    state.mkdir(mode=0o700)
    for name, text in (("redis.password", PASSWORD), ("cells.key", KEY)):
        (state / name).write_text(f"{text}\n")
        (state / name).chmod(0o600)
    file = directory / f"{cell}.json"
    file.write_text(json.dumps(config))
    return file


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Joined]:
    directory = tmp_path_factory.mktemp("cells")
    with RedisServer(directory, PASSWORD) as redis:
        nodes = {cell: NodeProcess(directory / cell, config=configure(directory, cell, redis)) for cell in CELLS}
        try:
            for name in ("agni", "dc", "rushabdev"):
                nodes["north"].token(name, serve=["host"])
            nodes["north"].token("boss", operator=True)
            agents = directory / "south" / "agents.json"
            agents.write_bytes((directory / "north" / "agents.json").read_bytes())
            agents.chmod(0o600)
            # Side by side: most of a start is waiting.
            for node in nodes.values():
                node.spawn()
            for node in nodes.values():
                node.url = node.wait_ready()
            yield Joined(redis, nodes)
            for node in nodes.values():
                assert PASSWORD not in node.log()
                assert KEY not in node.log()
        finally:
            for node in nodes.values():
                node.stop()


def sleep(seconds: float) -> Deferred[None]:
    done: Deferred[None] = Deferred()
    real().clock.callLater(seconds, done.callback, None)
    return done


async def until(condition: Any, timeout_s: float = 90.0) -> None:
    """Wait until something holds; it is asked in a thread."""
    clock = real().clock
    deadline_s = clock.seconds() + timeout_s
    while not await deferToThread(condition):
        assert clock.seconds() < deadline_s, "it did not come true in time"
        await sleep(0.1)


class Worker:
    """An agent with a file, that counts what it handles, and answers."""

    def __init__(self, joined: Joined, name: str, state: Path) -> None:
        self.joined = joined
        self.name = name
        self.state = state
        self.handled: Counter[str] = Counter()

    @asynccontextmanager
    async def at(self, cell: str, **options: Any) -> AsyncIterator[Agent]:
        """It runs at a cell."""
        agent = Agent(self.name, state=self.state, **options)
        agent.on("STATUS")(self._handle)
        agent.add_procedure(self._double, name="double")
        await agent.start(self.joined.settings(self.name, cell))
        try:
            yield agent
        finally:
            await agent.stop(grace_s=1.0)

    def _handle(self, message: Message) -> None:
        self.handled[message.id] += 1

    async def _double(self, number: int) -> int:
        return 2 * number


@on_reactor
async def test_nothing_is_lost_and_nothing_runs_twice(joined: Joined, tmp_path: Path) -> None:
    agni, dc = Worker(joined, "agni", tmp_path), Worker(joined, "dc", tmp_path)
    sent: set[str] = set()
    async with dc.at("north") as sender:

        async def send(count: int) -> None:
            for _ in range(count):
                message_id = f"m{len(sent)}"
                sent.add(message_id)
                receipt = await sender.send("agni", payload=len(sent), id=message_id)
                assert (receipt.status, receipt.node) == ("accepted", "north")

        async with agni.at("south") as there:
            await send(20)
            await until(lambda: len(agni.handled) == 20)
            # A question over cells and its answer, both ways.
            assert await sender.call("agni", "double", 21, timeout=30.0) == 42
            assert await there.call("dc", "double", 4, timeout=30.0) == 8
            # Redis dies with what is on it, and comes back empty.
            await send(10)
            await deferToThread(joined.redis.kill)
            await send(20)
            await until(lambda: "can't be reached" in (joined.told("north")["fault"] or ""))
            check = next(one for one in joined.ask("north", uris.NODE_READY)["checks"] if one["check"] == "cells")
            assert check["ok"]
            await deferToThread(joined.redis.start)
            await send(10)
            await until(lambda: agni.handled.keys() == sent)
            await deferToThread(joined.redis.client.flushall)
            await send(10)
            await until(lambda: agni.handled.keys() == sent)
        # While it is away its mail goes to its last home, and follows it to the next one.
        await send(10)
        async with agni.at("north"):
            await send(10)
            await until(lambda: agni.handled.keys() == sent)
            await until(lambda: joined.states("north", sent) == {"done": len(sent)})
        assert set(agni.handled.values()) == {1}
    for cell in CELLS:
        await until(lambda: joined.told(cell)["out_messages"] == 0)  # noqa: B023
    figures = await deferToThread(lambda: joined.figures("north"))
    asked = {
        name for expression in expressions() for name in names_in(expression) if name.startswith("trishula_cells_")
    }
    assert asked
    assert asked <= figures.keys()
    assert figures["trishula_cells_waiting_messages"] == 0
    assert figures["trishula_cells_errors_total"] >= 1
    assert figures["trishula_cells_canary_seconds"] < 60
    assert (await deferToThread(lambda: joined.figures("south")))["trishula_cells_accepted_total"] >= 70


class Listener:
    """What a subscriber heard."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def numbers(self) -> list[int]:
        return [one["number"] for one in self.heard if isinstance(one, dict)]

    async def hears(self, publisher: Agent, topic: str, said: str) -> None:
        """Its publisher says something until it is heard: a subscription takes a moment to get there."""
        clock = real().clock
        deadline_s = clock.seconds() + 90.0
        while said not in self.heard:
            assert clock.seconds() < deadline_s, "it was not heard in time"
            await publisher.publish(topic, said)
            await sleep(0.2)


@on_reactor
async def test_a_live_topic_is_heard_at_the_other_cell_once(joined: Joined, tmp_path: Path) -> None:
    far, near, own, retained = Listener(), Listener(), Listener(), Listener()
    with RawClient(joined.nodes["north"].url) as raw:
        raw.open()
        raw.join("agni", joined.nodes["north"].tokens["agni"])
        # The router there knows the topic now, before anybody has subscribed to it.
        raw.publish(uris.topic_of("agni", "kept"), "kept", retain=True)
    async with (
        Worker(joined, "agni", tmp_path).at("south") as agni,
        Worker(joined, "rushabdev", tmp_path).at("south") as neighbour,
        Worker(joined, "dc", tmp_path).at("north") as dc,
    ):
        await dc.subscribe("celsius", far.heard.append, of="agni")
        await dc.subscribe("kept", retained.heard.append, of="agni")
        await neighbour.subscribe("celsius", near.heard.append, of="agni")
        await agni.subscribe("celsius", own.heard.append)
        await far.hears(agni, "celsius", "begin")
        await retained.hears(agni, "kept", "begin")
        for number in range(300):
            await agni.publish("celsius", {"number": number, "raw": b"\x00\xff"})
        for listener in (far, near):
            await until(lambda: len(listener.numbers()) == 300)  # noqa: B023
            assert listener.numbers() == list(range(300))
        assert far.heard[-1]["raw"] == b"\x00\xff"
        assert own.heard == []
        # Redis dies: what is published meanwhile is gone, nobody waits for it, and then it goes on.
        await deferToThread(joined.redis.kill)
        await agni.publish("celsius", "lost")
        await until(lambda: joined.told("south")["topics"]["fault"] and joined.told("north")["topics"]["fault"])
        await deferToThread(joined.redis.start)
        await far.hears(agni, "celsius", "again")
        assert ("lost" in near.heard, "lost" in far.heard) == (True, False)
        # Somebody who has no key speaks there.
        refused = joined.told("north")["refused_entries"]
        channel = f"trishula:cells:live:{uris.topic_of('agni', 'celsius')}"
        await deferToThread(joined.redis.client.publish, channel, b"x" * 100)
        await until(lambda: joined.told("north")["refused_entries"] > refused)
    # Nobody listens any more, and Redis is told so.
    await until(lambda: joined.redis.client.pubsub_channels("trishula:cells:live:trishula.*") == [])
    figures = await deferToThread(lambda: joined.figures("north"))
    assert figures["trishula_cells_events_heard_total"] >= 300


@on_reactor
async def test_who_is_at_the_other_cell_is_in_the_directory_and_stays_there(joined: Joined, tmp_path: Path) -> None:
    def entry(cell: str = "north", agent: str = "agni") -> dict[str, Any]:
        return dict(joined.ask(cell, uris.DIRECTORY_GET, agent))

    async with Worker(joined, "agni", tmp_path).at("south", capabilities=["host"]):
        able = {"capability": "host", "presence": "online"}
        # What it was there without, a while ago, may still be known.
        await until(lambda: joined.ask("north", uris.DIRECTORY_FIND, able))
        found = await deferToThread(lambda: joined.ask("north", uris.DIRECTORY_FIND, able))
        assert [(one["agent"], one["node"], one["cell"]) for one in found] == [("agni", "south", "south")]
        assert "cell" not in entry("south")
        # Redis is away: nobody is declared dead, and what is known gets older.
        await deferToThread(joined.redis.kill)
        await until(lambda: joined.told("north")["others"]["fault"])
        await until(lambda: joined.figures("north")["trishula_cells_up"] == 0)
        known_at = entry()["known_at"]
        await sleep(3.0)
        assert (entry()["presence"], entry()["known_at"]) == ("online", known_at)
        await deferToThread(joined.redis.start)
        await until(lambda: entry()["known_at"] > known_at)
        await until(lambda: joined.told("north")["others"]["fault"] is None)
        await until(lambda: joined.figures("north")["trishula_cells_up"] == 1)
        assert joined.figures("north")["trishula_cells_silent"] == 0
        # It comes back empty, and somebody who is no cell says that all is well there.
        refused = joined.told("north")["refused_entries"]
        client = joined.redis.client
        await deferToThread(client.hset, "trishula:cells:beats", "west", b"x" * 100)
        await deferToThread(client.zadd, "trishula:cells:beats:at", {"west": 9e15})
        await until(lambda: joined.told("north")["refused_entries"] > refused)
        assert [one["cell"] for one in joined.told("north")["others"]["cells"]] == ["south"]
        await deferToThread(client.delete, "trishula:cells:beats", "trishula:cells:beats:at")
    # That it left, its cell says.
    await until(lambda: entry()["presence"] == "offline")


@on_reactor
async def test_what_no_cell_has_sealed_is_refused_and_noted(joined: Joined) -> None:
    client = joined.redis.client
    await deferToThread(client.xadd, "trishula:cells:in:south", {"body": b"x", "mac": b"y"})
    await until(lambda: joined.told("south")["refused_entries"] >= 1)
    # A note may wait for the next commit.
    sentence = "its seal is not that of a cell's entry"
    await until(lambda: sentence in json.dumps(joined.ask("south", uris.AUDIT_QUERY, {"kind": "refused"})))
    # It does not come again.
    assert await deferToThread(client.xlen, "trishula:cells:in:south") <= 1
