"""Two nodes and more as one, without routers: what one accepts, the others have, deliver, settle and explain."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred

from tests.support.pair import Nodes
from tests.support.stores import result_of
from trishula.contract import uris
from trishula.errors import ArgumentInvalid, CopiesUnavailable, MailboxBusy, NodeUnknown, TakenOver
from trishula.session.carrying import Road
from trishula_router.agents.file import AgentEntry, update_agents
from trishula_router.node import CATCH_UP_PATIENCE_S
from trishula_router.peers.copies import COPIES_PATIENCE_S
from trishula_router.peers.journal_exchange import HELLO_PERIOD_S, PRESENCE, ROAD_BYTES
from trishula_router.peers.journal_policy import DOWN_AFTER_S
from trishula_router.peers.presence_exchange import PRESENCE_PERIOD_S
from trishula_router.store.memory import MemoryStore


@pytest.fixture
def two(tmp_path: Path) -> Nodes:
    nodes = Nodes(tmp_path, {name: MemoryStore(f"epoch-{name}", name) for name in ("agni", "rushabdev")})
    nodes.advance(1.0)
    return nodes


def begin_send(nodes: Nodes, at: str, session: int, *messages: dict[str, Any], **options: Any) -> Deferred[Any]:
    batch = [{"type": "STATUS", **one} for one in messages]
    return nodes.rigs[at].begin(session, uris.MAILBOX_SEND, batch, options or None)


def send(nodes: Nodes, at: str, session: int, *messages: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    answer = begin_send(nodes, at, session, *messages, **options)
    nodes.settle()
    receipts: list[dict[str, Any]] = result_of(answer)
    return receipts


def test_a_receipt_tells_of_two_copies(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    (receipt,) = send(two, "agni", dc, {"id": "m1", "to": "agni"})
    assert (receipt["status"], receipt["node"], receipt["copies"]) == ("accepted", "agni", 2)


def test_a_notice_says_at_which_node_its_number_is_the_letters(two: Nodes) -> None:
    # One letter accepted here, one there, so that the numbers of both nodes mean something at both.
    here, there = two.rigs["agni"], two.rigs["rushabdev"]
    dc, agni = here.join("dc"), there.join("agni")
    there.attach(agni)
    send(two, "agni", dc, {"id": "m1", "to": "agni", "type": "COMMAND", "procedure": "p"})
    (delivery,) = there.pushed(agni)
    there.nack(agni, delivery["token"], requeue=False)
    two.settle()
    (notice,) = here.fetch(dc)["deliveries"]
    place = re.search(r"at the node (\w+), with: trishula dead replay (\d+)", notice["message"]["payload"]["message"])
    assert place is not None
    node, number = place[1], int(place[2])
    boss = two.rigs[node].join("dc", operator=True)
    assert two.rigs[node].call(boss, uris.ADMIN_DEAD_SHOW, number)["id"] == "m1"


def test_a_road_that_is_full_gets_no_more_and_one_that_has_room_again_does(two: Nodes) -> None:
    here = two.rigs["agni"]
    dc = here.join("dc")
    full = [Road(ROAD_BYTES + 1, True, 0.0)]
    here.node.peering.road_to = lambda peer: full[0]
    send(two, "agni", dc, {"id": "m1", "to": "agni"}, copies=1)
    two.advance(2.0)
    (status,) = here.node.peering.told()
    assert (status["state"], status["lag_records"] > 0) == ("up", True)
    full[0] = Road(0, False, 0.0)
    two.advance(HELLO_PERIOD_S)
    (status,) = here.node.peering.told()
    assert status["lag_records"] == 0


def test_who_asks_for_one_copy_does_not_wait(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    two.cut()
    (receipt,) = send(two, "agni", dc, {"id": "m1", "to": "agni"}, copies=1)
    assert receipt["copies"] == 1


def test_nobody_waits_for_a_copy_of_a_peer_whose_link_broke(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    two.cut()
    answer = begin_send(two, "agni", dc, {"id": "m1", "to": "agni"})
    two.settle()
    assert not answer.called
    two.rigs["agni"].node.link_lost("rushabdev")
    (receipt,) = result_of(answer)
    assert receipt["copies"] == 1
    (status,) = two.rigs["agni"].node.peering.told()
    assert status["state"] == "down"
    two.heal()
    two.advance(1.0)
    (status,) = two.rigs["agni"].node.peering.told()
    assert (status["state"], status["lag_records"]) == ("up", 0)


def test_a_message_reaches_an_agent_at_the_other_node_once(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    agni = two.rigs["rushabdev"].join("agni")
    two.rigs["rushabdev"].attach(agni)
    send(two, "agni", dc, {"id": "m1", "to": "agni"}, {"id": "m2", "to": "agni"})
    deliveries = two.rigs["rushabdev"].pushed(agni)
    assert [one["message"]["id"] for one in deliveries] == ["m1", "m2"]
    assert two.rigs["rushabdev"].ack(agni, *(one["token"] for one in deliveries)) == [True, True]
    two.settle()
    assert two.rigs["agni"].states(dc, "m1", "m2") == {"m1": "done", "m2": "done"}
    assert two.rigs["agni"].node.mailroom.totals() == (0, 0)


def test_what_became_of_it_is_told_where_the_sender_is(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    agni = two.rigs["rushabdev"].join("agni")
    two.rigs["rushabdev"].attach(agni)
    send(two, "agni", dc, {"id": "m1", "to": "agni"})
    (delivery,) = two.rigs["rushabdev"].pushed(agni)
    two.rigs["rushabdev"].ack(agni, delivery["token"])
    two.settle()
    assert ("m1", "agni", "done") in two.rigs["agni"].outlet.take_news()


def test_after_the_loss_of_a_node_the_other_one_delivers(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    send(two, "agni", dc, *({"id": f"m{n}", "to": "agni"} for n in range(5)))
    two.down("agni")
    agni = two.rigs["rushabdev"].join("agni")
    two.rigs["rushabdev"].attach(agni)
    two.settle()
    assert two.rigs["rushabdev"].ids(agni) == [f"m{n}" for n in range(5)]


def test_a_repeat_at_the_other_node_is_a_duplicate(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    (first,) = send(two, "agni", dc, {"id": "m1", "to": "agni"})
    again = two.rigs["rushabdev"].join("dc")
    (second,) = send(two, "rushabdev", again, {"id": "m1", "to": "agni"})
    assert (second["status"], second["node"], second["seq"], second["copies"]) == (
        "duplicate",
        "agni",
        first["seq"],
        2,
    )


def test_a_sender_that_moves_keeps_its_order(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    send(two, "agni", dc, {"id": "m1", "to": "agni"}, {"id": "m2", "to": "agni"})
    moved = two.rigs["rushabdev"].join("dc")
    send(two, "rushabdev", moved, {"id": "m3", "to": "agni"})
    for node in ("agni", "rushabdev"):
        agni = two.rigs[node].join("agni")
        two.rigs[node].attach(agni)
        two.settle()
        assert two.rigs[node].ids(agni) == ["m1", "m2", "m3"]


# -- partitions --------------------------------------------------------------------------------------------------------


def test_without_the_peer_a_receipt_says_one_copy_and_later_news_say_two(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    two.cut()
    answer = begin_send(two, "agni", dc, {"id": "m1", "to": "agni"})
    two.settle()
    assert not answer.called
    two.advance(COPIES_PATIENCE_S + 0.5)
    (receipt,) = result_of(answer)
    assert (receipt["status"], receipt["copies"]) == ("accepted", 1)
    # The next one doesn't wait: the peer is known not to answer.
    (receipt,) = send(two, "agni", dc, {"id": "m2", "to": "agni"})
    assert receipt["copies"] == 1
    two.heal()
    two.advance(2.0)
    news = [(one.id, one.state, one.copies) for one in two.rigs["agni"].outlet.news]
    assert news == [("m1", "copies", 2), ("m2", "copies", 2)]


def test_who_insists_on_two_is_refused_while_there_is_one(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    two.cut()
    two.advance(DOWN_AFTER_S + 1.0)
    (receipt,) = send(two, "agni", dc, {"id": "m1", "to": "agni"}, copies=2)
    assert (receipt["status"], receipt["error"]) == ("refused", CopiesUnavailable.uri)
    assert receipt["detail"] == (
        "the sender insists on 2 copies and of its peers (rushabdev) none is in step to keep a second one; ask for 1, "
        "or try again when a peer is there"
    )
    two.heal()
    two.advance(2.0)
    (receipt,) = send(two, "agni", dc, {"id": "m1", "to": "agni"}, copies=2)
    assert (receipt["status"], receipt["copies"]) == ("accepted", 2)


def test_both_sides_of_a_partition_work_and_agree_afterwards(two: Nodes) -> None:
    here, there = two.rigs["agni"], two.rigs["rushabdev"]
    dc = here.join("dc")
    send(two, "agni", dc, {"id": "m1", "to": "agni"})
    two.cut()
    two.advance(DOWN_AFTER_S + 1.0)
    send(two, "agni", dc, {"id": "m2", "to": "agni"})
    moved = there.join("dc")
    send(two, "rushabdev", moved, {"id": "m2", "to": "agni"}, {"id": "m3", "to": "agni"})
    for rig in (here, there):
        agni = rig.join("agni")
        rig.attach(agni)
        rig.ack(agni, *(one["token"] for one in rig.pushed(agni)))
    two.heal()
    two.advance(3.0)
    for rig, session in ((here, dc), (there, moved)):
        assert rig.states(session, "m1", "m2", "m3") == {"m1": "done", "m2": "done", "m3": "done"}
        assert rig.node.mailroom.totals() == (0, 0)


def test_lost_records_are_sent_again(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    two.lose_journals()
    begin_send(two, "agni", dc, {"id": "m1", "to": "agni"})
    two.advance(1.0)
    two.heal()
    two.advance(4.0)
    (receipt,) = send(two, "agni", dc, {"id": "m2", "to": "agni"})
    assert receipt["copies"] == 2
    moved = two.rigs["rushabdev"].join("dc")
    assert set(two.rigs["rushabdev"].states(moved, "m1", "m2")) == {"m1", "m2"}


@pytest.mark.parametrize("subject", ["peering", "neighbourhood"])
def test_a_round_that_fails_is_not_the_last_one(two: Nodes, subject: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no")

    with monkeypatch.context() as broken, pytest.raises(OSError, match="no"):
        broken.setattr(getattr(two.rigs["agni"].node, subject), "_post", fail)
        two.advance(HELLO_PERIOD_S + PRESENCE_PERIOD_S)
    heard = []

    def let_through(sender: str, to: str, kind: str) -> bool:
        heard.append((sender, kind))
        return True

    two.lets_through = let_through
    two.advance(2 * PRESENCE_PERIOD_S)
    assert {("agni", "hello"), ("agni", PRESENCE)} <= set(heard)
    assert [peer["state"] for rig in two.rigs.values() for peer in rig.node.peering.told()] == ["up", "up"]


def test_a_node_that_was_away_catches_up(two: Nodes) -> None:
    two.down("rushabdev")
    dc = two.rigs["agni"].join("dc")
    two.advance(DOWN_AFTER_S + 1.0)
    for start in range(0, 2000, 500):
        send(two, "agni", dc, *({"id": f"m{start + n}", "to": "agni"} for n in range(500)))
    two.boot("rushabdev")
    two.advance(3.0)
    (told,) = two.rigs["agni"].node.peering.told()
    assert (told["state"], told["lag_records"]) == ("up", 0)
    assert two.rigs["rushabdev"].node.mailroom.counts("agni") == (2000, 0)


def test_a_node_that_comes_back_delivers_nothing_that_was_done_meanwhile(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    send(two, "agni", dc, {"id": "m1", "to": "agni"})
    two.down("agni")
    two.advance(DOWN_AFTER_S + 1.0)
    agni = two.rigs["rushabdev"].join("agni")
    two.rigs["rushabdev"].attach(agni)
    two.rigs["rushabdev"].ack(agni, *(one["token"] for one in two.rigs["rushabdev"].pushed(agni)))
    two.rigs["rushabdev"].leave(agni)
    rig = two.boot("agni")
    again = rig.join("agni")
    rig.attach(again)
    assert rig.ids(again) == []
    two.advance(3.0)
    assert rig.ids(again) == []
    assert rig.node.mailroom.totals() == (0, 0)


def test_a_node_that_starts_alone_delivers_after_a_moment(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    send(two, "agni", dc, {"id": "m1", "to": "agni"})
    two.down("agni")
    two.down("rushabdev")
    rig = two.boot("agni")
    again = rig.join("agni")
    rig.attach(again)
    two.advance(CATCH_UP_PATIENCE_S + 0.5)
    assert rig.ids(again) == ["m1"]


def test_a_node_that_lost_its_disk_gets_back_all_that_its_peer_holds(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    send(two, "agni", dc, {"id": "m1", "to": "agni"})
    two.down("agni")
    two.stores["agni"] = MemoryStore("epoch-agni-2")
    rig = two.boot("agni")
    two.advance(6.0)
    agni = rig.join("agni")
    rig.attach(agni)
    two.settle()
    assert rig.ids(agni) == ["m1"]


def test_a_third_node_learns_of_a_dead_ones_last_records(tmp_path: Path) -> None:
    names = ("agni", "rushabdev", "dc")
    three = Nodes(tmp_path, {name: MemoryStore(f"epoch-{name}") for name in names})
    three.advance(1.0)
    three.lets_through = lambda sender, to, kind: {sender, to} != {"agni", "dc"}
    dc = three.rigs["agni"].join("dc")
    send(three, "agni", dc, {"id": "m1", "to": "agni"})
    three.down("agni")
    three.advance(6.0)
    moved = three.rigs["dc"].join("dc")
    assert three.rigs["dc"].states(moved, "m1") == {"m1": "accepted"}


# -- agents over all nodes ---------------------------------------------------------------------------------------------


def entry(nodes: Nodes, at: str, session: int, agent: str) -> dict[str, Any]:
    answer: dict[str, Any] = nodes.rigs[at].call(session, uris.DIRECTORY_GET, agent)
    return answer


def test_the_directory_is_one(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    agni = two.rigs["rushabdev"].join("agni")
    two.rigs["rushabdev"].attach(agni, capabilities=["deploy"])
    two.advance(1.0)
    told = entry(two, "agni", dc, "agni")
    assert (told["presence"], told["node"], told["capabilities"]) == ("online", "rushabdev", ["deploy"])
    found = two.rigs["agni"].call(dc, uris.DIRECTORY_FIND, {"capability": "deploy"})
    assert [one["agent"] for one in found] == ["agni"]


def test_agents_of_a_node_that_is_away_are_stale_with_that_reason(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    agni = two.rigs["rushabdev"].join("agni")
    two.rigs["rushabdev"].attach(agni)
    two.advance(1.0)
    two.cut()
    two.advance(DOWN_AFTER_S + 1.0)
    told = entry(two, "agni", dc, "agni")
    assert told["presence"] == "stale"
    assert told["reason"].startswith("its node rushabdev can't be reached from agni")
    announced = [(topic, event.get("state")) for topic, event in two.rigs["agni"].outlet.announced]
    assert (uris.EVENT_NODE, "down") in announced


def test_an_agent_that_attaches_at_the_other_node_takes_over(two: Nodes) -> None:
    first = two.rigs["agni"].join("agni")
    two.rigs["agni"].attach(first)
    two.advance(0.5)
    second = two.rigs["rushabdev"].join("agni", session=77)
    two.rigs["rushabdev"].attach(second)
    two.settle()
    ((session, uri, sentence),) = two.rigs["agni"].outlet.closed
    assert (session, uri) == (first, TakenOver.uri)
    assert "at the node rushabdev" in sentence
    assert two.rigs["rushabdev"].outlet.closed == []


def test_a_mailbox_that_is_pushed_elsewhere_is_not_fetched_here(two: Nodes) -> None:
    agni = two.rigs["agni"].join("agni")
    two.rigs["agni"].attach(agni)
    two.advance(0.5)
    script = two.rigs["rushabdev"].join("agni")
    with pytest.raises(MailboxBusy, match="at the node agni"):
        two.rigs["rushabdev"].fetch(script)


def test_an_instance_elsewhere_can_be_written_to(two: Nodes) -> None:
    script = two.rigs["agni"].join("agni")
    two.rigs["agni"].attach(script, instance="7f3a")
    two.advance(2.5)
    dc = two.rigs["rushabdev"].join("dc")
    (receipt,) = send(two, "rushabdev", dc, {"id": "m1", "to": "agni/7f3a"})
    assert receipt["status"] == "accepted"
    two.settle()
    assert two.rigs["agni"].ids(script) == ["m1"]


def test_a_store_that_was_set_back_by_hand_is_noticed(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    send(two, "agni", dc, {"id": "m1", "to": "agni"})
    two.down("agni")
    two.stores["agni"] = MemoryStore("epoch-agni")
    rig = two.boot("agni")
    two.advance(1.0)
    (told,) = rig.node.peering.told()
    assert "somebody has put an old copy of its file in place by hand" in told["fault"]


# -- questions ---------------------------------------------------------------------------------------------------------


def query(nodes: Nodes, at: str, session: int, **options: Any) -> dict[str, Any]:
    answer: dict[str, Any] = nodes.rigs[at].call(session, uris.AUDIT_QUERY, options)
    return answer


def test_either_node_answers_for_all(two: Nodes) -> None:
    here, there = two.rigs["agni"].join("dc"), two.rigs["rushabdev"].join("dc")
    send(two, "agni", here, {"id": "m1", "to": "agni"})
    two.advance(1.0)
    send(two, "rushabdev", there, {"id": "m2", "to": "agni"})
    for node, session in (("agni", here), ("rushabdev", there)):
        told = query(two, node, session, node="*", kind="accepted")
        assert [(one["id"], one["node"]) for one in told["records"]] == [("m1", "agni"), ("m2", "rushabdev")]
        assert (told["more"], told["missing"]) == (False, [])
        told = query(two, node, session, node="agni", kind="accepted")
        assert [one["id"] for one in told["records"]] == ["m1"]
    assert [one["id"] for one in query(two, "agni", here, kind="accepted")["records"]] == ["m1"]


def test_what_a_node_that_is_away_may_have_is_named(two: Nodes) -> None:
    session = two.rigs["agni"].join("dc")
    two.cut()
    two.advance(DOWN_AFTER_S + 1.0)
    ((one,),) = (query(two, "agni", session, node="*")["missing"],)
    assert (one["node"], one["reason"]) == ("rushabdev", "rushabdev can't be reached from agni")


def test_a_journal_is_read_page_by_page_by_its_own_numbers(two: Nodes) -> None:
    session = two.rigs["rushabdev"].join("dc")
    sender = two.rigs["agni"].join("dc")
    send(two, "agni", sender, *({"id": f"m{n}", "to": "agni"} for n in range(5)))
    found, after, more = [], 0, True
    while more:
        told = query(two, "rushabdev", session, node="agni", kind="accepted", limit=2, after=after)
        found += [one["id"] for one in told["records"]]
        after, more = told["after"], told["more"]
    assert found == [f"m{n}" for n in range(5)]


def test_questions_about_nodes_that_cannot_be_answered_say_why(two: Nodes) -> None:
    session = two.rigs["agni"].join("dc")
    with pytest.raises(NodeUnknown, match='no journal of a node "ganesh"'):
        query(two, "agni", session, node="ganesh")
    with pytest.raises(ArgumentInvalid, match="no common numbers"):
        query(two, "agni", session, node="*", after=7)


# -- capabilities ------------------------------------------------------------------------------------------------------


def attach_able(nodes: Nodes, at: str, agent: str, **options: Any) -> int:
    """An agent that can deploy; its session."""
    session = nodes.rigs[at].join(agent)
    nodes.rigs[at].attach(session, **{"capabilities": ["deploy"], **options})
    return session


def kept_at(nodes: Nodes, message_id: str = "m1") -> list[str]:
    """The nodes that would hand the message out."""
    return [
        name
        for name, store in nodes.stores.items()
        for message in result_of(store.with_ids([message_id]))
        if message.is_kept_here
    ]


def is_tidy(nodes: Nodes) -> bool:
    """Whether each node's memory has just the mailboxes that its store has."""
    return all(
        {name: size.messages for name, size in result_of(rig.store.open_mailboxes()).items()}
        == {box.address: box.open_messages for box in rig.node.mailroom._mailboxes.values() if box.open_messages}
        for rig in nodes.rigs.values()
    )


DEPLOY = {"to": "capability:deploy"}


def test_a_capability_message_is_handed_out_by_the_node_that_accepted_it_while_it_has_somebody(two: Nodes) -> None:
    here, there = two.rigs["agni"], two.rigs["rushabdev"]
    dc = here.join("dc")
    agni, rushabdev = attach_able(two, "agni", "agni", window=1), attach_able(two, "rushabdev", "rushabdev")
    two.advance(1.0)
    send(two, "agni", dc, {"id": "m1", **DEPLOY}, {"id": "m2", **DEPLOY}, {"id": "m3", **DEPLOY})
    (delivery,) = here.pushed(agni)
    # The window is full; its agent takes the next one soon.
    two.advance(3.0)
    assert there.ids(rushabdev) == []
    here.call(dc, uris.MAILBOX_CANCEL, ["m2"])
    here.ack(agni, delivery["token"])
    (delivery,) = here.pushed(agni)
    here.ack(agni, delivery["token"])
    two.settle()
    assert there.node.mailroom.totals() == (0, 0)
    again = there.join("dc")
    assert there.states(again, "m1", "m2", "m3") == {"m1": "done", "m2": "cancelled", "m3": "done"}


def test_it_is_handed_over_to_the_node_where_somebody_is(two: Nodes) -> None:
    here, there = two.rigs["agni"], two.rigs["rushabdev"]
    dc = here.join("dc")
    rushabdev = attach_able(two, "rushabdev", "rushabdev")
    two.advance(1.0)
    send(two, "agni", dc, {"id": "m1", **DEPLOY})
    assert (kept_at(two), is_tidy(two)) == (["rushabdev"], True)
    (delivery,) = there.pushed(rushabdev)
    assert there.ack(rushabdev, delivery["token"]) == [True]
    two.settle()
    assert here.states(dc, "m1") == {"m1": "done"}
    assert (here.node.mailroom.totals(), there.node.mailroom.totals()) == ((0, 0), (0, 0))
    # An agent comes to the first node, and leaves the other one: the next message stays.
    there.leave(rushabdev)
    agni = attach_able(two, "agni", "agni")
    send(two, "agni", dc, {"id": "m2", **DEPLOY})
    assert here.ids(agni) == ["m2"]
    assert kept_at(two, "m2") == ["agni"]


def test_what_waits_is_handed_over_when_somebody_comes(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    send(two, "agni", dc, *({"id": f"m{number}", **DEPLOY} for number in range(700)))
    two.advance(5.0)
    assert kept_at(two) == ["agni"]
    rushabdev = attach_able(two, "rushabdev", "rushabdev", window=1000)
    two.advance(1.0)
    assert two.rigs["rushabdev"].ids(rushabdev) == [f"m{number}" for number in range(700)]
    assert is_tidy(two)


def test_why_says_to_whom_it_was_handed_over(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    attach_able(two, "rushabdev", "rushabdev")
    two.advance(1.0)
    send(two, "agni", dc, {"id": "m1", **DEPLOY}, {"id": "m2", **DEPLOY})
    again = two.rigs["rushabdev"].join("dc")
    for node, session in (("agni", dc), ("rushabdev", again)):
        (life,) = two.rigs[node].call(session, uris.AUDIT_WHY, "m1")["messages"]
        # All in one ms, here.
        assert {event["kind"] for event in life["events"]} == {"accepted", "handed", "delivered"}
        (event,) = (event for event in life["events"] if event["kind"] == "handed")
        assert (event["node"], event["keeper"], event["hop"]) == ("agni", "rushabdev", 1)
        assert event["reason"] == "handed to rushabdev, where an agent can do it"


@pytest.mark.parametrize("how", ["no capability", "only joined", "an instance", "stale", "of an older version"])
def test_nothing_is_handed_over_where_nobody_can_take_it(two: Nodes, how: str) -> None:
    here, there = two.rigs["agni"], two.rigs["rushabdev"]
    dc = here.join("dc")
    if how == "no capability":
        attach_able(two, "rushabdev", "rushabdev", capabilities=["build"])
    elif how == "only joined":
        # What it could do in its former session counts for nothing.
        there.leave(attach_able(two, "rushabdev", "rushabdev"))
        there.fetch(there.join("rushabdev"))
    elif how == "an instance":
        attach_able(two, "rushabdev", "rushabdev", instance="x")
    elif how == "stale":
        attach_able(two, "rushabdev", "rushabdev")
        two.advance(60.0)
    else:
        attach_able(two, "rushabdev", "rushabdev")
        two.advance(1.0)
        neighbours = here.node.neighbourhood._neighbours
        told = msgspec.to_builtins(neighbours._neighbours["rushabdev"].presence)
        del told["capabilities"]
        two.lets_through = lambda sender, to, kind: kind != PRESENCE
        here.node.listener.hear(PRESENCE, msgspec.msgpack.encode(told), "rushabdev")
    two.advance(1.0)
    send(two, "agni", dc, {"id": "m1", **DEPLOY})
    two.advance(1.0)
    assert kept_at(two) == ["agni"]


def test_nothing_is_handed_over_to_a_node_that_copies_nothing_from_here(two: Nodes) -> None:
    here = two.rigs["agni"]
    dc = here.join("dc")
    attach_able(two, "rushabdev", "rushabdev")
    two.advance(1.0)
    here.node.peering.faults["rushabdev"] = "its store is of another history"
    send(two, "agni", dc, {"id": "m1", **DEPLOY}, copies=1)
    two.advance(3.0)
    assert kept_at(two) == ["agni"]


def test_what_was_handed_over_goes_on_when_its_agent_is_gone(two: Nodes) -> None:
    here, there = two.rigs["agni"], two.rigs["rushabdev"]
    dc = here.join("dc")
    rushabdev = attach_able(two, "rushabdev", "rushabdev")
    two.advance(1.0)
    send(two, "agni", dc, {"id": "m1", **DEPLOY}, {"id": "m2", **DEPLOY})
    assert there.ids(rushabdev) == ["m1", "m2"]
    there.leave(rushabdev)
    two.advance(5.0)
    # Nobody can take it anywhere: it stays.
    assert kept_at(two) == ["rushabdev"]
    agni = attach_able(two, "agni", "agni")
    two.advance(1.0)
    deliveries = here.pushed(agni)
    assert [(one["message"]["id"], one["attempt"]) for one in deliveries] == [("m1", 2), ("m2", 2)]
    assert (kept_at(two), is_tidy(two)) == (["agni"], True)
    here.ack(agni, *(one["token"] for one in deliveries))
    two.settle()
    assert there.states(there.join("dc"), "m1", "m2") == {"m1": "done", "m2": "done"}
    assert (here.node.mailroom.totals(), there.node.mailroom.totals()) == ((0, 0), (0, 0))


def test_what_is_out_or_pauses_is_not_handed_over(two: Nodes) -> None:
    here, there = two.rigs["agni"], two.rigs["rushabdev"]
    dc = here.join("dc")
    agni, rushabdev = attach_able(two, "agni", "agni"), attach_able(two, "rushabdev", "rushabdev")
    two.advance(1.0)
    send(two, "agni", dc, {"id": "m1", **DEPLOY}, {"id": "m2", **DEPLOY})
    first, second = here.pushed(agni)
    here.nack(agni, first["token"])
    # It attaches anew, without the capability: what it holds it may finish.
    here.attach(agni, capabilities=[])
    two.advance(0.5)
    assert (kept_at(two, "m1"), kept_at(two, "m2"), there.ids(rushabdev)) == (["agni"], ["agni"], [])
    two.advance(1.0)
    assert there.ids(rushabdev) == ["m1"]
    assert here.ack(agni, second["token"]) == [True]
    two.advance(1.0)
    assert is_tidy(two)


# -- capabilities: what breaks while a message is being handed over ----------------------------------------------------


def hand_over_cut_off(two: Nodes) -> int:
    """m1 is handed over to rushabdev, which can't hear of it any more; dc's session at agni."""
    dc = two.rigs["agni"].join("dc")
    attach_able(two, "rushabdev", "rushabdev")
    two.advance(1.0)
    two.lose_journals()
    begin_send(two, "agni", dc, {"id": "m1", **DEPLOY})
    two.settle()
    two.cut()
    assert kept_at(two) == []
    return dc


def test_a_partition_right_after_it(two: Nodes) -> None:
    hand_over_cut_off(two)
    here, there = two.rigs["agni"], two.rigs["rushabdev"]
    agni = attach_able(two, "agni", "agni")
    two.advance(10.0)
    # The price: nobody runs it, although both could.
    assert (here.ids(agni), there.pushed()) == ([], [])
    two.heal()
    two.advance(4.0)
    assert (here.ids(agni), there.ids()) == ([], ["m1"])
    assert is_tidy(two)


def test_a_crash_right_after_it(two: Nodes) -> None:
    hand_over_cut_off(two)
    two.down("agni")
    two.advance(DOWN_AFTER_S + 1.0)
    assert two.rigs["rushabdev"].pushed() == []
    two.heal()
    two.boot("agni")
    agni = attach_able(two, "agni", "agni")
    two.advance(CATCH_UP_PATIENCE_S + 3.0)
    assert (two.rigs["agni"].ids(agni), two.rigs["rushabdev"].ids()) == ([], ["m1"])


def test_a_crash_of_both(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    attach_able(two, "rushabdev", "rushabdev")
    two.advance(1.0)
    send(two, "agni", dc, {"id": "m1", **DEPLOY})
    assert two.rigs["rushabdev"].ids() == ["m1"]
    for name in ("agni", "rushabdev"):
        two.down(name)
    for name in ("agni", "rushabdev"):
        two.boot(name)
    rushabdev = attach_able(two, "rushabdev", "rushabdev")
    agni = attach_able(two, "agni", "agni")
    two.advance(3.0)
    assert (two.rigs["agni"].ids(agni), two.rigs["rushabdev"].ids(rushabdev)) == ([], ["m1"])
    assert is_tidy(two)


def test_it_waits_while_its_keeper_is_away(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    rushabdev = attach_able(two, "rushabdev", "rushabdev")
    two.advance(1.0)
    send(two, "agni", dc, {"id": "m1", **DEPLOY})
    assert two.rigs["rushabdev"].ids(rushabdev) == ["m1"]
    two.down("rushabdev")
    agni = attach_able(two, "agni", "agni")
    two.advance(DOWN_AFTER_S + 5.0)
    assert two.rigs["agni"].ids(agni) == []
    two.boot("rushabdev")
    two.advance(3.0)
    # Its own agent did not come back with it.
    assert (two.rigs["agni"].ids(agni), kept_at(two)) == (["m1"], ["agni"])


def test_a_keeper_that_lost_its_disk_gets_it_back(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    attach_able(two, "rushabdev", "rushabdev")
    two.advance(1.0)
    send(two, "agni", dc, {"id": "m1", **DEPLOY})
    two.down("rushabdev")
    two.stores["rushabdev"] = MemoryStore("epoch-rushabdev-2", "rushabdev")
    two.boot("rushabdev")
    rushabdev = attach_able(two, "rushabdev", "rushabdev")
    two.advance(6.0)
    assert two.rigs["rushabdev"].ids(rushabdev) == ["m1"]
    assert (kept_at(two), is_tidy(two)) == (["rushabdev"], True)


def test_a_node_that_lost_its_disk_hands_out_again_what_it_had_accepted(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    send(two, "agni", dc, {"id": "m1", **DEPLOY}, {"id": "m2", **DEPLOY})
    two.down("agni")
    two.stores["agni"] = MemoryStore("epoch-agni-2", "agni")
    rig = two.boot("agni")
    two.advance(6.0)
    agni = attach_able(two, "agni", "agni")
    two.settle()
    assert rig.ids(agni) == ["m1", "m2"]
    assert is_tidy(two)


def test_of_three_nodes_one_has_it_at_a_time(tmp_path: Path) -> None:
    names = ("agni", "rushabdev", "dc")
    three = Nodes(tmp_path, {name: MemoryStore(f"epoch-{name}", name) for name in names})
    three.advance(1.0)
    sender = three.rigs["agni"].join("dc")
    first = attach_able(three, "rushabdev", "rushabdev")
    three.advance(1.0)
    send(three, "agni", sender, {"id": "m1", **DEPLOY})
    assert three.rigs["rushabdev"].ids(first) == ["m1"]
    three.rigs["rushabdev"].leave(first)
    # The third node hears of the second hand-over before the first one.
    three.lets_through = lambda sender, to, kind: {sender, to} != {"agni", "dc"} or kind != "journal"
    third = attach_able(three, "dc", "agni")
    three.advance(1.0)
    assert kept_at(three) == ["dc"]
    assert three.rigs["dc"].ids(third) == ["m1"]
    three.heal()
    three.advance(5.0)
    assert (kept_at(three), is_tidy(three)) == (["dc"], True)
    assert three.rigs["agni"].pushed() == []


def test_what_was_offered_to_both_nodes_is_handed_out_by_one_once_they_know(two: Nodes) -> None:
    here, there = two.rigs["agni"], two.rigs["rushabdev"]
    dc, moved = here.join("dc"), there.join("dc")
    two.cut()
    two.advance(DOWN_AFTER_S + 1.0)
    send(two, "agni", dc, {"id": "m1", **DEPLOY})
    send(two, "rushabdev", moved, {"id": "m1", **DEPLOY})
    assert kept_at(two) == ["agni", "rushabdev"]
    two.heal()
    two.advance(3.0)
    assert (kept_at(two), is_tidy(two)) == (["rushabdev"], True)
    agni, rushabdev = attach_able(two, "agni", "agni"), attach_able(two, "rushabdev", "rushabdev")
    two.advance(1.0)
    assert (here.ids(agni), there.ids(rushabdev)) == ([], ["m1"])


def test_what_is_out_when_it_turns_out_to_be_anothers_comes_back_to_that_one(two: Nodes) -> None:
    here, there = two.rigs["agni"], two.rigs["rushabdev"]
    dc, moved = here.join("dc"), there.join("dc")
    agni = attach_able(two, "agni", "agni")
    two.cut()
    two.advance(DOWN_AFTER_S + 1.0)
    send(two, "agni", dc, {"id": "m1", **DEPLOY})
    (delivery,) = here.pushed(agni)
    send(two, "rushabdev", moved, {"id": "m1", **DEPLOY})
    two.lets_through = lambda sender, to, kind: kind != PRESENCE
    two.advance(3.0)
    assert is_tidy(two)
    here.leave(agni)
    two.advance(1.0)
    assert here.node.mailroom.counts("capability:deploy@rushabdev") == (1, 0)
    again = here.join("agni")
    assert here.ack(again, delivery["token"]) == [True]
    two.settle()
    assert there.states(moved, "m1") == {"m1": "done"}
    assert is_tidy(two)


def test_a_replayed_letter_goes_to_its_keeper(two: Nodes) -> None:
    here, there = two.rigs["agni"], two.rigs["rushabdev"]
    dc = here.join("dc", operator=True)
    rushabdev = attach_able(two, "rushabdev", "rushabdev")
    two.advance(1.0)
    send(two, "agni", dc, {"id": "m1", **DEPLOY})
    (delivery,) = there.pushed(rushabdev)
    there.nack(rushabdev, delivery["token"], requeue=False)
    two.settle()
    (letter,) = here.call(dc, uris.ADMIN_DEAD_LIST)["letters"]
    assert here.call(dc, uris.ADMIN_DEAD_REPLAY, [letter["seq"]]) == [True]
    two.settle()
    assert there.ids(rushabdev) == ["m1"]
    assert is_tidy(two)


def test_copies_of_capability_messages_stay_apart_over_a_restart(two: Nodes) -> None:
    dc = two.rigs["agni"].join("dc")
    send(two, "agni", dc, {"id": "m1", **DEPLOY})
    two.down("rushabdev")
    rig = two.boot("rushabdev")
    two.advance(3.0)
    # Nobody tells the other node of the agent here.
    two.lets_through = lambda sender, to, kind: kind != PRESENCE
    there = attach_able(two, "rushabdev", "rushabdev")
    two.settle()
    assert rig.ids(there) == []
    assert rig.node.mailroom.totals() == (1, 0)


def test_peers_tell_what_they_run_and_whether_their_agents_are_the_same(two: Nodes) -> None:
    here, there = two.rigs["agni"], two.rigs["rushabdev"]
    (status,) = here.node.peering.told()
    assert (status["version"], status["agents_differ"]) == ("0", False)
    with update_agents(there.agents_file) as agents:
        agents["eve"] = AgentEntry()
    there.node.principals.reload_if_changed()
    two.advance(1.0)
    assert [rig.node.peering.told()[0]["agents_differ"] for rig in (here, there)] == [True, True]
    # One of an older version tells neither.
    there.node.peering.about = lambda: ("", "")
    two.advance(1.0)
    (status,) = here.node.peering.told()
    assert (status["version"], status["agents_differ"]) == (None, None)


def test_a_version_that_is_none_is_not_believed(two: Nodes) -> None:
    here, there = two.rigs["agni"], two.rigs["rushabdev"]
    about = ("x" * 65, "")
    there.node.peering.about = lambda: about
    two.advance(DOWN_AFTER_S + 1)
    assert here.node.peering.told()[0]["state"] == "down"
    about = ("", "a\nb")
    two.advance(DOWN_AFTER_S + 1)
    assert here.node.peering.told()[0]["state"] == "down"
