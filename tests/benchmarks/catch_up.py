# ruff: noqa: T201  # a script that prints
"""A node that was away comes back: how fast it catches up, and what its peer's agents notice of that meanwhile.

::

    python -m tests.benchmarks.catch_up --records 1000000
    python -m tests.benchmarks.catch_up --records 50000 --seconds 5      # to see that it works

Two linked nodes. The second is stopped; the first goes on and its journal grows by so many records: messages that are
sent and handled as fast as it takes them (the bench), and some for an agent that is away, which stay open. Then the
second is started again, and is asked for nothing; the time until the first one says that it lacks no more than what
is always on its way is measured from when it is ready.

All the while two clients of the first node, the light load, send 100 messages a second each, one without a wish and one
that doesn't wait for a second copy (``copies: 1``), and handle what they sent. Two, because an outbox sends messages of
different wishes in different calls, and their turns would be measured. Printed is the time from ``send()`` to the
receipt before, during and after, and the memory of both router workers.

The exit code is 1 if the second node did not catch up in time. No test: how fast a machine is decides nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil

import trishula
from tests.support.cluster import Cluster
from tests.support.node import NodeProcess, environment
from trishula.contract import uris
from trishula.errors import TrishulaError
from trishula.tools.bench import Plan, measure, percentile

FIRST, SECOND = "agni", "rushabdev"
#: Of each kind of the light load, a second.
RATE = 100.0
#: The light load makes records too, so the peer is always behind by what it has not told of yet: half a second's.
UNDER_WAY_RECORDS = 300
#: One of so many messages stays open; not more than a mailbox takes.
OPEN_SHARE, OPEN_LIMIT = 10, 50_000
BATCH = 128
#: The journal grows in slices of so many seconds, until it is long enough.
SLICE_S = 10.0
LOOK_S = 0.1
#: A message that has no receipt so long after the end has none.
LAST_RECEIPTS_S = 3.0
SAMPLE_S = 0.25
#: Of the light load: name → copies.
KINDS: dict[str, int | None] = {"copies 1": 1, "default": None}


# -- the light load, a process of its own ------------------------------------------------------------------------------


def load() -> None:
    """Send at a steady rate and handle what comes, until standard input ends; then tell of each message.

    A line for each: the kind, when it was sent and when its receipt came (CLOCK_MONOTONIC in ns; 0 if none came), and
    how many copies that told of.
    """
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred
    from twisted.internet.task import LoopingCall

    from trishula.client import Client
    from trishula.contract.deliveries import Delivery
    from trishula.settings import load as load_settings

    reactor: Any = installed
    told: list[list[Any]] = []
    loops: list[LoopingCall] = []

    async def join(instance: str) -> Client:
        client = Client(load_settings(), instance=instance)

        def handle(deliveries: list[Delivery]) -> None:
            client.ack([delivery.token for delivery in deliveries])

        client.attach(handle, window=256, heartbeat_s=10.0)
        await client.start()
        return client

    def send(client: Client, kind: str, count: int) -> None:
        for _ in range(count):
            row: list[Any] = [kind, time.monotonic_ns(), 0, 0]
            told.append(row)

            def receipt(pending: Any, row: list[Any] = row) -> None:
                if pending.error is None:
                    row[2:] = [time.monotonic_ns(), pending.result().copies]

            client.send(str(client.address), payload="x" * 200, copies=KINDS[kind]).when_done(receipt)

    async def live() -> None:
        clients = [(await join(f"load{number}"), kind) for number, kind in enumerate(KINDS)]
        print("ready", flush=True)
        for client, kind in clients:
            loop = LoopingCall.withCount(partial(send, client, kind))
            loops.append(loop)
            loop.start(1 / RATE)

    def hush() -> None:
        for loop in loops:
            loop.stop()
        reactor.callLater(LAST_RECEIPTS_S, reactor.stop)

    def listen() -> None:
        sys.stdin.read()
        reactor.callFromThread(hush)

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(live()))
    threading.Thread(target=listen, daemon=True).start()
    reactor.run()
    for row in told:
        print(json.dumps(row))


@contextlib.contextmanager
def light_load(node: NodeProcess, directory: Path, rows: list[list[Any]]) -> Iterator[None]:
    """Run it at a node; what it tells at its end is put into ``rows``."""
    with (directory / "load.errors").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.catch_up", "--role", "load"],
            env=environment(TRISHULA_URL=node.url, TRISHULA_TOKEN=node.tokens["light"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise SystemExit(f"the light load did not start: {(directory / 'load.errors').read_text()}")
        yield
        out, _ = process.communicate(timeout=60.0)
        rows += [json.loads(line) for line in out.splitlines()]
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


# -- the nodes ---------------------------------------------------------------------------------------------------------


class Memory:
    """Watches the router workers of both nodes; what each took at most, in MiB."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._over = threading.Event()
        self.most = dict.fromkeys(cluster.nodes, 0.0)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def now(self) -> dict[str, float]:
        sizes = {}
        for name, node in self._cluster.nodes.items():
            # One that is stopped has no file, and one that was has its old one.
            with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
                sizes[name] = float(psutil.Process(node.worker_pid()).memory_info().rss) / 1024**2
        return sizes

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_S):
            for name, size in self.now().items():
                self.most[name] = max(self.most[name], size)

    def end(self) -> None:
        self._over.set()
        self._thread.join()


class Run:
    """One run.

    Args:
        cluster: both nodes, which run.
        seconds: how long ``before`` and ``after`` last.
        patience_s: how long the second node may take at most.
    """

    def __init__(self, cluster: Cluster, seconds: float, patience_s: float) -> None:
        self._cluster = cluster
        self._seconds = seconds
        self._patience_s = patience_s
        self._bus = trishula.connect(cluster[FIRST].url, token=cluster.tokens["operator"])
        self.spans_ns: dict[str, tuple[int, int]] = {}

    def _status(self) -> dict[str, Any]:
        status: dict[str, Any] = self._bus.request(uris.NODE_STATUS)
        return status

    def _peer(self) -> dict[str, Any]:
        (peer,) = self._status()["peers"]
        told: dict[str, Any] = peer
        return told

    @contextlib.contextmanager
    def span(self, name: str) -> Iterator[None]:
        """A part of the run, of which the light load's figures are told apart."""
        began_ns = time.monotonic_ns()
        try:
            yield
        finally:
            self.spans_ns[name] = began_ns, time.monotonic_ns()

    def rest(self, name: str) -> None:
        """A part in which nothing happens but the light load."""
        with self.span(name):
            time.sleep(self._seconds)

    def grow(self, records: int) -> int:
        """Have the first node's journal grow by so many records, at least; by how many it did."""
        began = self._status()["high_water"]
        node = self._cluster[FIRST]
        grown, per_s = 0, 20_000.0
        while grown < records:
            seconds = min(max((records - grown) / per_s, 1.0), SLICE_S)
            before, began_s = grown, time.monotonic()
            figures = measure(
                Plan(seconds, connections=3, rate=0.0, copies=1), url=node.url, token=self._cluster.tokens["busy"]
            )
            self._leave_open(figures.messages // OPEN_SHARE)
            grown = self._status()["high_water"] - began
            per_s = max((grown - before) / (time.monotonic() - began_s), 1.0)
            print(f"the journal of {FIRST} grew by {grown:,} records", flush=True)
        return int(grown)

    def _leave_open(self, count: int) -> None:
        left = min(count, OPEN_LIMIT - self._status()["pending"])
        while left > 0:
            batch = [{"type": "STATUS", "to": "idle", "payload": "x" * 200} for _ in range(min(BATCH, left))]
            self._bus.send_many(batch, copies=1, timeout=60.0)
            left -= len(batch)

    def catch_up(self) -> float | None:
        """Start the second node again; how long it then took until it lacked nothing, ``None`` if it still does."""
        began_s = time.monotonic()
        with self.span("during"):
            self._cluster[SECOND].start(timeout_s=120.0)
            ready_s = time.monotonic()
            print(f"{SECOND} is ready after {ready_s - began_s:.1f} s", flush=True)
            told_s = ready_s
            while True:
                peer, now_s = self._peer(), time.monotonic()
                if peer["state"] == "up" and peer["lag_records"] <= UNDER_WAY_RECORDS:
                    return now_s - ready_s
                if peer["fault"] is not None or now_s - ready_s > self._patience_s:
                    print(
                        f"{SECOND} DID NOT CATCH UP: after {now_s - ready_s:.0f} s it is {peer['state']} and lacks "
                        f"{peer['lag_records']:,} records; {peer['fault'] or 'it may need more time, see --patience'}"
                    )
                    return None
                if now_s - told_s > SLICE_S:
                    told_s = now_s
                    print(f"{SECOND} is {peer['state']} and lacks {peer['lag_records']:,} records", flush=True)
                time.sleep(LOOK_S)

    def is_the_same(self) -> bool:
        """Whether both have the same messages open; asked when nobody sends any more."""
        until_s = time.monotonic() + 10.0
        while True:
            with trishula.connect(self._cluster[SECOND].url, token=self._cluster.tokens["operator"]) as there:
                here, other = self._status(), there.request(uris.NODE_STATUS)
            if here["pending"] == other["pending"] and not here["peers"][0]["lag_records"]:
                print(f"both nodes have {here['pending']:,} messages open")
                return True
            if time.monotonic() > until_s:
                print(f"THE NODES DIFFER: {here['pending']:,} messages open at {FIRST}, {other['pending']:,} there")
                return False
            time.sleep(LOOK_S)

    def end(self) -> None:
        self._bus.close()

    def tell(self, rows: list[list[Any]]) -> None:
        """What the light load met."""
        print(f"\n{'send to receipt':<24}{'messages':>9}{'p50':>11}{'p99':>11}{'max':>11}   copies")
        for span, (begin_ns, end_ns) in self.spans_ns.items():
            for kind in KINDS:
                mine = [row for row in rows if row[0] == kind and begin_ns <= row[1] < end_ns]
                spent = sorted((row[2] - row[1]) / 1e6 for row in mine if row[2])
                copies = sorted({row[3] for row in mine if row[2]})
                figures = "".join(f"{percentile(spent, share):>8.1f} ms" for share in (0.5, 0.99, 1.0))
                without = f", {len(mine) - len(spent)} without a receipt" if len(spent) < len(mine) else ""
                print(f"{span + ', ' + kind:<24}{len(mine):>9}{figures}   {copies}{without}")


def run(records: int, seconds: float, patience_s: float) -> int:
    """All of it; the exit code."""
    rows: list[list[Any]] = []
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trishula-catch-up-")))
        cluster = Cluster(directory, [FIRST, SECOND])
        for name in ("busy", "idle", "light"):
            cluster.token(name)
        cluster.token("operator", operator=True)
        stack.enter_context(cluster)
        memory = Memory(cluster)
        stack.callback(memory.end)
        it = Run(cluster, seconds, patience_s)
        stack.callback(it.end)
        with light_load(cluster[FIRST], directory, rows):
            it.rest("before")
            sizes = memory.now()
            cluster[SECOND].stop()
            grown = it.grow(records)
            spent_s = it.catch_up()
            it.rest("after")
        is_the_same = spent_s is not None and it.is_the_same()
        if spent_s is not None:
            print(f"\n{grown:,} records: {SECOND} caught up in {spent_s:.1f} s, {grown / spent_s:,.0f} records/s")
        it.tell(rows)
        memory.end()
        for name, size in memory.now().items():
            print(f"{name}: {sizes[name]:.0f} MiB before, {memory.most[name]:.0f} most, {size:.0f} at the end")
    return 0 if is_the_same else 1


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", type=int, default=1_000_000, help="by how many the journal grows meanwhile")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long before and after last")
    parser.add_argument("--patience", type=float, default=600.0, help="seconds to catch up in, at most")
    parser.add_argument("--role", choices=["run", "load"], default="run", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role == "load":
        load()
        return
    try:
        raise SystemExit(run(given.records, given.seconds, given.patience))
    except TrishulaError as error:
        raise SystemExit(f"the benchmark failed: {error.sentence}") from None


if __name__ == "__main__":
    main()
