"""The shipped configuration under plain ``crossbar start``, without ``trishula node start`` around it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.node import ROOT, NodeDied, NodeProcess, environment
from tests.support.plain import FROZEN, PROBE, handshake, join
from tests.support.reactor import on_reactor
from trishula.contract import uris
from trishula_router.commands.supervisor import free_port, upgrades
from trishula_router.settings.check import read_config_file
from trishula_router.settings.crossbar_config import listen_endpoint_of, options_of, render_config

pytestmark = pytest.mark.node


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The address of a node that Crossbar alone started, with a component that can be asked about the worker."""
    config = read_config_file(ROOT / "config" / "single.json")
    worker = config["workers"][0]
    worker["transports"][0]["endpoint"]["port"] = free_port("127.0.0.1")
    probe = {"type": "class", "classname": "tests.support.plain.Probe", "realm": uris.REALM, "role": "node"}
    worker["components"].append(probe)
    worker["options"]["pythonpath"] = [str(ROOT)]
    (tmp_path / "config.json").write_text(render_config(config))
    # Relative in the file: it starts at the file's own directory.
    state = tmp_path / str(options_of(config)["state"])
    NodeProcess(state).token("boss", operator=True)
    command = [sys.executable, "-c", "import crossbar; crossbar.run()", "start", "--cbdir", str(tmp_path)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment())
    try:
        deadline = time.monotonic() + 60.0
        while not ((state / "node.json").exists() and upgrades(listen_endpoint_of(config))):
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
        yield listen_endpoint_of(config).url
    finally:
        process.terminate()
        process.wait(20.0)


@on_reactor
async def test_it_serves_and_small_messages_do_not_wait(url: str, tmp_path: Path) -> None:
    token = NodeProcess(tmp_path / "trishula-state").token("boss")
    boss = await join(url, "boss", token)
    try:
        assert (await boss.call(uris.NODE_STATUS))["node"] == "single"
        # TCP_NODELAY is on for all connections: Nagle's algorithm costs 22.8 ms one way. From the one that asks nothing
        # may be read just then, so there is another one.
        other, _ = handshake(url)
        with other:
            nodelay = await boss.call(PROBE)
        assert nodelay and all(nodelay)
        # No round of Python's collector looks at what was looked at before; Crossbar alone freezes nothing.
        before, after = await boss.call(FROZEN)
        assert 0 < before < after
    finally:
        await boss.leave()


@on_reactor
async def test_its_state_directory_is_held_and_everybody_says_by_whom(url: str, tmp_path: Path) -> None:
    state = tmp_path / "trishula-state"
    node = NodeProcess(state)
    token = node.token("boss")
    boss = await join(url, "boss", token)
    pid = (await boss.call(uris.NODE_STATUS))["pid"]
    # The commands block this test's reactor for longer than a silent client is borne.
    await boss.leave()
    backup = tmp_path / "backup.sqlite"
    assert json.loads(node.command("node", "backup", str(backup), "--state", str(state)))["ok"]
    who = f"a node already runs on the state directory {state} (process {pid}, started by crossbar start, since "
    for command in (("start", "--port", "0"), ("restore", str(backup)), ("reseed",)):
        with pytest.raises(NodeDied) as caught:
            node.command("node", *command, "--state", str(state))
        assert who in str(caught.value)
    told = json.loads(node.command("node", "status", "--state", str(state)))
    assert (told["running"], told["url"], told["pid"]) == (True, url, pid)
    # The store is the one that it was.
    boss = await join(url, "boss", token)
    (receipt,) = await boss.call(uris.MAILBOX_SEND, [{"type": "STATUS", "id": "m1", "to": "boss", "payload": 1}])
    assert receipt["status"] == "accepted"
    await boss.leave()
