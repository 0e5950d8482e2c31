"""Directories between cells, on a road in memory: who is where, how old that is, and that nobody dies of a silence."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.cell_ends import Ends
from trishula_router.cells.directories import Directories
from trishula_router.cells.directory_road import MemoryDirectoryRoad, MemoryDirectoryRoads
from trishula_router.cells.directory_words import (
    Beat,
    digest_of,
    read_agents,
    read_beat,
    write_agents,
    write_beat,
)
from trishula_router.cells.others import KEPT_S, SILENT_S, Others
from trishula_router.cells.seal import Seal

KEY = b"k" * 40
START_MS = 1_700_000_000_000
World = Ends[MemoryDirectoryRoads]


def entry(agent: str, presence: str = "online", **more: Any) -> dict[str, Any]:
    told = {
        "agent": agent,
        "presence": presence,
        "since": START_MS - 1000,
        "reason": None,
        "node": None if presence == "offline" else "s1",
        "capabilities": ["host"],
        "last_seen_at": START_MS - 10,
        "last_beat_at": START_MS - 10,
        "busy_until": None,
        "load": 0.5,
        "progress": None,
        "progress_at": None,
        "clock_skew_ms": 3,
        "sessions": 1,
    }
    return {**told, **more}


NOWHERE = entry("agni", "offline", last_seen_at=None, since=None, capabilities=[], sessions=0)


class Place:
    """A node of a cell."""

    def __init__(self, world: World, cell: str, *, ahead_ms: int = 0, leads: bool = True) -> None:
        self.world = world
        self.own = [NOWHERE, {**NOWHERE, "agent": "dc"}]
        self.leads = leads
        self.refused: list[str] = []
        self.ahead_ms = ahead_ms
        self.directories = Directories(
            cell,
            MemoryDirectoryRoad(world.roads),
            world.later,
            lambda: Seal(cell, [KEY]),
            Others(cell, lambda agent: agent in ("agni", "dc")),
            own=lambda: self.own,
            leads=lambda: self.leads,
            not_believed=self.refused.append,
            where="memory",
            clock=world.clock,  # type: ignore[arg-type]
            now=self.now,
            random=lambda: 0.5,
        )
        world.rounds.append(self.directories.round)

    def now(self) -> int:
        return START_MS + self.ahead_ms + round(self.world.clock.seconds() * 1000)

    def entry(self, agent: str = "agni") -> dict[str, Any]:
        return next(one for one in self.directories.merged(self.own) if one["agent"] == agent)


@pytest.fixture
def world() -> World:
    return Ends(MemoryDirectoryRoads)


@pytest.fixture
def north(world: World) -> Place:
    return Place(world, "north")


@pytest.fixture
def south(world: World) -> Place:
    south = Place(world, "south")
    south.own = [entry("agni"), south.own[1]]
    return south


def test_who_is_at_another_cell_is_known_and_how_old_that_is(world: World, north: Place, south: Place) -> None:
    assert north.entry() == NOWHERE
    world.advance(5.0)
    told = north.entry()
    assert {key: told[key] for key in ("presence", "node", "cell", "capabilities", "since", "reason")} == {
        "presence": "online",
        "node": "s1",
        "cell": "south",
        "capabilities": ["host"],
        "since": START_MS - 1000,
        "reason": None,
    }
    assert told.keys() == {*NOWHERE, "cell", "known_at"}
    assert north.now() - 6000 < told["known_at"] == told["last_seen_at"] <= north.now()
    assert north.entry("dc") == north.own[1]
    assert south.entry() == south.own[0]
    # It says so again and again, and nobody asks for what is as it was.
    fetched = world.roads.fetched
    world.advance(100.0)
    assert north.now() - north.entry()["known_at"] < 15_000
    assert world.roads.fetched == fetched


def test_what_changes_is_known_within_seconds(world: World, north: Place, south: Place) -> None:
    world.advance(5.0)
    south.own[0] = entry("agni", "busy", progress="2 of 3")
    world.advance(5.0)
    assert (north.entry()["presence"], north.entry()["progress"]) == ("busy", "2 of 3")
    south.own[0] = entry("agni", "offline", last_seen_at=south.now())
    world.advance(5.0)
    told = north.entry()
    assert (told["presence"], told["cell"]) == ("offline", "south")
    assert told["last_seen_at"] == START_MS + 10_000


def test_while_the_road_is_away_what_is_known_stays_and_gets_older(world: World, north: Place, south: Place) -> None:
    world.advance(5.0)
    world.roads.is_down = True
    known_at = north.entry()["known_at"]
    world.advance(600.0)
    told = north.entry()
    assert (told["presence"], told["known_at"]) == ("online", known_at)
    assert told["reason"].startswith("as the cell south said 10")
    assert "down" in (north.directories.fault or "")
    assert north.directories.told()["silent"] == 1
    world.advance(KEPT_S / 100)
    world.roads.is_down = False
    world.roads.flush()
    world.advance(40.0)
    assert north.entry()["reason"] is None
    assert north.now() - north.entry()["known_at"] < 15_000
    assert (north.directories.told()["silent"], north.directories.fault) == (0, None)


def test_a_node_that_starts_knows_how_old_it_is(world: World, north: Place, south: Place) -> None:
    world.advance(5.0)
    world.rounds.remove(south.directories.round)
    world.advance(300.0)
    late = Place(world, "east")
    world.advance(3.0)
    assert late.entry()["presence"] == "online"
    assert abs(late.now() - late.entry()["known_at"] - 305_000) < 6000
    assert "as the cell south said 5" in late.entry()["reason"]
    assert late.directories.told()["cells"][0]["cell"] == "south"


def test_after_a_flush_who_starts_learns_it_too(world: World, north: Place, south: Place) -> None:
    world.advance(5.0)
    world.roads.flush()
    late = Place(world, "east")
    world.advance(15.0)
    assert late.entry()["cell"] == "south"


def test_who_is_here_is_here_and_what_was_said_before_that_does_not_count(
    world: World, north: Place, south: Place
) -> None:
    world.advance(5.0)
    north.own[0] = entry("agni", node="n1")
    assert north.entry() == north.own[0]
    world.rounds.remove(south.directories.round)
    world.advance(5.0)
    north.own[0] = entry("agni", "offline", last_seen_at=north.now())
    assert north.entry() == north.own[0]
    # A frozen session here, and one that came later elsewhere.
    north.own[0] = entry("agni", "stale", last_seen_at=START_MS - 5000)
    assert north.entry()["cell"] == "south"


def test_of_two_cells_the_one_counts_where_it_came_last(world: World, north: Place, south: Place) -> None:
    east = Place(world, "east")
    east.own[0] = entry("agni", since=START_MS + 1)
    world.advance(10.0)
    assert north.entry()["cell"] == "east"
    east.own[0] = entry("agni", "offline")
    world.advance(5.0)
    assert north.entry()["cell"] == "south"


def test_the_instants_of_a_cell_whose_clock_is_off_are_told_by_the_own_one(world: World, north: Place) -> None:
    south = Place(world, "south", ahead_ms=3_600_000)
    south.own = [entry("agni", "offline", last_seen_at=START_MS + 3_600_000, since=START_MS + 3_600_000)]
    world.advance(5.0)
    assert abs(north.entry()["last_seen_at"] - START_MS) < 3000
    north.ahead_ms += 50_000
    north.directories.follow_clock(50_000)
    assert abs(north.entry()["last_seen_at"] - START_MS - 50_000) < 3000


def test_of_linked_nodes_one_speaks_and_both_listen(world: World, north: Place, south: Place) -> None:
    twin = Place(world, "south", leads=False)
    twin.own = [entry("agni", "stale"), twin.own[1]]
    world.advance(5.0)
    assert north.entry()["presence"] == "online"
    north.own = [NOWHERE, entry("dc", node="n1")]
    world.advance(5.0)
    assert twin.entry("dc")["cell"] == "north"
    # The other one speaks on, whatever the clock of the first one was.
    south.leads, twin.leads = False, True
    twin.ahead_ms = -3_600_000
    world.advance(15.0)
    assert north.entry()["presence"] == "stale"


def test_only_who_is_registered_here_is_known(world: World, north: Place, south: Place) -> None:
    south.own = [entry("ghost"), {**entry("agni"), "presence": 7}, entry("dc", "offline", last_seen_at=None)]
    world.advance(5.0)
    assert north.directories.told()["cells"] == [
        {"cell": "south", "heard_s": north.directories.told()["cells"][0]["heard_s"], "agents": 0}
    ]
    assert north.directories.merged(north.own) == north.own


def test_what_no_cell_has_sealed_or_that_was_said_before_is_not_believed(
    world: World, north: Place, south: Place
) -> None:
    world.advance(5.0)
    old = world.roads.beats["south"]
    world.rounds.remove(south.directories.round)
    world.roads.agents["south"] = write_agents([entry("agni", "offline")])
    world.advance(2.5)
    assert north.entry()["presence"] == "online"
    for cell, beat in (("south", b"x" * 100), ("west", old[0]), ("south", old[0])):
        world.roads.beats[cell] = beat, round(world.clock.seconds() * 1000)
        world.advance(SILENT_S)
    assert [one.partition(":")[0] for one in north.refused] == [
        "the sign of life of the cell south",
        "the sign of life of the cell west",
    ]
    assert north.directories.told()["known"] == north.directories.told()["silent"] == 1


def test_a_cell_that_is_gone_for_a_week_is_forgotten(world: World, north: Place, south: Place) -> None:
    world.advance(5.0)
    world.rounds.remove(south.directories.round)
    world.clock.advance(KEPT_S)
    world.advance(5.0)
    assert north.entry() == NOWHERE
    assert "south" not in world.roads.beats


def test_forms() -> None:
    beat = Beat(cell="south", number=1, sent_at=2, digest=b"d")
    assert read_beat(write_beat(beat)) == beat
    assert read_beat(msgspec.msgpack.encode({**msgspec.to_builtins(beat, builtin_types=(bytes,)), "more": 1})) == beat
    with pytest.raises(ValueError, match="update the node"):
        read_beat(msgspec.msgpack.encode({**msgspec.to_builtins(beat, builtin_types=(bytes,)), "version": 2}))
    with pytest.raises(ValueError, match="no beat"):
        read_beat(b"\xc1")
    one, two = (write_agents([entry("agni", last_seen_at=at, load=at)]) for at in (1, 2))
    assert digest_of(one) == digest_of(two)
    assert write_agents([NOWHERE]) == write_agents([])
    for text in (b"", b"x", one[:-8], one[:3]):
        with pytest.raises(ValueError, match="can't be read"):
            read_agents(text)


def test_agents_that_its_beat_does_not_vouch_for_are_not_those_of_a_cell(world: World, south: Place) -> None:
    world.advance(2.5)
    said = world.roads.agents["south"]
    world.roads.agents["south"] = write_agents([entry("agni", "offline"), entry("dc")])
    north = Place(world, "north")
    world.advance(5.0)
    assert north.entry() == north.entry("agni") == NOWHERE
    world.roads.agents["south"] = said
    world.advance(5.0)
    assert north.entry()["presence"] == "online"


def test_what_a_cell_says_is_not_unpacked_beyond_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    text = write_agents([entry("agni")])
    assert len(read_agents(text)) == 1
    monkeypatch.setattr("trishula_router.cells.directory_words._UNPACKED_BYTES", 20)
    with pytest.raises(ValueError, match="more than 20 bytes"):
        read_agents(text)
