"""Waiting until nothing is under way, by what others tell."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from trishula.messaging.draining import Drain
from trishula.runtime.pending import Pending, start


class Work:
    """How many things are under way, and a drain that waits for them."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.count = 1
        self.drain = Drain(clock, lambda: self.count == 0)

    def wait(self, timeout_s: float = 5.0) -> Pending[bool]:
        return start(self.drain.within(timeout_s))

    def tell(self, count: int) -> None:
        self.count = count
        self.drain.emptied()


@pytest.fixture
def work() -> Work:
    return Work(Clock())


def test_what_is_empty_is_not_waited_for(work: Work) -> None:
    work.count = 0
    assert work.wait(0.0).result()


def test_whoever_waits_is_told_and_has_no_timer_but_its_limit(work: Work) -> None:
    waits = [work.wait(5.0), work.wait(7.0)]
    limits = work.clock.getDelayedCalls()
    work.clock.advance(4.9)
    assert (len(limits), work.clock.getDelayedCalls()) == (2, limits)
    work.tell(0)
    # Not within the turn of the last answer, which still has work to do.
    assert not any(one.done for one in waits)
    work.clock.advance(0)
    assert [one.result() for one in waits] == [True, True]
    assert work.clock.getDelayedCalls() == []


def test_one_part_that_has_nothing_more_is_not_all(work: Work) -> None:
    waits = work.wait()
    work.tell(1)
    work.clock.advance(1.0)
    assert not waits.done


def test_what_is_begun_in_the_same_turn_is_waited_for_as_well(work: Work) -> None:
    waits = work.wait()
    work.tell(0)
    work.count = 1
    work.clock.advance(0)
    assert not waits.done
    work.tell(0)
    work.clock.advance(0)
    assert waits.result()


def test_it_waits_no_longer_than_it_was_told_to(work: Work) -> None:
    waits = work.wait(5.0)
    work.clock.advance(4.9)
    assert not waits.done
    work.clock.advance(0.2)
    assert not waits.result()
    work.tell(0)
    assert work.clock.getDelayedCalls() == []


def test_the_end_is_told_and_nothing_is_waited_for_after_it(work: Work) -> None:
    waits = work.wait()
    work.drain.ended()
    # What the end settles has no receipt.
    work.tell(0)
    work.clock.advance(0)
    assert not waits.result()
    work.count = 1
    assert not work.wait().result()


def test_whoever_is_cancelled_leaves_nothing_behind(work: Work) -> None:
    waits = work.wait()
    waits.cancel()
    assert waits.error is not None
    work.tell(0)
    assert work.clock.getDelayedCalls() == []
