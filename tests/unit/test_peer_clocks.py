"""How the clocks of peers are measured: by hellos that take their time, and clocks that are set meanwhile."""

from __future__ import annotations

import pytest

from trishula_router.clocks.peer_clocks import PeerClocks, ahead_of


class Two:
    """This node and a peer, whose hellos take their way."""

    def __init__(self, ahead_ms: int = 0) -> None:
        self.steady_ms = 1000
        self.ahead_ms = ahead_ms
        #: How much the peer's clock for spans differs: it is one of another machine.
        self.theirs_ms = 777_000
        self.here, self.there = PeerClocks(["there"]), PeerClocks(["here"])

    def now(self) -> int:
        return 1_700_000_000_000 + self.steady_ms

    def exchange(self, way_ms: int = 2, back_ms: int | None = None, kept_ms: int = 200) -> None:
        """A hello there, and one back."""
        mark, sent_at, (echo, age_ms) = self.steady_ms, self.now(), self.here.echo("there", self.steady_ms)
        self.steady_ms += way_ms
        self.there.heard(
            "here",
            sent_at=sent_at,
            mark=mark,
            echo=echo,
            echo_age_ms=age_ms,
            steady_ms=self.steady_ms + self.theirs_ms,
            now=self.now() + self.ahead_ms,
        )
        self.steady_ms += kept_ms
        theirs_ms = self.steady_ms + self.theirs_ms
        mark, sent_at, (echo, age_ms) = theirs_ms, self.now() + self.ahead_ms, self.there.echo("here", theirs_ms)
        self.steady_ms += way_ms if back_ms is None else back_ms
        self.here.heard(
            "there",
            sent_at=sent_at,
            mark=mark,
            echo=echo,
            echo_age_ms=age_ms,
            steady_ms=self.steady_ms,
            now=self.now(),
        )


@pytest.mark.parametrize("ahead_ms", [0, 60_000, -60_000, -10_800_000])
def test_two_exchanges_tell_the_difference_to_both(ahead_ms: int) -> None:
    two = Two(ahead_ms)
    two.exchange()
    two.exchange()
    assert (two.here.ahead_ms("there"), two.there.ahead_ms("here")) == (ahead_ms, -ahead_ms)


def test_the_sample_with_the_shortest_way_counts() -> None:
    two = Two(60_000)
    two.exchange(way_ms=1, back_ms=400)
    assert two.here.ahead_ms("there") != 60_000
    two.exchange(way_ms=2)
    two.exchange(way_ms=1, back_ms=800)
    assert two.here.ahead_ms("there") == 60_000


def test_a_way_that_is_too_long_says_nothing() -> None:
    two = Two()
    two.exchange(way_ms=6000)
    assert two.here.ahead_ms("there") is None


def test_a_clock_that_was_set_is_measured_anew() -> None:
    two = Two()
    for _ in range(10):
        two.exchange()
    two.ahead_ms = 3_600_000
    two.exchange(way_ms=100)
    assert two.here.ahead_ms("there") == 3_600_000


def test_a_mark_of_a_former_life_says_nothing() -> None:
    two = Two()
    two.exchange()
    # This node's machine starts again, and its clock for spans with it; the peer's goes on.
    two.here = PeerClocks(["there"])
    mark, age_ms = two.there.echo("here", two.steady_ms + two.theirs_ms + 5000)
    two.steady_ms = 50
    sent = {"sent_at": two.now(), "mark": 1, "steady_ms": two.steady_ms, "now": two.now()}
    two.here.heard("there", echo=mark, echo_age_ms=age_ms, **sent)
    assert two.here.ahead_ms("there") is None


def test_a_peer_of_an_older_version_is_not_measured() -> None:
    clocks = PeerClocks(["old"])
    clocks.heard("old", sent_at=0, mark=0, echo=0, echo_age_ms=0, steady_ms=1000, now=5)
    assert (clocks.echo("old", 2000), clocks.ahead_ms("old"), clocks.news()) == ((0, 0), None, [])


def test_a_difference_is_told_once_and_its_end_too() -> None:
    two = Two(60_000)
    two.exchange()
    assert two.here.news() == [("there", 60_000)]
    two.exchange()
    assert two.here.news() == []
    # Less than what is told, and more than what is none: nothing has changed.
    for ahead_ms, news in ((61_500, []), (1500, []), (100, [("there", None)]), (1500, []), (2500, [("there", 2500)])):
        two.ahead_ms = ahead_ms
        two.here.lost("there")
        two.exchange()
        assert two.here.news() == news


def test_what_the_way_takes_is_no_difference() -> None:
    assert (ahead_of(0, 1_700_000_000_000), ahead_of(1500, 2000), ahead_of(1500, 62_000)) == (0, 0, -60_500)
