"""A drill that breaks off leaves no process behind, whatever state its clients' files are in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from trishula.errors import StateUnusable
from trishula_drill.history import History
from trishula_drill.processes import ClientProcess
from trishula_drill.stage import Stage
from trishula_drill.worker import Task, agent_directory


def running(task: Task, ends: History) -> tuple[ClientProcess, subprocess.Popen[bytes]]:
    """A client with a process, and that process: one that waits to be ended."""
    client = ClientProcess(task, ends)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    client._process = process
    return client, process


def test_a_client_whose_file_can_not_be_read_keeps_nothing_from_being_ended(tmp_path: Path) -> None:
    ends = History(tmp_path / "ends.jsonl")
    clients, processes = {}, []
    for name in ("first", "second"):
        task = Task(role="agent", url="", token="", name=name, run="1", directory=str(tmp_path), seed="")
        directory = agent_directory(task)
        directory.mkdir(parents=True)
        # Killed while it wrote, say.
        (directory / "agent.sqlite").write_bytes(b"no database at all" * 100)
        clients[name], process = running(task, ends)
        processes.append(process)
    nodes = []
    drill = SimpleNamespace(clients=clients, kill_nodes=lambda: nodes.append("killed"))
    Stage.__exit__(cast(Any, drill), SystemExit, SystemExit(143), None)
    assert nodes == ["killed"]
    assert all(process.poll() is not None for process in processes)


def test_in_a_round_a_file_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    task = Task(role="agent", url="", token="", name="one", run="1", directory=str(tmp_path), seed="")
    agent_directory(task).mkdir(parents=True)
    (agent_directory(task) / "agent.sqlite").write_bytes(b"no database at all" * 100)
    client, process = running(task, History(tmp_path / "ends.jsonl"))
    with pytest.raises(StateUnusable):
        client.kill()
    assert process.poll() is not None
