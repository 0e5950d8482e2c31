"""Live topics between cells, on a road in memory: who hears what, what is dropped, and when a node is deaf."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.cell_ends import Ends
from trishula.contract import uris
from trishula_router.cells.live import Event, Freshness, read_event, write_event
from trishula_router.cells.live_road import MemoryLiveRoad, MemoryLiveRoads
from trishula_router.cells.seal import Seal, Unsealed
from trishula_router.cells.topics import LiveEnds, Topics

KEY = b"k" * 40
CELSIUS = uris.topic_of("agni", "celsius")
World = Ends[MemoryLiveRoads]


class Place:
    """A node of a cell, in a run of its own."""

    def __init__(self, world: World, cell: str, run: str = "") -> None:
        self.heard: list[Event] = []
        self.refused: list[str] = []
        self.strangers: set[str] = set()
        self.topics = Topics(
            cell,
            run or cell,
            LiveEnds(MemoryLiveRoad(world.roads), MemoryLiveRoad(world.roads), world.later, world.later),
            lambda: Seal(cell, [KEY]),
            may_publish=lambda agent, topic: agent not in self.strangers,
            not_believed=self.refused.append,
            clock=world.clock,  # type: ignore[arg-type]
            random=lambda: 0.5,
        )
        self.topics.republish = self.heard.append
        world.rounds.append(self.topics.round)

    def says(self, *args: Any, topic: str = CELSIUS, **more: Any) -> None:
        self.topics.published(topic, "agni", 1, args, {}, **more)

    @property
    def told(self) -> list[list[Any]]:
        return [one.args for one in self.heard]


@pytest.fixture
def world() -> World:
    return Ends(lambda seconds: MemoryLiveRoads())


@pytest.fixture
def north(world: World) -> Place:
    return Place(world, "north")


@pytest.fixture
def south(world: World) -> Place:
    return Place(world, "south")


def listens(world: World, place: Place, topic: str = CELSIUS) -> None:
    place.topics.listening(1, topic)
    world.advance(0.5)


def test_who_is_subscribed_hears_it_in_order_and_nobody_else_does(world: World, north: Place, south: Place) -> None:
    east = Place(world, "east")
    listens(world, south)
    listens(world, east, uris.topic_of("agni", "kelvin"))
    for number in range(1000):
        north.says(number)
    world.advance(1.0)
    assert south.told == [[number] for number in range(1000)]
    assert (north.told, east.told) == ([], [])
    event = south.heard[0]
    assert (event.cell, event.agent, event.session, event.topic) == ("north", "agni", 1, CELSIUS)
    assert (north.topics.told()["sent"], south.topics.told()["heard"]) == (1000, 1000)


def test_what_the_own_cell_says_is_not_heard_again(world: World, north: Place) -> None:
    twin = Place(world, "north", "north-2")
    listens(world, north)
    listens(world, twin)
    north.says("once")
    world.advance(1.0)
    assert (north.told, twin.told) == ([], [])


def test_who_has_left_hears_nothing_more(world: World, north: Place, south: Place) -> None:
    listens(world, south)
    south.topics.listening(1, None)
    world.advance(1.0)
    north.says("late")
    world.advance(1.0)
    assert south.told == []
    assert all(end._channels == frozenset() for end in world.roads.ends)


def test_who_may_hear_it_travels_with_it(world: World, north: Place, south: Place) -> None:
    listens(world, south)
    north.says(1, eligible=["dc"], excluded=["x"], roles=["operator"])
    world.advance(1.0)
    (event,) = south.heard
    assert (event.eligible, event.excluded, event.roles) == (["dc"], ["x"], ["operator"])


def test_an_agent_that_may_not_publish_here_is_not_heard(world: World, north: Place, south: Place) -> None:
    south.strangers.add("agni")
    listens(world, south)
    north.says(1)
    world.advance(1.0)
    assert south.told == []
    assert south.topics.told()["not_registered"] == 1


def test_what_is_said_while_the_road_is_away_is_dropped_and_counted(world: World, north: Place, south: Place) -> None:
    listens(world, south)
    world.roads.is_down = True
    for number in range(10):
        north.says(number)
        world.advance(0.1)
    assert "down" in (north.topics.fault or "")
    assert "down" in (south.topics.fault or "")
    assert north.topics.dropped == 10
    world.roads.is_down = False
    world.advance(30.0)
    north.says("again")
    world.advance(1.0)
    assert south.told == [["again"]]
    assert (north.topics.fault, south.topics.fault) == (None, None)


def test_of_too_much_the_oldest_is_dropped(world: World, north: Place, south: Place) -> None:
    listens(world, south)
    for number in range(10_005):
        north.says(number)
    world.advance(10.0)
    assert south.told == [[number] for number in range(5, 10_005)]
    assert north.topics.dropped == 5
    for number in range(5):
        north.says(number, b"x" * 4 * 1024 * 1024)
    world.advance(1.0)
    assert [one.args[0] for one in south.heard[10_000:]] == [2, 3, 4]


def test_an_event_that_can_not_be_written_is_dropped(north: Place) -> None:
    north.says(object())
    assert north.topics.dropped == 1


def test_a_node_that_does_not_hear_itself_connects_anew(world: World, north: Place, south: Place) -> None:
    listens(world, south)
    world.advance(60.0)
    assert south.topics.fault is None
    world.roads.is_deaf = True
    world.advance(25.0)
    assert "has not heard itself" in str(south.topics.told()["fault"])
    world.roads.is_deaf = False
    world.advance(30.0)
    assert south.topics.fault is None
    north.says("again")
    world.advance(1.0)
    assert south.told == [["again"]]


def test_what_was_heard_is_not_heard_when_somebody_repeats_it(world: World, north: Place, south: Place) -> None:
    listens(world, south)
    said: list[tuple[str, bytes]] = []
    end = MemoryLiveRoad(world.roads)
    end.hear({CELSIUS}, 0.0)
    north.says(1)
    north.says(2)
    world.advance(1.0)
    said = end.hear({CELSIUS}, 0.0)
    assert len(said) == 2
    end.say(said)
    # Nor on another topic.
    south.topics.listening(2, uris.topic_of("agni", "kelvin"))
    world.advance(1.0)
    end.say([(uris.topic_of("agni", "kelvin"), text) for _, text in said])
    end.say([(CELSIUS, b"x" * 100)])
    world.advance(1.0)
    assert south.told == [[1], [2]]
    assert len(south.refused) == 3
    assert all("seal" in one for one in south.refused)


def test_a_later_form_is_refused_and_what_it_adds_is_passed_over() -> None:
    event = Event(cell="north", run="r", number=1, topic=CELSIUS, agent="agni", session=1, args=[1])
    known = msgspec.to_builtins(event)
    assert read_event(msgspec.msgpack.encode({**known, "more": 1})) == event
    assert read_event(write_event(event)) == event
    with pytest.raises(ValueError, match="update the node"):
        read_event(msgspec.msgpack.encode({**known, "version": 2}))
    for text in (b"", b"\xc1", b"\x91" * 5000, msgspec.msgpack.encode([1])):
        with pytest.raises(ValueError, match="no event"):
            read_event(text)


def test_a_seal_is_for_one_channel() -> None:
    seal = Seal("north", [KEY])
    assert Seal("south", [b"o" * 40, KEY]).read_live("a", seal.live("a", b"text")) == b"text"
    for channel, told in (("b", seal.live("a", b"text")), ("a", seal.live("a", b"text") + b"x"), ("a", b"")):
        with pytest.raises(Unsealed):
            seal.read_live(channel, told)


def test_numbers_rise_in_each_run() -> None:
    fresh = Freshness()
    assert [fresh.is_new("a", one) for one in (1, 2, 2, 1, 5, 4)] == [True, True, False, False, True, False]
    assert fresh.is_new("b", 1)


def test_an_event_of_one_topic_is_not_heard_on_another_whoever_sealed_it(
    world: World, north: Place, south: Place
) -> None:
    kelvin = uris.topic_of("agni", "kelvin")
    listens(world, south, kelvin)
    event = Event(cell="north", run="r", number=1, topic=CELSIUS, agent="agni", session=1, args=[1])
    end = MemoryLiveRoad(world.roads)
    end.say([(kelvin, Seal("north", [KEY]).live(kelvin, write_event(event)))])
    north.says(2, topic=kelvin)
    world.advance(1.0)
    assert south.told == [[2]]
