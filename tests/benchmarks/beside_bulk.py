# ruff: noqa: T201  # a script that prints
"""What a light load waits for beside somebody who sends or drains in bulk: one way, from ``send()`` to the receiver.

::

    .venv/bin/python tests/benchmarks/beside_bulk.py                                  # all loads, 8 s each
    .venv/bin/python tests/benchmarks/beside_bulk.py --loads bulk-8 --seconds 3
    .venv/bin/python tests/benchmarks/beside_bulk.py --before ../old/.venv/bin/python  # beside another version

On a node of its own, a client sends another one 50 small messages a second, each acknowledged. Beside them there is

``alone``               nothing
``full``, ``full-1``    one client sends messages of 300 bytes to another one, 256 without their receipts at a time,
                        which is all that the node can do; with ``-1`` the light load is urgent (priority 1)
``bulk-1``, …           one client sends messages of 1 MiB to another one: 1, 8 or 64 without their receipts at a time
``drain-64``, …         an agent with a window of 64 or 256 takes the 45,000 messages that wait for it; the light load
                        is urgent (priority 1) and goes to this agent
``own``                 the sender of the light load, which is urgent, has first sent 90,000 messages to the same agent

Printed are the median, the 99th percentile and the longest, in ms; how much of the bulk went through; and the time of
the processor that the node's worker took meanwhile. With ``--before`` (the Python of an environment that has another
version) the versions take turns, load by load, so that what else the machine does hits both. No test: how fast a
machine is decides nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from trishula.tools.temporary_node import ThrowawayNode, surroundings_of, terminate

LOADS = ("alone", "full", "full-1", "bulk-1", "bulk-8", "bulk-64", "drain-64", "drain-256", "own")
LIGHT_PER_S = 50.0
BULK_BYTES = 1024 * 1024
WAITING = 45_000
SMALL_BYTES = 300
SMALL_IN_FLIGHT = 256
#: Of the 100,000 that an outbox takes.
OWN = 90_000
#: Before it is measured.
WARM_S = 1.0


def _reactor() -> Any:
    from twisted.internet import reactor

    return reactor


def _run(main: Any) -> None:
    from twisted.internet.defer import Deferred

    reactor = _reactor()
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(main()))
    reactor.run()


def sleep(seconds: float) -> Any:
    """Let the reactor do other things."""
    from twisted.internet.task import deferLater

    return deferLater(_reactor(), seconds)


def _client(name: str) -> Any:
    from trishula.client import Client
    from trishula.settings import Settings

    return Client(Settings((os.environ["TRISHULA_URL"],), name, os.environ["TRISHULA_TOKEN"]))


def take(name: str, window: int) -> None:
    """Acknowledge what comes; print, of each message of the light load, how long it took, in ms."""
    client = _client(name)
    ready_s = float("inf")

    def taken(deliveries: list[Any]) -> None:
        now_s = time.monotonic()
        waits = [
            (now_s - delivery.message.payload["at"]) * 1000
            for delivery in deliveries
            if isinstance(delivery.message.payload, dict) and delivery.message.payload.get("at", 0.0) > ready_s
        ]
        client.ack([delivery.token for delivery in deliveries])
        print(json.dumps([len(deliveries), waits]), flush=True)

    async def main() -> None:
        nonlocal ready_s
        client.attach(taken, window=window, heartbeat_s=10.0)
        await client.start()
        # What was sent before that waited for us.
        ready_s = time.monotonic()
        print("ready", flush=True)

    _run(main)


def light(to: str, priority: int, before: int) -> None:
    """Send small messages at a steady rate until the end; so many others go before them."""
    client = _client("light")

    def send() -> None:
        client.send(to, payload={"at": time.monotonic(), "text": "x" * 200}, priority=priority)
        _reactor().callLater(1.0 / LIGHT_PER_S, send)

    async def main() -> None:
        await client.start()
        print("ready", flush=True)
        for _ in range(0, before, 500):
            for _ in range(500):
                client.send(to, payload={"text": "x" * 200})
            # The outbox sends meanwhile.
            await sleep(0.0)
        send()

    _run(main)


def bulk(in_flight: int, size_bytes: int) -> None:
    """Send messages until the end, so many without receipts at a time."""
    client = _client("bulk")
    payload = "x" * (size_bytes - 2)

    def send(_: object = None) -> None:
        client.send("bulktaker", payload=payload).when_done(send)

    async def main() -> None:
        await client.start()
        print("ready", flush=True)
        for _ in range(in_flight):
            send()

    _run(main)


def fill() -> None:
    """Put into the mailbox what is to be drained."""
    client = _client("bulk")

    async def main() -> None:
        await client.start()
        for _ in range(0, WAITING, 500):
            for receipt in [client.send("taker", payload={"text": "x" * 200}) for _ in range(500)]:
                await receipt
        print("done", flush=True)
        _reactor().stop()

    _run(main)


def spawn(node: ThrowawayNode, token: str, *args: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, os.path.abspath(__file__), *map(str, args)],
        env=surroundings_of(node.url, token, node.directory),
        stdout=subprocess.PIPE,
    )


def first_line(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    if not process.stdout.readline():
        raise SystemExit("a process of the benchmark failed")


def measure(load: str, seconds: float) -> dict[str, float]:
    """One load on a node of its own."""
    kind, _, count = load.partition("-")
    with ThrowawayNode(prefix="trishula-beside-") as node:
        tokens = {name: node.token(name) for name in ("light", "taker", "bulk", "bulktaker")}
        worker = psutil.Process(json.loads((Path(node.state) / "node.json").read_text())["pid"])
        processes: dict[str, subprocess.Popen[bytes]] = {}
        try:
            if kind == "drain":
                processes["filler"] = spawn(node, tokens["bulk"], "--fill")
                first_line(processes["filler"])
            window = int(count) if kind == "drain" else 64
            priority = 1 if kind in {"drain", "own"} or load == "full-1" else 3
            own = OWN if kind == "own" else 0
            if own:
                # What it is to drain would be there before it is ready.
                processes["taker"] = taker = spawn(node, tokens["taker"], "--take", "taker", window)
                first_line(taker)
            processes["light"] = spawn(node, tokens["light"], "--light", "taker", priority, own)
            first_line(processes["light"])
            if not own:
                processes["taker"] = taker = spawn(node, tokens["taker"], "--take", "taker", window)
                first_line(taker)
            bulk_taker = None
            if kind in {"bulk", "full"}:
                processes["bulktaker"] = bulk_taker = spawn(node, tokens["bulktaker"], "--take", "bulktaker", 64)
                first_line(bulk_taker)
                how = (count, BULK_BYTES) if kind == "bulk" else (SMALL_IN_FLIGHT, SMALL_BYTES)
                processes["bulk"] = spawn(node, tokens["bulk"], "--bulk", *how)
                first_line(processes["bulk"])
            to_drain = {"drain": WAITING, "own": own}.get(kind, 0)
            time.sleep(0.0 if to_drain else WARM_S)
            return _watch(taker, bulk_taker, worker, seconds, to_drain)
        finally:
            for process in processes.values():
                process.kill()
            terminate(processes)


def _watch(
    taker: subprocess.Popen[bytes],
    bulk_taker: subprocess.Popen[bytes] | None,
    worker: psutil.Process,
    seconds: float,
    to_drain: int,
) -> dict[str, float]:
    assert taker.stdout is not None
    began_s, began_cpu = time.monotonic(), worker.cpu_times()
    waits: list[float] = []
    drained = 0
    while time.monotonic() - began_s < seconds and (not to_drain or drained < to_drain):
        line = taker.stdout.readline()
        # What came while it joined is told before it is "ready".
        if line.startswith(b"["):
            count, some = json.loads(line)
            drained += count
            waits += some
    took_s, cpu = time.monotonic() - began_s, worker.cpu_times()
    amount = float(drained)
    if bulk_taker is not None:
        assert bulk_taker.stdout is not None
        bulk_taker.kill()
        amount = sum(json.loads(line)[0] for line in bulk_taker.stdout.read().splitlines() if line.startswith(b"["))
    waits.sort()
    return {
        "p50": statistics.median(waits),
        "p99": waits[min(len(waits) - 1, int(len(waits) * 0.99))],
        "max": waits[-1],
        "count": len(waits),
        "per_s": amount / took_s,
        "cpu": (cpu.user + cpu.system - began_cpu.user - began_cpu.system) / took_s,
    }


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--loads", nargs="+", default=LOADS)
    parser.add_argument("--seconds", type=float, default=8.0, help="of a load")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--before", metavar="PYTHON", help="of an environment with another version, to compare with")
    for name, count in (("--take", 2), ("--light", 3), ("--bulk", 2)):
        parser.add_argument(name, nargs=count, help=argparse.SUPPRESS)
    parser.add_argument("--fill", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.take:
        take(given.take[0], int(given.take[1]))
    elif given.light:
        light(given.light[0], *map(int, given.light[1:]))
    elif given.bulk:
        bulk(*map(int, given.bulk))
    elif given.fill:
        fill()
    elif given.measure:
        print(json.dumps(measure(given.measure, given.seconds)))
    else:
        versions = {"now": sys.executable, **({"before": given.before} if given.before else {})}
        for load in given.loads * given.runs:
            for version, python in versions.items():
                command = [python, os.path.abspath(__file__), "--measure", load, "--seconds", str(given.seconds)]
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
                told = json.loads(done.stdout)
                print(
                    f"{load:10} {version:7} p50 {told['p50']:7.1f}  p99 {told['p99']:7.1f}  max {told['max']:7.1f} ms"
                    f"  of {told['count']:.0f}; bulk {told['per_s']:,.1f}/s; worker {told['cpu']:.2f} cores",
                    flush=True,
                )


if __name__ == "__main__":
    main()
