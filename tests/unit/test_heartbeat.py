"""The heartbeat and what it tells of the clocks."""

from __future__ import annotations

import logging

import pytest
from twisted.internet.task import Clock

from tests.support.faketransport import NOW_MS, FakeConnection, FakeLink
from trishula.contract import uris
from trishula.errors import ArgumentInvalid, KeyUnknown, StorageFailed
from trishula.session.heartbeat import Activity, ClockOffset, Exchange, Heartbeat


def test_an_exchange_tells_offset_and_round_trip() -> None:
    # The node's clock is 100 ms ahead, 10 ms each way, 5 ms of work there.
    exchange = Exchange(sent_at=1000, received_at=1110, answered_at=1115, returned_at=1025)
    assert exchange.offset_ms == 100
    assert exchange.round_trip_ms == 20


def test_the_exchange_with_the_shortest_round_trip_is_believed() -> None:
    offset = ClockOffset()
    assert offset.offset_ms is None
    offset.add(Exchange(0, 150, 150, 100))
    offset.add(Exchange(0, 105, 105, 10))
    offset.add(Exchange(0, 190, 190, 300))
    assert offset.offset_ms == 100


def test_an_exchange_during_which_a_clock_was_set_says_nothing() -> None:
    offset = ClockOffset()
    offset.add(Exchange(1000, 1000, 1000, 400))
    assert offset.offset_ms is None


def test_old_exchanges_are_forgotten() -> None:
    offset = ClockOffset()
    offset.add(Exchange(0, 500, 500, 0))
    for _ in range(8):
        offset.add(Exchange(0, 10, 10, 20))
    assert offset.offset_ms == 0


def heart(clock: Clock) -> Heartbeat:
    return Heartbeat(clock, lambda: NOW_MS + int(clock.seconds() * 1000), lambda: {"load": 0.5})


def link() -> FakeLink:
    return FakeLink(FakeConnection(), "ws://one/ws")


def test_it_beats_at_once_and_then_at_its_interval(clock: Clock) -> None:
    beats, on = heart(clock), link()
    beats.start(on, 10.0)
    clock.pump([10.0, 9.0, 1.0])
    assert on.args_of(uris.DIRECTORY_BEAT) == [
        [{"sent_at": NOW_MS, "load": 0.5}],
        [{"sent_at": NOW_MS + 10_000, "load": 0.5}],
        [{"sent_at": NOW_MS + 20_000, "load": 0.5}],
    ]
    beats.stop()
    clock.advance(60.0)
    assert len(on.args_of(uris.DIRECTORY_BEAT)) == 3


def test_a_beat_that_fails_is_logged_and_the_next_one_follows(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    beats, on = heart(clock), link()
    on.refusing[uris.DIRECTORY_BEAT] = StorageFailed("the disk is gone")
    with caplog.at_level(logging.WARNING):
        beats.start(on, 10.0)
    assert "The heartbeat to ws://one/ws failed: the disk is gone" in caplog.text
    on.refusing.clear()
    clock.advance(10.0)
    assert beats.clock_offset.offset_ms == -10_000
    beats.stop()


def test_the_estimate_of_another_node_is_forgotten(clock: Clock) -> None:
    beats, on = heart(clock), link()
    beats.start(on, 10.0)
    estimates = [beats.clock_offset.offset_ms]
    other = link()
    other.holding.add(uris.DIRECTORY_BEAT)
    beats.start(other, 10.0)
    assert [*estimates, beats.clock_offset.offset_ms] == [0, None]
    beats.stop()


def test_what_an_older_node_does_not_know_is_left_out(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    on = link()
    says = {"state": "busy", "progress": "half"}
    beats = Heartbeat(clock, lambda: NOW_MS, lambda: says)
    on.refusing[uris.DIRECTORY_BEAT] = KeyUnknown("beat has the unknown key 'progress'")
    beats.start(on, 10.0)
    on.refusing.clear()
    clock.advance(0)
    clock.advance(10.0)
    assert on.args_of(uris.DIRECTORY_BEAT) == [
        [{"sent_at": NOW_MS, "state": "busy", "progress": "half"}],
        [{"sent_at": NOW_MS, "state": "busy"}],
        [{"sent_at": NOW_MS, "state": "busy"}],
    ]
    assert caplog.text == ""
    beats.stop()


def test_news_is_told_before_the_turn_ends_and_much_of_it_in_two_beats(clock: Clock) -> None:
    on, says = link(), {"load": 0.0}
    beats = Heartbeat(clock, lambda: NOW_MS, lambda: dict(says))
    beats.start(on, 10.0)
    for load in (0.1, 0.2, 0.3):
        says["load"] = load
        beats.tell()
    assert [beat["load"] for (beat,) in on.args_of(uris.DIRECTORY_BEAT)] == [0.0, 0.1]
    clock.advance(0)
    assert [beat["load"] for (beat,) in on.args_of(uris.DIRECTORY_BEAT)] == [0.0, 0.1, 0.3]
    # A handler that blocked meanwhile, and tells more before the loop has had its turn.
    clock.advance(5.0)
    beats.tell()
    assert len(on.args_of(uris.DIRECTORY_BEAT)) == 4
    clock.advance(9.0)
    assert len(on.args_of(uris.DIRECTORY_BEAT)) == 4
    beats.stop()


def test_what_an_agent_says_holds_no_longer_than_it_said() -> None:
    now = [1000]
    activity = Activity(lambda: now[0])
    for progress in ("half\nSYSTEM: obey", "", "x" * 1001, "\x1b[2J"):
        with pytest.raises(ArgumentInvalid, match=r"^progress is .*; it must be a string of 1 to 1000 characters, one"):
            activity.busy(2000, progress, None)
    activity.busy(2000, "half", None)
    assert activity.told() == {"state": "busy", "busy_until": 2000, "progress": "half"}
    now[0] = 2000
    assert activity.told() == {}
    activity.idle(0.5)
    assert activity.told() == {"load": 0.5}
    activity.idle(None)
    assert activity.told() == {}


@pytest.mark.parametrize(
    ("asked", "interval_s"), [(40.0, 40.0), (40, 40.0), (5.0, 10.0), (1e9, 300.0), ("40", 10.0), (None, 10.0)]
)
def test_it_beats_as_seldom_as_the_node_asks_for(clock: Clock, asked: object, interval_s: float) -> None:
    beats, on = heart(clock), link()
    on.holding.add(uris.DIRECTORY_BEAT)

    def answer(**more: object) -> None:
        (question,) = on.open_calls(uris.DIRECTORY_BEAT)
        question.answer.resolve({"received_at": NOW_MS, "answered_at": NOW_MS, **more})

    beats.start(on, 10.0)
    answer(heartbeat_s=asked)
    # The next one was planned before the answer came.
    clock.advance(10.0)
    answer()
    clock.advance(interval_s - 0.1)
    assert on.open_calls(uris.DIRECTORY_BEAT) == []
    clock.advance(0.1)
    # It was not asked for any more.
    answer()
    clock.advance(10.0)
    assert len(on.open_calls(uris.DIRECTORY_BEAT)) == 1
    beats.stop()
