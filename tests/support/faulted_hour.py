"""An hour with faults, and its report: ``python -m tests.support.faulted_hour --minutes 60 --out FOLDER``.

Two linked nodes and three agents under light traffic. Faults come at instants that are known, at such parts of the run:

==========  ===========================================================================================================
0.10–0.20   the node ``agni`` is killed, and started again
0.30–0.40   the node ``rushabdev`` stands still (SIGSTOP), and goes on
0.50–0.65   the agent ``dhara`` is killed, and started again
0.50        three messages that nobody can handle
0.75–0.85   the network of the agent ``surya`` is slow: 0.4 to 0.8 s each way
==========  ===========================================================================================================

Then ``trishula report`` is made. Its incidents must stand at those instants, and its figures be those that
:mod:`tests.support.recount` counts out of ``trishula audit query``. It ends with 0 if all is so, and prints what isn't.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.cluster import Cluster
from tests.support.node import ROOT, environment
from tests.support.recount import Record, differences
from trishula_drill.faults import Kind
from trishula_drill.proxy import Network, Toxic

__all__ = ["FaultedRun", "main", "problems"]

#: The parts of the run in which something is wrong.
_KILLED, _FROZEN, _GONE, _SLOW = (0.10, 0.20), (0.30, 0.40), (0.50, 0.65), (0.75, 0.85)
_SLOW_S = 0.8
#: Handled in so many ms, a message had a good network; twice the half of ``_SLOW_S`` is the least that a bad one takes.
_FAST_MS = 300
_DEAD = 3
#: A peer is given up, a session found dead, a killed node ready again after so many seconds at most.
_SEEN_S = 45.0
#: The last record of a killed node is younger than this; there is a message each :data:`_EVERY_S`.
_LAST_S = 10.0
_EVERY_S = 1.0


class FaultedRun:
    """Runs it.

    Args:
        directory: for nodes and results.
        minutes: how long traffic goes on.

    Attributes:
        faults: what was wrong → (from, until), ms.
    """

    def __init__(self, directory: Path, minutes: float) -> None:
        self.faults: dict[str, tuple[int, int]] = {}
        self.report: dict[str, Any] = {}
        self.journals: dict[str, list[Record]] = {}
        self._directory, self._span_s = directory, minutes * 60.0
        self._cluster = Cluster(directory, ["agni", "rushabdev"])
        self._begun_s = 0.0
        for name in ("dc", "surya", "dhara"):
            self._cluster.token(name)
        self._cluster.token("boss", operator=True)

    def run(self) -> None:
        """Traffic with faults, then the report."""
        with Network() as network, self._cluster as cluster, contextlib.ExitStack() as agents:
            since = _now_ms()
            proxies = [network.proxy(cluster[name].port, random.Random(1)) for name in ("agni", "rushabdev")]
            slow_urls = ",".join(f"ws://127.0.0.1:{proxy.port}/ws" for proxy in proxies)
            urls = ",".join(cluster[name].url for name in ("agni", "rushabdev"))
            agents.enter_context(self._agent("surya", slow_urls, "take"))
            # Another process takes its place later.
            dhara = agents.enter_context(contextlib.ExitStack())
            killed = dhara.enter_context(self._agent("dhara", urls, "take"))
            to_surya = agents.enter_context(self._agent("dc", urls, "send", "surya", str(_EVERY_S)))
            to_dhara = agents.enter_context(self._agent("dc", urls, "send", "dhara", str(3 * _EVERY_S)))
            self._begun_s = time.monotonic()
            with self._fault("killed", _KILLED):
                cluster["agni"].kill()
                self._wait(_KILLED[1])
                cluster["agni"].start()
            with self._fault("frozen", _FROZEN):
                cluster["rushabdev"].freeze()
                self._wait(_FROZEN[1])
                cluster["rushabdev"].thaw()
            with self._fault("gone", _GONE):
                killed.kill()
                _tell(to_surya, f"{_DEAD}\n")
                self._wait(_GONE[1])
                dhara.enter_context(self._agent("dhara", urls, "take"))
            with self._fault("slow", _SLOW):
                for proxy in proxies:
                    network.spoil(proxy, Toxic(Kind.LATENCY, _SLOW_S))
                self._wait(_SLOW[1])
                for proxy in proxies:
                    network.spoil(proxy, None)
            self._wait(1.0)
            for sender in (to_surya, to_dhara):
                assert sender.stdin is not None
                sender.stdin.close()
                assert sender.wait(180) == 0, "a sender ended with an error"
            until = self._all_ended(since)
            span = ("--since", _text(since), "--until", _text(until))
            self.report = json.loads(self._ask("report", *span, "--json"))
            for form in ("html", "md", "png", "json"):
                self._ask("report", *span, "--out", str(self._directory / f"report.{form}"))
            self.journals = {node: self._journal(node) for node in ("agni", "rushabdev")}

    @contextlib.contextmanager
    def _agent(self, name: str, urls: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        with (
            (self._directory / f"{name}.log").open("a") as log,
            subprocess.Popen(
                [sys.executable, "-m", "tests.support.light_traffic", *arguments],
                env=environment(TRISHULA_URL=urls, TRISHULA_AGENT=name, TRISHULA_TOKEN=self._cluster.tokens[name]),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stderr=log,
                text=True,
            ) as process,
        ):
            try:
                yield process
            finally:
                process.kill()

    @contextlib.contextmanager
    def _fault(self, name: str, parts: tuple[float, float]) -> Iterator[None]:
        self._wait(parts[0])
        begin = _now_ms()
        _say(f"{_text(begin)} {name}")
        yield
        self.faults[name] = begin, _now_ms()
        _say(f"{_text(self.faults[name][1])} {name} no more")

    def _wait(self, part: float) -> None:
        """Wait until so much of the run has passed."""
        time.sleep(max(0.0, self._begun_s + part * self._span_s - time.monotonic()))

    def _all_ended(self, since: int) -> int:
        """Wait until no message is open, for some minutes at most; the time, which no message was accepted behind."""
        until = _now_ms()
        deadline_s = time.monotonic() + 150
        span = ("--since", _text(since), "--until", _text(until))
        while json.loads(self._ask("report", *span, "--json"))["messages"]["open"]:
            if time.monotonic() > deadline_s:
                # The figures are compared all the same.
                break
            time.sleep(1)
        return until

    def _ask(self, *arguments: str) -> str:
        """What ``trishula`` prints; it knows both nodes."""
        urls = ",".join(self._cluster[name].url for name in ("agni", "rushabdev"))
        done = subprocess.run(
            [sys.executable, "-m", "trishula.cli.main", *arguments],
            env=environment(TRISHULA_URL=urls, TRISHULA_TOKEN=self._cluster.tokens["boss"]),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _journal(self, node: str) -> list[Record]:
        records: list[Record] = []
        after, more = 0, True
        while more:
            page = ("--node", node, "--after", str(after), "--limit", "20000", "--json")
            told = json.loads(self._ask("audit", "query", *page))
            records += told["records"]
            after, more = told["after"], told["more"]
        return records


def problems(
    report: Mapping[str, Any], journals: Mapping[str, list[Record]], faults: Mapping[str, tuple[int, int]]
) -> list[str]:
    """What the report doesn't tell as it was, a sentence each.

    Args:
        report: as ``trishula report --json`` prints it.
        journals: node → its whole journal.
        faults: as of :class:`FaultedRun`.
    """
    found = differences(report, journals)

    def expect(what: str, told: list[tuple[int, int | None]], fault: str, begin_s: float, end_s: float) -> None:
        """One of what was told began and ended near the fault, so many seconds before or behind it."""
        begin, end = faults[fault]
        low, high = sorted((begin, round(begin + begin_s * 1000)))
        if not any(
            low - 1000 <= one <= high + 1000 and until is not None and abs(until - end) <= end_s * 1000
            for one, until in told
        ):
            found.append(f"{what} should be from about {_text(begin)} until {_text(end)}, and is told of {told}")

    nodes = {node["node"]: node for node in report["nodes"]}
    incidents = [(one["kind"], one["about"], one["from"], one["until"]) for one in report["incidents"]]
    expect("agni down", [tuple(one) for one in nodes["agni"]["down"]], "killed", -_LAST_S, _SEEN_S)
    expect(
        "the incident node down",
        [(begin, end) for kind, about, begin, end in incidents if (kind, about) == ("node down", "agni")],
        "killed",
        -_LAST_S,
        _SEEN_S,
    )
    links = [(begin, end) for kind, _, begin, end in incidents if kind == "link down"]
    expect("the link to the killed node down", links, "killed", _SEEN_S, _SEEN_S)
    expect("the link to the frozen node down", links, "frozen", _SEEN_S, _SEEN_S)
    agents = {one["agent"]: one for one in report["agents"]}
    expect("dhara away", [tuple(one) for one in agents["dhara"]["away"]], "gone", _SEEN_S, _SEEN_S)
    stray = [
        (kind, about, _text(begin))
        for kind, about, begin, end in incidents
        if kind in ("node down", "link down")
        and not any(
            low - _LAST_S * 1000 <= begin <= high + _SEEN_S * 1000 for low, high in _of(faults, "killed", "frozen")
        )
    ]
    found += [f"nothing was wrong when the report tells of {one}" for one in stray]
    if report["messages"]["open"]:
        found.append(f"{report['messages']['open']} messages have not ended")
    dead = [(begin, end) for kind, _, begin, end in incidents if kind == "dead letters"]
    if report["messages"]["dead"] != _DEAD or not all(begin >= faults["gone"][0] for begin, _ in dead) or not dead:
        found.append(f"{_DEAD} messages could not be handled, and the report tells of {dead}")
    expect("rushabdev down", [tuple(one) for one in nodes["rushabdev"]["down"]], "frozen", -_LAST_S, _SEEN_S)
    if nodes["rushabdev"]["crashes"] or nodes["agni"]["crashes"] != 1:
        found.append("the node agni crashed once, rushabdev never, and the report says otherwise")
    found += [f"{one['node']} was not asked when it was down" for one in nodes.values() if one["told_by"] != "node"]
    if report["bus"]["down"]:
        found.append(f"one node was there all the time, and the report tells of {report['bus']['down']}")
    moved = {(one["agent"], one["from"], one["to"]) for one in report["failovers"]}
    if ("surya", "agni", "rushabdev") not in moved:
        found.append(f"surya went from the killed node to the other one, and the report tells of {sorted(moved)}")
    return found + _latencies(report, faults)


def _of(faults: Mapping[str, tuple[int, int]], *names: str) -> list[tuple[int, int]]:
    return [faults[name] for name in names]


def _latencies(report: Mapping[str, Any], faults: Mapping[str, tuple[int, int]]) -> list[str]:
    """Latency is high while the network is slow, and low at the run's begin and end."""
    step_ms = round(report["step_s"] * 1000)
    begin, end = faults["slow"]
    slow, fine = [], []
    for step in report["series"]:
        if step["p50_ms"] is None:
            continue
        if begin <= step["at"] and step["at"] + step_ms <= end:
            slow.append(step["p50_ms"])
        elif step["at"] + step_ms <= faults["killed"][0] or step["at"] >= end + _SEEN_S * 1000:
            fine.append(step["p50_ms"])
    if not slow or not fine or statistics.median(slow) < _FAST_MS or statistics.median(fine) > _FAST_MS:
        return [f"p50 should be high while the network was slow only: it was {slow}, and {fine[:20]} else"]
    return []


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _now_ms() -> int:
    return int(time.time() * 1000)


def _text(at: int) -> str:
    """An instant as the command line takes it."""
    seconds, ms = divmod(at, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{ms:03d}Z"


def _tell(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--out", type=Path, help="a folder for the nodes, the logs and the report (a temporary one)")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        out = given.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        out.mkdir(parents=True, exist_ok=True)
        run = FaultedRun(out, given.minutes)
        run.run()
        for name, value in (("faults", run.faults), ("journals", run.journals)):
            (out / f"{name}.json").write_text(json.dumps(value))
        _say(json.dumps({name: run.report[name] for name in ("messages", "latency", "nodes", "agents")}, indent=1))
        for one in run.report["incidents"]:
            until = "now" if one["until"] is None else _text(one["until"])
            _say(f"{_text(one['from'])} – {until} {one['kind']}: {one['about']} {one['detail']}")
        found = problems(run.report, run.journals, run.faults)
        _say("\n".join(found) or "the report tells all of it")
        return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
