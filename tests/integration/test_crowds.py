"""Crowds of strangers: those of one address take no place of others, and no descriptor of members and the store."""

from __future__ import annotations

import contextlib
import json
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.crowd import Crowd
from tests.support.node import NodeProcess
from tests.support.raw import RawClient
from trishula.contract import uris

pytestmark = pytest.mark.node

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"
#: What a machine with much to do may take for what takes a second.
GENEROUS_S = 20.0
#: As many files as a process may have, whatever it asks for.
FILES = 1024


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    directory = tmp_path_factory.mktemp("crowds")
    config = json.loads(SHIPPED.read_text())
    # Nobody goes because its time is over.
    config["workers"][0]["components"][0]["extra"]["limits"] |= {"handshake": "10m", "strangers_per_address": 400}
    file = directory / "node.json"
    file.write_text(json.dumps(config))
    node = NodeProcess(directory / "state", config=file, within=["prlimit", f"--nofile={FILES}:{FILES}"])
    for name in ("dc", "agni"):
        node.token(name)
    node.token("boss", operator=True)
    with node:
        yield node


def works(node: NodeProcess, source: str) -> dict[str, Any]:
    """An honest agent joins and works; what the node says of its connections then."""
    with RawClient(node.url, source=source) as agent, RawClient(node.url, source=source) as boss:
        for client, name in ((agent, "dc"), (boss, "boss")):
            client.open()
            client.join(name, node.tokens[name])
        message = {"type": "STATUS", "id": f"m-{time.time_ns()}", "to": "agni", "payload": "x"}
        (receipt,) = agent.call(uris.MAILBOX_SEND, [message])
        assert receipt["status"] == "accepted", receipt
        # It opens files.
        assert boss.call(uris.AUDIT_VERIFY)["ok"]
        connections: dict[str, Any] = boss.call(uris.NODE_STATUS)["connections"]
        return connections


def shrinks(crowd: Crowd, most: int) -> bool:
    """Wait until no more of a crowd are left: who comes last goes on first, so somebody may be through before that."""
    deadline = time.monotonic() + GENEROUS_S
    while crowd.still_open() > most and time.monotonic() < deadline:
        time.sleep(0.05)
    return crowd.still_open() <= most


def settles(node: NodeProcess, most: int) -> bool:
    """Wait until the node counts no more strangers than so many, while it serves members."""
    deadline = time.monotonic() + GENEROUS_S
    while (found := works(node, "127.0.0.2")["strangers"]) > most and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(found <= most)


def idle(client: RawClient) -> bytes:
    return b""


def half_headers(client: RawClient) -> bytes:
    return client.request()[:60]


def a_body(client: RawClient) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000"


def no_hello(client: RawClient) -> bytes:
    return client.request()


@pytest.mark.parametrize("begin", [idle, half_headers, a_body, no_hello])
def test_two_thousand_strangers_lock_nobody_out(node: NodeProcess, begin: Callable[[RawClient], bytes]) -> None:
    worker = psutil.Process(node.worker_pid())
    with RawClient(node.url) as client:
        say = begin(client)
    with Crowd(node.url) as crowd:
        crowd.come(2000, say)
        works(node, "127.0.0.2")
        works(node, "127.0.0.1")
        assert shrinks(crowd, 400)
        assert crowd.still_open() >= 300
        # Those that ask it among them. The node counts one that it ended until the connection is gone.
        assert settles(node, 400 + 10)
        assert worker.num_fds() < FILES - 100
        # More from elsewhere don't change that.
        with contextlib.ExitStack() as stack:
            for number in range(3, 7):
                stack.enter_context(Crowd(node.url, f"127.0.0.{number}")).come(300, say)
            assert settles(node, FILES // 2)
            assert worker.num_fds() < FILES - 100
    assert node.worker_pid() == worker.pid
    assert "Too many open files" not in node.log()


def test_the_strangers_of_one_address_go_before_those_of_others(node: NodeProcess) -> None:
    with Crowd(node.url, "127.0.0.3") as quiet, Crowd(node.url, "127.0.0.4") as loud:
        quiet.come(20)
        loud.come(600)
        works(node, "127.0.0.4")
        assert shrinks(loud, 400)
        assert quiet.still_open() == 20
        # Which bound the last one met, those of one address or of all, is chance; that they were ended is told.
        node.wait_log("connections that had not joined were ended")


def test_a_node_that_has_no_descriptors_left_neither_ends_nor_turns_in_circles(node: NodeProcess) -> None:
    worker = psutil.Process(node.worker_pid())
    works(node, "127.0.0.2")
    # Somebody else in the process took the rest.
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (worker.num_fds() + 5, FILES))
    try:
        with Crowd(node.url) as crowd:
            crowd.come(300)
            before = worker.cpu_times()
            time.sleep(2.0)
            after = worker.cpu_times()
            assert (after.user + after.system) - (before.user + before.system) < 1.0
    finally:
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
    works(node, "127.0.0.2")
    assert node.worker_pid() == worker.pid
