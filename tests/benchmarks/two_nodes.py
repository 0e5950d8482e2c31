# ruff: noqa: T201  # a script that prints
"""Speed over two linked nodes on this machine: latency and throughput, with one copy and with two.

::

    python -m tests.benchmarks.two_nodes              # five runs of each, about six minutes
    python -m tests.benchmarks.two_nodes --runs 1 --seconds 5

Medians are printed, for the sender and the receiver at the same node and apart, so that what the second node costs
stands beside what the link costs. The rows of one run are measured in turns within it, because a machine's speed
changes from minute to minute.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.cluster import Cluster
from tests.support.node import environment

#: What is measured: (name, arguments of ``trishula bench``).
LATENCY = ["--connections", "3", "--rate", "100"]
ROWS: list[tuple[str, list[str]]] = [
    ("one node, copies 1", [*LATENCY, "--copies", "1"]),
    ("one node, copies 2", [*LATENCY, "--copies", "2"]),
    ("apart, copies 1", [*LATENCY, "--apart", "--copies", "1"]),
    ("apart, copies 2", [*LATENCY, "--apart", "--copies", "2"]),
    ("at most, one node, copies 1", ["--max", "--copies", "1"]),
    ("at most, one node, copies 2", ["--max", "--copies", "2"]),
    ("at most, apart, copies 2", ["--max", "--apart", "--copies", "2"]),
]


def bench(cluster: Cluster, seconds: float, arguments: list[str]) -> dict[str, Any]:
    """One run of ``trishula bench`` on the cluster."""
    urls = ",".join(node.url for node in cluster.nodes.values())
    done = subprocess.run(
        [sys.executable, "-m", "trishula.cli.main", "bench", "--duration", f"{seconds}s", "--json", *arguments],
        env=environment(TRISHULA_URL=urls, TRISHULA_TOKEN=cluster.tokens["bench"]),
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.stdout:
        raise SystemExit(done.stderr)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {name: [] for name, _ in ROWS}
    with tempfile.TemporaryDirectory(prefix="trishula-bench-") as directory:
        cluster = Cluster(Path(directory), ["agni", "rushabdev"])
        cluster.token("bench")
        with cluster:
            time.sleep(3.0)
            for _ in range(options.runs):
                for name, arguments in ROWS:
                    found[name].append(bench(cluster, options.seconds, arguments))
    head = f"{'':<30}{'one-way p50':>12}{'p99':>9}{'receipt p50':>13}{'p99':>9}{'msg/s':>9}{'lost':>6}{'copies':>8}"
    print(head)
    for name, runs in found.items():

        def median(key: str, runs: list[dict[str, Any]] = runs) -> float:
            return float(statistics.median(run[key] for run in runs))

        lost = sum(run["lost"] + run["refused"] for run in runs)
        copies = min(run["copies"] for run in runs)
        print(
            f"{name:<30}{median('one_way_p50_ms'):>9.2f} ms{median('one_way_p99_ms'):>6.1f} ms"
            f"{median('latency_p50_ms'):>10.2f} ms{median('latency_p99_ms'):>6.1f} ms"
            f"{median('throughput_per_s'):>9,.0f}{lost:>6}{copies:>8}"
        )


if __name__ == "__main__":
    main()
