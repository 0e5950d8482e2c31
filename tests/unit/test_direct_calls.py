"""The shorter way of calls to the node: the same answers, and Crossbar's own way wherever that is Crossbar's affair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import SimpleNamespace
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.conftest import LoggedErrors
from trishula.contract.uris import MAILBOX_ACK, MAILBOX_SEND
from trishula.errors import MailboxFull, NodeFailed
from trishula_router.agents.callers import Caller
from trishula_router.upstream.direct_calls import HELD_AT_BYTES, DirectCalls, Result
from trishula_router.upstream.turns import GAP_S, Turns
from trishula_router.upstream.written_together import Writes


class Call(SimpleNamespace):
    MESSAGE_TYPE = 48


def reply(kind: str) -> Any:
    def make(*args: Any, **named: Any) -> tuple[Any, ...]:
        return (kind, *args, named)

    return make


MESSAGE = SimpleNamespace(Call=Call, Result=reply("result"), Error=reply("error"))


class Bench:
    """A router with one procedure of the node's, ``verb``, and a record of what happens."""

    def __init__(self, call_later: Any = None) -> None:
        self.sent: list[Any] = []
        self.by_crossbar: list[Any] = []
        self.callers: list[tuple[Caller, tuple[Any, ...], dict[str, Any]]] = []
        self.outcome: Any = "done"
        self.denied = False
        self.later: list[tuple[float, Any]] = []
        self.turns = Turns(lambda: 0.0, lambda delay_s, job: self.later.append((delay_s, job)))
        self.unsendable: Any = None
        self.dealer = SimpleNamespace(
            processCall=lambda session, call: self.by_crossbar.append(call),
            processCancel=lambda session, cancel: self.by_crossbar.append(cancel),
            _invocations_by_call={},
        )
        self.session = SimpleNamespace(_session_id=1, _authid="dc", _authrole="agent", _transport=object())
        direct = self.direct = DirectCalls(
            {"verb": self._serve, MAILBOX_SEND: self._serve, MAILBOX_ACK: self._serve},
            self._is_denied,
            MESSAGE,
            MESSAGE.Result,
            call_later or (lambda delay_s, job: self.later.append((delay_s, job))),
            self.turns,
            Writes(),
        )
        assert direct.install(SimpleNamespace(_router=SimpleNamespace(_dealer=self.dealer, send=self._send)))

    def _send(self, session: Any, message: Any) -> None:
        if message == self.unsendable:
            raise ValueError("it can't be written")
        self.sent.append(message)

    def _is_denied(self, session: Mapping[str, object], uri: str, options: Mapping[str, object]) -> bool:
        assert session == {"authid": "dc", "authrole": "agent"}
        return self.denied or bool(options)

    async def _serve(self, caller: Caller, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        self.callers.append((caller, tuple(args), dict(kwargs)))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return await self.outcome if isinstance(self.outcome, Deferred) else self.outcome

    def call(self, procedure: str = "verb", request: int = 7, **options: Any) -> Call:
        plain: dict[str, Any] = {"args": None, "kwargs": None, "timeout": None, "payload": None, "forward_for": None}
        asked = Call(request=request, procedure=procedure, **{**plain, **options})
        self.dealer.processCall(self.session, asked)
        return asked

    def cancel(self) -> Any:
        unwanted = SimpleNamespace(request=7)
        self.dealer.processCancel(self.session, unwanted)
        return unwanted


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_call_is_served_for_who_calls_with_what_came(bench: Bench) -> None:
    bench.call(args=[1], kwargs={"a": 2})
    bench.call()
    assert bench.callers == [(Caller(1, "dc", "agent"), (1,), {"a": 2}), (Caller(1, "dc", "agent"), (), {})]
    assert bench.sent == [("result", 7, {"args": ["done"]})] * 2
    assert bench.by_crossbar == []


def test_a_refusal_travels_with_its_sentence_and_when_to_try_again(bench: Bench) -> None:
    bench.outcome = MailboxFull("it is full", retry_after_s=1.5)
    bench.call()
    details = {"args": ["it is full"], "kwargs": {"retry_after_s": 1.5}}
    assert bench.sent == [("error", 48, 7, MailboxFull.uri, details)]


@pytest.mark.parametrize("options", [{"procedure": "other"}, {"timeout": 5}, {"payload": b"x"}, {"forward_for": [{}]}])
def test_what_is_crossbars_affair_goes_its_way(bench: Bench, options: dict[str, Any]) -> None:
    assert bench.by_crossbar == [bench.call(**options)]
    assert bench.callers == bench.sent == []


def test_a_call_that_is_denied_is_answered_by_crossbar(bench: Bench) -> None:
    bench.denied = True
    assert bench.by_crossbar == [bench.call()]
    assert bench.callers == []


def test_a_call_that_came_as_a_frame_is_served_if_its_id_is_free_and_it_is_not_denied(bench: Bench) -> None:
    bench.outcome = answer = Deferred[str]()
    asked = Call(request=7, procedure="verb", args=[1], kwargs=None)
    assert bench.direct.take(bench.session, asked)
    assert not bench.direct.take(bench.session, asked)
    answer.callback("done")
    assert bench.sent == [("result", 7, {"args": ["done"]})]
    bench.dealer._invocations_by_call[1, 7] = object()
    assert not bench.direct.take(bench.session, asked)
    bench.dealer._invocations_by_call.clear()
    bench.denied = True
    assert not bench.direct.take(bench.session, asked)
    assert len(bench.callers) == 1
    assert bench.by_crossbar == []


def test_a_call_that_is_cancelled_is_answered_once_and_its_work_goes_on(bench: Bench) -> None:
    bench.outcome = answer = Deferred[str]()
    bench.call()
    bench.cancel()
    assert bench.sent == [("error", 48, 7, "wamp.error.canceled", {})]
    assert not answer.called
    answer.callback("late")
    assert len(bench.sent) == 1


def test_what_is_cancelled_and_not_ours_is_crossbars_affair(bench: Bench) -> None:
    bench.call()
    assert bench.by_crossbar == [bench.cancel()]


@pytest.mark.parametrize("gone", [{"_transport": None}, {"_session_id": 2}])
def test_an_answer_to_a_session_that_is_gone_goes_nowhere(bench: Bench, gone: dict[str, Any]) -> None:
    bench.outcome = answer = Deferred[str]()
    bench.call()
    vars(bench.session).update(gone)
    answer.callback("late")
    assert bench.sent == []


def test_an_answer_that_cannot_be_written_is_said_to_have_failed(bench: Bench, logged_errors: LoggedErrors) -> None:
    bench.unsendable = ("result", 7, {"args": ["done"]})
    bench.call()
    assert len(logged_errors.flush(ValueError)) == 1
    ((kind, _, request, uri, _),) = bench.sent
    assert (kind, request, uri) == ("error", 7, NodeFailed.uri)


@pytest.mark.parametrize(
    "transport",
    [None, SimpleNamespace(), SimpleNamespace(_router=SimpleNamespace(_dealer=None, send=print))],
)
def test_a_crossbar_that_is_not_as_expected_is_left_as_it_is(transport: object) -> None:
    assert not DirectCalls({}, lambda *_: False, MESSAGE, Result, *cast(Any, [None] * 3)).install(transport)


def test_who_hands_in_more_than_can_be_worked_off_is_held_until_it_is(bench: Bench) -> None:
    bench.session._transport = SimpleNamespace(message_bytes=HELD_AT_BYTES)
    outcomes = [Deferred[str](), Deferred[str]()]
    bench.outcome = outcomes[0]
    bench.call()
    assert not bench.turns.is_held("dc")
    bench.outcome = outcomes[1]
    bench.call()
    assert bench.turns.is_held("dc")
    bench.cancel()
    # Nobody waits for it any more, and it is in memory as before.
    assert bench.turns.is_held("dc")
    outcomes[0].callback("done")
    assert not bench.turns.is_held("dc")


def leaves_gaps(bench: Bench) -> bool:
    """Whether others leave gaps just now."""
    bench.later.clear()
    bench.turns.later(print)
    bench.later.pop()[1]()
    (found,) = [delay_s for delay_s, _ in bench.later] or [0.0]
    for _, job in bench.later:
        job()
    return found == GAP_S


@pytest.mark.parametrize(("size_bytes", "is_small"), [(300, True), (300_000, False)])
def test_while_a_small_call_is_open_others_leave_gaps(bench: Bench, size_bytes: int, is_small: bool) -> None:
    bench.session._transport = SimpleNamespace(message_bytes=size_bytes)
    bench.outcome = answer = Deferred[str]()
    assert not leaves_gaps(bench)
    bench.call()
    assert leaves_gaps(bench) == is_small
    answer.callback("done")
    assert not leaves_gaps(bench)
    bench.outcome = "at once"
    bench.call()
    assert not leaves_gaps(bench)


def test_who_is_refused_again_and_again_rests(bench: Bench) -> None:
    bench.outcome = MailboxFull("it is full")
    for _ in range(990):
        bench.call()
    assert bench.later == []
    for _ in range(20):
        bench.call()
    ((delay_s, _),) = bench.later
    assert delay_s > GAP_S
    assert len(bench.sent) == 1010


def test_answers_of_sends_and_acks_go_out_at_the_end_of_the_turn_behind_what_the_sends_brought_about() -> None:
    clock = Clock()
    bench = Bench(cast(Any, clock).callLater)
    bench.call(MAILBOX_ACK, 1)
    bench.call("verb", 2)
    # As the events of what a send brought about: they are put off when an ack of the same commit was answered.
    clock.callLater(0, bench.sent.append, ("event", 0))
    bench.call(MAILBOX_SEND, 3)
    assert [one[1] for one in bench.sent] == [2]
    clock.advance(0)
    clock.advance(0)
    assert [one[1] for one in bench.sent] == [2, 0, 1, 3]
    bench.call(MAILBOX_SEND, 4)
    clock.pump([0, 0])
    assert [one[1] for one in bench.sent] == [2, 0, 1, 3, 4]


def test_an_answer_that_cannot_be_written_at_all_keeps_back_no_other(logged_errors: LoggedErrors) -> None:
    clock = Clock()
    bench = Bench(cast(Any, clock).callLater)
    bench.unsendable = ("result", 1, {"args": ["done"]})
    refused = (
        "error",
        48,
        1,
        NodeFailed.uri,
        {"args": ["the answer could not be sent; the log says why"], "kwargs": None},
    )

    def send(session: Any, message: Any) -> None:
        if message in (bench.unsendable, refused):
            raise ValueError("it can't be written")
        bench.sent.append(message)

    bench.direct._router.send = send
    bench.call(MAILBOX_SEND, 1)
    bench.call(MAILBOX_SEND, 2)
    clock.pump([0, 0])
    assert [one[1] for one in bench.sent] == [2]
    assert len(logged_errors.flush(ValueError)) == 2


def test_a_refused_send_is_answered_at_once(bench: Bench) -> None:
    bench.outcome = MailboxFull("the mailbox is full")
    bench.call(MAILBOX_SEND)
    assert [one[0] for one in bench.sent] == ["error"]
    assert bench.later == []


@pytest.mark.parametrize("kind", ["MsgPackSerializer", "JsonSerializer", "CBORSerializer"])
@pytest.mark.parametrize("answer", [None, True, [{"id": "ä", "position": 1}], {"deliveries": []}])
def test_a_result_travels_as_autobahns_does(kind: str, answer: object) -> None:
    # In this order: it has to know by then which framework it runs in.
    import_module("autobahn.twisted.websocket")
    serializer = getattr(import_module("autobahn.wamp.serializer"), kind)()
    autobahns = import_module("autobahn.wamp.message").Result
    assert serializer.serialize(Result(7, args=[answer])) == serializer.serialize(autobahns(7, args=[answer]))
    assert Result.__name__ == autobahns.__name__
