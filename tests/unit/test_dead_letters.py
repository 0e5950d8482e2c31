"""Dead letters: who is told of them, and what an operator can do with them. A node on a Clock, without a router."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import POLICY, START_MS, Rig
from tests.support.stores import HeldStore, result_of
from tests.support.subjects import Peer, append, cut_all, run
from trishula.contract import uris
from trishula.errors import ArgumentInvalid, KeyUnknown, MessageUnknown, StorageFailed, TrishulaError
from trishula_router.agents.file import update_agents
from trishula_router.store.memory import MemoryStore
from trishula_router.store.messages import Draft, State


@pytest.fixture
def store() -> HeldStore:
    return HeldStore(MemoryStore("epoch-1"))


@pytest.fixture
def rig(tmp_path: Path, store: HeldStore) -> Rig:
    return Rig(tmp_path, store, Clock(), policy=replace(POLICY, max_attempts=1)).start()


@pytest.fixture
def dc(rig: Rig) -> int:
    return rig.join("dc")


@pytest.fixture
def agni(rig: Rig) -> int:
    return rig.join("agni")


@pytest.fixture
def operator(rig: Rig) -> int:
    return rig.join("rushabdev", operator=True)


def die(rig: Rig, sender: int, agni: int, *ids: str, **fields: Any) -> list[int]:
    """Send messages to agni, who refuses them; their positions."""
    seqs = []
    for message_id in ids:
        (receipt,) = rig.send(sender, {"id": message_id, "to": "agni", **fields})
        (delivery,) = rig.fetch(agni)["deliveries"]
        rig.nack(agni, delivery["token"], requeue=False)
        seqs.append(receipt["seq"])
    return seqs


def mail_of(rig: Rig, session: int, **options: Any) -> list[dict[str, Any]]:
    return [delivery["message"] for delivery in rig.fetch(session, **options)["deliveries"]]


# -- who is told -------------------------------------------------------------------------------------------------------


def test_the_sender_gets_an_error_message(rig: Rig, dc: int, agni: int) -> None:
    (seq,) = die(rig, dc, agni, "m1", type="COMMAND", priority=2)
    (message,) = mail_of(rig, dc)
    assert message == {
        "type": "ERROR",
        "id": f"node:single:epoch-1:{seq}:dead",
        "from": "agni",
        "to": "dc",
        "timestamp": rig.now(),
        "accepted_at": rig.now(),
        "reply_to": "m1",
        "priority": 2,
        "payload": {
            "error": "trishula.error.dead_letter",
            "message": "the COMMAND m1 to agni is a dead letter: it failed; an operator can put it back, at the "
            f"node single, with: trishula dead replay {seq}",
            "reason": "it failed",
        },
    }


def test_the_error_is_pushed_to_a_sender_that_is_attached(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(dc)
    die(rig, dc, agni, "m1")
    (delivery,) = rig.pushed(dc)
    assert delivery["message"]["reply_to"] == "m1"
    assert rig.ack(dc, delivery["token"]) == [True]
    assert rig.node.mailroom.counts("dc") == (0, 0)


@pytest.mark.parametrize("kind", ["ERROR", "RESULT"])
def test_an_answer_that_dies_brings_about_no_answer(rig: Rig, dc: int, agni: int, kind: str) -> None:
    die(rig, dc, agni, "m1", type=kind, reply_to="m0")
    assert mail_of(rig, dc) == []


def test_the_error_itself_can_die_and_that_is_the_end(rig: Rig, dc: int, agni: int, operator: int) -> None:
    die(rig, dc, agni, "m1")
    (delivery,) = rig.fetch(dc)["deliveries"]
    rig.nack(dc, delivery["token"], requeue=False)
    assert mail_of(rig, dc) == mail_of(rig, agni) == []
    assert [one["from"] for one in rig.call(operator, uris.ADMIN_DEAD_LIST)["letters"]] == ["dc", "agni"]


def test_of_a_broadcast_each_death_is_told(rig: Rig, dc: int, agni: int) -> None:
    rig.send(dc, {"id": "b1", "to": "broadcast"})
    for session in (agni, rig.join("rushabdev")):
        (delivery,) = rig.fetch(session)["deliveries"]
        rig.nack(session, delivery["token"], requeue=False)
    assert [(one["from"], one["reply_to"]) for one in mail_of(rig, dc)] == [("agni", "b1"), ("rushabdev", "b1")]


def test_an_instance_is_told_where_it_is(rig: Rig, agni: int) -> None:
    script = rig.join("dc")
    rig.fetch(script, instance="x")
    die(rig, script, agni, "m1", **{"from": "dc/x"})
    assert [one["to"] for one in mail_of(rig, script, instance="x")] == ["dc/x"]


def test_the_agent_is_told_for_an_instance_that_is_gone(rig: Rig, dc: int, agni: int) -> None:
    die(rig, dc, agni, "m1", **{"from": "dc/x"})
    (message,) = mail_of(rig, dc)
    assert (message["to"], message["reply_to"]) == ("dc", "m1")


def test_nobody_is_told_for_an_agent_that_is_not_registered_any_more(rig: Rig, dc: int, agni: int) -> None:
    rig.send(dc, {"id": "m1", "to": "agni"})
    with update_agents(rig.agents_file) as known:
        del known["dc"]
    rig.advance(1)
    (delivery,) = rig.fetch(agni)["deliveries"]
    rig.nack(agni, delivery["token"], requeue=False)
    assert rig.node.mailroom.counts("dc") == (0, 0)


def test_the_error_comes_with_the_death_or_neither_does(rig: Rig, store: HeldStore, dc: int, agni: int) -> None:
    rig.send(dc, {"id": "m1", "to": "agni"})
    (delivery,) = rig.fetch(agni)["deliveries"]
    store.fail_next("settle", StorageFailed("the disk is away"))
    item = {"token": delivery["token"], "reason": "it failed", "requeue": False}
    with pytest.raises(StorageFailed):
        rig.call(agni, uris.MAILBOX_NACK, [item])
    assert mail_of(rig, dc) == []
    assert rig.node.mailroom.counts("dc") == (0, 0)
    assert rig.states(dc, "m1") == {"m1": "delivered"}


def test_the_error_is_on_disk_with_the_death(rig: Rig, store: HeldStore, dc: int, agni: int, tmp_path: Path) -> None:
    die(rig, dc, agni, "m1")
    rig.crash()
    again = Rig(tmp_path, store, rig.clock).start()
    assert [one["reply_to"] for one in mail_of(again, again.join("dc"))] == ["m1"]


def test_a_client_can_not_speak_as_the_node(rig: Rig, agni: int) -> None:
    (receipt,) = rig.send(agni, {"id": "node:single:epoch-1:1:dead", "to": "dc", "type": "ERROR"})
    assert (receipt["error"], receipt["detail"]) == (
        "trishula.error.message_invalid",
        'messages[0].id is "node:single:epoch-1:1:dead"; ids that begin with "node:" are the node\'s own, take another',
    )


def test_nobody_takes_back_what_the_node_said(rig: Rig, dc: int, agni: int) -> None:
    (seq,) = die(rig, dc, agni, "m1")
    assert rig.call(agni, uris.MAILBOX_CANCEL, [f"node:single:epoch-1:{seq}:dead"]) == [False]
    assert len(mail_of(rig, dc)) == 1


# -- expiry and deadlines ----------------------------------------------------------------------------------------------


def test_the_sender_of_a_command_that_expired_is_told(rig: Rig, dc: int) -> None:
    rig.send(dc, {"id": "m1", "to": "agni", "type": "COMMAND", "ttl_ms": 5000})
    rig.advance(11)
    (message,) = mail_of(rig, dc)
    assert message["payload"] == {
        "error": "trishula.error.message_expired",
        "message": "the COMMAND m1 to agni expired before it was done: its time to live was over",
        "reason": "its time to live was over",
    }
    assert message["id"].endswith(":expired")


@pytest.mark.parametrize("kind", ["STATUS", "RESULT", "ERROR"])
def test_others_expire_without_a_message(rig: Rig, dc: int, kind: str) -> None:
    rig.send(dc, {"id": "m1", "to": "agni", "type": kind, "ttl_ms": 5000})
    rig.advance(11)
    assert rig.states(dc, "m1") == {"m1": "expired"}
    assert mail_of(rig, dc) == []


def test_a_command_to_an_instance_that_is_gone_is_told(rig: Rig, dc: int) -> None:
    script = rig.join("agni")
    rig.attach(script, instance="x")
    rig.send(dc, {"id": "m1", "to": "agni/x", "type": "COMMAND"})
    rig.leave(script)
    rig.advance(311)
    (message,) = mail_of(rig, dc)
    assert message["payload"]["reason"] == "its instance is gone"


def test_nothing_is_delivered_after_its_deadline(rig: Rig, dc: int, agni: int) -> None:
    rig.send(
        dc, {"id": "m1", "to": "agni", "type": "COMMAND", "deadline_at": rig.now() + 3000}, {"id": "m2", "to": "agni"}
    )
    rig.advance(3.5)
    rig.attach(agni)
    assert rig.ids() == ["m2"]
    assert rig.states(dc, "m1") == {"m1": "expired"}
    assert rig.outlet.news[-1].reason == "its deadline passed" or rig.outlet.news[-2].reason == "its deadline passed"
    (message,) = mail_of(rig, dc)
    assert message["payload"]["reason"] == "its deadline passed"


def test_a_deadline_beyond_the_time_to_live_changes_nothing(rig: Rig, dc: int) -> None:
    rig.send(dc, {"id": "m1", "to": "agni", "ttl_ms": 1000, "deadline_at": rig.now() + 60_000})
    rig.advance(11)
    assert rig.outlet.news[-1].reason == "its time to live was over"


def test_one_round_tells_deadlines_from_times_to_live(rig: Rig, dc: int) -> None:
    rig.send(
        dc, {"id": "m1", "to": "agni", "ttl_ms": 1000}, {"id": "m2", "to": "agni", "deadline_at": rig.now() + 1000}
    )
    rig.advance(11)
    assert {one.id: one.reason for one in rig.outlet.news} == {
        "m1": "its time to live was over",
        "m2": "its deadline passed",
    }


def test_a_deadline_that_passes_while_it_is_worked_on_is_the_receivers(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(agni)
    rig.send(dc, {"id": "m1", "to": "agni", "deadline_at": rig.now() + 1000})
    (delivery,) = rig.pushed()
    rig.advance(20)
    assert rig.ack(agni, delivery["token"]) == [True]
    assert rig.states(dc, "m1") == {"m1": "done"}


# -- list and show -----------------------------------------------------------------------------------------------------


def test_a_letter_as_it_is_listed(rig: Rig, dc: int, agni: int, operator: int) -> None:
    (seq,) = die(rig, dc, agni, "m1", payload=[1])
    answer = rig.call(operator, uris.ADMIN_DEAD_LIST, {"agent": "agni"})
    (letter,) = answer["letters"]
    assert letter.pop("bytes") > 100
    assert letter == {
        "seq": seq,
        "from": "dc",
        "id": "m1",
        "to": "agni",
        "type": "STATUS",
        "reason": "it failed",
        "failures": 0,
        "attempts": 1,
        "dead_at": rig.now(),
    }
    assert answer["more"] is False


def test_letters_come_page_by_page(rig: Rig, dc: int, agni: int, operator: int) -> None:
    seqs = die(rig, dc, agni, "m1", "m2", "m3")
    first = rig.call(operator, uris.ADMIN_DEAD_LIST, {"limit": 2})
    assert ([one["seq"] for one in first["letters"]], first["more"]) == (seqs[:2], True)
    second = rig.call(operator, uris.ADMIN_DEAD_LIST, {"limit": 2, "after": seqs[1]})
    assert ([one["seq"] for one in second["letters"]], second["more"]) == (seqs[2:], False)


def test_a_letter_is_shown_with_its_message(rig: Rig, dc: int, agni: int, operator: int) -> None:
    seq, other = die(rig, dc, agni, "m1", "m2", payload={"a": [1]})
    shown = rig.call(operator, uris.ADMIN_DEAD_SHOW, seq)
    assert (shown["id"], shown["message"]["payload"]) == ("m1", {"a": [1]})
    assert rig.call(operator, uris.ADMIN_DEAD_SHOW, other)["id"] == "m2"


@pytest.mark.parametrize("seq", [0, 1, 10**15])
def test_what_is_no_letter_is_not_shown(rig: Rig, dc: int, agni: int, operator: int, seq: int) -> None:
    die(rig, dc, agni, "m1")
    with pytest.raises(MessageUnknown) as caught:
        rig.call(operator, uris.ADMIN_DEAD_SHOW, seq)
    assert caught.value.sentence == (
        f"there is no dead letter {seq}: `trishula dead list` has those that there are; what was replayed or purged is "
        "none any more"
    )


# -- replay ------------------------------------------------------------------------------------------------------------


def test_a_replayed_letter_is_delivered_again(rig: Rig, dc: int, agni: int, operator: int) -> None:
    (seq,) = die(rig, dc, agni, "m1", payload="x", ttl_ms=60_000)
    rig.advance(3600)
    rig.attach(agni)
    assert rig.call(operator, uris.ADMIN_DEAD_REPLAY, [seq, 999]) == [True, False]
    (delivery,) = rig.pushed(agni)
    assert (delivery["message"]["id"], delivery["message"]["payload"], delivery["attempt"]) == ("m1", "x", 2)
    assert rig.ack(agni, delivery["token"]) == [True]
    assert rig.states(dc, "m1") == {"m1": "done"}
    assert rig.node.mailroom.counts("agni") == (0, 0)
    (life,) = rig.call(dc, uris.AUDIT_WHY, "m1")["messages"]
    assert [event["kind"] for event in life["events"]] == [
        "accepted", "delivered", "dead", "replayed", "delivered", "done",
    ]  # fmt: skip


def test_a_replayed_letter_lives_as_long_as_at_first(rig: Rig, dc: int, agni: int, operator: int) -> None:
    (seq,) = die(rig, dc, agni, "m1", ttl_ms=60_000)
    rig.advance(3600)
    rig.call(operator, uris.ADMIN_DEAD_REPLAY, [seq])
    rig.advance(55)
    assert rig.states(dc, "m1") == {"m1": "delivered"}
    rig.advance(20)
    assert rig.states(dc, "m1") == {"m1": "expired"}


def test_what_is_replayed_and_dies_again_is_told_once(rig: Rig, dc: int, agni: int, operator: int) -> None:
    (seq,) = die(rig, dc, agni, "m1")
    for _ in range(2):
        rig.call(operator, uris.ADMIN_DEAD_REPLAY, [seq])
        (delivery,) = rig.fetch(agni)["deliveries"]
        rig.nack(agni, delivery["token"], requeue=False)
    assert len(mail_of(rig, dc)) == 1
    assert rig.node.mailroom.counts("dc") == (0, 1)


def test_replay_twice_is_one_delivery(rig: Rig, dc: int, agni: int, operator: int) -> None:
    (seq,) = die(rig, dc, agni, "m1")
    assert rig.call(operator, uris.ADMIN_DEAD_REPLAY, [seq, seq]) == [True, True]
    assert rig.call(operator, uris.ADMIN_DEAD_REPLAY, [seq]) == [False]
    assert len(rig.fetch(agni)["deliveries"]) == 1
    assert rig.node.mailroom.counts("agni") == (0, 1)


def test_a_letter_to_an_instance_that_is_gone_is_not_replayed(rig: Rig, dc: int, operator: int) -> None:
    script = rig.join("agni")
    rig.fetch(script, instance="x")
    (receipt,) = rig.send(dc, {"id": "m1", "to": "agni/x"})
    (delivery,) = rig.fetch(script, instance="x")["deliveries"]
    rig.nack(script, delivery["token"], requeue=False)
    rig.leave(script)
    rig.advance(320)
    assert rig.call(operator, uris.ADMIN_DEAD_REPLAY, [receipt["seq"]]) == [False]


def test_a_letter_that_is_acked_while_it_is_replayed_is_done(
    rig: Rig, store: HeldStore, dc: int, agni: int, operator: int
) -> None:
    (seq,) = die(rig, dc, agni, "m1")
    rig.attach(agni)
    store.holding = True
    replayed = rig.begin(operator, uris.ADMIN_DEAD_REPLAY, [seq])
    store.let_write(1)
    acked = rig.begin(agni, uris.MAILBOX_ACK, [f"{seq}.1"])
    store.let_all()
    store.holding = False
    rig.settle()
    assert result_of(replayed) == [True]
    assert result_of(acked) == [True]
    assert rig.states(dc, "m1") == {"m1": "done"}
    assert rig.node.mailroom.leases == {}
    assert rig.node.mailroom.counts("agni") == (0, 0)


def test_a_letter_that_is_being_acked_is_not_replayed(
    rig: Rig, store: HeldStore, dc: int, agni: int, operator: int
) -> None:
    (seq,) = die(rig, dc, agni, "m1")
    store.holding = True
    acked = rig.begin(agni, uris.MAILBOX_ACK, [f"{seq}.1"])
    replayed = rig.begin(operator, uris.ADMIN_DEAD_REPLAY, [seq])
    store.let_all()
    store.holding = False
    assert result_of(acked) == [True]
    assert result_of(replayed) == [False]
    assert rig.states(dc, "m1") == {"m1": "done"}
    assert rig.node.mailroom.counts("agni") == (0, 0)


# -- purge -------------------------------------------------------------------------------------------------------------


def test_a_purged_letter_is_gone_and_its_life_is_not(rig: Rig, dc: int, agni: int, operator: int) -> None:
    seq, other = die(rig, dc, agni, "m1", "m2")
    assert rig.call(operator, uris.ADMIN_DEAD_PURGE, [seq, 999]) == 1
    assert [one["seq"] for one in rig.call(operator, uris.ADMIN_DEAD_LIST)["letters"]] == [other]
    assert rig.call(operator, uris.ADMIN_DEAD_REPLAY, [seq]) == [False]
    (life,) = rig.call(dc, uris.AUDIT_WHY, "m1")["messages"]
    assert life["state"] == "dead"


def test_purge_of_the_old(rig: Rig, dc: int, agni: int, operator: int) -> None:
    die(rig, dc, agni, "m1")
    rig.advance(100)
    (young,) = die(rig, dc, agni, "m2")
    assert rig.call(operator, uris.ADMIN_DEAD_PURGE, {"before": START_MS + 50_000}) == 1
    assert [one["seq"] for one in rig.call(operator, uris.ADMIN_DEAD_LIST)["letters"]] == [young]
    assert rig.call(operator, uris.ADMIN_DEAD_PURGE, {}) == 1


# -- arguments ---------------------------------------------------------------------------------------------------------

POSITION = "a position: an integer from 0 to 9223372036854775807"


@pytest.mark.parametrize(
    ("uri", "args", "kind", "sentence"),
    [
        (uris.ADMIN_DEAD_LIST, [{"agents": "x"}], KeyUnknown,
         'options has the unknown key "agents"; the known keys are agent, limit, after'),
        (uris.ADMIN_DEAD_LIST, [{"limit": 0}], ArgumentInvalid,
         "options.limit is 0; it must be an integer from 1 to 1000"),
        (uris.ADMIN_DEAD_SHOW, ["7"], ArgumentInvalid, f'seq is "7"; it must be {POSITION}'),
        (uris.ADMIN_DEAD_SHOW, [], ArgumentInvalid, "dead.show was called with 0 positional arguments; it takes 1"),
        (uris.ADMIN_DEAD_REPLAY, [7], ArgumentInvalid, "seqs is 7; it must be a list"),
        (uris.ADMIN_DEAD_REPLAY, [[True]], ArgumentInvalid, f"seqs[0] is true; it must be {POSITION}"),
        (uris.ADMIN_DEAD_REPLAY, [[2**63]], ArgumentInvalid, f"seqs[0] is {2**63}; it must be {POSITION}"),
        (uris.ADMIN_DEAD_PURGE, [[-1]], ArgumentInvalid, f"seqs[0] is -1; it must be {POSITION}"),
        (uris.ADMIN_DEAD_PURGE, [{"after": 1}], KeyUnknown,
         'options has the unknown key "after"; the known keys are before'),
    ],
)  # fmt: skip
def test_bad_arguments(
    rig: Rig, operator: int, uri: str, args: list[Any], kind: type[TrishulaError], sentence: str
) -> None:
    with pytest.raises(kind) as caught:
        rig.call(operator, uri, *args)
    assert caught.value.sentence == sentence


def test_a_purge_by_age_spares_what_came_dead_from_a_peer_until_its_time_is_over(tmp_path: Path) -> None:
    source = Peer("dc")
    append(source, Draft("dc", "letter", ("agni",), "STATUS", 3, START_MS + 50_000, b"{}"), at=START_MS)
    source.do(lambda store: store.settle([1], State.DEAD, None, START_MS + 10_000))
    cut_all(source)
    store = MemoryStore("epoch-1", "agni")
    result_of(store.copy("dc", run(source)))
    rig = Rig(tmp_path, store, Clock()).start()
    operator = rig.join("rushabdev", operator=True)
    ((letter,), _) = rig.call(operator, uris.ADMIN_DEAD_LIST, None).values()
    assert letter["dead_at"] is None
    (message,) = result_of(store.with_ids(["letter"]))
    # When it died is in the record that was cut; its time to live bounds that.
    for before, count in ((START_MS + 20_000, 0), (message.expires_at + 1, 1)):
        assert rig.call(operator, uris.ADMIN_DEAD_PURGE, {"before": before}) == count
