"""Words of peers that take the place of the one before: those that take long keep the node for a part of its time."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from trishula_router.peers.latest_words import LONG_S, RESTS, LatestWords


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.taken: list[tuple[str, bytes]] = []
        self.each_s = 0.0
        clock: Any = self.clock
        self.words = LatestWords(self._take, clock, clock.seconds)

    def _take(self, peer: str, text: bytes) -> None:
        # The clock's own way to move would have its timers called in here.
        self.clock.rightNow += self.each_s
        self.taken.append((peer, text))


@pytest.fixture
def world() -> World:
    return World()


def test_small_words_are_taken_at_once(world: World) -> None:
    for number in range(100):
        world.words.come("laptop", b"%d" % number)
    assert [text for _, text in world.taken] == [b"%d" % number for number in range(100)]
    assert world.clock.getDelayedCalls() == []


def test_after_a_word_that_took_long_only_the_last_one_is_taken_and_later(world: World) -> None:
    world.each_s = 2 * LONG_S
    for text in (b"1", b"2", b"3"):
        world.words.come("laptop", text)
    world.words.come("tower", b"other")
    assert world.taken == [("laptop", b"1"), ("tower", b"other")]
    world.clock.advance(2 * LONG_S * RESTS)
    assert world.taken[2:] == [("laptop", b"3")]


def test_after_a_rest_words_are_taken_at_once_again(world: World) -> None:
    world.each_s = 2 * LONG_S
    world.words.come("laptop", b"1")
    world.clock.advance(2 * LONG_S * RESTS)
    assert world.clock.getDelayedCalls() == []
    world.words.come("laptop", b"2")
    assert world.taken == [("laptop", b"1"), ("laptop", b"2")]


def test_what_a_peer_said_before_it_was_lost_is_not_taken_afterwards(world: World) -> None:
    world.each_s = 2 * LONG_S
    for text in (b"1", b"2"):
        world.words.come("laptop", text)
    world.words.forget("laptop")
    world.words.forget("nobody")
    world.clock.advance(2 * LONG_S * RESTS)
    assert world.taken == [("laptop", b"1")]
    # It is back, and says what is so now.
    world.words.come("laptop", b"3")
    assert world.taken[1:] == [("laptop", b"3")]


def test_a_flood_of_large_words_gets_a_twentieth_of_the_time(world: World) -> None:
    world.each_s = 4 * LONG_S
    while world.clock.seconds() < 100.0:
        world.words.come("laptop", b"large")
        world.clock.advance(0.01)
    assert len(world.taken) * world.each_s == pytest.approx(100.0 / (RESTS + 1), rel=0.1)
