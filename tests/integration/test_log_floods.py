"""Floods of bad frames, pongs and refused joins against a real node: its log keeps what else it has to tell."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.node import NodeProcess
from tests.support.raw import RawClient
from trishula.contract import uris

pytestmark = pytest.mark.node

#: A few lines of each kind, of some kinds.
MOST_LINES = 20
PONG = 10


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    node = NodeProcess(tmp_path_factory.mktemp("floods") / "state")
    node.token("dc")
    with node:
        yield node


def joined(node: NodeProcess) -> RawClient:
    client = RawClient(node.url)
    client.open()
    client.join("dc", node.tokens["dc"])
    return client


def test_floods_leave_room_for_the_rest(node: NodeProcess) -> None:
    # Of sessions, each of which ends with it.
    for number in range(150):
        with joined(node) as client, contextlib.suppress(OSError):
            client.send_frame(1, b'{"no": %d' % number)
            client.is_closed_within(20.0)
    # Of strangers.
    for _ in range(60):
        with RawClient(node.url) as client, contextlib.suppress(OSError):
            client.open()
            client.send_frame(1, b"[[[")
            client.is_closed_within(20.0)
        with RawClient(node.url) as client, contextlib.suppress(OSError):
            client.open()
            client.send_frame(3, b"a reserved opcode")
            client.is_closed_within(20.0)
    for _ in range(30):
        # Some of them cost the session.
        with joined(node) as client, contextlib.suppress(OSError):
            for _ in range(1100):
                client.send_frame(PONG, b"nobody asked")
            client.is_closed_within(0.1)
    with joined(node) as client:
        for number in range(200):
            # Refused: it is an operator's.
            client.send([48, number + 1, {}, uris.NODE_STATUS])
            assert client.receive()[0] == 8
    # Then something happens that somebody must read.
    agents = node.state_dir / "agents.json"
    agents.write_text("{ broken")
    log = node.wait_log("the node goes on with what it said last")
    kinds = Counter(re.sub(r"^\S+ \[[^\]]*\] ?|\d+", "", line)[:40] for line in log.splitlines())
    assert kinds, log
    for kind, lines in kinds.items():
        assert lines <= MOST_LINES, f"{lines} lines of {kind!r}"
