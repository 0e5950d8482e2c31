# ruff: noqa: T201  # a script that prints
"""One node with many agents: what they cost while nothing happens, and how fast all of them are back after a crash.

::

    python -m tests.benchmarks.many_agents                            # 100, 300, 1,000 and 2,000 agents, some 6 minutes
    python -m tests.benchmarks.many_agents --agents 300 --seconds 5   # to see that it works

For each number of agents a node of its own is started, and the agents join it from a few processes. They are real
clients (:class:`trishula.client.Client`) on a thin connection (:mod:`tests.support.thin`): on a small machine the
agents must leave the node something of it, and in life they are elsewhere. Printed are

``join``        from the first connection until all are ready, and how many sessions were lost meanwhile
``idle``        of one core, by the node's router worker, while the agents do nothing but beat
``load``        one way from ``send()`` to the receiver at some 300 messages a second, and the worker's time for one
``one each``    messages a second while each agent sends its next message when it has the receipt of the one before
``broadcast``   from ``send()`` until the last agent has it (median), and the worker's time for one delivery
``burst``       the same for broadcasts that are sent at once: ten, or as many as a node takes at once of one agent
``back``        after ``kill -9`` of the node: from the instant at which the new one is ready until all agents are, and
                how many sessions were lost again on the way

The worker's own time says more than the clock on the wall where other things run beside. No test: how fast a machine
is decides nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from tests.support.node import NodeProcess, environment

SIZES = (100, 300, 1000, 2000)
MEASURED = ("join", "idle", "load", "one each", "broadcast", "burst", "back")
#: Enough to keep each process's own turns short, few enough to leave the node its core.
PROCESSES = 2
LOAD_PER_S = 300.0
BROADCASTS = 5
BURST = 10
#: What a node takes of one agent's broadcasts: deliveries at once, and a second (``limits.broadcast_at_once``, …).
AT_ONCE, PER_S = 5000, 1000
#: An agent that is not back by then is reported as missing.
PATIENCE_S = 90.0


def name_of(index: int) -> str:
    return f"a{index:05d}"


# -- the agents' processes ---------------------------------------------------------------------------------------------


class Crowd:
    """The agents of one process. Answers lines on standard input by lines of JSON."""

    def __init__(self, url: str, first: int, size: int, total: int, tokens: dict[str, str], reactor: Any) -> None:
        from tests.support.thin import ThinConnection
        from trishula.client import Client
        from trishula.runtime.surroundings import real
        from trishula.settings import Settings

        self._reactor = reactor
        self._total = total
        self._random = real(reactor).random
        self._ready: set[int] = set()
        self._size = size
        self._full_at: float | None = None
        self._lost: list[str] = []
        self._failed: Counter[str] = Counter()
        self._heard = 0
        self._heard_at = 0.0
        self._latencies_s: list[float] = []
        self._sending: Any = None
        self.clients = []
        around = real(reactor)
        for index in range(first, first + size):
            settings = Settings((url,), name_of(index), tokens[name_of(index)])
            client = Client(settings, connection=ThinConnection(settings, around), observer=_Watch(self, index))
            client.attach(self._taker(client), window=64, heartbeat_s=10.0)
            self.clients.append(client)

    async def start(self) -> None:
        from trishula.runtime.pending import start

        for client in self.clients:
            start(client.start())
        print("started", flush=True)

    def _taker(self, client: Any) -> Callable[[list[Any]], None]:
        def take(deliveries: list[Any]) -> None:
            now_s = time.monotonic()
            for delivery in deliveries:
                payload = delivery.message.payload
                if payload["kind"] == "load":
                    self._latencies_s.append(now_s - payload["at"])
                self._heard += 1
                self._heard_at = now_s
            client.ack([delivery.token for delivery in deliveries])

        return take

    def ready(self, index: int) -> None:
        self._ready.add(index)
        if len(self._ready) == self._size:
            self._full_at = time.monotonic()

    def lost(self, index: int, error: object) -> None:
        self._ready.discard(index)
        self._lost.append(str(error))

    def failed(self, error: object) -> None:
        self._failed[type(error).__name__] += 1

    def answer(self, line: str) -> dict[str, Any]:
        word, *rest = line.split()
        told: dict[str, Any] = {
            "ready": len(self._ready),
            "full_at": self._full_at,
            "lost": len(self._lost),
            "failed": self._failed,
            "last_loss": self._lost[-1] if self._lost else None,
            "heard": self._heard,
            "heard_at": self._heard_at,
        }
        if word == "forget":
            self._lost, self._failed, self._heard, self._latencies_s = [], Counter(), 0, []
        elif word == "load":
            self._send_at(float(rest[0]), time.monotonic() + float(rest[1]))
        elif word == "each":
            until_s = time.monotonic() + float(rest[0])
            for client in self.clients:
                self._send_next(client, until_s)
        elif word == "latencies":
            told["latencies_s"] = self._latencies_s
        elif word == "broadcast":
            for _ in range(int(rest[0])):
                self.clients[0].broadcast(payload={"kind": "broadcast"})
            told["sent_at"] = time.monotonic()
        return told

    def _send_at(self, rate: float, until_s: float) -> None:
        if time.monotonic() < until_s:
            sender = self.clients[int(self._random() * len(self.clients))]
            to = name_of(int(self._random() * self._total))
            sender.send(to, payload={"kind": "load", "at": time.monotonic(), "text": "x" * 200})
            self._reactor.callLater(1.0 / rate, self._send_at, rate, until_s)

    def _send_next(self, client: Any, until_s: float) -> None:
        if time.monotonic() < until_s:
            to = name_of(int(self._random() * self._total))
            sent = client.send(to, payload={"kind": "each", "text": "x" * 200})
            sent.when_done(lambda _: self._send_next(client, until_s))


class _Watch:
    """Hears of one client's joins and losses; see :class:`trishula.session.attachment.Observer`."""

    def __init__(self, crowd: Crowd, index: int) -> None:
        self._crowd = crowd
        self._index = index

    def joined(self, url: str) -> None:
        self._crowd.ready(self._index)

    def lost(self, url: str, error: object) -> None:
        self._crowd.lost(self._index, error)

    def moved(self, old: str, url: str) -> None: ...

    def unreachable(self, error: object, now_s: float) -> None:
        self._crowd.failed(error)

    def ended(self, error: object) -> None:
        print(f"an agent gave up: {error}", file=sys.stderr, flush=True)


def live(url: str, first: int, size: int, total: int, tokens_file: str) -> None:
    """Be a crowd until the standard input ends."""
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred

    reactor: Any = installed
    tokens = json.loads(Path(tokens_file).read_text())
    crowd = Crowd(url, first, size, total, tokens, reactor)

    def listen() -> None:
        for line in iter(sys.stdin.readline, ""):
            reactor.callFromThread(lambda line=line: print(json.dumps(crowd.answer(line)), flush=True))
        os._exit(0)

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(crowd.start()))
    threading.Thread(target=listen, daemon=True).start()
    reactor.run()


# -- the run -----------------------------------------------------------------------------------------------------------


class Child:
    """A crowd, from outside."""

    def __init__(self, url: str, first: int, size: int, total: int, tokens_file: Path) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.benchmarks.many_agents", "--live", url),
                *(str(first), str(size), str(total), str(tokens_file)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "started":
            raise SystemExit("a process of agents did not start")

    def ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(line, file=self._process.stdin, flush=True)
        told: dict[str, Any] = json.loads(self._process.stdout.readline())
        return told

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20.0)


class Run:
    """The measurements for one number of agents."""

    def __init__(self, node: NodeProcess, size: int, tokens_file: Path, seconds: float) -> None:
        self._node = node
        self._size = size
        self._seconds = seconds
        self._began_s = time.monotonic()
        self._ready_cpu_s = self._cpu_s()
        share = -(-size // PROCESSES)
        self._crowds = [
            Child(node.url, first, min(share, size - first), size, tokens_file) for first in range(0, size, share)
        ]

    def end(self) -> None:
        for crowd in self._crowds:
            crowd.end()

    def _ask(self, line: str) -> list[dict[str, Any]]:
        return [crowd.ask(line) for crowd in self._crowds]

    def _until_full(self, since_s: float) -> tuple[float | None, int]:
        """(seconds from ``since_s`` until all agents are ready, how many are missing)."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            told = self._ask("state")
            if sum(one["ready"] for one in told) == self._size:
                return max(one["full_at"] for one in told) - since_s, 0
            time.sleep(0.1)
        return None, self._size - sum(one["ready"] for one in told)

    def _lost(self) -> str:
        told = self._ask("state")
        why = "".join(f" ({one['last_loss']})" for one in told[:1] if one["last_loss"])
        failed: Counter[str] = Counter()
        for one in told:
            failed.update(one["failed"])
        attempts = ", ".join(f"{count} {name}" for name, count in failed.items()) or "none"
        return f"lost {sum(one['lost'] for one in told)} sessions{why}; attempts that failed: {attempts}"

    def _cpu_s(self) -> float:
        times = psutil.Process(self._node.worker_pid()).cpu_times()
        return float(times.user + times.system)

    def _memory(self) -> float:
        return float(psutil.Process(self._node.worker_pid()).memory_info().rss) / 1024**2

    def measure(self, what: str) -> None:
        """Measure one of :data:`MEASURED`, and print it."""
        ways: dict[str, Callable[[], str]] = {
            "join": self._join,
            "idle": self._idle,
            "load": self._load,
            "one each": self._one_each,
            "broadcast": partial(self._broadcasts, BROADCASTS, 1),
            "burst": partial(self._broadcasts, 1, max(1, min(BURST, AT_ONCE // self._size))),
            "back": self._crash,
        }
        self._tell(what, ways[what]())

    def _tell(self, what: str, found: str) -> None:
        print(f"{self._size:>6,} agents  {what:<10} {found}", flush=True)

    def _join(self) -> str:
        took_s, missing = self._until_full(self._began_s)
        time.sleep(self._seconds / 2)
        return f"{_shown(took_s, missing)}, {self._cpu_s() - self._ready_cpu_s:.1f} s of the worker; {self._lost()}"

    def _idle(self) -> str:
        before_s, began_s = self._cpu_s(), time.monotonic()
        # Two rounds of beats at least.
        time.sleep(max(20.0, self._seconds))
        share = (self._cpu_s() - before_s) / (time.monotonic() - began_s)
        return f"{share * 100:.1f} % of a core, {self._memory():.0f} MiB"

    def _load(self) -> str:
        self._ask("forget")
        before_s = self._cpu_s()
        self._ask(f"load {LOAD_PER_S / len(self._crowds)} {self._seconds}")
        time.sleep(self._seconds + 2.0)
        used_s = self._cpu_s() - before_s
        latencies_ms = sorted(1000 * one for told in self._ask("latencies") for one in told["latencies_s"])
        each_ms = used_s * 1000 / max(1, len(latencies_ms))
        return (
            f"p50 {_quantile(latencies_ms, 0.5):.1f} ms, p99 {_quantile(latencies_ms, 0.99):.1f} ms of "
            f"{len(latencies_ms)} messages; {each_ms:.2f} ms of the worker for each, the idle cost in it"
        )

    def _one_each(self) -> str:
        self._ask("forget")
        before_s = self._cpu_s()
        self._ask(f"each {self._seconds}")
        time.sleep(self._seconds)
        heard = sum(one["heard"] for one in self._ask("state"))
        used_s = self._cpu_s() - before_s
        return f"{heard / self._seconds:,.0f} messages/s; {used_s * 1e6 / max(1, heard):,.0f} µs of the worker for each"

    def _broadcasts(self, times: int, at_once: int) -> str:
        took_s, used_s, due = [], 0.0, at_once * (self._size - 1)
        for _ in range(times):
            # What one broadcast or all of them took is there again; else the rate would be measured.
            time.sleep(AT_ONCE / PER_S if at_once > 1 else due / PER_S)
            self._ask("forget")
            before_s = self._cpu_s()
            sent_at = self._crowds[0].ask(f"broadcast {at_once}")["sent_at"]
            deadline_s = time.monotonic() + PATIENCE_S
            told = self._ask("state")
            while sum(one["heard"] for one in told) < due and time.monotonic() < deadline_s:
                time.sleep(0.02)
                told = self._ask("state")
            took_s.append(max(one["heard_at"] for one in told) - sent_at)
            # The acks are the broadcast's too.
            time.sleep(0.5)
            used_s += self._cpu_s() - before_s
        each_ms = used_s * 1000 / (times * due)
        return f"{statistics.median(took_s) * 1000:,.0f} ms; {each_ms:.3f} ms of the worker for each delivery"

    def _crash(self) -> str:
        port = self._node.port
        self._node.kill()
        self._node.start(port=port)
        ready_s, ready_cpu_s = time.monotonic(), self._cpu_s()
        # What is lost from here on is lost again; the loss of the crash itself was told in the meantime.
        self._ask("forget")
        took_s, missing = self._until_full(ready_s)
        used_s = self._cpu_s() - ready_cpu_s
        time.sleep(self._seconds)
        return f"{_shown(took_s, missing)}, {used_s:.1f} s of the worker; {self._lost()}"


def _shown(took_s: float | None, missing: int) -> str:
    return f"{missing} missing after {PATIENCE_S:.0f} s" if took_s is None else f"{took_s:.1f} s"


def _quantile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def register(state_dir: Path, size: int) -> Path:
    """Register the agents at once, as so many ``trishula token new`` would; the file with their tokens."""
    import secrets

    from trishula_router.agents.file import AgentEntry, update_agents
    from trishula_router.agents.tokens import TokenEntry, digest_of, new_token

    tokens = {name_of(index): new_token(name_of(index), secrets.token_urlsafe) for index in range(size)}
    state_dir.mkdir(mode=0o700)
    with update_agents(state_dir / "agents.json") as agents:
        for name, token in tokens.items():
            agents[name] = AgentEntry(tokens=(TokenEntry(digest_of(token), time.time()),))
    path = state_dir.parent / "tokens.json"
    path.write_text(json.dumps(tokens))
    return path


@contextlib.contextmanager
def node_for(size: int) -> Iterator[tuple[NodeProcess, Path]]:
    """A node with so many registered agents."""
    with tempfile.TemporaryDirectory(prefix="trishula-many-") as directory:
        tokens_file = register(Path(directory) / "state", size)
        with NodeProcess(Path(directory) / "state") as node:
            yield node, tokens_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, action="append", help="how many; may be given several times")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--only", nargs="+", choices=MEASURED, help="what to measure beside the join")
    parser.add_argument("--live", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.live:
        url, first, size, total, tokens_file = options.live
        live(url, int(first), int(size), int(total), tokens_file)
        return
    for size in options.agents or SIZES:
        with node_for(size) as (node, tokens_file), contextlib.ExitStack() as cleanup:
            run = Run(node, size, tokens_file, options.seconds)
            cleanup.callback(run.end)
            for what in MEASURED:
                if what == "join" or not options.only or what in options.only:
                    run.measure(what)


if __name__ == "__main__":
    main()
