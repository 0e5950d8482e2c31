"""Power cuts: the node is killed with kill -9 at the worst moments, started again, and must have kept its word.

Plain Autobahn clients play sender and receiver. The sender repeats what it has no receipt for, under the same id, as
the contract asks of every sender; the receiver acks what it was shown, and remembers the ids.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, TimeoutError, ensureDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from tests.support.node import NodeProcess
from tests.support.plain import PlainClient, Refused, TransportLost, join
from tests.support.reactor import on_reactor
from trishula.contract import uris
from trishula.contract.addresses import Address

pytestmark = pytest.mark.node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    # One for each test: what a test starts again may not outlive it.
    with NodeProcess(tmp_path / "state") as node:
        for name in ("agni", "dc"):
            node.token(name)
        node.token("boss", operator=True)
        yield node


async def pause(seconds: float) -> None:
    from twisted.internet import reactor

    await deferLater(cast(Any, reactor), seconds)


async def in_thread(work: Any) -> Any:
    """What blocks (starting and killing a node) must not block the clients."""
    return await deferToThread(work)


class Receiver:
    """Consumes agni's mailbox for as long as its session lives.

    Attributes:
        shown: how often each message was shown to any receiver, by id.
        acked: ids of which an ack was answered.
        again: ids that were shown after their ack was answered.
    """

    def __init__(self) -> None:
        self.shown: Counter[str] = Counter()
        self.acked: set[str] = set()
        self.again: set[str] = set()
        self.ack = True

    async def attach(self, node: NodeProcess) -> PlainClient:
        client = await join(node.url, "agni", node.tokens["agni"], serializer="msgpack")

        def heard(deliveries: list[dict[str, Any]], details: Any) -> None:
            ids = [one["message"]["id"] for one in deliveries]
            self.shown.update(ids)
            self.again |= self.acked.intersection(ids)
            if self.ack:
                acking = ensureDeferred(client.call(uris.MAILBOX_ACK, [one["token"] for one in deliveries]))
                acking.addCallbacks(lambda answers: self.acked.update(ids), lambda failure: None)

        await client.subscribe(uris.inbox_of(Address("agni")), heard)
        await client.call(uris.MAILBOX_ATTACH, {"window": 50})
        return client


class Sender:
    """Sends in small batches until it is told to stop, and repeats what has no receipt.

    Attributes:
        receipts: the status of each message that has one.
        waiting: messages without a receipt.
    """

    def __init__(self) -> None:
        self.receipts: dict[str, str] = {}
        self.waiting: dict[str, dict[str, Any]] = {}
        self._count = 0

    def _fill(self, count: int) -> None:
        while len(self.waiting) < count:
            self._count += 1
            message_id = f"crash-{self._count}"
            self.waiting[message_id] = {"type": "STATUS", "id": message_id, "to": "agni", "payload": self._count}

    async def run(self, client: PlainClient, *, new: bool = True) -> None:
        """Send until the connection breaks, or, with ``new`` false, until nothing waits."""
        while new or self.waiting:
            if new:
                self._fill(20)
            batch = list(self.waiting.values())
            for receipt in await client.call(uris.MAILBOX_SEND, batch):
                assert receipt["status"] in ("accepted", "duplicate"), receipt
                self.receipts[receipt["id"]] = receipt["status"]
                del self.waiting[receipt["id"]]


def cut_off(failure: Failure) -> None:
    """A sender ends with its connection; anything else is a fault."""
    if not isinstance(failure.value, ConnectionError | Refused | TransportLost):
        failure.raiseException()


@on_reactor
async def test_what_was_accepted_is_delivered_after_a_power_cut(node: NodeProcess) -> None:
    dc = await join(node.url, "dc", node.tokens["dc"])
    messages = [{"type": "STATUS", "id": f"m{index}", "to": "agni", "payload": index} for index in range(100)]
    receipts = await dc.call(uris.MAILBOX_SEND, messages)
    await in_thread(node.kill)
    assert [receipt["status"] for receipt in receipts] == ["accepted"] * 100
    await dc.gone
    await in_thread(node.restart)
    # The recipient was absent all the time, and comes now.
    receiver = Receiver()
    agni = await receiver.attach(node)
    await until(lambda: len(receiver.acked) == 100)
    assert receiver.shown == Counter({message["id"]: 1 for message in messages})
    dc = await join(node.url, "dc", node.tokens["dc"])
    again = await dc.call(uris.MAILBOX_SEND, messages)
    assert [(one["status"], one["seq"]) for one in again] == [("duplicate", one["seq"]) for one in receipts]
    states = await dc.call(uris.MAILBOX_STATUS, [message["id"] for message in messages])
    assert {state["state"] for state in states.values()} == {"done"}
    for client in (agni, dc):
        await client.leave()


@on_reactor
async def test_what_was_shown_and_not_acked_comes_again_after_a_power_cut(node: NodeProcess) -> None:
    dc = await join(node.url, "dc", node.tokens["dc"])
    receiver = Receiver()
    receiver.ack = False
    agni = await receiver.attach(node)
    await dc.call(uris.MAILBOX_SEND, [{"type": "STATUS", "id": f"n{index}", "to": "agni"} for index in range(10)])
    await until(lambda: len(receiver.shown) == 10)
    await in_thread(node.kill)
    await agni.gone
    await in_thread(node.restart)
    receiver.ack = True
    agni = await receiver.attach(node)
    await until(lambda: len(receiver.acked) == 10)
    assert set(receiver.shown.values()) == {2}
    await agni.leave()


async def until(true: Any, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not come about in time"
        await pause(0.02)


async def worked_off(boss: PlainClient, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while (status := await boss.call(uris.NODE_STATUS))["pending"] or status["in_flight"]:
        assert time.monotonic() < deadline, status
        await pause(0.05)


@on_reactor
async def test_nothing_is_lost_and_nothing_comes_twice_through_power_cuts(node: NodeProcess) -> None:
    chance = random.Random(7)
    sender, receiver = Sender(), Receiver()
    for _ in range(5):
        agni = await receiver.attach(node)
        dc = await join(node.url, "dc", node.tokens["dc"], serializer="msgpack")
        sending: Deferred[None] = ensureDeferred(sender.run(dc))
        sending.addErrback(cut_off)
        await pause(chance.uniform(0.05, 0.6))
        await in_thread(node.kill)
        for client in (agni, dc):
            await client.gone
        await sending
        await in_thread(node.restart)
    # Quiet again: the sender repeats what it has no receipt for, and the receiver works off the rest.
    agni = await receiver.attach(node)
    dc = await join(node.url, "dc", node.tokens["dc"], serializer="msgpack")
    await sender.run(dc, new=False)
    boss = await join(node.url, "boss", node.tokens["boss"])
    # Not by the acks that were answered: a cut may have taken the answer along, and the message was done.
    await worked_off(boss)
    assert len(sender.receipts) > 100, "the sender hardly got to send"
    assert set(receiver.shown) == set(sender.receipts)
    # Shown twice may be what a cut took the ack of; never what was acked for good.
    assert receiver.again == set()
    ids = sorted(sender.receipts)
    for start in range(0, len(ids), 500):
        states = await dc.call(uris.MAILBOX_STATUS, ids[start : start + 500])
        assert {state["state"] for state in states.values()} == {"done"}
    fetched = await agni.call(uris.MAILBOX_FETCH)
    assert (fetched["pending"], fetched["in_flight"]) == (0, 0)
    verdict = await boss.call(uris.AUDIT_VERIFY)
    assert verdict["ok"], verdict
    # Each was accepted once: one record for each id.
    for message_id in random.Random(1).sample(ids, 20):
        (life,) = (await boss.call(uris.AUDIT_WHY, message_id))["messages"]
        kinds = [event["kind"] for event in life["events"]]
        assert (kinds[0], kinds[-1], kinds.count("accepted"), kinds.count("done")) == ("accepted", "done", 1, 1)
    for client in (agni, dc, boss):
        with contextlib.suppress(TimeoutError):
            await client.leave()
