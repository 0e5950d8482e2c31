"""A node's clocks while the machine's clock is set back and forth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.task import Clock

from tests.support.nodes import START_MS, Rig
from trishula.runtime.clock import BELIEVED_AFTER_MS, STEP_MS, SteadyClock
from trishula.runtime.surroundings import use_monotonic_timers
from trishula_router.store.memory import MemoryStore

HOUR_MS = 3_600_000


class Machine:
    """Two clocks of a machine, of which somebody sets one."""

    def __init__(self) -> None:
        self.passed_ms = 5_000_000.0
        self.set_by_ms = 0.0
        self.steps: list[float] = []
        self.node = SteadyClock(self.wall, lambda: self.passed_ms, self.steps.append)

    def wall(self) -> float:
        return START_MS + self.passed_ms + self.set_by_ms

    def run(self, span_ms: float, reads: int = 100) -> None:
        for _ in range(reads):
            self.passed_ms += span_ms / reads
            self.node()


def test_without_steps_it_is_the_wall_clock() -> None:
    machine = Machine()
    for span_ms in (0.3, 1.0, 250.0, 86_400_000.0):
        machine.run(span_ms)
        assert abs(machine.node() - machine.wall()) <= 1
    assert machine.steps == []


@pytest.mark.parametrize("step_ms", [HOUR_MS, -HOUR_MS, 365 * 24 * HOUR_MS, -20 * HOUR_MS])
def test_a_step_moves_it_by_a_hundredth_of_the_time_that_passes(step_ms: float) -> None:
    machine = Machine()
    before = machine.node()
    machine.set_by_ms = step_ms
    assert machine.node() == before
    machine.run(60_000)
    assert 60_000 - 601 <= machine.node() - before <= 60_000 + 601
    assert machine.steps == [step_ms]


@pytest.mark.parametrize("step_ms", [HOUR_MS, -HOUR_MS, STEP_MS])
def test_a_step_lasts_after_a_minute(step_ms: float) -> None:
    machine = Machine()
    machine.set_by_ms = step_ms
    machine.run(BELIEVED_AFTER_MS - 100)
    assert machine.node.lasting_ms == 0
    machine.run(1000)
    # Less what was followed meanwhile; of the smallest step there is nothing left to believe.
    expected = step_ms - 609 * (1 if step_ms > 0 else -1)
    assert machine.node.lasting_ms == (pytest.approx(expected, abs=2) if abs(expected) >= STEP_MS else 0)


def test_a_step_that_goes_on_stepping_is_not_believed() -> None:
    machine = Machine()
    for step in range(10):
        machine.set_by_ms = HOUR_MS * (1 + step % 2)
        machine.run(BELIEVED_AFTER_MS / 2)
        assert machine.node.lasting_ms == 0


def test_it_jumps_when_it_is_told_to() -> None:
    machine = Machine()
    machine.set_by_ms = HOUR_MS
    machine.run(2 * BELIEVED_AFTER_MS)
    before, by_ms = machine.node(), machine.node.lasting_ms
    machine.node.jump(by_ms)
    assert machine.node() == before + by_ms
    assert abs(machine.node() - machine.wall()) <= 1
    assert machine.node.lasting_ms == 0
    # The next step is news again.
    machine.set_by_ms = 0
    machine.run(1000)
    assert len(machine.steps) == 2


def test_it_goes_on_as_it_was_after_a_restart() -> None:
    machine = Machine()
    machine.set_by_ms = HOUR_MS
    again = SteadyClock(machine.wall, lambda: machine.passed_ms, machine.steps.append, machine.node.offset_ms)
    assert again() == machine.node()
    assert abs(again.gap_ms - HOUR_MS) < 1
    # What is no step is taken over at once.
    machine.set_by_ms = 1500
    again = SteadyClock(machine.wall, lambda: machine.passed_ms, machine.steps.append, machine.node.offset_ms)
    assert (again(), again.gap_ms) == (int(machine.wall()), 0)


def test_it_catches_up_in_the_end_and_stays() -> None:
    machine = Machine()
    machine.set_by_ms = -HOUR_MS
    machine.run(101 * HOUR_MS, reads=10_000)
    assert abs(machine.node() - machine.wall()) <= 1
    machine.run(HOUR_MS)
    assert abs(machine.node() - machine.wall()) <= 1
    assert machine.steps[0] == -HOUR_MS


def test_what_ntp_corrects_is_followed_and_not_told() -> None:
    machine = Machine()
    for _ in range(1000):
        # A crystal that loses 100 ms in 1000 s.
        machine.set_by_ms += 100
        machine.run(1_000_000, reads=10)
    assert abs(machine.node() - machine.wall()) <= 1
    assert machine.steps == []


def test_it_never_goes_back() -> None:
    machine = Machine()
    last = machine.node()
    for step_ms in (0, -HOUR_MS, -1, HOUR_MS, -9 * HOUR_MS):
        machine.set_by_ms += step_ms
        for _ in range(100):
            machine.passed_ms += 0.7
            assert machine.node() >= last
            last = machine.node()


def test_each_step_is_told_once() -> None:
    machine = Machine()
    machine.set_by_ms = HOUR_MS
    machine.run(10_000)
    machine.set_by_ms = HOUR_MS + STEP_MS + 500
    machine.run(10_000)
    machine.set_by_ms = 0
    machine.run(10_000)
    assert len(machine.steps) == 2


# -- the node's rules on it --------------------------------------------------------------------------------------------


class SteppedRig(Rig):
    """A node whose machine's clock is set."""

    set_by_ms = 0

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.steady = SteadyClock(
            lambda: START_MS + self.clock.seconds() * 1000 + self.set_by_ms,
            lambda: self.clock.seconds() * 1000,
            lambda gap: None,
        )
        super().__init__(directory, MemoryStore("epoch-1"), self.clock)

    def now(self) -> int:
        return self.steady()


@pytest.fixture(params=[HOUR_MS, -HOUR_MS], ids=["forward", "back"])
def step_ms(request: pytest.FixtureRequest) -> int:
    step: int = request.param
    return step


@pytest.fixture
def rig(tmp_path: Path) -> SteppedRig:
    rig = SteppedRig(tmp_path)
    rig.start()
    return rig


def test_a_step_expires_nothing(rig: SteppedRig, step_ms: int) -> None:
    dc = rig.join("dc")
    rig.send(dc, {"id": "m1", "to": "agni", "ttl_ms": 600_000}, {"id": "m2", "to": "agni", "ttl_ms": 60_000})
    rig.set_by_ms = step_ms
    rig.advance(30)
    assert rig.states(dc, "m1", "m2") == {"m1": "accepted", "m2": "accepted"}
    # And what is over is over, at its time.
    rig.advance(45)
    assert rig.states(dc, "m1", "m2") == {"m1": "accepted", "m2": "expired"}


def test_a_step_ends_no_lease_and_keeps_none(rig: SteppedRig, step_ms: int) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    rig.send(dc, {"id": "m1", "to": "agni"})
    assert rig.ids(agni) == ["m1"]
    rig.set_by_ms = step_ms
    rig.advance(50)
    assert rig.ids(agni) == []
    rig.advance(15)
    assert rig.ids(agni) == ["m1"]


def test_a_step_neither_shortens_nor_prolongs_a_pause(rig: SteppedRig, step_ms: int) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    rig.send(dc, {"id": "m1", "to": "agni"})
    (delivery,) = rig.pushed(agni)
    rig.nack(agni, delivery["token"])
    rig.set_by_ms = step_ms
    rig.advance(3)
    assert rig.ids(agni) == ["m1"]


def test_a_step_makes_nobody_stale(rig: SteppedRig, step_ms: int) -> None:
    agni = rig.join("agni")
    rig.attach(agni)
    rig.outlet.announced.clear()
    rig.set_by_ms = step_ms
    rig.advance(20)
    assert [event["presence"] for _, event in rig.outlet.announced if event["agent"] == "agni"] == []


# -- the reactor -------------------------------------------------------------------------------------------------------


class Reactor(ReactorBase):
    """Twisted's own timers, without a loop around them."""

    def installWaker(self) -> None:
        """It is woken by the test."""


def test_timers_go_on_when_the_clock_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, steady = 1_700_000_000.0, 50.0
    monkeypatch.setattr(ReactorBase, "seconds", staticmethod(lambda: wall))
    reactor: Any = Reactor()
    fired: list[str] = []
    reactor.callLater(10, fired.append, "old")
    reactor.callLater(2, fired.append, "older")
    reactor._insertNewDelayedCalls()
    moved: DelayedCall = reactor.callLater(1, fired.append, "moved")
    use_monotonic_timers(reactor, lambda: steady)
    reactor.callLater(5, fired.append, "new")
    moved.reset(7)

    def at(seconds: float) -> list[str]:
        nonlocal steady
        steady = seconds
        reactor._insertNewDelayedCalls()
        reactor.runUntilCurrent()
        found = fired.copy()
        fired.clear()
        return found

    # Whatever the wall clock does.
    wall = 0.0
    assert at(51.9) == []
    assert at(52.1) == ["older"]
    assert reactor.timeout() == pytest.approx(2.9)
    assert at(55.1) == ["new"]
    wall = 1_800_000_000.0
    assert at(57.1) == ["moved"]
    assert at(59.9) == []
    assert at(60.1) == ["old"]
