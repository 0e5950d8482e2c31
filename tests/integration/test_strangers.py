"""Who costs a node something and gives nothing: connections that never join, and sessions that never read."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.cluster import Cluster
from tests.support.node import NodeProcess
from tests.support.raw import RawClient
from tests.support.sessions import raw_session as session
from trishula.contract import uris

pytestmark = pytest.mark.node

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"
HANDSHAKE_S = 1.0
#: What a machine with much to do may take for what takes a second.
GENEROUS_S = 20.0
QUEUE_BYTES = 4 * 1024 * 1024
TOPIC = uris.topic_of("dc", "news")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    directory = tmp_path_factory.mktemp("strangers")
    config = json.loads(SHIPPED.read_text())
    config["workers"][0]["components"][0]["extra"]["limits"] = {
        "handshake": f"{HANDSHAKE_S:g}s",
        "strangers": 20,
        "connection_queue": "4 MiB",
    }
    file = directory / "node.json"
    file.write_text(json.dumps(config))
    node = NodeProcess(directory / "state", config=file)
    for name in ("dc", "slow"):
        node.token(name)
    node.token("boss", operator=True)
    with node:
        yield node


def status(node: NodeProcess) -> dict[str, Any]:
    with session(node, "boss") as boss:
        answer: dict[str, Any] = boss.call(uris.NODE_STATUS)
        return answer


def silent(client: RawClient) -> None:
    """TCP and nothing more."""


def half_a_request(client: RawClient) -> None:
    client.socket.sendall(client.request()[:40])


def no_hello(client: RawClient) -> None:
    client.open()


def half_a_hello(client: RawClient) -> None:
    client.open()
    client.socket.sendall(b"\x81\xfe\x01\x00" + bytes(4) + b'[1, "tri')


def no_authenticate(client: RawClient) -> None:
    client.open()
    client.hello("dc")
    assert client.receive()[0] == 4


@pytest.mark.parametrize("begin", [silent, half_a_request, no_hello, half_a_hello, no_authenticate])
def test_who_does_not_join_is_closed_in_time(node: NodeProcess, begin: Any) -> None:
    before = status(node)["connections"]["ended_strangers"]
    with RawClient(node.url) as client:
        begin(client)
        assert client.is_closed_within(GENEROUS_S)
    assert status(node)["connections"]["ended_strangers"] == before + 1


def test_bytes_that_lead_nowhere_win_no_time(node: NodeProcess) -> None:
    with RawClient(node.url) as client:
        began_s = time.monotonic()
        # A header a moment, for ever.
        client.socket.sendall(client.request()[:-2])
        with pytest.raises(OSError):
            while time.monotonic() - began_s < GENEROUS_S:
                client.socket.sendall(b"X-More: 1\r\n")
                time.sleep(0.05)


def test_a_client_that_watches_the_node_may_stay_while_it_pings(node: NodeProcess) -> None:
    # What our clients do beside a session on another node; see trishula.session.failback_policy.
    with RawClient(node.url) as client:
        client.open()
        began_s = time.monotonic()
        while time.monotonic() - began_s < 4 * HANDSHAKE_S:
            client.ping()
            time.sleep(0.1)
        client.join("dc", node.tokens["dc"])


def test_a_stranger_has_little_to_say(node: NodeProcess) -> None:
    with RawClient(node.url) as client:
        client.open()
        # The node may close it before all of it is through.
        with contextlib.suppress(OSError):
            client.send_frame(1, b" " * 300_000)
        assert client.is_closed_within(GENEROUS_S)


def test_there_are_no_more_strangers_than_may_be(node: NodeProcess) -> None:
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(RawClient(node.url)) for _ in range(40)]
        began_s = time.monotonic()
        # Who is in earnest gets in all the same.
        # Who was ended counts until the connection is gone.
        while (found := status(node)["connections"]["strangers"]) > 20 and time.monotonic() < began_s + GENEROUS_S:
            time.sleep(0.05)
        assert found <= 20
        closed = [client.is_closed_within(0.2) for client in crowd[:10]]
        if time.monotonic() - began_s < HANDSHAKE_S:
            assert all(closed), "the oldest go first"


def test_a_reader_that_is_slow_and_keeps_talking_fills_no_memory(node: NodeProcess) -> None:
    worker = psutil.Process(node.worker_pid())
    event = "x" * 60_000
    with session(node, "dc") as dc, session(node, "slow", receive_bytes=4096) as slow:
        slow.subscribe(TOPIC)
        before = worker.memory_info().rss
        most = before
        for _ in range(1000):
            # It has something to say, and reads nothing.
            with contextlib.suppress(OSError):
                slow.ping()
            dc.publish(TOPIC, event)
            most = max(most, worker.memory_info().rss)
        assert most - before < 8 * QUEUE_BYTES
        # Nobody else noticed.
        dc.publish(TOPIC, event)
        assert slow.is_closed_within(GENEROUS_S)
        told = status(node)
        assert told["connections"]["ended_slow_readers"] == 1
        with session(node, "boss") as boss:
            page = boss.call(uris.AUDIT_QUERY, {"agent": "slow"})
        assert "trishula.error.reads_too_slowly" in json.dumps(page)
        assert "slow reads too slowly: more than" in node.log()


def test_a_slow_reader_that_reads_on_is_told_why(node: NodeProcess) -> None:
    with session(node, "dc") as dc, session(node, "slow", receive_bytes=4096) as slow:
        slow.subscribe(TOPIC)
        for _ in range(200):
            dc.publish(TOPIC, "x" * 60_000)
        # Longer than Autobahn waits for the end of a connection.
        time.sleep(2.0)
        with pytest.raises(ConnectionError):
            while True:
                slow.receive()
        assert slow.close_reason.startswith("slow reads too slowly: more than")


def test_strangers_at_the_door_of_the_peers(tmp_path: Path) -> None:
    with Cluster(tmp_path, ["agni", "rushabdev"]) as cluster:
        node = cluster["agni"]
        with RawClient(node.url, path=f"/{uris.PEER_PATH}") as half, RawClient(node.url) as idle:
            half.open("wamp.2.msgpack")
            assert half.is_closed_within(GENEROUS_S)
            assert idle.is_closed_within(GENEROUS_S)
