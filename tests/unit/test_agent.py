"""Agents and what they do with a message, against a connection that the test drives."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.faketransport import PROCESS, FakeConnection, FakeLink, settings, surroundings
from trishula.agent import Agent
from trishula.consumer.handlers import LATER
from trishula.consumer.replies import reply_id
from trishula.contract import uris
from trishula.contract.deliveries import current_delivery
from trishula.contract.message import Message
from trishula.errors import (
    ArgumentInvalid,
    IdReused,
    InstanceUnknown,
    MessageCancelled,
    PayloadNotJson,
    PayloadTooLarge,
    ProcedureUnknown,
    RemoteError,
    TakenOver,
    TrishulaError,
)
from trishula.runtime.pending import Pending, start
from trishula.session.transport import unpacked

INBOX = "trishula.agent.agni.inbox"


class Setup:
    """An agent to which handlers are added, then :meth:`join` starts it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.agent = Agent("agni", capabilities=["host"], window=8, state=False)
        self.connection = FakeConnection()
        self.set_by_ms = 0
        self.numbers = 0
        self.started: Pending[None] | None = None
        self.word: Callable[[int], str] = lambda size: "00" * size

    def join(self, **options: Any) -> FakeLink:
        around = surroundings(self.clock)
        true_ms = around.now_ms
        around = dataclasses.replace(around, now_ms=lambda: true_ms() + self.set_by_ms, word=self.word)
        self.started = start(self.agent.start(settings("agni"), around=around, connection=self.connection))
        return self.connection.join(**options)

    def turn(self) -> None:
        self.clock.advance(0)

    def deliver(self, link: FakeLink, **fields: Any) -> str:
        """Push one message; its token."""
        self.numbers += 1
        attempt = fields.pop("attempt", 1)
        token = str(fields.pop("token", f"{self.numbers}.{attempt}"))
        message = {"type": "STATUS", "id": f"m{self.numbers}", "to": "agni", "from": "dc", **fields}
        link.push(INBOX, {"message": message, "attempt": attempt, "token": token})
        return token

    def command(self, link: FakeLink, procedure: str | None, *args: Any, **fields: Any) -> str:
        named = {} if procedure is None else {"procedure": procedure}
        return self.deliver(
            link, **{"type": "COMMAND", "payload": {"args": list(args), "kwargs": {}}, **named, **fields}
        )


@pytest.fixture
def setup(clock: Clock) -> Iterator[Setup]:
    made = Setup(clock)
    yield made
    stopped = start(made.agent.stop(grace_s=0.0))
    clock.pump([0, 0.02, 0, 2.0, 0.02, 0])
    assert stopped.done
    made.agent.over.when_done(lambda pending: pending.error)
    if made.started is not None:
        made.started.when_done(lambda pending: pending.error)


def acked(link: FakeLink) -> list[str]:
    return [token for (tokens,) in link.args_of(uris.MAILBOX_ACK) for token in tokens]


def nacked(link: FakeLink) -> list[tuple[str, str, bool]]:
    return [
        (one["token"], one["reason"], one["requeue"]) for (nacks,) in link.args_of(uris.MAILBOX_NACK) for one in nacks
    ]


# -- definition --------------------------------------------------------------------------------------------------------


def test_names_are_checked_when_they_are_given() -> None:
    with pytest.raises(ValueError, match="'AGNI' can't be an agent's name"):
        Agent("AGNI")
    agent = Agent("agni")
    with pytest.raises(ValueError, match="a procedure can't be named 'inbox'"):
        agent.add_procedure(lambda: None, name="inbox")
    with pytest.raises(ValueError, match="'STATE' is no type of message: COMMAND, STATUS"):
        agent.on("STATE")(print)  # type: ignore[arg-type]
    for sign in ("HEARTBEAT", "ACK"):
        with pytest.raises(ValueError, match=f"{sign} can't be handled: .* COMMAND, STATUS, RESULT, ERROR$"):
            agent.on("STATUS", sign)(print)  # type: ignore[arg-type]
    agent.on("STATUS")(print)
    with pytest.raises(ValueError, match="agni handles STATUS already"):
        agent.on("STATUS")(print)
    agent.procedure(name="p")(print)
    with pytest.raises(ValueError, match="agni has a procedure p already"):
        agent.procedure(name="p")(print)


def test_a_coroutine_needs_no_thread() -> None:
    async def work() -> None: ...

    with pytest.raises(ValueError, match="work is async: it can't run in a thread, and need not"):
        Agent("agni").procedure(thread=True)(work)


def test_verbs_need_a_running_agent() -> None:
    with pytest.raises(RuntimeError, match="agni doesn't run"):
        Agent("agni").send("dc")


# -- joining -----------------------------------------------------------------------------------------------------------


def test_it_registers_its_procedures_before_it_takes_messages(setup: Setup) -> None:
    setup.agent.procedure()(_ping)
    setup.agent.subscribe(uris.EVENT_NODE, print)
    link = setup.join()
    assert [(one.uri, one.args) for one in link.asked[:4]] == [
        ("register", ["trishula.agent.agni._ping"]),
        ("subscribe", [uris.EVENT_NODE]),
        ("subscribe", [INBOX]),
        (
            uris.MAILBOX_ATTACH,
            [
                {
                    "capabilities": ["host"],
                    "window": 8,
                    "heartbeat_s": 10.0,
                    **PROCESS,
                    "canaries": ["live"],
                    "binary": True,
                }
            ],
        ),
    ]


def _ping() -> str:
    return "pong"


def test_functions_of_the_start_run_once(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    runs: list[int] = []
    failing: Deferred[None] = Deferred()
    setup.agent.on_start(lambda: runs.append(1))
    setup.agent.on_start(lambda: failing)
    setup.join()
    setup.connection.lose()
    setup.connection.join()
    assert runs == [1]
    with caplog.at_level(logging.ERROR):
        failing.errback(ValueError("broken"))
    assert "The function <lambda> failed" in caplog.text


def test_being_taken_over_is_the_end(setup: Setup) -> None:
    setup.join()
    error = TakenOver("a newer session took over")
    setup.connection.end(error)
    assert setup.agent.over.error is error


def test_a_clock_that_is_set_makes_it_forget_nothing(setup: Setup) -> None:
    seen: list[str] = []
    waiting: Pending[None] = Pending()

    @setup.agent.on("STATUS", ordered=False)
    def handle(message: Message) -> Pending[None] | None:
        seen.append(message.id)
        return waiting if message.id == "m2" else None

    link = setup.join()
    setup.deliver(link)
    setup.turn()
    setup.set_by_ms = 30 * 86_400_000
    # While something runs it looks now and then for what is too old to be remembered.
    setup.deliver(link)
    setup.clock.pump([1.0] * 25)
    setup.deliver(link, id="m1", attempt=2, token="1.2")
    setup.turn()
    assert seen == ["m1", "m2"]
    assert acked(link) == ["1.1", "1.2"]
    waiting.resolve(None)
    setup.turn()


# -- messages ----------------------------------------------------------------------------------------------------------


def test_a_handled_message_is_acknowledged(setup: Setup) -> None:
    heard: list[Any] = []
    setup.agent.on("STATUS")(lambda message: heard.append((message.payload, current_delivery())))
    link = setup.join()
    token = setup.deliver(link, payload=1, attempt=2)
    assert acked(link) == []
    setup.turn()
    assert acked(link) == [token]
    ((payload, delivery),) = heard
    assert (payload, delivery.attempt) == (1, 2)
    assert current_delivery() is None


def test_acks_of_one_turn_travel_in_one_call(setup: Setup) -> None:
    setup.agent.on("STATUS")(lambda message: None)
    link = setup.join()
    tokens = [setup.deliver(link) for _ in range(5)]
    setup.turn()
    assert link.args_of(uris.MAILBOX_ACK) == [[tokens]]


def test_a_reason_that_is_no_text_is_told_all_the_same(setup: Setup) -> None:
    # It would be refused, and with it whatever else is given back in the same call.
    setup.agent.on("STATUS")(lambda message: _raise(OSError("no \udcff.txt")))
    link = setup.join()
    token = setup.deliver(link)
    setup.turn()
    assert nacked(link) == [(token, "<lambda> raised OSError: no \\udcff.txt", True)]


def test_a_message_whose_handler_raises_is_given_back(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    def broken(message: Message) -> None:
        raise ValueError("broken")

    setup.agent.on("STATUS")(broken)
    link = setup.join()
    with caplog.at_level(logging.ERROR):
        token = setup.deliver(link)
    setup.turn()
    assert nacked(link) == [(token, "broken raised ValueError: broken", True)]
    assert acked(link) == []
    assert "The handler broken (STATUS m1 from dc) failed" in caplog.text


def test_a_subject_chooses_the_handler_and_what_fits_none_is_refused_by_it(setup: Setup) -> None:
    heard: list[object] = []
    setup.agent.on("STATUS", "COMMAND", subject="deploy.*")(lambda message: heard.append(message.subject))
    link = setup.join()
    taken = setup.deliver(link, subject="deploy.eu")
    refused = [setup.deliver(link, subject="other"), setup.deliver(link)]
    command = setup.deliver(link, type="COMMAND", subject="deploy.us")
    setup.turn()
    assert heard == ["deploy.eu", "deploy.us"]
    assert acked(link) == [taken, command]
    reasons = [f"no handler takes STATUS messages with the subject {subject} here" for subject in ('"other"', "null")]
    assert nacked(link) == [(token, reason, False) for token, reason in zip(refused, reasons, strict=True)]
    assert [message["type"] for message in link.sent()] == ["RESULT"]


def test_a_repeat_runs_nothing_and_is_acknowledged(setup: Setup) -> None:
    runs: list[str] = []
    setup.agent.on("STATUS")(lambda message: runs.append(message.id))
    link = setup.join()
    tokens = [setup.deliver(link, id="a"), setup.deliver(link, id="a", attempt=2)]
    setup.turn()
    tokens.append(setup.deliver(link, id="a", attempt=3))
    setup.turn()
    assert runs == ["a"]
    assert acked(link) == tokens


def test_a_repeat_by_another_process_of_the_sender_runs_nothing(setup: Setup) -> None:
    """Two nodes that couldn't reach each other each accepted it."""
    runs: list[str] = []
    setup.agent.on("STATUS")(lambda message: runs.append(message.id))
    link = setup.join()
    tokens = [setup.deliver(link, id="a", **{"from": f"dc/{word}"}) for word in ("7f3a", "91bc")]
    setup.turn()
    assert runs == ["a"]
    assert acked(link) == tokens


def test_another_message_under_a_known_id_is_not_lost_in_silence(setup: Setup) -> None:
    """Two nodes that couldn't reach each other each accepted one; its sender is told by the node that it is dead."""
    runs: list[object] = []
    setup.agent.on("STATUS")(lambda message: runs.append(message.payload))
    link = setup.join()
    first = setup.deliver(link, id="a", payload=1)
    other = setup.deliver(link, id="a", payload=2, **{"from": "dc/7f3a"})
    setup.turn()
    assert runs == [1]
    assert acked(link) == [first]
    assert nacked(link) == [(other, "agni has got another message of dc under that id", False)]


def test_an_answer_that_was_given_before_is_not_given_again(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    """It ran twice, because the process ended before the first run was on record; what it returned differs."""
    setup.agent.add_procedure(lambda: 2, name="p")
    link = setup.join()
    link.holding = {uris.MAILBOX_SEND}
    token = setup.command(link, "p", id="c", attempt=2)
    setup.clock.pump([0, 0])
    (asked,) = link.open_calls(uris.MAILBOX_SEND)
    refusal = {**link.receipt(asked.args[0][0]), "status": "refused", "error": IdReused.uri, "detail": "it is used"}
    asked.answer.resolve([refusal])
    setup.clock.pump([0, 0])
    assert acked(link) == [token]
    assert "can't be delivered" not in caplog.text


def test_a_handler_that_takes_its_time_is_acknowledged_when_it_is_through(setup: Setup) -> None:
    gates: list[Deferred[None]] = []

    def slow(message: Message) -> Deferred[None]:
        gates.append(Deferred())
        return gates[-1]

    setup.agent.on("STATUS")(slow)
    link = setup.join()
    first = setup.deliver(link, id="a")
    repeat = setup.deliver(link, id="a", attempt=2)
    setup.turn()
    assert acked(link) == []
    assert len(gates) == 1
    gates[0].callback(None)
    setup.turn()
    assert acked(link) == [first, repeat]


def test_messages_of_one_sender_run_in_order_those_of_others_meanwhile(setup: Setup) -> None:
    runs: list[str] = []
    gates: dict[str, Deferred[None]] = {}

    def slow(message: Message) -> Deferred[None]:
        runs.append(message.id)
        gates[message.id] = Deferred()
        return gates[message.id]

    setup.agent.on("STATUS")(slow)
    link = setup.join()
    for message_id, sender in (("a1", "dc"), ("a2", "dc"), ("b1", "rushabdev"), ("a3", "dc")):
        setup.deliver(link, id=message_id, **{"from": sender})
    assert runs == ["a1", "b1"]
    gates["a1"].callback(None)
    assert runs == ["a1", "b1", "a2"]
    gates["a2"].callback(None)
    assert runs == ["a1", "b1", "a2", "a3"]
    gates["a3"].callback(None)
    gates["b1"].callback(None)
    setup.turn()
    assert len(acked(link)) == 4


def test_a_failure_does_not_stop_what_waits_behind_it(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    gates: list[Deferred[None]] = []

    def slow(message: Message) -> Deferred[None] | None:
        if message.id != "first":
            return None
        gates.append(Deferred())
        return gates[-1]

    setup.agent.on("STATUS")(slow)
    link = setup.join()
    first = setup.deliver(link, id="first")
    others = [setup.deliver(link) for _ in range(3)]
    gates[0].errback(ValueError("x"))
    setup.turn()
    assert [token for token, _, _ in nacked(link)] == [first]
    assert acked(link) == others


def test_acks_of_messages_that_wait_for_each_other_travel_together(setup: Setup) -> None:
    """One of them ends in each turn; a call for each would cost more than all the rest of it."""
    gates: list[Deferred[None]] = []

    def slow(message: Message) -> Deferred[None]:
        gates.append(Deferred())
        return gates[-1]

    setup.agent.on("STATUS")(slow)
    link = setup.join()
    tokens = [setup.deliver(link) for _ in range(6)]
    for number in range(6):
        assert len(gates) == number + 1
        gates[number].callback(None)
        setup.turn()
    assert acked(link) == tokens
    assert len(link.args_of(uris.MAILBOX_ACK)) == 4


def test_an_unordered_handler_begins_with_each_as_it_comes(setup: Setup) -> None:
    runs: list[str] = []

    def slow(message: Message) -> Deferred[None]:
        runs.append(message.id)
        return gate

    gate: Deferred[None] = Deferred()
    setup.agent.on("STATUS", ordered=False)(slow)
    link = setup.join()
    setup.deliver(link, id="a")
    setup.deliver(link, id="b")
    assert runs == ["a", "b"]
    gate.callback(None)


def test_what_nobody_handles(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    link = setup.join()
    with caplog.at_level(logging.WARNING):
        direct = setup.deliver(link)
        broadcast = setup.deliver(link, to="broadcast")
        late = setup.deliver(link, type="RESULT", reply_to="x", payload="late")
    setup.turn()
    assert nacked(link) == [(direct, "no handler takes STATUS messages here", False)]
    assert acked(link) == [broadcast, late]
    assert "Messages of type STATUS come, and no handler takes them: they are refused" in caplog.text
    assert "RESULT m3 from dc (answer to x) has no handler: late" in caplog.text


# -- commands ----------------------------------------------------------------------------------------------------------


def reply(link: FakeLink) -> dict[str, Any]:
    (message,) = link.sent()
    return message


def test_the_value_of_a_procedure_is_its_result_and_the_command_is_done_when_that_is_stored(setup: Setup) -> None:
    setup.agent.add_procedure(lambda a, b=1: a + b, name="add")
    link = setup.join(prepare=lambda link: link.holding.add(uris.MAILBOX_SEND))
    token = setup.command(link, "add", 2, id="c1", priority=1, payload={"args": [2], "kwargs": {"b": 3}})
    setup.turn()
    message = reply(link)
    assert {key: message[key] for key in ("type", "to", "reply_to", "payload", "priority")} == {
        "type": "RESULT", "to": "dc", "reply_to": "c1", "payload": 5, "priority": 1,
    }  # fmt: skip
    assert acked(link) == []
    asked = link.open_calls(uris.MAILBOX_SEND)[0]
    asked.answer.resolve(link.usual(asked))
    setup.turn()
    assert acked(link) == [token]


TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def sent_traces(link: FakeLink) -> dict[str, str | None]:
    """What each message that was sent says of its trace, by its recipient and type."""
    return {f"{message['to']} {message['type']}": message.get("traceparent") for message in link.sent()}


def test_what_a_handler_sends_carries_on_the_trace_of_its_message(setup: Setup) -> None:
    own = f"00-{'1' * 32}-{'2' * 16}-01"

    @setup.agent.procedure()
    def work() -> int:
        setup.agent.send("rushabdev")
        setup.agent.call("helper", "help", timeout=1.0).when_done(lambda pending: pending.error)
        setup.agent.send("other", traceparent=own)
        return 1

    words = itertools.count(1)
    setup.word = lambda size: f"{next(words):0{2 * size}x}"
    link = setup.join()
    setup.command(link, "work", traceparent=f"00-{TRACE}-{SPAN}-01")
    setup.turn()
    traces = sent_traces(link)
    assert traces.pop("other STATUS") == own
    assert traces.keys() == {"rushabdev STATUS", "helper COMMAND", "dc RESULT"}
    parts = [str(text).split("-") for text in traces.values()]
    assert [(version, trace, flags) for version, trace, _, flags in parts] == [("00", TRACE, "01")] * 3
    # Each has a span of its own.
    assert len({span for _, _, span, _ in parts} | {SPAN}) == 4


@pytest.mark.parametrize("traceparent", [None, "00-1", f"00-{'0' * 32}-{SPAN}-01"])
def test_a_trace_that_is_none_is_not_carried_on(setup: Setup, traceparent: str | None) -> None:
    def work() -> None:
        setup.agent.send("rushabdev")

    setup.agent.add_procedure(work)
    link = setup.join()
    setup.command(link, "work", **({} if traceparent is None else {"traceparent": traceparent}))
    setup.turn()
    assert sent_traces(link) == {"rushabdev STATUS": None, "dc RESULT": None}


def test_outside_of_a_handler_there_is_no_trace(setup: Setup) -> None:
    link = setup.join()
    setup.agent.send("rushabdev")
    setup.turn()
    assert sent_traces(link) == {"rushabdev STATUS": None}


def test_what_is_logged_of_a_handler_has_its_message_and_trace(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    setup.agent.add_procedure(lambda: 1 // 0, name="work")
    link = setup.join()
    setup.command(link, "work", id="c1", traceparent=f"00-{TRACE}-{SPAN}-01")
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    found = vars(record)
    assert (found["message_id"], found["peer"], found["trace_id"]) == ("c1", "dc", TRACE)


def test_a_repeat_of_a_command_under_way_is_answered_once(setup: Setup) -> None:
    gate: Deferred[str] = Deferred()
    setup.agent.add_procedure(lambda: gate, name="p")
    link = setup.join()
    tokens = [setup.command(link, "p", id="c"), setup.command(link, "p", id="c", attempt=2)]
    gate.callback("x")
    setup.clock.pump([0, 0])
    assert reply(link)["payload"] == "x"
    assert acked(link) == tokens


WRONG = "p was called with wrong arguments: {}; it is p(a, b=1)"
SHAPE = 'the payload of the COMMAND m1 must be {"args": […], "kwargs": {…}}, with nothing else in it'


def _raise(error: Exception) -> Any:
    raise error


@pytest.mark.parametrize(
    ("error", "payload"),
    [
        (ValueError("no"), {"error": "ValueError", "message": "no"}),
        (ArgumentInvalid("x is wrong"), {"error": ArgumentInvalid.uri, "message": "x is wrong"}),
        (RemoteError("far", remote_uri="com.example.e"), {"error": "com.example.e", "message": "far"}),
        # The name of a file that is not UTF-8, as Python reads it; and what no client reads as text.
        (ValueError("no \udcff.txt"), {"error": "ValueError", "message": "no \\udcff.txt"}),
        (ValueError("\x00no"), {"error": "ValueError", "message": "\\x00no"}),
    ],
)
def test_an_exception_is_the_error_and_the_command_is_done(
    setup: Setup, error: Exception, payload: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    setup.agent.add_procedure(lambda: _raise(error), name="p")
    link = setup.join()
    token = setup.command(link, "p")
    setup.clock.pump([0, 0])
    assert (reply(link)["type"], reply(link)["payload"]) == ("ERROR", payload)
    assert acked(link) == [token]


def test_a_command_that_names_no_procedure_of_ours(setup: Setup) -> None:
    setup.agent.add_procedure(_ping, name="ping")
    link = setup.join()
    setup.command(link, "nope")
    setup.command(link, None, id="c2")
    setup.clock.pump([0, 0])
    first, second = link.sent()
    assert first["payload"] == {"error": ProcedureUnknown.uri, "message": "agni has no procedure nope; it has: ping"}
    assert second["payload"]["message"] == "the COMMAND c2 to agni names no procedure; it has: ping"
    assert len(acked(link)) == 2


def test_a_handler_of_commands_gets_what_no_procedure_takes(setup: Setup) -> None:
    setup.agent.on("COMMAND")(lambda message: message.procedure)
    link = setup.join()
    setup.command(link, "anything")
    setup.turn()
    assert (reply(link)["type"], reply(link)["payload"]) == ("RESULT", "anything")


def test_a_command_that_was_handed_on_is_done_without_an_answer(setup: Setup) -> None:
    answers: list[Pending[object]] = [Pending(), Pending()]
    outcomes: list[object] = [LATER, *answers]
    setup.agent.on("COMMAND")(lambda message: outcomes.pop(0))
    link = setup.join()
    tokens = [setup.command(link, None) for _ in outcomes[:]]
    setup.turn()
    assert acked(link) == tokens[:1]
    answers[0].resolve(LATER)
    answers[1].resolve(None)
    setup.turn()
    assert acked(link) == tokens
    # The one that returned nothing is answered: LATER is not None.
    (answer,) = link.sent()
    assert answer["reply_to"] == "m3"
    # Known by its id as any other.
    token = setup.command(link, None, id="m1", token="again")
    setup.turn()
    assert acked(link) == [*tokens, token]


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        ({"args": [], "kwargs": {}}, WRONG.format("missing a required argument: 'a'")),
        ({"args": [1], "kwargs": {"c": 1}}, WRONG.format("got an unexpected keyword argument 'c'")),
        ({"args": {}}, SHAPE),
        ({"arg": []}, SHAPE),
        ([1], SHAPE),
    ],
)
def test_arguments_are_checked_before_the_procedure_runs(setup: Setup, payload: Any, sentence: str) -> None:
    setup.agent.add_procedure(lambda a, b=1: _raise(AssertionError()), name="p")
    link = setup.join()
    setup.command(link, "p", payload=payload)
    setup.turn()
    assert reply(link)["payload"] == {"error": ArgumentInvalid.uri, "message": sentence}


def test_a_command_without_arguments_at_all(setup: Setup) -> None:
    setup.agent.add_procedure(_ping, name="ping")
    link = setup.join()
    setup.command(link, "ping", payload=None)
    setup.turn()
    assert reply(link)["payload"] == "pong"


def refuse(link: FakeLink, error: type[TrishulaError]) -> None:
    (asked,) = link.open_calls(uris.MAILBOX_SEND)
    message_id = asked.args[0][0]["id"]
    asked.answer.resolve([{"id": message_id, "status": "refused", "error": error.uri, "detail": "refused"}])


def test_a_result_that_is_too_large_becomes_an_error(setup: Setup) -> None:
    setup.agent.add_procedure(_ping, name="ping")
    link = setup.join(prepare=lambda link: link.holding.add(uris.MAILBOX_SEND))
    token = setup.command(link, "ping")
    setup.turn()
    refuse(link, PayloadTooLarge)
    link.holding.clear()
    setup.clock.pump([0, 0])
    result, error = link.sent()
    assert (error["type"], error["payload"]) == ("ERROR", {"error": PayloadTooLarge.uri, "message": "refused"})
    assert error["id"] == result["id"]
    assert acked(link) == [token]


def test_a_result_that_is_no_json_becomes_an_error(setup: Setup) -> None:
    setup.agent.add_procedure(lambda: object(), name="p")
    link = setup.join()
    setup.command(link, "p")
    setup.turn()
    assert reply(link)["type"] == "ERROR"
    assert reply(link)["payload"]["error"] == PayloadNotJson.uri
    assert reply(link)["payload"]["message"].startswith("message.payload is of the type object; a payload is any ")


def test_a_caller_that_is_gone_gets_no_answer_and_the_command_is_done(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    setup.agent.add_procedure(_ping, name="ping")
    link = setup.join(prepare=lambda link: link.holding.add(uris.MAILBOX_SEND))
    token = setup.command(link, "ping", **{"from": "dc/7f3a"})
    setup.turn()
    with caplog.at_level(logging.WARNING):
        refuse(link, InstanceUnknown)
    setup.turn()
    assert acked(link) == [token]
    assert "The RESULT to dc/7f3a (for m1) can't be delivered: refused" in caplog.text


def test_two_callers_may_use_the_same_id(setup: Setup) -> None:
    setup.agent.add_procedure(_ping, name="ping")
    link = setup.join()
    for sender in ("dc/7f3a", "rushabdev"):
        setup.command(link, "ping", id="report", **{"from": sender})
    setup.clock.pump([0, 0])
    ids = [message["id"] for message in link.sent()]
    assert ids == ["report.dc:7f3a.result", "report.rushabdev.result"]


def test_a_long_id_is_shortened_and_stays_its_own() -> None:
    long = [Message(type="COMMAND", id="x" * 127 + end, to="agni", sender="dc") for end in "ab"]
    ids = {reply_id(message) for message in long}
    assert len(ids) == 2
    assert all(len(one) <= 128 for one in ids)


# -- live calls --------------------------------------------------------------------------------------------------------


def test_a_procedure_is_called_live(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    gate: Deferred[int] = Deferred()
    setup.agent.add_procedure(lambda a: a + 1, name="add")
    setup.agent.add_procedure(lambda: gate, name="slow")
    setup.agent.add_procedure(lambda: _raise(ValueError("no")), name="broken")
    link = setup.join()

    def call(name: str, *args: Any) -> Pending[Any]:
        return link.procedures[uris.procedure_of("agni", name)](args, {})

    assert unpacked(call("add", 1).result()) == 2
    slow = call("slow")
    assert not slow.done
    gate.callback(5)
    assert unpacked(slow.result()) == 5
    assert isinstance(call("broken").error, ValueError)
    assert isinstance(call("add").error, ArgumentInvalid)
    assert "The handler broken (a live call) failed" in caplog.text


# -- leases, losses and the end ----------------------------------------------------------------------------------------


def test_what_runs_long_keeps_its_lease(setup: Setup) -> None:
    gate: Deferred[None] = Deferred()
    setup.agent.on("STATUS")(lambda message: gate)
    link = setup.join()
    setup.deliver(link, id="a")
    setup.clock.advance(5)
    waiting = setup.deliver(link, id="b")
    setup.clock.pump([5, 5, 5])
    assert link.args_of(uris.MAILBOX_WORKING) == [["1.1", 60.0], [waiting, 60.0]]
    gate.callback(None)
    setup.clock.pump([10, 10, 10])
    assert len(link.args_of(uris.MAILBOX_WORKING)) == 2


def test_a_handler_outlives_its_session_and_acknowledges_on_the_next_one(setup: Setup) -> None:
    runs: list[str] = []
    gate: Deferred[None] = Deferred()

    def slow(message: Message) -> Deferred[None]:
        runs.append(message.id)
        return gate

    setup.agent.on("STATUS")(slow)
    link = setup.join()
    setup.deliver(link, id="a", token="1.1")
    setup.connection.lose()
    other = setup.connection.join(url="ws://two/ws")
    setup.deliver(other, id="a", attempt=2, token="99.2")
    gate.callback(None)
    setup.turn()
    assert runs == ["a"]
    assert acked(other) == ["99.2"]


def test_leaving_lets_handlers_finish(setup: Setup) -> None:
    gate: Deferred[str] = Deferred()
    setup.agent.add_procedure(lambda: gate, name="p")
    link = setup.join()
    token = setup.command(link, "p")
    stopped = start(setup.agent.stop(grace_s=5.0))
    ignored = setup.command(link, "p", id="later")
    setup.clock.advance(4.0)
    states = [stopped.done]
    gate.callback("x")
    setup.clock.pump([0, 0.02, 0.02])
    assert [*states, stopped.done] == [False, True]
    assert acked(link) == [token]
    assert ignored not in [one for one, _, _ in nacked(link)]
    assert [message["payload"] for message in link.sent()] == ["x"]
    assert setup.agent.over.done


def cancel(setup: Setup, link: FakeLink, *ids: str, sender: str = "dc") -> None:
    """The node says that their sender has cancelled messages."""
    link.topics[INBOX]([], {"cancelled": [{"from": sender, "id": one, "token": "t"} for one in ids]})
    setup.turn()


@pytest.mark.parametrize("sender", ["dc", "dc/7f3a"])
def test_a_cancelled_command_is_stopped_and_not_answered(setup: Setup, sender: str) -> None:
    gate: Pending[int] = Pending()
    ended: list[str] = []

    async def work() -> int:
        try:
            return await gate
        except BaseException as error:
            ended.append(type(error).__name__)
            raise

    @setup.agent.procedure()
    def slow() -> Deferred[int]:
        # No coroutine, which would become a task of the asyncio loop under pytest.
        return Deferred.fromCoroutine(work())

    link = setup.join()
    setup.command(link, "slow", id="c1", **{"from": sender})
    setup.command(link, "slow", id="c2", **{"from": sender})
    cancel(setup, link, "c1", "unknown", sender=sender)
    assert ended == ["CancelledError"]
    gate.resolve(7)
    setup.turn()
    assert [(message["reply_to"], message["payload"]) for message in link.sent()] == [("c2", 7)]
    setup.turn()
    assert (acked(link), nacked(link)) == (["2.1"], [])
    # Nothing brings it back.
    setup.command(link, "slow", id="c1", **{"from": sender})
    assert ended == ["CancelledError"]


def test_a_handler_that_goes_on_all_the_same_may_ask_and_is_not_answered(setup: Setup) -> None:
    gate: Pending[int] = Pending()
    seen: list[bool] = []

    @setup.agent.procedure()
    def stubborn() -> Pending[int]:
        delivery = current_delivery()
        assert delivery is not None
        gate.when_done(lambda _: seen.append(delivery.cancelled))
        return gate

    link = setup.join()
    setup.command(link, "stubborn", id="c1")
    cancel(setup, link, "c1")
    assert seen == []
    gate.resolve(7)
    setup.turn()
    assert (seen, link.sent(), acked(link)) == ([True], [], [])


def test_a_cancelled_message_that_waits_for_its_turn_does_not_run(setup: Setup) -> None:
    gates = {name: Deferred[None]() for name in ("a", "b", "c")}
    ran: list[str] = []

    @setup.agent.on("STATUS")
    def heard(message: Message) -> Deferred[None]:
        ran.append(message.id)
        return gates[message.id]

    link = setup.join()
    for name in gates:
        setup.deliver(link, id=name)
    cancel(setup, link, "b")
    gates["a"].callback(None)
    setup.turn()
    assert ran == ["a", "c"]
    cancel(setup, link, "c")
    setup.turn()
    assert acked(link) == ["1.1"]


def test_an_answer_that_the_node_refuses_as_cancelled_acknowledges_nothing(setup: Setup) -> None:
    setup.agent.procedure(name="quick")(lambda: 7)
    link = setup.join(prepare=lambda link: link.holding.add(uris.MAILBOX_SEND))
    setup.command(link, "quick", id="c1")
    setup.turn()
    (asked,) = link.open_calls(uris.MAILBOX_SEND)
    # It was under way when the COMMAND was cancelled.
    cancel(setup, link, "c1")
    refusal = {"status": "refused", "error": MessageCancelled.uri, "detail": "it was cancelled"}
    asked.answer.resolve([{"id": asked.args[0][0]["id"], **refusal}])
    setup.turn()
    assert (acked(link), nacked(link)) == ([], [])


def test_leaving_gives_back_what_is_not_through_in_time(setup: Setup) -> None:
    gate: Deferred[None] = Deferred()
    setup.agent.on("STATUS")(lambda message: gate)
    link = setup.join()
    running = setup.deliver(link, id="a")
    # Behind the first: nothing of it has begun, so it is simply left to the node.
    setup.deliver(link, id="b")
    stopped = start(setup.agent.stop(grace_s=1.0))
    setup.clock.pump([0, 1.0, 0, 0.02, 0.02])
    assert stopped.done
    assert nacked(link) == [(running, "the agent left before its handler was through", True)]
    gate.callback(None)
    assert acked(link) == []


def test_a_topic_is_heard_once_and_must_be_one() -> None:
    agent = Agent("agni", state=False)

    @agent.subscribe("celsius", of="thermometer")
    async def heard(degrees: float) -> None: ...

    with pytest.raises(ValueError, match=r"agni hears trishula\.agent\.thermometer\.topic\.celsius already"):
        agent.subscribe("celsius", print, of="thermometer")
    with pytest.raises(ValueError, match="can't have a topic"):
        agent.subscribe("celsius", print, of="Thermometer")
    with pytest.raises(ValueError, match="is async: it can't run in a thread"):
        agent.subscribe("load", heard, thread=True)


def test_from_thread_of_an_agent_that_does_not_run() -> None:
    agent = Agent("dc")
    with pytest.raises(RuntimeError, match="dc doesn't run"):
        agent.from_thread(agent.send, "agni")
