"""What a client sends, and what the node says to it: each refusal by its exact sentence, each signal, each repeat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from tests.conftest import LoggedErrors
from tests.support.nodes import LIMITS, START_MS, Rig
from tests.support.stores import HeldStore, result_of
from trishula.contract import uris
from trishula.errors import StorageFailed, StorageFull
from trishula_router.agents.file import AgentEntry, update_agents
from trishula_router.settings.limits import Limits
from trishula_router.store.interface import Condition
from trishula_router.store.memory import MemoryStore
from trishula_router.store.messages import Accepted, Draft

E = "trishula.error."


@pytest.fixture
def store() -> HeldStore:
    return HeldStore(MemoryStore("epoch-1"))


MakeRig = Callable[..., Rig]


@pytest.fixture
def make(tmp_path: Path, store: HeldStore) -> MakeRig:
    def make(**options: Any) -> Rig:
        return Rig(tmp_path, store, Clock(), **options).start()

    return make


@pytest.fixture
def rig(make: MakeRig) -> Rig:
    return make()


@pytest.fixture
def dc(rig: Rig) -> int:
    return rig.join("dc")


def small(**limits: int) -> Limits:
    return replace(LIMITS, **limits)


def days(count: int) -> int:
    """So many, in ms."""
    return count * 86_400_000


def refused(receipt: dict[str, Any]) -> tuple[str, str]:
    """The error and the sentence of a refusal, after a look at the rest."""
    assert (receipt["status"], receipt["node"], receipt["seq"], receipt["copies"]) == ("refused", "single", None, 0)
    return receipt["error"].removeprefix(E), receipt["detail"]


def open_of(rig: Rig, address: str) -> tuple[int, int]:
    """(messages, bytes) that the node counts as open for an address."""
    mailbox = rig.node.mailroom.mailbox(address)
    return mailbox.open_messages, mailbox.open_bytes


# -- accepted ----------------------------------------------------------------------------------------------------------


def test_a_receipt(rig: Rig, dc: int) -> None:
    (receipt,) = rig.send(dc, {"id": "m1", "to": "agni"})
    assert receipt == {"id": "m1", "status": "accepted", "node": "single", "seq": rig.store.high_water, "copies": 1}


def test_receipts_are_in_the_order_of_the_request(rig: Rig, dc: int) -> None:
    receipts = rig.send(
        dc,
        {"id": "a", "to": "agni"},
        {"id": "b", "to": "nobody"},
        {"id": "c", "to": "agni"},
        {"id": "d"},
        {"id": "e", "to": "rushabdev"},
        {"id": "f", "to": "agni", "type": "ACK", "reply_to": "x"},
        {"id": "g", "to": "agni", "type": "HEARTBEAT"},
    )
    assert [(receipt["id"], receipt["status"]) for receipt in receipts] == [
        ("a", "accepted"),
        ("b", "refused"),
        ("c", "accepted"),
        ("d", "refused"),
        ("e", "accepted"),
        ("f", "refused"),
        ("g", "accepted"),
    ]


def test_a_repeat_gets_the_same_receipt_and_is_stored_once(rig: Rig, dc: int) -> None:
    (first,) = rig.send(dc, {"id": "m1", "to": "agni"})
    again, within, new, twice = rig.send(
        dc,
        {"id": "m1", "to": "agni"},
        {"id": "m1", "to": "agni"},
        {"id": "m2", "to": "agni"},
        {"id": "m2", "to": "agni"},
    )
    assert again == within == {**first, "status": "duplicate"}
    assert twice == {**new, "status": "duplicate"}
    assert open_of(rig, "agni")[0] == 2


def test_an_id_belongs_to_its_sender(rig: Rig, dc: int) -> None:
    rushabdev = rig.join("rushabdev")
    (one,) = rig.send(dc, {"id": "m1", "to": "agni"})
    (other,) = rig.send(rushabdev, {"id": "m1", "to": "agni"})
    assert [one["status"], other["status"]] == ["accepted", "accepted"]
    assert one["seq"] != other["seq"]


def test_an_id_belongs_to_the_agent_whichever_instance_sends(rig: Rig, dc: int) -> None:
    (first,) = rig.send(dc, {"id": "m1", "to": "agni", "from": "dc/1"})
    other = rig.join("dc")
    (again, plain) = rig.send(other, {"id": "m1", "to": "agni", "from": "dc/2"}, {"id": "m1", "to": "agni"})
    assert again == plain == {**first, "status": "duplicate"}
    assert open_of(rig, "agni")[0] == 1


def test_another_message_under_a_used_id_is_refused_and_the_first_is_named(rig: Rig, dc: int) -> None:
    rig.send(dc, {"id": "m1", "to": "agni", "payload": {"a": 1}})
    receipts = rig.send(
        dc,
        {"id": "m1", "to": "rushabdev", "payload": {"a": 1}},
        {"id": "m1", "to": "agni", "payload": {"a": 2}},
        {"id": "m2", "to": "agni"},
        {"id": "m2", "to": "agni", "payload": 0},
    )
    assert refused(receipts[1]) == (
        "id_reused",
        'messages[1].id is "m1", and dc has used it already, for the STATUS to agni that was accepted at 2023-11-14 '
        "22:13:20 UTC; this is another message: take another id for it",
    )
    assert [refused(receipts[index])[0] for index in (0, 1, 3)] == ["id_reused"] * 3
    assert receipts[2]["status"] == "accepted"
    assert [open_of(rig, name)[0] for name in ("agni", "rushabdev")] == [2, 0]


def test_a_used_id_is_said_so_where_waiting_would_not_help(make: MakeRig) -> None:
    rig = make(limits=small(mailbox_messages=1))
    session = rig.join("dc")
    rig.send(session, {"id": "m1", "to": "agni"})
    again, behind = rig.send(session, {"id": "m1", "to": "agni", "payload": 1}, {"id": "m2", "to": "agni"})
    assert refused(again)[0] == "id_reused"
    assert refused(behind)[0] == "mailbox_full"
    # Nothing waits for it: what the mailbox has room for comes in.
    rig.attach(agni := rig.join("agni"))
    rig.ack(agni, *(delivery["token"] for delivery in rig.pushed(agni)))
    (next_one,) = rig.send(session, {"id": "m2", "to": "agni"})
    assert next_one["status"] == "accepted"


def test_an_id_is_free_again_after_its_time(rig: Rig, dc: int) -> None:
    rig.attach(agni := rig.join("agni"))
    rig.send(dc, {"id": "m1", "to": "agni", "payload": 1})
    rig.ack(agni, *(delivery["token"] for delivery in rig.pushed(agni)))
    rig.clock.rightNow += 29 * 86_400
    (early,) = rig.send(dc, {"id": "m1", "to": "agni", "payload": 2})
    assert refused(early)[0] == "id_reused"
    rig.clock.rightNow += 2 * 86_400
    (late,) = rig.send(dc, {"id": "m1", "to": "agni", "payload": 2})
    assert late["status"] == "accepted"
    assert rig.states(dc, "m1") == {"m1": "delivered"}


def test_the_node_fills_in_sender_and_times(rig: Rig, dc: int) -> None:
    agni = rig.join("agni")
    rig.attach(agni)
    rig.clock.advance(1.5)
    rig.send(dc, {"id": "m1", "to": "agni"}, {"id": "m2", "to": "agni", "from": "dc/s1", "timestamp": 5})
    first, second = (one["message"] for one in rig.pushed(agni))
    assert (first["from"], first["timestamp"], first["accepted_at"]) == ("dc", START_MS + 1500, START_MS + 1500)
    assert (second["from"], second["timestamp"], second["accepted_at"]) == ("dc/s1", 5, START_MS + 1500)


def test_a_broadcast_goes_to_all_but_its_sender(rig: Rig, dc: int) -> None:
    (receipt,) = rig.send(dc, {"id": "b1", "to": "broadcast"})
    assert receipt["status"] == "accepted"
    assert [open_of(rig, name)[0] for name in ("agni", "dc", "rushabdev")] == [1, 0, 1]
    (again,) = rig.send(dc, {"id": "b1", "to": "broadcast"})
    assert again == {**receipt, "status": "duplicate"}
    assert [open_of(rig, name)[0] for name in ("agni", "dc", "rushabdev")] == [1, 0, 1]


def test_a_broadcast_to_nobody_is_accepted(make: MakeRig) -> None:
    rig = make(agents=["dc"])
    session = rig.join("dc")
    for _ in range(2):
        (receipt,) = rig.send(session, {"id": "b1", "to": "broadcast"})
        assert receipt["status"] == "accepted"


# -- refused, with the neighbours accepted -----------------------------------------------------------------------------

REFUSALS: dict[str, tuple[Any, str, str]] = {
    "no map": (7, "message_invalid", "messages[1] is 7; a message must be a map"),
    "unknown key": (
        {"type": "STATUS", "id": "x", "to": "agni", "colour": "red"},
        "key_unknown",
        'messages[1] has the unknown key "colour"; the known keys are type, id, from, to, timestamp, payload, '
        "priority, reply_to, procedure, seq, subject, ttl_ms, deadline_at, traceparent",
    ),
    "unknown recipient": (
        {"type": "STATUS", "id": "x", "to": "nobody"},
        "recipient_unknown",
        'messages[1].to is "nobody", and no agent nobody is registered at this node; check the name, or register it '
        "with: trishula token new nobody",
    ),
    "unknown instance": (
        {"type": "STATUS", "id": "x", "to": "agni/7f3a"},
        "instance_unknown",
        'messages[1].to is "agni/7f3a", and that instance is not there (any more); write to agni, whose mailbox is '
        "always there",
    ),
    "false sender": (
        {"type": "STATUS", "id": "x", "to": "agni", "from": "rushabdev"},
        "sender_false",
        'messages[1].from is "rushabdev", and this session is dc\'s; leave the key out, or send as dc',
    ),
    "false sender's instance": (
        {"type": "STATUS", "id": "x", "to": "agni", "from": "rushabdev/dc"},
        "sender_false",
        'messages[1].from is "rushabdev/dc", and this session is dc\'s; leave the key out, or send as dc',
    ),
    "bytes as a key": (
        {"type": "STATUS", "id": "x", "to": "agni", "payload": {b"\xff": 1}},
        "payload_not_json",
        'messages[1].payload has the key "/w==", of the type bytes; a payload is any JSON value: maps with '
        "string keys, lists, strings that don't begin with U+0000, integers within ±(2^53-1), finite numbers, true, "
        "false and null, and bytes, nested at most 100 deep",
    ),
    "a lone surrogate": (
        {"type": "STATUS", "id": "x", "to": "agni", "subject": "a\ud800"},
        "message_invalid",
        "messages[1].subject is 'a\\ud800'; it must be a string of 1 to 256 characters, one line without "
        "control characters",
    ),
    "an ACK of nothing": (
        {"type": "ACK", "id": "x", "to": "agni"},
        "message_invalid",
        "messages[1].reply_to is missing; an ACK message must name the id it acknowledges",
    ),
    "an ACK of a stranger's": (
        {"type": "ACK", "id": "x", "to": "agni", "reply_to": "q1"},
        "message_unknown",
        'messages[1].reply_to is "q1", and dc got no message of that id from agni',
    ),
    "what only the node sets": (
        {"type": "STATUS", "id": "x", "to": "agni", "accepted_at": 1},
        "message_invalid",
        "messages[1].accepted_at is 1; only the node sets it: leave it out",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_says_why_and_its_neighbours_are_accepted(rig: Rig, dc: int, case: str) -> None:
    raw, error, sentence = REFUSALS[case]
    before, receipt, after = rig.send(dc, {"id": "before", "to": "agni"}, raw, {"id": "after", "to": "agni"})
    assert refused(receipt) == (error, sentence)
    assert receipt["id"] == (raw["id"] if isinstance(raw, dict) else None)
    assert (before["status"], after["status"]) == ("accepted", "accepted")
    assert open_of(rig, "agni")[0] == 2


@pytest.mark.parametrize("id", ["\ud800", "../../etc/passwd", ".hidden", "a" * 129, "\x00", "", 7])
def test_a_receipt_repeats_no_id_that_is_none(rig: Rig, dc: int, id: object) -> None:
    # A lone surrogate in an answer can't be written, and whoever asked would wait for ever.
    (receipt,) = rig.send(dc, {"id": id, "to": "agni"})
    assert (receipt["id"], receipt["status"]) == (None, "refused")
    assert receipt["detail"].startswith("messages[0].id is ")


def test_too_large(make: MakeRig) -> None:
    rig = make(limits=small(payload_bytes=1024))
    session = rig.join("dc")
    fits, over = rig.send(
        session, {"id": "a", "to": "agni", "payload": "x" * 1022}, {"id": "b", "to": "agni", "payload": "x" * 1023}
    )
    assert fits["status"] == "accepted"
    assert refused(over) == (
        "payload_too_large",
        "messages[1].payload has 1025 bytes as JSON and the limit is 1024 (1 KiB); put the data where the recipient "
        "can fetch it and send its address",
    )


def test_a_forbidden_recipient(make: MakeRig) -> None:
    rig = make(agents={"dc": AgentEntry(send=("agni",)), "agni": AgentEntry(), "rushabdev": AgentEntry()})
    session = rig.join("dc")
    good, bad, all_of_them, self_sent = rig.send(
        session,
        {"id": "a", "to": "agni"},
        {"id": "b", "to": "rushabdev"},
        {"id": "c", "to": "broadcast"},
        {"id": "d", "to": "dc"},
    )
    assert (good["status"], self_sent["status"]) == ("accepted", "accepted")
    assert refused(bad) == (
        "recipient_forbidden",
        'messages[1].to is "rushabdev", and the grants of dc don\'t cover it; an operator can add "rushabdev" to its '
        '"send" list in the agents file',
    )
    assert refused(all_of_them) == (
        "recipient_forbidden",
        'messages[2].to is "broadcast", and the grants of dc don\'t cover it; an operator can add "broadcast" to its '
        '"send" list in the agents file',
    )


@pytest.mark.parametrize("wrong", [{"to": "agni", "from": "agni"}, {"to": "rushabdev"}])
def test_a_refusal_that_tells_of_a_wrong_doer_is_in_the_journal(make: MakeRig, wrong: dict[str, str]) -> None:
    rig = make(agents={"dc": AgentEntry(send=("agni",)), "agni": AgentEntry(), "rushabdev": AgentEntry()})
    session = rig.join("dc")
    (receipt,) = rig.send(session, {"id": "x", **wrong})
    (record,) = rig.call(rig.join("dc", operator=True), uris.AUDIT_QUERY, {"kind": "refused"})["records"]
    assert (record["agent"], record["error"], record["detail"]) == ("dc", receipt["error"], receipt["detail"])


def test_two_copies_are_refused_on_one_node(rig: Rig, dc: int) -> None:
    (receipt,) = rig.send(dc, {"id": "x", "to": "agni"}, copies=2)
    assert refused(receipt) == (
        "copies_unavailable",
        "the sender insists on 2 copies and this node has no peer to keep a second one; ask for 1, or try again when a "
        "peer is there",
    )
    assert receipt["retry_after_s"] == 5.0
    (receipt,) = rig.send(dc, {"id": "x", "to": "agni"}, copies=1)
    assert receipt["status"] == "accepted"


def test_a_full_mailbox_by_count(make: MakeRig) -> None:
    rig = make(limits=small(mailbox_messages=2))
    session, agni = rig.join("dc"), rig.join("agni")
    *good, over, other = rig.send(
        session,
        *({"id": f"m{index}", "to": "agni"} for index in range(3)),
        {"id": "r", "to": "rushabdev"},
    )
    assert [receipt["status"] for receipt in (*good, other)] == ["accepted"] * 3
    assert refused(over) == (
        "mailbox_full",
        "the mailbox of agni is full: the node keeps 2 messages (limits.mailbox_messages) for one address; the message "
        "was not accepted, try again when the recipient has worked some off",
    )
    assert over["retry_after_s"] == 1.0
    (delivery,) = rig.fetch(agni, max=1)["deliveries"]
    rig.ack(agni, delivery["token"])
    assert rig.send(session, {"id": "m2", "to": "agni"})[0]["status"] == "accepted"


def test_a_full_mailbox_by_size(make: MakeRig) -> None:
    rig = make(limits=small(mailbox_bytes=4096))
    session = rig.join("dc")
    receipts = rig.send(session, *({"id": f"m{index}", "to": "agni", "payload": "x" * 1500} for index in range(3)))
    assert [receipt["status"] for receipt in receipts] == ["accepted", "accepted", "refused"]
    assert refused(receipts[2]) == (
        "mailbox_full",
        "the mailbox of agni is full: the node keeps 4096 bytes (limits.mailbox) for one address; the message was not "
        "accepted, try again when the recipient has worked some off",
    )


def test_a_full_mailbox_keeps_a_broadcast_from_nobody_else(make: MakeRig) -> None:
    rig = make(limits=small(mailbox_messages=1))
    session = rig.join("dc")
    first, everybody = rig.send(session, {"id": "m", "to": "rushabdev"}, {"id": "b", "to": "broadcast"})
    assert first["status"] == everybody["status"] == "accepted"
    (missed,) = everybody["missed"]
    assert (missed["to"], missed["error"]) == ("rushabdev", E + "mailbox_full")
    assert missed["detail"].startswith("the mailbox of rushabdev is full: the node keeps 1 messages")
    assert open_of(rig, "agni")[0] == open_of(rig, "rushabdev")[0] == 1
    assert [one["message"]["id"] for one in rig.fetch(rig.join("agni"))["deliveries"]] == ["b"]


def test_a_repeated_broadcast_names_again_who_did_not_get_it(make: MakeRig) -> None:
    rig = make(limits=small(mailbox_messages=1))
    session = rig.join("dc")
    rig.send(session, {"id": "m", "to": "rushabdev"}, {"id": "b", "to": "broadcast"})
    rushabdev = rig.join("rushabdev")
    rig.ack(rushabdev, rig.fetch(rushabdev)["deliveries"][0]["token"])
    # There is room by now; the broadcast is what it was all the same.
    (again,) = rig.send(session, {"id": "b", "to": "broadcast"})
    assert again["status"] == "duplicate"
    assert [missed["to"] for missed in again["missed"]] == ["rushabdev"]
    assert open_of(rig, "rushabdev")[0] == 0


def test_a_broadcast_that_nobody_has_room_for_is_refused(make: MakeRig) -> None:
    rig = make(limits=small(mailbox_messages=1))
    session = rig.join("dc")
    *_, everybody, behind = rig.send(
        session,
        {"id": "a", "to": "rushabdev"},
        {"id": "c", "to": "agni"},
        {"id": "b", "to": "broadcast"},
        {"id": "d", "to": "broadcast"},
    )
    error, sentence = refused(everybody)
    assert error == "mailbox_full"
    assert sentence.startswith("the mailboxes of all 2 recipients are full: agni, rushabdev")
    assert everybody["retry_after_s"] == 1.0
    # The order of broadcasts stays.
    assert "waits behind b" in refused(behind)[1]


def test_concurrent_sends_do_not_overfill_a_mailbox(make: MakeRig, store: HeldStore) -> None:
    rig = make(limits=small(mailbox_messages=1))
    session = rig.join("dc")
    store.holding = True
    one = rig.begin(session, uris.MAILBOX_SEND, [{"type": "STATUS", "id": "a", "to": "agni"}])
    two = rig.begin(session, uris.MAILBOX_SEND, [{"type": "STATUS", "id": "b", "to": "agni"}])
    store.let_all()
    assert [result_of(answer)[0]["status"] for answer in (one, two)] == ["accepted", "refused"]


def test_urgent_mail_of_a_later_call_overtakes_none_of_an_earlier_one_while_the_store_is_full(
    make: MakeRig, store: HeldStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The store takes what is urgent and refuses the rest, as one does that is full for it.
    rig = make()
    session = rig.join("dc")
    append = store.inner.append

    def urgent_only(drafts: Sequence[Draft], at: int, *, ids_since: int = 0) -> Deferred[list[Accepted]]:
        if any(draft.priority > 1 for draft in drafts):
            return fail(StorageFull("the store is full"))
        return append(drafts, at, ids_since=ids_since)

    monkeypatch.setattr(store.inner, "append", urgent_only)
    monkeypatch.setattr(store, "condition", lambda: Condition(1, 1, shortage="it is full"))
    store.holding = True

    def message(name: str, priority: int) -> dict[str, Any]:
        return {"type": "STATUS", "id": name, "to": "agni", "priority": priority}

    mixed = [message("plain", 3), message("first", 1)]
    calls = [rig.begin(session, uris.MAILBOX_SEND, each) for each in (mixed, [message("second", 1)])]
    store.let_all()
    store.holding = False
    plain, first, second = (receipt for call in calls for receipt in result_of(call))
    assert refused(plain)[0] == "storage_full"
    assert (first["status"], second["status"]) == ("accepted", "accepted")
    assert first["seq"] < second["seq"]


def test_a_repeat_to_a_full_mailbox_is_still_a_repeat(make: MakeRig) -> None:
    rig = make(limits=small(mailbox_messages=1))
    session = rig.join("dc")
    (first,) = rig.send(session, {"id": "m1", "to": "agni"})
    again, over = rig.send(session, {"id": "m1", "to": "agni"}, {"id": "m2", "to": "agni"})
    assert again == {**first, "status": "duplicate"}
    assert refused(over)[0] == "mailbox_full"
    assert open_of(rig, "agni")[0] == 1


def test_a_repeat_to_an_instance_that_is_gone_is_still_a_repeat(rig: Rig, dc: int) -> None:
    script = rig.join("agni")
    rig.attach(script, instance="s1")
    rig.send(dc, {"id": "m1", "to": "agni/s1"})
    rig.leave(script)
    rig.advance(700)
    again, new = rig.send(dc, {"id": "m1", "to": "agni/s1"}, {"id": "m2", "to": "agni/s1"})
    assert again["status"] == "duplicate"
    assert refused(new)[0] == "instance_unknown"


def test_an_agent_that_is_not_registered_any_more(rig: Rig, dc: int) -> None:
    with update_agents(rig.agents_file) as agents:
        del agents["dc"]
    rig.advance(0.5)
    (receipt,) = rig.send(dc, {"id": "m1", "to": "agni"})
    assert refused(receipt) == ("agent_unknown", "dc is not registered at this node any more")


@pytest.mark.parametrize("ttl_ms", [days(30) + 1, 2**53 - 1])
def test_a_message_lives_no_longer_than_the_node_lets_it(rig: Rig, dc: int, ttl_ms: int) -> None:
    (receipt,) = rig.send(dc, {"id": "m1", "to": "agni", "ttl_ms": ttl_ms})
    assert refused(receipt) == (
        "message_invalid",
        f"messages[0].ttl_ms is {ttl_ms}; this node takes at most 2592000000 (30.0 d, limits.ttl): give it a shorter "
        "time to live, or none",
    )
    assert open_of(rig, "agni") == (0, 0)


def test_a_distant_deadline_makes_no_message_live_longer(make: MakeRig) -> None:
    rig = make(limits=small(ttl_ms=20_000))
    (receipt,) = rig.send(rig.join("dc"), {"id": "m1", "to": "agni", "deadline_at": 2**53 - 1, "ttl_ms": 20_000})
    assert receipt["status"] == "accepted"
    rig.advance(31.0)
    assert open_of(rig, "agni") == (0, 0)


def test_what_was_accepted_with_a_longer_life_is_a_repeat_all_the_same(make: MakeRig) -> None:
    """A node was given a lower ``limits.ttl`` while a sender still waits for its receipt."""
    before = make()
    message = {"id": "m1", "to": "agni", "ttl_ms": days(20)}
    (first,) = before.send(before.join("dc"), message)
    before.crash()
    after = make(limits=small(ttl_ms=days(10)))
    (again,) = after.send(after.join("dc"), message)
    assert again == {**first, "status": "duplicate"}


# -- the store ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [StorageFull("it is full", retry_after_s=5.0), StorageFailed("it is away")])
def test_what_the_store_refuses_was_not_accepted(
    rig: Rig, store: HeldStore, dc: int, error: StorageFull | StorageFailed
) -> None:
    store.fail_next("append", error)
    bad, one, two = rig.send(dc, {"id": "a"}, {"id": "b", "to": "agni"}, {"id": "c", "to": "broadcast"})
    assert refused(bad)[0] == "message_invalid"
    for receipt in (one, two):
        assert refused(receipt) == (str(error.uri).removeprefix(E), error.sentence)
        assert receipt.get("retry_after_s") == error.retry_after_s
    assert open_of(rig, "agni") == open_of(rig, "rushabdev") == (0, 0)
    assert [receipt["status"] for receipt in rig.send(dc, {"id": "b", "to": "agni"})] == ["accepted"]


def test_a_fault_of_our_own_leaves_no_place_reserved(rig: Rig, store: HeldStore, dc: int) -> None:
    store.fail_next("append", ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        rig.send(dc, {"id": "a", "to": "agni"})
    assert open_of(rig, "agni") == (0, 0)


def test_a_fault_at_the_look_for_repeats_is_logged(
    make: MakeRig, store: HeldStore, logged_errors: LoggedErrors
) -> None:
    rig = make(limits=small(mailbox_messages=1))
    session = rig.join("dc")
    rig.send(session, {"id": "a", "to": "agni"})
    store.fail_next("with_ids", StorageFailed("it is away"))
    (receipt,) = rig.send(session, {"id": "a", "to": "agni"})
    assert refused(receipt)[0] == "mailbox_full"
    assert len(logged_errors.flush(StorageFailed)) == 1


# -- signals -----------------------------------------------------------------------------------------------------------


def test_a_heartbeat_is_a_beat_and_is_not_stored(rig: Rig, dc: int) -> None:
    before = rig.store.high_water
    rig.clock.advance(20)
    (receipt,) = rig.send(dc, {"type": "HEARTBEAT", "id": "h1", "to": "agni", "timestamp": rig.now() - 70})
    assert receipt == {"id": "h1", "status": "accepted", "node": "single", "seq": before, "copies": 0}
    assert rig.store.high_water == before
    entry = rig.call(dc, uris.DIRECTORY_GET, "dc")
    assert (entry["last_seen_at"], entry["clock_skew_ms"]) == (rig.now(), -70)


def test_a_heartbeat_without_a_time_says_nothing_of_the_clock(rig: Rig, dc: int) -> None:
    rig.send(dc, {"type": "HEARTBEAT", "id": "h1", "to": "agni"})
    assert rig.call(dc, uris.DIRECTORY_GET, "dc")["clock_skew_ms"] is None


def test_an_ack_message_settles_what_it_names(rig: Rig, dc: int) -> None:
    agni = rig.join("agni")
    (sent,) = rig.send(dc, {"id": "m1", "to": "agni"})
    rig.fetch(agni)
    for _ in range(2):
        (receipt,) = rig.send(agni, {"type": "ACK", "id": "k1", "to": "dc", "reply_to": "m1"})
        assert receipt == {"id": "k1", "status": "accepted", "node": "single", "seq": sent["seq"], "copies": 0}
    assert rig.states(dc, "m1") == {"m1": "done"}
    assert open_of(rig, "agni") == (0, 0)


def test_an_ack_message_settles_only_the_senders_own(rig: Rig, dc: int) -> None:
    agni, rushabdev = rig.join("agni"), rig.join("rushabdev")
    rig.send(dc, {"id": "m1", "to": "agni"})
    rig.send(rushabdev, {"id": "m1", "to": "agni"})
    rig.fetch(agni)
    (stranger,) = rig.send(rushabdev, {"type": "ACK", "id": "k0", "to": "dc", "reply_to": "m1"})
    assert refused(stranger) == (
        "message_unknown",
        'messages[0].reply_to is "m1", and rushabdev got no message of that id from dc',
    )
    rig.send(agni, {"type": "ACK", "id": "k1", "to": "rushabdev", "reply_to": "m1"})
    assert rig.states(dc, "m1") == {"m1": "delivered"}
    assert rig.states(rushabdev, "m1") == {"m1": "done"}


def test_an_ack_message_does_not_delay_the_messages_beside_it(rig: Rig, store: HeldStore, dc: int) -> None:
    agni = rig.join("agni")
    rig.send(dc, {"id": "m1", "to": "agni"})
    rig.fetch(agni)
    store.holding = True
    ack = {"type": "ACK", "id": "k1", "to": "dc", "reply_to": "m1"}
    one = rig.begin(
        agni,
        uris.MAILBOX_SEND,
        [{"type": "STATUS", "id": "a", "to": "dc"}, ack, {"type": "STATUS", "id": "b", "to": "dc"}],
    )
    two = rig.begin(agni, uris.MAILBOX_SEND, [{"type": "STATUS", "id": "c", "to": "dc"}])
    store.let_all()
    assert [receipt["status"] for receipt in (*result_of(one), *result_of(two))] == ["accepted"] * 4
    rig.attach(dc)
    assert rig.ids(dc) == ["a", "b", "c"]


def test_an_ack_message_the_store_refuses_is_refused(rig: Rig, store: HeldStore, dc: int) -> None:
    agni = rig.join("agni")
    rig.send(dc, {"id": "m1", "to": "agni"})
    rig.fetch(agni)
    store.fail_next("settle", StorageFull("it is full", retry_after_s=5.0))
    first, status = rig.send(agni, {"type": "ACK", "id": "k1", "to": "dc", "reply_to": "m1"}, {"id": "s", "to": "dc"})
    assert refused(first) == ("storage_full", "it is full")
    assert status["status"] == "accepted"


# -- answers without a grant -------------------------------------------------------------------------------------------


@pytest.fixture
def shy(make: MakeRig) -> Rig:
    """agni may send to nobody."""
    return make(agents={"agni": AgentEntry(send=()), "dc": AgentEntry(), "rushabdev": AgentEntry()})


def asked(rig: Rig, message_id: str = "c1", **fields: Any) -> int:
    """dc asked agni; agni's session."""
    rig.send(rig.join("dc"), {"id": message_id, "to": "agni", "type": "COMMAND", **fields})
    agni = rig.join("agni")
    rig.fetch(agni)
    return agni


@pytest.mark.parametrize("kind", ["RESULT", "ERROR"])
def test_who_got_a_command_may_answer_it(shy: Rig, kind: str) -> None:
    agni = asked(shy)
    (receipt,) = shy.send(agni, {"id": "r1", "to": "dc", "type": kind, "reply_to": "c1"})
    assert receipt == {"id": "r1", "status": "accepted", "node": "single", "seq": shy.store.high_water, "copies": 1}
    (delivery,) = shy.fetch(shy.join("dc"))["deliveries"]
    assert (delivery["message"]["type"], delivery["message"]["reply_to"]) == (kind, "c1")


def test_an_instance_that_asked_gets_its_answer(shy: Rig) -> None:
    script = shy.join("dc")
    shy.fetch(script, instance="x")
    agni = asked(shy, **{"from": "dc/x"})
    receipts = shy.send(
        agni,
        {"id": "r1", "to": "dc/x", "type": "RESULT", "reply_to": "c1"},
        {"id": "r2", "to": "dc", "type": "RESULT", "reply_to": "c1"},
    )
    assert [receipt["status"] for receipt in receipts] == ["accepted", "refused"]


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "STATUS", "reply_to": "c1"},
        {"type": "COMMAND", "reply_to": "c1"},
        {"type": "RESULT"},
        {"type": "RESULT", "reply_to": "c2"},
        {"type": "RESULT", "reply_to": "s1"},
        {"type": "RESULT", "reply_to": "c1", "to": "rushabdev"},
    ],
)
def test_nothing_but_an_answer_passes_without_a_grant(shy: Rig, fields: dict[str, Any]) -> None:
    agni = asked(shy)
    shy.send(shy.join("dc"), {"id": "s1", "to": "agni"})
    message = {"id": "r1", "to": "dc", **fields}
    (receipt,) = shy.send(agni, message)
    assert refused(receipt) == (
        "recipient_forbidden",
        f'messages[0].to is "{message["to"]}", and the grants of agni don\'t cover it; an operator can add '
        f'"{message["to"]}" to its "send" list in the agents file',
    )
    assert open_of(shy, str(message["to"]))[0] == 0


def test_answers_are_in_the_order_of_the_request_among_others(shy: Rig) -> None:
    agni = asked(shy)
    receipts = shy.send(
        agni,
        {"id": "r1", "to": "dc", "type": "RESULT", "reply_to": "c1"},
        {"id": "own", "to": "agni"},
        {"id": "r2", "to": "dc", "type": "RESULT", "reply_to": "c9"},
    )
    assert [(receipt["id"], receipt["status"]) for receipt in receipts] == [
        ("r1", "accepted"),
        ("own", "accepted"),
        ("r2", "refused"),
    ]


def test_a_repeated_answer_is_a_duplicate(shy: Rig) -> None:
    agni = asked(shy)
    answer = {"id": "r1", "to": "dc", "type": "RESULT", "reply_to": "c1"}
    (first,) = shy.send(agni, answer)
    (second,) = shy.send(agni, answer)
    assert (second["status"], second["seq"]) == ("duplicate", first["seq"])


def test_an_answer_that_can_not_be_looked_up_is_refused_for_now(shy: Rig, store: HeldStore) -> None:
    shy.leave(asked(shy))
    store.fail_next("with_ids", StorageFailed("the disk is away"))
    (receipt,) = shy.send(shy.join("agni"), {"id": "r1", "to": "dc", "type": "RESULT", "reply_to": "c1"})
    assert refused(receipt) == ("storage_failed", "the disk is away")


def test_the_answer_to_what_is_in_its_senders_window_is_not_looked_up(shy: Rig, store: HeldStore) -> None:
    agni = asked(shy)
    store.fail_next("with_ids", StorageFailed("the disk is away"))
    (receipt,) = shy.send(agni, {"id": "r1", "to": "dc", "type": "RESULT", "reply_to": "c1"})
    assert receipt["status"] == "accepted"


# -- rates -------------------------------------------------------------------------------------------------------------


def test_who_sends_too_fast_is_told_when_to_try_again(make: MakeRig) -> None:
    rig = make(limits=small(rate_per_s=10, burst=2))
    dc = rig.join("dc")
    receipts = rig.send(dc, *({"id": f"m{index}", "to": "agni"} for index in range(4)))
    assert [receipt["status"] for receipt in receipts] == ["accepted", "accepted", "refused", "refused"]
    assert (receipts[2]["error"], receipts[2]["retry_after_s"]) == (E + "rate_limited", 0.1)
    rig.advance(0.25)
    (receipt,) = rig.send(dc, {"id": "m2", "to": "agni"})
    assert receipt["status"] == "accepted"
    assert open_of(rig, "agni")[0] == 3


def test_broadcasts_are_limited_by_themselves(make: MakeRig) -> None:
    rig = make(limits=small(broadcast_rate_per_s=1, broadcast_burst=1))
    dc = rig.join("dc")
    receipts = rig.send(dc, {"id": "b1", "to": "broadcast"}, {"id": "b2", "to": "broadcast"})
    assert [receipt["status"] for receipt in receipts] == ["accepted", "refused"]
    assert receipts[1]["error"] == E + "rate_limited"


def test_broadcasts_are_limited_by_those_who_get_them(make: MakeRig) -> None:
    # There are two others than dc.
    rig = make(limits=small(broadcast_deliveries_per_s=2, broadcast_at_once=4))
    dc = rig.join("dc")
    receipts = rig.send(dc, *({"id": f"b{index}", "to": "broadcast"} for index in range(3)))
    assert [receipt["status"] for receipt in receipts] == ["accepted", "accepted", "refused"]
    assert (receipts[2]["error"], receipts[2]["retry_after_s"]) == (E + "rate_limited", 1.0)
    rig.advance(1.0)
    (receipt,) = rig.send(dc, {"id": "b2", "to": "broadcast"})
    assert receipt["status"] == "accepted"


def test_messages_that_are_refused_count_too(make: MakeRig) -> None:
    rig = make(limits=small(rate_per_s=10, burst=2))
    receipts = rig.send(rig.join("dc"), {"id": "a"}, {"id": "b"}, {"id": "c", "to": "agni"})
    assert receipts[2]["error"] == E + "rate_limited"


def test_a_flood_of_false_senders_is_noted_and_counted(make: MakeRig) -> None:
    rig = make()
    dc = rig.join("dc")
    for _ in range(10):
        rig.send(dc, *({"id": f"m{index}", "to": "agni", "from": "agni"} for index in range(100)))
    rig.advance(60)
    records = rig.call(rig.join("dc", operator=True), uris.AUDIT_QUERY, {"kind": "refused"})["records"]
    assert len(records) <= 22
    assert sum(1 + record.get("more", 0) for record in records) == 1000


# -- what nobody can do ------------------------------------------------------------------------------------------------


def test_a_message_to_a_capability_that_nobody_has_is_accepted_with_a_warning(rig: Rig, dc: int) -> None:
    agni = rig.join("agni")
    rig.attach(agni, capabilities=["deploy", "review"])
    able, mistyped = rig.send(dc, {"id": "m1", "to": "capability:deploy"}, {"id": "m2", "to": "capability:deplyo"})
    assert able["status"] == mistyped["status"] == "accepted"
    assert "warning" not in able
    assert mistyped["warning"] == (
        'no agent that is present here or at a linked node announced "deplyo"; the message waits until one does, or '
        "its time to live is over; announced now: deploy, review"
    )
    rig.leave(agni)
    (gone,) = rig.send(dc, {"id": "m3", "to": "capability:deploy"})
    assert gone["warning"].endswith("; nothing is announced now")


def test_why_says_that_nobody_can_do_it_as_long_as_that_is_so(rig: Rig, dc: int) -> None:
    rig.send(dc, {"id": "m1", "to": "capability:deploy"})
    (life,) = rig.call(dc, uris.AUDIT_WHY, "m1")["messages"]
    assert life["warning"].startswith('no agent that is present here or at a linked node announced "deploy"')
    agni = rig.join("agni")
    rig.attach(agni, capabilities=["deploy"])
    (life,) = rig.call(dc, uris.AUDIT_WHY, "m1")["messages"]
    assert "warning" not in life
    rig.ack(agni, *(delivery["token"] for delivery in rig.pushed(agni)))
    rig.leave(agni)
    (life,) = rig.call(dc, uris.AUDIT_WHY, "m1")["messages"]
    assert (life["state"], "warning" in life) == ("done", False)
