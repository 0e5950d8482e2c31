"""``make demo`` and ``make up``, as the Makefile runs them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.node import ROOT, environment

pytestmark = pytest.mark.node


def start(tmp_path: Path, *args: str, module: str = "deploy.demo") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *args],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(TMPDIR=str(tmp_path), PYTHONUNBUFFERED="1"),
    )


def test_the_demo(tmp_path: Path) -> None:
    demo = start(tmp_path)
    out, err = demo.communicate(timeout=120)
    assert (demo.returncode, err) == (0, "")
    # The report is of this very machine.
    assert os.uname().nodename in out
    for line in (
        "dc asks agni and rushabdev",
        "dc broadcasts a STATUS",
        "Latency, durable on one node",
    ):
        assert line in out
    kinds = re.findall(r"(?m)^\d{4}-\S+  .* (accepted|delivered|done)\b", out)
    assert kinds == ["accepted", "delivered", "done"]
    assert list(tmp_path.iterdir()) == []


def test_up_stays_until_interrupted_and_what_it_says_to_try_works(tmp_path: Path) -> None:
    up = start(tmp_path, "--stay")
    try:
        assert up.stdout is not None
        lines: list[str] = []
        while not lines or " why " not in lines[-1] or not lines[-1].startswith("  "):
            lines.append(up.stdout.readline())
            assert lines[-1], up.communicate()
        settings = dict(re.findall(r"export (\w+)=(\S+)", "".join(lines)))
        assert set(settings) == {"TRISHULA_URL", "TRISHULA_TOKEN"}
        commands = [line.split()[1:] for line in lines if re.match(r"  \S*trishula ", line)]
        assert [command[0] for command in commands] == ["agents", "call", "why"]
        for command in commands:
            tried = [sys.executable, "-m", "trishula.cli.main", *command]
            done = subprocess.run(tried, capture_output=True, text=True, env=environment(**settings), timeout=60)
            assert (done.returncode, done.stderr) == (0, "")
        up.send_signal(signal.SIGINT)
        _, err = up.communicate(timeout=60)
        assert (up.returncode, err) == (0, "")
    finally:
        # Terminated, not killed: it stops what it started.
        up.terminate()
        up.communicate(timeout=60)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["deploy.demo", "deploy.demo_cluster"])
def test_a_demo_that_is_terminated_leaves_nothing(module: str, tmp_path: Path) -> None:
    demo = start(tmp_path, module=module)
    try:
        until = time.monotonic() + 60
        # In the middle: the agents are being started.
        while not list(tmp_path.glob("trishula-demo-*/rushabdev.log")):
            assert demo.poll() is None, demo.communicate()
            assert time.monotonic() < until
            time.sleep(0.01)
        demo.terminate()
        demo.communicate(timeout=60)
        assert demo.returncode == 128 + signal.SIGTERM
    finally:
        demo.terminate()
        demo.communicate(timeout=60)
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        demo = start(tmp_path, "--port", port)
        _, err = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert err.startswith("demo: start a node with a fresh state directory: the node did not start: ")
    assert port in err
    assert list(tmp_path.iterdir()) == []
