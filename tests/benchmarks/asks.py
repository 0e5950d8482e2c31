# ruff: noqa: T201  # a script that prints
"""What a durable call costs the processor: of who asks, of who answers, and of the node's router worker.

::

    .venv/bin/python -m tests.benchmarks.asks                              # three runs of 3 s
    .venv/bin/python -m tests.benchmarks.asks --runs 1 --in-flight 1

Two agents with their files on a node of its own; one asks the other, with so many questions under way
(``--in-flight``), and each answer is waited for by an asyncio task. How many a second get through depends on whoever
else is on the machine; the time of the processor, of all threads, depends on it far less: compare runs in turns. No
test: how fast a machine is decides nothing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import psutil

from tests.benchmarks.beside_peers import IN_FLIGHT, SIZE_BYTES, Worker
from tests.benchmarks.peers.servers import SYSTEMS

_WARM_S = 0.5


def _spent_s(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:2]))


def run(in_flight: int, seconds: float) -> None:
    """One run, printed."""
    with (
        tempfile.TemporaryDirectory(prefix="asks-", ignore_cleanup_errors=True) as folder,
        SYSTEMS["trishula"].start(Path(folder)) as server,
    ):
        common = {"system": "trishula", "address": server.address, "size_bytes": SIZE_BYTES}
        ends: list[Worker] = []
        try:
            for role in ({"role": "receiver"}, {"role": "sender", "connections": 1}):
                ends.append(Worker(sys.executable, {**role, **common}))
            answers, asks = (psutil.Process(end.pid) for end in ends)
            # The controller does nothing meanwhile.
            watched = {"asks": [asks], "answers": [answers], "node": server.processes}
            order = {"do": "ask", "in_flight": in_flight}
            ends[-1].order({**order, "seconds": _WARM_S})
            before = {name: sum(map(_spent_s, those)) for name, those in watched.items()}
            told = ends[-1].order({**order, "seconds": seconds})
            after = {name: sum(map(_spent_s, those)) for name, those in watched.items()}
        finally:
            for end in reversed(ends):
                end.end()
    count = len(told["waits_ns"])
    costs_us = {name: (after[name] - before[name]) / count * 1e6 for name in watched}
    p50_ms = statistics.median(told["waits_ns"]) / 1e6
    each = ", ".join(f"{name} {cost_us:.0f}" for name, cost_us in costs_us.items())
    print(
        f"µs an ask: {sum(costs_us.values()):.0f} ({each}); {count / told['took_s']:,.0f} asks/s, p50 {p50_ms:.2f} ms",
        flush=True,
    )


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a run")
    parser.add_argument("--in-flight", type=int, default=IN_FLIGHT, help="how many questions are under way")
    given = parser.parse_args()
    for _ in range(given.runs):
        run(given.in_flight, given.seconds)


if __name__ == "__main__":
    main()
