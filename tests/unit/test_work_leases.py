"""Work leases at one node and at two: who has what, whose turn it is, what a restart and a cut link leave of it."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from tests.support.pair import Nodes
from tests.support.stores import HeldStore, result_of
from trishula.contract import uris
from trishula.errors import ArgumentInvalid, LeasesExceeded, LeaseUnknown, LeaseUnsure, StorageFull
from trishula_router.leases.agreement import Agreement
from trishula_router.leases.book import Book
from trishula_router.peers.journal_policy import Replication
from trishula_router.store.interface import Store
from trishula_router.store.lease_facts import LeaseFacts
from trishula_router.store.memory import MemoryStore
from trishula_router.store.runs import Origin


@pytest.fixture
def store() -> HeldStore:
    return HeldStore(MemoryStore("epoch-1"))


@pytest.fixture
def rig(tmp_path: Path, store: HeldStore) -> Rig:
    return Rig(tmp_path, store, Clock()).start()


def claim(rig: Rig, session: int, scope: str = "path:src", **options: Any) -> dict[str, Any]:
    told: dict[str, Any] = rig.call(session, uris.LEASE_CLAIM, scope, options or None)
    return told


def listed(rig: Rig, session: int) -> list[tuple[str, str, str]]:
    return [(one["state"], one["scope"], one["holder"]) for one in rig.call(session, uris.LEASE_LIST)]


def letters(rig: Rig, session: int) -> list[tuple[str, str]]:
    """What the node told the agent of a session by messages, which are acknowledged."""
    found = rig.fetch(session)["deliveries"]
    rig.ack(session, *[one["token"] for one in found])
    return [(one["message"]["payload"]["event"], one["message"]["payload"]["message"]) for one in found]


# -- one node ----------------------------------------------------------------------------------------------------------


def test_a_lease_is_granted_and_tells_who_has_it(rig: Rig) -> None:
    dc = rig.join("dc")
    told = claim(rig, dc, "path:src/**", note="renames", ttl_s=60)
    assert told["state"] == "granted"
    assert (told["holder"], told["note"], told["ttl_s"], told["provisional"]) == ("dc", "renames", 60.0, False)
    assert told["fence"] > 0
    assert rig.call(dc, uris.LEASE_LIST) == [told]


def test_what_overlaps_is_refused_and_the_refusal_names_the_holder(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    mine = claim(rig, dc, "path:src/**", note="renames")
    told = claim(rig, agni, "path:*/a.py")
    assert (told["state"], told["fence"]) == ("refused", None)
    assert told["blockers"] == [{"id": mine["id"], "scope": "path:src/**", "holder": "dc", "note": "renames"}]
    assert claim(rig, agni, "path:docs")["state"] == "granted"
    assert claim(rig, agni, "task:src")["state"] == "granted"


def test_shared_leases_bear_each_other_and_no_exclusive_one(rig: Rig) -> None:
    dc, agni, boss = rig.join("dc"), rig.join("agni"), rig.join("rushabdev")
    assert claim(rig, dc, shared=True)["state"] == "granted"
    assert claim(rig, agni, shared=True)["state"] == "granted"
    assert claim(rig, boss)["state"] == "refused"


def test_sessions_of_one_agent_share_what_it_has(rig: Rig) -> None:
    one, other = rig.join("dc"), rig.join("dc")
    first = claim(rig, one)
    again = claim(rig, other)
    assert (again["id"], again["fence"]) == (first["id"], first["fence"])
    assert claim(rig, other, "path:src/a.py")["state"] == "granted"


def test_fencing_tokens_grow(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    fences = []
    for session in (dc, agni, dc, agni):
        told = claim(rig, session)
        fences.append(told["fence"])
        rig.call(session, uris.LEASE_RELEASE, told["id"])
    assert fences == sorted(set(fences))


def test_they_grow_over_a_restart_also_if_the_clock_went_back(tmp_path: Path, rig: Rig, store: HeldStore) -> None:
    dc = rig.join("dc")
    rig.advance(600)
    told = claim(rig, dc)
    rig.call(dc, uris.LEASE_RELEASE, told["id"])
    rig.crash()
    again = Rig(tmp_path, store, rig.clock, ahead_ms=-7_200_000).start()
    assert claim(again, again.join("dc"))["fence"] > told["fence"]


def test_claims_have_their_turn_in_order_and_who_no_longer_waits_for_the_answer_gets_a_message(rig: Rig) -> None:
    dc, agni, boss = rig.join("dc"), rig.join("agni"), rig.join("rushabdev")
    mine = claim(rig, dc)
    assert claim(rig, agni, queue=True)["state"] == "waiting"
    second = claim(rig, boss, "path:src/b", queue=True)
    assert (second["state"], second["before"]) == ("waiting", 1)
    # Who comes later doesn't overtake, also where only a claim that waits is in the way.
    rig.call(dc, uris.LEASE_RELEASE, mine["id"])
    rig.settle()
    assert listed(rig, dc) == [("granted", "path:src", "agni"), ("waiting", "path:src/b", "rushabdev")]
    assert letters(rig, agni) == [("granted", "path:src is yours now; release it when you are through")]
    assert letters(rig, boss) == []


def test_a_call_waits_for_its_turn(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    mine = claim(rig, dc)
    waiting = rig.begin(agni, uris.LEASE_CLAIM, "path:src", {"wait_s": 30})
    rig.advance(5)
    assert not waiting.called
    rig.call(dc, uris.LEASE_RELEASE, mine["id"])
    rig.settle()
    assert result_of(waiting)["state"] == "granted"
    # It was told by the answer.
    assert letters(rig, agni) == []


def test_a_claim_that_waited_long_enough_is_gone(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    claim(rig, dc)
    waiting = rig.begin(agni, uris.LEASE_CLAIM, "path:src", {"wait_s": 5})
    rig.advance(6)
    assert result_of(waiting)["state"] == "refused"
    assert listed(rig, dc) == [("granted", "path:src", "dc")]
    assert letters(rig, agni) == []


def test_a_holder_that_says_nothing_for_long_keeps_its_lease_and_one_that_is_gone_loses_it(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    claim(rig, dc, ttl_s=30)
    claim(rig, agni, queue=True)
    rig.advance(900)
    assert listed(rig, agni)[0] == ("granted", "path:src", "dc")
    rig.leave(dc)
    rig.advance(29)
    assert listed(rig, agni)[0] == ("granted", "path:src", "dc")
    rig.advance(3)
    assert listed(rig, agni) == [("granted", "path:src", "agni")]
    again = rig.join("dc")
    ((event, sentence),) = letters(rig, again) or [("", "")]
    # The node where it was gone from tells it when it is back.
    assert event == "ended" and "dc has had no session for" in sentence


def test_a_holder_is_there_while_any_session_speaks_for_it(rig: Rig) -> None:
    one, other, agni = rig.join("dc"), rig.join("dc"), rig.join("agni")
    for session in (one, other):
        rig.fetch(session, instance="7f")
    claim(rig, one, ttl_s=30)
    # For another one last, and for the first one all the same.
    rig.fetch(other, instance="8a")
    rig.leave(one)
    rig.advance(300)
    assert listed(rig, agni) == [("granted", "path:src", "dc/7f")]
    rig.leave(other)
    rig.advance(33)
    assert listed(rig, agni) == []


def test_a_holder_that_comes_back_in_time_keeps_its_lease(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    told = claim(rig, dc, ttl_s=30)
    for _ in range(5):
        rig.leave(dc)
        rig.advance(20)
        dc = rig.join("dc")
        rig.advance(1)
    assert listed(rig, agni) == [("granted", "path:src", "dc")]
    assert claim(rig, dc, ttl_s=30)["fence"] == told["fence"]


def test_a_restart_gives_a_lease_its_whole_time_anew(tmp_path: Path, rig: Rig, store: HeldStore) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    told = claim(rig, dc, ttl_s=30, note="renames")
    claim(rig, agni, queue=True)
    rig.leave(dc)
    rig.advance(20)
    rig.crash()
    again = Rig(tmp_path, store, rig.clock).start()
    agni = again.join("agni")
    again.advance(29)
    (first, _) = again.call(agni, uris.LEASE_LIST)
    assert first == told
    again.advance(2)
    assert listed(again, agni) == [("granted", "path:src", "agni")]


def test_an_operator_ends_anybodys_lease_and_its_holder_is_told_by_whom_and_why(rig: Rig) -> None:
    dc, boss = rig.join("dc"), rig.join("rushabdev", operator=True)
    told = claim(rig, dc)
    rig.call(boss, uris.ADMIN_LEASE_RELEASE, told["id"], {"reason": "the demo begins"})
    assert listed(rig, dc) == []
    rig.settle()
    assert letters(rig, dc) == [
        ("ended", "you have path:src no more: the demo begins; stop what it was for"),
    ]
    with pytest.raises(LeaseUnknown):
        rig.call(boss, uris.ADMIN_LEASE_RELEASE, told["id"], {"reason": "again"})


def test_only_the_holder_renews_and_releases(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    told = claim(rig, dc)
    for uri in (uris.LEASE_RENEW, uris.LEASE_RELEASE):
        with pytest.raises(LeaseUnknown, match="agni has no work lease"):
            rig.call(agni, uri, told["id"])
    assert rig.call(dc, uris.LEASE_RENEW, told["id"], {"ttl_s": 900})["ttl_s"] == 900.0


def test_what_could_not_be_written_was_not_granted(rig: Rig, store: HeldStore) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    store.fail_next("note", StorageFull("full"))
    with pytest.raises(StorageFull):
        claim(rig, dc)
    assert listed(rig, dc) == []
    assert claim(rig, agni)["state"] == "granted"


def test_what_can_not_be_ended_now_is_ended_later(rig: Rig, store: HeldStore) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    told = claim(rig, dc, ttl_s=2)
    store.fail_next("note", StorageFull("full"))
    with pytest.raises(StorageFull):
        rig.call(dc, uris.LEASE_RELEASE, told["id"])
    assert claim(rig, agni)["state"] == "refused"
    rig.leave(dc)
    rig.advance(1)
    store.fail_next("note", StorageFull("full"), StorageFull("full"))
    rig.advance(1.25)
    assert listed(rig, agni) == [("granted", "path:src", "dc")]
    rig.advance(3)
    assert listed(rig, agni) == []


def test_an_agent_has_so_many_at_most(rig: Rig) -> None:
    dc = rig.join("dc")
    for number in range(200):
        claim(rig, dc, f"task:{number}")
    rig.advance(1)
    with pytest.raises(LeasesExceeded, match="dc has 200 work leases"):
        claim(rig, dc, "task:more")
    assert claim(rig, dc, "task:7")["state"] == "granted"


@pytest.mark.parametrize("scope", ["", "src", "path:", "path:/src", "path:a//b", "path:../a", "task:a b", 7, "role:"])
def test_what_is_no_scope_is_refused(rig: Rig, scope: Any) -> None:
    with pytest.raises(ArgumentInvalid, match=r"scope is .*; it must be task:NAME"):
        claim(rig, rig.join("dc"), scope)


# -- two nodes ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def nodes(tmp_path: Path) -> Nodes:
    nodes = Nodes(tmp_path, {"agni": MemoryStore("epoch-a"), "rushabdev": MemoryStore("epoch-r")})
    nodes.advance(2)
    return nodes


def claims(nodes: Nodes, *which: tuple[str, int, dict[str, Any]]) -> list[dict[str, Any]]:
    """Claims of path:src at once; their answers."""
    answers = [
        nodes.rigs[node].begin(session, uris.LEASE_CLAIM, "path:src", options) for node, session, options in which
    ]
    nodes.settle()
    nodes.advance(2)
    return [result_of(answer) for answer in answers]


def at_both(nodes: Nodes) -> list[tuple[str, str, str, bool]]:
    """What both nodes say, which must be the same."""
    one, other = (
        [
            (told["state"], told["scope"], told["holder"], told["provisional"])
            for told in rig.node.leases.work_leases.list()
        ]
        for rig in nodes.rigs.values()
    )
    assert one == other
    return one


def test_what_one_node_granted_the_other_refuses(nodes: Nodes) -> None:
    dc, agni = nodes.rigs["agni"].join("dc"), nodes.rigs["rushabdev"].join("agni")
    (told,) = claims(nodes, ("agni", dc, {}))
    assert (told["state"], told["provisional"]) == ("granted", False)
    (told,) = claims(nodes, ("rushabdev", agni, {}))
    assert told["state"] == "refused"
    assert at_both(nodes) == [("granted", "path:src", "dc", False)]


@pytest.mark.parametrize("ahead_ms", [-5000, 0, 5000])
def test_of_two_claims_at_once_at_two_nodes_one_alone_is_granted(tmp_path: Path, ahead_ms: int) -> None:
    stores = {"agni": MemoryStore("epoch-a"), "rushabdev": MemoryStore("epoch-r")}
    nodes = Nodes(tmp_path, {**stores}, aheads_ms={"rushabdev": ahead_ms})
    nodes.advance(2)
    dc, agni = nodes.rigs["agni"].join("dc"), nodes.rigs["rushabdev"].join("agni")
    told = claims(nodes, ("agni", dc, {}), ("rushabdev", agni, {}))
    assert sorted(one["state"] for one in told) == ["granted", "refused"]
    assert not any(one["provisional"] for one in told)
    (granted,) = [one for one in told if one["state"] == "granted"]
    assert at_both(nodes) == [("granted", "path:src", granted["holder"], False)]


def test_a_grant_gives_way_that_became_durable_behind_the_copy_of_another_one(tmp_path: Path) -> None:
    slow = HeldStore(MemoryStore("epoch-r"))
    # Its stamps are the lower ones, and don't help it: the other node has been told that there is no rival.
    nodes = Nodes(tmp_path, {"agni": MemoryStore("epoch-a"), "rushabdev": slow}, aheads_ms={"rushabdev": -5000})
    nodes.advance(2)
    dc, agni = nodes.rigs["agni"].join("dc"), nodes.rigs["rushabdev"].join("agni")
    nodes.settle()
    slow.holding = True
    first = nodes.rigs["agni"].begin(dc, uris.LEASE_CLAIM, "path:src")
    nodes.settle()
    second = nodes.rigs["rushabdev"].begin(agni, uris.LEASE_CLAIM, "path:src")
    assert slow.waiting[0] == "copy" and "note" in slow.waiting
    slow.let_write(1)
    # That the first one is confirmed is not known there yet.
    nodes.lose_journals()
    nodes.settle()
    assert result_of(first)["provisional"] is False
    slow.holding = False
    slow.let_all()
    nodes.advance(2)
    assert result_of(second)["state"] == "refused"
    nodes.heal()
    nodes.advance(5)
    assert at_both(nodes) == [("granted", "path:src", "dc", False)]


def test_with_the_link_down_what_is_granted_is_provisional_and_what_was_granted_stands(nodes: Nodes) -> None:
    dc, agni = nodes.rigs["agni"].join("dc"), nodes.rigs["rushabdev"].join("agni")
    claims(nodes, ("agni", dc, {"ttl_s": 10}))
    nodes.cut()
    nodes.advance(60)
    (told,) = claims(nodes, ("rushabdev", agni, {}))
    assert told["state"] == "refused"
    told = claim(nodes.rigs["rushabdev"], agni, "path:docs")
    assert (told["state"], told["provisional"]) == ("granted", True)
    with pytest.raises(LeaseUnsure):
        claim(nodes.rigs["rushabdev"], agni, "path:tests", sure=True)
    nodes.heal()
    nodes.advance(5)
    assert at_both(nodes) == [("granted", "path:src", "dc", False), ("granted", "path:docs", "agni", False)]


def test_two_sides_of_a_cut_link_may_grant_the_same_and_the_later_one_is_told_when_they_meet(nodes: Nodes) -> None:
    dc, agni = nodes.rigs["agni"].join("dc"), nodes.rigs["rushabdev"].join("agni")
    nodes.cut()
    nodes.advance(5)
    (first,) = claims(nodes, ("agni", dc, {}))
    (second,) = claims(nodes, ("rushabdev", agni, {}))
    assert [one["provisional"] for one in (first, second)] == [True, True]
    assert second["fence"] > first["fence"]
    nodes.heal()
    nodes.advance(5)
    assert at_both(nodes) == [("granted", "path:src", "dc", False)]
    ((event, sentence),) = letters(nodes.rigs["rushabdev"], agni)
    assert event == "ended" and "dc was granted path:src at the node agni before" in sentence


def test_a_holder_that_moves_in_a_failover_keeps_its_lease_and_can_lose_it_there(nodes: Nodes) -> None:
    dc, agni = nodes.rigs["agni"].join("dc"), nodes.rigs["rushabdev"].join("agni")
    (told,) = claims(nodes, ("agni", dc, {"ttl_s": 10}))
    nodes.down("agni")
    other = nodes.rigs["rushabdev"]
    moved = other.join("dc")
    nodes.advance(5)
    again = claim(other, moved, ttl_s=10)
    assert (again["id"], again["fence"], again["node"]) == (told["id"], told["fence"], "rushabdev")
    claim(other, agni, queue=True)
    other.leave(moved)
    nodes.advance(12)
    assert listed(other, agni) == [("granted", "path:src", "agni")]
    (found,) = other.call(agni, uris.LEASE_LIST)
    assert found["provisional"] and found["fence"] > told["fence"]


def test_the_lease_of_a_node_that_is_away_stands_until_somebody_takes_it_over(nodes: Nodes) -> None:
    dc, agni = nodes.rigs["agni"].join("dc"), nodes.rigs["rushabdev"].join("agni")
    claims(nodes, ("agni", dc, {"ttl_s": 10}))
    nodes.cut()
    nodes.advance(60)
    other = nodes.rigs["rushabdev"]
    assert claim(other, agni)["state"] == "refused"
    told = claim(other, agni, take_over=True)
    assert (told["state"], told["provisional"]) == ("granted", True)
    nodes.heal()
    nodes.advance(5)
    assert at_both(nodes) == [("granted", "path:src", "agni", False)]
    ((event, sentence),) = letters(nodes.rigs["agni"], dc)
    assert event == "ended" and "agni took it over" in sentence


def test_take_over_takes_nothing_from_a_node_in_reach(nodes: Nodes) -> None:
    dc, agni = nodes.rigs["agni"].join("dc"), nodes.rigs["rushabdev"].join("agni")
    claims(nodes, ("agni", dc, {}))
    (told,) = claims(nodes, ("rushabdev", agni, {"take_over": True}))
    assert told["state"] == "refused"


def test_a_holder_at_the_other_node_is_there(nodes: Nodes) -> None:
    dc = nodes.rigs["agni"].join("dc")
    claims(nodes, ("agni", dc, {"ttl_s": 10}))
    nodes.rigs["rushabdev"].join("dc")
    nodes.rigs["agni"].leave(dc)
    nodes.advance(120)
    assert at_both(nodes) == [("granted", "path:src", "dc", False)]


# -- the book ----------------------------------------------------------------------------------------------------------


def facts(what: Any, stamp: int, node: str = "agni", lease: str = "one", **more: Any) -> LeaseFacts:
    if what in ("waiting", "granted"):
        more = {"holder": "dc", "scope": "path:src", "ttl_ms": 1000, **more}
    return LeaseFacts(what, lease, stamp, node, **more)


def test_records_add_up_to_the_same_in_whatever_order_they_come() -> None:
    told = [
        facts("waiting", 10),
        facts("granted", 20, order=10),
        facts("confirmed", 21),
        facts("renewed", 30, "rushabdev", ttl_ms=9000),
        facts("granted", 25, lease="two", holder="agni"),
        facts("ended", 26, "rushabdev", lease="two"),
    ]
    for order in permutations(told):
        book = Book()
        for one in order:
            book.fold(one)
        (lease,) = book.all()
        assert (lease.fence, lease.order, lease.confirmed) == (20, 10, True)
        assert (lease.keeper, lease.ttl_ms) == ("rushabdev", 9000)
        assert book.stamp(1) == 31


def test_what_a_newer_node_leases_is_passed_over() -> None:
    book = Book()
    assert book.fold(facts("granted", 1, scope="gpu:0")) is None
    assert book.all() == []


class Known:
    """What the store of a node holds of its own journal, and of another node's."""

    high_water = 10

    def __init__(self) -> None:
        self.other = 0

    def origins(self) -> list[Origin]:
        return [Origin(0, "", "epoch-a", 10), Origin(1, "rushabdev", "epoch-r", self.other)]


def test_a_grant_is_confirmed_when_the_other_node_has_it_and_this_one_all_that_was_there_by_then() -> None:
    store, replication, book = Known(), Replication("epoch-a", ["rushabdev"]), Book()
    agreement = Agreement("agni", cast(Store, store), replication, book)
    book.fold(LeaseFacts("granted", "one", 5, "agni", holder="dc", scope="path:src", ttl_ms=1000, order=5))
    lease = book.get("one")
    assert lease is not None and agreement.written(lease) is None
    replication.heard("rushabdev", "epoch-r", {"epoch-a": 9, "epoch-r": 7}, 10, 0.0)
    store.other = 7
    assert agreement.confirmed() == []
    replication.heard("rushabdev", "epoch-r", {"epoch-a": 10, "epoch-r": 8}, 10, 0.0)
    # Its record 8 may be a rival.
    assert agreement.confirmed() == []
    # What it writes from now on knows of this grant.
    replication.heard("rushabdev", "epoch-r", {"epoch-a": 10, "epoch-r": 20}, 10, 0.0)
    assert agreement.confirmed() == []
    store.other = 8
    assert agreement.confirmed() == [lease]
