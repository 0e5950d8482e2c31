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

Printed are each run and the medians. No test: how fast a machine is decides nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def run(kind: str, seconds: float) -> float:
    """Messages handled a second, by an agent of a kind."""
    with ThrowawayNode(prefix="trishula-handlers-") as node, tempfile.TemporaryDirectory() as state:
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
                while sender.poll() is None:
                    samples.append((time.monotonic(), int(taker.stdout.readline())))
            finally:
                sender.kill()
                sender.wait()
        finally:
            taker.kill()
            taker.wait()
            taker.stdout.close()
    under_load = [sample for sample in samples if sample[1]][2:]
    (begin_s, before), (end_s, after) = under_load[0], under_load[-1]
    return (after - before) / (end_s - begin_s)


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
        found: dict[str, list[float]] = {kind: [] for kind in given.kinds}
        for _ in range(given.runs):
            for kind in given.kinds:
                found[kind].append(run(kind, given.seconds))
                print(f"{kind}: {found[kind][-1]:,.0f} messages/s", flush=True)
        for kind, rates in found.items():
            print(f"median of {kind}: {statistics.median(rates):,.0f} messages/s")


if __name__ == "__main__":
    main()
