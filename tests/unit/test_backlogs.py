"""What operators are told of mailboxes: depth, age, who fills one, who takes from it; here and at a linked node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from tests.support.pair import Nodes
from tests.support.stores import HeldStore, result_of
from trishula.contract import uris
from trishula.errors import ArgumentInvalid, KeyUnknown
from trishula_router.agents.file import AgentEntry
from trishula_router.mail import backlogs
from trishula_router.mail.shares import Shares
from trishula_router.store.memory import MemoryStore

AGENTS = {"agni": AgentEntry(serve=("deploy",)), "dc": AgentEntry(), "rushabdev": AgentEntry()}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, MemoryStore("epoch-1"), Clock(), agents=AGENTS).start()


def boxes(rig: Rig, **options: Any) -> list[dict[str, Any]]:
    boss = rig.join("rushabdev", operator=True)
    answer: list[dict[str, Any]] = rig.call(boss, uris.NODE_MAILBOXES, options or None)
    rig.leave(boss)
    return answer


def test_of_a_node_at_rest_nothing_is_told(rig: Rig) -> None:
    assert boxes(rig) == []


def test_the_deepest_mailbox_comes_first_with_who_fills_it(rig: Rig) -> None:
    dc, other = rig.join("dc"), rig.join("rushabdev")
    rig.send(dc, {"id": "m1", "to": "agni"})
    first_at = rig.now()
    rig.advance(5)
    rig.send(other, *({"id": f"m{index}", "to": "agni"} for index in range(2)), {"id": "m3", "to": "dc"})
    deep, flat = boxes(rig)
    assert (deep["address"], deep["pending"], deep["in_flight"], deep["oldest_at"]) == ("agni", 3, 0, first_at)
    assert deep["senders"] == [{"agent": "rushabdev", "messages": 2}, {"agent": "dc", "messages": 1}]
    assert (deep["bytes"] > flat["bytes"] > 0, deep["consumer"], flat["address"]) == (True, None, "dc")
    assert [box["address"] for box in boxes(rig, limit=1)] == ["agni"]


def test_what_comes_while_the_store_is_asked_counts_for_the_order_too(tmp_path: Path) -> None:
    store = HeldStore(MemoryStore("epoch-1"))
    rig = Rig(tmp_path, store, Clock(), agents=AGENTS).start()
    dc, boss = rig.join("dc"), rig.join("rushabdev", operator=True)
    rig.send(dc, *({"id": f"a{index}", "to": "agni"} for index in range(2)), {"id": "r", "to": "rushabdev"})
    store.holding = True
    asked = rig.begin(boss, uris.NODE_MAILBOXES, None)
    batch = [{"type": "STATUS", "id": f"r{index}", "to": "rushabdev"} for index in range(4)]
    sent = rig.begin(dc, uris.MAILBOX_SEND, batch, None)
    store.let_write()
    assert sent.called and not asked.called
    store.let_read()
    assert [(box["address"], box["pending"]) for box in result_of(asked)] == [("rushabdev", 5), ("agni", 2)]


def test_what_is_out_is_apart_and_its_consumer_is_named(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni, window=2, run="r1", host="laptop")
    since = rig.now()
    rig.send(dc, *({"id": f"m{index}", "to": "agni"} for index in range(3)))
    rig.advance(10)
    rig.call(agni, uris.DIRECTORY_BEAT, {"sent_at": rig.now(), "busy_until": rig.now() + 60_000})
    (box,) = boxes(rig)
    assert (box["pending"], box["in_flight"]) == (1, 2)
    assert box["consumer"] == {
        "agent": "agni", "node": "single", "session": agni, "since": since, "by": "attach", "host": "laptop",
        "busy_until": rig.now() + 60_000,
    }  # fmt: skip


def test_since_when_it_is_consumed_is_right_after_the_same_session_attached_again(rig: Rig) -> None:
    agni = rig.join("agni")
    rig.attach(agni)
    since = rig.now()
    rig.advance(7)
    rig.attach(agni, window=3)
    assert [box["consumer"]["since"] for box in boxes(rig)] == [since]


def test_an_idle_consumer_is_shown_and_one_that_left_is_not(rig: Rig) -> None:
    agni = rig.join("agni")
    rig.attach(agni, instance="x1")
    (box,) = boxes(rig)
    assert (box["address"], box["pending"], box["oldest_at"], box["senders"]) == ("agni/x1", 0, None, [])
    assert (box["consumer"]["agent"], box["consumer"]["instance"]) == ("agni", "x1")
    rig.leave(agni)
    assert boxes(rig) == []


def test_who_waits_with_a_fetch_takes_from_it_too(rig: Rig) -> None:
    agni = rig.join("agni")
    waiting = rig.begin(agni, uris.MAILBOX_FETCH, {"wait_s": 30})
    (box,) = boxes(rig)
    assert (box["consumer"]["by"], box["consumer"]["session"], box["consumer"]["since"]) == ("fetch", agni, None)
    rig.advance(31)
    assert result_of(waiting)["deliveries"] == []
    assert boxes(rig) == []


def test_of_one_agent_its_instances_too_and_always_something(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni, instance="x1")
    rig.send(dc, {"id": "m1", "to": "agni"}, {"id": "m2", "to": "dc"})
    assert [box["address"] for box in boxes(rig, agent="agni")] == ["agni", "agni/x1"]
    (box,) = boxes(rig, agent="rushabdev")
    assert (box["address"], box["pending"], box["in_flight"], box["consumer"]) == ("rushabdev", 0, 0, None)
    # The question left no mailbox behind.
    assert not rig.node.mailroom.has("rushabdev")


def test_a_capability_names_who_serves_it(rig: Rig) -> None:
    dc = rig.join("dc")
    rig.send(dc, {"id": "m1", "to": "capability:deploy"}, {"id": "m2", "to": "capability:fly"})
    told = {box["address"]: (box["pending"], box["consumer"], box["able"], box["able_at"]) for box in boxes(rig)}
    assert told == {"capability:deploy": (1, None, [], []), "capability:fly": (1, None, [], [])}
    agni = rig.join("agni")
    rig.attach(agni, capabilities=["deploy"], window=1)
    rig.send(dc, {"id": "m3", "to": "capability:deploy"})
    (box,) = boxes(rig, agent="capability:deploy")
    assert (box["able"], box["in_flight"], box["pending"]) == (["agni"], 1, 1)


@pytest.mark.parametrize(
    ("options", "error"),
    [({"agent": "No One"}, ArgumentInvalid), ({"limit": 0}, ArgumentInvalid), ({"depth": 1}, KeyUnknown)],
)
def test_a_wrong_question_is_refused(rig: Rig, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        boxes(rig, **options)


def test_very_many_senders_are_looked_through_in_turns(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    dc = rig.join("dc")
    rig.send(dc, *({"id": f"{to}", "to": to} for to in ("agni", "dc", "rushabdev")))
    monkeypatch.setattr(backlogs, "_SENDERS_AT_ONCE", 1)
    page = Deferred.fromCoroutine(rig.node.backlogs.page(None, 10))
    assert not page.called
    rig.settle()
    assert [box["address"] for box in result_of(page)] == ["agni", "dc", "rushabdev"]


def test_the_five_that_have_the_most_are_named() -> None:
    shares = Shares()
    for number in range(9):
        for _ in range(number):
            shares.add("agni", f"s{number}", 10, 3)
    assert shares.senders("agni") == 8
    assert shares.top_senders("agni", 3) == [("s8", 8), ("s7", 7), ("s6", 6)]
    assert (shares.senders("dc"), shares.top_senders("dc", 3)) == (0, [])


# -- looking into one --------------------------------------------------------------------------------------------------


def peek(rig: Rig, *args: Any) -> dict[str, Any]:
    boss = rig.join("rushabdev", operator=True)
    answer: dict[str, Any] = rig.call(boss, uris.NODE_PEEK, *args)
    return answer


def test_an_operator_looks_into_any_mailbox_and_takes_nothing(rig: Rig) -> None:
    dc = rig.join("dc")
    rig.send(dc, {"id": "m1", "to": "agni", "payload": 1}, {"id": "m2", "to": "agni", "priority": 1})
    rig.send(dc, {"id": "m3", "to": "capability:deploy"})
    first = peek(rig, "agni", {"max": 1})
    assert ([one["message"]["id"] for one in first["messages"]], first["more"]) == (["m2"], True)
    rest = peek(rig, "agni", {"after": first["after"]})
    assert ([one["message"]["payload"] for one in rest["messages"]], rest["more"]) == ([1], False)
    assert (rest["node"], rest["pending"], rest["in_flight"], rest["epoch"]) == ("single", 2, 0, "epoch-1")
    assert [one["message"]["id"] for one in peek(rig, "capability:deploy")["messages"]] == ["m3"]
    assert [one["attempt"] for one in rig.fetch(rig.join("agni"))["deliveries"]] == [1, 1]


def test_what_is_no_address_is_refused(rig: Rig) -> None:
    with pytest.raises(ArgumentInvalid, match=r'address is "a b"; it must be an agent, agent/instance or capability'):
        peek(rig, "a b")


# -- linked nodes ------------------------------------------------------------------------------------------------------


@pytest.fixture
def nodes(tmp_path: Path) -> Nodes:
    nodes = Nodes(tmp_path, {"a": MemoryStore("epoch-a", "a"), "b": MemoryStore("epoch-b", "b")})
    nodes.advance(2)
    return nodes


def test_a_mailbox_that_is_consumed_elsewhere_names_the_node(nodes: Nodes) -> None:
    here, there = nodes.rigs["a"], nodes.rigs["b"]
    dc, agni = here.join("dc"), there.join("agni")
    there.attach(agni, window=1, run="r1", host="desk")
    nodes.settle()
    sending = here.begin(dc, uris.MAILBOX_SEND, [{"type": "STATUS", "id": f"m{n}", "to": "agni"} for n in range(2)])
    nodes.advance(1)
    assert [receipt["status"] for receipt in result_of(sending)] == ["accepted", "accepted"]
    (box,) = boxes(here, agent="agni")
    # What is being handled there, this node can't tell from what waits.
    assert (box["pending"], box["in_flight"]) == (2, 0)
    assert box["consumer"] == {
        "agent": "agni", "node": "b", "session": None, "since": None, "by": "attach", "host": "desk"
    }  # fmt: skip
    (box,) = boxes(there, agent="agni")
    assert (box["pending"], box["in_flight"], box["consumer"]["node"]) == (1, 1, "b")
    nodes.cut()
    nodes.advance(10)
    # Nobody knows whether it still does.
    assert boxes(here, agent="agni")[0]["consumer"] is None


def test_a_capability_is_told_by_the_node_that_hands_it_out(nodes: Nodes) -> None:
    here, there = nodes.rigs["a"], nodes.rigs["b"]
    dc = here.join("dc")
    sending = here.begin(dc, uris.MAILBOX_SEND, [{"type": "STATUS", "id": "m1", "to": "capability:deploy"}])
    nodes.advance(1)
    assert result_of(sending)[0]["status"] == "accepted"
    assert [box["address"] for box in boxes(here)] == ["capability:deploy"]
    assert boxes(there) == []
