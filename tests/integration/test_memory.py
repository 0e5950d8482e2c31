"""What large things that pass through a real node leave in its memory: next to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.node import NodeProcess
from tests.support.plain import join
from tests.support.reactor import on_reactor
from trishula.contract import uris

pytestmark = pytest.mark.node

MIB = 1024 * 1024
#: What passes through in a test, and how much of it may be in memory at any time.
STREAM, AT_MOST_BYTES = 200, 100 * MIB


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    node = NodeProcess(tmp_path / "state")
    for name in ("agni", "dc"):
        node.token(name)
    with node:
        yield node


class Growth:
    """By how much the worker has grown at most."""

    def __init__(self, node: NodeProcess) -> None:
        self._worker = psutil.Process(node.worker_pid())
        self._before = self._worker.memory_info().rss
        self.most_bytes = 0

    def look(self) -> None:
        self.most_bytes = max(self.most_bytes, self._worker.memory_info().rss - self._before)


@on_reactor
async def test_large_messages_leave_nothing(node: NodeProcess) -> None:
    agni = await join(node.url, "agni", node.tokens["agni"])
    dc = await join(node.url, "dc", node.tokens["dc"])
    growth = Growth(node)
    for number in range(STREAM):
        message = {"type": "STATUS", "id": f"m{number}", "to": "agni", "payload": "x" * (MIB - 2)}
        (receipt,) = await dc.call(uris.MAILBOX_SEND, [message])
        assert receipt["status"] == "accepted"
        fetched = await agni.call(uris.MAILBOX_FETCH, {"max": 64})
        assert await agni.call(uris.MAILBOX_ACK, [one["token"] for one in fetched["deliveries"]]) == [True]
        growth.look()
    assert growth.most_bytes < AT_MOST_BYTES
    await agni.leave()
    await dc.leave()


@on_reactor
async def test_large_events_of_an_agent_leave_nothing(node: NodeProcess) -> None:
    agni = await join(node.url, "agni", node.tokens["agni"])
    dc = await join(node.url, "dc", node.tokens["dc"])
    topic, heard = f"{uris.AGENT_PREFIX}agni.topic.news", []

    def hear(text: str, **_: Any) -> None:
        heard.append(len(text))

    await dc.subscribe(topic, hear)
    growth = Growth(node)
    for _ in range(STREAM):
        await agni.publish(topic, "x" * MIB)
        growth.look()
    assert growth.most_bytes < AT_MOST_BYTES
    assert heard[:10] == [MIB] * 10
    await agni.leave()
    await dc.leave()
