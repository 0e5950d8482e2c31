"""``trishula wake`` beside a real node: each part a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.node import ROOT, NodeProcess, environment, is_alive

pytestmark = pytest.mark.node


def until(condition: Callable[[], Any], what: str) -> Any:
    """What the condition says, once it says something."""
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within a minute: {what}"
        time.sleep(0.05)
    return found


class Bench:
    """A node, the agent dc that sends, and the agent that is woken."""

    def __init__(self, node: NodeProcess, agent: str, path: Path) -> None:
        self.node = node
        self.agent = agent
        self.path = path
        self.log = path / "log"
        self.log.touch()

    def around(self, agent: str) -> dict[str, str]:
        return environment(
            TRISHULA_URL=self.node.url,
            TRISHULA_TOKEN=self.node.tokens[agent],
            TRISHULA_AGENT_STATE=str(self.path / "agents"),
        )

    def trishula(self, agent: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "trishula.cli.main", *arguments],
            capture_output=True,
            text=True,
            env=self.around(agent),
            timeout=60,
        )

    def send(self, message_id: str, *options: str) -> None:
        done = self.trishula("dc", "send", self.agent, "--text", "a secret", "--id", message_id, *options)
        assert done.returncode == 0, done.stderr

    def waker(self, command: str) -> subprocess.Popen[str]:
        with self.log.open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "trishula.cli.main", "wake", "--json", "--gap", "1s", "--command", command],
                stdout=log,
                stderr=log,
                env=self.around(self.agent),
                text=True,
            )

    def said(self) -> list[dict[str, Any]]:
        """What the wakers printed."""
        return [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("}\n")]

    def woken(self) -> list[str]:
        return [one["id"] for one in self.said() if "id" in one]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("waking") / "state") as node:
        for name in ("dc", "scout", "ranger", "reader", "lost", "last"):
            node.token(name)
        yield node


@pytest.fixture
def bench(node: NodeProcess, tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    return Bench(node, request.param, tmp_path)


@pytest.mark.parametrize("bench", ["scout"], indirect=True)
def test_mail_wakes_over_failures_and_restarts(bench: Bench) -> None:
    out, broken = bench.path / "out", bench.path / "broken"
    broken.touch()
    command = f"test ! -e {broken} || {{ echo still broken >&2; exit 3; }}; env | grep ^TRISHULA_WAKE >> {out}"
    first = bench.waker(command)
    try:
        bench.send("m1", "--priority", "2")
        failed = until(lambda: [one for one in bench.said() if "error" in one], "the failure is told")[0]
        assert failed["message"] == (
            "the wake failed: it ended with 3 and said: still broken; it is tried again in 5 s"
        )
        assert bench.woken() == []
        broken.unlink()
        until(bench.woken, "the wake is tried again")
        assert set(out.read_text().splitlines()) == {
            "TRISHULA_WAKE_ID=m1",
            "TRISHULA_WAKE_FROM=dc",
            "TRISHULA_WAKE_COUNT=1",
            "TRISHULA_WAKE_URGENT=1",
            "TRISHULA_WAKE_TEXT=TRISHULA: 1 message waits for you from dc, 1 urgent. Call the tool inbox of the server "
            "trishula.",
        }
        # A wake is no proof of anything: nobody took the message, and nobody saw it.
        (message,) = json.loads(bench.trishula("dc", "why", "m1", "--json").stdout)["messages"]
        assert (message["state"], message["attempts"], message["surfaced_at"]) == ("accepted", 0, None)
        # Another one would wake twice.
        second = bench.trishula("scout", "wake", "--command", command)
        assert f"another trishula wake (process {first.pid}) wakes the same for scout already" in second.stderr
        assert second.returncode == 78
    finally:
        first.kill()
        first.wait()

    bench.send("m2")
    third = bench.waker(command)
    try:
        until(lambda: len(bench.woken()) == 2, "what came meanwhile wakes")
        assert bench.woken() == ["m1", "m2"]
    finally:
        third.terminate()
        assert third.wait(30) == 0


@pytest.mark.parametrize("bench", ["ranger"], indirect=True)
def test_what_runs_is_ended_with_the_waker(bench: Bench) -> None:
    out = bench.path / "pid"
    waker = bench.waker(f"sleep 600 & echo $! > {out}.part; mv {out}.part {out}; wait")
    try:
        bench.send("w1")
        until(out.exists, "the command runs")
        slow = psutil.Process(int(out.read_text()))
        bench.send("w2", "--priority", "1")
    finally:
        waker.terminate()
        assert waker.wait(30) == 0
    until(lambda: not is_alive(slow), "the command is ended")
    # It was not through, so nothing is on record: the next one wakes for both, once.
    again = bench.waker("true")
    try:
        assert until(bench.woken, "the next one wakes") == ["w2"]
        assert bench.said()[-1]["waiting"] == 2
    finally:
        again.terminate()
        assert again.wait(30) == 0


@pytest.mark.parametrize("bench", ["reader"], indirect=True)
def test_why_tells_when_the_woken_model_has_read(bench: Bench) -> None:
    prefix = Path(sys.prefix)
    python = prefix.with_name(f"{prefix.name}-mcp") / "bin" / "python"
    assert python.exists(), f"there is no {python}: make venv makes it"
    read = bench.path / "read"
    waker = bench.waker(f"cd '{ROOT}' && '{python}' -m tests.integration.woken_model 2> '{read}'")
    try:
        bench.send("s1", "--priority", "5")
        bench.send("s2")
        until(bench.woken, "the wake is through")
        assert "| a secret" in read.read_text()
    finally:
        waker.terminate()
        assert waker.wait(30) == 0
    (life,) = json.loads(bench.trishula("dc", "why", "s2", "--json").stdout)["messages"]
    # It was not settled: the model's own call of inbox is what proves that the model has it.
    assert life["state"] in ("accepted", "delivered")
    assert life["accepted_at"] <= life["surfaced_at"]
    assert "reached reader's model at " in bench.trishula("dc", "why", "s2").stdout
    # Of low priority: its first words are shown, and not all of it.
    assert bench.woken() == ["s2"]


@pytest.mark.parametrize("bench", ["lost"], indirect=True)
def test_a_token_that_is_revoked_ends_what_waits_with_a_sentence(bench: Bench) -> None:
    waker = bench.waker("true")
    waiting: dict[Path, subprocess.Popen[str]] = {}
    for command in ("nudge --follow", "watch"):
        log = bench.path / command.partition(" ")[0]
        with log.open("w") as said:
            waiting[log] = subprocess.Popen(
                [sys.executable, "-m", "trishula.cli.main", *command.split()],
                stdout=said,
                stderr=said,
                env=bench.around(bench.agent),
                text=True,
            )
    try:
        bench.send("r1")
        until(bench.woken, "it wakes")
        for log in waiting:
            until(log.read_text, f"{log.name} has joined")
        state = str(bench.node.state_dir)
        bench.trishula("dc", "token", "revoke", "lost", "--all", "--reason", "a laptop was lost", "--state", state)
        assert waker.wait(60) == 4
        assert bench.said()[-1]["error"] == "trishula.error.token_invalid"
        for log, process in waiting.items():
            assert process.wait(60) == 4, log.name
            assert "the token of lost is wrong or revoked" in log.read_text(), log.name
    finally:
        for process in (waker, *waiting.values()):
            process.kill()
            process.wait()


@pytest.mark.parametrize("bench", ["last"], indirect=True)
def test_a_node_that_is_away_is_waited_for(bench: Bench) -> None:
    # The last test: the node is one of its own processes from here on.
    waker = bench.waker("true")
    try:
        bench.send("n1")
        until(bench.woken, "it wakes")
        port = bench.node.port
        bench.node.kill()
        until(lambda: any("error" in one for one in bench.said()), "that no node answers is told")
        bench.node.restart(port=port)
        bench.send("n2")
        until(lambda: len(bench.woken()) == 2, "mail wakes again at the node that came back")
        assert bench.woken() == ["n1", "n2"]
    finally:
        waker.terminate()
        code = waker.wait(30)
        bench.node.stop()
    assert code == 0
