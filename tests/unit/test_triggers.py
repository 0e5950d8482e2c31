"""The triggers by a virtual clock: when each fires and clears, and what an operator's word is worth."""

from __future__ import annotations

from typing import Any

import pytest

from trishula_router.objectives.automatic import Automatic, Word
from trishula_router.objectives.triggers import TriggerFacts, Triggers
from trishula_router.settings.objectives import ObjectiveOptions

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
T0 = 20_000 * DAY_MS


class Clock:
    """Triggers that are looked at each minute."""

    def __init__(self, *off: str) -> None:
        self.triggers = Triggers(ObjectiveOptions(triggers_off=off))
        self.now = T0

    def minutes(self, count: int, **facts: Any) -> list[str]:
        """Which triggers fire after so many minutes of the same."""
        for _ in range(count):
            self.now += MINUTE_MS
            self.triggers.step(TriggerFacts(**facts), self.now)
        return sorted(self.triggers.firing)


def slow(ms: float, count: int = 100, of: int = 5) -> list[tuple[int, float]]:
    return [(100, 5.0)] * (5 - of) + [(count, ms)] * of


def test_uptime_fires_below_95_percent_and_clears_above_96() -> None:
    clock = Clock()
    assert clock.minutes(1, down_s=0.05 * 86_400) == []
    assert clock.minutes(1, down_s=0.051 * 86_400) == ["uptime"]
    assert "5.1 %" in str(clock.triggers.reason)
    assert clock.minutes(1, down_s=0.045 * 86_400) == ["uptime"]
    assert clock.minutes(1, down_s=0.039 * 86_400) == []
    assert clock.triggers.reason is None


def test_p99_fires_after_five_slow_minutes_and_clears_after_five_others() -> None:
    clock = Clock()
    assert clock.minutes(1, steps=slow(300, of=4)) == []
    assert clock.minutes(1, steps=slow(201)) == ["p99"]
    # Between the bounds nothing changes.
    assert clock.minutes(1, steps=slow(180)) == ["p99"]
    assert clock.minutes(1, steps=slow(151, of=1)) == ["p99"]
    assert clock.minutes(1, steps=slow(149)) == []
    assert clock.minutes(1, steps=slow(199)) == []


def test_a_few_slow_messages_are_no_slow_minute() -> None:
    clock = Clock()
    assert clock.minutes(1, steps=slow(900, count=19)) == []
    assert clock.minutes(1, steps=slow(900)[:4]) == []
    assert clock.minutes(1, steps=slow(900, count=20)) == ["p99"]


def test_loss_fires_after_five_minutes_and_clears_after_five_others() -> None:
    clock = Clock()
    assert clock.minutes(5, lost=11, ended=1000) == []
    assert clock.minutes(1, lost=11, ended=1000) == ["loss"]
    assert "11 of 1000" in str(clock.triggers.reason)
    assert clock.minutes(20, lost=7, ended=1000) == ["loss"]
    assert clock.minutes(5, lost=4, ended=1000) == ["loss"]
    assert clock.minutes(1, lost=4, ended=1000) == []


def test_loss_that_comes_and_goes_does_not_fire() -> None:
    clock = Clock()
    for _ in range(5):
        assert clock.minutes(4, lost=50, ended=1000) == []
        assert clock.minutes(1, lost=0, ended=1000) == []
    assert clock.minutes(20, lost=50, ended=199) == []


def test_an_agent_away_for_an_hour_fires_until_it_is_back() -> None:
    clock = Clock()
    assert clock.minutes(60, away={"agni": T0}) == []
    assert clock.minutes(1, away={"agni": T0}) == ["away"]
    assert "agni could not be reached" in str(clock.triggers.reason)
    assert clock.minutes(1, away={}) == []


def test_an_agent_that_was_switched_off_does_not_fire_for_ever() -> None:
    clock = Clock()
    assert clock.minutes(24 * 60, away={"agni": T0}) == ["away"]
    assert clock.minutes(1, away={"agni": T0}) == []


def test_many_agents_make_one_short_reason() -> None:
    clock = Clock()
    clock.minutes(61, away={f"a{number}": T0 for number in range(20)})
    assert clock.triggers.reason == "a0, a1, a10 and 17 more could not be reached for more than 1 h"


@pytest.mark.parametrize(
    ("trigger", "facts"),
    [
        ("uptime", {"down_s": 80_000.0}),
        ("p99", {"steps": slow(900)}),
        ("loss", {"lost": 500, "ended": 1000}),
        ("away", {"away": {"agni": T0 - 2 * HOUR_MS}}),
    ],
)
def test_each_can_be_switched_off(trigger: str, facts: dict[str, Any]) -> None:
    assert Clock().minutes(10, **facts) == [trigger]
    assert Clock(trigger).minutes(10, **facts) == []


def test_an_operators_off_holds_until_what_fired_has_cleared() -> None:
    clock = Clock()
    clock.minutes(1, down_s=80_000.0)
    clock.triggers.overrule()
    assert clock.minutes(5, down_s=80_000.0) == ["uptime"]
    assert clock.triggers.reason is None
    # Another one is news.
    clock.minutes(1, down_s=80_000.0, steps=slow(900))
    assert "p99" in str(clock.triggers.reason) and "down" not in str(clock.triggers.reason)
    clock.minutes(1)
    clock.minutes(1, down_s=80_000.0)
    assert "down" in str(clock.triggers.reason)


def test_the_lengths_of_time_are_options() -> None:
    options = ObjectiveOptions(step_ms=1000, uptime_window_s=20.0, loss_window_s=90.0, away_ms=2000)
    triggers = Triggers(options)
    facts = TriggerFacts(down_s=1.1, lost=20, ended=1000, away={"agni": T0 - 1})
    triggers.step(facts, T0)
    assert triggers.firing == {"uptime": "the node was down for 5.5 % of the last 20 s"}
    triggers.step(facts, T0 + 2000)
    assert triggers.firing["away"] == "agni could not be reached for more than 2 s"
    triggers.step(facts, T0 + 4999)
    assert "loss" not in triggers.firing
    triggers.step(facts, T0 + 5000)
    assert triggers.firing["loss"] == "2.0 % of the messages of the last 90 s ended dead or expired (20 of 1000)"
    triggers.step(TriggerFacts(down_s=0.81, lost=4, ended=1000), T0 + 6000)
    assert sorted(triggers.firing) == ["loss", "uptime"]
    triggers.step(TriggerFacts(down_s=0.79, lost=4, ended=1000), T0 + 11_000)
    assert not triggers.firing


# -- the automatic fallback --------------------------------------------------------------------------------------------


class Bus:
    """A bus's mode, a node that may set it, and operators who do."""

    def __init__(self, node: str = "agni") -> None:
        self.clock = Clock()
        self.automatic = Automatic(node)
        self.word = Word("live", "")
        self.said: list[str] = []

    def minute(self, **facts: Any) -> str:
        """The mode a minute later."""
        self.clock.minutes(1, **facts)
        said = self.automatic.step(self.word, self.clock.triggers)
        if said is not None:
            self.say(said.mode, said.by, said.reason)
        return self.word.mode

    def say(self, mode: Any, by: str, reason: str = "because") -> None:
        self.word = Word(mode, by, reason, self.clock.now)
        self.said.append(f"{by}: {mode}")


DOWN: dict[str, Any] = {"down_s": 80_000.0}
SLOW: dict[str, Any] = {"steps": slow(900)}


def test_a_node_turns_the_fallback_on_and_off_again_once() -> None:
    bus = Bus()
    assert [bus.minute(), bus.minute(**DOWN), bus.minute(**DOWN), bus.minute(**DOWN, **SLOW)] == ["live"] + [
        "fallback"
    ] * 3
    assert "the node was down" in bus.word.reason
    # While another one fires it stays on.
    assert [bus.minute(**SLOW), bus.minute(), bus.minute()] == ["fallback", "live", "live"]
    assert bus.said == ["node:agni: fallback", "node:agni: live"]


def test_what_an_operator_turned_on_a_node_does_not_end() -> None:
    bus = Bus()
    bus.minute()
    bus.say("fallback", "ops")
    assert [bus.minute(**DOWN), bus.minute()] == ["fallback", "fallback"]
    assert bus.said == ["ops: fallback"]


def test_what_an_operator_turned_off_a_node_does_not_turn_on_again_for_the_same() -> None:
    bus = Bus()
    bus.minute()
    bus.minute(**DOWN)
    bus.say("live", "ops")
    assert [bus.minute(**DOWN) for _ in range(10)] == ["live"] * 10
    assert bus.minute(**DOWN, **SLOW) == "fallback"
    assert [bus.minute(), bus.minute(**DOWN)] == ["live", "fallback"]


def test_an_operators_word_of_before_the_start_overrules_nothing() -> None:
    bus = Bus()
    bus.say("live", "ops")
    assert bus.minute(**DOWN) == "fallback"


def test_what_another_node_turned_on_is_its_to_end() -> None:
    bus = Bus("rushabdev")
    bus.minute()
    bus.say("fallback", "node:agni")
    assert [bus.minute(), bus.minute(**DOWN)] == ["fallback", "fallback"]
    bus.say("live", "node:agni")
    # Its own trouble goes on.
    assert bus.minute(**DOWN) == "fallback"
    assert bus.said[-1] == "node:rushabdev: fallback"


def test_a_slow_step_is_as_long_as_the_options_say() -> None:
    triggers = Triggers(ObjectiveOptions(step_ms=1000))
    triggers.step(TriggerFacts(steps=[(100, 250.0)] * 5), T0)
    triggers.step(TriggerFacts(steps=[(100, 250.0)] * 5, lost=20, ended=1000), T0 + 1000)
    assert triggers.firing == {"p99": "p99 was up to 250 ms in the last 5 s, and 200 ms is the bound"}
    triggers.step(TriggerFacts(lost=20, ended=1000), T0 + 6000)
    assert list(triggers.firing) == ["loss"]
