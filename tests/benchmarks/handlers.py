# ruff: noqa: T201  # a script that prints
"""What a kind of handler costs: messages a second from one sender to one agent, by how the agent's handler is written.

::

    .venv/bin/python -m tests.benchmarks.handlers                        # three runs of 4 s for each kind
    .venv/bin/python -m tests.benchmarks.handlers --runs 1 --seconds 1

On a node of its own, an agent with its file takes messages of one sender, which has up to 256 of them under way. The
kinds take turns, so that what else the machine does hits all alike:

``plain``      a plain function, ordered
``async``      ``async def`` that awaits nothing, ordered
``awaiting``   ``async def`` that awaits ``asyncio.sleep(0)`` once, ordered
``unordered``  ``async def`` that awaits nothing, ``ordered=False``

Printed are each run and the medians: messages a second, and the time of the processor that the agent and the node's
worker take for each, which says more where other things run beside. No test: how fast a machine is decides nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

import trishula
from trishula.tools.temporary_node import ThrowawayNode

KINDS = ("plain", "async", "awaiting", "unordered")
#: How the sender sends: so many at once, and before their receipts are there so many times.
BATCH, LANES = 128, 2
#: Of the taker.
WINDOW = 256
_START_S = 30.0


def take(kind: str, url: str, token: str, state: str) -> None:
    """An agent of a kind; prints how many messages it has handled, ten times a second."""
    agent = trishula.Agent("taker", url=url, token=token, state=state, window=WINDOW)
    handled = 0

    def plain(message: trishula.Message) -> None:
        nonlocal handled
        handled += 1

    async def not_awaiting(message: trishula.Message) -> None:
        nonlocal handled
        handled += 1

    async def awaiting(message: trishula.Message) -> None:
        nonlocal handled
        await asyncio.sleep(0)
        handled += 1

    handler = {"plain": plain, "awaiting": awaiting}.get(kind, not_awaiting)
    agent.on("STATUS", ordered=kind != "unordered")(handler)

    @agent.on_start
    async def told() -> None:
        while True:
            print(handled, flush=True)
            await asyncio.sleep(0.1)

    agent.run()


def send(url: str, token: str, seconds: float) -> None:
    """Send to the taker for so long, with a window of receipts."""

    async def main() -> None:
        async with trishula.AsyncClient(url=url, token=token) as client:
            end_s = time.monotonic() + seconds
            messages = [{"to": "taker", "payload": {"text": "x" * 200}}] * BATCH

            async def lane() -> None:
                while time.monotonic() < end_s:
                    await client.send_many(messages)

            await asyncio.gather(*(lane() for _ in range(LANES)))

    asyncio.run(main())


@dataclass(frozen=True)
class Sample:
    """Where a run is: since when, how many messages were handled, the time of the processor that was taken, in s."""

    at_s: float
    handled: int
    agent_s: float
    worker_s: float


@dataclass(frozen=True)
class Found:
    """What a run has found: messages a second; of the processor the agent's and the worker's µs a message."""

    rate: float
    agent_us: float
    worker_us: float

    def __str__(self) -> str:
        return (
            f"{self.rate:,.0f} messages/s; of the processor for each {self.agent_us:.0f} µs by the agent, "
            f"{self.worker_us:.0f} µs by the node's worker"
        )


def _used_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def run(kind: str, seconds: float) -> Found:
    """Let an agent of a kind handle messages."""
    with ThrowawayNode(prefix="trishula-handlers-") as node, tempfile.TemporaryDirectory() as state:
        worker = psutil.Process(json.loads((Path(node.state) / "node.json").read_text())["pid"])
        me = [sys.executable, "-m", "tests.benchmarks.handlers"]
        taker = subprocess.Popen(
            [*me, "--take", kind, node.url, node.token("taker"), str(Path(state) / "agent")],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert taker.stdout is not None
        try:
            taker.stdout.readline()
            sender = subprocess.Popen([*me, "--send", node.url, node.token("sender"), "--seconds", str(seconds)])
            samples = []
            try:
                agent = psutil.Process(taker.pid)
                while sender.poll() is None:
                    handled = int(taker.stdout.readline())
                    samples.append(Sample(time.monotonic(), handled, _used_s(agent), _used_s(worker)))
            finally:
                sender.kill()
                sender.wait()
        finally:
            taker.kill()
            taker.wait()
            taker.stdout.close()
    under_load = [sample for sample in samples if sample.handled][2:]
    first, last = under_load[0], under_load[-1]
    count = last.handled - first.handled
    return Found(
        count / (last.at_s - first.at_s),
        (last.agent_s - first.agent_s) / count * 1e6,
        (last.worker_s - first.worker_s) / count * 1e6,
    )


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a run")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--take", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--send", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.take:
        take(*given.take)
    elif given.send:
        url, token = given.send
        send(url, token, given.seconds)
    else:
        found: dict[str, list[Found]] = {kind: [] for kind in given.kinds}
        for _ in range(given.runs):
            for kind in given.kinds:
                found[kind].append(run(kind, given.seconds))
                print(f"{kind}: {found[kind][-1]}", flush=True)
        for kind, runs in found.items():
            middle = Found(
                statistics.median(one.rate for one in runs),
                statistics.median(one.agent_us for one in runs),
                statistics.median(one.worker_us for one in runs),
            )
            print(f"median of {kind}: {middle}")


if __name__ == "__main__":
    main()
