# ruff: noqa: T201  # a script that prints
"""What a peer that is away, and comes back, costs a node's memory when messages are large.

::

    .venv/bin/python -m tests.benchmarks.peer_away                                  # 3,000 messages of 100 KB
    .venv/bin/python -m tests.benchmarks.peer_away --size 10000 --messages 18000    # 300 a second of 10 KB for a minute

Two linked nodes. The second is stopped; a script sends so many messages to an agent that is away, through the first.
Then the second is started again and catches up. Printed is the resident set of both nodes' router workers. No test: how
fast a machine is decides nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import threading
import time
from pathlib import Path

import psutil

import trishula
from tests.support.cluster import Cluster
from tests.support.node import NodeProcess
from trishula.contract import uris

FIRST, SECOND = "agni", "rushabdev"
AT_A_TIME = 8
PATIENCE_S = 300.0


class Memory:
    """Watches one node's router worker; MiB."""

    def __init__(self, node: NodeProcess) -> None:
        self._worker = psutil.Process(node.worker_pid())
        self.most = self.now()
        threading.Thread(target=self._watch, daemon=True).start()

    def now(self) -> float:
        return float(self._worker.memory_info().rss) / 1024**2

    def _watch(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while True:
                self.most = max(self.most, self.now())
                time.sleep(0.1)


def send(bus: trishula.Bus, messages: int, size_bytes: int, rate: float) -> None:
    """Send at a rate; what is refused ends the run."""
    began_s = time.monotonic()
    payload = "x" * (size_bytes - 2)
    for number in range(0, messages, AT_A_TIME):
        batch = [
            {"type": "STATUS", "id": f"m{number + index}", "to": "agni", "payload": payload}
            for index in range(AT_A_TIME)
        ]
        receipts = bus.request(uris.MAILBOX_SEND, batch, timeout=60.0)
        if any(receipt["status"] != "accepted" for receipt in receipts):
            raise SystemExit(f"a message was not accepted: {receipts}")
        time.sleep(max(0.0, began_s + (number + AT_A_TIME) / rate - time.monotonic()))


def run(cluster: Cluster, messages: int, size_bytes: int, rate: float) -> None:
    """All of it, and what it did."""
    cluster.token("agni")
    first = Memory(cluster[FIRST])
    before = first.now()
    cluster[SECOND].stop()
    with trishula.connect(cluster[FIRST].url, token=cluster.token("dc", operator=True), timeout=60.0) as bus:
        send(bus, messages, size_bytes, rate)
        print(
            f"{messages} messages of {size_bytes} bytes; the first node's worker: {before:.0f} MiB before, "
            f"{first.most:.0f} at most while its peer was away"
        )
        cluster[SECOND].restart()
        second, began_s = Memory(cluster[SECOND]), time.monotonic()
        while (peer := bus.request(uris.NODE_STATUS)["peers"][0])["state"] != "up" or peer["lag_records"]:
            if time.monotonic() > began_s + PATIENCE_S:
                raise SystemExit(f"the second node did not catch up: {peer}")
            time.sleep(0.1)
        took_s = time.monotonic() - began_s
    time.sleep(5.0)
    print(
        f"caught up in {took_s:.1f} s: {first.most:.0f} MiB at most at the first and {second.most:.0f} at the second; "
        f"5 s later {first.now():.0f} and {second.now():.0f}"
    )


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--size", type=int, default=100_000, help="of a payload, in bytes, as JSON")
    parser.add_argument("--rate", type=float, default=300.0, help="messages a second, at most")
    given = parser.parse_args()
    options: dict[str, object] = {"limits": {"mailbox": "4 GiB"}}
    with (
        tempfile.TemporaryDirectory(prefix="trishula-away-") as directory,
        Cluster(Path(directory), [FIRST, SECOND], options=options) as cluster,
    ):
        run(cluster, given.messages, given.size, given.rate)


if __name__ == "__main__":
    main()
