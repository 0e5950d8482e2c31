"""What the supervisor of a node sees of ports, processes and signals, and whom it believes about the end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trishula_router.commands.supervisor import (
    NodeFailed,
    PortTaken,
    Supervisor,
    free_port,
    has_ended,
    try_to_listen,
    upgrades,
)
from trishula_router.settings.crossbar_config import ListenEndpoint


def test_a_port_is_free_until_somebody_listens() -> None:
    address = ListenEndpoint("127.0.0.1", free_port("127.0.0.1"))
    try_to_listen(address)
    with socket.create_server((address.host, address.port)):
        with pytest.raises(OSError, match="in use"):
            try_to_listen(address)
        # It listens and is no node.
        assert not upgrades(address, timeout_s=0.05)
    assert not upgrades(address, timeout_s=0.05)
    with pytest.raises(OSError, match="assign"):
        try_to_listen(ListenEndpoint("192.0.2.1", 0))


@pytest.mark.parametrize("has_waitid", [True, False])
def test_that_a_child_has_ended_is_seen_and_leaves_it_in_place(
    monkeypatch: pytest.MonkeyPatch, has_waitid: bool
) -> None:
    """Before Python 3.13 macOS has no os.waitid."""
    if not has_waitid:
        monkeypatch.delattr(os, "waitid")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, process_group=0) as child:
        assert not has_ended(child.pid)
        assert child.stdin is not None
        child.stdin.close()
        deadline = time.monotonic() + 60.0
        while not has_ended(child.pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert has_ended(child.pid)
        # Its group is still there to be killed, under an id that nobody else can have.
        os.killpg(child.pid, signal.SIGKILL)
        assert os.waitpid(child.pid, 0)[0] == child.pid
        assert has_ended(child.pid)
        child.returncode = 0


def test_signals_that_were_ignored_before_stay_ignored(tmp_path: Path) -> None:
    """Whoever starts a node with nohup means it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        supervisor = Supervisor(tmp_path, ListenEndpoint("127.0.0.1", 1))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        supervisor.stop_on_signals()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGHUP)
        assert not supervisor.asked_to_stop
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        supervisor.stop_on_signals()
        os.kill(os.getpid(), signal.SIGHUP)
        assert supervisor.asked_to_stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ended(directory: Path, *, written: str | None, logged: str, is_starting: bool) -> NodeFailed:
    """What is told of a node that ended, when it wrote that into its file, and Crossbar that into the log."""
    supervisor = Supervisor(directory, ListenEndpoint("127.0.0.1", 8765))
    supervisor.log.write_text(logged)
    if written is not None:
        (directory / "node.failure").write_text(written)
    return supervisor._failure("it ended", is_starting=is_starting)


def test_the_nodes_own_word_counts_more_than_the_log(tmp_path: Path) -> None:
    logged = "Some.Error: a client made Crossbar write this\nAddress already in use\n"
    failure = ended(tmp_path, written="no such file\n", logged=logged, is_starting=True)
    assert type(failure) is NodeFailed
    assert str(failure) == f"it ended: no such file; the log {tmp_path}/node.log has the rest"
    assert not (tmp_path / "node.failure").exists(), "it would be believed of the next end too"


def test_without_a_word_of_the_node_the_log_is_quoted(tmp_path: Path) -> None:
    failure = ended(tmp_path, written=None, logged="package.SomeError: it broke\n", is_starting=False)
    assert str(failure) == f"it ended: package.SomeError: it broke; the log {tmp_path}/node.log has the rest"


def test_only_a_node_that_starts_can_find_its_port_taken(tmp_path: Path) -> None:
    logged = "twisted.internet.error.CannotListenError: Couldn't listen: Address already in use.\n"
    failure = ended(tmp_path, written=None, logged=logged, is_starting=True)
    assert (type(failure), str(failure)) == (PortTaken, "port 8765 of 127.0.0.1 is in use")
    assert type(ended(tmp_path, written=None, logged=logged, is_starting=False)) is NodeFailed


def test_a_log_that_was_rotated_as_the_node_ended_is_no_second_fault(tmp_path: Path) -> None:
    failure = Supervisor(tmp_path, ListenEndpoint("127.0.0.1", 8765))._failure("it ended")
    assert str(failure) == f"it ended: its log says nothing; the log {tmp_path}/node.log has the rest"
