"""``/health`` and ``/ready`` of a real node: what they say, to whom, and that probes are no attackers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import NodeProcess
from tests.support.web import ask

pytestmark = pytest.mark.node

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"
PROXY = "127.0.0.9"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    directory = tmp_path_factory.mktemp("ready")
    config: dict[str, Any] = json.loads(SHIPPED.read_text())
    config["workers"][0]["components"][0]["extra"]["proxies"] = [PROXY]
    file = directory / "node.json"
    file.write_text(json.dumps(config))
    node = NodeProcess(directory / "state", config=file)
    node.token("dc")
    node.token("boss", operator=True)
    with node:
        yield node


def test_a_node_that_serves_is_healthy_and_ready(node: NodeProcess) -> None:
    healthy, ready = ask(node, "/health"), ask(node, "/ready")
    assert (healthy.code, healthy.map) == (200, {"alive": True})
    assert (ready.code, ready.map["ready"], ready.map["node"]) == (200, True, "single")
    assert [one for one in ready.map["checks"] if not one["ok"]] == []


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_a_page_is_read_only_and_tells_nothing_of_what_serves_it(node: NodeProcess, path: str) -> None:
    got, head = ask(node, path), ask(node, path, method="HEAD")
    assert (head.code, head.body, head.headers["content-length"]) == (200, b"", str(len(got.body)))
    assert got.headers["cache-control"] == "no-store"
    assert got.headers["server"] == "TRISHULA"
    assert got.headers["connection"] == "close"
    assert ask(node, path, method="PUT").code == 405
    assert ask(node, f"{path}/x").code == 404


def is_detailed(node: NodeProcess, **request: Any) -> bool:
    told = ask(node, "/ready", **request).map
    return "node" in told


def test_details_are_for_operators_and_for_this_machine(node: NodeProcess) -> None:
    stranger = {"source": PROXY, "headers": {"X-Forwarded-For": "203.0.113.7"}}
    assert is_detailed(node)
    assert is_detailed(node, source=PROXY, headers={"X-Forwarded-For": "127.0.0.1"})
    assert is_detailed(node, token=node.tokens["boss"], **stranger)
    assert not is_detailed(node, **stranger)
    # A proxy that names nobody, one that the node wasn't told of, and a page that had its own name point here.
    assert not is_detailed(node, source=PROXY)
    assert not is_detailed(node, headers={"X-Forwarded-For": "127.0.0.1"})
    assert not is_detailed(node, headers={"Host": "attacker.example"})


@pytest.mark.parametrize(
    ("shown", "sentence"),
    [
        ("Bearer boss.wrong", "the token of boss is wrong or revoked"),
        ("Bearer nobody.wrong", "the token of nobody is wrong or revoked"),
        ("Basic Ym9zczp4", "must be: Bearer name.secret"),
        ("Bearer <b>x</b>.y", "must be: Bearer name.secret"),
    ],
)
def test_who_shows_no_operators_token_is_told_so_and_nothing_else(node: NodeProcess, shown: str, sentence: str) -> None:
    got = ask(node, "/ready", headers={"Authorization": shown})
    assert got.code == 200
    assert sentence in got.map["note"]
    assert all(set(one) == {"check", "ok"} for one in got.map["checks"])


def test_an_agents_token_opens_no_details(node: NodeProcess) -> None:
    assert "no operator" in ask(node, "/ready", token=node.tokens["dc"]).map["note"]


def test_probes_are_not_counted_as_attackers(node: NodeProcess) -> None:
    for _ in range(200):
        assert ask(node, "/health").code == 200
    assert "had not joined were ended" not in node.log()
