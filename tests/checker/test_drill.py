"""The drill itself, with real processes and real faults: a short run of each kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.node import environment


def drill(*arguments: str, timeout_s: float = 300.0, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trishula.cli.main", "drill", *arguments],
        capture_output=True,
        text=True,
        env=environment(**variables),
        timeout=timeout_s,
    )


def report_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr + done.stdout
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.node
@pytest.mark.parametrize(
    ("name", "rounds"),
    [
        ("kill9", 2),
        ("kill9-agent", 2),
        ("kill9-both", 1),
        ("restart", 1),
        ("freeze", 1),
        ("network", 8),
        ("disk-full", 1),
        ("fsync", 1),
        ("clock", 3),
    ],
)
def test_nothing_is_lost_and_nothing_runs_twice(name: str, rounds: int, tmp_path: Path) -> None:
    report = report_of(drill(name, "--rounds", str(rounds), "--seed", "3", "--json", TMPDIR=str(tmp_path)))
    assert (report["drill"], report["rounds"], report["seed"]) == (name, rounds, 3)
    assert report["faults"] >= rounds
    assert sum(report["faults_by_kind"].values()) == report["faults"]
    assert report["messages"] > 20 * rounds
    assert report["effects"] >= report["messages"] == report["sent"] - report["unpromised"]
    assert (report["lost"], report["twice"], report["violations"], report["refused"]) == (0, 0, [], {})
    assert list(tmp_path.iterdir()) == [], "the throw-away directory is gone"


def test_the_clock_of_a_node_in_use_is_not_set(tmp_path: Path) -> None:
    done = drill("clock", "--state", str(tmp_path))
    assert done.returncode == 2
    assert "messages that wait there would expire" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.node
def test_a_killed_drill_leaves_no_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trishula.cli.main", "drill", "kill9", "--rounds", "50", "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(TMPDIR=str(tmp_path))
    )
    try:
        directory = _wait_for_clients(tmp_path)
        assert directory.exists()
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        out, err = process.communicate(timeout=60.0)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 128 + 15, out + err
    assert psutil.wait_procs(family, timeout=5.0)[1] == []
    assert list(tmp_path.iterdir()) == []


def _wait_for_clients(tmp_path: Path) -> Path:
    import time

    until_s = time.monotonic() + 60.0
    while time.monotonic() < until_s:
        for history in tmp_path.glob("trishula-drill-*/leg1/*.jsonl"):
            if history.name.startswith("drill_") and os.stat(history).st_size:
                return history.parent
        time.sleep(0.05)
    raise AssertionError("no client has begun")
