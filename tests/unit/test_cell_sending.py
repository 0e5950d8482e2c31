"""What a cell puts onto the road is gathered: a message leaves at once, and news waits for one for a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from trishula_router.cells.letters import Letter, Mail, News, without_outdated
from trishula_router.cells.memory_road import MemoryRoad, MemoryRoads
from trishula_router.cells.road import Fields
from trishula_router.cells.seal import Seal
from trishula_router.cells.sending import GATHER_S, Sending
from trishula_router.cells.standing import Standing

_T = TypeVar("_T")
KEY = b"k" * 40


class World:
    """The end of a road, and what each step put onto it: (target, what its letters are about), and ids."""

    def __init__(self) -> None:
        self.clock = Clock()
        clock = cast(Any, self.clock)
        self.roads = MemoryRoads(self.clock.seconds)
        self.steps: list[tuple[list[tuple[str, list[str]]], list[str]]] = []
        self.under_way: list[Callable[[], object]] = []
        self.is_slow = False
        self.standing = Standing("memory", clock, lambda: 0.5)
        seal = Seal("north", [KEY])
        self.sending = Sending(
            "north", "epoch", Counted(self), self._in_writer, lambda: seal, self.standing, self._went_well, clock
        )

    def _in_writer(self, work: Callable[[], _T]) -> Deferred[_T]:
        if not self.is_slow:
            return maybeDeferred(work)
        done: Deferred[_T] = Deferred()
        self.under_way.append(lambda: maybeDeferred(work).chainDeferred(done))
        return done

    def _went_well(self) -> None:
        self.standing.well("write")

    def turn(self, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)


class Counted(MemoryRoad):
    def __init__(self, world: World) -> None:
        super().__init__(world.roads, "north", "north")
        self._world = world

    def append(self, entries: Sequence[tuple[str, Fields]], worked_off: Sequence[str] = ()) -> None:
        super().append(entries, worked_off)
        told = [(cell, _about(Seal(cell, [KEY]).parcel(dict(fields)).letters)) for cell, fields in entries]
        self._world.steps.append((told, list(worked_off)))


def _about(letters: Sequence[Letter]) -> list[str]:
    return [one.state if isinstance(one, News) else one.id if isinstance(one, Mail) else "?" for one in letters]


@pytest.fixture
def world() -> World:
    return World()


def mail(message_id: str) -> Mail:
    return Mail(ticket="t", sender="dc", id=message_id, to="agni", left_ms=1000, envelope=b"{}")


def news(state: str, ticket: str = "t") -> News:
    return News(ticket=ticket, sender="agni", id=ticket, to="dc", state=state)


def test_a_message_leaves_in_its_turn_with_all_that_was_posted_then(world: World) -> None:
    world.sending.post("south", mail("a"))
    world.sending.post("west", mail("x"))
    world.sending.post("south", mail("b"))
    assert world.steps == []
    world.turn()
    assert world.steps == [([("south", ["a", "b"]), ("west", ["x"])], [])]


def test_news_waits_for_company_and_so_do_acknowledgements(world: World) -> None:
    world.sending.acknowledge(["1-0"])
    world.sending.post("south", news("delivered"))
    world.turn(GATHER_S / 2)
    world.sending.post("south", news("done"))
    assert world.steps == []
    world.turn(GATHER_S / 2)
    assert world.steps == [([("south", ["delivered", "done"])], ["1-0"])]
    world.turn(1.0)
    assert len(world.steps) == 1
    world.sending.acknowledge(["2-0"])
    world.turn(GATHER_S)
    assert world.steps[1:] == [([], ["2-0"])]


def test_a_message_takes_along_what_is_gathered(world: World) -> None:
    world.sending.post("west", news("done"))
    world.sending.acknowledge(["1-0"])
    world.sending.post("south", mail("a"))
    world.turn()
    assert world.steps == [([("west", ["done"]), ("south", ["a"])], ["1-0"])]


def test_news_that_comes_while_a_step_is_under_way_waits_all_the_same_and_a_message_does_not(world: World) -> None:
    world.is_slow = True
    world.sending.post("south", mail("a"))
    world.turn()
    world.sending.post("south", news("done"))
    world.under_way.pop()()
    assert world.under_way == [], "nothing but news waits"
    world.turn(GATHER_S)
    world.sending.post("south", mail("b"))
    world.under_way.pop()()
    world.under_way.pop()()
    assert world.steps == [([("south", ["a"])], []), ([("south", ["done"])], []), ([("south", ["b"])], [])]


def test_what_is_posted_while_the_road_is_away_leaves_when_it_is_back(world: World) -> None:
    world.roads.is_down = True
    world.sending.post("south", mail("lost"))
    world.turn()
    world.sending.post("south", mail("a"))
    world.sending.post("south", news("done"))
    world.turn(GATHER_S)
    world.roads.is_down = False
    assert world.steps == []
    world.turn(60.0)
    world.sending.go()
    assert world.steps == [([("south", ["a", "done"])], [])]


def test_that_a_message_is_there_goes_without_saying_where_more_is_told_of_it() -> None:
    letters: list[Letter] = [
        news("accepted", "1"),
        news("accepted", "2"),
        mail("a"),
        news("delivered", "1"),
        news("done", "1"),
    ]
    assert without_outdated(letters) == [news("accepted", "2"), mail("a"), news("delivered", "1"), news("done", "1")]


def test_while_the_road_is_away_so_many_letters_wait_and_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.is_slow = True
    for bound, value in (("_POSTED", 3), ("_POSTED_BYTES", len(mail("a").envelope) * 2)):
        with monkeypatch.context() as patch:
            patch.setattr(f"trishula_router.cells.sending.{bound}", value)
            for number in range(5):
                world.sending.post("south", mail(f"{bound}{number}"))
        world.turn()
        world.under_way.pop()()
    sent = [[about for _, letters in told for about in letters] for told, _ in world.steps]
    assert sent == [["_POSTED0", "_POSTED1", "_POSTED2"], ["_POSTED_BYTES0", "_POSTED_BYTES1"]]
