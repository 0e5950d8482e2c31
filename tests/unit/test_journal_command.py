"""``trishula journal status``: how full each node's store is, and when it will be full by the node's own measure."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.fakebus import FakeBus
from trishula.cli.main import run
from trishula.cli.state import State
from trishula.contract import uris
from trishula.errors import NodeStopping

MIB = 1024 * 1024


def told(node: str, used: int = 10, room: int | None = 90) -> dict[str, Any]:
    store = {"used_bytes": used * MIB, "limit_bytes": 100 * MIB, "room_bytes": None if room is None else room * MIB}
    return {"node": node, "high_water": 4321, "store": store}


def ready(**figures: Any) -> dict[str, Any]:
    check = {"check": "disk", "ok": True, "reason": "", **figures}
    return {"ready": True, "checks": [{"check": "running", "ok": True, "reason": ""}, check]}


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> FakeBus:
    monkeypatch.setenv("TRISHULA_URL", "ws://agni:1,ws://rushabdev:1")
    monkeypatch.setenv("TRISHULA_TOKEN", "ops.secret-secret-secret")
    return FakeBus()


def status(bus: FakeBus, capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    connect: Any = bus.connect
    code = run(["journal", "status", *args], State(connect=connect))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_each_node_tells_what_its_store_takes_and_how_long_it_lasts(
    bus: FakeBus, capsys: pytest.CaptureFixture[str]
) -> None:
    bus.answers[uris.NODE_STATUS] = [told("agni"), told("rushabdev", 85, 15)]
    bus.answers[uris.NODE_READY] = [
        ready(full_in_h=240.0, growth_bytes_per_h=MIB),
        ready(full_in_h=None, growth_bytes_per_h=-MIB, reason="the store is 85% full\x1b[2J"),
    ]
    code, out, err = status(bus, capsys)
    rows = [line.split() for line in out.splitlines()]
    assert code == 0
    assert rows[1][:2] == ["agni", "4321"] and rows[1][-4:] == ["MiB", "about", "10.0", "d"]
    assert "10%" in rows[1] and "+24" in rows[1]
    assert "85%" in rows[2] and "-24" in rows[2] and rows[2][-1] == "–"
    assert "rushabdev: the store is 85% full" in err and "\x1b" not in out + err


def test_as_json_and_a_node_that_knows_less(bus: FakeBus, capsys: pytest.CaptureFixture[str]) -> None:
    bus.answers[uris.NODE_STATUS] = [told("agni"), NodeStopping("it is stopping")]
    bus.answers[uris.NODE_READY] = [{"ready": True, "checks": []}]
    code, out, _ = status(bus, capsys, "--json")
    (one,) = json.loads(out)["nodes"]
    assert code == 0
    assert (one["full"], one["growth_bytes_per_day"], one["full_in_h"]) == (0.1, None, None)
    assert list(json.loads(out)["not_reached"].values()) == ["it is stopping"]


def test_a_store_in_memory_has_no_bounds(bus: FakeBus, capsys: pytest.CaptureFixture[str]) -> None:
    bus.answers[uris.NODE_STATUS] = [told("agni", room=None)] * 2
    bus.answers[uris.NODE_READY] = [ready()] * 2
    code, out, _ = status(bus, capsys)
    assert code == 0 and "%" not in out


def test_where_no_node_answers_the_first_says_why(bus: FakeBus, capsys: pytest.CaptureFixture[str]) -> None:
    bus.answers[uris.NODE_STATUS] = [NodeStopping("it is stopping"), NodeStopping("it is stopping too")]
    code, out, err = status(bus, capsys)
    assert code != 0 and out == "" and "it is stopping" in err


def test_what_the_files_take_and_what_of_it_is_free(bus: FakeBus, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [told("agni"), told("rushabdev")]
    for node, can_shrink in zip(nodes, (True, False), strict=True):
        node["store"].update(size_bytes=64 * MIB, unused_bytes=32 * MIB, can_shrink=can_shrink)
    bus.answers[uris.NODE_STATUS] = nodes
    bus.answers[uris.NODE_READY] = [ready()] * 2
    code, _, err = status(bus, capsys)
    first, second = err.splitlines()
    assert code == 0
    assert first == "agni: its files take 64 MiB on the disk, and 32 MiB of that are free"
    assert second.startswith("rushabdev: ") and second.endswith("stop the node and run: trishula node compact")
