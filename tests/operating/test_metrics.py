"""``/metrics`` of a real node: who may read it, and that all that the rules and the dashboard name is in it."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.support.alerts import expressions, look_commands, names_in
from tests.support.node import NodeProcess, environment
from tests.support.prometheus import PROMTOOL, needs_promtool
from tests.support.scraped import Scraped
from tests.support.web import Got, ask

pytestmark = pytest.mark.node

#: Commands begin at once, on a machine that others use as well.
GENEROUS_S = 120.0
ELSEWHERE = {"X-Forwarded-For": "203.0.113.7"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    node = NodeProcess(tmp_path_factory.mktemp("metrics") / "state")
    node.token("dc")
    node.token("agni")
    node.token("boss", operator=True)
    with node:
        yield node


def metrics(node: NodeProcess) -> Scraped:
    got = ask(node, "/metrics")
    assert got.code == 200
    return Scraped(got.body)


def test_metrics_are_for_operators_and_for_this_machine(node: NodeProcess) -> None:
    here, operator = ask(node, "/metrics"), ask(node, "/metrics", token=node.tokens["boss"], headers=ELSEWHERE)
    for got in (here, operator):
        assert (got.code, got.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        # Which of the two values, is the machine's matter: a node that has just started is not ready yet.
        assert b"\ntrishula_node_ready " in got.body
    agent, stranger = ask(node, "/metrics", token=node.tokens["dc"]), ask(node, "/metrics", headers=ELSEWHERE)
    wrong = ask(node, "/metrics", token="boss.wrong")
    assert [got.code for got in (agent, stranger, wrong)] == [401, 401, 401]
    assert [got.headers["www-authenticate"] for got in (agent, stranger, wrong)] == ["Bearer"] * 3
    assert (b"it is neither" in agent.body, b"credentials_file" in stranger.body, b"wrong" in wrong.body) == (
        True,
        True,
        True,
    )
    assert not any(b"trishula_" in got.body for got in (agent, stranger, wrong))


def test_it_is_a_page_like_the_others(node: NodeProcess) -> None:
    got, head = ask(node, "/metrics"), ask(node, "/metrics", method="HEAD")
    assert (head.code, head.body) == (200, b"")
    assert (got.headers["connection"], got.headers["cache-control"]) == ("close", "no-store")
    assert ask(node, "/metrics", method="POST").code == 405


@needs_promtool
def test_promtool_takes_a_real_scrape(node: NodeProcess) -> None:
    got: Got = ask(node, "/metrics")
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=got.body, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


# -- what operators watch a node with ----------------------------------------------------------------------------------

#: Only nodes with peers have them, or with TLS, mirrors (test_mirrors) or cells (test_cells); the unit tests have them.
NOT_ALONE = ("trishula_peer_", "trishula_link_", "trishula_certificate_", "trishula_mirror_", "trishula_cells_")


def begin(node: NodeProcess, agent: str, *words: str) -> subprocess.Popen[str]:
    """Begin a command of an agent's."""
    where = environment(TRISHULA_URL=node.url, TRISHULA_TOKEN=node.tokens[agent])
    line = [sys.executable, "-m", "trishula.cli.main", *words]
    return subprocess.Popen(line, env=where, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_what_rules_and_dashboard_name_is_in_a_real_scrape(node: NodeProcess) -> None:
    # Refused, and denied; and one that waits for nobody.
    lines = [("send", "nobody", "--text", "x"), ("mailboxes",), ("send", "agni", "--text", "x")]
    said = [process.communicate(timeout=GENEROUS_S)[0] for process in [begin(node, "dc", *line) for line in lines]]
    asked = {name for expression in expressions() for name in names_in(expression)} - {"up"}
    asked = {name for name in asked if not name.startswith(NOT_ALONE)}
    found, deadline_s = metrics(node), time.monotonic() + GENEROUS_S
    # A scrape is given again for a second, and the one of before all this may be that young.
    while asked - found.names:
        assert time.monotonic() < deadline_s, (sorted(asked - found.names), said)
        time.sleep(0.2)
        found = metrics(node)
    # What TrishulaNoConsumer and TrishulaAgentAway look at.
    assert (found["trishula_mailbox_waiting_messages", "agni"], found["trishula_mailbox_consumed", "agni"]) == (1, 0)
    assert found["trishula_agent_present", "agni"] == 0


@pytest.mark.parametrize("line", look_commands())
def test_a_command_to_look_with_runs_against_a_real_node(node: NodeProcess, line: str) -> None:
    process = begin(node, "boss", *shlex.split(line.replace("STATE", str(node.state_dir)))[1:])
    said, _ = process.communicate(timeout=GENEROUS_S)
    # The doctor ends with 1 where it has something to remark.
    assert process.returncode in ((0, 1) if "doctor" in line else (0,)), said
