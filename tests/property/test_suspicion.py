"""The outbox against messages that end sessions, and the plainest model: which they are is known here beforehand.

A node accepts what it is sent, in order, and ends the session at the first call with a poisonous message in it; now and
then it refuses for now. Between them is a network that breaks by itself, and a node that is killed, but not three times
in the very moment in which the same message is alone under way.

At every step: nobody is set aside but the poison, and of what one recipient was sent, what it gets is in order. In the
end: every other message has its receipt, each poisonous one its error, and the record is empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trishula.contract.receipts import Receipt
from trishula.errors import MailboxFull, MessageSetAside
from trishula.messaging.entries import Batch, Entry, Limits
from trishula.messaging.outbox import Outbox
from trishula.runtime.backoff import Backoff
from trishula.session.transport import Ending

DROPPED = Ending("it closed the connection", is_told=False)
TOLD = Ending("WAMP Protocol Error", is_told=True)


#: Whether each is poisonous; most often one alone, or as many as make several calls.
messages = st.sampled_from([[False], [True], [False, False, True], [False] * 7]) | st.lists(
    st.integers(0, 9).map(lambda number: number == 0), max_size=40
)


@dataclass
class Paper:
    """A record in memory."""

    held: dict[int, bytes] = field(default_factory=dict)
    aside: list[bytes] = field(default_factory=list)

    def put(self, number: int, message: bytes, copies: int | None) -> None:
        self.held[number] = message

    def drop(self, number: int) -> None:
        del self.held[number]

    def set_aside(self, message: bytes, reason: str) -> None:
        self.aside.append(message)


class SuspicionMachine(RuleBasedStateMachine):
    """The rules; see the module."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.outbox = Outbox(
            random=lambda: 0.0,
            limits=Limits(batch_messages=16, calls=3),
            retry=Backoff(first_s=0.2, factor=2.0, cap_s=1.0, jitter=0.0),
        )
        self.paper = Paper()
        self.outbox.write_to(self.paper, 0)
        self.sent: list[tuple[str, str]] = []
        self.poison: set[str] = set()
        self.got: dict[str, list[Any]] = {}
        self.accepted: dict[str, list[str]] = {}
        self.flying: list[tuple[Batch, list[Receipt]]] = []
        self.refusing: dict[str, str] = {}
        self.is_joined = False
        self.kills = 0

    @rule(to=st.sampled_from(["agni", "dc"]), poisonous=messages)
    def send(self, to: str, poisonous: list[bool]) -> None:
        for is_poison in poisonous:
            name = f"m{len(self.sent)}"
            self.sent.append((to, name))
            if is_poison:
                self.poison.add(name)
            self.got[name] = []
            self.outbox.add(Entry(name, to, name.encode(), self.got[name].append))

    def join(self) -> None:
        if not self.is_joined:
            self.is_joined = True
            self.refusing = {}
            self.outbox.connected()

    @rule(told=st.booleans(), full=st.sets(st.integers(0, 15), max_size=2))
    def offer(self, told: bool, full: set[int]) -> None:
        """Everything goes out that may; the node reads it, in order, and its answers are under way."""
        self.join()
        while (batch := self.outbox.take(self.now_s)) is not None:
            if any(entry.id in self.poison for entry in batch.entries):
                self.end(TOLD if told else DROPPED)
                return
            receipts = [self.receipt(entry, is_full=index in full) for index, entry in enumerate(batch.entries)]
            self.flying.append((batch, receipts))

    def receipt(self, entry: Entry, is_full: bool) -> Receipt:
        seen = self.accepted.setdefault(entry.to, [])
        if entry.id in seen:
            return Receipt(entry.id, "duplicate", "n", 1, 1)
        # What comes after a refusal for now is refused as well, until the first one comes again.
        if is_full or self.refusing.get(entry.to, entry.id) != entry.id:
            self.refusing.setdefault(entry.to, entry.id)
            return Receipt(entry.id, "refused", "n", None, 0, MailboxFull.uri, "full", 0.5)
        self.refusing.pop(entry.to, None)
        seen.append(entry.id)
        return Receipt(entry.id, "accepted", "n", 1, 1)

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 5))
    def answer(self, which: int) -> None:
        batch, receipts = self.flying.pop(which % len(self.flying))
        self.outbox.answered(batch, receipts, self.now_s)

    @precondition(lambda self: self.flying)
    @rule()
    def break_off(self) -> None:
        """The network does, or we gave the session up."""
        self.end(None)

    @precondition(lambda self: self.flying and self.kills < 2)
    @rule()
    def kill(self) -> None:
        """The node is killed: to the client it looks as if it had closed the connection."""
        self.kills += 1
        self.end(DROPPED)

    @rule(seconds=st.sampled_from([0.1, 0.6, 2.0]))
    def advance(self, seconds: float) -> None:
        self.now_s += seconds

    def end(self, ending: Ending | None) -> None:
        self.is_joined = False
        self.flying = []
        self.outbox.disconnected(ending)

    @invariant()
    def only_poison_is_set_aside(self) -> None:
        aside = {name for name, got in self.got.items() if any(isinstance(one, MessageSetAside) for one in got)}
        assert aside <= self.poison
        assert sorted(message.decode() for message in self.paper.aside) == sorted(aside)

    @invariant()
    def in_order(self) -> None:
        for to, names in self.accepted.items():
            assert names == [name for sent_to, name in self.sent if sent_to == to and name in names]

    def teardown(self) -> None:
        for _ in range(4000):
            if not len(self.outbox):
                break
            self.offer(False, set())
            while self.flying:
                self.answer(0)
            self.advance(2.0)
        for name, got in self.got.items():
            assert [type(one) for one in got] == [MessageSetAside if name in self.poison else Receipt], name
        assert self.paper.held == {}


TestSuspicion = SuspicionMachine.TestCase
TestSuspicion.settings = settings(max_examples=300, stateful_step_count=40)
