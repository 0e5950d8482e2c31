"""What a cell hears at a time it works off together, in order, and answers when it is durable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred

from tests.support.stores import result_of
from trishula.errors import StorageFailed
from trishula_router.cells.acceptance import Acceptance
from trishula_router.cells.canary import Canary
from trishula_router.cells.forwards import Forward, Forwards
from trishula_router.cells.hearing import Hearing
from trishula_router.cells.homes import Homes
from trishula_router.cells.letters import Letter, Mail, News, Parcel
from trishula_router.cells.onward import Onward
from trishula_router.cells.owed import Owed


class World:
    """A cell whose store is slow: whatever it is asked for is done when the test says so."""

    def __init__(self) -> None:
        self.forwards = Forwards()
        self.begun: list[tuple[str, Any]] = []
        self.waiting: list[Deferred[None]] = []
        self.posted: list[tuple[str, Letter]] = []
        self.hearing = Hearing(
            "north",
            Homes("north"),
            self.forwards,
            Owed(),
            cast(Acceptance, self),
            Canary(0.0),
            lambda: cast(Onward, self),
            lambda cell, letter: self.posted.append((cell, letter)),
            lambda positions: Deferred(),
            lambda: 0.0,
        )

    async def _stored(self, what: str, about: Any) -> None:
        self.begun.append((what, about))
        done: Deferred[None] = Deferred()
        self.waiting.append(done)
        await done

    async def take(self, cell: str, mails: Sequence[Mail]) -> list[News]:
        await self._stored("accepted", (cell, [mail.id for mail in mails]))
        return [News(ticket=one.ticket, sender=one.sender, id=one.id, to=one.to, state="accepted") for one in mails]

    async def ended(self, position: int, state: str, reason: str | None) -> None:
        await self._stored(state, position)

    async def done(self, those: Iterable[tuple[int, str]]) -> None:
        await self._stored("done", [position for position, _ in those])

    async def delivered(self, forwards: Iterable[Forward]) -> None:
        await self._stored("delivered", [forward.position for forward in forwards])

    def goes_well(self, address: str) -> None:
        pass

    def out(self, position: int) -> None:
        self.forwards.begin(position, ("dc", f"m{position}", "agni"), "south", f"t{position}", 10, 0.0)


@pytest.fixture
def world() -> World:
    return World()


def news(position: int, state: str) -> News:
    return News(ticket=f"t{position}", sender="dc", id=f"m{position}", to="agni", state=state)


def mail(message_id: str) -> Mail:
    return Mail(ticket="t", sender="agni", id=message_id, to="dc", left_ms=1000, envelope=b"{}")


def parcel(source: str, *letters: Letter) -> Parcel:
    return Parcel(source, "north", "epoch", list(letters))


def test_what_is_done_of_what_was_read_at_a_time_is_settled_together(world: World) -> None:
    for position in range(4):
        world.out(position)
    parcels = [parcel("south", news(position, "done")) for position in range(3)]
    rest = result_of(Deferred.fromCoroutine(world.hearing.hear([*parcels, parcel("south", news(3, "dead"))])))
    assert world.begun == [("dead", 3), ("done", [0, 1, 2])], "all of it waits for the store at once"
    world.waiting[0].callback(None)
    assert not rest.called, "the entries are on the road until all is durable"
    world.waiting[1].callback(None)
    assert result_of(rest) is None


def test_nobody_waits_for_the_note_of_a_delivery(world: World) -> None:
    world.out(1)
    rest = result_of(Deferred.fromCoroutine(world.hearing.hear([parcel("south", news(1, "delivered"))])))
    assert world.begun == [("delivered", [1])]
    assert rest.called
    world.waiting[0].errback(StorageFailed("the disk is gone"))


def test_a_delivery_is_noted_before_the_end_that_came_with_it(world: World) -> None:
    world.out(1)
    world.out(2)
    both = parcel("south", news(1, "delivered"), news(1, "done"), news(2, "delivered"))
    Deferred.fromCoroutine(world.hearing.hear([both]))
    assert world.begun == [("delivered", [1, 2]), ("done", [1])]


def test_no_message_waits_for_the_settlement_of_another_one(world: World) -> None:
    world.out(1)
    heard = Deferred.fromCoroutine(world.hearing.hear([parcel("south", mail("a"), news(1, "done"))]))
    assert world.begun == [("accepted", ("south", ["a"])), ("done", [1])], "both wait for the store at once"
    assert not heard.called
    world.waiting[0].callback(None)
    rest = result_of(heard)
    assert not rest.called, "the next entries may be read, and these are on the road still"
    world.waiting[1].callback(None)
    assert result_of(rest) is None


def test_messages_of_a_cell_are_accepted_in_one_go_and_those_of_another_beside_them(world: World) -> None:
    parcels = [parcel("south", mail("a")), parcel("west", mail("x")), parcel("south", mail("b"), mail("c"))]
    Deferred.fromCoroutine(world.hearing.hear(parcels))
    assert world.begun == [("accepted", ("south", ["a", "b", "c"])), ("accepted", ("west", ["x"]))]
    assert world.posted == []
    for done in world.waiting:
        done.callback(None)
    assert [(cell, cast(News, one).id) for cell, one in world.posted] == [
        ("south", "a"),
        ("south", "b"),
        ("south", "c"),
        ("west", "x"),
    ]


def test_what_fails_is_said_when_the_rest_is_over(world: World) -> None:
    for position in range(2):
        world.out(position)
    both = parcel("south", news(0, "dead"), news(1, "done"))
    rest = result_of(Deferred.fromCoroutine(world.hearing.hear([both, parcel("north")])))
    world.waiting[0].errback(StorageFailed("the disk is gone"))
    assert not rest.called
    world.waiting[1].callback(None)
    with pytest.raises(StorageFailed, match="the disk is gone"):
        result_of(rest)


def test_messages_that_are_not_durable_fail_all_that_was_read_with_them(world: World) -> None:
    world.out(1)
    heard = Deferred.fromCoroutine(world.hearing.hear([parcel("south", mail("a"), news(1, "done"))]))
    world.waiting[0].errback(StorageFailed("the disk is gone"))
    world.waiting[1].errback(StorageFailed("the disk is gone"))
    with pytest.raises(StorageFailed, match="the disk is gone"):
        result_of(heard)
