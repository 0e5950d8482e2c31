"""What systemd is told of a node, and when: by datagrams to a real socket, of a node that a test plays."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trishula_router.commands.service_manager import Notifier, Reporter

GOOD: dict[str, Any] = {"ready": True, "checks": [{"check": "running", "ok": True}, {"check": "canary", "ok": True}]}
FULL: dict[str, Any] = {
    "ready": False,
    "checks": [*GOOD["checks"], {"check": "store", "ok": False, "reason": "the store is full"}],
}
STUCK: dict[str, Any] = {
    "ready": False,
    "checks": [{"check": "running", "ok": True}, {"check": "canary", "ok": False, "reason": "it hangs"}],
}
REFUSED: dict[str, Any] = {
    "ready": False,
    "checks": [
        {"check": "running", "ok": True},
        {"check": "canary", "ok": False, "refused": True, "reason": "its file was moved away"},
    ],
}
POOR: dict[str, Any] = {
    "ready": True,
    "checks": [*GOOD["checks"], {"check": "peers", "ok": True, "degraded": True, "reason": "agni\nis away"}],
}


class Manager:
    """systemd's end: a datagram socket.

    Args:
        name: as ``NOTIFY_SOCKET`` has it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{name[1:]}" if name.startswith("@") else name)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        """What came since the last call, an assignment each."""
        lines: list[str] = []
        while True:
            try:
                lines += self.socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return lines


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = f"@trishula-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    manager = Manager(name)
    yield manager
    manager.socket.close()


class Node:
    """Says what a test wants, and has its own time."""

    def __init__(self, manager: Manager, watchdog_s: float | None = 30.0) -> None:
        self.says: dict[str, Any] | None = None
        self.now_s = 100.0
        self.asked = 0
        self.reporter = Reporter(Notifier(manager.name), self.ask, watchdog_s, lambda: self.now_s)

    def ask(self) -> dict[str, Any] | None:
        self.asked += 1
        return self.says

    def look(self, after_s: float = 10.0) -> None:
        self.now_s += after_s
        self.reporter.look()


def test_it_is_ready_once_and_the_watchdog_is_fed_from_then_on(manager: Manager) -> None:
    node = Node(manager)
    node.look()
    assert manager.heard() == ["STATUS=starting"]
    node.says = GOOD
    node.look()
    assert manager.heard() == ["READY=1", "WATCHDOG=1", "STATUS=ready"]
    node.look()
    assert manager.heard() == ["WATCHDOG=1"]


def test_a_node_whose_canary_has_not_come_through_is_not_ready(manager: Manager) -> None:
    node = Node(manager)
    node.says = STUCK
    node.look()
    assert manager.heard() == ["STATUS=not ready: canary: it hangs"]


def test_a_node_that_is_full_has_started_and_lives(manager: Manager) -> None:
    node = Node(manager)
    node.says = FULL
    node.look()
    assert manager.heard() == ["READY=1", "WATCHDOG=1", "STATUS=not ready: store: the store is full"]


def test_a_node_whose_store_refuses_is_not_ended_with_what_it_holds(manager: Manager) -> None:
    node = Node(manager)
    node.says = GOOD
    node.look()
    manager.heard()
    node.says = REFUSED
    node.look()
    assert manager.heard() == ["WATCHDOG=1", "STATUS=not ready: canary: its file was moved away"]
    fresh = Node(manager)
    fresh.says = REFUSED
    fresh.look()
    assert manager.heard() == ["STATUS=not ready: canary: its file was moved away"]


@pytest.mark.parametrize("says", [STUCK, None])
def test_the_watchdog_of_a_node_that_hangs_is_not_fed_until_it_goes_on(
    manager: Manager, says: dict[str, Any] | None
) -> None:
    node = Node(manager)
    node.says = GOOD
    node.look()
    manager.heard()
    node.says = says
    for _ in range(5):
        node.look()
    assert [line for line in manager.heard() if not line.startswith("STATUS=")] == []
    node.says = GOOD
    node.look()
    assert manager.heard() == ["WATCHDOG=1", "STATUS=ready"]


def test_what_is_poor_is_told_on_one_line(manager: Manager) -> None:
    node = Node(manager)
    node.says = POOR
    node.look()
    assert manager.heard()[-1] == "STATUS=ready; peers: agni\\nis away"


def test_of_another_page_it_is_known_only_that_the_worker_answers(manager: Manager) -> None:
    node = Node(manager)
    node.says = {}
    node.look()
    assert manager.heard() == ["READY=1", "WATCHDOG=1", "STATUS=ready"]


def test_without_a_watchdog_nothing_is_fed(manager: Manager) -> None:
    node = Node(manager, watchdog_s=None)
    node.says = GOOD
    node.look()
    assert manager.heard() == ["READY=1", "STATUS=ready"]


def test_it_is_asked_three_times_within_the_time_of_the_watchdog(manager: Manager) -> None:
    node = Node(manager, watchdog_s=6.0)
    node.says = GOOD
    node.look()
    asked = node.asked
    for _ in range(60):
        node.look(0.1)
    assert 2 <= node.asked - asked <= 3


def test_a_node_that_stops_says_so_once_and_is_asked_no_more(manager: Manager) -> None:
    node = Node(manager)
    node.says = GOOD
    node.look()
    manager.heard()
    node.reporter.stopping()
    node.reporter.stopping()
    node.look()
    assert manager.heard() == ["STOPPING=1", "STATUS=stopping"]
    assert node.asked == 1


def test_a_node_that_ended_by_itself_says_why(manager: Manager) -> None:
    node = Node(manager)
    node.reporter.failed("the node ended by itself: the disk is gone")
    assert manager.heard() == ["STATUS=the node ended by itself: the disk is gone"]


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_systemd_the_node_is_not_asked(environ: dict[str, str]) -> None:
    asked: list[int] = []
    reporter = Reporter.of(environ, lambda: asked.append(1))
    reporter.look()
    reporter.stopping()
    assert asked == []


def test_systemd_that_is_gone_stops_nobody(tmp_path: Path) -> None:
    assert Notifier(str(tmp_path / "nobody")).tell(READY="1") is False


def test_what_systemd_had_no_room_for_is_told_again(manager: Manager) -> None:
    node, other = Node(manager), Notifier(manager.name)
    while other.tell(X="1"):
        pass
    node.says = GOOD
    node.look()
    manager.heard()
    node.look()
    assert manager.heard() == ["READY=1", "WATCHDOG=1", "STATUS=ready"]


@pytest.mark.parametrize(
    ("environ", "feeds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, True),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, True),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, False),
        ({"WATCHDOG_USEC": "soon"}, False),
        ({"WATCHDOG_USEC": "0"}, False),
        ({}, False),
    ],
)
def test_the_watchdog_is_fed_by_the_process_that_is_to(manager: Manager, environ: dict[str, str], feeds: bool) -> None:
    Reporter.of({"NOTIFY_SOCKET": manager.name, **environ}, lambda: GOOD).look()
    assert ("WATCHDOG=1" in manager.heard()) is feeds
