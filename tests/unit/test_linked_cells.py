"""A cell of two linked nodes: one of them forwards and reads, and the other one does when that one is gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred, maybeDeferred

from tests.support.cells import AGENTS, KEY
from tests.support.nodes import Rig
from tests.support.pair import Nodes
from tests.support.stores import result_of
from trishula_router.agents.file import AgentEntry
from trishula_router.cells.exchange import Ends
from trishula_router.cells.memory_road import MemoryRoad, MemoryRoads
from trishula_router.equipment import join_cells
from trishula_router.settings.cells import CellOptions
from trishula_router.store.memory import MemoryStore

_T = TypeVar("_T")


class Bus:
    """The cell south, of s1 and s2, and the cell north, of n1."""

    def __init__(self, directory: Path) -> None:
        self.roads = MemoryRoads(lambda: self.clock.seconds())
        self.clock: Any = None
        stores: Any = {name: MemoryStore(f"epoch-{name}", name) for name in ("s1", "s2")}
        for name in ("s1", "s2", "n1"):
            (directory / name).mkdir()
            (directory / name / "cells.key").write_text(KEY)
            (directory / name / "cells.key").chmod(0o600)
        self.south = Nodes(directory, stores, agents=AGENTS, cell=self._options("south"), join=self._join)
        agents = {name: AgentEntry(send=("*",)) for name in AGENTS}
        self.n1 = Rig(
            directory / "n1",
            MemoryStore("epoch-n1", "n1"),
            self.south.clock,
            agents=agents,
            name="n1",
            cells=self._options("north"),
        )
        self._join(self.n1)
        self.n1.start()
        self.south.advance(3.0)

    def _options(self, cell: str) -> CellOptions:
        return CellOptions(cell, "redis://localhost", key_file="cells.key")

    def _join(self, rig: Rig) -> None:
        self.clock = rig.clock
        cell, node = rig.node.config.cells.name, rig.node.config.node

        def later(work: Callable[[], _T]) -> Deferred[_T]:
            done: Deferred[_T] = Deferred()
            self.clock.callLater(0.02, lambda: maybeDeferred(work).chainDeferred(done))
            return done

        ends = Ends(MemoryRoad(self.roads, cell, node), MemoryRoad(self.roads, cell, node), later, later)
        join_cells(rig.node, ends)

    def send(self, message_id: str) -> None:
        """dc, at north, writes to agni."""
        session = self.n1.join("dc", session=800 + len(message_id) + int(message_id[1:]))
        (receipt,) = self.n1.send(session, {"id": message_id, "to": "agni"})
        assert receipt["status"] == "accepted"
        self.n1.leave(session)

    def states(self, message_id: str) -> dict[str, str]:
        rigs = {**self.south.rigs, "n1": self.n1}
        found = {name: result_of(rig.store.with_ids([message_id])) for name, rig in rigs.items()}
        return {name: one.state_word for name, (one,) in ((n, f) for n, f in found.items() if f)}

    def handle(self, name: str, session: int, at_most_s: float = 40.0) -> list[str]:
        """agni takes what comes at a node, and acknowledges it."""
        end_s = self.clock.seconds() + at_most_s
        while not (deliveries := self.south.rigs[name].pushed(session)):
            assert self.clock.seconds() < end_s
            self.south.advance(0.25)
        self.south.rigs[name].ack(session, *[one["token"] for one in deliveries])
        self.south.advance(2.0)
        return [one["message"]["id"] for one in deliveries]


@pytest.fixture
def bus(tmp_path: Path) -> Bus:
    return Bus(tmp_path)


def leads(bus: Bus) -> dict[str, bool]:
    told = {}
    for name, rig in bus.south.rigs.items():
        assert rig.node.cells is not None
        told[name] = rig.node.cells.told()["leads"]
    return told


def test_one_of_two_linked_nodes_reads_and_the_agent_may_be_at_the_other(bus: Bus) -> None:
    assert leads(bus) == {"s1": True, "s2": False}
    session = bus.south.rigs["s2"].join("agni", session=7)
    bus.south.rigs["s2"].attach(session)
    bus.south.advance(2.0)
    bus.send("m1")
    assert bus.handle("s2", session) == ["m1"]
    assert bus.states("m1") == {"s1": "done", "s2": "done", "n1": "done"}


def test_the_other_one_takes_over_and_nothing_comes_twice(bus: Bus) -> None:
    session = bus.south.rigs["s2"].join("agni", session=7)
    bus.south.rigs["s2"].attach(session)
    bus.south.advance(2.0)
    bus.south.down("s1")
    bus.send("m1")
    assert bus.handle("s2", session, at_most_s=90.0) == ["m1"]
    assert leads(bus) == {"s2": True}
    assert bus.states("m1") == {"s2": "done", "n1": "done"}
    bus.send("m2")
    assert bus.handle("s2", session) == ["m2"]


def test_two_that_do_not_see_each_other_both_go_on(bus: Bus) -> None:
    session = bus.south.rigs["s2"].join("agni", session=7)
    bus.south.rigs["s2"].attach(session)
    bus.south.advance(2.0)
    bus.south.cut()
    bus.south.advance(30.0)
    assert leads(bus) == {"s1": True, "s2": True}
    for number in range(6):
        bus.send(f"m{number}")
        bus.south.advance(0.5)
    bus.south.heal()
    seen = []
    for _ in range(40):
        bus.south.advance(1.0)
        deliveries = bus.south.rigs["s2"].pushed(session)
        bus.south.rigs["s2"].ack(session, *[one["token"] for one in deliveries])
        seen += [one["message"]["id"] for one in deliveries]
    bus.south.advance(70.0)
    assert sorted(seen) == [f"m{number}" for number in range(6)]
    assert all(bus.states(f"m{number}") == {"s1": "done", "s2": "done", "n1": "done"} for number in range(6))
