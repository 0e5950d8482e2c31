"""Requests of clients, as Crossbar's broker and dealer get them; and what is at fault upstream."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
from autobahn.wamp import message
from crossbar.router.broker import Broker
from crossbar.router.dealer import Dealer
from crossbar.router.router import Router
from twisted.internet.defer import Deferred, succeed

from trishula_router.upstream.asking import Asking


class ProtocolError(Exception):
    pass


class Unwritable(Exception):
    pass


class Rig:
    """A router of which each verb asks the authorizer, and then does what ``then`` says."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.then: list[Any] = []
        self.allow = True
        self.open: set[tuple[int, int]] = set()
        tables: dict[str, Any] = {name: {} for name in ("_invocations", "_invocations_by_call")}
        tables |= {name: {} for name in ("_callee_to_invocations", "_caller_to_invocations")}
        plain = dict.fromkeys(("processUnregister", "processCancel", "processYield"), self.note)
        plain |= dict.fromkeys(("processInvocationError", "_call", "_remove_invoke_request", "detach"), self.note)
        self.dealer = SimpleNamespace(
            **tables,
            **plain,
            _session_to_registrations={},
            processCall=self.asks("call", lambda asked: asked.procedure),
            processRegister=self.asks("register", lambda asked: asked.procedure),
        )
        self.broker = SimpleNamespace(
            processPublish=self.asks("publish", lambda asked: asked.topic),
            processSubscribe=self.asks("subscribe", lambda asked: asked.topic),
            processUnsubscribe=self.note,
            _filter_publish_receivers=lambda receivers, publish: receivers,
            _subscription_map=SimpleNamespace(get_observation=lambda topic, match: None),
        )
        self.router = SimpleNamespace(
            _broker=self.broker,
            _dealer=self.dealer,
            authorize=lambda session, uri, action, options: succeed({"allow": self.allow}),
            send=lambda session, sent: self.sent.append(sent),
        )
        asking = Asking(
            message,
            lambda: 1,
            protocol_error=ProtocolError,
            unwritable=Unwritable,
            forwards=("rlink",),
            is_open=lambda *at: at in self.open,
        )
        assert asking.install(SimpleNamespace(_router=self.router))

    def note(self, *_: object) -> None:
        self.then.append("done")

    def asks(self, action: str, name: Any) -> Any:
        def process(session: Any, asked: Any) -> None:
            answer: Deferred[Any] = self.router.authorize(session, name(asked), action, options={})

            def allowed(authorization: Any) -> None:
                self.then.append(authorization["allow"])
                for act in [one for one in self.then if callable(one)]:
                    act()

            answer.addCallbacks(allowed, lambda failure: None)

        return process


EVE: Any = SimpleNamespace(_session_id=5, _authid="eve", _authrole="agent")
LINK: Any = SimpleNamespace(_session_id=6, _authid="agni", _authrole="rlink")


def fail() -> None:
    raise Unwritable("it can't be written")


def test_an_id_that_is_in_use_breaks_the_protocol() -> None:
    rig = Rig()
    rig.dealer._invocations_by_call[5, 1] = object()
    rig.open.add((5, 2))
    for number in (1, 2):
        with pytest.raises(ProtocolError, match=f"request id {number}"):
            rig.dealer.processCall(EVE, message.Call(number, "a.b"))
    rig.dealer.processCall(EVE, message.Call(3, "a.b"))
    # Each session counts for itself.
    rig.dealer.processCall(LINK, message.Call(1, "a.b"))
    assert rig.then == [True, True]


def test_a_denied_register_is_told_here_and_nothing_else_of_it() -> None:
    rig = Rig()
    rig.allow = False
    rig.dealer.processRegister(EVE, message.Register(1, "a.b"))
    assert rig.then == []
    (answer,) = rig.sent
    assert (answer.request, answer.error) == (1, "wamp.error.not_authorized")
    rig.allow = True
    rig.dealer.processRegister(EVE, message.Register(2, "a.b"))
    assert rig.then == [True]


def test_what_fails_is_answered() -> None:
    rig = Rig()
    rig.then.append(fail)
    rig.dealer.processCall(EVE, message.Call(1, "a.b"))
    rig.broker.processSubscribe(EVE, message.Subscribe(2, "a.b"))
    rig.dealer.processRegister(EVE, message.Register(3, "a.b"))
    rig.broker.processPublish(EVE, message.Publish(4, "a.b", acknowledge=True))
    rig.broker.processPublish(EVE, message.Publish(5, "a.b"))
    assert [(answer.request_type, answer.request) for answer in rig.sent] == [(48, 1), (32, 2), (64, 3), (16, 4)]
    assert {answer.error for answer in rig.sent} == {"wamp.error.invalid_argument"}


def test_what_fails_for_another_reason_is_logged_too(logged_errors: Any) -> None:
    rig = Rig()
    nothing: dict[str, int] = {}
    rig.then.append(lambda: nothing["missing"])
    rig.dealer.processCall(EVE, message.Call(1, "a.b"))
    assert len(rig.sent) == 1
    assert len(logged_errors.flush(KeyError)) == 1


def test_only_a_link_asks_for_somebody_else() -> None:
    rig = Rig()
    forged = [{"session": 1, "authid": "agni", "authrole": "operator"}]
    asked = message.Cancel(1, forward_for=forged)
    with pytest.raises(ProtocolError, match="forward_for"):
        rig.dealer.processCancel(EVE, asked)
    rig.dealer.processCancel(LINK, asked)
    rig.dealer.processCancel(EVE, message.Cancel(1))
    assert rig.then == ["done", "done"]


def test_a_crossbar_that_is_built_otherwise_is_left_alone() -> None:
    rig = Rig()
    other = Asking(
        message, int, protocol_error=ProtocolError, unwritable=Unwritable, forwards=(), is_open=lambda *_: False
    )
    del rig.dealer._invocations
    before = dict(vars(rig.dealer))
    assert not other.install(SimpleNamespace(_router=rig.router))
    assert not other.install(SimpleNamespace())
    assert vars(rig.dealer) == before


# -- what is at fault upstream -----------------------------------------------------------------------------------------


def test_upstream_still_keeps_one_call_for_each_id_and_compares_with_what_is_not_there() -> None:
    assert "self._invocations_by_call[session._session_id, call.request] = invoke_request" in inspect.getsource(Dealer)
    source = inspect.getsource(Broker.processSubscribe)
    assert "session._session_id in retained_event.publish.eligible" in source
    assert "eligible_authid" not in source
    denied = inspect.getsource(Dealer.processRegister).partition('if not authorization["allow"]:')[2]
    assert "return" not in denied.partition("get existing registration")[0]


def test_upstream_still_has_what_we_reach_into() -> None:
    for kind, names in (
        (Dealer, ("_call", "_remove_invoke_request", "processYield", "processInvocationError", "detach")),
        (Broker, ("processPublish", "processSubscribe", "processUnsubscribe", "_filter_publish_receivers")),
        (Router, ("authorize", "send")),
    ):
        assert all(callable(getattr(kind, name)) for name in names)
    assert list(inspect.signature(Router.authorize).parameters) == ["self", "session", "uri", "action", "options"]
