# ruff: noqa: T201  # a script that prints
"""One slow agent must not slow another: what a million messages to an agent that never acks do to everybody else.

::

    .venv/bin/python tests/benchmarks/slow_agent.py --messages 1000000

A node of its own; an agent ``slow`` that takes messages and never acknowledges one; ``flood``, which offers it messages
as fast as they go, whatever becomes of them. Beside it the bench measures others at 3 × 100 messages a second: before,
while the flood goes on, and after it with the slow agent's mailbox full. Printed are latencies and the memory of the
router worker. No test: how fast a machine is decides nothing.

Where the flood and the bench share few processors, the latency *during* the flood is mostly the wait for a processor;
what the slow agent's backlog costs, the latency *after* it shows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

import trishula
from trishula import uris
from trishula.awaiting import Pending
from trishula.bench import Figures, Plan, measure
from trishula.throwaway import ThrowawayNode, surroundings_of

#: As a client's outbox does.
BATCH = 128


def be_slow() -> None:
    """The agent that never acks: it is pushed to, and does nothing."""
    agent = trishula.Agent("slow")

    @agent.on("STATUS", ordered=False)
    async def heard(_: trishula.Message) -> None:
        await Pending[None]()

    agent.run()


def flood(count: int) -> None:
    """Offer messages to it; prints what became of them as JSON."""
    outcomes: Counter[str] = Counter()
    started_s = time.monotonic()
    with trishula.connect(timeout=60.0) as bus:
        for start in range(0, count, BATCH):
            batch = [
                {"type": "STATUS", "id": f"flood-{number}", "to": "slow", "payload": "x" * 200}
                for number in range(start, min(count, start + BATCH))
            ]
            for receipt in bus.request(uris.MAILBOX_SEND, batch, timeout_s=60.0):
                outcomes[receipt.get("error") or receipt["status"]] += 1
    print(json.dumps({"offered": count, "seconds": round(time.monotonic() - started_s, 1), **outcomes}), flush=True)


def child(role: str, node: ThrowawayNode, token: str, *more: str) -> subprocess.Popen[bytes]:
    """This script in another role."""
    return subprocess.Popen(
        [sys.executable, os.path.abspath(__file__), "--role", role, *more],
        env=surroundings_of(node.url, token, node.directory),
        stdout=subprocess.PIPE,
    )


def rss_mib(node: ThrowawayNode) -> float:
    """Memory of the router worker, in which the node's services run."""
    pid = json.loads((Path(node.state) / "node.json").read_text())["pid"]
    return float(psutil.Process(pid).memory_info().rss) / 1024**2


def line(name: str, figures: Figures, node: ThrowawayNode) -> None:
    """One row of the result."""
    print(
        f"{name:<22} one way p50 {figures.one_way_p50_ms:6.2f} ms, p99 {figures.one_way_p99_ms:7.2f} ms, "
        f"max {figures.one_way_max_ms:7.1f} ms; lost {figures.lost}, refused {figures.refused}; "
        f"node {rss_mib(node):6.1f} MiB",
        flush=True,
    )


def run(messages: int, seconds: float) -> None:
    """Measure before, during and after."""
    plan = Plan(seconds, connections=3, rate=100.0)
    with ThrowawayNode(prefix="trishula-slow-") as node, contextlib.ExitStack() as cleanup:
        others, slow, flooding = node.token("others"), node.token("slow"), node.token("flood")
        how: dict[str, Any] = {"url": node.url, "token": others}
        line("alone", measure(plan, **how), node)
        agent = child("slow", node, slow)
        cleanup.callback(agent.wait)
        cleanup.callback(agent.terminate)
        time.sleep(2.0)
        line("a slow agent, no mail", measure(plan, **how), node)
        offering = child("flood", node, flooding, "--messages", str(messages))
        cleanup.callback(offering.wait)
        cleanup.callback(offering.kill)
        while offering.poll() is None:
            line("during the flood", measure(plan, **how), node)
        assert offering.stdout is not None
        print("the flood:", offering.stdout.read().decode().strip(), flush=True)
        line("with the backlog", measure(plan, **how), node)
        line("with the backlog", measure(plan, **how), node)


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=100_000, help="how many are offered to the slow agent")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each measurement lasts")
    parser.add_argument("--role", choices=["run", "slow", "flood"], default="run", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role == "slow":
        be_slow()
    elif given.role == "flood":
        flood(given.messages)
    else:
        run(given.messages, given.seconds)


if __name__ == "__main__":
    main()
