"""An agent is killed (kill -9) at every step of the table in trishula.consumer.dispatcher: no reply is lost, nothing
runs twice
but what was not on record, and then the handler can see it."""

from __future__ import annotations

import json
import random
import select
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.integration.crashing_agent import POINTS
from tests.support.node import NodeProcess, environment
from tests.support.reactor import on_reactor
from trishula.agent import Agent
from trishula.client import Client
from trishula.contract import uris
from trishula.contract.deliveries import Delivery
from trishula.runtime.pending import Pending
from trishula.runtime.surroundings import real
from trishula.settings import Settings

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("crash") / "state") as node:
        for name in ("agni", "dc"):
            node.token(name)
        yield node


def sleep(seconds: float) -> Deferred[None]:
    done: Deferred[None] = Deferred()
    real().clock.callLater(seconds, done.callback, None)
    return done


class Agni:
    """The agent's process, again and again on the same files."""

    def __init__(self, node: NodeProcess, directory: Path) -> None:
        self.effects_file = directory / "effects.jsonl"
        self._node = node
        self._directory = directory
        self._process: subprocess.Popen[str] | None = None

    def start(self, point: str = "", after: int = 0, poison: str = "") -> None:
        assert self._process is None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.crashing_agent"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self._directory / "errors.txt").open("a"),
            text=True,
            cwd=Path(__file__).parents[2],
            env=environment(
                TRISHULA_URL=self._node.url,
                TRISHULA_TOKEN=self._node.tokens["agni"],
                TRISHULA_AGENT_STATE=str(self._directory / "state"),
                EFFECTS=str(self.effects_file),
                CRASH_AT=point,
                CRASH_AFTER=str(after),
                POISON=poison,
            ),
        )

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._process is not None
        return self._process

    def wait_ready(self) -> None:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], 30.0)[0], self.said()
        assert self.process.stdout.readline() == "ready\n", self.said()

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    async def died(self) -> None:
        for _ in range(3000):
            if self.process.poll() is not None:
                break
            await sleep(0.01)
        assert self.process.returncode == -9, self.said()
        self.end()

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def said(self) -> str:
        return (self._directory / "errors.txt").read_text()

    def effects(self) -> dict[str, list[int]]:
        """Message id → the attempts in which its handler ran; none ran after it was on record."""
        runs: dict[str, list[int]] = {}
        on_record: set[str] = set()
        for line in self.effects_file.read_text().splitlines():
            what, message_id, attempt = json.loads(line)
            if what == "on record":
                on_record.add(message_id)
            else:
                assert message_id not in on_record, f"{message_id} ran again in attempt {attempt}"
                runs.setdefault(message_id, []).append(attempt)
        return runs


@pytest.fixture
def agni(node: NodeProcess, tmp_path: Path) -> Iterator[Agni]:
    made = Agni(node, tmp_path)
    yield made
    made.end()


@asynccontextmanager
async def dc_of(node: NodeProcess, instance: str, got: list[Delivery] | None = None) -> AsyncIterator[Client]:
    client = Client(Settings((node.url,), "dc", node.tokens["dc"]), instance=instance)

    def take(deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            client.ack_soon(delivery.token)
        if got is not None:
            got.extend(deliveries)

    client.attach(take)
    try:
        await client.start(timeout=10.0)
        yield client
    finally:
        await client.stop()


async def until_settled(client: Client, ids: list[str]) -> None:
    for _ in range(500):
        states = await client.request("trishula.mailbox.status", ids)
        if all(states[name]["state"] == "done" for name in ids):
            return
        await sleep(0.05)
    raise AssertionError({name: states[name] for name in ids})


@pytest.mark.parametrize("point", POINTS)
@on_reactor
async def test_a_crash_loses_no_reply_and_runs_nothing_twice_that_is_on_record(
    node: NodeProcess, agni: Agni, point: str
) -> None:
    chance = random.Random(f"7 {point}")
    async with dc_of(node, f"crash{POINTS.index(point)}") as dc:
        numbers = list(range(12))
        commands = [f"{POINTS.index(point)}.command.{number}" for number in numbers]
        notes = [f"{POINTS.index(point)}.note.{number}" for number in numbers]
        answers: list[Pending[Any]] = []
        agni.start(point, after=chance.randrange(8))
        for number in numbers:
            answers.append(dc.call_with("agni", "double", [number], timeout=60.0, id=commands[number]))
            dc.send("agni", id=notes[number])
            await sleep(chance.uniform(0.0, 0.01))
        await agni.died()
        agni.start()
        assert [await answer for answer in answers] == [2 * number for number in numbers], agni.said()
        await until_settled(dc, commands + notes)
    runs = agni.effects()
    assert sorted(runs) == sorted(commands + notes)
    again = {name: attempts for name, attempts in runs.items() if len(attempts) > 1}
    # The handler can see it.
    assert all(len(attempts) == 2 and attempts[0] < attempts[1] for attempts in again.values()), again
    if point in ("effect", "returned"):
        assert again, "the crash came at another point than it should"


@on_reactor
async def test_what_is_handled_and_gathered_runs_once_and_in_order_over_crashes(node: NodeProcess, agni: Agni) -> None:
    async with dc_of(node, "gathered") as dc:
        ids = [f"gathered.{number:03}" for number in range(40)]
        agni.start("noted", after=5)
        agni.wait_ready()
        for message_id in ids:
            dc.send("agni", id=message_id, subject="slowly")
        await agni.died()
        agni.start("noted", after=9)
        await agni.died()
        agni.start()
        await until_settled(dc, ids)
    # None ran again that was on record, by a note alone: the file had no time.
    runs = agni.effects()
    assert list(runs) == ids
    assert [attempts for attempts in runs.values() if len(attempts) > 1] == []


@on_reactor
async def test_many_crashes_one_after_the_other(node: NodeProcess, agni: Agni) -> None:
    chance = random.Random(11)
    async with dc_of(node, "often") as dc:
        answers = []
        for life in range(8):
            point = chance.choice(POINTS[3:])
            agni.start(point, after=chance.randrange(3))
            for number in range(6):
                message_id = f"often.{life}.{number}"
                answers.append(dc.call_with("agni", "double", [number], timeout=120.0, id=message_id))
            await agni.died()
        agni.start()
        assert [await answer for answer in answers] == [0, 2, 4, 6, 8, 10] * 8, agni.said()
    # A life ends once for each message at most, and each life runs it in a higher attempt.
    assert all(attempts == sorted(set(attempts)) for attempts in agni.effects().values()), agni.effects()


@on_reactor
async def test_what_a_full_mailbox_refuses_for_now_is_sent_when_there_is_room(tmp_path: Path) -> None:
    config = json.loads((Path(__file__).parents[2] / "config" / "single.json").read_text())
    for component in config["workers"][0]["components"]:
        component["extra"]["limits"]["mailbox_messages"] = 4
    (tmp_path / "small.json").write_text(json.dumps(config))
    with NodeProcess(tmp_path / "node", config=tmp_path / "small.json") as node:
        for name in ("agni", "dc"):
            node.token(name)
        agni = Agent("agni", state=tmp_path / "state")
        dc = Client(Settings((node.url,), "dc", node.tokens["dc"]))
        await agni.start(Settings((node.url,), "agni", node.tokens["agni"]), timeout=10.0)
        await dc.start(timeout=10.0)
        sent = [agni.send("dc", id=f"m.{number}") for number in range(10)]
        # Others are not held up by it.
        assert (await agni.send("agni", id="to.myself")).status == "accepted"
        assert [pending.done for pending in sent] == [True] * 4 + [False] * 6
        got: list[str] = []
        for _ in range(60):
            fetched = await dc.fetch(max=64, wait_s=0.5)
            got += [delivery.message.id for delivery in fetched.deliveries]
            await dc.ack([delivery.token for delivery in fetched.deliveries])
            if len(got) >= 10:
                break
        assert got == [f"m.{number}" for number in range(10)]
        assert {(await pending).status for pending in sent} == {"accepted"}
        await dc.stop()
        await agni.stop()


@on_reactor
async def test_what_was_sent_without_a_node_goes_out_in_the_next_life(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "node") as node:
        for name in ("agni", "dc"):
            node.token(name)
        agni = Agni(node, tmp_path)
        try:
            agni.start()
            agni.wait_ready()
            node.kill()
            for number in range(5):
                agni.tell(f"send dc lost.{number}")
            await sleep(1.0)
            agni.process.kill()
            await agni.died()
            node.restart()
            agni.start()
            agni.wait_ready()
            got: list[str] = []
            client = Client(Settings((node.url,), "dc", node.tokens["dc"]))
            await client.start(timeout=10.0)
            for _ in range(100):
                fetched = await client.fetch(max=64, wait_s=0.2)
                got += [delivery.message.id for delivery in fetched.deliveries]
                await client.ack([delivery.token for delivery in fetched.deliveries])
                if len(got) >= 5:
                    break
            fetched = await client.fetch(max=64)
            await client.stop()
            assert got == [f"lost.{number}" for number in range(5)], agni.said()
            assert (fetched.deliveries, fetched.pending, fetched.in_flight) == ([], 0, 0)
        finally:
            agni.end()


@on_reactor
async def test_a_message_that_kills_its_agent_each_time_dies_alone(node: NodeProcess, agni: Agni) -> None:
    async with dc_of(node, "poisoner") as dc:
        # A window full of others, before it and behind it.
        ids = [f"pill.{number}" for number in range(40)]
        for name in ids:
            await dc.send("agni", id=name, payload=name)
        runs = 0
        while (await dc.request(uris.MAILBOX_STATUS, ["pill.20"]))["pill.20"]["state"] != "dead":
            agni.start(poison="pill.20")
            for _ in range(3000):
                if agni.process.poll() is not None:
                    break
                states = await dc.request(uris.MAILBOX_STATUS, ids)
                if [one for one, told in states.items() if told["state"] != "done"] == ["pill.20"] and (
                    states["pill.20"]["state"] == "dead"
                ):
                    break
                await sleep(0.05)
            runs += 1
            agni.end()
        assert runs == 6, "five times it killed its agent, and the sixth run works off the rest"
        # Whoever shared its turn with it was not on record yet, and runs again; nobody else does, and nobody dies.
        assert len(agni.effects()["pill.20"]) == 5
        states = await dc.request(uris.MAILBOX_STATUS, ids)
        assert [name for name, told in states.items() if told["state"] != "done"] == ["pill.20"]
        lives = [(await dc.request(uris.AUDIT_WHY, name))["messages"][0] for name in ids if name != "pill.20"]
        assert {life["failures"] for life in lives} == {0}
