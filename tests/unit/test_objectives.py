"""What a node promises: series, uptime over its ends, budgets and burn rates, and those of a bus of several nodes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.support.logs import Logged, logged
from trishula.reports.summary import Summary
from trishula.watching.availability import told_time
from trishula.watching.bus_objectives import merge
from trishula.watching.objectives import NAMES, WINDOWS_S, Objectives, judge
from trishula.watching.outages import common, length_ms, without
from trishula.watching.totals import Totals
from trishula_router.objectives.book import Book, Page, SavedBook
from trishula_router.objectives.comings import Comings
from trishula_router.objectives.recorder import Recorder, look_s
from trishula_router.objectives.triggers import Triggers
from trishula_router.settings.objectives import ObjectiveOptions

__all__ = ["logged"]

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
#: Some midnight.
T0 = 20_000 * DAY_MS


class Time:
    """A node's book, with the two clocks that it is told."""

    def __init__(self, kept: SavedBook | None = None, at: int = T0, last_record_at: int | None = None) -> None:
        self.book = Book(ObjectiveOptions(), kept or SavedBook())
        self.now, self.now_s = at, 0.0
        self.book.begin(self.now, self.now_s, last_record_at)

    def passes(self, span_s: float, *, is_up: bool = True, step_s: float = 1.0, added: Totals | None = None) -> None:
        for _ in range(round(span_s / step_s)):
            self.now += round(step_s * 1000)
            self.now_s += step_s
            self.book.look(self.now, self.now_s, is_up=is_up, added=added or Totals())

    def window(self, name: str) -> Totals:
        return self.book.series.window(self.now, WINDOWS_S[name])


def kept_by(*pages: Page) -> SavedBook:
    """What a file has after some pages."""
    rows = {(span_ms, at): (span_ms, at, text) for page in pages for span_ms, at, text in page.rows}
    return SavedBook(list(rows.values()), pages[-1].notes)


def messages(count: int, delay_ms: float = 1.0, **more: Any) -> Totals:
    totals = Totals(accepted=count, done=count, **more)
    totals.delivery_ms.add(delay_ms, count)
    return totals


def test_what_happened_is_in_each_window_that_it_lies_in() -> None:
    time = Time()
    time.passes(1, added=messages(7))
    time.passes(600)
    time.passes(1, added=messages(3))
    assert [time.window(name).done for name in WINDOWS_S] == [3, 10, 10, 10, 10]
    assert time.window("1h").watched_s == time.window("1h").up_s == 602


def test_a_day_is_summed_up_of_hours_and_minutes_and_forgets_nothing_too_early() -> None:
    time = Time(at=T0 + 17 * MINUTE_MS)
    time.passes(1, added=messages(1))
    time.passes(DAY_MS / 1000 - 120, step_s=60.0)
    assert time.window("24h").done == 1
    assert time.window("24h").watched_s == pytest.approx(86_400 - 119)
    time.passes(300, step_s=60.0)
    assert (time.window("24h").done, time.window("7d").done) == (0, 1)


def test_a_minute_without_the_node_is_downtime_and_the_next_run_knows_it() -> None:
    first = Time()
    first.passes(600, added=messages(1))
    page = first.book.page(first.now)
    second = Time(kept_by(page), at=first.now + 90_000)
    second.passes(300)
    hour = second.window("1h")
    assert (hour.done, hour.watched_s, hour.up_s) == (600, 990.0, 900.0)
    assert second.book.uptime.outages == [(first.now, first.now + 90_000)]
    verdict = judge("availability", Objectives(), hour, 3600.0)
    assert verdict.value == pytest.approx(900 / 990)
    assert verdict.burn == pytest.approx(90 / 990 / 0.01)
    # Of an hour, 36 s may be bad.
    assert verdict.budget == pytest.approx(1 - 90 / 36)


def test_only_what_changed_is_kept_again() -> None:
    time = Time()
    time.passes(180)
    assert {span_ms for span_ms, _, _ in time.book.page(time.now).rows} == {MINUTE_MS, HOUR_MS}
    time.passes(1)
    assert [(span_ms, at) for span_ms, at, _ in time.book.page(time.now).rows] == [
        (MINUTE_MS, T0 + 3 * MINUTE_MS),
        (HOUR_MS, T0),
    ]


def test_a_node_that_can_not_serve_is_down_and_one_outage_is_one() -> None:
    time = Time()
    time.passes(60)
    time.passes(30, is_up=False)
    time.passes(60)
    assert time.book.uptime.outages == [(T0 + 60_000, T0 + 90_000)]
    assert time.window("1h").watched_s - time.window("1h").up_s == 30


def test_a_process_that_stood_still_was_down() -> None:
    time = Time()
    time.passes(10)
    time.passes(100, step_s=100.0)
    assert time.window("1h").up_s == 10
    assert time.book.uptime.outages == [(T0 + 10_000, T0 + 110_000)]


def test_planned_maintenance_is_counted_apart_also_while_the_node_is_away() -> None:
    first = Time()
    first.passes(60)
    first.book.maintenance.start(first.now, 120.0, "a new disk", "boss")
    second = Time(kept_by(first.book.page(first.now)), at=first.now + 150_000)
    second.passes(60)
    hour = second.window("1h")
    assert (hour.planned_s, hour.watched_s, hour.up_s) == (120.0, 150.0, 120.0)
    assert second.book.told(second.now, ("1h",))["maintenance"][0]["reason"] == "a new disk"


def test_maintenance_ends_when_an_operator_says_so_and_by_itself() -> None:
    time = Time()
    declared = time.book.maintenance.start(time.now, 600.0, "", "boss")
    # A node that could serve all the same was up.
    time.passes(30)
    time.passes(60, is_up=False)
    assert time.book.maintenance.end(time.now) is declared
    assert time.book.maintenance.end(time.now) is None
    time.passes(60, is_up=False)
    hour = time.window("1h")
    assert (hour.planned_s, hour.watched_s, hour.up_s) == (60, 90, 30)


def test_old_figures_are_dropped() -> None:
    time = Time()
    time.passes(60, added=messages(1))
    time.passes(26 * 3600, step_s=600.0)
    oldest = time.book.page(time.now).oldest
    assert oldest[MINUTE_MS] > T0 > oldest[HOUR_MS]
    assert time.book.series.step(T0) is None
    assert time.window("7d").done == 60


def test_latency_is_judged_by_the_part_that_is_too_slow() -> None:
    totals = Totals()
    totals.delivery_ms.add(1.0, 970)
    totals.delivery_ms.add(150.0, 30)
    p99 = judge("p99", Objectives(), totals, 3600.0)
    assert p99.value == pytest.approx(150, rel=0.01)
    assert p99.burn == pytest.approx(3.0) and not p99.is_met
    assert judge("p50", Objectives(), totals, 3600.0).is_met


def test_a_single_case_proves_nothing() -> None:
    totals = Totals()
    totals.connect_ms.add(900.0)
    verdict = judge("connect", Objectives(), totals, 3600.0)
    assert (verdict.is_proven, verdict.is_met) == (False, True)
    totals.connect_ms.add(900.0)
    assert not judge("connect", Objectives(), totals, 3600.0).is_met


def test_loss_is_what_ended_unhandled_but_was_not_cancelled() -> None:
    loss = judge("loss", Objectives(), Totals(done=1990, dead=4, expired=6, cancelled=500), 3600.0)
    assert loss.value == pytest.approx(0.005)
    assert loss.burn == pytest.approx(5.0) and loss.budget == pytest.approx(-4.0)


def test_one_reconnect_in_a_bus_of_an_hour_uses_no_budget_up() -> None:
    first, second = (judge("reconnects", Objectives(), Totals(reconnects=n, present_s=200.0), 86_400.0) for n in (1, 2))
    assert (first.is_met, first.is_proven) == (True, False) and (second.is_met, second.is_proven) == (False, True)


def test_reconnects_are_for_each_agent_and_day() -> None:
    verdict = judge("reconnects", Objectives(), Totals(reconnects=6, present_s=2 * 43_200.0), 86_400.0)
    assert verdict.value == pytest.approx(6.0) and verdict.burn == pytest.approx(0.25)


def test_nothing_measured_is_nothing_missed() -> None:
    for name in NAMES:
        verdict = judge(name, Objectives(), Totals(), 300.0)
        assert (verdict.value, verdict.burn, verdict.is_met) == (None, None, True)


def test_totals_travel_and_what_is_none_is_refused() -> None:
    totals = messages(5, 3.0, refused=2, watched_s=1.5)
    assert Totals.of_map(totals.as_map()).as_map() == totals.as_map()
    for bad in ({"done": -1}, {"done": "1"}, {"done_ms": 5}, {"done_ms": "!"}, {"up_s": True}):
        with pytest.raises(ValueError):
            Totals.of_map(bad)


# -- stretches, and a bus of several nodes -----------------------------------------------------------------------------


def test_stretches_of_time() -> None:
    assert common([[(0, 10), (20, 30)], [(5, 25)]]) == [(5, 10), (20, 25)]
    assert common([]) == []
    assert without([(0, 10)], [(2, 3), (5, 20)]) == [(0, 2), (3, 5)]
    assert length_ms([(0, 10), (5, 12), (20, 20)]) == 12


def answer(time: Time, node: str) -> dict[str, Any]:
    return {"node": node, "now": time.now, **time.book.told(time.now, tuple(WINDOWS_S))}


def test_a_bus_is_down_while_all_of_its_nodes_are() -> None:
    agni, rushabdev = Time(), Time()
    for time, down in ((agni, (60, 120)), (rushabdev, (90, 180))):
        time.passes(down[0], added=messages(1, 2.0))
        time.passes(down[1] - down[0], is_up=False)
        time.passes(600 - down[1])
    merged = merge([answer(agni, "agni"), answer(rushabdev, "rushabdev")])
    assert merged.nodes == ["agni", "rushabdev"]
    hour = merged.totals["1h"]
    assert (hour.watched_s, hour.watched_s - hour.up_s) == (600.0, 30.0)
    assert hour.done == hour.delivery_ms.count == 150
    assert merged.verdicts["availability"]["1h"].burn == pytest.approx(5.0)


def test_what_all_nodes_planned_is_planned_and_a_younger_node_hides_nothing() -> None:
    agni, rushabdev = Time(), Time(at=T0 + 300_000)
    agni.passes(60, is_up=False)
    agni.passes(240)
    for time in (agni, rushabdev):
        time.book.maintenance.start(time.now, 60.0, "", "boss")
        time.passes(60, is_up=False)
        time.passes(60)
    hour = merge([answer(agni, "agni"), answer(rushabdev, "rushabdev")]).totals["1h"]
    assert (hour.planned_s, hour.watched_s, hour.watched_s - hour.up_s) == (60.0, 360.0, 60.0)


def test_a_report_and_the_objectives_tell_the_same_availability() -> None:
    """Of nodes that were not ready, stood still, were killed, and in maintenance, whoever asks."""
    agni, rushabdev = Time(), Time()
    agni.passes(60)
    agni.passes(30, is_up=False)
    agni.passes(1)
    agni.passes(1, is_up=False)
    agni.passes(100, step_s=100.0)
    agni.book.maintenance.start(agni.now, 50.0, "", "boss")
    # Killed: its page is ten seconds old, and its last record two.
    page = agni.book.page(agni.now)
    agni.passes(10)
    agni = Time(kept_by(page), at=agni.now + 120_000, last_record_at=agni.now - 2000)
    agni.passes(300)
    rushabdev.passes(100)
    rushabdev.passes((agni.now - T0) / 1000 - 100, is_up=False)
    for nodes in ({"agni": agni}, {"agni": agni, "rushabdev": rushabdev}):
        answers = {name: answer(time, name) for name, time in nodes.items()}
        merged = merge(list(answers.values()))
        summary = Summary(agni.now - HOUR_MS, agni.now, {name: told_time(one) for name, one in answers.items()})
        bus = summary.report({}, agni.now)["bus"]
        hour = merged.totals["1h"]
        assert bus["availability"] == pytest.approx(merged.verdicts["availability"]["1h"].value, abs=1e-9)
        assert (bus["planned_s"], bus["down_s"]) == pytest.approx((hour.planned_s, hour.watched_s - hour.up_s))
    # And what the node itself counts, minute for minute.
    own = agni.window("1h")
    [node] = (one for one in summary.report({}, agni.now)["nodes"] if one["node"] == "agni")
    assert (node["down_s"], node["planned_s"]) == (own.watched_s - own.up_s, own.planned_s) == (30 + 1 + 100 + 80, 42.0)


def test_of_a_node_of_the_release_before_its_windows_say_since_when_it_counts() -> None:
    time = Time()
    time.passes(600)
    told = answer(time, "agni")
    newer = told_time(told)
    del told["watched_since"]
    assert told_time(told) == newer and newer.since == T0


# -- reconnects and failovers ------------------------------------------------------------------------------------------


def test_who_comes_again_within_a_day_is_a_reconnect() -> None:
    comings = Comings()
    comings.attached("agni", T0, elsewhere=False, node_lost_at=None)
    assert comings.reconnects == 0
    comings.attached("agni", T0 + HOUR_MS, elsewhere=False, node_lost_at=None)
    comings.attached("agni", T0 + 2 * DAY_MS, elsewhere=False, node_lost_at=None)
    assert (comings.reconnects, comings.failovers.take()) == (1, {})


def test_who_comes_from_a_node_that_is_gone_is_a_failover() -> None:
    comings = Comings()
    comings.attached("agni", T0 + 240, elsewhere=True, node_lost_at=T0)
    # Its second session here has nothing to do with it, and who comes after an hour was away.
    comings.attached("agni", T0 + 5000, elsewhere=True, node_lost_at=T0)
    comings.attached("dc", T0 + HOUR_MS, elsewhere=True, node_lost_at=T0)
    comings.attached("moved", T0, elsewhere=True, node_lost_at=None)
    assert (comings.reconnects, comings.failovers.take()) == (4, {240: 1})
    assert comings.failovers.take() == {}


def test_short_steps_are_kept_for_as_long_as_an_hour_needs_them() -> None:
    series = Book(ObjectiveOptions(step_ms=1000), SavedBook()).series
    series.add(T0, messages(1))
    for now, done in ((T0 + HOUR_MS - 1000, 1), (T0 + HOUR_MS + 2000, 0)):
        series.forget(now)
        assert series.window(now, 3600.0).done == done


def test_a_step_is_looked_at_several_times() -> None:
    assert (look_s(60_000), look_s(4000), look_s(1000)) == (1.0, 1.0, 0.25)


def test_each_trigger_that_fires_or_clears_is_a_line_of_the_log(logged: Logged) -> None:
    away: dict[str, int] = {}
    options = ObjectiveOptions(step_ms=1000, away_ms=2000)
    counted: Any = SimpleNamespace(
        config=SimpleNamespace(objectives=options, peers=()),
        is_up=lambda: True,
        attached=lambda: 1,
        figures=dict,
        take_spans=dict,
        missing=lambda: away,
    )
    keeping: Any = SimpleNamespace(read=SavedBook, write=lambda page: None)

    async def act(triggers: Triggers) -> None:
        pass

    recorder = Recorder(counted, keeping, now=lambda: T0, seconds=lambda: 0.0, act=act)
    for since in (T0 - 3000, T0 - 3000, None, None):
        away.clear()
        away.update({} if since is None else {"agni": since})
        Deferred.fromCoroutine(recorder.step())
    assert logged.sentences("warn") == [
        "the trigger away fires: agni could not be reached for more than 2 s",
        "the trigger away has cleared",
    ]
