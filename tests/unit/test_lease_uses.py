"""What several handlers, scripts and calls of one agent have of one lease, and what is left when one of them goes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from tests.support.pair import Nodes
from tests.support.stores import HeldStore, result_of
from trishula.contract import uris
from trishula.errors import ArgumentInvalid, LeaseUnknown, LeaseUnsure, RateLimited, StorageFull
from trishula_router.store.lease_facts import LEASES, LeaseFacts
from trishula_router.store.memory import MemoryStore


@pytest.fixture
def store() -> HeldStore:
    return HeldStore(MemoryStore("epoch-1"))


@pytest.fixture
def rig(tmp_path: Path, store: HeldStore) -> Rig:
    return Rig(tmp_path, store, Clock()).start()


def claim(rig: Rig, session: int, scope: str = "path:src", **options: Any) -> dict[str, Any]:
    told: dict[str, Any] = rig.call(session, uris.LEASE_CLAIM, scope, options or None)
    return told


def release(rig: Rig, session: int, lease: str, use: str = "") -> bool:
    return bool(rig.call(session, uris.LEASE_RELEASE, lease, {"use": use})["ended"])


def listed(rig: Rig) -> list[tuple[str, str, str]]:
    return [(one["state"], one["scope"], one["holder"]) for one in rig.node.leases.work_leases.list()]


def letters(rig: Rig, session: int) -> list[str]:
    return [one["message"]["payload"]["event"] for one in rig.fetch(session)["deliveries"]]


# -- uses --------------------------------------------------------------------------------------------------------------


def test_whoever_leaves_last_ends_a_lease(rig: Rig) -> None:
    one, other = rig.join("dc"), rig.join("dc")
    told = claim(rig, one, use="first")
    assert claim(rig, other, use="second")["id"] == told["id"]
    assert not release(rig, one, told["id"], "first")
    assert listed(rig) == [("granted", "path:src", "dc")]
    assert release(rig, other, told["id"], "second")
    assert listed(rig) == []


@pytest.mark.parametrize("is_kept_first", [True, False])
def test_what_an_agent_keeps_no_use_ends(tmp_path: Path, store: HeldStore, rig: Rig, is_kept_first: bool) -> None:
    dc = rig.join("dc")
    for use in ("", "run") if is_kept_first else ("run", ""):
        told = claim(rig, dc, use=use)
    assert not release(rig, dc, told["id"], "run")
    rig.crash()
    # Nor after a restart, of which no use is left.
    again = Rig(tmp_path, store, rig.clock).start()
    dc = again.join("dc")
    claim(again, dc, use="run")
    assert not release(again, dc, told["id"], "run")
    assert release(again, dc, told["id"])
    assert listed(again) == []


def test_a_use_whose_session_is_gone_is_none(rig: Rig) -> None:
    one, other = rig.join("dc"), rig.join("dc")
    told = claim(rig, one, use="killed")
    rig.leave(one)
    claim(rig, other, use="anew")
    assert release(rig, other, told["id"], "anew")
    assert listed(rig) == []


def test_who_stops_waiting_withdraws_for_itself_alone(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    claim(rig, dc)
    for use in ("first", "second"):
        assert claim(rig, agni, use=use, queue=True)["state"] == "waiting"
    assert not release(rig, agni, "path:src", "first")
    assert ("waiting", "path:src", "agni") in listed(rig)
    # What it never claimed it can't withdraw.
    with pytest.raises(LeaseUnknown):
        release(rig, agni, "path:src", "third")
    assert release(rig, agni, "path:src", "second")
    assert ("waiting", "path:src", "agni") not in listed(rig)


def test_a_call_that_waited_long_enough_leaves_what_another_one_queued(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    claim(rig, dc)
    claim(rig, agni, queue=True)
    rig.begin(agni, uris.LEASE_CLAIM, "path:src", {"wait_s": 2})
    rig.advance(3)
    assert ("waiting", "path:src", "agni") in listed(rig)


def test_a_claim_lowers_no_ttl(rig: Rig) -> None:
    dc = rig.join("dc")
    claim(rig, dc, ttl_s=3600)
    assert claim(rig, dc, ttl_s=1)["ttl_s"] == 3600.0
    assert rig.call(dc, uris.LEASE_RENEW, "path:src", {"ttl_s": 1})["ttl_s"] == 1.0


def test_of_two_leases_of_a_scope_one_is_named_by_its_id(rig: Rig) -> None:
    dc = rig.join("dc")
    one, other = claim(rig, dc), claim(rig, dc, shared=True)
    with pytest.raises(ArgumentInvalid, match=rf"{one['id']} \(not shared\) and {other['id']} \(shared\)"):
        release(rig, dc, "path:src")
    release(rig, dc, other["id"])
    assert [told["shared"] for told in rig.call(dc, uris.LEASE_LIST)] == [False]


def test_who_would_be_sure_takes_nothing_from_the_others_of_its_agent(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, {"agni": MemoryStore("epoch-a"), "rushabdev": MemoryStore("epoch-r")})
    nodes.advance(2)
    rig = nodes.rigs["agni"]
    one, other = rig.join("dc"), rig.join("dc")
    nodes.cut()
    nodes.advance(10)
    told = claim(rig, one, use="first")
    for options in ({}, {"use": "second"}):
        with pytest.raises(LeaseUnsure):
            claim(rig, other, sure=True, **options)
        assert rig.call(one, uris.LEASE_RENEW, told["id"])["state"] == "granted"
    with pytest.raises(LeaseUnsure):
        claim(rig, other, "path:docs", sure=True)
    assert listed(rig) == [("granted", "path:src", "dc")]


# -- what ends meanwhile -----------------------------------------------------------------------------------------------


def test_a_claim_finds_no_lease_whose_end_is_on_its_way_to_the_disk(rig: Rig, store: HeldStore) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    told = claim(rig, dc)
    claim(rig, agni, queue=True)
    store.holding = True
    ended = rig.begin(dc, uris.LEASE_RELEASE, told["id"])
    again = rig.begin(dc, uris.LEASE_CLAIM, "path:src")
    for uri in (uris.LEASE_RENEW, uris.LEASE_RELEASE):
        with pytest.raises(LeaseUnknown):
            rig.call(dc, uri, told["id"])
    assert not again.called
    store.holding = False
    store.let_all()
    rig.settle()
    assert result_of(ended)["ended"] and result_of(again)["state"] == "refused"
    assert listed(rig) == [("granted", "path:src", "agni")]


def test_a_claim_that_is_renewed_while_it_ends_is_claimed_anew(rig: Rig, store: HeldStore) -> None:
    dc = rig.join("dc")
    told = claim(rig, dc)
    store.holding = True
    again = rig.begin(dc, uris.LEASE_CLAIM, "path:src", {"ttl_s": 900})
    renewed = rig.begin(dc, uris.LEASE_RENEW, told["id"], {"ttl_s": 800})
    rig.begin(dc, uris.LEASE_RELEASE, told["id"])
    store.holding = False
    store.let_all()
    rig.settle()
    assert result_of(again)["fence"] > told["fence"]
    with pytest.raises(LeaseUnknown):
        result_of(renewed)
    assert listed(rig) == [("granted", "path:src", "dc")]


def test_what_could_not_be_ended_is_there_for_the_claim_that_waited_for_it(rig: Rig, store: HeldStore) -> None:
    dc = rig.join("dc")
    told = claim(rig, dc)
    store.holding = True
    store.fail_next("note", StorageFull("full"))
    ended = rig.begin(dc, uris.LEASE_RELEASE, told["id"])
    again = rig.begin(dc, uris.LEASE_CLAIM, "path:src")
    assert not again.called
    store.holding = False
    store.let_all()
    rig.settle()
    with pytest.raises(StorageFull):
        result_of(ended)
    assert result_of(again)["id"] == told["id"]


def test_what_could_not_be_written_leaves_nothing_in_memory(rig: Rig, store: HeldStore) -> None:
    dc = rig.join("dc")
    presence = rig.node.leases.rounds._presence
    for number in range(5):
        store.fail_next("note", StorageFull("full"))
        with pytest.raises(StorageFull):
            claim(rig, dc, f"task:{number}", use="one")
    assert presence._seen_s == presence._claimed_by == {}
    assert rig.node.leases.work_leases._uses._sessions == {}


def test_a_grant_that_could_not_be_written_leaves_the_claim_waiting(rig: Rig, store: HeldStore) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    told = claim(rig, dc)
    waiting = claim(rig, agni, queue=True)
    store.holding = True
    rig.begin(dc, uris.LEASE_RELEASE, told["id"])
    store.fail_next("note", StorageFull("full"))
    store.holding = False
    store.let_all()
    rig.settle()
    assert listed(rig) == [("waiting", "path:src", "agni")]
    rig.advance(1)
    (found,) = rig.call(agni, uris.LEASE_LIST)
    assert (found["id"], found["state"]) == (waiting["id"], "granted")


# -- who is gone -------------------------------------------------------------------------------------------------------


def test_a_claim_that_waits_keeps_its_place_while_its_holder_is_there_or_was_lately(rig: Rig) -> None:
    dc, agni, boss = rig.join("dc"), rig.join("agni"), rig.join("rushabdev")
    told = claim(rig, dc)
    claim(rig, agni, queue=True, ttl_s=2_592_000)
    claim(rig, boss, queue=True)
    rig.advance(60)
    rig.leave(agni)
    release(rig, dc, told["id"])
    rig.advance(14)
    assert claim(rig, dc)["before"] == 2
    assert ("waiting", "path:src", "rushabdev") in listed(rig)
    rig.advance(2)
    assert ("granted", "path:src", "rushabdev") in listed(rig)
    # It comes after what was granted meanwhile, and before whoever claims from now on.
    rig.join("agni")
    claim(rig, dc, queue=True)
    release(rig, boss, "path:src")
    rig.advance(1)
    assert ("granted", "path:src", "agni") in listed(rig)


def test_a_turn_is_told_by_a_message_if_the_caller_is_gone(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    told = claim(rig, dc)
    rig.begin(agni, uris.LEASE_CLAIM, "path:src", {"wait_s": 60, "queue": True})
    rig.leave(agni)
    rig.advance(1)
    again = rig.join("agni")
    release(rig, dc, told["id"])
    rig.settle()
    assert listed(rig) == [("granted", "path:src", "agni")]
    assert letters(rig, again) == ["granted"]


def test_the_end_of_a_claim_is_told_by_a_message_if_the_caller_is_gone(rig: Rig) -> None:
    dc, agni, boss = rig.join("dc"), rig.join("agni"), rig.join("rushabdev", operator=True)
    claim(rig, dc)
    rig.begin(agni, uris.LEASE_CLAIM, "path:src", {"wait_s": 60, "queue": True})
    (_, waiting) = rig.call(dc, uris.LEASE_LIST)
    rig.leave(agni)
    again = rig.join("agni")
    rig.call(boss, uris.ADMIN_LEASE_RELEASE, waiting["id"], {"reason": "the demo begins"})
    rig.settle()
    assert letters(rig, again) == ["ended"]


def test_take_over_takes_nothing_from_a_holder_at_a_third_node(tmp_path: Path) -> None:
    names = ("agni", "rushabdev", "surya")
    nodes = Nodes(tmp_path, {name: MemoryStore(f"epoch-{name}") for name in names})
    nodes.advance(2)
    dc, agni = nodes.rigs["agni"].join("dc"), nodes.rigs["rushabdev"].join("agni")
    moved = nodes.rigs["surya"].join("dc")
    granted = nodes.rigs["agni"].begin(dc, uris.LEASE_CLAIM, "path:src", {"ttl_s": 600})
    nodes.advance(3)
    assert result_of(granted)["state"] == "granted"
    nodes.lets_through = lambda sender, to, kind: {sender, to} != {"agni", "rushabdev"}
    nodes.advance(20)
    assert claim(nodes.rigs["rushabdev"], agni, take_over=True)["state"] == "refused"
    nodes.rigs["surya"].leave(moved)
    nodes.advance(20)
    taken = nodes.rigs["rushabdev"].begin(agni, uris.LEASE_CLAIM, "path:src", {"take_over": True})
    nodes.advance(2)
    assert result_of(taken)["state"] == "granted"


def test_a_lease_of_a_node_that_is_no_peer_any_more_ends_here(rig: Rig) -> None:
    gone = LeaseFacts("granted", "gone-1", 5, "gone", holder="dc", scope="path:src", ttl_ms=2000, order=5)
    rig.node.leases.rounds._ledger.book.fold(gone)
    rig.advance(1)
    assert listed(rig) == [("granted", "path:src", "dc")]
    rig.advance(2)
    assert listed(rig) == []


def test_what_ended_an_hour_ago_is_forgotten_where_there_is_no_other_node(rig: Rig, store: HeldStore) -> None:
    dc, rounds = rig.join("dc"), rig.node.leases.rounds
    release(rig, dc, claim(rig, dc)["id"])
    kept = claim(rig, dc, "task:kept")
    now = rounds._now()
    for after_ms, count in ((3_500_000, 2), (3_700_000, 1)):
        rounds._now = partial(int, now + after_ms)
        result_of(Deferred.fromCoroutine(rounds._sweep()))
        notes = result_of(store.remembered(LEASES))
        assert len({key.removeprefix(LEASES).partition(":")[0] for key in notes}) == count
    assert all(kept["id"] in key for key in notes)


# -- rates -------------------------------------------------------------------------------------------------------------


def test_an_agent_that_asks_for_leases_without_end_is_told_to_wait(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    told = claim(rig, dc)
    for _ in range(199):
        rig.call(dc, uris.LEASE_RENEW, told["id"])
    for uri, *args in ((uris.LEASE_CLAIM, "task:1"), (uris.LEASE_RENEW, told["id"]), (uris.LEASE_LIST,)):
        with pytest.raises(RateLimited, match=r"faster than 5 a second, 200 at once; .* try again in 0\.2 s"):
            rig.call(dc, uri, *args)
    # Others don't suffer from it, what it has it may give back, and some time later it may ask again.
    assert claim(rig, agni, "task:2")["state"] == "granted"
    assert release(rig, dc, told["id"])
    rig.advance(0.25)
    assert claim(rig, dc)["state"] == "granted"
