# ruff: noqa: T201  # a script that prints
"""One slow agent must not slow another: what a million messages to an agent that never acks do to everybody else.

::

    .venv/bin/python tests/benchmarks/slow_agent.py                                     # 1,000,000 offered, about 6 min
    .venv/bin/python tests/benchmarks/slow_agent.py --messages 20000 --cycles 2 --seconds 3      # to see that it works

On a node of its own, phases take turns, several times in one run, so that what else the machine does hits all alike. In
each of them the bench measures others at 3 × 100 messages a second (one way, from ``send()`` to the handler):

``alone``        nobody else sends
``healthy``      beside them a sender offers messages, at a fixed rate, to an agent that acknowledges each
``slow``         the same sender offers messages, at the same rate, to an agent that takes its window and never acks

Two things are to be kept apart. *Being offered to* costs everybody, whoever it is for: the sender, the node and the
bench share few processors. So ``slow`` is to be compared with ``healthy``, which differs in nothing but the acks. And
*what is stuck*: the mailbox of the slow agent fills up to its sender's share of it (45,000), what comes then is
refused with a time to try again, and the sender, a plain one, does not. So phases are told apart by that too: ``slow``
while it fills and when it is full, ``alone`` and ``healthy`` before anything is stuck and beside all of it. What the
stuck messages themselves cost, ``alone`` before and after tells.

Printed are each phase, the medians of the phases of a kind, what became of what was offered, and the memory of the
node's router worker from before the first offer to the end. No test: how fast a machine is decides nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import select
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import psutil

import trishula
from trishula.contract import uris
from trishula.tools.bench import Figures, Plan, measure
from trishula.tools.temporary_node import ThrowawayNode, surroundings_of, terminate

#: As a client's outbox does.
BATCH = 64
#: The same for the slow and the healthy agent.
WINDOW = 256
#: What a bench needs besides what it measures: its processes, its warm-up, its last receipts.
OVERHEAD_S = 3.5
SAMPLE_EVERY_S = 0.25


# -- the other processes -----------------------------------------------------------------------------------------------


def take(*, acks: bool) -> None:
    """An agent that is pushed to, and acks what it gets or never does."""
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred

    from trishula.client import Client
    from trishula.contract.deliveries import Delivery
    from trishula.settings import load

    client = Client(load())

    def taken(deliveries: list[Delivery]) -> None:
        if acks:
            client.ack([delivery.token for delivery in deliveries])

    async def live() -> None:
        client.attach(taken, window=WINDOW, heartbeat_s=10.0)
        await client.start()
        print("ready", flush=True)

    reactor: object = installed
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(live()))  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]


def offer() -> None:
    """A plain sender: offers at a rate until it is told to stop, whatever becomes of it.

    Each line on standard input is ``<to> <messages a second> <at most>``; an empty one ends the offer, and is answered
    by a line of JSON with what became of it. It ends with its input.
    """
    number = 0
    with trishula.connect(timeout=60.0) as bus:
        print("ready", flush=True)
        for line in iter(sys.stdin.readline, ""):
            to, rate, most = line.split()
            outcomes: Counter[str] = Counter()
            offered, began_s = 0, time.monotonic()
            while not select.select([sys.stdin], [], [], 0.0)[0]:
                count = min(BATCH, int(most) - offered)
                if count <= 0 or began_s + offered / float(rate) > time.monotonic():
                    time.sleep(0.002)
                    continue
                batch = [
                    {"type": "STATUS", "id": f"offered-{number + index}", "to": to, "payload": "x" * 200}
                    for index in range(count)
                ]
                for receipt in bus.request(uris.MAILBOX_SEND, batch, timeout=60.0):
                    outcomes[str(receipt.get("error") or receipt["status"])] += 1
                offered, number = offered + count, number + count
            sys.stdin.readline()
            print(json.dumps({"offered": offered, "outcomes": outcomes}), flush=True)


class Child:
    """This script in another role."""

    def __init__(self, role: str, node: ThrowawayNode) -> None:
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--role", role],
            env=surroundings_of(node.url, node.token(role), node.directory),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        if self.hear() != "ready":
            raise SystemExit(f"the process in the role {role} did not start")

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()


# -- memory ------------------------------------------------------------------------------------------------------------


class Memory:
    """Watches the router worker, in which the node's services run; all in MiB."""

    def __init__(self, node: ThrowawayNode) -> None:
        self._worker = psutil.Process(json.loads((Path(node.state) / "node.json").read_text())["pid"])
        self._over = threading.Event()
        self.samples = [self.now()]
        threading.Thread(target=self._watch, daemon=True).start()

    def now(self) -> float:
        return float(self._worker.memory_info().rss) / 1024**2

    def _watch(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while not self._over.wait(SAMPLE_EVERY_S):
                self.samples.append(self.now())

    def end(self) -> None:
        self._over.set()


# -- the phases --------------------------------------------------------------------------------------------------------


class Run:
    """One run of the benchmark.

    Args:
        messages: offered to the slow agent altogether.
        rate: of the offers, a second, at most.
        seconds: how long a measurement lasts at least.
    """

    def __init__(self, node: ThrowawayNode, messages: int, cycles: int, rate: float, seconds: float) -> None:
        self._url, self._token = node.url, node.token("others")
        self._cycles, self._seconds = cycles, seconds
        self._left = messages
        # So that a measurement fits into the time that the offers of a cycle last.
        self._rate = min(rate, messages / cycles / (seconds + OVERHEAD_S))
        self._slow_s = messages / cycles / self._rate - OVERHEAD_S
        self._sender = Child("sender", node)
        self._others = [Child("healthy", node), Child("slow", node)]
        self._memory = Memory(node)
        self.phases: dict[str, list[Figures]] = defaultdict(list)
        self.offered: dict[str, Counter[str]] = {"healthy": Counter(), "slow": Counter()}

    def end(self) -> None:
        self._memory.end()
        terminate({str(child.process.pid): child.process for child in (self._sender, *self._others)})

    @property
    def _is_full(self) -> bool:
        outcomes = self.offered["slow"]
        return outcomes.total() > outcomes["accepted"]

    @contextlib.contextmanager
    def _offering(self, to: str, most: int) -> Iterator[None]:
        self._sender.say(f"{to} {self._rate} {most}")
        try:
            yield
        finally:
            self._sender.say("")
            told = json.loads(self._sender.hear())
            self.offered[to].update(told["outcomes"])
            if to == "slow":
                self._left -= told["offered"]

    def _measure(self, kind: str, state: str, seconds: float) -> None:
        figures = measure(Plan(seconds, connections=3, rate=100.0), url=self._url, token=self._token)
        self.phases[f"{kind}, {state}"].append(figures)
        print(
            f"{kind:<8} {state:<12} one way p50 {figures.one_way_p50_ms:6.2f} ms, "
            f"p99 {figures.one_way_p99_ms:7.2f} ms, max {figures.one_way_max_ms:7.1f} ms; "
            f"lost {figures.lost}, refused {figures.refused}; node {self._memory.now():6.1f} MiB",
            flush=True,
        )

    def all(self) -> None:
        """All cycles, and what came out."""
        print(f"offers: {self._rate:,.0f} messages a second", flush=True)
        for cycle in range(self._cycles):
            last = cycle == self._cycles - 1
            before = "nothing stuck" if not self.offered["slow"] else "stuck"
            self._measure("alone", before, self._seconds)
            with self._offering("healthy", sys.maxsize):
                self._measure("healthy", before, self._seconds)
            share = self._left if last else math.ceil(self._left / (self._cycles - cycle))
            with self._offering("slow", share):
                self._measure("slow", "full" if self._is_full else "filling", self._slow_s)
                # The rest of its share: the measurement took less time than it might.
                time.sleep(OVERHEAD_S / 2)
        self._measure("alone", "stuck", self._seconds)
        self._tell()

    def _tell(self) -> None:
        print(f"\n{'median of':<26} {'phases':>6} {'p50 ms':>9} {'p99 ms':>9}   p99 of each")
        for name, figures in self.phases.items():
            p50, p99 = (
                statistics.median(getattr(one, f"one_way_{share}_ms") for one in figures) for share in ("p50", "p99")
            )
            each = " ".join(f"{one.one_way_p99_ms:.1f}" for one in figures)
            print(f"{name:<26} {len(figures):>6} {p50:>9.2f} {p99:>9.2f}   {each}")
        for to, outcomes in self.offered.items():
            refused = {name: count for name, count in outcomes.items() if name != "accepted"}
            print(
                f"offered to the {to} agent: {outcomes.total():,}; accepted {outcomes['accepted']:,}; "
                f"refused {sum(refused.values()):,} {refused or ''}"
            )
        memory = [*self._memory.samples, self._memory.now()]
        print(
            f"node: {memory[0]:.1f} MiB at the start, {min(memory):.1f} least, {max(memory):.1f} most, "
            f"{memory[-1]:.1f} at the end"
        )


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=1_000_000, help="how many are offered to the slow agent")
    parser.add_argument("--cycles", type=int, default=5, help="how often the phases take turns")
    parser.add_argument("--rate", type=float, default=6000.0, help="offers a second, at most")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each measurement lasts at least")
    parser.add_argument("--role", choices=["run", "slow", "healthy", "sender"], default="run", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role == "sender":
        offer()
    elif given.role != "run":
        take(acks=given.role == "healthy")
    else:
        with ThrowawayNode(prefix="trishula-slow-") as node, contextlib.ExitStack() as cleanup:
            run = Run(node, given.messages, given.cycles, given.rate, given.seconds)
            cleanup.callback(run.end)
            run.all()


if __name__ == "__main__":
    main()
