"""``/health`` and ``/ready`` of a real node, and what systemd is told of it: what they say, when, and to whom.

The test plays systemd, with a datagram socket of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import NodeProcess
from tests.support.plain import join
from tests.support.reactor import on_reactor
from tests.support.readiness import until
from tests.support.web import ask
from trishula.contract import uris

pytestmark = pytest.mark.node

GENEROUS_S = 30.0
SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"
PROXY = "127.0.0.9"
CHECKS = ["running", "store", "disk", "peers", "clock", "loop", "canary"]


class Manager:
    """systemd's end of the socket."""

    def __init__(self) -> None:
        self.name = f"@trishula-test-ready-{os.getpid()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{self.name[1:]}")

    def next(self, timeout_s: float) -> str | None:
        """The next datagram; ``None`` if none comes in time."""
        self._socket.settimeout(timeout_s)
        try:
            return self._socket.recv(4096).decode()
        except (TimeoutError, BlockingIOError):
            return None

    def until(self, text: str) -> None:
        """Wait for a datagram that has a text in it."""
        deadline = time.monotonic() + GENEROUS_S
        heard: list[str | None] = []
        while not heard or heard[-1] is None or text not in heard[-1]:
            assert time.monotonic() < deadline, heard
            heard.append(self.next(1.0))

    def drain(self) -> None:
        """Forget what has come."""
        while self.next(0.0) is not None:
            pass

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def manager() -> Iterator[Manager]:
    manager = Manager()
    yield manager
    manager.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, manager: Manager) -> Iterator[NodeProcess]:
    directory = tmp_path_factory.mktemp("ready")
    config: dict[str, Any] = json.loads(SHIPPED.read_text())
    config["workers"][0]["components"][0]["extra"]["proxies"] = [PROXY]
    file = directory / "node.json"
    file.write_text(json.dumps(config))
    node = NodeProcess(directory / "state", config=file)
    node.token("dc")
    node.token("boss", operator=True)
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("NOTIFY_SOCKET", manager.name)
        environ.setenv("WATCHDOG_USEC", "1500000")
        node.start()
    with contextlib.ExitStack() as stack:
        stack.push(node.__exit__)
        yield node


def test_systemd_is_told_that_the_node_serves_and_lives(node: NodeProcess, manager: Manager) -> None:
    for text in ("READY=1", "STATUS=ready", "WATCHDOG=1"):
        manager.until(text)
    # They are for the process that systemd started.
    for process in node.processes()[1:]:
        assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & set(process.environ())


def test_a_node_that_serves_is_healthy_and_ready(node: NodeProcess) -> None:
    healthy = ask(node, "/health")
    assert (healthy.code, healthy.map) == (200, {"alive": True})
    for check in CHECKS:
        until(node, check, True)
    told = ask(node, "/ready").map
    assert (told["node"], [one["check"] for one in told["checks"]]) == ("single", CHECKS)


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_a_page_is_read_only_and_tells_nothing_of_what_serves_it(node: NodeProcess, path: str) -> None:
    got, head = ask(node, path), ask(node, path, method="HEAD")
    assert (head.code in (200, 503), head.body) == (True, b"")
    # The figures of /ready change from one answer to the next, and with them its length.
    assert abs(int(head.headers["content-length"]) - len(got.body)) < 50
    assert got.headers["cache-control"] == "no-store"
    assert got.headers["server"] == "TRISHULA"
    assert got.headers["connection"] == "close"
    assert ask(node, path, method="PUT").code == 405
    assert ask(node, f"{path}/x").code == 404


def is_detailed(node: NodeProcess, **request: Any) -> bool:
    told = ask(node, "/ready", **request).map
    return "node" in told


def test_details_are_for_operators_and_for_this_machine(node: NodeProcess) -> None:
    stranger = {"source": PROXY, "headers": {"X-Forwarded-For": "203.0.113.7"}}
    assert is_detailed(node)
    assert is_detailed(node, source=PROXY, headers={"X-Forwarded-For": "127.0.0.1"})
    assert is_detailed(node, token=node.tokens["boss"], **stranger)
    assert not is_detailed(node, **stranger)
    # A proxy that names nobody, one that the node wasn't told of, and a page that had its own name point here.
    assert not is_detailed(node, source=PROXY)
    assert not is_detailed(node, headers={"X-Forwarded-For": "127.0.0.1"})
    assert not is_detailed(node, headers={"Host": "attacker.example"})


@pytest.mark.parametrize(
    ("shown", "sentence"),
    [
        ("Bearer boss.wrong", "the token of boss is wrong or revoked"),
        ("Bearer nobody.wrong", "the token of nobody is wrong or revoked"),
        ("Basic Ym9zczp4", "must be: Bearer name.secret"),
        ("Bearer <b>x</b>.y", "must be: Bearer name.secret"),
    ],
)
def test_who_shows_no_operators_token_is_told_so_and_nothing_else(node: NodeProcess, shown: str, sentence: str) -> None:
    got = ask(node, "/ready", headers={"Authorization": shown})
    assert got.code in (200, 503)
    assert sentence in got.map["note"]
    assert all(set(one) == {"check", "ok"} for one in got.map["checks"])


def test_an_agents_token_opens_no_details(node: NodeProcess) -> None:
    assert "it is neither" in ask(node, "/ready", token=node.tokens["dc"]).map["note"]


def test_probes_are_not_counted_as_attackers(node: NodeProcess) -> None:
    for _ in range(200):
        assert ask(node, "/health").code == 200
    assert "had not joined were ended" not in node.log()


@on_reactor
async def test_operators_are_told_the_same_by_the_bus_and_agents_are_not(node: NodeProcess) -> None:
    boss = await join(node.url, "boss", node.tokens["boss"])
    told = await boss.call(uris.NODE_READY)
    await boss.leave()
    assert told["node"] == "single"
    assert [one["check"] for one in told["checks"]] == [one["check"] for one in ask(node, "/ready").map["checks"]]
    dc = await join(node.url, "dc", node.tokens["dc"])
    for uri in (uris.NODE_READY, uris.CANARY):
        with pytest.raises(Exception, match=r"not_allowed|not_authorized"):
            await dc.call(uri)
    await dc.leave()


@on_reactor
async def test_a_canary_is_seen_by_nobody(node: NodeProcess) -> None:
    until(node, "canary", True)
    boss = await join(node.url, "boss", node.tokens["boss"])
    page = await boss.call(uris.AUDIT_QUERY, {"limit": 1000})
    agents = await boss.call(uris.DIRECTORY_LIST)
    status = await boss.call(uris.NODE_STATUS)
    await boss.leave()
    assert '"canary' not in json.dumps([page, agents])
    assert (status["pending"], status["in_flight"]) == (0, 0)


def test_it_turns_503_for_each_fault_and_back(node: NodeProcess, manager: Manager, tmp_path: Path) -> None:
    # One test for all faults, because each is over after some seconds, and those they wait for together.
    until(node, "loop", True)
    manager.drain()
    os.kill(node.worker_pid(), signal.SIGSTOP)
    try:
        manager.until("STATUS=the node doesn't answer")
        manager.drain()
        # Asked again, it takes 3 s to find out that nobody answers.
        assert manager.next(1.0) is None
    finally:
        os.kill(node.worker_pid(), signal.SIGCONT)
    assert "stood still for" in until(node, "loop", False)
    manager.until("WATCHDOG=1")
    file, aside = node.state_dir / "node.sqlite", tmp_path / "aside"
    file.rename(aside)
    try:
        assert "was deleted or moved away while the node uses it" in until(node, "store", False)
        manager.until("STATUS=not ready: ")
    finally:
        aside.rename(file)
    for check in ("store", "canary", "loop"):
        until(node, check, True)
    manager.until("STATUS=ready")


def test_systemd_is_told_that_the_node_stops(node: NodeProcess, manager: Manager) -> None:
    manager.drain()
    assert node.stop() == 0
    manager.until("STOPPING=1")
