"""Nobody else on the machine can open what a node writes, whatever the umask is and whatever was there before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.node import NodeProcess, environment
from tests.support.raw import RawClient
from trishula.contract import uris
from trishula_router.store.sqlite.connection import FILE_NAME

pytestmark = pytest.mark.node


def open_to_others(directory: Path) -> list[str]:
    """What group or others may open of all that is there."""
    return sorted(str(path) for path in (directory, *directory.rglob("*")) if path.lstat().st_mode & 0o077)


def work(node: NodeProcess) -> None:
    with RawClient(node.url) as dc:
        dc.open()
        dc.join("dc", node.tokens["dc"])
        message = {"type": "STATUS", "id": "m-1", "to": "dc", "payload": "secret"}
        assert dc.call(uris.MAILBOX_SEND, [message])[0]["status"] in ("accepted", "duplicate")


def test_all_that_a_node_writes_is_its_owners_alone(tmp_path: Path) -> None:
    state, backup = tmp_path / "state", tmp_path / "backup.sqlite"
    # The shell's own mask lets everybody read and write.
    node = NodeProcess(state, within=["sh", "-c", 'umask 000; exec "$@"', "sh"])
    node.token("dc")
    with node:
        work(node)
        assert (state / f"{FILE_NAME}-wal").exists()
        node.command("node", "backup", str(backup), "--state", str(state))
        assert not open_to_others(state)
        assert not backup.stat().st_mode & 0o077
    assert not open_to_others(state)
    # What a release of before has left.
    left = [state / FILE_NAME, state / "node.log", state / "crossbar" / "config.json"]
    for path in left:
        path.chmod(0o644)
    (state / "crossbar").chmod(0o755)
    with node:
        work(node)
        assert not open_to_others(state)


@pytest.mark.parametrize("command", [["node", "start", "--port", "0"], ["token", "new", "agni"]])
def test_a_state_directory_that_others_may_look_into_is_refused(tmp_path: Path, command: list[str]) -> None:
    state = tmp_path / "state"
    NodeProcess(state).token("dc")
    state.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "trishula_router", *command, "--state", str(state)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60.0,
    )
    assert done.returncode != 0
    assert f"run: chmod go-rwx {state}" in done.stderr
    assert "Traceback" not in done.stderr
    assert set(os.listdir(state)) == {"agents.json", "agents.json.lock", "agents.json.changes"}
