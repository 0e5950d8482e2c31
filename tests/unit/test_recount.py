"""The recount of a report's figures: it agrees with a report that is right, and sees what is not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.recount import differences
from trishula.reports.summary import Summary

RECORDS: list[dict[str, Any]] = [
    {"seq": 1, "kind": "node_started", "at": 1000},
    {"seq": 2, "kind": "joined", "at": 1100, "agent": "dc", "session": 1},
    {"seq": 3, "kind": "accepted", "at": 2000, "from": "dc/1", "to": "agni", "id": "a"},
    {"seq": 4, "kind": "accepted", "at": 2100, "from": "dc/1", "to": "agni", "id": "b"},
    {"seq": 5, "kind": "done", "at": 2340, "messages": [3]},
    {"seq": 6, "kind": "link", "at": 2400, "event": "down", "peer": "rushabdev"},
    {"seq": 7, "kind": "node_started", "at": 7400},
    {"seq": 8, "kind": "link", "at": 7500, "event": "up", "peer": "rushabdev"},
    {"seq": 9, "kind": "returned", "at": 7600, "messages": [4]},
    {"seq": 10, "kind": "dead", "at": 7700, "messages": [4], "reason": "no"},
]
JOURNALS = {"agni": [{**record, "node": "agni"} for record in RECORDS]}


def made() -> dict[str, Any]:
    summary = Summary(500, 10_500)
    for record in JOURNALS["agni"]:
        summary.add(record)
    return summary.report({"node": "agni"}, 10_500)


def test_a_report_that_is_right_differs_in_nothing() -> None:
    report = made()
    assert differences(report, JOURNALS) == []
    assert (report["nodes"][0]["down_s"], report["messages"]["dead"], report["latency"]["max_ms"]) == (5.0, 1, 340)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("messages", "done"), 2, "messages done"),
        (("messages", "redeliveries"), 0, "redeliveries"),
        (("latency", "p99_ms"), 341, "latency p99_ms"),
        (("pairs", 0, "to"), "dc", "pairs"),
        (("series", 0, "accepted"), 1, "series"),
        (("nodes", 0, "availability"), 0.6, "agni available"),
        (("nodes", 0, "down"), [[2400, 7401]], "agni down"),
        (("incidents", 0, "from"), 2401, "a link is down"),
    ],
)
def test_each_figure_that_is_wrong_is_seen(place: tuple[Any, ...], value: object, said: str) -> None:
    report: Any = made()
    spot = report
    for key in place[:-1]:
        spot = spot[key]
    assert spot[place[-1]] != value
    spot[place[-1]] = value
    (found,) = differences(report, JOURNALS)
    assert said in found


def lost(*more: dict[str, Any]) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """A report of agni, which runs, and of a peer that nobody can ask; and what both journals have."""
    begun = {"seq": 1, "kind": "node_started", "node": "rushabdev", "at": 1500}
    down = {"seq": 11, "kind": "link", "at": 9000, "event": "down", "peer": "rushabdev", "node": "agni"}
    journals = {"agni": [*JOURNALS["agni"], down], "rushabdev": [begun, *more]}
    summary = Summary(500, 10_500)
    for record in [*journals["agni"], *journals["rushabdev"]]:
        summary.add(record)
    status = {"node": "agni", "peers": [{"node": "rushabdev", "state": "down"}]}
    return summary.report(status, 10_500), journals


@pytest.mark.parametrize("last", [None, 2000, 9500])
def test_a_node_that_nobody_can_ask_is_recounted_from_the_audit(last: int | None) -> None:
    more = [] if last is None else [{"seq": 2, "kind": "joined", "node": "rushabdev", "at": last, "agent": "dc"}]
    report, journals = lost(*more)
    (rushabdev,) = [one for one in report["nodes"] if one["node"] == "rushabdev"]
    assert rushabdev["unknown"] == [[max(9000, last or 0), 10_500]] and differences(report, journals) == []
    rushabdev["unknown"] = [[2000, 10_500]]
    assert any("rushabdev unknown" in one for one in differences(report, journals))


def test_a_node_that_was_killed_is_recounted_with_what_its_peer_saw() -> None:
    report, journals = lost({"seq": 2, "kind": "node_started", "node": "rushabdev", "at": 9800})
    (rushabdev,) = [one for one in report["nodes"] if one["node"] == "rushabdev"]
    assert rushabdev["down"] == [[9000, 9800]] and differences(report, journals) == []
