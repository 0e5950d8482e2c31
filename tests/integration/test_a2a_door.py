"""The door for A2A, as the official SDK's client meets it: real node, real door, each its own process.

The SDK can't be installed beside Crossbar, so both ends of A2A run in an environment of their own, which ``make venv``
makes; the node and the agent are ours.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import trishula
from tests.support.loops import in_own_loop
from tests.support.node import ROOT, NodeProcess, environment
from trishula.contract import uris
from trishula.errors import CallFailed

pytestmark = pytest.mark.node

WORKER = """
import asyncio, sys
from pathlib import Path
from trishula import Agent, Message
from trishula.errors import CallFailed

agent = Agent("worker", capabilities=["add"])
log, gate = Path(sys.argv[1]), Path(sys.argv[2])

@agent.procedure()
def add(a: int, b: int) -> int:
    return a + b

@agent.procedure()
def fail(text: str) -> None:
    raise CallFailed("the disk is full")

@agent.on("COMMAND")
async def work(message: Message) -> str:
    with log.open("a") as file:
        file.write(f"{message.sender} {message.id}\\n")
    while message.payload == "slow" and not gate.exists():
        await asyncio.sleep(0.05)
    return f"did {message.payload}"

agent.run()
"""


@pytest.fixture(scope="module")
def a2a_python() -> Path:
    """The Python of an agents' machine with the SDK of A2A."""
    prefix = Path(sys.prefix)
    python = prefix.with_name(f"{prefix.name}-a2a") / "bin" / "python"
    assert python.exists(), f"there is no {python}: make venv makes it"
    return python


class Stage:
    """A node, a door, and an agent that sleeps until it is woken."""

    def __init__(self, directory: Path, python: Path, node: NodeProcess) -> None:
        self.directory = directory
        self.node = node
        self.url = ""
        self._python = python
        self._door: subprocess.Popen[str] | None = None
        self.doorkeeper = "door"
        self._worker: subprocess.Popen[str] | None = None
        self._envoys: list[subprocess.Popen[str]] = []
        self._errors = (directory / "errors").open("a")

    def _around(self, **more: str) -> dict[str, str]:
        return environment(TRISHULA_URL=self.node.url, TRISHULA_AGENT_STATE=str(self.directory / "agents"), **more)

    def open_door(self, port: int = 0) -> None:
        command = [str(self._python), "-m", "trishula.cli.main", "a2a", "serve", "--listen", str(port)]
        self._door = subprocess.Popen(
            [*command, "--push-to", "127.0.0.0/8", "--state", str(self.directory / "door")],
            env=self._around(TRISHULA_TOKEN=self.node.tokens[self.doorkeeper]),
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        assert self._door.stdout is not None
        self.url = self._door.stdout.readline().strip()
        assert self.url, self.errors()

    def kill_door(self) -> subprocess.Popen[str]:
        """Kill the door, and open it again; the new one."""
        assert self._door is not None
        self._door.kill()
        self._door.wait()
        self.open_door(int(self.url.rpartition(":")[2]))
        return self._door

    def kill_node(self) -> None:
        port = self.node.port
        self.node.kill()
        self.node.restart(port=port)

    def start_worker(self) -> None:
        program = self.directory / "worker.py"
        program.write_text(WORKER)
        if self._worker is None:
            self._worker = subprocess.Popen(
                [sys.executable, str(program), str(self.log), str(self.gate)],
                env=self._around(TRISHULA_TOKEN=self.node.tokens["worker"]),
                stdout=self._errors,
                stderr=self._errors,
                text=True,
            )
            self.until(lambda: "worker has joined" in self.errors())

    def start_envoy(self) -> subprocess.Popen[str]:
        """The agent planner of the bus, which stands for the agent worker behind the door."""
        command = [str(self._python), "-m", "trishula.cli.main", "a2a", "agent", f"{self.url}/agents/worker"]
        envoy = subprocess.Popen(
            [*command, "--as", "planner"],
            env=self._around(
                TRISHULA_TOKEN=self.node.tokens["planner"], TRISHULA_REMOTE_BEARER=self.node.tokens["partner"]
            ),
            stderr=self._errors,
            text=True,
        )
        self._envoys.append(envoy)
        return envoy

    def log_has(self, count: int) -> None:
        """Wait until the worker has begun so many tasks."""
        self.until(lambda: self.log.exists() and len(self.log.read_text().splitlines()) >= count)

    def until(self, is_so: Callable[[], bool]) -> None:
        until = time.monotonic() + 30
        while not is_so():
            assert time.monotonic() < until, self.errors()
            time.sleep(0.05)

    def wake(self) -> None:
        self.start_worker()
        self.gate.touch()

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def gate(self) -> Path:
        return self.directory / "gate"

    def errors(self) -> str:
        self._errors.flush()
        return (self.directory / "errors").read_text()

    def play(self, *name: str) -> dict[str, Any]:
        """Play a scene, and do what it asks for; what it found."""
        tokens = {f"TOKEN_{one.upper()}": token for one, token in self.node.tokens.items()}
        process = subprocess.Popen(
            [str(self._python), "-m", "tests.integration.a2a_conversation", *name],
            cwd=ROOT,
            env=self._around(DOOR=self.url, **tokens),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith("{"):
                    found: dict[str, Any] = json.loads(line)
                    return found
                getattr(self, line.strip())()
                process.stdin.write("done\n")
                process.stdin.flush()
            raise AssertionError(self.errors()[-4000:])
        finally:
            process.kill()
            process.wait()

    def mail_of(self, name: str) -> str:
        """What lies in a mailbox."""
        done = subprocess.run(
            [sys.executable, "-m", "trishula.cli.main", "inbox", "--peek", "--json"],
            capture_output=True,
            text=True,
            env=self._around(TRISHULA_TOKEN=self.node.tokens[name]),
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def record(self, *arguments: str) -> Any:
        """What ``trishula a2a tasks`` tells, beside a door that runs."""
        command = [sys.executable, "-m", "trishula.cli.main", "a2a", "tasks", *arguments, "--json"]
        done = subprocess.run(
            [*command, "--state", str(self.directory / "door")],
            capture_output=True,
            text=True,
            env=environment(),
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def __enter__(self) -> Stage:
        self.open_door()
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self._envoys, self._door, self._worker):
            if process is not None:
                process.terminate()
                process.wait(20)
        self._errors.close()


def populate(node: NodeProcess) -> None:
    for name in ("door", "partner"):
        node.token(name)
    node.token("worker", serve=["add"])


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("a2a") / "state") as node:
        populate(node)
        node.token("planner")
        node.token("stranger")
        node.command(
            "token", "grant", "stranger", "--no-send", "*", "--send", "partner", "--state", str(node.state_dir)
        )
        yield node


@pytest.fixture
def stage(node: NodeProcess, a2a_python: Path, tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path, a2a_python, node) as stage:
        yield stage


@pytest.fixture
def mortal_stage(a2a_python: Path, tmp_path: Path) -> Iterator[Stage]:
    """One whose node may be killed."""
    with NodeProcess(tmp_path / "state") as node:
        populate(node)
        with Stage(tmp_path, a2a_python, node) as stage:
            yield stage


def test_the_parts_that_need_the_sdk_hold_their_bounds(a2a_python: Path) -> None:
    done = subprocess.run(
        [str(a2a_python), "-m", "tests.integration.a2a_insides"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout, done.stderr[-4000:]
    found = json.loads(done.stdout)
    assert found["wrong"] == {}, "\n".join(found["wrong"].values())
    assert found["scenes"] == 12


def test_no_task_is_lost_or_done_twice_when_the_node_and_the_door_are_killed(mortal_stage: Stage) -> None:
    stage = mortal_stage
    count = 30
    found = stage.play("crash", str(count))
    assert found["repeated"] == found["ids"]
    assert found["states"] == ["COMPLETED"] * count
    assert found["answers"] == [[f"did job {number}"] for number in range(count)]
    assert Counter(stage.log.read_text().split("\n")) == Counter(["", *(f"partner {one}" for one in found["ids"])])
    assert "was used for another message" in found["reused"]
    # The answers are in the door's file, so they lie in the caller's mailbox no more.
    stage.until(lambda: stage.mail_of("partner") == "")
    assert (sum(found["pages"]), found["total"], found["pages"][0]) == (count, count, 7)


def test_a_stream_goes_on_behind_the_end_of_the_door(stage: Stage) -> None:
    stage.start_worker()
    found = stage.play("streams")
    assert found["seen"][0] == "task SUBMITTED"
    assert "broken" in found["seen"]
    after = found["seen"][found["seen"].index("broken") + 1 :]
    assert after[0] in ("task SUBMITTED", "task WORKING")
    assert after[-2:] == ["artifact", "COMPLETED"]
    assert found["answers"] == ["did slow"]


def test_a_webhook_gets_each_notification_signed_though_it_fails_and_the_door_is_killed(stage: Stage) -> None:
    stage.start_worker()
    found = stage.play("pushes")
    assert [one["said"] for one in found["got"]] == ["TASK_STATE_WORKING", "artifact", "TASK_STATE_COMPLETED"]
    assert len({one["jti"] for one in found["got"]}) == 3
    assert {one["token"] for one in found["got"]} == {"secret"}
    told = stage.record(found["task"])
    assert [one["outcome"] for one in told["notifications"]] == ["HTTP 200"] * 3
    assert told["notifications"][0]["attempts"] >= 2
    assert told["state"] == "completed"
    assert stage.node.tokens["partner"] not in stage.errors()


def test_the_protocol_is_spoken_and_mistakes_are_sentences(stage: Stage) -> None:
    stage.start_worker()
    found = stage.play("look")
    card = found["card"]
    assert card["name"] == "worker"
    assert [one["id"] for one in card["skills"]] == ["message", "add"]
    assert found["again"] == 304
    assert found["signed"] == 1
    assert found["agents"] == ["partner", "planner", "stranger", "worker"]
    assert found["statuses"] == {
        "nobody": 404,
        "no token": 401,
        "wrong token": 401,
        "a page": 403,
        "another host": 421,
        "too large": 413,
    }
    assert found["0.3"]["result"]["status"]["state"] == "completed"
    assert found["0.3 again"]["result"]["id"] == found["0.3"]["result"]["id"]
    assert found["skill"] == ["COMPLETED", [3.0]]
    assert found["misfit"][0] == "REJECTED"
    assert found["raises"] == ["FAILED", "the disk is full"]
    assert found["canceled"] == "CANCELED"
    errors = found["errors"]
    assert errors["cancel"].startswith("TaskNotCancelableError")
    assert errors["get"].startswith("TaskNotFoundError")
    assert errors["say"].startswith("UnsupportedOperationError")
    assert errors["foreign"].startswith("TaskNotFoundError")
    assert errors["hook"].startswith("it was not refused")
    assert "is not on the public internet" in errors["metadata"]
    assert errors["forbidden"].startswith("UnsupportedOperationError")
    assert "Traceback" not in stage.errors()


def test_a_command_to_an_agent_of_a2a_is_one_task_though_its_envoy_is_killed(stage: Stage) -> None:
    stage.start_worker()
    envoy = stage.start_envoy()

    async def play() -> None:
        nonlocal envoy
        async with trishula.AsyncClient(url=stage.node.url, token=stage.node.tokens["partner"], timeout=30) as bus:
            await bus.send("planner", type="COMMAND", payload="slow", id="outgoing")
            stage.log_has(1)
            envoy.kill()
            envoy.wait()
            envoy = stage.start_envoy()
            stage.gate.touch()
            while not (await bus.status("outgoing"))["outgoing"].is_settled:
                await asyncio.sleep(0.05)
            answer = (await bus.request(uris.MAILBOX_ANSWER, "outgoing"))["message"]
            assert (answer["type"], answer["payload"]) == ("RESULT", "did slow")
            with pytest.raises(CallFailed, match="is failed: the disk is full"):
                await bus.call("planner", "fail", "x", timeout=30)
            stage.gate.unlink()
            await bus.send("planner", type="COMMAND", payload="slow", id="taken-back")
            stage.log_has(2)
            assert await bus.cancel("taken-back") == [True]

    in_own_loop(play)
    stage.until(lambda: sorted(one["state"] for one in stage.record()) == ["canceled", "completed", "failed"])
    assert len(stage.log.read_text().splitlines()) == 2


def test_a_door_whose_token_is_revoked_ends_with_a_sentence(stage: Stage, node: NodeProcess) -> None:
    node.token("porter")
    stage.doorkeeper = "porter"
    door = stage.kill_door()
    node.command("token", "revoke", "porter", "--all", "--reason", "retired", "--state", str(node.state_dir))
    assert door.wait(60) == 4
    assert "the token of porter is wrong or revoked; make a new one" in stage.errors()
