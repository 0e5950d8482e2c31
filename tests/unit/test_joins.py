"""How many join at a time, and when the others' turn is: numbers of seconds, no clock."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from trishula.errors import NodeBusy, retry_after_in
from trishula_router.agents.file import AgentEntry, update_agents
from trishula_router.agents.joins import Joins
from trishula_router.agents.sessions import Session
from trishula_router.agents.tokens import TokenEntry, digest_of
from trishula_router.store.memory import MemoryStore


def coming(number: int, now_s: float = 0.0) -> Session:
    """Of a client that proved who it is just now."""
    return Session(number, "agni", authenticated_s=now_s)


def full(joins: Joins, now_s: float = 0.0) -> list[Session]:
    """Begin as many joins as there is room for."""
    begun = [coming(number, now_s) for number in range(joins.room)]
    for session in begun:
        joins.begin(session, now_s)
    return begun


def refused(joins: Joins, now_s: float = 0.0) -> NodeBusy:
    with pytest.raises(NodeBusy) as caught:
        joins.begin(coming(-1, now_s), now_s)
    return caught.value


def at_cost(cost_s: float) -> Joins:
    """A node that has seen what a join costs it."""
    joins, worked_s = Joins(), 0.0
    joins.measure(0.0, 0.0, 0.0)
    for _ in range(30):
        last = coming(-2)
        joins.begin(last, 0.0)
        for session in map(coming, range(64)):
            joins.begin(session, 0.0)
            joins.served(session)
        worked_s += 64 * cost_s
        joins.measure(worked_s, 0.0, 0.0)
        joins.left(last)
        joins.measure(worked_s, 0.0, 0.0)
    return joins


def test_who_finds_no_room_is_told_when_its_turn_is() -> None:
    joins = Joins()
    assert len(full(joins)) == 750
    error = refused(joins)
    assert error.sentence == (
        "750 clients join this node just now, and more would only hold each other up; try again in 1.502 s"
    )
    assert error.retry_after_s == retry_after_in(error.sentence) == 1.502


def test_turns_follow_each_other_as_fast_as_the_node_works() -> None:
    joins = at_cost(0.010)
    full(joins)
    turns = [refused(joins).retry_after_s or 0.0 for _ in range(50)]
    assert all(after - before == pytest.approx(0.010, abs=0.002) for before, after in itertools.pairwise(turns))
    for _ in range(10_000):
        last = refused(joins)
    assert last.retry_after_s == 30.0


def test_who_was_served_or_left_makes_room() -> None:
    joins = Joins()
    first, second, *_ = full(joins)
    joins.served(first)
    joins.left(second)
    joins.begin(coming(10_001), 0.0)
    joins.begin(coming(10_002), 0.0)
    refused(joins)


def test_a_client_that_never_calls_keeps_its_place_for_a_while_only() -> None:
    joins = Joins()
    full(joins)
    refused(joins, 4.9)
    joins.begin(coming(10_001, 5.1), 5.1)


@pytest.mark.parametrize(("cost_s", "room"), [(0.001, 1500), (0.010, 150), (0.5, 64), (0.0, 7500)])
def test_there_is_room_for_what_the_node_can_do_in_time(cost_s: float, room: int) -> None:
    assert at_cost(cost_s).room == pytest.approx(room, rel=0.05)


def test_on_a_machine_that_others_use_too_there_is_room_for_less() -> None:
    joins = at_cost(0.001)
    now_s, worked_s = 10.0, 10.0
    for _ in range(20):
        # The thread had work all the time, and had a quarter of it.
        now_s, worked_s = now_s + 1.0, worked_s + 0.25
        joins.measure(worked_s, now_s, 0.75)
    assert joins.room == pytest.approx(1500 / 4, rel=0.1)
    for _ in range(20):
        # It works as little because there is nothing to do: nothing comes late.
        now_s, worked_s = now_s + 0.25, worked_s + 0.01
        joins.measure(worked_s, now_s, 0.0)
    assert joins.room == pytest.approx(1500, rel=0.1)


def test_what_the_node_does_while_nobody_joins_is_no_part_of_a_join() -> None:
    joins = at_cost(0.001)
    joins.measure(1000.0, 0.0, 0.0)
    joins.measure(2000.0, 0.0, 0.0)
    assert joins.room == pytest.approx(1500, rel=0.05)


@pytest.mark.parametrize(
    ("clients", "cost_s"), [(500, 0.001), (2000, 0.001), (5000, 0.001), (2000, 0.004), (500, 0.020), (1000, 0.020)]
)
def test_in_a_storm_nobody_waits_in_vain_and_all_are_there_soon(clients: int, cost_s: float) -> None:
    """A node takes turns with those that come, who cost a third of a join before their proof, and those under way."""
    joins, now_s, measured_s = Joins(), 0.0, 0.0
    to_come = [(0.0, number) for number in range(clients)]
    under_way: deque[tuple[float, Session]] = deque()
    longest_s, done = 0.0, 0
    joins.measure(0.0, 0.0, 0.0)
    idle_s = 0.0
    while done < clients:
        if now_s - measured_s >= 0.25:
            late_s, measured_s = now_s - measured_s - 0.25, now_s
            joins.measure(now_s - idle_s, now_s, late_s)
        before_s = now_s
        if to_come and to_come[0][0] <= now_s:
            _, number = heapq.heappop(to_come)
            now_s += cost_s / 3
            session = coming(number, now_s)
            try:
                joins.begin(session, now_s)
                under_way.append((now_s, session))
            except NodeBusy as busy:
                heapq.heappush(to_come, (now_s + (busy.retry_after_s or 0.0) * 1.1, number))
        if under_way:
            began_s, session = under_way.popleft()
            now_s += cost_s * 2 / 3
            joins.served(session)
            longest_s, done = max(longest_s, now_s - began_s), done + 1
        if now_s == before_s:
            now_s += 0.005
            idle_s += 0.005
    # A client's patience; of a slow node's cost nobody knew at first.
    assert longest_s < (5.0 if cost_s < 0.010 else 15.0)
    # A third of a join was for nothing, of each that was refused.
    assert now_s < 2.0 * clients * cost_s + 2.0


def test_a_node_refuses_who_finds_no_room_and_counts_no_session_of_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemoryStore("epoch-1"), Clock()).start()
    token = "agni.secret"
    with update_agents(rig.agents_file) as agents:
        agents["agni"] = AgentEntry(tokens=(TokenEntry(digest_of(token), 0.0),))
    rig.advance(0.5)
    first, *_ = full(rig.node.joins, rig.clock.seconds())
    for _ in range(200):
        # More often than the agent may have connections.
        with pytest.raises(NodeBusy):
            rig.node.door.authenticate("trishula", "agni", {"ticket": token, "session": 10_001})
    rig.node.joins.served(first)
    assert rig.node.door.authenticate("trishula", "agni", {"ticket": token, "session": 10_001})["authid"] == "agni"
