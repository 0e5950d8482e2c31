"""The logs of a node and of an agent, as real processes write them: their forms, what is in none, and rotation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import NodeProcess, environment
from tests.support.raw import RawClient
from trishula.contract import uris

pytestmark = pytest.mark.node

PAYLOAD = "a payload that nobody logs"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def until(condition: Callable[[], object], what: str, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def lines_of(text: str) -> list[dict[str, Any]]:
    """Each line as JSON; one that is none fails."""
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    found = NodeProcess(
        tmp_path_factory.mktemp("logs") / "state",
        within=["env", "TRISHULA_LOG_FORMAT=json", "TRISHULA_LOG_LEVEL=debug"],
    )
    found.token("dc")
    found.token("agni")
    with found:
        yield found


def test_a_nodes_log_is_json_and_holds_no_payload_and_no_secret(node: NodeProcess) -> None:
    with RawClient(node.url) as dc:
        dc.open()
        dc.join("dc", node.tokens["dc"])
        for number in range(50):
            message = {"type": "STATUS", "id": f"m-{number}", "to": "agni", "payload": PAYLOAD}
            assert dc.call(uris.MAILBOX_SEND, [message])[0]["status"] == "accepted"
    agents = node.state_dir / "agents.json"
    node.token("rushabdev")
    before = agents.read_text()
    node.wait_log("the agents file changed and was read again", 30.0)
    agents.write_text("{ broken")
    node.wait_log("goes on with what it said last", 30.0)
    agents.write_text(before)
    text = node.log()
    lines = lines_of(text)
    assert all({"time", "level", "logger", "message", "node"} <= line.keys() for line in lines)
    assert len({line["node"] for line in lines}) == 1
    # Crossbar's own lines of that level show what clients hand over.
    quiet = [line for line in lines if line["level"] in ("info", "debug")]
    assert not any(line["logger"].startswith(("crossbar", "autobahn", "txaio")) for line in quiet)
    (changed, *_) = [line for line in lines if line["message"].startswith("the agents file changed")]
    assert (changed["level"], changed["logger"]) == ("info", "trishula_router.housekeeping")
    assert all(secret.partition(".")[2] not in text for secret in node.tokens.values())
    assert PAYLOAD not in text


def test_a_log_that_was_renamed_is_opened_anew(node: NodeProcess) -> None:
    log, aside = node.state_dir / "node.log", node.state_dir / "node.log-20261128"
    log.rename(aside)
    until(log.exists, "the node did not make its log anew")
    assert log.stat().st_mode & 0o777 == 0o600
    size = aside.stat().st_size
    node.token("helper")
    node.wait_log("the agents file changed and was read again", 30.0)
    assert aside.stat().st_size == size
    lines_of(node.log())


AGENT = """
import logging, trishula
agent = trishula.Agent("agni", state=False)

@agent.on("STATUS")
def heard(message):
    logging.getLogger("bot").warning("heard %s", message.subject)

@agent.procedure()
def fail(text):
    raise ValueError("no\\n2026-11-28T00:00:00 forged")
"""


def test_an_agents_log_names_the_message_and_its_trace(node: NodeProcess, tmp_path: Path) -> None:
    (tmp_path / "bot.py").write_text(AGENT)
    log = tmp_path / "agent.log"
    with log.open("w") as out:
        agent = subprocess.Popen(
            [sys.executable, "-m", "trishula.cli.main", "agent", "run", "--log-format", "json", "./bot.py"],
            cwd=tmp_path,
            env={
                **environment(),
                "TRISHULA_URL": node.url,
                "TRISHULA_TOKEN": node.tokens["agni"],
                "HOME": os.fspath(tmp_path),
            },
            stderr=out,
            stdin=subprocess.DEVNULL,
        )
        try:
            until(lambda: "has joined" in log.read_text() or agent.poll() is not None, "the agent did not join")
            assert agent.poll() is None, log.read_text()
            with RawClient(node.url) as dc:
                dc.open()
                dc.join("dc", node.tokens["dc"])
                trace = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
                command = {"procedure": "fail", "payload": {"args": [PAYLOAD], "kwargs": {}}}
                sent = [
                    {"type": "STATUS", "id": "s-1", "to": "agni", "payload": PAYLOAD, "subject": "tea", **trace},
                    {"type": "COMMAND", "id": "c-1", "to": "agni", **command, **trace},
                ]
                assert [one["status"] for one in dc.call(uris.MAILBOX_SEND, sent)] == ["accepted", "accepted"]
            until(lambda: "ValueError" in log.read_text(), "the failure was not logged")
            until(lambda: "heard tea" in log.read_text(), "the message was not logged")
        finally:
            agent.terminate()
            agent.wait(20.0)
    text = log.read_text()
    lines = lines_of(text)
    assert {line["agent"] for line in lines} == {"agni"}
    (heard,) = [line for line in lines if line["logger"] == "bot" and line.get("message_id") == "s-1"]
    assert heard.items() >= {"message": "heard tea", "level": "warning", "peer": "dc", "trace_id": TRACE}.items()
    (failed,) = [line for line in lines if "traceback" in line]
    assert failed.items() >= {"message_id": "c-1", "peer": "dc", "trace_id": TRACE, "level": "error"}.items()
    assert failed["traceback"].endswith("ValueError: no\n  2026-11-28T00:00:00 forged")
    assert PAYLOAD not in text
    assert node.tokens["agni"].partition(".")[2] not in text
