"""Delivery and settlement: who gets which message when, and what comes back. A node on a Clock, without a router.

Where it matters that the disk takes its time, the store is held: what would happen in between happens there.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from tests.conftest import LoggedErrors
from tests.support.nodes import POLICY, Rig
from tests.support.stores import HeldStore, result_of
from trishula.contract import uris
from trishula.errors import MailboxBusy, MessageUnknown, StorageFailed, StorageFull, TakenOver
from trishula_router.agents.takeovers import Takeovers
from trishula_router.mail import delivery as delivery_module
from trishula_router.mail import mailbox as mailbox_module
from trishula_router.mail import mailroom as mailroom_module
from trishula_router.mail.parcels import parcels
from trishula_router.store.memory import MemoryStore
from trishula_router.store.messages import State


@pytest.fixture
def store() -> HeldStore:
    return HeldStore(MemoryStore("epoch-1"))


@pytest.fixture
def rig(tmp_path: Path, store: HeldStore) -> Rig:
    return Rig(tmp_path, store, Clock()).start()


@pytest.fixture
def dc(rig: Rig) -> int:
    return rig.join("dc")


@pytest.fixture
def agni(rig: Rig) -> int:
    return rig.join("agni")


def to_agni(*ids: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": message_id, "to": "agni", **fields} for message_id in ids]


def restarted(rig: Rig, tmp_path: Path) -> Rig:
    """The node after a power cut: the same store, nothing in memory."""
    rig.crash()
    again = Rig(tmp_path, rig.store, rig.clock).start()
    again._sessions = rig._sessions
    return again


def no_bodies_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailroom_module, "BODY_CACHE_BYTES", 0)


# -- pushing -----------------------------------------------------------------------------------------------------------


def test_a_message_is_pushed_to_the_attached_session(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(agni)
    (receipt,) = rig.send(dc, {"id": "m1", "to": "agni", "payload": {"a": [1, None]}})
    assert receipt["status"] == "accepted"
    ((address, session, deliveries),) = rig.outlet.pushed
    assert (address, session) == ("agni", agni)
    (delivery,) = deliveries
    assert delivery == {
        "message": {
            "type": "STATUS",
            "id": "m1",
            "from": "dc",
            "to": "agni",
            "timestamp": rig.now(),
            "accepted_at": rig.now(),
            "payload": {"a": [1, None]},
            "priority": 3,
        },
        "attempt": 1,
        "token": f"{receipt['seq']}.1.{rig.store.epoch[:8]}",
    }


def test_large_messages_wait_until_those_before_are_acknowledged(tmp_path: Path, store: HeldStore) -> None:
    # Their bytes wait in the queue of a slow connection, which would be ended for as many as a window has.
    rig = Rig(tmp_path, store, Clock(), policy=replace(POLICY, window_bytes=1500)).start()
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    for message_id in ("m1", "m2", "m3", "m4"):
        rig.send(dc, *to_agni(message_id, payload="x" * 1000))
    first, second = rig.pushed()
    assert [one["message"]["id"] for one in (first, second)] == ["m1", "m2"]
    rig.ack(agni, first["token"])
    (third,) = rig.pushed()
    assert third["message"]["id"] == "m3"
    rig.ack(agni, second["token"], third["token"])
    assert rig.ids() == ["m4"]


def test_a_message_larger_than_the_window_goes_alone(tmp_path: Path, store: HeldStore) -> None:
    rig = Rig(tmp_path, store, Clock(), policy=replace(POLICY, window_bytes=1500)).start()
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    rig.send(dc, *to_agni("m1", payload="x" * 9000))
    rig.send(dc, *to_agni("m2"))
    (large,) = rig.pushed()
    rig.ack(agni, large["token"])
    assert rig.ids() == ["m2"]


def test_nobody_else_is_pushed_to(rig: Rig, dc: int, agni: int) -> None:
    rushabdev, script = rig.join("rushabdev"), rig.join("agni")
    for session in (agni, rushabdev, dc):
        rig.attach(session)
    rig.attach(script, instance="7f3a")
    rig.send(dc, *to_agni("m1"))
    assert [session for _, session, _ in rig.outlet.pushed] == [agni]


def test_a_message_waits_for_its_absent_recipient(rig: Rig, dc: int) -> None:
    rig.send(dc, *to_agni("m1", "m2"))
    assert rig.pushed() == []
    agni = rig.join("agni")
    rig.attach(agni)
    assert rig.ids(agni) == ["m1", "m2"]


def test_a_message_is_not_shown_before_it_is_durable(rig: Rig, store: HeldStore, dc: int, agni: int) -> None:
    rig.attach(agni)
    store.holding = True
    receipts = rig.begin(dc, uris.MAILBOX_SEND, [{"type": "STATUS", "id": "m1", "to": "agni"}])
    rig.advance(1)
    assert not receipts.called
    assert rig.pushed() == []
    store.let_all()
    assert result_of(receipts)[0]["status"] == "accepted"
    assert rig.ids() == ["m1"]


def test_the_more_urgent_overtakes_and_equals_keep_their_order(rig: Rig, dc: int, agni: int) -> None:
    for message_id, priority in (("a3", 3), ("b5", 5), ("c1", 1), ("d3", 3), ("e1", 1)):
        rig.send(dc, *to_agni(message_id, priority=priority))
    rig.attach(agni)
    assert rig.ids() == ["c1", "e1", "a3", "d3", "b5"]


def test_the_window_is_kept_and_filled_again(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(agni, window=2)
    rig.send(dc, *to_agni("m1", "m2", "m3", "m4"))
    first = rig.pushed()
    assert [one["message"]["id"] for one in first] == ["m1", "m2"]
    rig.advance(5)
    assert rig.pushed() == []
    assert rig.ack(agni, first[0]["token"]) == [True]
    assert rig.ids() == ["m3"]


def test_beside_a_backlog_an_urgent_message_finds_a_place_in_the_window(rig: Rig, dc: int, agni: int) -> None:
    """A window is full all the time then: without one of its own it would wait until its agent has worked some off."""
    rig.attach(agni, window=32)
    rig.send(dc, *to_agni(*(f"m{number}" for number in range(40))))
    waiting = rig.pushed()
    assert len(waiting) == 30
    rig.send(dc, *to_agni("soon", priority=2), *to_agni("now", "now-too", "one-too-many", priority=1))
    urgent = rig.pushed()
    assert [one["message"]["id"] for one in urgent] == ["now", "now-too"]
    # Never more than the window; what it left to the urgent ones is for the urgent ones again.
    rig.ack(agni, waiting[0]["token"])
    assert rig.ids() == ["one-too-many"]
    rig.ack(agni, waiting[1]["token"])
    assert rig.ids() == []
    rig.ack(agni, urgent[0]["token"])
    assert rig.ids() == []
    rig.ack(agni, urgent[1]["token"], waiting[2]["token"])
    assert rig.ids() == ["soon", "m30"]


def test_the_window_is_free_at_once_and_the_ack_is_answered_when_durable(
    rig: Rig, store: HeldStore, dc: int, agni: int
) -> None:
    rig.attach(agni, window=1)
    rig.send(dc, *to_agni("m1", "m2"))
    (first,) = rig.pushed()
    store.holding = True
    acked = rig.begin(agni, uris.MAILBOX_ACK, [first["token"]])
    assert rig.ids() == ["m2"]
    assert not acked.called
    store.let_all()
    assert result_of(acked) == [True]


def test_a_new_window_of_the_same_session_counts_at_once(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(agni, window=1)
    rig.send(dc, *to_agni("m1", "m2", "m3"))
    assert rig.ids() == ["m1"]
    rig.attach(agni, window=2)
    assert rig.ids() == ["m2"]
    assert rig.outlet.closed == []


def test_large_messages_travel_in_events_of_their_own(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(agni)
    payload = "x" * 400_000
    rig.send(dc, *to_agni("m1", "m2", "m3", "m4", "m5", payload=payload))
    assert [[one["message"]["id"] for one in event] for _, _, event in rig.outlet.pushed] == [
        ["m1", "m2"],
        ["m3", "m4"],
        ["m5"],
    ]


def test_a_message_larger_than_an_event_travels_alone(
    rig: Rig, dc: int, agni: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_module, "parcels", partial(parcels, frame_bytes=4096))
    rig.attach(agni)
    rig.send(dc, *to_agni("m1"), {"id": "m2", "to": "agni", "payload": "x" * 5000}, *to_agni("m3"))
    assert [[one["message"]["id"] for one in event] for _, _, event in rig.outlet.pushed] == [["m1"], ["m2"], ["m3"]]


def test_a_fetch_takes_what_fits_into_one_frame_in_any_serializer(rig: Rig, dc: int, agni: int) -> None:
    # As JSON all of them would fit.
    rig.send(dc, *to_agni("m1", "m2", "m3", "m4", "m5", payload=[0.0] * 40_000))
    taken = [[one["message"]["id"] for one in rig.fetch(agni, max=10)["deliveries"]] for _ in range(4)]
    assert taken == [["m1", "m2"], ["m3", "m4"], ["m5"], []]
    assert rig.node.mailroom.counts("agni") == (0, 5)


def test_bodies_that_memory_has_no_room_for_come_from_the_store(
    rig: Rig, dc: int, agni: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_bodies_in_memory(monkeypatch)
    rig.attach(agni)
    rig.send(dc, *to_agni("m1", "m2", payload={"deep": [1.5, "x"]}))
    deliveries = rig.pushed()
    assert [one["message"]["payload"] for one in deliveries] == [{"deep": [1.5, "x"]}] * 2
    assert rig.node.mailroom._cached_bytes == 0


def test_while_bodies_are_read_nothing_overtakes(
    rig: Rig, store: HeldStore, dc: int, agni: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.send(dc, *to_agni("m1"))
    next(iter(rig.node.mailroom.mailbox("agni")._waiting.values())).wire = None
    store.holding = True
    rig.attach(agni)
    assert store.waiting == ["bodies"]
    store.holding = False
    rig.send(dc, *to_agni("m2"))
    assert rig.pushed() == []
    store.let_all()
    assert rig.ids() == ["m1", "m2"]


def test_a_takeover_while_bodies_are_read_keeps_the_order(
    rig: Rig, store: HeldStore, dc: int, agni: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.send(dc, *to_agni("m1", "m2"))
    for entry in rig.node.mailroom.mailbox("agni")._waiting.values():
        entry.wire = None
    store.holding = True
    rig.attach(agni, window=1)
    newer = rig.join("agni")
    rig.attach(newer, window=64)
    rig.begin(dc, uris.MAILBOX_SEND, [{"type": "STATUS", "id": "m3", "to": "agni"}])
    store.let_all()
    assert rig.ids(newer) == ["m1", "m2", "m3"]
    assert rig.pushed(agni) == []


def test_a_session_that_left_while_bodies_were_read_gets_nothing(
    rig: Rig, store: HeldStore, dc: int, agni: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_bodies_in_memory(monkeypatch)
    rig.send(dc, *to_agni("m1"))
    store.holding = True
    rig.attach(agni)
    rig.leave(agni)
    store.let_all()
    store.holding = False
    assert rig.pushed() == []
    assert rig.node.mailroom.counts("agni") == (1, 0)
    newer = rig.join("agni")
    rig.attach(newer)
    (delivery,) = rig.pushed(newer)
    assert delivery["attempt"] == 1


def test_a_message_whose_body_is_lost_is_dead_and_the_others_go_on(
    rig: Rig, store: HeldStore, dc: int, agni: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_bodies_in_memory(monkeypatch)
    receipts = rig.send(dc, *to_agni("m1", "m2"))
    del store.inner._bodies[receipts[0]["seq"]]  # type: ignore[attr-defined]
    rig.attach(agni)
    assert rig.ids() == ["m2"]
    assert rig.states(dc, "m1") == {"m1": "dead"}
    (news,) = [one for one in rig.outlet.news if one.state == "dead"]
    assert news.reason == "its body is missing from the node's store, or damaged"


def test_a_message_whose_body_is_garbled_is_dead_and_the_others_go_on(
    rig: Rig, store: HeldStore, dc: int, agni: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_bodies_in_memory(monkeypatch)
    receipts = rig.send(dc, *to_agni("m1", "m2"))
    store.inner._bodies[receipts[0]["seq"]] = b'{"id": "m1", \xff'  # type: ignore[attr-defined]
    rig.attach(agni)
    assert rig.ids() == ["m2"]
    assert rig.states(dc, "m1") == {"m1": "dead"}


def test_when_bodies_cannot_be_read_they_are_tried_again_later(
    rig: Rig, store: HeldStore, dc: int, agni: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_bodies_in_memory(monkeypatch)
    rig.send(dc, *to_agni("m1"))
    store.fail_next("bodies", StorageFailed("the disk is away"))
    rig.attach(agni)
    assert rig.pushed() == []
    rig.advance(5.5)
    assert rig.ids() == ["m1"]


# -- cancel, expiry and ack of what is just being loaded ---------------------------------------------------------------


@pytest.mark.parametrize("settled_first", [True, False])
def test_cancel_while_its_body_is_read(
    rig: Rig, store: HeldStore, dc: int, agni: int, monkeypatch: pytest.MonkeyPatch, settled_first: bool
) -> None:
    no_bodies_in_memory(monkeypatch)
    rig.send(dc, *to_agni("m1"))
    store.holding = True
    rig.attach(agni, window=1)
    assert store.waiting == ["bodies"]
    cancelled = rig.begin(dc, uris.MAILBOX_CANCEL, ["m1"])
    # The questions share a queue: bodies, then the cancel's own; then it looks at the position and settles.
    store._reads.rotate(1)
    store.let_read(1)
    store.let_write(1)
    if settled_first:
        store.let_write()
        store.let_read()
    else:
        store.let_read()
        rig.settle()
        store.let_write()
    store.holding = False
    assert result_of(cancelled) == [True]
    assert rig.pushed() == []
    assert rig.node.mailroom.counts("agni") == (0, 0)
    assert rig.node.mailroom._cached_bytes == 0
    # Its place in the window is free.
    rig.send(dc, *to_agni("m2"))
    assert rig.ids() == ["m2"]


# -- leases, nacks, lost sessions --------------------------------------------------------------------------------------


def test_without_an_ack_it_comes_again_after_a_growing_pause(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(agni)
    rig.send(dc, *to_agni("m1"))
    rig.pushed()
    for attempt, pause_s in enumerate((1.0, 2.0, 4.0, 8.0), start=2):
        rig.advance(60.0)
        assert rig.pushed() == []
        rig.advance(pause_s - 0.5)
        assert rig.pushed() == []
        rig.advance(1.0)
        (again,) = rig.pushed()
        assert again["attempt"] == attempt
        # Back to where its lease began.
        rig.clock.advance(0)
        rig.node.mailroom.leases[int(again["token"].partition(".")[0])].until_s = rig.clock.seconds() + 60
    rig.outlet.take_news()
    rig.advance(60.5)
    assert rig.pushed() == []
    assert rig.states(dc, "m1") == {"m1": "dead"}
    (news,) = rig.outlet.news
    assert news.reason == "5 of 5 attempts failed, the last one: no ack came within its lease"


def test_a_nack_asks_for_another_attempt_after_a_pause(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(agni)
    rig.send(dc, *to_agni("m1"))
    (first,) = rig.pushed()
    assert rig.nack(agni, first["token"]) is True
    assert rig.pushed() == []
    rig.advance(1.25)
    (second,) = rig.pushed()
    assert (second["attempt"], second["message"]) == (2, first["message"])


def test_a_nack_for_good_is_a_dead_letter(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(agni)
    rig.send(dc, *to_agni("m1"))
    (first,) = rig.pushed()
    rig.outlet.take_news()
    assert rig.nack(agni, first["token"], "I can't read that", requeue=False) is True
    rig.advance(600)
    assert rig.pushed() == []
    assert rig.states(dc, "m1") == {"m1": "dead"}
    (news,) = rig.outlet.news
    assert (news.sender, news.id, news.recipient, news.state, news.reason) == (
        "dc",
        "m1",
        "agni",
        "dead",
        "I can't read that",
    )


def test_a_nack_of_what_the_agent_does_not_hold_changes_nothing(rig: Rig, dc: int, agni: int) -> None:
    rushabdev = rig.join("rushabdev")
    rig.attach(agni)
    rig.send(dc, *to_agni("m1"))
    (first,) = rig.pushed()
    assert rig.nack(rushabdev, first["token"], requeue=False) is False
    assert rig.nack(agni, "999.1") is False
    assert rig.nack(agni, first["token"]) is True
    assert rig.nack(agni, first["token"], requeue=False) is False
    assert rig.states(dc, "m1") == {"m1": "delivered"}


def test_a_nack_with_the_token_of_an_earlier_attempt_changes_nothing(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(agni)
    rig.send(dc, *to_agni("m1"))
    (first,) = rig.pushed()
    rig.advance(62)
    (second,) = rig.pushed()
    assert second["attempt"] == 2
    # The first attempt's handler was slow, not dead; it fails now, while the second one runs.
    assert rig.nack(agni, first["token"], requeue=False) is False
    assert rig.states(dc, "m1") == {"m1": "delivered"}
    with pytest.raises(MessageUnknown):
        rig.call(agni, uris.MAILBOX_WORKING, first["token"], 600)
    assert rig.ack(agni, second["token"]) == [True]


def test_a_message_with_a_pause_lets_the_others_by(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(agni, window=1)
    rig.send(dc, *to_agni("m1", "m2"))
    (first,) = rig.pushed()
    rig.nack(agni, first["token"])
    (second,) = rig.pushed()
    assert second["message"]["id"] == "m2"
    rig.advance(2)
    assert rig.pushed() == []
    rig.ack(agni, second["token"])
    assert rig.ids() == ["m1"]


def test_many_failing_messages_do_not_starve_those_behind_them(
    rig: Rig, dc: int, agni: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox_module, "CAPACITY", 8)
    rig.node.mailroom._mailboxes["agni"] = mailbox_module.Mailbox("agni", capacity=8)
    rig.send(dc, *to_agni(*(f"m{index:02}" for index in range(40))))
    rig.attach(agni, window=4)
    seen: set[str] = set()
    for _ in range(30):
        for delivery in rig.pushed():
            seen.add(delivery["message"]["id"])
            rig.nack(agni, delivery["token"])
    # No time went by: each failed once and waits, and none kept the ones behind it from their first attempt.
    assert len(seen) == 40


def test_working_extends_the_lease(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(agni)
    rig.send(dc, *to_agni("m1"))
    (first,) = rig.pushed()
    rig.advance(50)
    assert rig.call(agni, uris.MAILBOX_WORKING, first["token"], 600) == {"lease_until_at": rig.now() + 600_000}
    rig.advance(595)
    assert rig.pushed() == []
    rig.advance(7)
    assert rig.ids() == ["m1"]


def test_working_never_shortens_the_lease(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(agni)
    rig.send(dc, *to_agni("m1"))
    (first,) = rig.pushed()
    until = rig.now() + 60_000
    assert rig.call(agni, uris.MAILBOX_WORKING, first["token"], 1) == {"lease_until_at": until}
    rig.advance(10)
    assert rig.pushed() == []


def test_working_on_what_is_not_held_is_refused(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(agni)
    rig.send(dc, *to_agni("m1"))
    (first,) = rig.pushed()
    position = first["token"].partition(".")[0]
    rig.ack(agni, first["token"])
    with pytest.raises(MessageUnknown) as caught:
        rig.call(agni, uris.MAILBOX_WORKING, first["token"], 10)
    assert caught.value.sentence == (
        f"agni holds no message {position}: it was settled, or given back after its lease ran out or its session was "
        "lost"
    )


def test_a_lost_session_costs_no_failure_and_no_pause(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(agni)
    rig.send(dc, *to_agni("m1", "m2"))
    rig.pushed()
    rig.leave(agni)
    newer = rig.join("agni")
    rig.attach(newer)
    assert [(one["message"]["id"], one["attempt"]) for one in rig.pushed(newer)] == [("m1", 2), ("m2", 2)]
    (life,) = rig.call(dc, uris.AUDIT_WHY, "m1")["messages"]
    assert life["failures"] == 0


def test_a_message_that_kills_its_agent_each_time_ends_too(rig: Rig, dc: int) -> None:
    rig.send(dc, *to_agni("m1"))
    for _ in range(20):
        session = rig.join("agni")
        rig.attach(session)
        assert rig.ids(session) == ["m1"]
        rig.leave(session)
    assert rig.states(dc, "m1") == {"m1": "dead"}
    assert rig.outlet.news[-1].reason == (
        "it was delivered 20 times and each time its agent was lost before it answered"
    )


def life(run: str, after: str | None = None, *begun: str) -> dict[str, Any]:
    """What a client tells of its process: the run, the one before it, and what of dc's that one had begun."""
    told = {"run": run} if after is None else {"run": run, "after": after}
    return {**told, "begun": [["dc", one] for one in begun]} if after else told


def test_lost_sessions_of_a_process_that_lives_cost_nothing(rig: Rig, dc: int) -> None:
    rig.send(dc, *to_agni("m1", "m2"))
    for attempt in range(1, 100):
        session = rig.join("agni")
        rig.attach(session, **life("r1"))
        assert [(one["message"]["id"], one["attempt"]) for one in rig.pushed(session)] == [
            ("m1", attempt),
            ("m2", attempt),
        ]
        rig.leave(session)
    assert {life["failures"] for life in rig.call(dc, uris.AUDIT_WHY, "m1")["messages"]} == {0}


def test_what_an_ended_process_had_not_begun_costs_nothing(rig: Rig, dc: int) -> None:
    rig.send(dc, *to_agni("m1"))
    for run in range(100):
        session = rig.join("agni")
        rig.attach(session, **life(f"r{run}", f"r{run - 1}"))
        assert rig.ids(session) == ["m1"]
        rig.leave(session)
    (told,) = rig.call(dc, uris.AUDIT_WHY, "m1")["messages"]
    assert (told["state"], told["failures"]) == ("delivered", 0)


def test_a_process_without_a_memory_ends_a_message_in_the_end(rig: Rig, dc: int) -> None:
    # Its runs are told apart, but none knows what the one before it had begun.
    rig.send(dc, *to_agni("m1"))
    for run in range(20):
        session = rig.join("agni")
        rig.attach(session, **life(f"r{run}"))
        assert rig.ids(session) == ["m1"]
        rig.leave(session)
    assert rig.states(dc, "m1") == {"m1": "delivered"}
    rig.attach(rig.join("agni"), **life("r20"))
    assert rig.states(dc, "m1") == {"m1": "dead"}


def poison(rig: Rig, dc: int, name: str, ids: list[str], *, at_once: int) -> tuple[list[str], int]:
    """An agent that begins so many messages at once and dies of one of them; what it did in the end, and its runs."""
    done: list[str] = []
    run, before = 0, None
    begun: list[str] = []
    while True:
        run += 1
        session = rig.join("agni")
        rig.attach(session, **life(f"r{run}", before, *begun))
        before, begun = f"r{run}", []
        for _ in range(200):
            for delivery in rig.pushed(session):
                begun.append(delivery["message"]["id"])
                if delivery["message"]["id"] != name and len(begun) > at_once:
                    rig.ack(session, delivery["token"])
                    done.append(begun.pop())
            if name in begun:
                break
            # Nothing in it kills it: what was begun comes to its end.
            rig.advance(1)
            if begun:
                positions = {it.id: it.position for it in result_of(rig.store.with_ids(begun))}
                rig.ack(session, *(f"{positions[one]}.1" for one in begun))
                done += begun
                begun = []
            if len(done) == len(ids) - 1 and rig.states(dc, name) == {name: "dead"}:
                return done, run
        rig.leave(session)
        rig.advance(20)
        assert run < 50


@pytest.mark.parametrize("at_once", [1, 8, 64])
def test_a_message_that_kills_its_agent_dies_alone(rig: Rig, dc: int, at_once: int) -> None:
    ids = [f"m{number}" for number in range(64)]
    rig.send(dc, *to_agni(*ids))
    done, runs = poison(rig, dc, "m7", ids, at_once=at_once)
    assert sorted(done) == sorted(set(ids) - {"m7"})
    assert runs == 6, "five crashes, and the run that worked off the rest"
    (told,) = rig.call(dc, uris.AUDIT_WHY, "m7")["messages"]
    assert told["events"][-1]["reason"] == (
        "5 of 5 attempts failed, the last one: its agent's process ended while its handler ran, 5 times in all"
    )
    assert rig.outlet.news[-1].state in ("done", "dead")
    others = rig.states(dc, *ids)
    assert [one for one, state in others.items() if state != "done"] == ["m7"]


def test_a_crash_costs_one_failure_that_is_on_record(rig: Rig, dc: int) -> None:
    first = rig.join("agni")
    rig.attach(first, **life("r1"))
    rig.send(dc, *to_agni("m1", "m2"))
    rig.pushed()
    rig.leave(first)
    second = rig.join("agni")
    rig.attach(second, **life("r2", "r1", "m1"))
    # The first one costs no pause, so that the order stays.
    assert rig.ids(second) == ["m1", "m2"]
    failures = {name: rig.call(dc, uris.AUDIT_WHY, name)["messages"][0]["failures"] for name in ("m1", "m2")}
    assert failures == {"m1": 1, "m2": 0}
    (told,) = rig.call(dc, uris.AUDIT_WHY, "m1")["messages"]
    assert "its agent's process ended while its handler ran" in [event.get("reason") for event in told["events"]]


def test_what_a_living_process_had_fetched_costs_nothing(rig: Rig, dc: int) -> None:
    rig.send(dc, *to_agni("m1"))
    for attempt in range(1, 60):
        session = rig.join("agni")
        (delivery,) = rig.fetch(session, run="r1")["deliveries"]
        assert delivery["attempt"] == attempt
        rig.leave(session)
    for run in range(19):
        session = rig.join("agni")
        assert [one["attempt"] for one in rig.fetch(session, run=f"s{run}")["deliveries"]] == [60 + run]
        rig.leave(session)
    assert rig.fetch(rig.join("agni"), run="s19")["deliveries"] == []
    assert rig.states(dc, "m1") == {"m1": "dead"}


def test_a_script_that_fetches_says_nothing_of_its_agent(rig: Rig, dc: int) -> None:
    rig.send(dc, *to_agni("m1"))
    agni = rig.join("agni")
    rig.attach(agni, **life("r1"))
    rig.leave(agni)
    script = rig.join("agni")
    rig.fetch(script, run="s1")
    rig.leave(script)
    rig.attach(rig.join("agni"), **life("r2", "r1", "m1"))
    (told,) = rig.call(dc, uris.AUDIT_WHY, "m1")["messages"]
    assert told["failures"] == 1


def test_a_takeover_is_no_crash(rig: Rig, dc: int) -> None:
    rig.send(dc, *to_agni("m1"))
    for run in range(30):
        # They are days apart, and their number is not what is looked at here.
        rig.node.takeovers = Takeovers()
        session = rig.join("agni")
        rig.attach(session, **life(f"r{run}"))
        assert rig.ids(session) == ["m1"]
    assert rig.states(dc, "m1") == {"m1": "delivered"}


def test_an_older_session_takes_nothing_over(rig: Rig, dc: int, agni: int) -> None:
    # Its attach was on its way when its network broke, and arrives after its client has joined anew.
    newer = rig.join("agni")
    rig.attach(newer)
    with pytest.raises(TakenOver, match="a newer session consumes the mailbox of agni already"):
        rig.attach(agni)
    rig.send(dc, *to_agni("m1"))
    assert (rig.ids(newer), rig.ids(agni)) == (["m1"], [])
    assert rig.outlet.closed == []
    rig.leave(newer)
    rig.attach(agni)
    assert rig.ids(agni) == ["m1"]


def test_a_takeover_moves_everything_to_the_newer_session(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(agni)
    rig.send(dc, *to_agni("m1"))
    rig.pushed()
    newer = rig.join("agni")
    rig.attach(newer)
    assert rig.outlet.closed == [
        (
            agni,
            TakenOver.uri,
            "a newer session consumes the mailbox of agni now, so this one was closed; run one session of an agent, "
            "or give each its own instance",
        )
    ]
    assert [one["attempt"] for one in rig.pushed(newer)] == [2]
    rig.leave(agni)
    rig.send(dc, *to_agni("m2"))
    assert rig.ids(newer) == ["m2"]
    assert rig.pushed(agni) == []


def test_the_older_session_may_still_say_that_it_was_done(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(agni)
    rig.send(dc, *to_agni("m1"))
    (first,) = rig.pushed()
    newer = rig.join("agni")
    rig.attach(newer)
    rig.pushed()
    assert rig.ack(agni, first["token"]) == [True]
    rig.advance(300)
    assert rig.pushed() == []
    assert rig.node.mailroom.counts("agni") == (0, 0)


# -- acks --------------------------------------------------------------------------------------------------------------


def test_an_ack_may_be_repeated(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(agni)
    rig.send(dc, *to_agni("m1"))
    (first,) = rig.pushed()
    assert rig.ack(agni, first["token"], first["token"]) == [True, True]
    assert rig.ack(agni, first["token"]) == [True]
    assert rig.node.mailroom.counts("agni") == (0, 0)
    assert rig.outlet.take_news() == [("m1", "agni", "delivered"), ("m1", "agni", "done")]


def test_nobody_acks_for_another(rig: Rig, dc: int, agni: int) -> None:
    rushabdev = rig.join("rushabdev")
    rig.attach(agni)
    rig.send(dc, *to_agni("m1"))
    (first,) = rig.pushed()
    assert rig.ack(rushabdev, first["token"], "12345.1") == [False, False]
    assert rig.ack(dc, first["token"]) == [False]
    assert rig.states(dc, "m1") == {"m1": "delivered"}


@pytest.mark.parametrize("loss", ["lease", "session", "restart", "dead", "expired", "cancelled"])
def test_an_ack_counts_whatever_happened_in_between(rig: Rig, dc: int, agni: int, tmp_path: Path, loss: str) -> None:
    rig.attach(agni)
    rig.send(dc, *to_agni("m1", ttl_ms=100_000))
    (first,) = rig.pushed()
    if loss == "lease":
        rig.advance(60.5)
    elif loss == "session":
        rig.leave(agni)
        agni = rig.join("agni")
    elif loss == "restart":
        rig = restarted(rig, tmp_path)
        agni, dc = rig.join("agni"), rig.join("dc")
    elif loss == "dead":
        rig.nack(agni, first["token"], requeue=False)
    elif loss == "expired":
        rig.leave(agni)
        rig.advance(111)
        agni = rig.join("agni")
    else:
        assert rig.call(dc, uris.MAILBOX_CANCEL, ["m1"]) == [True]
    assert rig.ack(agni, first["token"]) == [True]
    assert rig.states(dc, "m1") == {"m1": "done"}
    assert rig.node.mailroom.counts("agni") == (0, 0)
    rig.attach(agni)
    rig.advance(120)
    assert rig.pushed() == []


def test_an_ack_the_store_refuses_settles_nothing(
    rig: Rig, store: HeldStore, dc: int, agni: int, logged_errors: LoggedErrors
) -> None:
    rig.attach(agni)
    rig.send(dc, *to_agni("m1"))
    (first,) = rig.pushed()
    store.fail_next("settle", StorageFull("full"))
    with pytest.raises(StorageFull):
        rig.ack(agni, first["token"])
    assert rig.node.mailroom.counts("agni") == (1, 0)
    rig.advance(4.5)
    assert rig.pushed() == []
    rig.advance(1)
    (second,) = rig.pushed()
    assert second["attempt"] == 2
    assert rig.ack(agni, second["token"]) == [True]
    assert rig.node.mailroom.counts("agni") == (0, 0)


def test_an_ack_whose_look_up_fails_leaves_nothing_stuck(rig: Rig, store: HeldStore, dc: int, agni: int) -> None:
    rig.attach(agni, window=1)
    rig.send(dc, *to_agni("m1"))
    (first,) = rig.pushed()
    store.fail_next("at_positions", StorageFailed("the disk is away"))
    with pytest.raises(StorageFailed):
        rig.ack(agni, first["token"], "999.1")
    assert rig.ack(agni, first["token"], "999.1") == [True, False]
    rig.send(dc, *to_agni("m2"))
    assert rig.ids() == ["m2"]


def test_an_ack_waits_for_the_same_ack_that_is_under_way(rig: Rig, store: HeldStore, dc: int, agni: int) -> None:
    rig.attach(agni)
    rig.send(dc, *to_agni("m1"))
    (first,) = rig.pushed()
    store.holding = True
    store.fail_next("settle", StorageFull("full"))
    one = rig.begin(agni, uris.MAILBOX_ACK, [first["token"]])
    other = rig.begin(agni, uris.MAILBOX_ACK, [first["token"]])
    assert not one.called
    assert not other.called
    store.let_all()
    store.holding = False
    with pytest.raises(StorageFull):
        result_of(one)
    # Who was told that it is done may rely on it, whatever became of the other's try.
    assert result_of(other) == [True]
    assert rig.states(dc, "m1") == {"m1": "done"}
    assert rig.node.mailroom.counts("agni") == (0, 0)


def test_an_ack_during_a_cancel_wins(rig: Rig, store: HeldStore, dc: int, agni: int) -> None:
    rig.attach(agni)
    rig.send(dc, *to_agni("m1"))
    (first,) = rig.pushed()
    store.holding = True
    cancelled = rig.begin(dc, uris.MAILBOX_CANCEL, ["m1"])
    store.let_read()
    store.let_write(1)
    while store.waiting and store.waiting[0] != "settle":
        store.let_write(1)
    acked = rig.begin(agni, uris.MAILBOX_ACK, [first["token"]])
    store.let_all()
    store.holding = False
    assert result_of(cancelled) == [True]
    assert result_of(acked) == [True]
    assert rig.states(dc, "m1") == {"m1": "done"}
    assert rig.node.mailroom.counts("agni") == (0, 0)


def test_an_ack_during_a_cancel_that_fails_is_durable_too(rig: Rig, store: HeldStore, dc: int, agni: int) -> None:
    rig.attach(agni)
    rig.send(dc, *to_agni("m1"))
    (first,) = rig.pushed()
    store.holding = True
    cancelled = rig.begin(dc, uris.MAILBOX_CANCEL, ["m1"])
    store.let_read()
    while store.waiting and store.waiting[0] != "at_positions":
        store.let_write(1)
    store.fail_next("settle", StorageFull("full"))
    store.let_write(1)
    acked = rig.begin(agni, uris.MAILBOX_ACK, [first["token"]])
    store.let_all()
    store.holding = False
    with pytest.raises(StorageFull):
        result_of(cancelled)
    assert result_of(acked) == [True]
    assert rig.states(dc, "m1") == {"m1": "done"}
    assert rig.node.mailroom.counts("agni") == (0, 0)
    rig.advance(120)
    assert rig.pushed() == []


# -- a full store ------------------------------------------------------------------------------------------------------


def test_dead_letters_that_could_not_be_written_are_tried_again(rig: Rig, store: HeldStore, dc: int, agni: int) -> None:
    rig.attach(agni)
    rig.send(dc, *to_agni("m1", "m2", "m3"))
    rig.pushed()
    for lease in rig.node.mailroom.leases.values():
        if lease.entry.id != "m3":
            lease.entry.failures = 4
    # The leases run out together: two are dead then, one comes again; and the disk is full.
    store.fail_next("give_back", StorageFull("full"))
    store.fail_next("settle", StorageFull("full"))
    rig.advance(66.5)
    back = rig.pushed()
    assert sorted(one["message"]["id"] for one in back) == ["m1", "m2", "m3"]
    assert rig.ack(agni, *(one["token"] for one in back)) == [True, True, True]
    assert rig.node.mailroom.counts("agni") == (0, 0)


def test_a_delivery_that_cannot_be_noted_is_made_all_the_same(rig: Rig, store: HeldStore, dc: int, agni: int) -> None:
    rig.attach(agni)
    store.fail_next("deliver", StorageFull("full"))
    rig.send(dc, *to_agni("m1"))
    (first,) = rig.pushed()
    assert rig.ack(agni, first["token"]) == [True]


# -- fetch -------------------------------------------------------------------------------------------------------------


def test_fetch_takes_what_is_there_and_proves_what_is_not(rig: Rig, dc: int, agni: int) -> None:
    rig.send(dc, *to_agni("m1", "m2", "m3"))
    got = rig.fetch(agni, max=2)
    assert [one["message"]["id"] for one in got["deliveries"]] == ["m1", "m2"]
    assert (got["pending"], got["in_flight"], got["epoch"]) == (1, 2, "epoch-1")
    rig.ack(agni, *(one["token"] for one in got["deliveries"]))
    last = rig.fetch(agni)
    rig.ack(agni, *(one["token"] for one in last["deliveries"]))
    empty = rig.fetch(agni)
    assert (empty["deliveries"], empty["pending"], empty["in_flight"]) == ([], 0, 0)
    assert empty["high_water"] == rig.store.high_water


def test_fetch_waits_for_the_first_message(rig: Rig, dc: int, agni: int) -> None:
    answer = rig.begin(agni, uris.MAILBOX_FETCH, {"wait_s": 30})
    rig.advance(10)
    assert not answer.called
    rig.send(dc, *to_agni("m1"))
    rig.settle()
    assert [one["message"]["id"] for one in result_of(answer)["deliveries"]] == ["m1"]


def test_fetch_waits_no_longer_than_it_said(rig: Rig, agni: int) -> None:
    answer = rig.begin(agni, uris.MAILBOX_FETCH, {"wait_s": 30})
    rig.advance(29.5)
    assert not answer.called
    rig.advance(0.75)
    assert result_of(answer)["deliveries"] == []


def test_two_waiting_fetches_share_what_comes(rig: Rig, dc: int, agni: int) -> None:
    other = rig.join("agni")
    one = rig.begin(agni, uris.MAILBOX_FETCH, {"wait_s": 30, "max": 1})
    two = rig.begin(other, uris.MAILBOX_FETCH, {"wait_s": 30, "max": 1})
    rig.send(dc, *to_agni("m1", "m2"))
    rig.advance(0.5)
    assert [d["message"]["id"] for d in result_of(one)["deliveries"]] == ["m1"]
    assert [d["message"]["id"] for d in result_of(two)["deliveries"]] == ["m2"]


def test_fetch_is_refused_while_another_session_is_attached(rig: Rig, agni: int) -> None:
    rig.attach(agni)
    script = rig.join("agni")
    with pytest.raises(MailboxBusy) as caught:
        rig.fetch(script)
    assert caught.value.sentence == (
        f"the mailbox of agni is being pushed to session {agni}; stop that agent, or fetch for an instance of your own"
    )
    assert rig.fetch(agni)["deliveries"] == []


def test_a_fetch_takes_no_more_bytes_than_an_event(rig: Rig, dc: int, agni: int) -> None:
    # A WebSocket message has a limit: an answer over it would end the session, again and again.
    rig.send(dc, *to_agni("m1", "m2", "m3", "m4", "m5", payload="x" * 400_000))
    got = [[one["message"]["id"] for one in rig.fetch(agni, max=64)["deliveries"]] for _ in range(4)]
    assert got == [["m1", "m2"], ["m3", "m4"], ["m5"], []]


def test_what_a_session_fetched_comes_back_when_it_leaves(rig: Rig, dc: int, agni: int) -> None:
    rig.send(dc, *to_agni("m1"))
    rig.fetch(agni)
    rig.leave(agni)
    other = rig.join("agni")
    (again,) = rig.fetch(other)["deliveries"]
    assert again["attempt"] == 2


def test_a_fetch_whose_session_left_while_bodies_were_read_takes_nothing(
    rig: Rig, store: HeldStore, dc: int, agni: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_bodies_in_memory(monkeypatch)
    rig.send(dc, *to_agni("m1"))
    store.holding = True
    answer = rig.begin(agni, uris.MAILBOX_FETCH)
    rig.leave(agni)
    store.let_all()
    store.holding = False
    assert result_of(answer)["deliveries"] == []
    other = rig.join("agni")
    (delivery,) = rig.fetch(other)["deliveries"]
    assert delivery["attempt"] == 1


def test_a_waiting_fetch_ends_with_its_session(rig: Rig, dc: int, agni: int) -> None:
    answer = rig.begin(agni, uris.MAILBOX_FETCH, {"wait_s": 30})
    rig.leave(agni)
    assert result_of(answer)["deliveries"] == []
    rig.send(dc, *to_agni("m1"))
    assert rig.node.mailroom.counts("agni") == (1, 0)


def test_a_fetch_that_looks_into_the_store_when_its_time_is_over_is_answered(
    rig: Rig, store: HeldStore, dc: int, agni: int
) -> None:
    answer = rig.begin(agni, uris.MAILBOX_FETCH, {"wait_s": 5})
    # It is woken, and must read on in the store first, which takes longer than it is willing to wait.
    mailbox = rig.node.mailroom.mailbox("agni")
    mailbox._frontier = mailbox_module.BEFORE_ALL
    store.holding = True
    rig.node.delivery.pump("agni")
    rig.advance(1)
    # Beside it the housekeeping has the file made smaller.
    assert [call for call in store.waiting if call != "shrink"] == ["head"]
    rig.advance(5)
    store.let_all()
    store.holding = False
    rig.advance(1)
    assert result_of(answer)["deliveries"] == []


def test_a_fetch_that_looks_into_the_store_when_its_session_leaves_takes_nothing(
    rig: Rig, store: HeldStore, dc: int, agni: int
) -> None:
    answer = rig.begin(agni, uris.MAILBOX_FETCH, {"wait_s": 60})
    mailbox = rig.node.mailroom.mailbox("agni")
    mailbox._frontier = mailbox_module.BEFORE_ALL
    store.holding = True
    rig.node.delivery.pump("agni")
    rig.advance(1)
    rig.leave(agni)
    store.let_all()
    store.holding = False
    assert result_of(answer)["deliveries"] == []
    rig.send(dc, *to_agni("m1"))
    assert rig.node.mailroom.counts("agni") == (1, 0)


def test_waiting_fetches_leave_nothing_behind(rig: Rig, agni: int) -> None:
    for index in range(3):
        answer = rig.begin(agni, uris.MAILBOX_FETCH, {"wait_s": 1, "instance": f"i{index}"})
        rig.advance(1.5)
        assert result_of(answer)["deliveries"] == []
    assert rig.node.delivery.fetches.awaited() == []


# -- callers that go away ----------------------------------------------------------------------------------------------


def test_a_send_whose_caller_goes_away_is_delivered(rig: Rig, store: HeldStore, dc: int, agni: int) -> None:
    # Crossbar interrupts the calls of a session that is gone; what is on its way into the store must not be forgotten.
    rig.attach(agni)
    store.holding = True
    receipts = rig.begin(dc, uris.MAILBOX_SEND, [{"type": "STATUS", "id": "m1", "to": "agni"}])
    receipts.cancel()
    with pytest.raises(CancelledError):
        result_of(receipts)
    store.let_all()
    assert rig.ids() == ["m1"]


def test_an_ack_whose_caller_goes_away_settles(rig: Rig, store: HeldStore, dc: int, agni: int) -> None:
    rig.attach(agni)
    rig.send(dc, *to_agni("m1"))
    (first,) = rig.pushed()
    store.holding = True
    acked = rig.begin(agni, uris.MAILBOX_ACK, [first["token"]])
    acked.cancel()
    with pytest.raises(CancelledError):
        result_of(acked)
    store.let_all()
    store.holding = False
    assert rig.node.mailroom.counts("agni") == (0, 0)
    assert rig.states(dc, "m1") == {"m1": "done"}


def test_a_fetch_whose_caller_goes_away_loses_nothing(
    rig: Rig, store: HeldStore, dc: int, agni: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_bodies_in_memory(monkeypatch)
    rig.send(dc, *to_agni("m1"))
    store.holding = True
    fetched = rig.begin(agni, uris.MAILBOX_FETCH)
    fetched.cancel()
    with pytest.raises(CancelledError):
        result_of(fetched)
    rig.leave(agni)
    store.let_all()
    store.holding = False
    other = rig.join("agni")
    assert [one["message"]["id"] for one in rig.fetch(other)["deliveries"]] == ["m1"]


# -- expiry and cancellation -------------------------------------------------------------------------------------------


def test_an_old_message_expires_even_if_nobody_asks(rig: Rig, dc: int) -> None:
    rig.send(dc, *to_agni("m1", ttl_ms=5000))
    rig.advance(11)
    assert rig.states(dc, "m1") == {"m1": "expired"}
    assert rig.outlet.news[-1].reason == "its time to live was over"
    assert rig.node.mailroom.counts("agni") == (0, 0)


def test_an_expired_message_is_not_delivered(rig: Rig, dc: int, agni: int) -> None:
    rig.send(dc, *to_agni("m1", ttl_ms=1000), *to_agni("m2"))
    rig.advance(2)
    rig.attach(agni)
    assert rig.ids() == ["m2"]
    assert rig.states(dc, "m1") == {"m1": "expired"}


def test_expiry_leaves_alone_what_is_out(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(agni)
    rig.send(dc, *to_agni("m1", ttl_ms=1000))
    (first,) = rig.pushed()
    rig.advance(30)
    assert rig.states(dc, "m1") == {"m1": "delivered"}
    assert rig.ack(agni, first["token"]) == [True]
    assert rig.states(dc, "m1") == {"m1": "done"}


def test_an_expired_message_that_comes_back_is_not_delivered_again(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(agni)
    rig.send(dc, *to_agni("m1", ttl_ms=1000))
    rig.pushed()
    rig.advance(62)
    assert rig.pushed() == []
    assert rig.states(dc, "m1") == {"m1": "expired"}


def test_one_round_expires_all_there_is(rig: Rig, dc: int) -> None:
    for start in range(0, 2500, 500):
        rig.send(dc, *to_agni(*(f"m{start + index}" for index in range(500)), ttl_ms=1000))
    rig.advance(10.5)
    assert rig.node.mailroom.counts("agni") == (0, 0)


def test_cancel_of_a_waiting_message(rig: Rig, dc: int, agni: int) -> None:
    rig.send(dc, *to_agni("m1", "m2"))
    assert rig.call(dc, uris.MAILBOX_CANCEL, ["m1", "unknown"]) == [True, False]
    assert rig.call(dc, uris.MAILBOX_CANCEL, ["m1"]) == [False]
    rig.attach(agni)
    assert rig.ids() == ["m2"]
    assert rig.states(dc, "m1") == {"m1": "cancelled"}


def test_cancel_of_a_message_that_is_out_frees_the_window(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(agni, window=1)
    rig.send(dc, *to_agni("m1", "m2"))
    assert rig.ids() == ["m1"]
    assert rig.call(dc, uris.MAILBOX_CANCEL, ["m1"]) == [True]
    assert rig.ids() == ["m2"]


def test_only_the_sender_cancels(rig: Rig, dc: int, agni: int) -> None:
    rig.send(dc, *to_agni("m1"))
    assert rig.call(agni, uris.MAILBOX_CANCEL, ["m1"]) == [False]
    assert rig.call(rig.join("rushabdev"), uris.MAILBOX_CANCEL, ["m1"]) == [False]
    assert rig.states(dc, "m1") == {"m1": "accepted"}


# -- restart -----------------------------------------------------------------------------------------------------------


def test_a_restart_delivers_what_was_open_and_nothing_else(rig: Rig, dc: int, agni: int, tmp_path: Path) -> None:
    rig.attach(agni, window=2)
    rig.send(dc, *to_agni("m1", "m2", "m3"))
    first, _ = rig.pushed()
    rig.ack(agni, first["token"])
    rig.pushed()
    rig = restarted(rig, tmp_path)
    assert rig.node.mailroom.counts("agni") == (2, 0)
    agni = rig.join("agni")
    rig.attach(agni)
    assert [(one["message"]["id"], one["attempt"]) for one in rig.pushed()] == [("m2", 2), ("m3", 2)]


def test_a_restart_keeps_pauses_and_failures(rig: Rig, dc: int, agni: int, tmp_path: Path) -> None:
    rig.attach(agni)
    rig.send(dc, *to_agni("m1"))
    for pause_s in (1, 2, 4):
        (delivery,) = rig.pushed()
        rig.nack(agni, delivery["token"])
        rig.advance(pause_s + 0.25)
    (delivery,) = rig.pushed()
    rig.nack(agni, delivery["token"])
    rig = restarted(rig, tmp_path)
    agni = rig.join("agni")
    rig.attach(agni)
    rig.advance(7)
    assert rig.pushed() == []
    rig.advance(2)
    (delivery,) = rig.pushed()
    assert delivery["attempt"] == 5
    rig.nack(agni, delivery["token"])
    assert rig.states(agni, "m1") == {"m1": "dead"}


# -- instances ---------------------------------------------------------------------------------------------------------


def test_an_instance_has_a_mailbox_of_its_own(rig: Rig, dc: int, agni: int) -> None:
    rig.attach(agni)
    script = rig.join("agni")
    rig.fetch(script, instance="7f3a")
    (receipt,) = rig.send(dc, {"id": "m1", "to": "agni/7f3a"})
    assert receipt["status"] == "accepted"
    assert rig.pushed() == []
    (delivery,) = rig.fetch(script, instance="7f3a")["deliveries"]
    assert delivery["message"]["to"] == "agni/7f3a"
    assert rig.ack(script, delivery["token"]) == [True]


def test_an_instances_mailbox_ends_some_time_after_its_session(rig: Rig, dc: int) -> None:
    script = rig.join("agni")
    rig.attach(script, instance="7f3a")
    rig.send(dc, {"id": "m1", "to": "agni/7f3a"})
    rig.leave(script)
    rig.advance(295)
    (receipt,) = rig.send(dc, {"id": "m2", "to": "agni/7f3a"})
    assert receipt["status"] == "accepted"
    rig.advance(20)
    (receipt,) = rig.send(dc, {"id": "m3", "to": "agni/7f3a"})
    assert receipt["error"] == "trishula.error.instance_unknown"
    assert rig.states(dc, "m1", "m2") == {"m1": "expired", "m2": "expired"}
    assert "agni/7f3a" not in rig.node.mailroom._mailboxes


def test_a_mailbox_whose_end_could_not_be_written_is_closed_later(rig: Rig, store: HeldStore, dc: int) -> None:
    for name in ("one", "two"):
        script = rig.join("agni")
        rig.attach(script, instance=name)
        rig.send(dc, {"id": name, "to": f"agni/{name}"})
        rig.leave(script)
    rig.advance(299)
    store.fail_next("head", StorageFailed("the disk is away"))
    rig.advance(332)
    assert rig.states(dc, "one", "two") == {"one": "expired", "two": "expired"}


# -- the store's own order ---------------------------------------------------------------------------------------------


def test_policy_is_the_nodes_own(tmp_path: Path, store: HeldStore) -> None:
    rig = Rig(tmp_path, store, Clock(), policy=replace(POLICY, window=3, max_attempts=1)).start()
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    rig.send(dc, *to_agni("m1", "m2", "m3", "m4"))
    deliveries = rig.pushed()
    assert len(deliveries) == 3
    rig.nack(agni, deliveries[0]["token"])
    assert rig.states(dc, "m1") == {"m1": "dead"}
    stored = result_of(store.at_positions([int(deliveries[0]["token"].partition(".")[0])]))
    assert [one.state for one in stored.values()] == [State.DEAD]
