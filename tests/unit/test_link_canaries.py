"""Canaries between agents of linked nodes: counted once, lost with the link, kept from a node that knows none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.pair import Nodes
from trishula.contract import uris
from trishula.watching.bus_objectives import BusObjectives, merge
from trishula_router.canary_rounds import CanaryWord
from trishula_router.objectives.visiting import Visits
from trishula_router.peers.presence_policy import Presence
from trishula_router.store.memory import MemoryStore


class Bus:
    """Two nodes with clocks that differ by an hour, whose agents answer canaries at once."""

    def __init__(self, directory: Path) -> None:
        stores: dict[str, Any] = {name: MemoryStore(f"epoch-{name}") for name in ("near", "far")}
        self.nodes = Nodes(directory, stores, agents=("agni", "dc", "old", "boss"), aheads_ms={"far": 3_600_000})
        self.silent: set[str] = set()
        self.told: list[tuple[str, dict[str, str]]] = []
        self.nodes.advance(3)

    def attach(self, node: str, agent: str, *, canaries: bool = True) -> int:
        rig = self.nodes.rigs[node]
        session = rig.join(agent)
        rig.attach(session, **({"canaries": True} if canaries else {}))
        self.nodes.advance(0.25)
        return session

    def passes(self, seconds: int) -> None:
        for _ in range(4 * seconds):
            self.nodes.advance(0.25)
            for rig in self.nodes.rigs.values():
                while rig.outlet.canaries:
                    agent, session, canary = rig.outlet.canaries.pop(0)
                    self.told.append((agent, canary))
                    if agent not in self.silent:
                        assert rig.call(session, uris.MAILBOX_CANARY, {"id": canary["id"]}) is True

    def objectives(self, *names: str) -> BusObjectives:
        rigs = [self.nodes.rigs[name] for name in names or self.nodes.rigs]
        return merge([rig.call(rig.join("boss", operator=True), uris.NODE_OBJECTIVES) for rig in rigs])


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    yield Bus(tmp_path)


def test_each_canary_over_a_link_is_counted_once(bus: Bus) -> None:
    bus.attach("near", "agni")
    bus.attach("far", "dc")
    # Who does not know them gets none.
    bus.attach("far", "old", canaries=False)
    high_water = [rig.store.high_water for rig in bus.nodes.rigs.values()]
    bus.passes(300)
    assert {agent for agent, _ in bus.told} == {"agni", "dc"}
    assert [rig.store.high_water for rig in bus.nodes.rigs.values()] == high_water
    assert all(not rig.outlet.pushed for rig in bus.nodes.rigs.values())
    for name in ("near", "far"):
        assert bus.objectives(name).totals["1h"].link_canaries == 5
    merged = bus.objectives()
    hour = merged.totals["1h"]
    assert (hour.link_canaries, hour.link_canaries_lost, hour.link_canary_ms.count) == (10, 0, 10)
    assert (hour.canaries, hour.accepted, hour.done) == (0, 0, 0)
    assert {(one["node"], one["from"], one["to"], one["road"]) for one in merged.canaries} == {
        ("near", "agni", "dc", "link"),
        ("far", "dc", "agni", "link"),
    }
    # What is posted is heard a quarter of a second later, by whichever clock.
    assert hour.link_canary_ms.quantile(0.99) == pytest.approx(250, rel=0.01)
    assert merged.canaries_unmeasured == []


def test_with_the_link_down_exactly_its_pairs_lose_canaries(bus: Bus) -> None:
    for node, agent in (("near", "agni"), ("near", "old"), ("far", "dc")):
        bus.attach(node, agent)
    bus.passes(60)
    bus.nodes.cut()
    bus.passes(120)
    lost = {(one["from"], one["to"]) for one in bus.objectives("near").canaries if one["lost"]}
    assert lost == {("agni", "dc"), ("old", "dc")}
    assert {(one["from"], one["to"]) for one in bus.objectives("far").canaries if one["lost"]} == {
        ("dc", "agni"),
        ("dc", "old"),
    }
    hour = bus.objectives().totals["1h"]
    assert hour.canaries_lost == 0 and 6 <= hour.link_canaries_lost <= 8
    bus.nodes.heal()
    bus.passes(15)
    before = bus.objectives().totals["1h"]
    bus.passes(120)
    after = bus.objectives().totals["1h"]
    assert after.link_canaries_lost == before.link_canaries_lost and after.link_canaries > before.link_canaries


def test_an_agent_that_comes_over_from_a_dead_node_is_no_loss(bus: Bus) -> None:
    bus.attach("near", "agni")
    bus.attach("far", "dc")
    bus.passes(60)
    bus.nodes.down("far")
    bus.passes(3)
    bus.attach("near", "dc")
    bus.passes(120)
    hour = bus.objectives("near").totals["1h"]
    assert hour.link_canaries_lost == 0 and hour.canaries >= 3


def test_an_agent_that_hangs_behind_a_link_loses_them(bus: Bus) -> None:
    bus.attach("near", "agni")
    bus.attach("far", "dc")
    bus.silent.add("dc")
    bus.passes(130)
    [pair] = bus.objectives("near").canaries
    assert (pair["from"], pair["to"], pair["lost"]) == ("agni", "dc", 2)


def test_a_node_of_the_release_before_is_sent_none_and_said_to_be_unmeasured(bus: Bus) -> None:
    bus.attach("near", "agni")
    bus.attach("far", "dc")
    near = bus.nodes.rigs["near"]
    bus.nodes.lets_through = lambda sender, to, kind: kind != "presence" or sender != "far"

    def as_before() -> None:
        # What a node tells that knows no canaries: the rest of its word, without the key.
        far = bus.nodes.rigs["far"]
        said = Presence("far", [], {"dc": near.node.now()}, [], sent_at=far.node.now())
        raw = msgspec.msgpack.decode(msgspec.msgpack.encode(said))
        del raw["canaries"]
        near.node.listener.hear("presence", msgspec.msgpack.encode(raw), "far")

    as_before()
    bus.nodes.advance(1)
    bus.told.clear()
    bus.passes(120)
    assert not [one for agent, one in bus.told if agent == "agni" and "to" in one]
    merged = bus.objectives("near")
    assert (merged.totals["1h"].link_canaries, merged.canaries) == (0, [])
    assert merged.canaries_unmeasured == [{"node": "near", "peer": "far"}]


@pytest.mark.parametrize(
    "word",
    [
        {"node": "far", "id": "", "sender": "dc", "recipient": "agni"},
        {"node": "far", "id": "x\ny", "sender": "dc", "recipient": "agni"},
        {"node": "near", "id": "x", "sender": "dc", "recipient": "agni"},
        {"node": "far", "id": "x", "sender": "nobody", "recipient": "agni"},
        {"node": "far", "id": "x", "sender": "agni", "recipient": "agni"},
        {"node": "far", "id": "x", "arrived_at": 1, "kept_s": -1.0},
        {"node": "far", "id": "x", "arrived_at": 1, "kept_s": float("nan")},
        {"node": "far", "id": "x", "arrived_at": 1, "took_s": 2.0, "kept_s": 1.0},
        {"node": "far", "id": "x" * 5000},
    ],
)
def test_a_word_that_cannot_be_true_is_refused(bus: Bus, word: dict[str, Any]) -> None:
    bus.attach("near", "agni")
    bus.passes(5)
    near = bus.nodes.rigs["near"]
    near.outlet.canaries.clear()
    before = sum(one for one in near.node.refusals.counts.values())
    near.node.listener.hear("canary", msgspec.msgpack.encode(word), "far")
    assert near.outlet.canaries == [] and sum(near.node.refusals.counts.values()) == before + 1


def test_an_answer_to_what_was_not_sent_counts_nothing(bus: Bus) -> None:
    near = bus.nodes.rigs["near"]
    near.node.listener.hear("canary", msgspec.msgpack.encode(CanaryWord("far", "x", arrived_at=1)), "far")
    assert bus.objectives("near").totals["1h"].link_canaries == 0


def test_the_visits_of_a_peer_have_a_bound_and_none_counts_twice() -> None:
    visits = Visits("run")
    first = visits.came("far", "c-0", 1, 0.0, 5)
    assert first is not None and visits.came("far", "c-0", 1, 0.0, 5) is None
    came = [visits.came("far", f"c-{number}", 1, 1.0, 5) for number in range(1, 100)]
    assert sum(one is not None for one in came) == 59
    assert visits.came("other", "c-0", 1, 1.0, 5) is not None
    assert [visits.heard(first.id, session) for session in (2, 1, 1)] == [None, first, None]
    assert visits.came("far", "late", 1, 11.5, 5) is not None
