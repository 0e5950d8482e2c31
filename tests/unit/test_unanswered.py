"""Calls that nobody answers end: with Crossbar's own dealer, which also says when it changes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from autobahn.wamp import message
from twisted.internet.task import Clock

from trishula_router.upstream.turns import Turns
from trishula_router.upstream.unanswered import Unanswered

from .test_requests import Session, Setup

pytest.importorskip("crossbar.router.dealer")

MOST_S = 100.0


class World(Setup):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        clock: Any = self.clock
        self.turns = Turns(self.clock.seconds, self.clock.callLater)
        unanswered = Unanswered(message, MOST_S, ("agent",), clock, self.turns)
        assert unanswered.install(SimpleNamespace(_router=self.router))

    def pass_by(self, seconds: float) -> None:
        for _ in range(round(seconds * 2)):
            self.clock.advance(0.5)

    def sent_to(self, session: Session) -> list[Any]:
        return [sent for to, sent in self.sent if to is session]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def callee(world: World) -> Session:
    callee = world.session("agni")
    world.register(callee, "agni.slow")
    return callee


def test_a_call_without_an_answer_ends_for_both_and_leaves_nothing(world: World, callee: Session) -> None:
    caller = world.session("dc")
    call = world.call(caller, "agni.slow")
    (invocation,) = [one for one in world.sent_to(callee) if isinstance(one, message.Invocation)]
    world.pass_by(MOST_S - 1)
    assert world.sent_to(caller) == []
    world.pass_by(MOST_S / 10 + 2)
    (error,) = world.sent_to(caller)
    assert (error.request, error.error) == (call.request, "trishula.error.outcome_unknown")
    assert error.args[0].startswith("agni.slow has not answered within 100.0 s (limits.call_wait)")
    interrupt = world.sent_to(callee)[-1]
    assert isinstance(interrupt, message.Interrupt)
    assert interrupt.request == invocation.request
    dealer = world.dealer
    assert not any(
        (
            dealer._invocations,
            dealer._invocations_by_call,
            dealer._callee_to_invocations,
            dealer._caller_to_invocations,
        )
    )
    # What is late is nobody's.
    dealer.processYield(callee, message.Yield(invocation.request, args=["late"]))
    assert world.sent_to(caller) == [error]


def test_a_call_that_is_answered_in_time_is_told_nothing_more(world: World, callee: Session) -> None:
    caller = world.session("dc")
    world.call(caller, "agni.slow")
    world.pass_by(MOST_S / 2)
    world.call(caller, "agni.slow")
    first, second = [one for one in world.sent_to(callee) if isinstance(one, message.Invocation)]
    world.dealer.processYield(callee, message.Yield(first.request, args=["done"]))
    world.pass_by(MOST_S * 0.45)
    assert [type(one) for one in world.sent_to(caller)] == [message.Result]
    assert list(world.dealer._invocations) == [second.request]
    world.pass_by(MOST_S * 0.65)
    assert [type(one) for one in world.sent_to(caller)] == [message.Result, message.Error]


def test_a_call_with_progress_waits_anew(world: World, callee: Session) -> None:
    caller = world.session("dc")
    world.call(caller, "agni.slow")
    (invocation,) = [one for one in world.sent_to(callee) if isinstance(one, message.Invocation)]
    for _ in range(5):
        world.pass_by(MOST_S * 0.8)
        world.dealer.processYield(callee, message.Yield(invocation.request, args=["more"], progress=True))
    assert list(world.dealer._invocations) == [invocation.request]


def test_calls_of_the_nodes_own_procedures_are_left_alone(world: World) -> None:
    node = world.session("node", "trusted")
    world.register(node, "node.fetch")
    world.call(world.session("dc"), "node.fetch")
    world.pass_by(3 * MOST_S)
    assert len(world.dealer._invocations) == 1


def test_of_a_cancelled_call_its_caller_hears_nothing_more(world: World, callee: Session) -> None:
    caller = world.session("dc")
    callee._session_roles["callee"].call_canceling = False
    call = world.call(caller, "agni.slow")
    world.dealer._invocations_by_call[caller._session_id, call.request].canceled = True
    world.pass_by(2 * MOST_S)
    assert world.sent_to(caller) == []
    assert not world.dealer._invocations


def test_who_takes_one_call_at_a_time_is_free_again(world: World) -> None:
    callee = world.session("agni")
    world.dealer.processRegister(callee, message.Register(world.next(), "agni.one", concurrency=1))
    caller = world.session("dc")
    world.call(caller, "agni.one")
    world.pass_by(2 * MOST_S)
    world.call(caller, "agni.one")
    assert len([one for one in world.sent_to(callee) if isinstance(one, message.Invocation)]) == 2


def test_another_crossbar_is_left_as_it_is(world: World) -> None:
    clock: Any = world.clock
    unanswered = Unanswered(message, MOST_S, ("agent",), clock, world.turns)
    assert not unanswered.install(SimpleNamespace())
    del world.dealer._invocations
    before = world.dealer.processYield
    assert not unanswered.install(SimpleNamespace(_router=world.router))
    assert world.dealer.processYield is before
