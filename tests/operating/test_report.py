"""``trishula report`` of two linked nodes, one of which is killed and comes back, looked at in a real browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster
from tests.support.node import environment
from tests.support.recount import differences

pytestmark = pytest.mark.node

#: Sends and takes so many messages each time that it is told to.
_TRAFFIC = """
import sys, trishula
dc = trishula.connect(agent="dc", token=sys.argv[1], timeout=60)
agni = trishula.connect(agent="agni", token=sys.argv[2], timeout=60)
for line in sys.stdin:
    count = int(line)
    for number in range(count):
        dc.send("agni", type="STATUS", payload={"number": number})
    # Some come twice: what was acked at a node that was killed then, the other one may not have heard.
    for message in agni.messages(wait_s=1):
        pass
    print("done", flush=True)
dc.close()
agni.close()
"""


def run(cluster: Cluster, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "trishula.cli.main", *arguments],
        env=environment(
            TRISHULA_URL=cluster["agni"].url,
            TRISHULA_TOKEN=cluster.tokens["boss"],
        ),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def journal(cluster: Cluster, node: str) -> list[dict[str, Any]]:
    """A whole journal as ``audit query`` prints it."""
    told = json.loads(run(cluster, "audit", "query", "--node", node, "--limit", "5000", "--json"))
    assert not told["more"]
    return list(told["records"])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("report"), ["agni", "rushabdev"])
    for name in ("agni", "dc"):
        cluster.token(name)
    cluster.token("boss", operator=True)
    with cluster:
        urls = ",".join(cluster[name].url for name in ("agni", "rushabdev"))
        with subprocess.Popen(
            [sys.executable, "-c", _TRAFFIC, cluster.tokens["dc"], cluster.tokens["agni"]],
            env=environment(TRISHULA_URL=urls),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as traffic:
            assert traffic.stdin is not None and traffic.stdout is not None
            for step in ("before", "while", "after"):
                if step == "while":
                    cluster["agni"].kill()
                traffic.stdin.write("20\n")
                traffic.stdin.flush()
                assert traffic.stdout.readline() == "done\n", step
                if step == "while":
                    cluster["agni"].start()
                    cluster.wait_linked()
            traffic.stdin.close()
            assert traffic.wait(60) == 0
        deadline_s = time.monotonic() + 60
        # Acks travel behind what they are for.
        while json.loads(run(cluster, "report", "--since", "1h", "--json"))["messages"]["open"]:
            assert time.monotonic() < deadline_s
        yield cluster


def test_the_figures_are_those_of_the_journals(cluster: Cluster) -> None:
    report = json.loads(run(cluster, "report", "--since", "1h", "--json"))
    journals = {node: journal(cluster, node) for node in ("agni", "rushabdev")}
    assert differences(report, journals) == []
    accepted: dict[tuple[str, str], tuple[int, int]] = {}
    for node, records in journals.items():
        for record in records:
            if record["kind"] == "accepted":
                accepted[node, record["id"]] = record.get("position", record["seq"]), record["at"]
    done = {
        position: record["at"] - record.get("clock_ahead_ms", 0)
        for records in journals.values()
        for record in records
        if record["kind"] == "done"
        for position in record["messages"]
    }
    took_ms = sorted(done[position] - at for position, at in accepted.values() if position in done)
    assert report["messages"]["accepted"] == len(accepted) == 60
    assert report["messages"]["done"] == len(took_ms) == 60
    assert report["latency"]["max_ms"] == max(took_ms)
    assert report["latency"]["p50_ms"] == took_ms[29]
    assert [(pair["from"], pair["to"], pair["done"]) for pair in report["pairs"]] == [("dc", "agni", 60)]
    assert sum(step["accepted"] for step in report["series"]) == 60


def test_a_killed_node_its_link_and_who_moved_are_in_it(cluster: Cluster) -> None:
    report = json.loads(run(cluster, "report", "--since", "1h", "--json"))
    assert [one["road"] for one in report["canaries"]] == ["live", "link", "files"]
    nodes = {node["node"]: node for node in report["nodes"]}
    started = [record["at"] for record in journal(cluster, "agni") if record["kind"] == "node_started"]
    assert (nodes["agni"]["crashes"], nodes["rushabdev"]["crashes"]) == (1, 0)
    # It may be not ready a moment longer, and a machine with much to do may have it stand still: both count, too.
    [down_from] = [since for since, until in nodes["agni"]["down"] if since < started[1] <= until]
    assert started[0] < down_from < started[1]
    # From the kill on there was always a node, unless the machine had the other one stand still as well. Before it,
    # agni may have been there alone, and not be ready for a moment.
    others = nodes["rushabdev"]["down"]
    for since, until in report["bus"]["down"]:
        assert until <= down_from or any(begin <= since and until <= end for begin, end in others), report
    assert (report["bus"]["availability"] == 1) == (not report["bus"]["down"])
    kinds = Counter(one["kind"] for one in report["incidents"])
    assert kinds["node down"] >= 1 and kinds["link down"] >= 1
    moved = {(one["agent"], one["from"], one["to"]) for one in report["failovers"]}
    assert {("dc", "agni", "rushabdev"), ("agni", "agni", "rushabdev")} <= moved


@pytest.mark.parametrize("form", ["html", "md", "png"])
def test_it_is_written_whole(cluster: Cluster, tmp_path: Path, form: str) -> None:
    out = tmp_path / f"report.{form}"
    run(cluster, "report", "--period", "daily", "--out", str(out))
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    written = out.read_bytes()
    assert written.startswith({"html": b"<!doctype html>", "md": b"# TRISHULA report", "png": b"\x89PNG"}[form])
    if form == "html":
        # Nothing of it comes from elsewhere, and nothing in it runs.
        text = written.decode()
        assert "<script" not in text and "src=" not in text
        assert re.findall(r'(?:href|src)="(?!#|data:)', text) + re.findall(r"url\((?!#)", text) == []
        assert text.count("<svg") == 5 and "node down" in text
