"""``trishula check`` against a real node: every check in every form."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.node import NodeProcess, environment
from tests.support.prometheus import PROMTOOL, needs_promtool

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    node = NodeProcess(tmp_path_factory.mktemp("check") / "state")
    node.token("dc")
    node.token("boss", operator=True)
    with node:
        yield node


def check(node: NodeProcess, who: str, *args: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "trishula.cli.main", "check", *args],
        capture_output=True,
        text=True,
        env=environment(TRISHULA_URL=node.url, TRISHULA_TOKEN=node.tokens[who]),
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


NAMES = ["agents", "mailbox", "dead", "link", "disk", "clock"]


def test_all_checks_in_all_forms(node: NodeProcess) -> None:
    code, out, err = check(node, "boss", "all", "--format", "json")
    found = {one["check"]: one for one in json.loads(out)}
    assert err == ""
    # Of "ready" nothing is asserted but that it is told: what this machine is like may be a warning.
    assert {name: found[name]["state"] for name in NAMES} == dict.fromkeys(NAMES, "ok"), out
    assert "ready" in found and code in (0, 1, 2, 3)
    _, out, err = check(node, "boss", "all", "--format", "nagios")
    assert out.startswith("TRISHULA ") and "'dead_letters'=0;1;100" in out and err == ""


@needs_promtool
def test_prometheus_takes_what_is_printed_for_it(node: NodeProcess) -> None:
    _, out, err = check(node, "boss", "all", "--format", "prometheus")
    assert 'trishula_check_state{check="disk"} 0' in out.splitlines() and err == ""
    promtool = subprocess.run([PROMTOOL, "check", "metrics"], input=out, capture_output=True, text=True, timeout=60)
    assert (promtool.returncode, promtool.stdout, promtool.stderr) == (0, "", "")


def test_each_check_by_itself(node: NodeProcess) -> None:
    for name in ("disk", "journal"):
        code, out, err = check(node, "boss", name)
        assert (code, err) == (0, "") and out.startswith(f"ok        {name}: "), out
    code, out, _ = check(node, "boss", "certificate")
    assert code == 3 and "wss://" in out
    code, out, _ = check(node, "boss", "agents", "--agent", "dc")
    assert (code, out) == (2, "critical  agents: dc has never been there\n")
    code, out, _ = check(node, "dc", "disk", "--format", "nagios")
    assert code == 3 and "operator's token" in out
