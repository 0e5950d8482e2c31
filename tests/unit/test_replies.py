"""Who may answer a COMMAND, and how often. A node on a Clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from tests.support.stores import HeldStore, result_of
from trishula.contract import uris
from trishula.errors import StorageFailed
from trishula_router.store.memory import MemoryStore

DEPLOY = "capability:deploy"
FOREIGN = (
    'messages[0].reply_to is "c1", and {agent} was never given that COMMAND, which dc sent to {to}; only who was given '
    "a COMMAND may answer it"
)
ANSWERED = (
    'messages[0].reply_to is "c1", and that COMMAND of dc is answered already; a COMMAND has one answer: send what '
    "else there is to say as a STATUS"
)


@pytest.fixture
def store() -> HeldStore:
    return HeldStore(MemoryStore("epoch-1"))


@pytest.fixture
def rig(tmp_path: Path, store: HeldStore) -> Rig:
    return Rig(tmp_path, store, Clock()).start()


@pytest.fixture
def dc(rig: Rig) -> int:
    return rig.join("dc")


def command(rig: Rig, session: int, to: str = "agni", **fields: Any) -> None:
    (receipt,) = rig.send(session, {"id": "c1", "to": to, "type": "COMMAND", "procedure": "f", **fields})
    assert receipt["status"] == "accepted"


def reply(rig: Rig, session: int, message_id: str = "r1", **fields: Any) -> tuple[str, str | None]:
    """Answer c1; the outcome, and the sentence if it is refused."""
    (receipt,) = rig.send(session, {"id": message_id, "to": "dc", "type": "RESULT", "reply_to": "c1", **fields})
    error = receipt.get("error")
    return (receipt["status"] if error is None else error.removeprefix("trishula.error.")), receipt.get("detail")


def able(rig: Rig, agent: str, **options: Any) -> int:
    session = rig.join(agent)
    rig.attach(session, capabilities=["deploy"], **options)
    return session


def handed_on(rig: Rig, dc: int, during: Callable[[], object] = lambda: None) -> int:
    """A COMMAND that agni was given, and then, agni's session lost, rushabdev; whose session it is."""
    agni = able(rig, "agni")
    command(rig, dc, DEPLOY)
    assert len(rig.pushed(agni)) == 1
    rushabdev = able(rig, "rushabdev")
    during()
    rig.leave(agni)
    assert len(rig.pushed(rushabdev)) == 1
    return rushabdev


def answers_of(rig: Rig, dc: int) -> list[str]:
    """The ids of what came to dc."""
    return [delivery["message"]["id"] for delivery in rig.fetch(dc)["deliveries"]]


# -- who ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["RESULT", "ERROR"])
@pytest.mark.parametrize("sender", ["rushabdev", "rushabdev/x"])
def test_who_was_not_asked_does_not_answer_and_that_is_noted(rig: Rig, dc: int, kind: str, sender: str) -> None:
    rig.attach(rig.join("agni"))
    command(rig, dc)
    forged = reply(rig, rig.join("rushabdev"), type=kind, **{"from": sender})
    assert forged == ("answer_refused", FOREIGN.format(agent="rushabdev", to="agni"))
    assert answers_of(rig, dc) == []
    (note,) = rig.call(rig.join("agni", operator=True), uris.AUDIT_QUERY, {"kind": "refused"})["records"]
    assert (note["agent"], note["error"]) == ("rushabdev", "trishula.error.answer_refused")


def test_neither_while_it_waits_nor_when_it_is_done(rig: Rig, dc: int) -> None:
    command(rig, dc)
    rushabdev = rig.join("rushabdev")
    assert reply(rig, rushabdev)[0] == "answer_refused"
    rig.attach(agni := rig.join("agni"))
    (delivery,) = rig.pushed(agni)
    assert reply(rig, agni)[0] == "accepted"
    rig.ack(agni, delivery["token"])
    assert reply(rig, rushabdev)[0] == "answer_refused"
    assert answers_of(rig, dc) == ["r1"]


def test_an_answer_without_a_command_is_mail_like_any_other(rig: Rig, dc: int) -> None:
    rig.send(dc, {"id": "s1", "to": "agni"})
    assert reply(rig, rig.join("rushabdev"), reply_to="c9")[0] == "accepted"
    assert reply(rig, rig.join("rushabdev"), "r2", reply_to="s1")[0] == "accepted"
    assert answers_of(rig, dc) == ["r1", "r2"]


def test_ids_belong_to_agents_so_anothers_command_of_that_id_gives_no_right(rig: Rig, dc: int) -> None:
    rushabdev = rig.join("rushabdev")
    command(rig, dc)
    rig.send(rig.join("agni"), {"id": "c1", "to": "rushabdev", "type": "COMMAND", "procedure": "f"})
    rig.fetch(rushabdev)
    assert reply(rig, rushabdev)[0] == "answer_refused"
    assert reply(rig, rushabdev, "r2", to="agni")[0] == "accepted"


def test_of_those_who_have_a_capability_the_one_that_was_given_it_answers(rig: Rig, dc: int) -> None:
    agni = able(rig, "agni")
    command(rig, dc, DEPLOY)
    assert len(rig.pushed(agni)) == 1
    assert reply(rig, able(rig, "rushabdev"))[0] == "answer_early"
    assert reply(rig, agni, "r2")[0] == "accepted"
    assert reply(rig, rig.join("rushabdev"), "r3") == ("answer_refused", FOREIGN.format(agent="rushabdev", to=DEPLOY))
    assert answers_of(rig, dc) == ["r2"]


def test_it_may_answer_before_its_delivery_is_on_the_disk(rig: Rig, store: HeldStore, dc: int) -> None:
    rushabdev = handed_on(rig, dc, during=lambda: store.fail_next("deliver", StorageFailed("not yet written")))
    assert reply(rig, rushabdev)[0] == "accepted"


# -- how often ---------------------------------------------------------------------------------------------------------


def test_the_first_answer_counts_and_a_further_one_is_refused(rig: Rig, dc: int) -> None:
    rig.attach(agni := rig.join("agni"))
    command(rig, dc)
    (delivery,) = rig.pushed(agni)
    assert reply(rig, agni)[0] == "accepted"
    assert reply(rig, agni, "r2", type="ERROR") == ("answer_refused", ANSWERED)
    rig.ack(agni, delivery["token"])
    assert reply(rig, agni, "r3") == ("answer_refused", ANSWERED)
    assert reply(rig, agni) == ("duplicate", None)
    assert reply(rig, agni, payload="other")[0] == "id_reused"
    assert answers_of(rig, dc) == ["r1"]


def test_two_at_once_in_one_call_and_in_two(rig: Rig, store: HeldStore, dc: int) -> None:
    rig.attach(agni := rig.join("agni"))
    command(rig, dc)
    answer = {"to": "dc", "type": "RESULT", "reply_to": "c1"}
    store.holding = True
    one = rig.begin(agni, uris.MAILBOX_SEND, [{"id": "r1", **answer}, {"id": "r2", **answer}])
    other = rig.begin(agni, uris.MAILBOX_SEND, [{"id": "r3", **answer}])
    store.let_all()
    rig.settle()
    store.let_all()
    states = [receipt["status"] for receipt in (*result_of(one), *result_of(other))]
    assert states == ["accepted", "refused", "refused"]


def test_an_answer_that_could_not_be_stored_takes_no_place(rig: Rig, store: HeldStore, dc: int) -> None:
    rig.attach(agni := rig.join("agni"))
    command(rig, dc)
    store.fail_next("append", StorageFailed("the disk is away"))
    assert reply(rig, agni)[0] == "storage_failed"
    # Meanwhile the one that was refused for now would be overtaken.
    rig.advance(60)
    assert reply(rig, agni, "r2")[0] == "accepted"


def test_of_a_broadcast_each_recipient_answers_once(rig: Rig, dc: int) -> None:
    agni, rushabdev = rig.join("agni"), rig.join("rushabdev")
    command(rig, dc, "broadcast")
    rig.fetch(agni)
    for session, message_id, outcome in (
        (agni, "r1", "accepted"),
        (rushabdev, "r2", "accepted"),
        (agni, "r3", "answer_refused"),
        (rushabdev, "r4", "answer_refused"),
    ):
        assert reply(rig, session, message_id)[0] == outcome
    assert answers_of(rig, dc) == ["r1", "r2"]


def test_what_the_node_says_is_no_answer(rig: Rig, dc: int) -> None:
    rig.attach(agni := rig.join("agni"))
    command(rig, dc)
    (delivery,) = rig.pushed(agni)
    rig.nack(agni, delivery["token"], requeue=False)
    assert reply(rig, agni)[0] == "accepted"
    assert reply(rig, agni, "r2")[0] == "answer_refused"


@pytest.mark.parametrize("first", ["agni", "rushabdev"])
def test_of_two_who_were_given_it_the_first_answer_counts(rig: Rig, dc: int, first: str) -> None:
    sessions = {"rushabdev": handed_on(rig, dc), "agni": rig.join("agni")}
    other = "rushabdev" if first == "agni" else "agni"
    assert reply(rig, sessions[first])[0] == "accepted"
    assert reply(rig, sessions[other], "r2") == ("answer_refused", ANSWERED)
    assert rig.call(dc, uris.MAILBOX_ANSWER, "c1")["message"]["from"] == first
    assert answers_of(rig, dc) == ["r1"]


def test_two_who_were_given_it_and_answer_at_once(rig: Rig, store: HeldStore, dc: int) -> None:
    sessions = [handed_on(rig, dc), rig.join("agni")]
    store.holding = True
    answer = {"id": "r1", "to": "dc", "type": "RESULT", "reply_to": "c1"}
    sent = [rig.begin(session, uris.MAILBOX_SEND, [answer]) for session in sessions]
    for _ in range(5):
        store.let_all()
        rig.settle()
    assert sorted(result_of(one)[0]["status"] for one in sent) == ["accepted", "refused"]


@pytest.mark.parametrize("looks", [1, 2, 3])
def test_an_answer_that_becomes_durable_during_the_look_for_another(
    rig: Rig, store: HeldStore, dc: int, looks: int
) -> None:
    sessions = [handed_on(rig, dc), rig.join("agni")]
    answer = {"id": "r1", "to": "dc", "type": "RESULT", "reply_to": "c1"}
    store.holding = True
    slow = rig.begin(sessions[0], uris.MAILBOX_SEND, [answer])
    for _ in range(looks - 1):
        store.let_read(1)
        rig.settle()
    slow_ones, store._reads = store._reads, deque()
    fast = rig.begin(sessions[1], uris.MAILBOX_SEND, [answer])
    for _ in range(5):
        store.let_all()
        rig.settle()
    assert result_of(fast)[0]["status"] == "accepted"
    store._reads = slow_ones
    for _ in range(5):
        store.let_all()
        rig.settle()
    assert result_of(slow)[0]["status"] == "refused"


def test_what_is_looked_up_keeps_its_place_in_the_order(rig: Rig, store: HeldStore, dc: int) -> None:
    agni = rig.join("agni")
    store.holding = True
    calls = [
        rig.begin(agni, uris.MAILBOX_SEND, batch)
        for batch in (
            [
                {"id": "1", "to": "dc", "type": "RESULT", "reply_to": "nothing"},
                {"id": "2", "to": "dc", "type": "STATUS"},
            ],
            [{"id": "3", "to": "dc", "type": "STATUS"}],
            [{"id": "4", "to": "dc", "type": "ERROR", "reply_to": "nothing"}],
            [{"id": "5", "to": "dc", "type": "STATUS"}],
        )
    ]
    for _ in range(10):
        store.let_all()
        rig.settle()
    store.holding = False
    assert [receipt["status"] for call in calls for receipt in result_of(call)] == ["accepted"] * 5
    assert answers_of(rig, dc) == ["1", "2", "3", "4", "5"]


def test_a_thousand_calls_may_wait_in_line(rig: Rig, store: HeldStore, dc: int) -> None:
    agni = rig.join("agni")
    store.holding = True
    calls = [rig.begin(agni, uris.MAILBOX_SEND, [{"id": "r", "to": "dc", "type": "RESULT", "reply_to": "nothing"}])]
    calls += [rig.begin(agni, uris.MAILBOX_SEND, [{"id": f"s{n}", "to": "dc", "type": "STATUS"}]) for n in range(1500)]
    store.let_all()
    rig.settle()
    store.let_all()
    assert all(result_of(call)[0]["status"] == "accepted" for call in calls)


# -- what this node can't know yet -------------------------------------------------------------------------------------


def test_the_note_of_its_delivery_was_lost_with_the_node(tmp_path: Path) -> None:
    """agni was given it, the node's power was cut before that was written, and agni is back with its answer."""
    inner = MemoryStore("epoch-1")
    first = HeldStore(inner)
    rig = Rig(tmp_path, first, Clock()).start()
    dc, agni = rig.join("dc"), able(rig, "agni")
    first.fail_next("deliver", StorageFailed("never written"))
    command(rig, dc, DEPLOY)
    assert len(rig.pushed(agni)) == 1
    first.cut_power()
    rig.crash()
    again = Rig(tmp_path, HeldStore(inner), rig.clock).start()
    dc, agni = again.join("dc"), again.join("agni")
    (receipt,) = again.send(agni, {"id": "r1", "to": "dc", "type": "RESULT", "reply_to": "c1"})
    assert (receipt["error"], receipt["retry_after_s"]) == ("trishula.error.answer_early", 1.0)
    # It is handed out again, and the answer, which waits in agni's outbox, is taken.
    again.attach(agni, capabilities=["deploy"])
    assert len(again.pushed(agni)) == 1
    (receipt,) = again.send(agni, {"id": "r1", "to": "dc", "type": "RESULT", "reply_to": "c1"})
    assert receipt["status"] == "accepted"
