"""Loops over messages: when a message is done, what leaving a loop does, what comes again, and a node that is away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from twisted.internet.task import Clock

from trishula.consumer.messages import Messages, SyncMessages
from trishula.contract.deliveries import Delivery, Fetched
from trishula.contract.message import Message
from trishula.errors import BusUnreachable, MailboxBusy, TrishulaError
from trishula.messaging.acks import Settling
from trishula.messaging.engine import Engine
from trishula.runtime.pending import Pending, start


def delivery(number: int, token: str = "") -> Delivery:
    message = Message(type="STATUS", id=f"m{number}", sender="dc", to="agni", timestamp=0, payload=number)
    return Delivery(message, 1, token or f"t{number}")


class Box:
    """A mailbox that answers as it is told to, and an engine that writes down what it is to settle."""

    def __init__(self, *answers: Delivery | BaseException | None) -> None:
        self.clock = Clock()
        self.answers = list(answers)
        self.waited: list[float] = []
        self.settling = Settling(lambda: None, lambda: True, lambda: None, Clock())
        self.engine = cast(Engine, SimpleNamespace(clock=self.clock, settling=self.settling, end=None))
        self.pending: Pending[Fetched] | None = None

    async def fetch(self, wait_s: float) -> Fetched:
        self.waited.append(wait_s)
        if not self.answers:
            self.pending = Pending()
            return await self.pending
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        if answer is None:
            self.clock.advance(wait_s)
        return fetched(answer)

    def messages(self, wait_s: float | None = None) -> Messages:
        return Messages(self.engine, self.fetch, wait_s)

    @property
    def acked(self) -> list[str]:
        return list(self.settling._acks.items)

    @property
    def returned(self) -> list[tuple[str, bool]]:
        return [(one["token"], one["requeue"]) for one in self.settling._nacks.items]


def fetched(one: Delivery | None) -> Fetched:
    return Fetched([] if one is None else [one], "e", 1, 0, 0)


def test_a_message_is_done_when_the_next_one_is_asked_for() -> None:
    box = Box(delivery(1), delivery(2), None)
    messages = box.messages(wait_s=3.0)
    first = start(messages.take()).result()
    assert first is not None and first.id == "m1"
    assert (box.acked, messages.delivery) == ([], delivery(1))
    start(messages.take()).result()
    assert box.acked == ["t1"]
    assert start(messages.take()).result() is None
    assert (box.acked, box.returned, messages.delivery) == (["t1", "t2"], [], None)
    assert box.waited == [3.0, 3.0, 3.0]


def test_the_message_in_hand_surfaces() -> None:
    box = Box(delivery(1), None)
    messages = box.messages(wait_s=3.0)
    messages.surfaced()
    start(messages.take())
    messages.surfaced()
    assert box.settling._surfacings.items == ["t1"]


def test_a_loop_that_is_left_gives_back() -> None:
    box = Box(delivery(1), delivery(2))

    async def loop() -> None:
        async for message in box.messages():
            if message.id == "m2":
                break

    start(loop()).result()
    assert (box.acked, box.returned) == (["t1"], [("t2", True)])


def test_an_exception_gives_back() -> None:
    box = Box(delivery(1))

    async def loop() -> None:
        async for _ in box.messages():
            raise ZeroDivisionError

    looped = start(loop())
    with pytest.raises(ZeroDivisionError):
        looped.result()
    # The traceback that an author looks at has the loop in it.
    del looped
    assert (box.acked, box.returned) == ([], [("t1", True)])


def test_who_is_through_says_so_and_who_wants_it_away_too() -> None:
    box = Box(delivery(1), delivery(2))
    messages = box.messages()
    start(messages.take()).result()
    messages.nack("not for me", requeue=False)
    start(messages.take()).result()
    messages.ack()
    del messages
    assert (box.acked, box.returned) == (["t2"], [("t1", False)])


def test_what_comes_again_because_its_ack_was_lost_is_passed_over() -> None:
    box = Box(delivery(1), delivery(1, "t1 again"), delivery(2))
    messages = box.messages()
    assert [m and m.id for m in (start(messages.take()).result(), start(messages.take()).result())] == ["m1", "m2"]
    assert box.acked == ["t1", "t1 again"]


def test_without_an_end_it_waits_for_a_node_too() -> None:
    box = Box(BusUnreachable("away"), BusUnreachable("away"), delivery(1))
    taken = start(box.messages().take())
    assert not taken.done
    box.clock.pump([0.5, 0.5])
    message = taken.result()
    assert message is not None and message.id == "m1"


@pytest.mark.parametrize(("error", "wait_s"), [(BusUnreachable("away"), 1.0), (MailboxBusy("pushed"), None)])
def test_other_errors_are_raised(error: TrishulaError, wait_s: float | None) -> None:
    with pytest.raises(type(error)):
        start(Box(error).messages(wait_s).take()).result()


def test_a_long_wait_is_cut_into_turns() -> None:
    box = Box(None, None, None)
    assert start(box.messages(wait_s=70.0).take()).result() is None
    assert box.waited == [30.0, 30.0, 10.0]


def sync(box: Box, wait_s: float | None = None) -> SyncMessages:
    def wait(take: Callable[[], Awaitable[Message | None]]) -> Message | None:
        return cast("Message | None", start(cast(Any, take())).result())

    return SyncMessages(box.messages(wait_s), wait, lambda do: do())


def test_the_loop_of_a_script() -> None:
    box = Box(delivery(1), delivery(2), None)
    assert [message.id for message in sync(box, 1.0)] == ["m1", "m2"]
    assert (box.acked, box.returned) == (["t1", "t2"], [])


def test_the_loop_of_a_script_that_is_left() -> None:
    box = Box(delivery(1), delivery(2), delivery(3))
    for message in sync(box):
        if message.id == "m2":
            break
    assert (box.acked, box.returned) == (["t1"], [("t2", True)])
    with pytest.raises(ZeroDivisionError):
        for _ in sync(box):
            raise ZeroDivisionError
    assert box.returned == [("t2", True), ("t3", True)]


def test_what_comes_when_nobody_waits_any_more_is_given_back() -> None:
    # Ctrl-C in a script ends the wait of its thread; the question to the node is under way.
    box = Box()
    messages = box.messages()
    taken = start(messages.take())
    messages.leave()
    assert box.pending is not None
    box.pending.resolve(fetched(delivery(1)))
    assert (taken.result(), box.acked, box.returned) == (None, [], [("t1", True)])
