"""Who is served when: nobody is held up for longer than a slice, whatever others send, and nothing is left over."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import LoggedErrors
from trishula_router.upstream.turns import GAP_S, SLICE_S, Turns, pace_meta_events

#: What one frame takes.
FRAME_S = SLICE_S / 10


class World:
    """A reactor that is looked at step by step, and a clock that only work moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.later: list[Callable[[], None]] = []
        self.delays: list[float] = []
        self.done: list[str] = []
        self.turns = Turns(lambda: self.now_s, self._call_later)

    def _call_later(self, delay_s: float, job: Callable[[], None]) -> None:
        self.delays.append(delay_s)
        self.later.append(job)

    def turn(self) -> float:
        """One turn of the reactor; how long it took."""
        began_s, (jobs, self.later) = self.now_s, (self.later, [])
        for job in jobs:
            job()
        return self.now_s - began_s

    def sleep(self) -> None:
        """One turn of the reactor, after whatever delay was asked for last."""
        self.now_s += self.delays[-1]
        self.turn()

    def run(self) -> int:
        """Turn until nothing is left to do; how often."""
        count = 0
        while self.later:
            self.turn()
            count += 1
            assert count < 10_000
        return count


class Line:
    def __init__(self, world: World, owner: str, name: str = "") -> None:
        self.world, self.owner, self.name = world, owner, name or owner
        self.frames = 0
        self.is_read = True

    def send(self, frames: int) -> None:
        self.frames += frames
        self.world.turns.take(self.owner, self)

    def advance(self) -> bool:
        if self.frames:
            self.frames -= 1
            self.world.now_s += FRAME_S
            self.world.done.append(self.name)
        return self.frames > 0

    def pause(self) -> None:
        assert self.is_read
        self.is_read = False

    def resume(self) -> None:
        assert not self.is_read
        self.is_read = True


@pytest.fixture
def world() -> World:
    return World()


def test_what_takes_no_longer_than_a_slice_is_handled_at_once(world: World) -> None:
    line = Line(world, "dc")
    line.send(5)
    assert (line.frames, world.later, line.is_read) == (0, [], True)


def test_of_a_burst_one_slice_is_handled_and_the_rest_by_turns(world: World) -> None:
    line = Line(world, "dc")
    line.send(1000)
    assert 985 < line.frames < 995
    assert not line.is_read
    while world.later:
        assert world.turn() < SLICE_S + 2 * FRAME_S
    assert (line.frames, line.is_read, len(world.turns)) == (0, True, 0)


def test_a_hundred_connections_of_one_agent_have_one_slice_between_them(world: World) -> None:
    lines = [Line(world, "dc") for _ in range(100)]
    began_s = world.now_s
    for line in lines:
        line.send(20)
    assert world.now_s - began_s < SLICE_S + 2 * FRAME_S
    light = Line(world, "agni")
    light.send(1)
    assert light.frames == 0
    world.run()
    assert [line.frames for line in lines] == [0] * 100


def test_agents_that_wait_have_their_turns_one_after_the_other(world: World) -> None:
    heavy, other = Line(world, "heavy"), Line(world, "other")
    heavy.send(10_000)
    other.send(50)
    for _ in range(12):
        world.turn()
    assert other.frames == 0
    assert heavy.frames > 9000


def test_who_is_held_is_not_read_until_it_is_let_go(world: World) -> None:
    world.turns.hold("dc")
    line = Line(world, "dc")
    line.send(3)
    world.run()
    assert (line.frames, line.is_read) == (3, False)
    world.turns.let_go("dc")
    world.run()
    assert (line.frames, line.is_read) == (0, True)


def test_who_rests_is_not_read_until_all_its_rests_are_over(world: World) -> None:
    line, other = Line(world, "eve"), Line(world, "agni")
    world.turns.rest("eve", 1.0)
    world.turns.rest("eve", 2.0)
    first, second = world.later
    line.send(3)
    other.send(1)
    world.later = [job for job in world.later if job not in (first, second)]
    world.run()
    assert world.done == ["agni"]
    assert not line.is_read
    first()
    world.run()
    assert world.done == ["agni"]
    second()
    world.run()
    assert world.done == ["agni", "eve", "eve", "eve"]
    assert line.is_read


def test_a_rest_that_begins_with_a_frame_ends_what_comes_behind_it(world: World) -> None:
    class Heavy(Line):
        def advance(self) -> bool:
            if self.frames == 3:
                world.turns.rest("eve", 5.0)
            return super().advance()

    line = Heavy(world, "eve")
    line.send(3)
    assert world.done == ["eve"]
    assert not line.is_read
    world.run()
    assert world.done == ["eve"] * 3


def jobs(world: World, owner: str, count: int) -> None:
    def job() -> None:
        world.now_s += FRAME_S
        world.done.append("job")

    with world.turns.on_behalf_of(owner):
        for _ in range(count):
            world.turns.later(job)


def test_what_was_put_off_comes_before_what_waits_of_its_agent_and_by_slices_too(world: World) -> None:
    line = Line(world, "dc")
    line.send(20)
    left = line.frames
    jobs(world, "dc", 100)
    while world.done.count("job") < 90:
        assert world.turn() < SLICE_S + 2 * FRAME_S
        assert line.frames == left
    world.run()
    assert line.frames == 0


def test_what_was_put_off_for_one_agent_keeps_no_other_waiting(world: World) -> None:
    jobs(world, "eve", 1000)
    other = Line(world, "agni")
    other.send(30)
    assert other.frames
    for _ in range(8):
        world.turn()
    assert other.frames == 0
    assert world.done.count("job") < 100


def test_what_is_put_off_while_a_frame_is_handled_is_its_agents(world: World) -> None:
    class Busy(Line):
        def advance(self) -> bool:
            for _ in range(10):
                world.turns.later(world.done.append, "job")
            return super().advance()

    line, other = Busy(world, "eve"), Line(world, "agni")
    line.send(5)
    line.send(1)
    other.send(1)
    # Its frames wait for what it has caused, and nobody else's do.
    assert (line.frames, other.frames) == (1, 0)
    world.run()
    assert (line.frames, world.done.count("job")) == (0, 60)


def test_a_few_that_were_put_off_keep_their_agent_from_nothing(world: World) -> None:
    jobs(world, "dc", 3)
    line = Line(world, "dc")
    line.send(1)
    assert line.frames == 0
    jobs(world, "dc", 100)
    line.send(1)
    assert line.frames == 1
    world.run()
    assert line.frames == 0


def test_while_a_small_question_is_open_who_asks_much_leaves_gaps(world: World) -> None:
    heavy = Line(world, "heavy")
    heavy.send(10_000)
    world.turns.owe("question", "light")
    world.delays.clear()
    for _ in range(20):
        world.turn()
    assert world.delays == [GAP_S, 0.0] * 10
    # No gap is served in, and each slice is as long as ever.
    assert 10_000 - heavy.frames == pytest.approx(11 * SLICE_S / FRAME_S, abs=15)
    world.turns.answered("question")
    world.turns.answered("unknown")
    world.turn()
    world.delays.clear()
    for _ in range(20):
        world.turn()
    assert set(world.delays) == {0.0}


def test_a_question_that_stays_open_costs_others_no_more(world: World) -> None:
    Line(world, "heavy").send(10_000)
    world.turns.owe("a fetch that waits", "light")
    for _ in range(100):
        world.turn()
    world.delays.clear()
    for _ in range(20):
        world.turn()
    assert set(world.delays) == {0.0}


def test_for_who_has_much_waiting_nobody_leaves_gaps(world: World) -> None:
    Line(world, "heavy").send(10_000)
    world.turns.owe("question", "heavy")
    world.delays.clear()
    for _ in range(20):
        world.turn()
    assert set(world.delays) == {0.0}


def test_who_is_refused_again_and_again_is_read_seldom(world: World) -> None:
    class Refused(Line):
        def advance(self) -> bool:
            world.turns.refused(self.owner)
            return super().advance()

    line = Refused(world, "eve")
    began_s = world.now_s
    line.send(5000)
    while world.later and not any(delay_s > GAP_S for delay_s in world.delays):
        world.turn()
    # A thousand at once are answered as fast as can be.
    assert 950 < 5000 - line.frames < 1500
    other = Line(world, "agni")
    other.send(1)
    assert other.frames == 0
    while line.frames:
        world.sleep()
    assert world.now_s - began_s > 3.0


def test_a_job_that_fails_keeps_none_of_the_others(world: World, logged_errors: LoggedErrors) -> None:
    world.turns.later(lambda: 1 / 0)
    world.turns.later(world.done.append, "after")
    world.run()
    assert world.done == ["after"]
    assert logged_errors.flush(ZeroDivisionError)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.integers(1, 60)),
            st.sampled_from(["turn", "hold", "let go"]),
        ),
        max_size=40,
    )
)
def test_everything_is_handled_in_the_end_and_each_turn_is_short(steps: list[Any]) -> None:
    world = World()
    lines = {(owner, number): Line(world, owner) for owner in "abc" for number in range(3)}
    sent = 0
    for step in steps:
        if step == "turn":
            assert world.turn() < 2 * SLICE_S
        elif step == "hold":
            world.turns.hold("a")
        elif step == "let go":
            world.turns.let_go("a")
        elif lines[step[:2]].is_read:
            # Of one that isn't read nothing comes.
            lines[step[:2]].send(step[2])
            sent += step[2]
    world.turns.let_go("a")
    world.run()
    assert len(world.done) == sent
    assert all(line.is_read and not line.frames for line in lines.values())


def test_crossbars_put_off_events_come_by_turns(world: World) -> None:
    delays: list[float] = []
    reactor = SimpleNamespace(callLater=lambda delay_s, job, *args: delays.append(delay_s))
    parts = [SimpleNamespace(_reactor=reactor) for _ in range(2)]
    transport = SimpleNamespace(_router=SimpleNamespace(_broker=parts[0], _dealer=parts[1]))
    assert pace_meta_events(transport, world.turns)
    parts[0]._reactor.callLater(0, world.done.append, "first")
    parts[1]._reactor.callLater(0, world.done.append, "second")
    parts[1]._reactor.callLater(5, world.done.append, "later")
    world.run()
    assert (world.done, delays) == (["first", "second"], [5])
    assert not pace_meta_events(SimpleNamespace(), world.turns)


def test_crossbar_puts_off_its_events_with_its_reactor() -> None:
    broker = pytest.importorskip("crossbar.router.broker")
    dealer = pytest.importorskip("crossbar.router.dealer")
    router = SimpleNamespace(_store=None)
    options = SimpleNamespace(uri_check="loose")
    reactor = SimpleNamespace(callLater=print)
    transport = SimpleNamespace(
        _router=SimpleNamespace(
            _broker=broker.Broker(router, reactor, options), _dealer=dealer.Dealer(router, reactor, options)
        )
    )
    assert pace_meta_events(transport, World().turns)
