"""A sender's order under all that refuses its messages for now, against the plainest model: a list of what it sent.

The rules of both sides are the product's own: the client's outbox, with small batches and several calls under way, and
a node with small mailboxes, a low rate and a disk that fails. Between them is a network that is slow, answers in any
order, and breaks: then the client offers everything anew on another session, while what it said on the broken one still
arrives.

At every step, in the store: what one client sent to one recipient with one urgency stands in the order in which it was
sent, without a gap, but for broadcasts: who has no room is left out. In the end: all of it is there, once, and a
broadcast is with everybody but those whom its receipt names.
"""

from __future__ import annotations

import tempfile
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.support.nodes import LIMITS, POLICY, Rig
from tests.support.stores import HeldStore
from trishula.contract import uris
from trishula.contract.receipts import Receipt
from trishula.errors import NodeFailed, StorageFailed, StorageFull, TrishulaError
from trishula.messaging.entries import Batch, Entry
from trishula.messaging.entries import Limits as OutboxLimits
from trishula.messaging.outbox import Outbox
from trishula.runtime.backoff import Backoff
from trishula_router.store.memory import MemoryStore

#: Each way; together less than the silence after which the pings end a session.
LATE_S = 1.4

SIZES = OutboxLimits(batch_messages=3, calls=3)
RETRY = Backoff(first_s=0.2, factor=2.0, cap_s=1.0, jitter=0.0)


@dataclass
class Wire:
    """One session: what is on its way to the node, and back."""

    session: int
    up: deque[tuple[float, Batch, list[dict[str, Any]]]] = field(default_factory=deque)
    down: list[tuple[float, Batch, Any]] = field(default_factory=list)


class OrderMachine(RuleBasedStateMachine):
    """The rules; see the module."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.memory = MemoryStore("epoch-1")
        self.store = HeldStore(self.memory)
        limits = replace(LIMITS, mailbox_messages=5, mailbox_bytes=4000, rate_per_s=20, burst=15)
        self.rig = Rig(Path(self._directory.name), self.store, self.clock, limits=limits, policy=POLICY).start()
        self.store.holding = True
        self.outbox = Outbox(random=lambda: 0.0, limits=SIZES, retry=RETRY)
        self.sent: list[tuple[str, int, str]] = []
        self.receipts: dict[str, list[Any]] = {}
        self.receivers = [self.rig.join(name) for name in ("agni", "rushabdev")]
        self.broken: list[Wire] = []
        self.wire = self.join()

    def join(self) -> Wire:
        wire = Wire(self.rig.join("dc"))
        self.outbox.connected()
        return wire

    # -- the client ----------------------------------------------------------------------------------------------------

    @rule(to=st.sampled_from(["agni"] * 4 + ["rushabdev", "broadcast"]), count=st.integers(1, 8), data=st.data())
    def send(self, to: str, count: int, data: st.DataObject) -> None:
        priority = data.draw(st.sampled_from([3, 3, 3, 1, 5]))
        large = data.draw(st.sampled_from([0, 0, 1500]))
        for _ in range(count):
            message_id = f"m{len(self.sent)}"
            self.sent.append((to, priority, message_id))
            self.receipts[message_id] = []
            wire = {"type": "STATUS", "id": message_id, "to": to, "priority": priority, "payload": "x" * large}
            message, done = msgspec.msgpack.encode(wire), self.receipts[message_id].append
            self.outbox.add(Entry(message_id, to, message, done, priority=priority))
        self.flush()

    @rule()
    def flush(self) -> None:
        now_s = self.clock.seconds()
        while (batch := self.outbox.take(now_s)) is not None:
            self.wire.up.append((now_s, batch, [msgspec.msgpack.decode(entry.message) for entry in batch.entries]))

    @rule(which=st.integers(0, 10))
    def hear(self, which: int) -> None:
        """The client reads an answer."""
        if self.wire.down:
            _, batch, outcome = self.wire.down.pop(which % len(self.wire.down))
            now_s = self.clock.seconds()
            if isinstance(outcome, TrishulaError):
                self.outbox.failed(batch, outcome, now_s)
            else:
                self.outbox.answered(batch, msgspec.convert(outcome, list[Receipt]), now_s)
            self.flush()

    # -- the network ---------------------------------------------------------------------------------------------------

    @rule()
    def arrive(self) -> None:
        self.deliver(self.wire)

    @rule(which=st.integers(0, 10))
    def arrive_late(self, which: int) -> None:
        """A call of a session that the client has given up."""
        if self.broken:
            self.deliver(self.broken[which % len(self.broken)])

    def deliver(self, wire: Wire) -> None:
        if not wire.up:
            return
        _, batch, messages = wire.up.popleft()

        def told(outcome: Any) -> None:
            if isinstance(outcome, Failure):
                fault = outcome.value
                outcome = NodeFailed("see the log") if isinstance(fault, ZeroDivisionError) else fault
            wire.down.append((self.clock.seconds(), batch, outcome))

        self.rig.begin(wire.session, uris.MAILBOX_SEND, messages).addBoth(told)

    @rule()
    def break_off(self) -> None:
        if self.wire.up or self.wire.down:
            self.outbox.disconnected()
            self.broken.append(self.wire)
            self.wire = self.join()
            self.flush()

    @rule()
    def learn(self) -> None:
        """The node notices the oldest broken session."""
        if self.broken:
            self.rig.leave(self.broken.pop(0).session)

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.1, 0.3, 1.0, 1.4]))
    def advance(self, seconds: float) -> None:
        now_s = self.clock.seconds()
        for wire in list(self.broken):
            if wire.up and wire.up[0][0] + LATE_S < now_s + seconds:
                self.rig.leave(wire.session)
                self.broken.remove(wire)
        while self.wire.up and self.wire.up[0][0] + LATE_S < now_s + seconds:
            self.arrive()
        while self.wire.down and self.wire.down[0][0] + LATE_S < now_s + seconds:
            self.hear(0)
        self.rig.advance(seconds)
        self.flush()

    # -- the node ------------------------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 3))
    def write(self, count: int) -> None:
        self.store.let_write(count)
        self.rig.settle()

    @rule()
    def look(self) -> None:
        self.store.let_read()
        self.rig.settle()

    @rule(error=st.sampled_from([StorageFull("full", retry_after_s=1.0), StorageFailed("away"), ZeroDivisionError()]))
    def fail_the_disk(self, error: Exception) -> None:
        self.store.fail_next("append", error)

    @rule(which=st.sampled_from([0, 0, 1]), most=st.integers(1, 5))
    def consume(self, which: int, most: int) -> None:
        receiver = self.receivers[which]

        def got(answer: dict[str, Any]) -> None:
            tokens = [delivery["token"] for delivery in answer["deliveries"]]
            if tokens:
                self.rig.begin(receiver, uris.MAILBOX_ACK, tokens)

        self.rig.begin(receiver, uris.MAILBOX_FETCH, {"max": most}).addCallback(got)

    # -- what must be --------------------------------------------------------------------------------------------------

    @initialize()
    def nothing_is_there(self) -> None:
        self.in_order()

    @invariant()
    def in_order(self) -> None:
        place = {message_id: (to, priority) for to, priority, message_id in self.sent}
        found: dict[tuple[str, tuple[str, int]], list[str]] = {}
        for stored in self.memory._messages.values():
            found.setdefault((stored.recipient, place[stored.id]), []).append(stored.id)
        for (recipient, line), ids in found.items():
            sent = [message_id for *other, message_id in self.sent if tuple(other) == line]
            if line[0] == "broadcast":
                assert ids == [one for one in sent if one in ids], f"to {recipient} as {line}: {ids}, sent as {sent}"
            else:
                assert ids == sent[: len(ids)], f"to {recipient} as {line}: {ids}, sent as {sent}"

    def teardown(self) -> None:
        self.store._failures.clear()
        for wire in self.broken:
            self.rig.leave(wire.session)
        self.broken.clear()
        for _ in range(400):
            if not len(self.outbox):
                break
            while self.wire.up:
                self.arrive()
            self.store.let_all()
            self.rig.settle()
            while self.wire.down:
                self.hear(0)
            for which in (0, 1):
                self.consume(which, 5)
            self.store.let_all()
            self.advance(0.3)
            self.in_order()
        assert not len(self.outbox), f"{len(self.outbox)} messages never found their way"
        for message_id, got in self.receipts.items():
            assert [type(one) for one in got] == [Receipt], f"{message_id} got {got}"
        for to, _, message_id in self.sent:
            everybody = {"agni", "rushabdev"} if to == "broadcast" else {to}
            have = {stored.recipient for stored in self.memory._messages.values() if stored.id == message_id}
            named = {one.to for one in self.receipts[message_id][0].missed}
            assert (have | named, have & named) == (everybody, set()), f"{message_id} to {to}: {have}, missed: {named}"
        self.rig.crash()
        self._directory.cleanup()


TestOrder = OrderMachine.TestCase
TestOrder.settings = settings(max_examples=100, stateful_step_count=80)
