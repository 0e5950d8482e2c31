"""The drills of two linked nodes, with real processes and real faults: a short run of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checker.test_drill import drill, report_of


@pytest.mark.node
@pytest.mark.parametrize(
    ("name", "rounds"), [("failover", 1), ("netsplit", 2), ("cold-start", 1), ("rolling-restart", 1)]
)
def test_nothing_is_lost_and_nothing_runs_twice(name: str, rounds: int, tmp_path: Path) -> None:
    report = report_of(drill(name, "--rounds", str(rounds), "--seed", "3", "--json", TMPDIR=str(tmp_path)))
    assert (report["drill"], report["rounds"], report["seed"]) == (name, rounds, 3)
    assert report["faults"] >= rounds
    assert report["messages"] > 20 * rounds
    assert report["effects"] >= report["messages"] == report["sent"] - report["unpromised"]
    assert (report["lost"], report["twice"], report["violations"], report["refused"]) == (0, 0, [], {})
    figures = {key for key in report if key.endswith("_ms")}
    assert figures == {
        "failover": {"gap_p50_ms", "gap_max_ms"},
        "rolling-restart": {"delay_max_ms", "accept_delay_max_ms"},
    }.get(name, set())
    assert all(report[figure] > 0 for figure in figures)
    assert list(tmp_path.iterdir()) == [], "the throw-away directory is gone"


def test_linked_nodes_take_no_state_directory(tmp_path: Path) -> None:
    done = drill("netsplit", "--state", str(tmp_path))
    assert done.returncode == 2
    assert "which makes two nodes of its own; leave it out" in done.stderr
    assert list(tmp_path.iterdir()) == []
