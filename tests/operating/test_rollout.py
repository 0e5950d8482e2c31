"""A release is rolled out over two linked nodes while an agent works, and a bad one goes back by itself.

The hosts are folders of this machine: a command in the place of ``ssh`` runs what is sent to one in its folder, and
``systemctl`` there starts and stops a real node. Everything else is what an operator would have: the release that runs
first is the earlier one, out of git's history, and the one that is rolled out is the present one.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

import trishula
from tests.support.cluster import Cluster
from tests.support.earlier import earlier_release
from tests.support.node import ROOT, environment
from tests.support.reactor import on_reactor

pytestmark = pytest.mark.node

#: What the program of an installation holds.
PROGRAM = "from trishula.cli.program import main; main()"
#: In the order in which they are replaced: agents prefer agni.
HOSTS = ("rushabdev", "agni")
TALKER = Path(__file__).with_name("talking_agent.py")

#: ``HOST WORDS``, as ssh has them.
SSH = """#!/bin/bash
set -a
. "$(dirname "$0")/$1/host.env"
set +a
exec bash -c "${*:2}"
"""

#: It has started when the node has said where it listens, as a unit with Type=notify.
SYSTEMCTL = """#!/bin/bash
echo "$*" >>"$HOST/asked"
pid() { cat "$HOST/pid" 2>/dev/null; }
runs() { [[ -n $(pid) ]] && grep -q '^State:[[:space:]]*[^Z[:space:]]' "/proc/$(pid)/status" 2>/dev/null; }
case $1 in
start)
    runs && exit 0
    : >"$HOST/out"
    setsid "$TRISHULA_PREFIX/current/bin/trishula" node start --config "$TRISHULA_CONFIG" --state "$TRISHULA_STATE" \
        >"$HOST/out" 2>&1 </dev/null &
    echo $! >"$HOST/pid"
    until grep -q ^ws: "$HOST/out"; do runs || exit 1; sleep 0.05; done
    ;;
stop)
    runs && kill "$(pid)"
    while runs; do sleep 0.05; done
    ;;
esac
"""

#: A release whose nodes take every configuration and never come up.
BROKEN = """case "$*" in *"node start"*) echo "a fault of this release" >&2; exit 1;; esac
"""


class Hosts:
    """Two folders, each as a host on which ``deploy/install.sh`` has installed three releases."""

    def __init__(self, directory: Path, before: str) -> None:
        self.directory = directory
        self.cluster = Cluster(directory, sorted(HOSTS))
        for agent in ("worker", "ops"):
            self.cluster.token(agent, operator=agent == "ops")
        self.script("ssh", SSH)
        for name in HOSTS:
            self.script(f"{name}.d/bin/systemctl", SYSTEMCTL)
            for release, path, first in (("old", before, ""), ("new", "", ""), ("broken", "", BROKEN)):
                sources = path or environment()["PYTHONPATH"]
                run = f'PYTHONPATH={sources} exec {sys.executable} -c "{PROGRAM}" "$@"\n'
                self.script(f"{name}.d/opt/releases/{release}/bin/trishula", "#!/bin/sh\n" + first + run)
            home = directory / f"{name}.d"
            (home / "opt" / "current").symlink_to("releases/old")
            (home / "ops.token").write_text(self.cluster.tokens["ops"])
            told = {
                "HOST": home,
                "PATH": f"{home}/bin:{os.environ['PATH']}",
                "TRISHULA_PREFIX": home / "opt",
                "TRISHULA_CONFIG": directory / f"{name}.json",
                "TRISHULA_STATE": directory / name,
                "TRISHULA_TOKEN_FILE": home / "ops.token",
                "TRISHULA_AS": "",
                "TRISHULA_GATE_S": "60",
            }
            (home / "host.env").write_text("".join(f"{key}={shlex.quote(str(it))}\n" for key, it in told.items()))
            (directory / f"{name}.host").symlink_to(home)

    def script(self, path: str, text: str) -> None:
        file = self.directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o700)

    def on(self, host: str, words: str) -> str:
        """Run it on the host; its output."""
        command = [str(self.directory / "ssh"), f"{host}.d", words]
        return subprocess.run(
            command, env=environment(), check=True, capture_output=True, text=True, timeout=120
        ).stdout

    def runs(self, host: str) -> str:
        """The release that the host is set to."""
        return os.readlink(self.directory / f"{host}.d" / "opt" / "current").removeprefix("releases/")

    def roll_out(self, release: str) -> subprocess.CompletedProcess[str]:
        """``deploy/rollout.sh``."""
        command = [str(ROOT / "deploy" / "rollout.sh"), "--release", release, "--sudo", "", "--drill", ""]
        command += ["--ssh", str(self.directory / "ssh"), *(f"{host}.d" for host in HOSTS)]
        return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=240)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Their nodes, started as the releases that they are set to."""
        with ExitStack() as stack:
            for host in HOSTS:
                stack.callback(self.on, host, "systemctl stop trishula-node")
            starting = [
                subprocess.Popen(
                    [str(self.directory / "ssh"), f"{host}.d", "systemctl start trishula-node"], env=environment()
                )
                for host in HOSTS
            ]
            assert [one.wait(90) for one in starting] == [0, 0]
            yield


@on_reactor
async def test_a_release_is_rolled_out_and_a_bad_one_goes_back(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path, earlier_release(tmp_path / "earlier"))
    urls = ",".join(f"ws://127.0.0.1:{hosts.cluster[name].port}/ws" for name in sorted(HOSTS))
    with hosts.running():
        surroundings = environment(TALKER="worker", TRISHULA_URL=urls, TRISHULA_TOKEN=hosts.cluster.tokens["worker"])
        worker = subprocess.Popen([sys.executable, str(TALKER)], env=surroundings)
        try:
            async with trishula.AsyncClient(url=urls, token=hosts.cluster.tokens["ops"]) as ops:
                asked = 0
                rolling = deferToThread(hosts.roll_out, "new")
                while not rolling.called:
                    assert await ops.call("worker", "double", asked, timeout=60.0) == 2 * asked
                    asked += 1
                    await deferLater(reactor, 0.05, lambda: None)
                done = await rolling
                assert done.returncode == 0, done.stdout + done.stderr
                assert [hosts.runs(host) for host in HOSTS] == ["new", "new"]
                # No call was lost and none ran twice, while each node was away in turn.
                assert asked > 10
                assert await ops.call("worker", "all_that_ran", timeout=60.0) == list(range(asked))

                done = await deferToThread(hosts.roll_out, "broken")
                assert done.returncode == 1, done.stdout + done.stderr
                assert "rushabdev.d: did not come through with broken; going back" in done.stdout
                assert [hosts.runs(host) for host in HOSTS] == ["new", "new"]
                # The second host was not touched: started at first, and replaced once.
                asked_of_agni = (tmp_path / "agni.d" / "asked").read_text().split("\n")
                assert [line.split()[0] for line in asked_of_agni if line] == ["start", "stop", "start"]
                assert await ops.call("worker", "double", asked, timeout=60.0) == 2 * asked
        finally:
            worker.terminate()
            worker.wait(30)

        # The health check of the image, on a node that runs.
        healthy = [sys.executable, str(ROOT / "deploy" / "docker" / "healthy.py")]
        state = str(hosts.cluster["agni"].state_dir)
        subprocess.run(healthy, env=environment(TRISHULA_STATE=state), check=True)
        nowhere = subprocess.run(healthy, env=environment(TRISHULA_STATE=str(tmp_path)), capture_output=True, text=True)
        assert (nowhere.returncode, nowhere.stderr[:10]) == (1, "unhealthy:")

        # A backup of a node that runs is good for a node anew.
        rehearsal = [str(ROOT / "deploy" / "rehearse_restore.sh"), "--state", str(hosts.cluster["agni"].state_dir)]
        rehearsal += ["--program", str(tmp_path / "agni.d" / "opt" / "current" / "bin" / "trishula"), "--json"]
        done = await deferToThread(subprocess.run, rehearsal, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        told = json.loads(done.stdout)
        assert told["ok"] is True
        assert told["restored"]["bodies"] == told["backup"]["bodies"] > 0
