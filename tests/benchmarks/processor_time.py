# ruff: noqa: T201  # a script that prints
"""What a message costs the processor at full speed: of its sender, its receiver, and the node's router worker.

::

    .venv/bin/python -m tests.benchmarks.processor_time                      # three runs of 8 s
    .venv/bin/python -m tests.benchmarks.processor_time --runs 1 --duration 2

It is ``trishula bench --max`` on a node of its own, with the time that each process spent on the processor while the
load ran. How many messages a second get through depends on whoever else is on the machine; this depends on it far less,
so it tells whether a change made a message dearer: compare runs in turns. In the worker it is that of all its threads,
the store's among them. No test: how fast a machine is decides nothing.
"""

from __future__ import annotations

import argparse
import json

import psutil

from trishula.tools.bench import Plan, measure
from trishula.tools.temporary_node import ThrowawayNode

#: What the first moments cost is not what the others do.
_SKIPPED = 2


class Watch:
    """Notes, each time that the bench tells how far it is, how long the processes have been on the processor."""

    def __init__(self, worker: int) -> None:
        self._processes = {"worker": psutil.Process(worker)}
        self._samples: list[tuple[int, dict[str, float]]] = []

    def told(self, sent: int, received: int) -> None:
        if len(self._processes) == 1:
            # The bench starts the receiver first.
            children = sorted(psutil.Process().children(), key=lambda child: child.create_time())
            workers = [child for child in children if "trishula.tools.bench_worker" in child.cmdline()]
            self._processes.update(zip(("receiver", "sender"), workers, strict=True))
        if received:
            spent_s = {name: sum(process.cpu_times()[:2]) for name, process in self._processes.items()}
            self._samples.append((received, spent_s))

    def costs_us(self, messages: int) -> dict[str, float]:
        """What a message cost each process, of a run with so many of them."""
        under_load = [sample for sample in self._samples if sample[0] < messages][_SKIPPED:]
        (begin, before_s), (end, after_s) = under_load[0], under_load[-1]
        return {name: (after_s[name] - before_s[name]) / (end - begin) * 1e6 for name in before_s}


def run(duration_s: float, size_bytes: int) -> None:
    """One run, and what it cost."""
    with ThrowawayNode(prefix="trishula-processor-") as node:
        watch = Watch(json.loads((node.state / "node.json").read_text())["pid"])
        plan = Plan(duration_s=duration_s, connections=1, rate=0.0, size_bytes=size_bytes)
        figures = measure(plan, url=node.url, token=node.token("bench"), on_progress=watch.told)
    costs_us = watch.costs_us(figures.messages)
    told = ", ".join(f"{name} {cost_us:.1f}" for name, cost_us in sorted(costs_us.items()))
    print(f"µs a message: {sum(costs_us.values()):.1f} ({told}); {figures.throughput_per_s:,.0f} messages/s")


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--duration", type=float, default=8.0, help="of a run, in seconds")
    parser.add_argument("--size", type=int, default=200, help="of a payload, in bytes")
    given = parser.parse_args()
    for _ in range(given.runs):
        run(given.duration, given.size)


if __name__ == "__main__":
    main()
