"""What clients ask of the router is bounded: with Crossbar's own broker and dealer, which also says when it changes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from autobahn.wamp import message

from trishula.errors import TrishulaError
from trishula_router.agents.quotas import Quota, Quotas
from trishula_router.upstream.requests import Requests
from trishula_router.upstream.turns import Turns

from .test_quotas import LIMITS

broker_module = pytest.importorskip("crossbar.router.broker")
dealer_module = pytest.importorskip("crossbar.router.dealer")

MOST = 3


class Session:
    """As much of Crossbar's as is used."""

    def __init__(self, **named: Any) -> None:
        self.__dict__.update(named)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class Setup:
    """A router with Crossbar's broker and dealer, and sessions of agents at it."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, Any]] = []
        self.refused: list[tuple[str, TrishulaError]] = []
        self.direct: dict[int, int] = {}
        self.told: list[str] = []
        self._number = 0
        options = SimpleNamespace(uri_check="loose", event_dispatching_chunk_size=100)
        self.router: Any = SimpleNamespace(
            _store=None,
            _realm=None,
            is_traced=False,
            _authid_to_sessions={},
            _session_id_to_session={},
            send=lambda session, sent: self.sent.append((session, sent)),
            authorize=self._authorize,
            validate=lambda *args, **named: None,
        )
        reactor = SimpleNamespace(callLater=lambda *args: None)
        self.router._broker = self.broker = broker_module.Broker(self.router, reactor, options)
        self.router._dealer = self.dealer = dealer_module.Dealer(self.router, reactor, options)
        self.quotas = Quotas(replace(LIMITS, subscriptions=MOST, registrations=MOST, calls=MOST))
        requests = Requests(
            self.quotas,
            ("agent",),
            message,
            lambda session: self.direct.get(session, 0),
            lambda agent, error: self.refused.append((agent, error)),
            cast(Turns, SimpleNamespace(refused=self.told.append)),
        )
        self.requests = requests
        assert requests.install(SimpleNamespace(_router=self.router))

    def _authorize(self, session: Any, uri: str, action: str, options: Any) -> Any:
        from twisted.internet.defer import succeed

        return succeed({"allow": True, "disclose": True})

    def session(self, agent: str, role: str = "agent") -> Session:
        self._number += 1
        roles = {"callee": SimpleNamespace(call_canceling=True), "caller": SimpleNamespace(call_canceling=True)}
        one = Session(
            _session_id=self._number, _authid=agent, _authrole=role, _realm="r", _transport=self, _session_roles=roles
        )
        self.router._authid_to_sessions.setdefault(agent, set()).add(one)
        self.broker.attach(one)
        self.dealer.attach(one)
        return one

    def answer(self) -> Any:
        return self.sent[-1][1]

    def subscribe(self, session: Session, topic: str) -> Any:
        self.broker.processSubscribe(session, message.Subscribe(self.next(), topic))
        return self.answer()

    def register(self, session: Session, uri: str) -> Any:
        self.dealer.processRegister(session, message.Register(self.next(), uri))
        return self.answer()

    def call(self, session: Session, uri: str) -> message.Call:
        call = message.Call(self.next(), uri, args=["x"])
        self.dealer.processCall(session, call)
        return call

    def next(self) -> int:
        self._number += 1
        return self._number


@pytest.fixture
def setup() -> Setup:
    return Setup()


@pytest.mark.parametrize(("verb", "done"), [("subscribe", message.Subscribed), ("register", message.Registered)])
def test_a_session_has_so_many_and_all_of_an_agent_four_times_as_many(setup: Setup, verb: str, done: Any) -> None:
    ask = getattr(setup, verb)
    sessions = [setup.session("dc") for _ in range(6)]
    answers = [ask(one, f"a.{of}.{number}") for of, one in enumerate(sessions) for number in range(MOST + 1)]
    assert sum(isinstance(one, done) for one in answers) == 4 * MOST
    assert {one.error for one in answers if isinstance(one, message.Error)} == {
        {"subscribe": "trishula.error.subscriptions_exceeded", "register": "trishula.error.registrations_exceeded"}[
            verb
        ]
    }
    assert isinstance(ask(setup.session("agni"), "b"), done)
    assert {agent for agent, _ in setup.refused} == {"dc"}
    # Whoever goes on is read seldom.
    assert len(setup.told) == len(setup.refused)
    assert set(setup.told) == {"dc"}


def test_the_sessions_of_links_are_not_bounded(setup: Setup) -> None:
    link = setup.session("peer", "rlink")
    answers = [setup.subscribe(link, f"a.{number}") for number in range(10 * MOST)]
    assert all(isinstance(one, message.Subscribed) for one in answers)


def test_calls_in_flight_are_bounded_and_what_the_node_answers_counts(setup: Setup) -> None:
    callee, caller = setup.session("agni"), setup.session("dc")
    setup.register(callee, "agni.slow")
    setup.direct[caller._session_id] = 1
    for _ in range(MOST - 1):
        assert setup.requests.may_call(caller)
        setup.call(caller, "agni.slow")
        assert isinstance(setup.answer(), message.Invocation)
    # Whoever only asks is refused nothing, and a link is not bounded.
    assert not setup.requests.may_call(caller)
    link = setup.session("peer", "rlink")
    setup.direct[link._session_id] = MOST
    assert setup.requests.may_call(link)
    setup.call(caller, "agni.slow")
    assert setup.answer().error == "trishula.error.calls_exceeded"
    invocation = next(sent for _, sent in setup.sent if isinstance(sent, message.Invocation))
    assert invocation.args == ["x"]
    setup.dealer.processYield(callee, message.Yield(invocation.request))
    setup.call(caller, "agni.slow")
    assert isinstance(setup.answer(), message.Invocation)
    assert setup.quotas.told()[Quota.CALLS.value] == 1


def test_a_callee_owes_only_so_many(setup: Setup) -> None:
    callee = setup.session("agni")
    setup.register(callee, "agni.slow")
    for number in range(4):
        caller = setup.session(f"dc{number}")
        for _ in range(MOST):
            setup.call(caller, "agni.slow")
            assert isinstance(setup.answer(), message.Invocation)
    setup.call(setup.session("last"), "agni.slow")
    assert setup.answer().error == "trishula.error.calls_exceeded"


def test_a_call_that_waits_keeps_no_arguments(setup: Setup) -> None:
    setup.register(setup.session("agni"), "agni.slow")
    call = setup.call(setup.session("dc"), "agni.slow")
    assert call.args is None


@pytest.mark.parametrize(("mode", "kept"), [("killnowait", 0), ("kill", 1)])
def test_a_cancelled_call_is_kept_only_if_somebody_waits_for_its_end(setup: Setup, mode: str, kept: int) -> None:
    setup.register(setup.session("agni"), "agni.slow")
    caller = setup.session("dc")
    call = setup.call(caller, "agni.slow")
    setup.dealer.processCancel(caller, message.Cancel(call.request, mode))
    assert len(setup.dealer._invocations) == kept
    setup.dealer.detach(caller)
    assert not setup.dealer._invocations
    assert not setup.dealer._callee_to_invocations


def test_another_crossbar_is_left_as_it_is() -> None:
    requests = Requests(Quotas(LIMITS), (), message, lambda session: 0, lambda agent, error: None, cast(Turns, None))
    assert not requests.install(SimpleNamespace())
    setup = Setup()
    del setup.dealer._invocations_by_call
    before = setup.broker.processSubscribe
    assert not requests.install(SimpleNamespace(_router=setup.router))
    assert setup.broker.processSubscribe is before
