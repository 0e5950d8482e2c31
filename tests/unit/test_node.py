"""The node without a router: its start and end, its callers, what each procedure answers and refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.conftest import LoggedErrors
from tests.support.nodes import Rig
from tests.support.stores import HeldStore, result_of
from trishula.contract import uris
from trishula.errors import (
    AgentUnknown,
    ArgumentInvalid,
    NodeStopping,
    NotAllowed,
    StorageFailed,
    StorageFull,
    TrishulaError,
)
from trishula_router.agents.file import AgentEntry, update_agents
from trishula_router.mail.mailroom import Leases
from trishula_router.store.memory import MemoryStore


@pytest.fixture
def store() -> HeldStore:
    return HeldStore(MemoryStore("epoch-1"))


@pytest.fixture
def rig(tmp_path: Path, store: HeldStore) -> Rig:
    return Rig(tmp_path, store, Clock()).start()


def kinds(store: HeldStore) -> list[str]:
    return [record.kind for record in result_of(store.inner.records(after=0, limit=1000))]


# -- life --------------------------------------------------------------------------------------------------------------


def test_a_life_in_the_journal(rig: Rig, store: HeldStore) -> None:
    agni = rig.join("agni")
    rig.attach(agni)
    newer = rig.join("agni")
    rig.attach(newer)
    rig.leave(agni)
    rig.stop()
    assert kinds(store) == ["node_started", "joined", "joined", "taken_over", "left", "node_stopped"]


def test_a_node_that_stops_takes_no_more_calls(rig: Rig) -> None:
    dc = rig.join("dc")
    rig.stop()
    with pytest.raises(NodeStopping) as caught:
        rig.send(dc, {"id": "m1", "to": "agni"})
    assert caught.value.temporary


def test_a_node_stops_once(rig: Rig, store: HeldStore) -> None:
    rig.stop()
    result_of(Deferred.fromCoroutine(rig.node.stop()))
    assert kinds(store).count("node_stopped") == 1


def test_a_node_with_a_full_store_starts_and_delivers(
    tmp_path: Path, rig: Rig, store: HeldStore, logged_errors: LoggedErrors
) -> None:
    rig.send(rig.join("dc"), {"id": "m1", "to": "agni"})
    rig.crash()
    store.fail_next("note", StorageFull("full"))
    rig = Rig(tmp_path, store, rig.clock).start()
    assert len(logged_errors.flush(StorageFull)) == 1
    agni = rig.join("agni")
    rig.attach(agni)
    assert rig.ids() == ["m1"]


def test_a_node_with_a_full_store_closes_it_when_it_stops(
    rig: Rig, store: HeldStore, logged_errors: LoggedErrors
) -> None:
    store.fail_next("note", StorageFull("full"))
    rig.stop()
    assert len(logged_errors.flush(StorageFull)) == 1


def test_of_a_store_that_fails_the_node_logs_nothing_at_each_turn(rig: Rig, store: HeldStore) -> None:
    # The store itself says when it begins to fail and when it works again; an error that is logged fails this test.
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.send(dc, *({"id": f"m{index}", "to": "agni", "ttl_ms": 90_000} for index in range(3)))
    for verb in ("note", "deliver", "settle", "give_back", "expired", "forget", "remember"):
        store.fail_next(verb, *[StorageFailed("the disk is away")] * 5)
    rig.attach(agni, window=1)
    rig.advance(61)
    rig.leave(agni)
    rig.attach(rig.join("agni"), window=1)
    rig.advance(300)
    assert rig.states(dc, "m0", "m1", "m2") == {"m0": "expired", "m1": "expired", "m2": "expired"}


def test_a_round_that_fails_does_not_end_the_housekeeping(
    rig: Rig, store: HeldStore, logged_errors: LoggedErrors
) -> None:
    dc = rig.join("dc")
    rig.send(dc, {"id": "m1", "to": "agni", "ttl_ms": 1000})
    store.fail_next("expired", ZeroDivisionError("a bug"))
    rig.advance(11)
    assert len(logged_errors.flush(ZeroDivisionError)) == 1
    assert rig.states(dc, "m1") == {"m1": "accepted"}
    rig.advance(11)
    assert rig.states(dc, "m1") == {"m1": "expired"}


def test_the_agents_file_is_read_again_when_it_changes(rig: Rig) -> None:
    dc = rig.join("dc")
    with update_agents(rig.agents_file) as agents:
        agents["newcomer"] = AgentEntry()
    rig.advance(0.5)
    assert rig.send(dc, {"id": "m1", "to": "newcomer"})[0]["status"] == "accepted"


@pytest.mark.parametrize("others", [0, 100])
def test_a_tick_of_an_idle_node_costs_the_same_however_many_agents_there_are(
    tmp_path: Path, store: HeldStore, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    names = [f"a{index}" for index in range(others)]
    rig = Rig(tmp_path, store, Clock(), agents=["dc", "agni", *names]).start()
    dc = rig.join("dc")
    for name in names:
        rig.attach(rig.join(name))
        # Each has something open, so that its mailbox and its lease are there.
        rig.send(dc, {"id": f"to-{name}", "to": name})
    rig.advance(2)
    work: list[str] = []
    for owner, verb in (
        (rig.node.delivery, "pump"),
        (rig.node.principals, "reason_to_leave"),
        (rig.node.directory, "entry"),
    ):
        monkeypatch.setattr(owner, verb, lambda *_, verb=verb: work.append(verb))
    looked_at = CountingLeases()
    for position, lease in rig.node.mailroom.leases.items():
        looked_at[position] = lease
    rig.node.mailroom.leases = looked_at
    rig.advance(5)
    assert work == []
    assert looked_at.looks <= 1
    # Nor does it look at what the others have when one leaves.
    monkeypatch.undo()
    rig.leave(dc)
    assert looked_at.looks <= 1


class CountingLeases(Leases):
    looks = 0

    def values(self) -> Any:
        self.looks += 1
        return super().values()


# -- callers -----------------------------------------------------------------------------------------------------------


def test_a_call_that_comes_after_its_session_left_is_refused(rig: Rig) -> None:
    # It would attach a session that nobody will ever say good-bye for: what is pushed to it waits for its leases.
    agni = rig.join("agni")
    rig.leave(agni)
    with pytest.raises(NotAllowed) as caught:
        rig.attach(agni)
    assert caught.value.sentence == f"session {agni} of agni is gone; join again"
    assert rig.call(rig.join("dc"), uris.DIRECTORY_GET, "agni")["sessions"] == 0


def test_a_first_call_may_overtake_the_news_of_its_join(rig: Rig) -> None:
    rig._agent_of[77] = ("agni", "agent")
    rig.attach(77)
    rig.join("agni", session=77)
    assert rig.call(77, uris.DIRECTORY_GET, "agni")["sessions"] == 1
    rig.leave(77)
    assert rig.call(rig.join("dc"), uris.DIRECTORY_GET, "agni")["sessions"] == 0


def test_a_session_nobody_knows_may_leave(rig: Rig, store: HeldStore) -> None:
    before = kinds(store)
    rig.leave(4711)
    assert kinds(store) == before


def test_after_a_restart_an_answer_finds_the_script_that_asked(tmp_path: Path, rig: Rig) -> None:
    script = rig.join("dc")
    rig.attach(script, instance="s1")
    question = {"type": "COMMAND", "id": "q1", "to": "agni", "from": "dc/s1", "procedure": "p"}
    rig.send(script, question)
    rig.crash()
    rig = Rig(tmp_path, rig.store, rig.clock).start()
    agni = rig.join("agni")
    rig.attach(agni)
    assert rig.ids() == ["q1"]
    (receipt,) = rig.send(agni, {"type": "RESULT", "id": "q1.result", "to": "dc/s1", "reply_to": "q1"})
    assert receipt["status"] == "accepted"
    script = rig.join("dc")
    rig.attach(script, instance="s1")
    assert rig.ids(script) == ["q1.result"]


def test_a_refused_name_that_is_no_text_is_in_the_journal(rig: Rig) -> None:
    boss = rig.join("agni", operator=True)
    asked = {"authid": "dc", "authrole": "agent"}
    assert not rig.node.authorizer.authorize(asked, f"{uris.NODE_PREFIX}\ud800", "call", None)["allow"]
    (record,) = rig.call(boss, uris.AUDIT_QUERY, {"kind": "refused"})["records"]
    assert record["detail"].startswith(f"call {uris.NODE_PREFIX}\\ud800: it is for operators")


def test_who_is_there_is_announced(rig: Rig) -> None:
    agni = rig.join("agni")
    rig.attach(agni)
    rig.leave(agni)
    rig.advance(31)
    told = [(event["agent"], event["presence"]) for topic, event in rig.outlet.announced if topic == uris.EVENT_AGENT]
    assert told == [("agni", "online"), ("agni", "offline")]


# -- procedures --------------------------------------------------------------------------------------------------------

FAULTS: list[tuple[str, tuple[Any, ...], type[TrishulaError], str]] = [
    (uris.MAILBOX_SEND, (), ArgumentInvalid, "send was called with 0 positional arguments; it takes 1 to 2"),
    (uris.MAILBOX_SEND, ("x",), ArgumentInvalid, 'messages is "x"; it must be a list'),
    (uris.MAILBOX_ACK, ([], []), ArgumentInvalid, "ack was called with 2 positional arguments; it takes 1"),
    (uris.MAILBOX_NACK, (None,), ArgumentInvalid, "items is null; it must be a list"),
    (uris.MAILBOX_WORKING, ("x", 1), ArgumentInvalid, 'token is "x"; it must be the token of a delivery'),
    (
        uris.DIRECTORY_GET,
        ("nobody",),
        AgentUnknown,
        'no agent "nobody" is registered at this node; `trishula agents` lists those that are',
    ),
    (uris.DIRECTORY_LIST, (1,), ArgumentInvalid, "list was called with 1 positional arguments; it takes 0"),
    (uris.AUDIT_VERIFY, (1,), ArgumentInvalid, "verify was called with 1 positional arguments; it takes 0"),
    (uris.NODE_STATUS, (1,), ArgumentInvalid, "status was called with 1 positional arguments; it takes 0"),
]


@pytest.mark.parametrize(("uri", "args", "kind", "sentence"), FAULTS)
def test_bad_arguments(rig: Rig, uri: str, args: tuple[Any, ...], kind: type[TrishulaError], sentence: str) -> None:
    with pytest.raises(kind) as caught:
        rig.call(rig.join("dc"), uri, *args)
    assert caught.value.sentence == sentence


def test_a_nack_with_one_bad_item_changes_nothing(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    rig.send(dc, {"id": "m1", "to": "agni"})
    (first,) = rig.pushed()
    with pytest.raises(ArgumentInvalid):
        rig.call(agni, uris.MAILBOX_NACK, [{"token": first["token"], "requeue": False}, {"token": "x"}])
    assert rig.states(dc, "m1") == {"m1": "delivered"}


def test_the_nodes_status(rig: Rig) -> None:
    dc = rig.join("dc")
    rig.send(dc, {"id": "m1", "to": "agni"}, {"id": "m2", "to": "rushabdev"})
    rig.fetch(rig.join("agni"))
    status = rig.call(dc, uris.NODE_STATUS)
    assert (status["node"], status["epoch"], status["pending"], status["in_flight"]) == ("single", "epoch-1", 1, 1)
    assert (status["agents"], status["high_water"]) == (3, rig.store.high_water)
    assert status["agents_file_fault"] is None
