"""Canaries between agents: whose turn it is, what became of them, and that nobody sees one who does not know them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.faketransport import FakeConnection, FakeLink, settings, surroundings
from tests.support.nodes import Rig
from trishula.client import Client
from trishula.contract import uris
from trishula.contract.deliveries import Delivery
from trishula.errors import ArgumentInvalid, KeyUnknown
from trishula.runtime.pending import start
from trishula.watching.totals import Totals
from trishula_router.agents.file import AgentEntry
from trishula_router.metrics.figures import read
from trishula_router.objectives.canaries import LINK, LIVE, PATIENCE_S, Canaries, Place
from trishula_router.store.memory import MemoryStore

# -- whose turn it is --------------------------------------------------------------------------------------------------


class Bus:
    """Agents that all answer, each way in ten milliseconds."""

    def __init__(self, count: int, per_minute: int = 30, elsewhere: int = 0) -> None:
        self.canaries = Canaries(per_minute, "run")
        self.consumers = {f"agent{number:03}": number for number in range(count)}
        for agent, session in self.consumers.items():
            self.canaries.announced(agent, session, knows=True)
        self.elsewhere: dict[str, Place] = {f"other{number:03}": ("far", 7) for number in range(elsewhere)}
        self.now_s = 0.0
        self.flown: list[tuple[str, str]] = []

    def passes(self, seconds: int, *, answers: bool = True) -> None:
        for _ in range(seconds):
            self.now_s += 1
            self.canaries.look(self.consumers, self.elsewhere, self.now_s)
            flight = self.canaries.next(self.consumers, self.elsewhere, lambda sender, to: True, self.now_s)
            if flight is None:
                continue
            self.flown.append((flight.sender, flight.recipient))
            if answers:
                assert self.canaries.heard(flight.id, flight.sessions[0], self.now_s + 0.010) is flight
                self.canaries.handed(flight, self.now_s + 0.013, 1000)
                if flight.peer is not None:
                    assert self.canaries.answered(
                        "far", flight.id, way_ms=4, kept_s=0.020, took_s=0.010, now_s=self.now_s + 0.043
                    )
                    continue
                assert self.canaries.heard(flight.id, flight.sessions[1], self.now_s + 0.023) is flight


def test_each_pair_of_a_small_bus_has_its_turn_each_minute() -> None:
    bus = Bus(3)
    bus.passes(600)
    counts = Counter(bus.flown)
    assert len(counts) == 6 and set(counts.values()) == {10}
    [first, *_] = bus.canaries.told()
    # Half of each client's way, and all of the disk's.
    assert (first["canaries"], first["lost"], first["p50_ms"], first["road"]) == (10, 0, 13, "live")


def test_a_large_bus_is_not_asked_for_more_and_every_agent_soon_has_a_turn() -> None:
    bus = Bus(40)
    bus.passes(60)
    assert len(bus.flown) == 30
    bus.passes(20 + 1)
    assert {sender for sender, _ in bus.flown} == {recipient for _, recipient in bus.flown} == set(bus.consumers)
    bus.passes(40 * 39 * 2)
    assert set(Counter(bus.flown).values()) <= {1, 2} and len(set(bus.flown)) == 40 * 39


def test_what_is_remembered_has_a_bound() -> None:
    bus = Bus(60, per_minute=60)
    bus.passes(60 * 59)
    assert len(bus.canaries._pairs) == 1000 and len(bus.canaries.told()) == 200


def test_there_are_none_of_a_lone_agent_or_if_they_are_switched_off() -> None:
    for bus in (Bus(1), Bus(3, per_minute=0)):
        bus.passes(120)
        assert bus.flown == []


def test_one_that_nobody_answers_is_lost() -> None:
    bus = Bus(2)
    bus.passes(1, answers=False)
    bus.passes(round(PATIENCE_S))
    assert bus.canaries.roads[LIVE].lost == 0
    bus.passes(2, answers=False)
    assert bus.canaries.roads[LIVE].lost == 1
    assert [(one["from"], one["lost"], one["p50_ms"]) for one in bus.canaries.told()] == [("agent000", 1, None)]


def test_one_whose_agent_left_or_came_again_says_nothing() -> None:
    for session in (None, 77):
        bus = Bus(2)
        bus.passes(1, answers=False)
        del bus.consumers["agent001"]
        if session is not None:
            bus.consumers["agent001"] = session
        bus.passes(round(PATIENCE_S) + 2, answers=False)
        assert (bus.canaries.roads[LIVE].lost, bus.canaries.told(), len(bus.flown)) == (0, [], 1)


def test_only_who_was_asked_is_heard_and_once() -> None:
    bus = Bus(2)
    flight = bus.canaries.next(bus.consumers, {}, lambda sender, to: True, 0.0)
    assert flight is not None
    assert bus.canaries.heard("run-9", flight.sessions[0], 0.1) is None
    assert bus.canaries.heard(flight.id, flight.sessions[1], 0.1) is None
    assert bus.canaries.heard(flight.id, flight.sessions[0], 0.1) is flight
    assert bus.canaries.heard(flight.id, flight.sessions[0], 0.2) is None
    bus.canaries.handed(flight, 0.2)
    assert bus.canaries.heard(flight.id, flight.sessions[1], 0.3) is flight
    assert bus.canaries.heard(flight.id, flight.sessions[1], 0.4) is None
    assert bus.canaries.roads[LIVE].answered == 1


def test_pairs_over_a_link_have_their_turn_each_minute_as_well() -> None:
    bus = Bus(2, elsewhere=2)
    bus.passes(600)
    counts = Counter(bus.flown)
    assert len(counts) == 2 * 3 and set(counts.values()) == {10}
    tally = bus.canaries.roads[LINK]
    assert (tally.answered, bus.canaries.roads[LIVE].answered) == (40, 20)
    # Half of the sender's way, the disk's part, what the clocks tell of the link, and half of the recipient's way.
    assert {one["p50_ms"] for one in bus.canaries.told() if one["road"] == "link"} == {5 + 3 + 4 + 10}


def test_of_a_large_bus_agents_elsewhere_have_turns_among_the_others() -> None:
    bus = Bus(20, per_minute=60, elsewhere=20)
    bus.passes(40 * 6)
    roads = Counter("link" if to.startswith("other") else "live" for _, to in bus.flown)
    assert abs(roads["link"] - roads["live"]) <= 20
    bus.passes(39 * 20 * 2)
    assert set(bus.flown) == {(a, b) for a in bus.consumers for b in (*bus.consumers, *bus.elsewhere) if a != b}


@pytest.mark.parametrize(("way_ms", "found_ms"), [(None, 5), (4, 4), (-30, 0), (5000, 10)])
def test_what_clocks_say_of_a_link_is_within_its_round_trip(way_ms: int | None, found_ms: int) -> None:
    bus = Bus(1, elsewhere=1)
    flight = bus.canaries.next(bus.consumers, bus.elsewhere, lambda sender, to: True, 0.0)
    assert flight is not None and bus.canaries.heard(flight.id, 0, 0.0) is flight
    bus.canaries.handed(flight, 0.0, 1)
    assert not bus.canaries.answered("near", flight.id, way_ms=4, kept_s=0.0, took_s=0.0, now_s=0.01)
    assert bus.canaries.heard(flight.id, 7, 0.01) is None
    assert bus.canaries.answered("far", flight.id, way_ms=way_ms, kept_s=0.0, took_s=0.0, now_s=0.01)
    assert not bus.canaries.answered("far", flight.id, way_ms=way_ms, kept_s=0.0, took_s=0.0, now_s=0.01)
    assert bus.canaries.told()[0]["p50_ms"] == found_ms


# -- a node ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    agents = {name: AgentEntry() for name in ("agni", "dc", "old", "boss")}
    return Rig(tmp_path, MemoryStore("epoch-1"), Clock(), agents=agents).start()


def answer_all(rig: Rig, seconds: int) -> list[tuple[str, str]]:
    """Play clients that answer at once; who was told what."""
    told = []
    for _ in range(seconds):
        rig.advance(1)
        while rig.outlet.canaries:
            agent, session, canary = rig.outlet.canaries.pop(0)
            told.append((agent, (canary.get("to", "") and f"to {canary['to']}") or f"from {canary['from']}"))
            assert rig.call(session, uris.MAILBOX_CANARY, {"id": canary["id"]}) is True
    return told


def test_a_canary_leaves_no_trace_but_in_the_objectives(rig: Rig) -> None:
    agni, dc, old = rig.join("agni"), rig.join("dc"), rig.join("old")
    rig.attach(agni, canaries=True)
    rig.attach(dc, canaries=True)
    rig.attach(old)
    rig.advance(1)
    high_water = rig.store.high_water
    told = answer_all(rig, 120)
    assert set(told[:4]) == {("agni", "to dc"), ("dc", "from agni"), ("dc", "to agni"), ("agni", "from dc")}
    assert rig.store.high_water == high_water
    assert rig.outlet.pushed == rig.outlet.recalled == [] and rig.node.mailroom.counts("dc") == (0, 0)
    answer = rig.call(rig.join("boss", operator=True), uris.NODE_OBJECTIVES)
    hour = Totals.of_map(answer["windows"]["1h"])
    assert hour.canaries == hour.canary_ms.count == len(told) / 2 == 5 and hour.canaries_lost == 0
    assert (hour.accepted, hour.done, hour.delivery_ms.count) == (0, 0, 0)
    assert {(one["from"], one["to"]) for one in answer["canaries"]} == {("agni", "dc"), ("dc", "agni")}
    samples = {(name, labels): value for name, labels, value in read(rig.node)}
    assert samples["trishula_canaries_total", ("live", "answered")] == 5
    assert (hour.link_canaries, samples["trishula_canaries_total", ("link", "answered")]) == (0, 0)
    assert answer["canaries_unmeasured"] == []


def test_a_session_that_does_not_know_them_takes_the_place_of_one_that_does(rig: Rig) -> None:
    for agent in ("agni", "dc"):
        rig.attach(rig.join(agent), canaries=True)
    rig.attach(rig.join("dc"))
    # Nor is a script asked.
    rig.attach(rig.join("old"), instance="7f3a", canaries=True)
    assert answer_all(rig, 120) == []


def test_an_agent_is_asked_for_none_to_whom_it_may_not_send(tmp_path: Path) -> None:
    agents = {"agni": AgentEntry(send=("dc",)), "dc": AgentEntry(send=()), "old": AgentEntry(send=("old",))}
    rig = Rig(tmp_path, MemoryStore("epoch-1"), Clock(), agents=agents).start()
    for agent in agents:
        rig.attach(rig.join(agent), canaries=True)
    assert set(answer_all(rig, 120)) == {("agni", "to dc"), ("dc", "from agni")}


def test_in_a_fallback_without_sends_there_are_none(rig: Rig) -> None:
    for agent in ("agni", "dc"):
        rig.attach(rig.join(agent), canaries=True)
    rig.call(rig.join("boss", operator=True), uris.ADMIN_FALLBACK, "on", {"reason": "a drill", "sends": False})
    rig.outlet.canaries.clear()
    assert answer_all(rig, 120) == []


def test_who_was_not_asked_is_told_so(rig: Rig) -> None:
    agni = rig.join("agni")
    assert rig.call(agni, uris.MAILBOX_CANARY, {"id": "x"}) is False
    with pytest.raises(ArgumentInvalid, match="the id of a canary"):
        rig.call(agni, uris.MAILBOX_CANARY, {"id": ""})


# -- a client ----------------------------------------------------------------------------------------------------------


class Attached:
    """A client that takes deliveries, and what its handler got."""

    def __init__(self, instance: str | None = None) -> None:
        self.clock, self.connection = Clock(), FakeConnection()
        self.got: list[Delivery] = []
        timers: Any = self.clock
        self.client = Client(settings("dc"), instance=instance, around=surroundings(timers), connection=self.connection)
        self.client.attach(self.got.extend)
        start(self.client.start())

    def join(self, *refused: set[str]) -> FakeLink:
        """Join a node that doesn't know some keys of ``attach``: one set of keys that it refuses for each attempt."""
        link = self.connection.join(prepare=lambda link: link.holding.add(uris.MAILBOX_ATTACH))
        for unknown in refused:
            [asked] = link.open_calls(uris.MAILBOX_ATTACH)
            assert unknown & set(asked.args[0])
            asked.answer.reject(KeyUnknown("options has the unknown key"))
        [asked] = link.open_calls(uris.MAILBOX_ATTACH)
        asked.answer.resolve(link.usual(asked))
        return link


def test_a_client_answers_a_canary_and_shows_it_to_nobody() -> None:
    one = Attached()
    link = one.join()
    assert link.args_of(uris.MAILBOX_ATTACH)[-1][0]["canaries"] == ["live"]
    topic = link.topics["trishula.agent.dc.inbox"]
    topic([], {"canary": {"id": "c-1", "to": "agni"}})
    topic([], {"canary": {"id": "c-2", "from": "agni"}, "of a later release": 1})
    topic([], {"canary": "nonsense"})
    assert link.args_of(uris.MAILBOX_CANARY) == [[{"id": "c-1"}], [{"id": "c-2"}]]
    assert one.got == []


def test_a_node_that_goes_meanwhile_ends_nothing() -> None:
    one = Attached()
    link = one.join()
    link.refusing[uris.MAILBOX_CANARY] = KeyUnknown("it is another node now")
    link.topics["trishula.agent.dc.inbox"]([], {"canary": {"id": "c-1", "to": "agni"}})
    assert one.client.is_ready


def test_a_node_of_the_release_before_is_told_all_else_as_before() -> None:
    link = Attached().join({"binary"}, {"canaries"})
    assert "run" in link.args_of(uris.MAILBOX_ATTACH)[-1][0]
    link = Attached().join({"binary"}, {"canaries"}, {"run"})
    assert set(link.args_of(uris.MAILBOX_ATTACH)[-1][0]) == {"capabilities", "window", "heartbeat_s"}


def test_a_script_knows_no_canaries() -> None:
    assert "canaries" not in Attached("7f3a").join().args_of(uris.MAILBOX_ATTACH)[-1][0]
