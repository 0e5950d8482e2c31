# ruff: noqa: T201  # a script that prints
"""What permessage-deflate wins on a slow line, and costs without one: an agent sends to itself, with it and without.

::

    .venv/bin/python -m tests.benchmarks.slow_line                # about two minutes
    .venv/bin/python -m tests.benchmarks.slow_line --parts 8      # to see that it works

A node of its own, whose configuration has ``compression``; a client behind a relay, which carries so many bits a second
in each direction, or as many as it can. Printed are, of each kind of payload, the bytes that both directions carried,
how long it took until each message was back, and the processor time of the node's worker and of the client a message.
Compare processor times of one run only. No test: how fast a machine is decides nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from tests.support.node import NodeProcess
from trishula_drill.faults import Kind
from trishula_drill.proxy import Network, Toxic

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"
DEFLATE = {"max_window_bits": 12, "request_max_window_bits": 12, "memory_level": 5}
WORDS = ("agent", "build", "node", "is", "was", "failed", "done", "at", "with", "state", "message", "queue", "waits")


def text(chance: random.Random, size: int) -> str:
    """Lines of a log, of about so many bytes."""
    lines, left = [], size
    while left > 0:
        words = " ".join(chance.choice(WORDS) for _ in range(8))
        lines.append(
            f"2026-11-30T02:{chance.randrange(60):02}:{chance.random() * 60:06.3f}Z [{chance.random()}] {words}"
        )
        left -= len(lines[-1])
    return "\n".join(lines)


#: Of each: what a payload is, and how many there are of it.
KINDS: dict[str, tuple[Callable[[random.Random], Any], int]] = {
    "records of 200 bytes": (
        lambda chance: {"n": chance.randrange(9999), "state": "idle", "note": text(chance, 90)},
        1000,
    ),
    "logs of 128 KiB": (lambda chance: text(chance, 128 * 1024), 8),
    "bytes of 128 KiB": (lambda chance: chance.randbytes(96 * 1024), 8),
}


def client(url: str, compression: bool, kind: str, parts: int) -> None:
    """One process that sends to itself; prints what it took."""
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred

    from trishula.client import Client
    from trishula.contract.deliveries import Delivery
    from trishula.session import connection
    from trishula.settings import Settings

    reactor: Any = installed
    vars(connection)["is_this_machine"] = lambda host: False  # the relay is here, the node is not
    made, count = KINDS[kind]
    chance = random.Random(7)
    payloads = [made(chance) for _ in range(max(count // parts, 1))]
    one = Client(Settings((url,), "dc", os.environ["TOKEN"], compression=compression), instance=f"line{os.getpid()}")
    got, all_here = 0, Deferred[None]()

    def taken(deliveries: list[Delivery]) -> None:
        nonlocal got
        for delivery in deliveries:
            one.ack_soon(delivery.token)
        got += len(deliveries)
        if got == len(payloads):
            all_here.callback(None)

    async def live() -> None:
        one.attach(taken, window=64, heartbeat_s=10.0)
        await one.start(timeout=60.0)
        print("ready", flush=True)
        sys.stdin.readline()
        began_s, busy_s = time.monotonic(), time.process_time()
        sent = one.send_many([{"to": str(one.address), "payload": payload} for payload in payloads])
        await all_here
        took_s, busy_s = time.monotonic() - began_s, time.process_time() - busy_s
        await sent
        link: Any = one._engine.member.link
        stats = link._session._transport.trafficStats
        carried = stats.outgoingOctetsWebSocketLevel + stats.incomingOctetsWebSocketLevel
        print(json.dumps([len(payloads), carried, took_s, busy_s]), flush=True)
        await one.stop()
        reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(live()))
    reactor.run()


def measure(node: NodeProcess, port: int, kind: str, parts: int, line: str) -> None:
    """One kind of payload on one line, without compression and with it."""
    worker = psutil.Process(node.worker_pid())
    for compression in (False, True):
        at = urlsplit(node.url)
        url = f"{at.scheme}://{at.hostname}:{port}{at.path}"
        command = [sys.executable, "-m", "tests.benchmarks.slow_line", "--client", url, "--kind", kind]
        command += ["--parts", str(parts), *(["--compression"] if compression else [])]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TOKEN": node.tokens["dc"]},
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdout.readline()
            before = worker.cpu_times()
            child.stdin.write("\n")
            child.stdin.flush()
            count, carried, took_s, busy_s = json.loads(child.stdout.readline())
            after = worker.cpu_times()
        worker_s = after.user + after.system - before.user - before.system
        print(
            f"{line:<12} {kind:<22} {'deflate' if compression else 'plain':<8} {carried / count:>9.0f} B a message "
            f"{took_s:7.2f} s   worker {worker_s / count * 1e6:7.0f} µs   client {busy_s / count * 1e6:7.0f} µs",
            flush=True,
        )


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bits", type=int, default=1_000_000, help="what the slow line carries a second")
    parser.add_argument("--parts", type=int, default=1, help="send only one of so many")
    parser.add_argument("--client", default="", help=argparse.SUPPRESS)
    parser.add_argument("--kind", default="", help=argparse.SUPPRESS)
    parser.add_argument("--compression", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.client:
        client(given.client, given.compression, given.kind, given.parts)
        return
    with tempfile.TemporaryDirectory(prefix="trishula-line-") as home:
        config = json.loads(SHIPPED.read_text())
        config["workers"][0]["transports"][0]["paths"]["ws"]["options"]["compression"] = {"deflate": DEFLATE}
        path = Path(home) / "node.json"
        path.write_text(json.dumps(config))
        with NodeProcess(Path(home) / "state", config=path) as node, Network() as network:
            node.token("dc")
            proxy = network.proxy(urlsplit(node.url).port or 0, random.Random(1))
            for line, toxic in (
                (f"{given.bits / 1e6:g} Mbit/s", Toxic(Kind.BANDWIDTH, given.bits / 8)),
                ("loopback", None),
            ):
                network.spoil(proxy, toxic)
                for kind in KINDS:
                    measure(node, proxy.port, kind, given.parts, line)


if __name__ == "__main__":
    main()
