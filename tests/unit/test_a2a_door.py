"""The door for A2A without its SDK: what becomes of messages, answers and notifications, and what its file keeps."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.loops import in_own_loop
from tests.support.nodes import POLICY
from trishula.a2a_door.cards import card_of
from trishula.a2a_door.errands import Errand
from trishula.a2a_door.ledger import Ledger, TaskRow
from trishula.a2a_door.life import ANSWER_GRACE_MS, Event, Told, events_after, folded
from trishula.a2a_door.outgoing import Envoy, Outcome, RemoteUnreachable, message_of
from trishula.a2a_door.owed import Hook
from trishula.a2a_door.parts import is_task_id, order_of, parts_of, task_id_of, text_of
from trishula.a2a_door.shapes import stream_response_of, task_of
from trishula.a2a_door.targets import choose_address, networks_of, target_of
from trishula.contract.deliveries import CurrentDelivery, Delivery, running
from trishula.contract.message import Message
from trishula.errors import ArgumentInvalid, CallFailed, MessageExpired, StateBusy, StateUnusable
from trishula.runtime.pending import resolved
from trishula_router.mail.entry import Dead, Entry, after_crash, after_failure, after_lost_session
from trishula_router.store.messages import Return


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


# -- messages ----------------------------------------------------------------------------------------------------------


def test_a_message_of_text_is_its_text() -> None:
    assert order_of({"parts": [{"text": "a"}, {"text": "b"}]}, "c") == {"payload": "a\nb", "subject": "a2a:c"}


def test_a_message_with_more_than_text_keeps_its_parts() -> None:
    parts = [{"text": "look"}, {"url": "https://x.example/a.png", "mediaType": "image/png"}, {"data": {"n": 2.0}}]
    payload = order_of({"parts": parts}, "c")["payload"]
    assert payload == {"text": "look", "parts": [*parts[:2], {"data": {"n": 2}}]}
    assert isinstance(payload["parts"][2]["data"]["n"], int)


@pytest.mark.parametrize(
    ("parts", "args", "kwargs"),
    [
        ([{"text": "berlin"}], ["berlin"], {}),
        ([{"data": {"a": 1.0, "b": [2.5]}}], [], {"a": 1, "b": [2.5]}),
        ([{"data": [1.0, "x"]}], [1, "x"], {}),
        ([{"data": True}], [True], {}),
    ],
)
def test_a_skill_gets_its_arguments(parts: list[Any], args: list[Any], kwargs: dict[str, Any]) -> None:
    ordered = order_of({"parts": parts, "metadata": {"skill": "plan"}}, "c")
    assert (ordered["procedure"], ordered["payload"]) == ("plan", {"args": args, "kwargs": kwargs})


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ({"parts": []}, "at least one part"),
        ({"parts": [{"mediaType": "text/plain"}]}, r"parts\[0\] has no content"),
        ({"parts": [{"text": ""}] * 101}, "100 are allowed"),
        ({"parts": [{"text": "x"}], "metadata": {"skill": 1}}, "metadata.skill is 1"),
        ({"parts": [{"data": nested(38)}]}, "deeper than 40 levels"),
        ({"parts": [{"text": "x"}], "metadata": {"x": nested(39)}}, "deeper than 40 levels"),
        ({"parts": [{"data": 1}, {"data": 2}], "metadata": {"skill": "x"}}, "takes its arguments from one"),
    ],
)
def test_what_no_agent_can_be_given_is_refused(message: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ArgumentInvalid, match=sentence):
        order_of(message, "c")


def test_a_context_of_several_lines_is_refused() -> None:
    with pytest.raises(ArgumentInvalid, match="one line"):
        order_of({"parts": [{"text": "x"}]}, "a\nb")


def test_a_task_has_the_id_of_its_message_caller_and_agent() -> None:
    ids = {task_id_of(*who) for who in (("a", "b", "1"), ("a", "b", "2"), ("a", "c", "1"), ("c", "b", "1"))}
    assert len(ids) == 4
    assert task_id_of("a", "b", "1") in ids
    assert all(map(is_task_id, ids))
    with pytest.raises(ArgumentInvalid, match="messageId has 0 characters"):
        task_id_of("a", "b", "")


@pytest.mark.parametrize(
    ("payload", "parts"),
    [
        (None, []),
        ("done", [{"text": "done"}]),
        ({"n": 1}, [{"data": {"n": 1}, "mediaType": "application/json"}]),
        ({"parts": [{"text": "a"}, {"data": 1}]}, [{"text": "a"}, {"data": 1}]),
        # What only looks like parts of A2A is data.
        (
            {"parts": [{"text": "a", "evil": 1}]},
            [{"data": {"parts": [{"text": "a", "evil": 1}]}, "mediaType": "application/json"}],
        ),
        ({"parts": ["wheel"]}, [{"data": {"parts": ["wheel"]}, "mediaType": "application/json"}]),
        ({"parts": [{"raw": "aGk="}]}, [{"raw": "aGk="}]),
        ({"parts": [{"raw": "not base64!"}]}, [
            {"data": {"parts": [{"raw": "not base64!"}]}, "mediaType": "application/json"},
        ]),
        # What no client of A2A could read is text.
        (nested(40), [{"data": nested(40), "mediaType": "application/json"}]),
        (nested(41), [{"text": "[" * 41 + "1" + "]" * 41, "mediaType": "application/json"}]),
        ({"parts": [{"data": nested(90)}]}, [
            {"text": '{"parts": [{"data": ' + "[" * 90 + "1" + "]" * 90 + "}]}", "mediaType": "application/json"},
        ]),
    ],
)  # fmt: skip
def test_an_answer_becomes_parts(payload: object, parts: list[Any]) -> None:
    assert parts_of(payload) == parts


def test_parts_become_an_answer_again() -> None:
    for payload in ("done", {"n": 1}, [1, 2], {"parts": [{"text": "a"}, {"data": 1}]}):
        assert text_of(parts_of(payload)) == payload


# -- the life of a task ------------------------------------------------------------------------------------------------


def answer(type: Any, payload: object, id: str = "r") -> Message:
    return Message(type=type, id=id, to="partner", sender="worker", reply_to="t", payload=payload, timestamp=0)


def states(events: list[Event]) -> list[str]:
    return [event["status"]["state"] if "status" in event else "artifact" for event in events]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (Told("accepted"), []),
        (Told("delivered"), ["working"]),
        (Told("delivered", is_surfaced=True), ["working"]),
        (Told("delivered", answer=answer("RESULT", "x")), ["working", "artifact", "completed"]),
        (Told("done", answer=answer("RESULT", None)), ["working", "completed"]),
        (Told("done", answer=answer("ERROR", {"error": "ValueError", "message": "no"})), ["working", "failed"]),
        (
            Told("done", answer=answer("ERROR", {"error": "trishula.error.procedure_unknown", "message": "no"})),
            ["working", "rejected"],
        ),
        (Told("done", settled_ms=1000), ["working"]),
        (Told("done", settled_ms=1000 - ANSWER_GRACE_MS), ["working", "completed"]),
        (Told("cancelled"), ["canceled"]),
        (Told("expired"), ["failed"]),
        (
            Told("expired", answer=answer("ERROR", {"error": MessageExpired.uri, "reason": "x"}, "node:n")),
            ["failed"],
        ),
    ],
)  # fmt: skip
def test_what_the_bus_tells_becomes_events(told: Told, expected: list[str]) -> None:
    assert states(events_after("submitted", "", told, 1000)) == expected


def test_a_task_is_working_once_for_each_step_and_over_for_good() -> None:
    assert states(events_after("working", "delivered", Told("delivered"), 0)) == []
    assert states(events_after("working", "delivered", Told("delivered", is_surfaced=True), 0)) == ["working"]
    assert states(events_after("working", "surfaced", Told("delivered", is_surfaced=True), 0)) == []
    assert events_after("completed", "delivered", Told("done", answer=answer("RESULT", "x")), 0) == []


ENTRY = Entry(7, "partner", "t", "worker", "COMMAND", 3, 10**15, 10, attempts=99, failures=4)


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (after_failure(ENTRY, "not my job", requeue=False, now=0, policy=POLICY, random=lambda: 0.0), "rejected"),
        (after_failure(ENTRY, "it broke", requeue=True, now=0, policy=POLICY, random=lambda: 0.0), "failed"),
        (after_crash(msgspec.structs.replace(ENTRY, crashes=9), now=0, policy=POLICY, random=lambda: 0.0), "failed"),
        (after_lost_session(msgspec.structs.replace(ENTRY, losses=9999), now=0, policy=POLICY), "failed"),
    ],
)
def test_a_dead_letter_is_rejected_if_its_agent_said_so(end: Dead | Return, state: str) -> None:
    # By the reasons that the node's own code writes.
    assert isinstance(end, Dead)
    told = answer(
        "ERROR", {"error": "trishula.error.dead_letter", "message": "m", "reason": end.reason}, "node:n:1:dead"
    )
    assert states(events_after("working", "delivered", Told("dead", answer=told), 0)) == [state]


# -- shapes ------------------------------------------------------------------------------------------------------------


def row(task_id: str = "t", **more: Any) -> TaskRow:
    told: dict[str, Any] = {
        "caller": "partner", "agent": "worker", "context": "c", "ordered": {"payload": "x"}, "stage": "sending",
        "state": "submitted", "step": "", "created_ms": 1, "changed_ms": 1, "settled_ms": None, "answer": [],
        "acked": True,
    }  # fmt: skip
    return TaskRow(id=task_id, **{**told, **more})


def test_a_task_is_what_its_events_made_of_it() -> None:
    events: list[tuple[int, int, Event]] = [
        (1, 10, {"said": {"messageId": "m", "parts": [{"text": "x"}]}}),
        (2, 20, {"status": {"state": "submitted", "parts": []}}),
        (3, 30, {"status": {"state": "working", "parts": [], "stage": "surfaced"}}),
        (4, 40, {"artifact": {"artifactId": "a", "name": "answer", "parts": [{"text": "y"}]}}),
        (5, 50, {"status": {"state": "failed", "parts": [{"text": "z"}]}}),
    ]
    task = task_of(row(), events)
    assert task["status"]["state"] == "TASK_STATE_FAILED"
    assert task["status"]["timestamp"] == "1970-01-01T00:00:00.050Z"
    assert task["status"]["message"]["messageId"] == "t.5"
    assert task["history"] == [{"messageId": "m", "parts": [{"text": "x"}], "taskId": "t", "contextId": "c"}]
    assert [one["artifactId"] for one in task["artifacts"]] == ["a"]
    assert task["metadata"] == {"stage": "surfaced"}
    assert folded([]).state == "submitted"
    kinds = [next(iter(told)) for one in events if (told := stream_response_of(row(), *one)) is not None]
    assert kinds == ["statusUpdate", "statusUpdate", "artifactUpdate", "statusUpdate"]


def test_a_card_is_the_same_whether_its_agent_is_there_and_names_what_it_announced() -> None:
    card = card_of("worker", ["deploy", "message", "add"], "https://a2a.example/agents/worker", "1")
    assert [one["id"] for one in card["skills"]] == ["message", "add", "deploy"]
    assert {one["url"].rpartition("/")[2] for one in card["supportedInterfaces"]} == {"rpc", "rest"}
    assert card["securityRequirements"] == [{"schemes": {"bearer": {}}}]


# -- where notifications may go ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ftp://x.example/", "must begin with https://"),
        ("https:///x", "must begin with https://"),
        ("https://a:b@x.example/", "user or a password"),
        ("https://x.example:99999/", "no URL"),
        ("https://x.example/ y", "printable ASCII"),
        (f"https://x.example/{'a' * 3000}", "at most 2048"),
        ("https://ex\u00e4mple/", "printable ASCII"),
    ],
)
def test_what_is_no_webhook_is_refused(url: str, sentence: str) -> None:
    with pytest.raises(ArgumentInvalid, match=sentence):
        target_of(url)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "::1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "2002:7f00:1::",
        "64:ff9b::7f00:1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "64:ff9b:1::a00:1", "fec0::1", "::127.0.0.1",
        "::ffff:0:7f00:1",
    ],
)  # fmt: skip
def test_no_notification_goes_into_a_network_that_is_not_public(address: str) -> None:
    target = target_of("https://x.example/hook")
    with pytest.raises(ArgumentInvalid, match="not on the public internet"):
        choose_address(target, [address], [])
    # One bad address is enough: who connects later would get another one.
    with pytest.raises(ArgumentInvalid, match="not on the public internet"):
        choose_address(target, ["93.184.216.34", address], networks_of(["198.51.100.0/24"]))


def test_a_notification_goes_to_a_public_address_by_https_and_where_an_operator_says() -> None:
    assert choose_address(target_of("https://x.example/hook"), ["93.184.216.34"], []) == "93.184.216.34"
    assert choose_address(target_of("http://x.example/"), ["10.1.2.3"], networks_of(["10.0.0.0/8"])) == "10.1.2.3"
    with pytest.raises(ArgumentInvalid, match="must be https"):
        choose_address(target_of("http://x.example/"), ["93.184.216.34"], networks_of(["10.0.0.0/8"]))
    with pytest.raises(ArgumentInvalid, match="has no address"):
        choose_address(target_of("https://x.example/"), [], [])
    with pytest.raises(ValueError, match="'10/33' is no network"):
        networks_of(["10/33"])


def test_a_target_keeps_its_port_and_query() -> None:
    target = target_of("https://[2606:4700::1]:8443/a?b=c#d")
    assert (target.host, target.port, target.path, target.authority) == (
        "2606:4700::1", 8443, "/a?b=c", "[2606:4700::1]:8443",
    )  # fmt: skip
    assert target_of("https://x.example").authority == "x.example"


# -- the door's file ---------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(tmp_path / "door")
    yield ledger
    ledger.close()


def status(state: str) -> Event:
    return {"status": {"state": state, "parts": []}}


def test_a_task_is_in_the_file_once_and_is_found_by_the_next_door(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "door")
    assert oct((tmp_path / "door" / "door.sqlite").stat().st_mode)[-3:] == "600"
    assert ledger.begin(row(), {"said": {"messageId": "m"}})
    assert not ledger.begin(row(), {"said": {"messageId": "m"}})
    with pytest.raises(StateBusy, match="another door uses"):
        Ledger.open(tmp_path / "door")
    ledger.note("t", [status("submitted")], 5)
    ledger.close()
    ledger = Ledger.open(tmp_path / "door")
    found = ledger.task("t")
    assert found == row(stage="open", changed_ms=5)
    assert [event for _, _, event in ledger.events("t")] == [{"said": {"messageId": "m"}}, status("submitted")]
    assert ledger.unfinished("partner") == [found]
    # A task that a node has is not dropped as one that was never sent.
    ledger.drop("t")
    assert ledger.task("t") == found
    ledger.close()


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    Ledger.open(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "door.sqlite")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    for look in (Ledger.open, Ledger.read):
        with pytest.raises(StateUnusable, match="version 99"):
            look(tmp_path)
    with pytest.raises(StateUnusable, match="no door has run there"):
        Ledger.read(tmp_path / "elsewhere")


def test_a_callers_token_is_kept_as_long_as_there_is_work_for_it(ledger: Ledger) -> None:
    ledger.note_caller("partner", "partner.secret")
    ledger.begin(row(), {"said": {}})
    assert ledger.has_work("partner")
    ledger.note("t", [status("completed")], 5, ["r", "worker"])
    assert ledger.has_work("partner")
    assert [one.answer for one in ledger.unacked("partner")] == [["r", "worker"]]
    ledger.note_acked("t")
    assert not ledger.has_work("partner")
    assert ledger.forget(5) == 0
    assert ledger.forget(6) == 1
    assert ledger.events("t") == []


def test_tasks_are_listed_the_latest_first_page_by_page(ledger: Ledger) -> None:
    for number in range(5):
        ledger.begin(row(f"t{number}"), {"said": {}})
        ledger.note(f"t{number}", [status("submitted")], 10 + number // 2)
    ledger.begin(row("hidden"), {"said": {}})
    first, total = ledger.tasks({"caller": "partner", "agent": "worker"}, None, 2)
    assert ([one.id for one in first], total) == (["t4", "t3"], 5)
    rest, total = ledger.tasks({"caller": "partner"}, (first[-1].changed_ms, first[-1].id), 9)
    assert ([one.id for one in rest], total) == (["t2", "t1", "t0"], 5)
    assert ledger.tasks({"since_ms": 12}, None, 9)[1] == 1
    assert ledger.tasks({"state": "completed"}, None, 9) == ([], 0)


def test_a_webhook_is_owed_each_event_in_order_until_it_has_taken_it(ledger: Ledger) -> None:
    owed = ledger.owed
    ledger.begin(row(), {"said": {}})
    owed.put_hook(Hook("t", "h", {"url": "https://x.example"}), 1)
    assert owed.due(10**9, 9, 9) == []
    ledger.note("t", [status("submitted"), {"said": {}}, status("working")], 5)
    (first,) = owed.due(5, 9, 9)
    assert (first.event, first.attempts, owed.next_due_ms()) == (2, 0, 5)
    owed.note(first, 100, 6, "HTTP 500")
    # The second one waits for the first, though it is due.
    assert owed.due(50, 9, 9) == []
    assert owed.next_due_ms() == 100
    (first,) = owed.due(100, 9, 9)
    assert (first.event, first.attempts, first.outcome) == (2, 1, "HTTP 500")
    owed.note(first, None, 101, "HTTP 200")
    (second,) = owed.due(101, 9, 9)
    assert second.event == 4
    assert [(one.event, one.ended_ms) for one in owed.of("t")] == [(2, 101), (4, None)]
    owed.drop_hook("t", "h")
    assert (owed.due(10**9, 9, 9), owed.next_due_ms()) == ([], None)


def test_one_caller_hides_no_other_ones_notifications(ledger: Ledger) -> None:
    for number in range(20):
        who = "other" if number == 19 else "partner"
        ledger.begin(row(f"t{number:02}", caller=who), {"said": {}})
        ledger.owed.put_hook(Hook(f"t{number:02}", "h", {}), 1)
        ledger.note(f"t{number:02}", [status("submitted")], 5 + number)
    due = ledger.owed.due(99, 10, 4)
    assert [(one.task, one.caller) for one in due] == [
        ("t00", "partner"), ("t01", "partner"), ("t02", "partner"), ("t03", "partner"), ("t19", "other"),
    ]  # fmt: skip
    assert len(ledger.owed.due(99, 3, 4)) == 3


def test_what_agents_announced_is_kept_together(ledger: Ledger) -> None:
    ledger.note_capabilities({})
    ledger.note_capabilities({"a": ("x",), "b": ("y", "z")})
    assert (ledger.capabilities("a"), ledger.capabilities("b"), ledger.capabilities("c")) == (("x",), ("y", "z"), ())


def test_a_webhook_that_comes_late_is_told_the_end(ledger: Ledger) -> None:
    ledger.begin(row(), {"said": {}})
    ledger.note("t", [status("submitted"), status("completed")], 5)
    ledger.owed.put_hook(Hook("t", "h", {}), 9)
    assert [one.event for one in ledger.owed.of("t")] == [3]
    ledger.owed.put_hook(Hook("t", "h", {"url": "https://y.example"}), 9)
    assert [one.event for one in ledger.owed.of("t")] == [3]
    assert ledger.owed.hooks("t")[0].config == {"url": "https://y.example"}


# -- outgoing ----------------------------------------------------------------------------------------------------------


class Far:
    """An agent of A2A that says what it is told to say."""

    def __init__(self, *looks: Outcome | Exception, task: str = "far-1") -> None:
        self.given: list[Any] = []
        self.canceled: list[str] = []
        self._looks = list(looks)
        self._task = task

    async def give(self, message: Any) -> Outcome:
        self.given.append(message)
        return Outcome(self._task, "ctx", "completed" if not self._task else "submitted", [{"text": "at once"}])

    async def look(self, task: str) -> Outcome:
        next_one = self._looks.pop(0)
        if isinstance(next_one, Exception):
            raise next_one
        return next_one

    async def cancel(self, task: str) -> None:
        self.canceled.append(task)


def command(id: str = "c1", **more: Any) -> Message:
    return Message(**{"type": "COMMAND", "id": id, "to": "planner", "sender": "dc/7f", "timestamp": 0, **more})


def told(state: str, *parts: Any) -> Outcome:
    return Outcome("far-1", "ctx", state, list(parts))


def handled(directory: Path, far: Far, *commands: Message, known: Sequence[Errand] = ()) -> list[object]:
    """What an envoy answers to each, or the sentence that it raises."""
    answers: list[object] = []

    async def main() -> None:
        ledger = Ledger.open(directory)
        for errand in known:
            ledger.errands.note(errand, 1)
        for one in commands:
            try:
                answers.append(await Envoy(far, "https://far.example", ledger.errands, lambda: 1).handle(one))
            except CallFailed as error:
                answers.append(str(error))
        ledger.close()

    in_own_loop(main)
    return answers


def test_a_command_is_a_task_elsewhere_and_its_end_the_answer(tmp_path: Path) -> None:
    far = Far(told("working"), RemoteUnreachable("away"), told("completed", {"data": {"n": 1.0}}))
    assert handled(tmp_path, far, command(payload="plan")) == [{"n": 1}]
    assert [one["parts"] for one in far.given] == [[{"text": "plan"}]]


def test_a_command_that_comes_again_is_not_given_again(tmp_path: Path) -> None:
    far = Far(told("completed", {"text": "done"}))
    assert handled(tmp_path, far, command(), known=[Errand("dc", "c1", "far-1", "ctx")]) == ["done"]
    assert far.given == []


def test_a_command_whose_task_is_not_known_goes_out_under_the_id_that_it_had() -> None:
    assert message_of(command(), None) == message_of(command(), None)
    assert message_of(command(), None)["messageId"] != message_of(command(sender="agni"), None)["messageId"]
    assert message_of(command(procedure="plan", payload={"args": [], "kwargs": {"a": 1}}), None)["parts"] == [
        {"data": {"a": 1}, "mediaType": "application/json"}
    ]


def test_an_agent_that_answers_at_once_needs_no_task(tmp_path: Path) -> None:
    assert handled(tmp_path, Far(task=""), command()) == ["at once"]


def test_a_question_comes_back_and_its_answer_goes_on_with_the_task(tmp_path: Path) -> None:
    far = Far(told("input-required", {"text": "which sea?"}), told("completed", {"text": "ok"}))
    question, done = handled(tmp_path, far, command(), command("c2", reply_to="c1", payload="north"))
    assert "asks back (input-required): which sea?" in str(question)
    assert done == "ok"
    assert (far.given[1]["taskId"], far.given[1]["contextId"]) == ("far-1", "ctx")


def test_a_task_that_fails_elsewhere_fails_here(tmp_path: Path) -> None:
    (sentence,) = handled(tmp_path, Far(told("failed", {"text": "no disk"})), command())
    assert "is failed: no disk" in str(sentence)


def test_a_task_that_is_being_given_when_its_command_is_cancelled_is_canceled(tmp_path: Path) -> None:
    far = Far(told("completed"))

    async def main() -> None:
        ledger = Ledger.open(tmp_path)
        there, go_on = asyncio.Event(), asyncio.Event()
        give = far.give

        async def slowly(message: Any) -> Outcome:
            there.set()
            await go_on.wait()
            return await give(message)

        far.give = slowly  # type: ignore[method-assign]
        delivery = CurrentDelivery(Delivery(command(), 1, "t"), lambda *_: resolved(None), lambda *_: resolved(True))
        running.set(delivery)
        handling = asyncio.ensure_future(Envoy(far, "https://far.example", ledger.errands, lambda: 1).handle(command()))
        await there.wait()
        delivery.cancelled = True
        handling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await handling
        go_on.set()
        for _ in range(100):
            await asyncio.sleep(0)
        ledger.close()

    in_own_loop(main)
    assert (len(far.given), far.canceled) == (1, ["far-1"])
