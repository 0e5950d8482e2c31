"""``trishula slo``: its table, its exit codes, several nodes, and maintenance; texts of others give no orders."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest

from tests.support.fakebus import FakeBus
from trishula.cli.main import run
from trishula.cli.state import State
from trishula.contract import uris
from trishula.errors import BusUnreachable, KeyUnknown, NodeStopping, NotAllowed
from trishula.watching.objectives import Objectives
from trishula.watching.totals import Totals

HOSTILE = "\x1b[2Jdc"
NOW = 1_700_000_000_000


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRISHULA_TOKEN", "boss.not-a-secret")


def answer(node: str = "agni", down_s: float = 0.0, **more: Any) -> dict[str, Any]:
    """What a node says that is a month old."""
    windows = {}
    for name, window_s in (("5m", 300.0), ("1h", 3600.0), ("24h", 86_400.0), ("7d", 604_800.0), ("30d", 2_592_000.0)):
        totals = Totals(watched_s=window_s, up_s=max(0.0, window_s - down_s), present_s=window_s, done=5000, **more)
        totals.delivery_ms.add(1.3, 5000)
        windows[name] = totals.as_map()
    return {
        "node": node,
        "now": NOW,
        "targets": Objectives().as_map(),
        "windows": windows,
        "outages": [[NOW - round(down_s * 1000), NOW]] if down_s else [],
        "maintenance": [],
        "triggers": [],
    }


class Nodes:
    """A bus of fakes, one for each URL."""

    def __init__(self, **of_port: Any) -> None:
        self.buses = {f"ws://127.0.0.1:{port[1:]}/ws": FakeBus() for port in of_port}
        for bus, found in zip(self.buses.values(), of_port.values(), strict=True):
            if isinstance(found, BusUnreachable):
                bus.error = found
            else:
                bus.answers[uris.NODE_OBJECTIVES] = bus.answers[uris.ADMIN_MAINTENANCE] = [found]
                bus.answers[uris.NODE_STATUS] = [{"node": "agni", "version": "1.9"}]

    def connect(self, *, url: str, **how: Any) -> FakeBus:
        """Of several URLs: the first that is there."""
        *others, last = url.split(",")
        for one in others:
            with contextlib.suppress(BusUnreachable):
                return self.buses[one].connect(url=one, **how)
        return self.buses[last].connect(url=last, **how)

    def slo(self, capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
        connect: Any = self.connect
        code = run(["--url", ",".join(self.buses), "slo", *args], State(connect=connect))
        captured = capsys.readouterr()
        return code, captured.out, captured.err


def test_a_bus_that_keeps_its_objectives(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = Nodes(p1=answer()).slo(capsys)
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert list(lines) == ["Objective", "availability", "p50", "p99", "loss", "failover", "connect", "reconnects"]
    assert lines["p99"].split() == ["p99", "<", "100", "ms", "1.31", "ms", "100", "%", "0", "0", "0", "0", "0"]
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("told", "code"),
    [
        (answer(down_s=600.0), 0),
        # 1 % of a day is 864 s, 1 % of a month 25,920.
        (answer(down_s=900.0), 1),
        (answer(down_s=24_000.0), 1),
        (answer(down_s=26_000.0), 2),
        (answer(dead=6), 2),
        ({**answer(), "triggers": [{"trigger": "away", "reason": "agni is away"}]}, 1),
    ],
)
def test_exit_codes(capsys: pytest.CaptureFixture[str], told: dict[str, Any], code: int) -> None:
    assert Nodes(p1=told).slo(capsys)[0] == code


def test_several_nodes_are_one_bus(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = Nodes(p1=answer(down_s=26_000.0), p2=answer("rushabdev")).slo(capsys, "--json")
    told = json.loads(out)
    assert (code, told["nodes"], told["state"]) == (0, ["agni", "rushabdev"], "ok")
    assert told["windows"]["30d"]["done"] == 10_000
    assert told["verdicts"]["availability"]["24h"]["value"] == 1.0


def test_canaries_are_told_and_pairs_between_which_they_fail(capsys: pytest.CaptureFixture[str]) -> None:
    pair = {"road": "live", "canaries": 60, "p50_ms": 1}
    pairs = [{"from": HOSTILE, "to": "agni", "lost": 2, "p99_ms": 7, **pair}]
    pairs += [{"from": f"slow{number}", "to": "agni", "lost": 0, "p99_ms": 800, **pair} for number in range(6)]
    pairs += [{"from": "fine", "to": "agni", "lost": 0, "p99_ms": 3, **pair}]
    hour = Totals(canaries=480, canaries_lost=2, watched_s=3600.0, up_s=3600.0)
    hour.canary_ms.add(2.0, 478)
    told = answer()
    told["windows"]["1h"] = hour.as_map()
    code, out, err = Nodes(p1={**told, "canaries": pairs}, p2=answer("rushabdev")).slo(capsys)
    words = " ".join(err.split())
    assert code == 0 and "\x1b" not in out + err
    assert "canaries between agents of a node in the last hour: 480, 2 lost; one way p50 1.99 ms" in words
    assert "dc to agni: 2 of 60 lost, p99 7" in words and "and 2 more pairs, which --json has" in words
    assert "fine" not in words
    _, out, _ = Nodes(p1={**told, "canaries": pairs}).slo(capsys, "--json")
    assert [one["node"] for one in json.loads(out)["canaries"]] == ["agni"] * 8


def test_canaries_over_links_are_told_apart_and_a_peer_of_before_is_not_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hour = Totals(link_canaries=60, link_canaries_lost=1, watched_s=3600.0, up_s=3600.0)
    hour.link_canary_ms.add(4.0, 59)
    told = answer()
    told["windows"]["1h"] = hour.as_map()
    # Both ends tell of their own; a node of the release before tells nothing.
    nodes = Nodes(p1=told, p2={**answer("rushabdev"), "canaries_unmeasured": [HOSTILE]}, p3=answer("old"))
    code, out, err = nodes.slo(capsys)
    words = " ".join(err.split())
    assert code == 0 and "\x1b" not in out + err
    assert "canaries over links between nodes in the last hour: 60, 1 lost; one way p50 4" in words
    assert "canaries from rushabdev to" in words and "not measured" in words and "0, none lost" not in words
    _, out, _ = nodes.slo(capsys, "--json")
    assert json.loads(out)["canaries_unmeasured"] == [{"node": "rushabdev", "peer": HOSTILE}]


def test_one_url_that_leads_to_the_same_node_counts_once(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = Nodes(p1=answer(), p2=answer()).slo(capsys, "--json")
    assert json.loads(out)["windows"]["30d"]["done"] == 5000


def test_a_node_that_is_away_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = Nodes(p1=BusUnreachable("no node answers"), p2=answer("rushabdev")).slo(capsys)
    assert code == 0 and "ws://127.0.0.1:1/ws is not among them: no node answers" in " ".join(err.split())


def linked(*peers: dict[str, Any], records: list[Any], **more: Any) -> Nodes:
    """A node that answers, is linked, and has records of its peers; the second one of its bus is not there."""
    nodes = Nodes(p1=answer(**more), p2=BusUnreachable("no node answers"))
    bus = nodes.buses["ws://127.0.0.1:1/ws"]
    bus.answers[uris.NODE_STATUS] = [{"node": "agni", "version": "1.9", "peers": list(peers)}]
    bus.answers[uris.AUDIT_QUERY] = records
    return nodes


def page(*records: dict[str, Any]) -> dict[str, Any]:
    return {"records": list(records), "more": False, "after": 9}


DEAD = {"node": "rushabdev", "state": "down", "copied": 7}
UP = {"seq": 5, "node": "agni", "kind": "link", "peer": "rushabdev", "event": "up", "at": NOW - 9_000_000}
DOWN = {**UP, "seq": 6, "event": "down", "at": NOW - 5_000_000}
BEGUN = {"seq": 2, "node": "rushabdev", "kind": "node_started", "at": NOW - 2_000_000_000}
LAST = {"seq": 7, "node": "rushabdev", "kind": "left", "at": NOW - 6_000_000}


def test_a_linked_node_that_nobody_can_ask_is_known_until_its_last_sign_of_life(
    capsys: pytest.CaptureFixture[str],
) -> None:
    records = [page(UP, DOWN), page(BEGUN), page(LAST)]
    # agni was down for the last 6000 s: for the first 1000 of these its peer was there.
    code, out, err = linked(DEAD, records=records, down_s=6000.0).slo(capsys, "--json")
    told = json.loads(out)
    assert (code, told["not_asked"]) == (
        1,
        [{"node": "rushabdev", "known_until": NOW - 5_000_000, "stopped_at": None}],
    )
    assert told["windows"]["24h"]["up_s"] == 86_400 - 5000
    records = [page(UP, DOWN), page(BEGUN), page(LAST)]
    _, _, err = linked(DEAD, records=records).slo(capsys)
    assert "rushabdev could not be asked, and its last sign of life here is from 2023-11-14" in " ".join(err.split())


def test_a_linked_node_that_is_not_named_counts_as_its_journal_tells(capsys: pytest.CaptureFixture[str]) -> None:
    records = [page(UP), page(BEGUN), page(LAST)]
    _, out, _ = linked({**DEAD, "state": "up"}, records=records, down_s=6000.0).slo(capsys, "--json")
    told = json.loads(out)
    assert told["not_asked"] == [{"node": "rushabdev", "known_until": None, "stopped_at": None}]
    assert told["verdicts"]["availability"]["24h"]["value"] == 1.0
    records = [page(), page({**LAST, "kind": "node_stopped"}), page({**LAST, "kind": "node_stopped"})]
    _, _, err = linked(DEAD, records=records).slo(capsys)
    assert "rushabdev stopped at 2023-11-14" in " ".join(err.split())


def test_of_a_node_whose_journal_can_not_be_read_nothing_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = linked(DEAD, records=[KeyUnknown("kinds is no key of it")], down_s=6000.0).slo(capsys, "--json")
    told = json.loads(out)
    assert (code, told["not_asked"][0]["known_until"]) == (1, NOW)
    assert told["windows"]["24h"]["up_s"] == 86_400 - 6000


@pytest.mark.parametrize(
    ("fault", "code", "sentence"),
    [
        (BusUnreachable("no node answers"), 2, "no node answers"),
        (NotAllowed("it is for operators, and dc is none"), 3, "it is for operators, and dc is none"),
        (NodeStopping("the node takes no call of it now"), 3, "agni runs version 1.9"),
    ],
)
def test_nobody_to_ask(capsys: pytest.CaptureFixture[str], fault: Any, code: int, sentence: str) -> None:
    found, out, err = Nodes(p1=fault).slo(capsys)
    assert (found, out) == (code, "") and sentence in " ".join(err.split())


def test_without_a_token_nobody_can_be_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRISHULA_TOKEN")
    code, _, err = Nodes(p1=answer()).slo(capsys)
    assert code == 3 and "TRISHULA_TOKEN" in err


def test_what_others_say_gives_no_orders_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    told = answer(HOSTILE)
    told["triggers"] = [{"trigger": "away", "reason": HOSTILE}]
    told["maintenance"] = [{"begin": NOW, "until": NOW + 1, "reason": HOSTILE, "by": HOSTILE}]
    for args in ((), ("--json",)):
        _, out, err = Nodes(p1=told).slo(capsys, *args)
        assert "\x1b" not in out + err


def test_maintenance_is_declared_at_every_node(capsys: pytest.CaptureFixture[str]) -> None:
    told = {"begin": NOW, "until": NOW + 60_000, "reason": "disk", "by": "boss"}
    nodes = Nodes(
        p1={"node": "agni", "maintenance": told},
        p2={"node": "rushabdev", "maintenance": told},
        p3=BusUnreachable("no node answers"),
    )
    code, out, err = nodes.slo(capsys, "maintenance", "start", "--for", "1m", "--reason", "disk")
    assert code == 0 and [line.split(":")[0] for line in out.splitlines()] == ["agni", "rushabdev"]
    assert "was not told" in err
    asked = nodes.buses["ws://127.0.0.1:2/ws"].asked[-1]
    assert asked[1][:3] == (uris.ADMIN_MAINTENANCE, "start", {"for_s": 60.0, "reason": "disk"})


def test_maintenance_that_was_not_under_way(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = Nodes(p1={"node": "agni", "maintenance": None}).slo(capsys, "maintenance", "end")
    assert (code, out) == (0, "agni: no maintenance was under way\n")
    assert Nodes(p1=BusUnreachable("no node answers")).slo(capsys, "maintenance", "end")[0] == 6


@pytest.mark.parametrize(
    "args", [("--for", "8d"), ("--for", "0s"), ("--reason", "two\nlines"), ("--reason", "x" * 201)]
)
def test_maintenance_that_can_not_be(capsys: pytest.CaptureFixture[str], args: tuple[str, str]) -> None:
    code, _, err = Nodes(p1=None).slo(capsys, "maintenance", "start", *args)
    assert code == 2 and args[0] in err
