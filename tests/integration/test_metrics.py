"""``/metrics`` of a real node: who may read it, and that all that the rules and the dashboard name is in it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.support.node import NodeProcess
from tests.support.prometheus import PROMTOOL, needs_promtool
from tests.support.scraped import Scraped
from tests.support.web import Got, ask

pytestmark = pytest.mark.node

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
        assert b"\ntrishula_node_ready 1.0\n" in got.body
    agent, stranger = ask(node, "/metrics", token=node.tokens["dc"]), ask(node, "/metrics", headers=ELSEWHERE)
    wrong = ask(node, "/metrics", token="boss.wrong")
    assert [got.code for got in (agent, stranger, wrong)] == [401, 401, 401]
    assert [got.headers["www-authenticate"] for got in (agent, stranger, wrong)] == ["Bearer"] * 3
    assert (b"no operator" in agent.body, b"credentials_file" in stranger.body, b"wrong" in wrong.body) == (
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
