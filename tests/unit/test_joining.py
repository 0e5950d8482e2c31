"""The loop of attempts: races, watches, moves and ends, with attempts that the test plays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.faketransport import FakeConnection, FakeLink, surroundings
from trishula.errors import BusUnreachable, TakenOver, TokenInvalid, TrishulaError
from trishula.session.joining import Attempt, Joining
from trishula.session.reconnect_policy import HEAD_START_S
from trishula.session.transport import Connection, Link

GONE = BusUnreachable("gone")


class Played:
    """An attempt: records what it is asked, and ends at once when it is told to leave."""

    def __init__(self, url: str, owner: Setup) -> None:
        self.url = url
        self.asked: list[str] = []
        self.link = FakeLink(FakeConnection(), url)
        self._owner = owner

    def begin(self, *, watching: bool) -> None:
        self.asked.append("watch" if watching else "begin")

    def join(self) -> None:
        self.asked.append("join")

    def leave(self) -> None:
        self.asked.append("leave")
        if not self._owner.lingering:
            self.ends()

    def retire(self) -> None:
        self.asked.append("retire")

    # what the test does

    def opens(self) -> None:
        self._owner.joining.attempt_opened(self)

    def joins(self) -> None:
        self._owner.joining.attempt_joined(self, self.link)

    def ends(self, error: TrishulaError = GONE) -> None:
        self._owner.joining.attempt_ended(self, error)


class Setup:
    """A loop over nodes, and what its listener hears."""

    def __init__(self, clock: Clock, *urls: str, failback_s: float | None = 30.0) -> None:
        self.clock = clock
        self.heard: list[Any] = []
        self.made: list[Played] = []
        self.lingering = False
        setup = self

        class Played_(Joining):
            def attempt_at(self, url: str) -> Attempt:
                setup.made.append(Played(url, setup))
                return setup.made[-1]

        self.joining = Played_(urls, surroundings(clock), failback_s=failback_s)
        self.joining.start(self)

    def last(self) -> Played:
        return self.made[-1]

    def tried(self) -> list[str]:
        return [one.url for one in self.made]

    # transport.Listener

    def link_joined(self, link: Link) -> None:
        self.heard.append(("joined", link.url))

    def link_lost(self, error: TrishulaError) -> None:
        self.heard.append(("lost", type(error).__name__))

    def link_offered(self, link: Link) -> None:
        self.heard.append(("offered", link.url))

    def link_withdrawn(self, error: TrishulaError) -> None:
        self.heard.append(("withdrawn",))

    def node_unreachable(self, url: str, error: TrishulaError, retry_in_s: float) -> None:
        self.heard.append(("unreachable", url, round(retry_in_s, 6)))

    def given_up(self, error: TrishulaError) -> None:
        self.heard.append(("given up", type(error).__name__))


Make = Callable[..., Setup]


@pytest.fixture
def make(clock: Clock) -> Iterator[Make]:
    """Makes one that is stopped at the end: then no timer may be left."""
    made: list[Setup] = []

    def make(*urls: str, failback_s: float | None = 30.0) -> Setup:
        made.append(Setup(clock, *urls, failback_s=failback_s))
        return made[-1]

    yield make
    for one in made:
        one.lingering = False
        assert one.joining.stop().done


def test_a_silent_node_is_overtaken_by_the_next_one(clock: Clock, make: Make) -> None:
    setup = make("a", "b")
    clock.advance(HEAD_START_S - 0.01)
    assert setup.tried() == ["a"]
    clock.advance(0.01)
    assert setup.tried() == ["a", "b"]
    setup.made[1].joins()
    assert setup.heard == [("joined", "b")]
    assert setup.made[0].asked == ["begin", "leave"]


def test_one_that_joins_in_time_keeps_the_next_one_from_being_tried(clock: Clock, make: Make) -> None:
    setup = make("a", "b")
    setup.last().joins()
    clock.advance(100.0)
    assert setup.tried() == ["a"]
    assert clock.getDelayedCalls() == []


def test_a_failure_is_followed_by_the_next_one_at_once(clock: Clock, make: Make) -> None:
    setup = make("a", "b")
    setup.last().ends()
    assert setup.tried() == ["a", "b"]
    setup.last().ends()
    assert setup.heard == [("unreachable", "a", 0.0), ("unreachable", "b", 0.09)]
    clock.advance(0.0901)
    assert setup.tried() == ["a", "b", "a"]


def test_the_loser_of_a_race_that_joins_all_the_same_leaves(clock: Clock, make: Make) -> None:
    setup = make("a", "b")
    clock.advance(HEAD_START_S)
    slow, fast = setup.made
    setup.lingering = True
    fast.joins()
    slow.joins()
    assert setup.heard == [("joined", "b")]
    assert slow.asked == ["begin", "leave", "leave"]


def test_after_a_loss_the_other_node_is_tried_within_the_spread(clock: Clock, make: Make) -> None:
    setup = make("a", "b")
    setup.last().joins()
    clock.advance(20.0)
    setup.last().ends()
    clock.advance(0.025)
    assert setup.tried() == ["a", "b"]


def test_a_wrong_token_ends_it(clock: Clock, make: Make) -> None:
    setup = make("a")
    setup.last().ends(TokenInvalid("wrong"))
    assert setup.heard == [("given up", "TokenInvalid")]
    assert setup.joining.stop().done
    assert clock.getDelayedCalls() == []


def test_a_takeover_ends_it(clock: Clock, make: Make) -> None:
    setup = make("a", "b")
    setup.last().joins()
    setup.last().ends(TakenOver("by another"))
    assert setup.heard == [("joined", "a"), ("lost", "TakenOver"), ("given up", "TakenOver")]
    clock.advance(100.0)
    assert setup.tried() == ["a"]


def test_a_takeover_soon_after_a_failover_may_be_by_our_own_old_session_and_costs_one_more_attempt(
    clock: Clock, make: Make
) -> None:
    setup = make("a", "b", failback_s=None)
    setup.last().joins()
    clock.advance(60.0)
    setup.last().ends()
    clock.advance(0.1)
    setup.last().joins()
    setup.last().ends(TakenOver("by the old session on a, which has come to its senses"))
    clock.advance(0.1)
    assert setup.tried() == ["a", "b", "a"]
    setup.last().ends()
    setup.last().joins()
    assert setup.heard[-1] == ("joined", "b")
    # A second one is somebody else.
    setup.last().ends(TakenOver("by another"))
    assert setup.heard[-1] == ("given up", "TakenOver")


def on_second(setup: Setup) -> Played:
    """Join b, because a is away; the watch on a that follows."""
    setup.last().ends()
    setup.last().joins()
    setup.clock.advance(0.0)
    assert setup.tried() == ["a", "b", "a"]
    assert setup.last().asked == ["watch"]
    return setup.last()


def test_a_better_node_is_watched_and_moved_to_when_it_has_lasted(clock: Clock, make: Make) -> None:
    setup = make("a", "b")
    watch = on_second(setup)
    clock.advance(7.0)
    watch.opens()
    clock.advance(32.9)
    assert watch.asked == ["watch"]
    clock.advance(0.1)
    assert watch.asked == ["watch", "join"]
    watch.joins()
    assert setup.heard[-1] == ("offered", "a")
    setup.joining.moved()
    assert setup.made[1].asked == ["begin", "retire"]
    # Whatever becomes of the old one.
    setup.made[1].ends(TakenOver("by ourselves"))
    clock.advance(100.0)
    assert setup.heard[-1] == ("offered", "a")
    assert setup.tried() == ["a", "b", "a"]
    watch.ends()
    assert setup.heard[-1] == ("lost", "BusUnreachable")
    clock.advance(0.1)
    assert setup.tried()[3:] == ["b"]


def test_a_watch_that_breaks_begins_anew(clock: Clock, make: Make) -> None:
    setup = make("a", "b")
    watch = on_second(setup)
    watch.opens()
    clock.advance(29.0)
    watch.ends()
    clock.advance(5.0)
    assert watch.asked == ["watch"]
    again = setup.last()
    assert (again.url, again.asked) == ("a", ["watch"])
    again.opens()
    clock.advance(32.0)
    assert again.asked == ["watch"]
    clock.advance(2.0)
    assert again.asked == ["watch", "join"]


def test_turned_off_it_watches_nothing(clock: Clock, make: Make) -> None:
    setup = make("a", "b", failback_s=None)
    setup.last().ends()
    setup.last().joins()
    clock.advance(100.0)
    assert setup.tried() == ["a", "b"]


@pytest.mark.parametrize("is_open", [True, False])
def test_a_loss_while_a_better_node_is_watched_makes_the_watch_join(clock: Clock, make: Make, is_open: bool) -> None:
    setup = make("a", "b")
    watch = on_second(setup)
    if is_open:
        watch.opens()
    clock.advance(1.0)
    setup.made[1].ends()
    assert watch.asked == ["watch", "join"]
    watch.joins()
    assert setup.heard[-2:] == [("lost", "BusUnreachable"), ("joined", "a")]
    clock.advance(100.0)
    assert setup.tried() == ["a", "b", "a"]


def test_a_loss_in_the_middle_of_a_move_makes_it_a_join(clock: Clock, make: Make) -> None:
    setup = make("a", "b")
    watch = on_second(setup)
    watch.opens()
    clock.advance(33.0)
    watch.joins()
    # The node that we leave may have heard of it before we have.
    setup.made[1].ends(TakenOver("by ourselves, on a"))
    assert setup.heard[-2:] == [("offered", "a"), ("lost", "TakenOver")]
    assert watch.asked == ["watch", "join"]
    # It is the session now.
    setup.joining.moved()
    watch.ends()
    assert setup.heard[-1] == ("lost", "BusUnreachable")
    clock.advance(0.2)
    assert setup.tried()[3:] == ["b"]


def test_a_move_that_fails_leaves_all_as_it_was_and_is_tried_later(clock: Clock, make: Make) -> None:
    setup = make("a", "b")
    watch = on_second(setup)
    watch.opens()
    clock.advance(33.0)
    watch.joins()
    watch.ends()
    assert setup.heard[-1] == ("withdrawn",)
    clock.advance(1.0)
    assert (setup.last().url, setup.last().asked) == ("a", ["watch"])
    setup.last().opens()
    clock.advance(65.9)
    assert setup.last().asked == ["watch"]
    clock.advance(0.1)
    assert setup.last().asked == ["watch", "join"]


def test_stopping_ends_everything_that_there_is(clock: Clock, make: Make) -> None:
    setup = make("a", "b")
    watch = on_second(setup)
    watch.opens()
    setup.lingering = True
    stopped = setup.joining.stop()
    ends = [stopped.done]
    assert [one.asked[-1] for one in setup.made[1:]] == ["leave", "leave"]
    for one in (watch, setup.made[1]):
        one.ends()
        ends.append(stopped.done)
    assert ends == [False, False, True]
    assert clock.getDelayedCalls() == []
    assert setup.joining.stop() is stopped


def test_stopping_in_the_race(clock: Clock, make: Make) -> None:
    setup = make("a", "b")
    clock.advance(HEAD_START_S)
    assert setup.joining.stop().done
    assert setup.heard == []
    assert clock.getDelayedCalls() == []


def _plays_the_interface(joining: Joining) -> Connection:
    return joining
