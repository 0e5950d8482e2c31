"""The checks behind ``/ready``: which state of which part makes a node unfit, and what is said then."""

from __future__ import annotations

from typing import Any

import pytest

from trishula_router.health.behind import Behind
from trishula_router.health.checks import (
    canary_check,
    clock_check,
    disk_check,
    loop_check,
    running_check,
    store_check,
)
from trishula_router.health.growth import SAMPLE_S, Growth
from trishula_router.health.peer_check import peer_check
from trishula_router.health.report import Check, told
from trishula_router.health.trial import Trial
from trishula_router.loop_lag import WINDOW_S, LoopLag
from trishula_router.store.interface import Condition

MIB = 1024 * 1024
HOUR_S = 3600.0
GOOD = Condition(size_bytes=10 * MIB, used_bytes=MIB, limit_bytes=8192 * MIB, free_bytes=99 * MIB, room_bytes=80 * MIB)


def condition(**changes: Any) -> Condition:
    return Condition(**{name: getattr(GOOD, name) for name in GOOD.__struct_fields__} | changes)


def passed(at_s: float = 100.0, took_s: float = 0.5) -> Trial:
    trial = Trial()
    trial.begin(at_s - took_s)
    trial.passed(at_s)
    return trial


def failed(fault: str) -> Trial:
    trial = passed()
    trial.begin(101.0)
    trial.failed(fault)
    return trial


def under_way(since_s: float) -> Trial:
    trial = passed()
    trial.begin(since_s)
    return trial


def peer(name: str = "rushabdev", **changes: Any) -> dict[str, Any]:
    good = {"state": "up", "heard_s_ago": 0.4, "lag_records": 0, "lag_s": None, "to_copy_records": 0, "fault": None}
    return {"node": name, **good, **changes}


# -- the map -----------------------------------------------------------------------------------------------------------


def test_a_node_is_ready_if_every_check_is_ok_and_a_degraded_one_is() -> None:
    good, poor = Check("loop", True), Check("peers", True, "rushabdev is away", degraded=True, figures={"peers": []})
    assert told("agni", "2", [good, poor]) == {
        "ready": True,
        "node": "agni",
        "version": "2",
        "checks": [
            {"check": "loop", "ok": True, "reason": ""},
            {"check": "peers", "ok": True, "degraded": True, "reason": "rushabdev is away", "peers": []},
        ],
    }
    assert told("agni", "2", [good, poor, Check("store", False, "it is full")])["ready"] is False


# -- running -----------------------------------------------------------------------------------------------------------


def test_a_node_that_starts_or_stops_is_not_ready() -> None:
    assert running_check(is_stopping=False, is_held_back=False) == Check("running", True)
    starting = running_check(is_stopping=False, is_held_back=True)
    stopping = running_check(is_stopping=True, is_held_back=True)
    assert not starting.ok and "waits for its peers' news" in starting.reason
    assert not stopping.ok and "is stopping" in stopping.reason


# -- store -------------------------------------------------------------------------------------------------------------


def test_a_store_that_was_written_is_good_and_says_how_fast() -> None:
    assert store_check(GOOD, passed(at_s=100.0, took_s=0.5), 103.0) == Check(
        "store", True, figures={"fsync_s_ago": 3.0, "fsync_s": 0.5}
    )


@pytest.mark.parametrize(
    ("found", "proof", "reason"),
    [
        (condition(fault="node.sqlite was moved away"), passed(), "node.sqlite was moved away"),
        (condition(shortage="the disk has 3 KiB left"), passed(), "sends are refused and acks go on: the disk has"),
        (condition(room_bytes=0), passed(), "the store is full, sends are refused"),
        (GOOD, failed("disk I/O error"), "can't be written: disk I/O error"),
        (GOOD, under_way(since_s=98.0), "has not answered a write for 7.0 s"),
        (GOOD, Trial(), "no write to the store has come through since the node's start"),
        (GOOD, passed(at_s=20.0), "the last write to the store that came through was 85.0 s ago"),
    ],
)
def test_a_store_that_takes_nothing(found: Condition, proof: Trial, reason: str) -> None:
    check = store_check(found, proof, 105.0)
    assert not check.ok
    assert reason in check.reason


def test_a_store_is_good_again_after_the_next_write() -> None:
    proof = failed("disk I/O error")
    proof.begin(110.0)
    proof.passed(110.1)
    assert store_check(GOOD, proof, 111.0).ok


def test_a_store_in_memory_has_no_bounds() -> None:
    bare = Condition(size_bytes=0, used_bytes=0)
    assert store_check(bare, passed(), 101.0).ok
    assert disk_check(bare, None, None).ok


# -- disk --------------------------------------------------------------------------------------------------------------


def test_a_disk_with_room_and_no_forecast_is_good() -> None:
    check = disk_check(GOOD, None, None)
    assert (check.ok, check.reason) == (True, "")
    assert check.figures["room_bytes"] == 80 * MIB


@pytest.mark.parametrize("room_bytes", [15 * MIB, -MIB])
def test_a_disk_with_next_to_no_room(room_bytes: int) -> None:
    check = disk_check(condition(used_bytes=8000 * MIB, room_bytes=room_bytes), None, None)
    assert not check.ok
    assert "free some space on its disk, raise limits.store" in check.reason


def test_a_disk_that_was_short_takes_more_room_to_be_good_again() -> None:
    def is_good(room_bytes: int, was_short: bool) -> bool:
        return disk_check(condition(used_bytes=8000 * MIB, room_bytes=room_bytes), None, None, was_short=was_short).ok

    assert [is_good(17 * MIB, was_short) for was_short in (False, True)] == [True, False]
    assert is_good(25 * MIB, True)


def test_on_a_small_disk_next_to_no_room_is_less() -> None:
    assert disk_check(condition(used_bytes=10 * MIB, room_bytes=5 * MIB), None, None).ok


def test_a_disk_that_will_be_full_within_a_day_is_degraded_and_ready() -> None:
    check = disk_check(GOOD, 3 * HOUR_S, 1000.0)
    assert (check.ok, check.degraded) == (True, True)
    assert "will be full in 3.0 h" in check.reason
    assert check.figures["full_in_h"] == 3.0
    assert check.figures["growth_bytes_per_h"] == 3_600_000
    assert not disk_check(GOOD, 30 * HOUR_S, 1000.0).degraded


def test_a_store_that_is_nearly_full_is_told_of_however_slowly_it_grows() -> None:
    def check(used: int, full_in_s: float | None = None) -> Check:
        return disk_check(condition(used_bytes=used * MIB, room_bytes=(1000 - used) * MIB), full_in_s, 1.0)

    assert not check(799).degraded
    nearly = check(800, 40 * 24 * HOUR_S)
    assert (nearly.ok, nearly.degraded, nearly.figures["full"]) == (True, True, 0.8)
    assert nearly.reason.startswith("the store is 80% full, and will be full in 40.0 d at the present pace; free")
    assert check(900).reason.startswith("the store is 90% full; free some space")


def grown(per_s: float, for_s: float, start_bytes: int = 1_000_000) -> Growth:
    growth = Growth()
    for step in range(int(for_s / SAMPLE_S) + 1):
        growth.sample(round(start_bytes - per_s * step * SAMPLE_S), step * SAMPLE_S)
    return growth


def test_the_forecast_is_a_straight_line_through_the_last_hours() -> None:
    growth = grown(per_s=10.0, for_s=HOUR_S)
    assert growth.per_s() == pytest.approx(10.0)
    assert growth.full_in_s() == pytest.approx((1_000_000 - 36_000) / 10.0)


def test_there_is_no_forecast_after_a_short_time_nor_for_a_store_that_shrinks() -> None:
    assert grown(per_s=10.0, for_s=600.0).full_in_s() is None
    assert grown(per_s=-10.0, for_s=HOUR_S).full_in_s() is None
    assert Growth().full_in_s() is None


def test_the_forecast_forgets_what_was_hours_ago() -> None:
    growth = grown(per_s=0.0, for_s=10 * HOUR_S)
    for step in range(1, int(6 * HOUR_S / SAMPLE_S) + 1):
        growth.sample(round(1_000_000 - 10.0 * step * SAMPLE_S), 10 * HOUR_S + step * SAMPLE_S)
    assert growth.per_s() == pytest.approx(10.0, rel=0.01)


# -- peers -------------------------------------------------------------------------------------------------------------


def test_a_node_alone_and_one_whose_peers_are_well_are_good() -> None:
    assert peer_check([], {}) == Check("peers", True, figures={"peers": []})
    assert peer_check([peer()], {}).reason == ""


def test_a_node_whose_peer_is_away_serves_and_says_so() -> None:
    # Else a primary whose failover is gone would take itself out of service as well.
    check = peer_check([peer(state="down", heard_s_ago=300.0)], {})
    assert (check.ok, check.degraded) == (True, True)
    assert "rushabdev has not been heard for 5.0 min" in check.reason
    never = peer_check([peer(state="down", heard_s_ago=None)], {})
    assert never.ok and "since this node's start" in never.reason


def test_a_peer_that_lacks_our_records_is_that_peers_trouble() -> None:
    check = peer_check([peer(lag_records=70, lag_s=30.0)], {})
    assert (check.ok, check.degraded) == (True, True)
    assert "rushabdev lacks 70 records of this node, for 30.0 s" in check.reason


def test_a_node_that_has_lacked_much_for_a_while_is_not_ready() -> None:
    found, behind = [peer(to_copy_records=5000)], Behind()
    assert peer_check(found, behind.look(found, 100.0)).ok
    assert peer_check(found, behind.look(found, 105.0)).ok
    late = peer_check(found, behind.look(found, 111.0))
    assert not late.ok
    assert "5000 records of rushabdev have been missing here for 11.0 s" in late.reason
    caught_up = [peer(to_copy_records=3)]
    assert peer_check(caught_up, behind.look(caught_up, 112.0)).ok
    # From the beginning again.
    assert peer_check(found, behind.look(found, 113.0)).ok


def test_what_a_peer_that_is_away_has_can_be_copied_by_nobody() -> None:
    found, behind = [peer(state="down", heard_s_ago=60.0, to_copy_records=5000)], Behind()
    behind.look(found, 100.0)
    assert peer_check(found, behind.look(found, 200.0)).ok


def test_a_node_that_can_never_copy_from_a_peer_is_not_ready() -> None:
    check = peer_check([peer(fault="its journal is another one"), peer("agni")], {})
    assert not check.ok
    assert check.reason == "nothing can be copied from rushabdev: its journal is another one"


# -- clock -------------------------------------------------------------------------------------------------------------


def test_a_clock_that_was_set_and_not_believed_yet() -> None:
    assert clock_check(1999, {}, 0).ok
    check = clock_check(-90_000, {}, 0)
    assert not check.ok
    assert "it is 90.0 s behind the node's" in check.reason


def test_against_one_peer_nobody_knows_whose_clock_is_wrong() -> None:
    check = clock_check(0, {"rushabdev": 5000}, 1)
    assert (check.ok, check.degraded) == (True, True)
    assert "rushabdev's is 5.0 s ahead" in check.reason


def test_against_most_of_several_peers_it_is_this_nodes() -> None:
    assert clock_check(0, {"a": 5000}, 3).ok
    check = clock_check(0, {"a": 5000, "b": 5100}, 3)
    assert not check.ok
    assert "this node's clock differs from most of its peers'" in check.reason


# -- loop --------------------------------------------------------------------------------------------------------------


def test_a_loop_that_stood_still_as_long_as_an_agent_waits() -> None:
    assert loop_check(1.9).ok
    check = loop_check(3.0)
    assert not check.ok
    assert "stood still for 3.0 s" in check.reason


def test_the_worst_lag_counts_for_some_seconds() -> None:
    lag = LoopLag()
    for late_s, now_s in ((0.01, 1.0), (3.0, 4.0), (0.02, 5.0)):
        lag.measured(late_s, now_s)
    assert lag.worst_s(5.0) == 3.0
    assert lag.worst_s(4.1 + WINDOW_S) == 0.02
    assert lag.worst_s(100.0) == 0.0


def test_what_was_late_before_the_node_served_is_in_the_figures_and_no_reason_against_it() -> None:
    lag = LoopLag()
    lag.measured(3.0, 4.0)
    lag.serve()
    assert lag.worst_s(4.0) == 0.0
    assert lag.times.total == 3.0


# -- canary ------------------------------------------------------------------------------------------------------------


def test_a_canary_that_came_through_is_timed() -> None:
    assert canary_check(passed(at_s=100.0, took_s=0.5), passed(), 103.0) == Check(
        "canary", True, figures={"passed_s_ago": 3.0, "took_s": 0.5}
    )


@pytest.mark.parametrize(
    ("canary", "reason"),
    [
        (Trial(), "no message of the node to itself has come through since the node's start"),
        (failed("the store is full"), "did not come through: the store is full"),
        (under_way(since_s=90.0), "has been under way for 15.0 s"),
        (passed(at_s=20.0), "was 85.0 s ago"),
    ],
)
def test_a_canary_that_did_not_come_through(canary: Trial, reason: str) -> None:
    check = canary_check(canary, passed(), 105.0)
    assert not check.ok
    assert reason in check.reason
    assert not check.refused


def test_that_the_store_refused_is_told_apart_from_what_a_restart_may_mend() -> None:
    refused = canary_check(failed("its file was moved away"), failed("its file was moved away"), 105.0)
    assert (refused.ok, refused.told()["refused"]) == (False, True)
    # It doesn't answer any more.
    assert not canary_check(under_way(since_s=90.0), failed("its file was moved away"), 105.0).refused
    assert "refused" not in canary_check(passed(), passed(), 103.0).told()
