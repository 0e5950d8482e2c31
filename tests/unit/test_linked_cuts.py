"""Linked nodes that cut their journals: nothing is lost and nothing done twice, whoever was away or began anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.support.pair import Nodes
from tests.support.stores import result_of
from trishula.contract import uris
from trishula_router.peers.journal_policy import Replication
from trishula_router.peers.peer_states import CANT_COPY
from trishula_router.store.memory import MemoryStore
from trishula_router.store.runs import Origin


@pytest.fixture
def two(tmp_path: Path) -> Nodes:
    nodes = Nodes(tmp_path, {name: MemoryStore(f"epoch-{name}", name) for name in ("agni", "rushabdev")})
    nodes.advance(1.0)
    return nodes


def send(nodes: Nodes, at: str, session: int, *ids: str) -> list[str]:
    batch = [{"type": "STATUS", "id": one, "to": "agni"} for one in ids]
    answer = nodes.rigs[at].begin(session, uris.MAILBOX_SEND, batch, None)
    nodes.settle()
    return [receipt["status"] for receipt in result_of(answer)]


def work_off(nodes: Nodes, at: str, session: int, *ids: str) -> None:
    rig = nodes.rigs[at]
    rig.attach(session)
    pushed = rig.pushed(session)
    assert [delivery["message"]["id"] for delivery in pushed] == list(ids)
    for delivery in pushed:
        rig.call(session, uris.MAILBOX_ACK, [delivery["token"]])
    nodes.settle()


def archive(nodes: Nodes, name: str) -> int:
    """Archive all that is to be had at once; how many records went."""
    # Bodies are given up first: records are held for them.
    result_of(nodes.stores[name].forget(0, 1000, before=2**52, dead_before=0, at=2**52))
    done = result_of(Deferred.fromCoroutine(nodes.rigs[name].node.archiver.archive(0)))
    nodes.advance(1.0)
    return int(done.records)


def is_sound(nodes: Nodes) -> bool:
    return not any(result_of(store.verify()).damages for store in nodes.stores.values())


def events_of(nodes: Nodes, at: str, session: int, message_id: str) -> Any:
    (life,) = nodes.rigs[at].call(session, uris.AUDIT_WHY, message_id)["messages"]
    return life


def test_each_cuts_its_own_journal_and_its_copy_of_the_others(two: Nodes) -> None:
    dc, agni = two.rigs["agni"].join("dc"), two.rigs["rushabdev"].join("agni")
    assert send(two, "agni", dc, "m1", "m2") == ["accepted", "accepted"]
    work_off(two, "rushabdev", agni, "m1", "m2")
    two.advance(1.0)
    assert archive(two, "agni") > 2
    base = two.stores["agni"].base().sequence
    assert base > 2
    assert archive(two, "rushabdev") > 2
    # Both have cut their copies as well.
    assert two.stores["rushabdev"].base(1).sequence == base
    archive(two, "agni")
    assert two.stores["agni"].base(1).sequence > 2
    assert is_sound(two)
    # What is done stays done at both, and a repeat through either is one.
    assert send(two, "agni", dc, "m1") == ["duplicate"]
    there = two.rigs["rushabdev"].join("dc")
    assert send(two, "rushabdev", there, "m2") == ["duplicate"]
    life = events_of(two, "rushabdev", agni, "m1")
    assert (life["state"], life["archived"]) == ("done", "its first records are in the archive of agni: ask there")
    assert events_of(two, "agni", dc, "m1")["archived"].startswith("its first records are in the archive segment ")


def test_nothing_goes_that_one_who_is_away_has_not_got(two: Nodes) -> None:
    dc, agni = two.rigs["agni"].join("dc"), two.rigs["agni"].join("agni")
    two.down("rushabdev")
    two.advance(5.0)
    before = two.stores["agni"].high_water
    answer = two.rigs["agni"].begin(dc, uris.MAILBOX_SEND, [{"type": "STATUS", "id": "m1", "to": "agni"}], None)
    two.advance(5.0)
    assert [receipt["copies"] for receipt in result_of(answer)] == [1]
    work_off(two, "agni", agni, "m1")
    archive(two, "agni")
    assert two.stores["agni"].base().sequence <= before
    held_back = two.rigs["agni"].node.archiver.told()["holds_back"]
    assert "rushabdev has not told that it holds the records behind" in held_back
    two.boot("rushabdev")
    two.advance(5.0)
    assert archive(two, "agni") > 0
    assert two.rigs["agni"].node.archiver.told()["holds_back"] is None
    # It was done while it was away, so it isn't given out there.
    session = two.rigs["rushabdev"].join("agni")
    work_off(two, "rushabdev", session)
    assert is_sound(two)


def test_a_node_that_lost_its_disk_gets_what_waits_and_does_nothing_twice(two: Nodes) -> None:
    dc, agni = two.rigs["agni"].join("dc"), two.rigs["rushabdev"].join("agni")
    send(two, "agni", dc, "done")
    work_off(two, "rushabdev", agni, "done")
    two.rigs["rushabdev"].leave(agni)
    send(two, "agni", dc, "waits")
    two.advance(1.0)
    archive(two, "agni")
    base = two.stores["agni"].base()
    assert base.sequence > 3
    two.down("rushabdev")
    two.advance(5.0)
    two.stores["rushabdev"] = MemoryStore("epoch-of-a-new-disk", "rushabdev")
    two.boot("rushabdev")
    two.advance(10.0)
    store = two.stores["rushabdev"]
    number = next(origin.number for origin in store.origins() if origin.epoch == "epoch-agni")
    assert store.base(number).sequence >= base.sequence
    assert two.rigs["rushabdev"].node.peering.faults == {}
    work_off(two, "rushabdev", two.rigs["rushabdev"].join("agni"), "waits")
    two.advance(1.0)
    assert events_of(two, "agni", dc, "waits")["state"] == "done"
    assert events_of(two, "agni", dc, "done")["state"] == "done"
    assert is_sound(two)
    # A repeat of what was done is one, through the new disk as well.
    there = two.rigs["rushabdev"].join("dc")
    assert send(two, "agni", dc, "done") == send(two, "rushabdev", there, "done") == ["duplicate"]
    # And it all goes on: the next cut comes when the new disk has what goes.
    send(two, "agni", dc, "later")
    two.advance(1.0)
    assert archive(two, "agni") > 0


def test_a_peer_of_the_release_before_is_sent_no_journal_whose_begin_is_cut() -> None:
    replication = Replication("here", ("old",))
    origins = [Origin(0, "", "here", 9, 4)]
    replication.heard("old", "there", {}, 9, 0.0)
    assert replication.next_run("old", origins, 0.0) is None
    # It isn't, either, for one that holds what was cut.
    replication.heard("old", "there", {"here": 4}, 9, 0.0)
    run = replication.next_run("old", origins, 0.0)
    assert run is not None
    assert run.after == 4
    replication.heard("old", "again", {}, 9, 0.0)
    replication.peers["old"].takes_bases = True
    run = replication.next_run("old", origins, 0.0)
    assert run is not None
    assert run.after == 0


def test_an_operator_is_told_of_a_peer_that_can_not_copy(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    send(two, "agni", dc, "m1")
    two.advance(1.0)
    archive(two, "agni")
    peering = two.rigs["agni"].node.peering
    peer = peering.replication.peers["rushabdev"]
    assert [one["fault"] for one in peering.told()] == [None]
    peering.replication.heard("rushabdev", "another", {}, 9, 0.0)
    peer.takes_bases = False
    assert [one["fault"] for one in peering.told()] == [CANT_COPY.format(name="rushabdev")]


def test_what_is_held_of_a_dead_peers_journal_is_told_also_after_a_restart(two: Nodes) -> None:
    dc = two.rigs["rushabdev"].join("dc")
    assert send(two, "rushabdev", dc, "m1") == ["accepted"]
    two.advance(1.0)
    (before,) = two.rigs["agni"].node.peering.told()
    two.down("rushabdev")
    two.down("agni")
    (after,) = two.boot("agni").node.peering.told()
    # Else a report of a node that was started anew would leave out what it holds of a peer that is gone.
    assert after["state"] == "down" and after["copied"] >= before["copied"] > 0
