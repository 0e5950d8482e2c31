# ruff: noqa: T201  # a script that prints
"""What proxy workers take off a node's router worker, and what they cost: processor time of a message, and of a join.

::

    python -m tests.benchmarks.proxies                                   # some 5 minutes
    python -m tests.benchmarks.proxies --seconds 2 --workers 0 1 --doors wss

For each number of proxy workers, with and without TLS, a node of its own is started. Plain WAMP clients in one process
send to each other, each its next batch when the one before is acknowledged, with JSON and with MessagePack. Printed is
the processor time of a message in the router worker (with its store's threads) and in all proxy workers together; how
many messages a second pass while the clients share the machine's cores with them is not the point, and not printed. Of
these figures follows what eight cores would do (``model``): the router worker is one process, so what it takes of a
message is the bound; the proxy workers are as many as are needed to keep up with it.

No test: how fast a machine is decides nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.support.certificates import make_certificate
from tests.support.node import NodeProcess, environment
from tests.support.proxied import proxied_config, proxy_processes

AGENTS = 16
CORES = 8
PAYLOAD = "x" * 200
#: Cores that neither the router worker nor the proxy workers have: of the controller, the disk and the kernel.
_KEPT_CORES = 1
_JOINS = 100


# -- the clients' process ----------------------------------------------------------------------------------------------


class Load:
    """All clients; each line on standard input is answered by how many messages are acknowledged, or joins made."""

    def __init__(self, url: str, certificate: str, serializer: str, batch: int, tokens: dict[str, str]) -> None:
        from twisted.internet import reactor

        self._reactor: Any = reactor
        self._url, self._serializer, self._batch, self._tokens = url, serializer, batch, tokens
        self._certificate = certificate
        self._numbers = iter(range(10**12))
        # Of this process: what an earlier one has left is acknowledged, and not counted.
        self._run = f"{time.time_ns():x}"
        self._waiting: dict[str, int] = {}
        self._sent_to: dict[str, str] = {}
        self.acknowledged = 0

    async def join(self, name: str) -> Any:
        from urllib.parse import urlsplit

        from twisted.internet import ssl
        from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS

        from tests.support.plain import join

        endpoint: Any = TCP4ClientEndpoint(self._reactor, "127.0.0.1", urlsplit(self._url).port or 0)
        if self._certificate:
            known: Any = ssl.Certificate.loadPEM(Path(self._certificate).read_bytes())
            endpoint = wrapClientTLS(ssl.optionsForClientTLS("localhost", trustRoot=known), endpoint)
        token = self._tokens[name]
        return await join(self._url, name, token, serializer=self._serializer, endpoint=endpoint)

    async def start(self) -> None:
        from trishula.contract import uris
        from trishula.contract.addresses import Address

        self._clients = {name: await self.join(name) for name in self._tokens}
        names = list(self._clients)
        for name, client in self._clients.items():
            await client.subscribe(uris.inbox_of(Address(name)), self._taker(name))
            await client.call(uris.MAILBOX_ATTACH, {"window": 1024})
        for name, to in zip(names, names[1:] + names[:1], strict=True):
            self._sent_to[name] = to
            self._send(name)

    def _send(self, name: str) -> None:
        from trishula.contract import uris

        now_ms, to = int(time.time() * 1000), self._sent_to[name]
        messages = [
            {
                "type": "STATUS",
                "id": f"{self._run}-{next(self._numbers)}",
                "from": name,
                "to": to,
                "timestamp": now_ms,
                "payload": PAYLOAD,
            }
            for _ in range(self._batch)
        ]
        self._waiting[to] = self._batch
        self._clients[name].begin_call(uris.MAILBOX_SEND, messages).addErrback(_failed)

    def _taker(self, name: str) -> Callable[..., None]:
        from trishula.contract import uris

        def take(deliveries: list[Any], *_: Any, **__: Any) -> None:
            if not deliveries:
                return
            tokens = [one["token"] for one in deliveries]
            count = sum(one["message"]["id"].startswith(self._run) for one in deliveries)
            self._clients[name].begin_call(uris.MAILBOX_ACK, tokens).addCallbacks(
                lambda _: self._done(name, count), _failed
            )

        return take

    def _done(self, name: str, count: int) -> None:
        if not count:
            return
        self.acknowledged += count
        self._waiting[name] -= count
        if not self._waiting[name]:
            self._send(next(sender for sender, to in self._sent_to.items() if to == name))

    async def join_often(self) -> int:
        name = next(iter(self._tokens))
        for _ in range(_JOINS):
            client = await self.join(name)
            await client.leave()
        return _JOINS


def _failed(failure: Any) -> None:
    print(f"a call failed: {failure.getErrorMessage()}", file=sys.stderr, flush=True)


def load(given: dict[str, Any]) -> None:
    """What the process does."""
    from twisted.internet import reactor as installed
    from twisted.internet.defer import ensureDeferred

    reactor: Any = installed
    clients = Load(given["url"], given["certificate"], given["serializer"], given["batch"], given["tokens"])

    def answer() -> None:
        for _ in sys.stdin:
            print(clients.acknowledged, flush=True)
        reactor.callFromThread(reactor.stop)

    async def run() -> None:
        if given["batch"]:
            await clients.start()
        else:
            sys.stdin.readline()
            print(await clients.join_often(), flush=True)
        reactor.callInThread(answer)

    reactor.callWhenRunning(lambda: ensureDeferred(run()).addErrback(_failed))
    reactor.run()


# -- measuring ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor time, in µs, of a message or a join."""

    router_us: float
    proxies_us: float

    def model(self) -> str:
        """What eight cores would do with it."""
        most_per_s = 1e6 / self.router_us
        if not self.proxies_us:
            return f"{most_per_s:,.0f}/s, by the router worker"
        needed = math.ceil(most_per_s * self.proxies_us / 1e6)
        there = min(needed, CORES - 1 - _KEPT_CORES)
        per_s = min(most_per_s, there * 1e6 / self.proxies_us)
        return f"{per_s:,.0f}/s with {there}, by the {'router worker' if there == needed else 'proxy workers'}"


def spent_s(processes: Sequence[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


@contextmanager
def clients_of(node: NodeProcess, **given: Any) -> Iterator[subprocess.Popen[str]]:
    """The process of the clients."""
    given |= {"tokens": {name: token for name, token in node.tokens.items() if name != "boss"}}
    command = [sys.executable, "-m", "tests.benchmarks.proxies", "--load", json.dumps(given)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ask(process: subprocess.Popen[str]) -> int:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def measure(node: NodeProcess, seconds: float, **given: Any) -> Cost:
    """What a message costs."""
    router, proxies = [psutil.Process(node.worker_pid())], proxy_processes(node)
    with clients_of(node, **given) as process:
        ask(process)
        time.sleep(1.0)
        count = -ask(process)
        before = spent_s(router), spent_s(proxies)
        time.sleep(seconds)
        count += ask(process)
        after = spent_s(router), spent_s(proxies)
    return Cost((after[0] - before[0]) / count * 1e6, (after[1] - before[1]) / count * 1e6)


def measure_joins(node: NodeProcess, **given: Any) -> Cost:
    """What a join costs; while the clients' process begins, nothing else does."""
    router, proxies = [psutil.Process(node.worker_pid())], proxy_processes(node)
    before = spent_s(router), spent_s(proxies)
    with clients_of(node, **given, serializer="msgpack", batch=0) as process:
        count = ask(process)
    return Cost((spent_s(router) - before[0]) / count * 1e6, (spent_s(proxies) - before[1]) / count * 1e6)


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--doors", nargs="+", choices=["ws", "wss"], default=["ws", "wss"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64], help="messages in a call")
    parser.add_argument("--serializers", nargs="+", choices=["msgpack", "json"], default=["msgpack", "json"])
    parser.add_argument("--load", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.load is not None:
        load(json.loads(given.load))
        return
    print("door  proxies  what               µs router worker  µs proxy workers  eight cores (model)")
    for door in given.doors:
        for workers in given.workers:
            with tempfile.TemporaryDirectory(prefix="trishula-proxies-") as name:
                folder = Path(name)
                certificate = make_certificate(folder, 30.0) if door == "wss" else None
                limits = {"rate": "600000/s"}
                config = proxied_config(folder / "node.json", workers, certificate, limits=limits)
                node = NodeProcess(folder / "state", config=config)
                for index in range(AGENTS):
                    node.token(f"a{index}")
                with node:
                    told = {"url": node.url, "certificate": "" if certificate is None else str(certificate)}
                    while len(proxy_processes(node)) < workers:
                        time.sleep(0.05)
                    for batch in given.batches:
                        for serializer in given.serializers:
                            cost = measure(node, given.seconds, **told, serializer=serializer, batch=batch)
                            tell(door, workers, f"{serializer}, {batch} a call", cost)
                    tell(door, workers, "a join", measure_joins(node, **told))


def tell(door: str, workers: int, what: str, cost: Cost) -> None:
    print(
        f"{door:4}  {workers:7}  {what:17}  {cost.router_us:16.1f}  {cost.proxies_us:16.1f}  {cost.model()}", flush=True
    )


if __name__ == "__main__":
    main()
