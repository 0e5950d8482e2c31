"""A sender's order on a real node with a small mailbox, while several calls are under way."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_agents import client_of, settings, sleep
from tests.support.node import NodeProcess
from tests.support.reactor import on_reactor
from trishula.client import Client
from trishula.contract import uris
from trishula.contract.deliveries import Delivery
from trishula.messaging.entries import Limits
from trishula.runtime.pending import Pending
from trishula.session.transport import Link

pytestmark = pytest.mark.node

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"
MAILBOX = 10


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    directory = tmp_path_factory.mktemp("order")
    config = json.loads(SHIPPED.read_text())
    config["workers"][0]["components"][0]["extra"]["limits"] = {"mailbox_messages": MAILBOX}
    file = directory / "node.json"
    file.write_text(json.dumps(config))
    with NodeProcess(directory / "state", config=file) as node:
        for name in ("agni", "dc"):
            node.token(name)
        yield node


class Slow:
    """A network on which sends are under way until they are let go, one by one, in their order."""

    def __init__(self, link: Link) -> None:
        self.under_way: deque[Callable[[], Pending[Any]]] = deque()
        self.most = 0
        self._call = link.call

    def call(
        self, uri: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> Pending[Any]:
        if uri != uris.MAILBOX_SEND:
            return self._call(uri, args, kwargs, timeout_s=timeout_s)
        answer: Pending[Any] = Pending()

        def go() -> Pending[Any]:
            self._call(uri, args, kwargs, timeout_s=timeout_s).when_done(lambda done: answer.resolve(done.result()))
            return answer

        self.under_way.append(go)
        self.most = max(self.most, len(self.under_way))
        return answer


@on_reactor
async def test_what_a_full_mailbox_refused_is_not_overtaken(node: NodeProcess) -> None:
    got: list[Delivery] = []
    # Each call has more messages than the mailbox takes, and finds it empty: the next one would be taken.
    dc = Client(settings(node, "dc"), limits=Limits(batch_messages=MAILBOX + 5))
    async with client_of(node, "agni", instance=None, got=got) as agni:
        await dc.start(timeout=10.0)
        try:
            link = dc._engine.member.link
            assert link is not None
            slow: Any = Slow(link)
            flush = dc._engine.sending.flush
            dc._engine.sending.flush = lambda link: flush(slow)  # type: ignore[method-assign]
            receipts = [dc.send("agni", payload=number) for number in range(4 * MAILBOX)]
            acked = 0
            for _ in range(2000):
                if slow.under_way:
                    await slow.under_way.popleft()()
                fresh = [delivery.token for delivery in got[acked:]]
                if fresh:
                    assert await agni.ack(fresh) == [True] * len(fresh)
                    acked += len(fresh)
                if acked == len(receipts):
                    break
                await sleep(0.005)
            assert {(await receipt).status for receipt in receipts} == {"accepted"}
        finally:
            await dc.stop()
    assert slow.most > 1
    assert [delivery.message.payload for delivery in got] == list(range(4 * MAILBOX))
