"""Looking at a mailbox: all is shown, and nothing is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from tests.support.pair import Nodes
from tests.support.stores import result_of
from trishula.contract import uris
from trishula.errors import ArgumentInvalid
from trishula_router.store.memory import MemoryStore


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, MemoryStore("epoch-1"), Clock()).start()


def peek(rig: Rig, session: int, **options: Any) -> dict[str, Any]:
    answer: dict[str, Any] = rig.call(session, uris.MAILBOX_PEEK, options or None)
    return answer


def ids(answer: dict[str, Any]) -> list[str]:
    return [one["message"]["id"] for one in answer["messages"]]


def kinds(rig: Rig) -> list[str]:
    return [record.kind for record in result_of(rig.store.records(after=0, limit=1000))]


def test_a_look_changes_nothing(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.send(dc, {"id": "m1", "to": "agni", "payload": {"n": 1}}, {"id": "m2", "to": "agni", "priority": 1})
    rig.outlet.take_news()
    before = kinds(rig)
    # More often than a message may be lost with its session.
    for _ in range(25):
        looked = peek(rig, agni)
    assert ids(looked) == ["m2", "m1"]
    assert looked["messages"][1]["message"]["payload"] == {"n": 1}
    assert [(one["state"], one["attempts"]) for one in looked["messages"]] == [("accepted", 0), ("accepted", 0)]
    assert (looked["pending"], looked["in_flight"], looked["more"]) == (2, 0, False)
    assert (looked["epoch"], looked["high_water"]) == ("epoch-1", rig.store.high_water)
    assert (rig.outlet.take_news(), kinds(rig)) == ([], before)
    assert [one["attempt"] for one in rig.fetch(agni)["deliveries"]] == [1, 1]


def test_what_is_with_a_running_agent_is_shown_too(rig: Rig) -> None:
    dc, agni, script = rig.join("dc"), rig.join("agni"), rig.join("agni")
    rig.attach(agni, window=1)
    rig.send(dc, {"id": "m1", "to": "agni"}, {"id": "m2", "to": "agni"})
    looked = peek(rig, script)
    assert [(one["message"]["id"], one["state"]) for one in looked["messages"]] == [
        ("m1", "delivered"),
        ("m2", "accepted"),
    ]
    assert (looked["pending"], looked["in_flight"]) == (1, 1)


def test_pages_follow_each_other(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.send(dc, *({"id": f"m{index}", "to": "agni", "priority": 3 - index % 2} for index in range(5)))
    first = peek(rig, agni, max=3)
    assert (ids(first), first["more"]) == (["m1", "m3", "m0"], True)
    rest = peek(rig, agni, after=first["after"])
    assert (ids(rest), rest["more"]) == (["m2", "m4"], False)
    none = peek(rig, agni, after=rest["after"])
    assert (ids(none), none["more"], none["after"]) == ([], False, rest["after"])


def test_a_page_is_no_larger_than_an_event(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.send(dc, *({"id": f"m{index}", "to": "agni", "payload": "x" * 600_000} for index in range(3)))
    assert (ids(peek(rig, agni)), peek(rig, agni)["more"]) == (["m0"], True)


def test_it_is_the_callers_own_mailbox_or_its_instances(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    script = rig.join("agni")
    rig.attach(script, instance="one")
    rig.send(dc, {"id": "m1", "to": "agni"}, {"id": "m2", "to": "agni/one"})
    assert ids(peek(rig, agni)) == ["m1"]
    assert ids(peek(rig, agni, instance="one")) == ["m2"]
    assert ids(peek(rig, dc)) == []


def test_a_bad_place_is_refused(rig: Rig) -> None:
    with pytest.raises(ArgumentInvalid) as caught:
        peek(rig, rig.join("agni"), after=[1])
    assert caught.value.sentence == (
        'options.after is [1]; it must be the "after" of a former answer of this node: two integers'
    )


def test_pages_follow_each_other_where_another_node_accepted_some(tmp_path: Path) -> None:
    # A position says which node accepted a message and not when it came: those of other nodes are all above our own.
    nodes = Nodes(tmp_path, {name: MemoryStore(f"epoch-{name}", name) for name in ("agni", "rushabdev")})
    nodes.advance(1.0)
    here, there = nodes.rigs["agni"], nodes.rigs["rushabdev"]
    senders = {here: here.join("dc"), there: there.join("dc")}
    sent = []
    for index, rig in enumerate([there, here, here, there, here, there, there, here]):
        rig.begin(senders[rig], uris.MAILBOX_SEND, [{"type": "STATUS", "id": f"m{index}", "to": "agni"}])
        nodes.settle()
        sent.append(f"m{index}")
    for rig in (here, there):
        agni, looked, after = rig.join("agni"), [], None
        for _ in range(len(sent)):
            page = peek(rig, agni, max=2, **({} if after is None else {"after": after}))
            looked += ids(page)
            after = page["after"]
            if not page["more"]:
                break
        assert looked == sent
