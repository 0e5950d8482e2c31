# ruff: noqa: T201  # a script that prints
"""What large messages do to a node's memory: a stream of them from one agent to another, each acknowledged.

::

    .venv/bin/python tests/benchmarks/large_payloads.py                       # 480 messages of 1 MiB, about a minute
    .venv/bin/python tests/benchmarks/large_payloads.py --messages 60         # to see that it works

On a node of its own. A script sends, so many messages at a time, and waits for their receipts; an agent takes them with
the usual window. Printed is the memory of the node's router worker (its resident set): before, at most while the stream
lasts, and so many seconds after the last ack. No test: how fast a machine is decides nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

import trishula
from trishula.tools.temporary_node import ThrowawayNode, surroundings_of, terminate

SAMPLE_EVERY_S = 0.1
IDLE_S = 15.0


def take(expected: int) -> None:
    """An agent that acknowledges what it gets."""
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred

    from trishula.client import Client
    from trishula.contract.deliveries import Delivery
    from trishula.settings import load

    client, got = Client(load()), 0

    def taken(deliveries: list[Delivery]) -> None:
        nonlocal got
        client.ack([delivery.token for delivery in deliveries])
        got += len(deliveries)
        if got >= expected:
            print("done", flush=True)

    async def live() -> None:
        client.attach(taken, window=64, heartbeat_s=10.0)
        await client.start()
        print("ready", flush=True)

    reactor: object = installed
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(live()))  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]


def offer(messages: int, size_bytes: int, at_a_time: int) -> None:
    """A script that sends."""
    payload = "x" * (size_bytes - 2)
    with trishula.connect(timeout=120.0) as bus:
        sent = 0
        while sent < messages:
            count = min(at_a_time, messages - sent)
            bus.send_many([{"to": "agni", "payload": payload} for _ in range(count)])
            sent += count
    print("sent", flush=True)


class Memory:
    """Watches the router worker; MiB."""

    def __init__(self, node: ThrowawayNode) -> None:
        self._worker = psutil.Process(json.loads((Path(node.state) / "node.json").read_text())["pid"])
        self._over = threading.Event()
        self.most = self.now()
        threading.Thread(target=self._watch, daemon=True).start()

    def now(self) -> float:
        return float(self._worker.memory_info().rss) / 1024**2

    def _watch(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while not self._over.wait(SAMPLE_EVERY_S):
                self.most = max(self.most, self.now())

    def end(self) -> None:
        self._over.set()


def spawn(role: str, name: str, node: ThrowawayNode, *more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, os.path.abspath(__file__), "--role", role, *more],
        env=surroundings_of(node.url, node.token(name), node.directory),
        stdout=subprocess.PIPE,
    )


def run(node: ThrowawayNode, messages: int, size_bytes: int, at_a_time: int) -> None:
    """The stream, and what it did."""
    memory = Memory(node)
    before = memory.now()
    more = ["--messages", str(messages), "--size", str(size_bytes), "--at-a-time", str(at_a_time)]
    taker = spawn("take", "agni", node, *more)
    assert taker.stdout is not None
    taker.stdout.readline()
    began_s = time.monotonic()
    sender = spawn("offer", "dc", node, *more)
    try:
        if sender.wait() or taker.stdout.readline().strip() != b"done":
            raise SystemExit("a process of the stream failed")
        took_s = time.monotonic() - began_s
        at_the_end = memory.now()
        time.sleep(IDLE_S)
        print(
            f"{messages} messages of {size_bytes / 1024**2:.2f} MiB in {took_s:.1f} s "
            f"({messages * size_bytes / took_s / 1024**2:.0f} MiB/s); node's worker: {before:.0f} MiB before, "
            f"{memory.most:.0f} at most, {at_the_end:.0f} at the end, {memory.now():.0f} after {IDLE_S:.0f} s idle"
        )
    finally:
        memory.end()
        terminate({str(child.pid): child for child in (taker, sender)})


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=480)
    parser.add_argument("--size", type=int, default=1024 * 1024, help="of a payload, in bytes, as JSON")
    parser.add_argument(
        "--at-a-time", type=int, default=200, help="how many are sent before their receipts are waited for"
    )
    parser.add_argument("--role", choices=["run", "take", "offer"], default="run", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role == "take":
        take(given.messages)
    elif given.role == "offer":
        offer(given.messages, given.size, given.at_a_time)
    else:
        with ThrowawayNode(prefix="trishula-large-") as node:
            run(node, given.messages, given.size, given.at_a_time)


if __name__ == "__main__":
    main()
