# ruff: noqa: T201  # a script that prints
"""TRISHULA beside what one would otherwise take: Redis Streams, NATS JetStream, RabbitMQ, and plain Crossbar.

::

    .venv/bin/python -m tests.benchmarks.beside_peers                          # all that is installed, three runs
    .venv/bin/python -m tests.benchmarks.beside_peers --only redis,trishula --runs 1
    .venv/bin/python -m tests.benchmarks.beside_peers --before ../old          # what another checkout does, in turns
    .venv/bin/python -m tests.benchmarks.beside_peers --rst                    # the table of the docs as well

All get the same work, of Python clients: a sender and a receiver in processes of their own, texts of 300 bytes, each
confirmed by the server and acknowledged by the receiver. TRISHULA's are agents with their files. In each run one system
after the other is started on a temporary folder and a free port, measured, and ended, so that what else the machine
does hits all alike. Printed are the medians of the runs:

``one way``   from the call that sends to the receiver's handler: p50 and p99, from three connections at 100 a second
              each, and from one at 15 a second, where of few samples the p99 is the slowest one
``msg/s``     from the first send to the last message received, with at most 256 that are not confirmed
``CPU``       meanwhile, of all processes of the server, of the sender, of the receiver
``ask``       from a question to its answer, one at a time; and how many a second, with 64 under way. Where messages are
              stored, both are: an agent's ``call``, elsewhere two streams or queues. Plain Crossbar's goes through the
              router

The clients of Redis, NATS and RabbitMQ come from the package index into a temporary environment, or are those of
``--venv``. What is not installed, or does not start, is left out, and said. No test: how fast a machine is decides
nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.peers.figures import Figures, milliseconds, rst, table, typical
from tests.benchmarks.peers.servers import CONNECTIONS, SYSTEMS, CantStart, Server
from tests.support.node import ROOT, environment

SIZE_BYTES = 300
BUSY_PER_S, QUIET_PER_S = 100.0, 15.0
WINDOW, IN_FLIGHT = 256, 64
#: What precedes all else, so that connections, caches and the interpreter have settled.
WARM_S = 0.5
_END_WITHIN_S = 10.0
#: Those that --before measures as well.
OURS = ("trishula", "trishula-2", "trishula-cells")


class Worker:
    """A process at one end."""

    def __init__(self, python: str, task: dict[str, Any]) -> None:
        self._who = f"the {task['role']} of {SYSTEMS[task['system']].name}"
        self._process = subprocess.Popen(
            [python, "-m", "tests.benchmarks.peers.worker"],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            # By a pipe: tokens are nobody else's business.
            self.order(task)
        except BaseException:
            self.end()
            raise

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def order(self, order: dict[str, Any]) -> dict[str, Any]:
        """Have it do something; its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise CantStart(f"{self._who} failed; its error is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """Have it end."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate(timeout=_END_WITHIN_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def measure(system: str, python: str, seconds: float) -> Figures:
    """One run of one system.

    Args:
        python: of an environment with the system's client.
        seconds: of each of its parts but for the shorter ones.

    Raises:
        CantStart: it isn't here, or something failed.
    """
    with (
        tempfile.TemporaryDirectory(prefix="beside-", ignore_cleanup_errors=True) as folder,
        SYSTEMS[system].start(Path(folder)) as server,
    ):
        return measure_on(server, system, python, seconds)


def measure_on(server: Server, system: str, python: str, seconds: float, connections: int = CONNECTIONS) -> Figures:
    """:func:`measure` on a server that runs, by a sender with so many connections."""
    common = {"system": system, "address": server.address, "size_bytes": SIZE_BYTES}
    with contextlib.ExitStack() as ends:
        receiver = Worker(python, {"role": "receiver", **common})
        ends.callback(receiver.end)
        sender = Worker(python, {"role": "sender", "connections": connections, **common})
        ends.callback(sender.end)
        return _measured(server, receiver, sender, seconds, connections)


def _measured(server: Server, receiver: Worker, sender: Worker, seconds: float, connections: int) -> Figures:
    lost = doubled = 0

    def sent(order: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the two ends say of messages that were sent."""
        nonlocal lost, doubled
        receiver.order({"do": "begin"})
        went = sender.order(order)
        came = receiver.order({"do": "report", "count": went["sent"]})
        lost += went["sent"] - came["count"]
        doubled += came["doubled"]
        return went, came

    flood = {"do": "flood", "window": WINDOW}
    sent({**flood, "seconds": min(WARM_S, seconds)})
    pace = {"do": "pace", "connections": connections, "rate": BUSY_PER_S, "seconds": seconds}
    busy = sent(pace)[1]["one_way_ns"]
    quiet = sent({**pace, "connections": 1, "rate": QUIET_PER_S})[1]["one_way_ns"]
    server_s = -server.cpu_s()
    went, came = sent({**flood, "seconds": seconds})
    server_s += server.cpu_s()
    count = max(came["count"], 1)
    one = sender.order({"do": "ask", "in_flight": 1, "seconds": seconds / 2})
    many = sender.order({"do": "ask", "in_flight": IN_FLIGHT, "seconds": seconds / 2})
    return Figures(
        busy_p50_ms=milliseconds(busy, 0.5),
        busy_p99_ms=milliseconds(busy, 0.99),
        quiet_p50_ms=milliseconds(quiet, 0.5),
        quiet_p99_ms=milliseconds(quiet, 0.99),
        per_s=came["count"] / max((came["last_ns"] - went["first_ns"]) / 1e9, 1e-9),
        server_us=server_s / count * 1e6,
        sender_us=went["cpu_s"] / count * 1e6,
        receiver_us=came["cpu_s"] / count * 1e6,
        ask_p50_ms=milliseconds(one["waits_ns"], 0.5),
        asks_per_s=len(many["waits_ns"]) / many["took_s"],
        lost=lost,
        doubled=doubled,
    )


@contextlib.contextmanager
def clients(needed: list[str], venv: str | None) -> Iterator[str]:
    """The Python of an environment that has those packages.

    Raises:
        CantStart: they can't be installed.
    """
    if venv is not None or not needed:
        yield str(Path(venv) / "bin" / "python") if venv is not None else sys.executable
        return
    with tempfile.TemporaryDirectory(prefix="beside-clients-") as folder:
        print(f"installing {', '.join(needed)} for the clients", file=sys.stderr, flush=True)
        python = str(Path(folder) / "bin" / "python")
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        done = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *needed], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise CantStart(f"the clients can't be installed: {done.stderr.strip().splitlines()[-1]}")
        yield python


def installed(chosen: list[str]) -> dict[str, str]:
    """The versions of those systems that are there; the others are said."""
    versions = {}
    for system in chosen:
        try:
            versions[system] = SYSTEMS[system].version()
        except CantStart as error:
            print(f"{SYSTEMS[system].name} is left out: {error}", file=sys.stderr)
    return versions


def measure_before(system: str, checkout: Path, seconds: float) -> Figures:
    """:func:`measure` of the TRISHULA in another checkout, which has its ``.venv``, by this program.

    Raises:
        CantStart: something failed.
    """
    with tempfile.TemporaryDirectory(prefix="beside-before-") as root:
        for package in ("components", "router", "config"):
            (Path(root) / package).symlink_to(checkout / package)
        # Not by a symbolic link: what is in there knows its checkout by where it is.
        for package in ("benchmarks", "support"):
            shutil.copytree(ROOT / "tests" / package, Path(root) / "tests" / package)
        command = [str(python_of(checkout)), "-m", "tests.benchmarks.beside_peers"]
        command += ["--measure", system, "--seconds", str(seconds)]
        done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise CantStart("its error is above")
    return Figures(**json.loads(done.stdout))


def python_of(checkout: Path) -> Path:
    """The Python of the environment in a checkout."""
    return checkout / ".venv" / "bin" / "python"


def before_of(system: str) -> str:
    """The name of another checkout's system, short enough for the table."""
    return SYSTEMS[system].name.replace("TRISHULA", "before")


def compare(
    versions: dict[str, str], python: str, before: Path | None, runs: int, seconds: float
) -> dict[str, Figures]:
    """The typical figures of systems, by name; one that fails is left out from then on, and said.

    Args:
        versions: of the systems.
        python: of an environment with the clients of those that need one.
        before: a checkout with another TRISHULA and its ``.venv``, which takes turns with ours.
    """
    ways: dict[str, Callable[[], Figures]] = {}
    for system in versions:
        name, here = SYSTEMS[system].name, python if SYSTEMS[system].clients else sys.executable
        ways[name] = partial(measure, system, here, seconds)
        if before is not None and system in OURS:
            ways[before_of(system)] = partial(measure_before, system, before, seconds)
    found: dict[str, list[Figures]] = {name: [] for name in ways}
    for number in range(1, runs + 1):
        for name in list(found):
            print(f"run {number} of {runs}: {name}", file=sys.stderr, flush=True)
            try:
                found[name].append(ways[name]())
            except CantStart as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
                del found[name]
    return {name: typical(figures) for name, figures in found.items()}


def main() -> int:
    """The program; 1 if a message was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="beside_peers"
    )
    parser.add_argument("--only", metavar="SYSTEMS", help=f"with commas between: {', '.join(SYSTEMS)}")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each part of a run")
    parser.add_argument("--venv", help="an environment with the clients of Redis, NATS and RabbitMQ")
    parser.add_argument("--rst", action="store_true", help="print the docs' table as well")
    parser.add_argument(
        "--before", metavar="CHECKOUT", type=Path, help="of another TRISHULA, with its .venv, to compare"
    )
    parser.add_argument("--measure", metavar="SYSTEM", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(asdict(measure(given.measure, sys.executable, given.seconds))))
        return 0
    chosen = given.only.split(",") if given.only else list(SYSTEMS)
    if unknown := [system for system in chosen if system not in SYSTEMS]:
        parser.error(f"there is no system {unknown[0]!r}: choose from {', '.join(SYSTEMS)}")
    if given.before and not python_of(given.before).exists():
        parser.error(f"{python_of(given.before)} is not there: make that checkout's environment first (make venv)")
    versions = installed(chosen)
    needed = [SYSTEMS[system].clients for system in versions if SYSTEMS[system].clients]
    try:
        with clients(needed, given.venv) as python:
            found = compare(versions, python, given.before and given.before.absolute(), given.runs, given.seconds)
    except CantStart as error:
        parser.exit(1, f"{error}\n")
    print(table(found))
    print()
    known = {SYSTEMS[system].name: f"{SYSTEMS[system].name} {version}" for system, version in versions.items()}
    confirms = {system.name: system.confirms for system in SYSTEMS.values()}
    for system in OURS:
        name = before_of(system)
        known[name], confirms[name] = f"TRISHULA {name}", SYSTEMS[system].confirms
    for name, figures in found.items():
        wrong = f"; LOST {figures.lost}, TWICE {figures.doubled}" if figures.lost or figures.doubled else ""
        print(f"{known[name]}: {confirms[name]}{wrong}")
    if given.rst:
        print(f"\n{rst(found, known, confirms)}")
    return 1 if any(figures.lost for figures in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
