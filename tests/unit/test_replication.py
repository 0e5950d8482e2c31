"""What a node's peers hold, and what they are sent next."""

from __future__ import annotations

import pytest

from trishula_router.peers.journal_policy import (
    DOWN_AFTER_S,
    PASS_ON_AFTER_S,
    RESEND_AFTER_S,
    RESEND_MOVING_AFTER_S,
    WINDOW_BYTES,
    WINDOW_RECORDS,
    Replication,
    Run,
)
from trishula_router.store.runs import Origin

OWN, PEER, THIRD = "epoch-agni", "epoch-rushabdev", "epoch-dc"


def own(sequence: int) -> Origin:
    return Origin(0, "", OWN, sequence)


def copied(number: int, epoch: str, sequence: int) -> Origin:
    return Origin(number, "somebody", epoch, sequence)


@pytest.fixture
def two() -> Replication:
    return Replication(OWN, ["rushabdev"])


def hear(policy: Replication, held: int, now_s: float, *, own_sequence: int = 10, missed: bool = False) -> bool:
    return policy.heard("rushabdev", PEER, {OWN: held}, own_sequence, now_s, missed=missed)


def test_nothing_is_sent_to_a_peer_that_was_not_heard_of(two: Replication) -> None:
    assert two.next_run("rushabdev", [own(10)], 0.0) is None


def test_a_peer_is_sent_what_it_lacks_and_not_again(two: Replication) -> None:
    assert hear(two, 4, 0.0)
    run = two.next_run("rushabdev", [own(10)], 0.0)
    assert run == Run(0, OWN, 4)
    two.sent("rushabdev", run, 10, 0.0, size_bytes=100)
    assert two.next_run("rushabdev", [own(10)], 0.1) is None
    assert two.next_run("rushabdev", [own(12)], 0.1) == Run(0, OWN, 10)


def test_what_is_not_held_in_time_is_sent_again(two: Replication) -> None:
    hear(two, 4, 0.0)
    two.sent("rushabdev", Run(0, OWN, 4), 10, 0.0, size_bytes=100)
    assert not hear(two, 6, 1.0)
    assert two.next_run("rushabdev", [own(10)], 1.0 + RESEND_AFTER_S) is None
    assert two.next_run("rushabdev", [own(10)], 1.1 + RESEND_AFTER_S) == Run(0, OWN, 6)


def test_what_is_still_on_its_way_is_not_sent_again_so_soon(two: Replication) -> None:
    # A megabyte on a line of 1 Mbit/s; before, each run went out again every 3 s, behind itself.
    hear(two, 4, 0.0)
    two.sent("rushabdev", Run(0, OWN, 4), 10, 0.0, size_bytes=100)
    two.moved("rushabdev", 2 * RESEND_AFTER_S)
    assert two.silent(2 * RESEND_AFTER_S) == []
    assert two.next_run("rushabdev", [own(10)], 2 * RESEND_AFTER_S, is_moving=True) is None
    # Something else may be what moves.
    assert two.next_run("rushabdev", [own(10)], RESEND_MOVING_AFTER_S + 0.1, is_moving=True) == Run(0, OWN, 4)


def test_bytes_keep_a_peer_and_bring_none_back(two: Replication) -> None:
    two.moved("rushabdev", 1.0)
    assert two.next_run("rushabdev", [own(10)], 1.0) is None
    hear(two, 10, 1.0)
    two.moved("rushabdev", 1.0 + DOWN_AFTER_S)
    assert two.silent(1.5 + DOWN_AFTER_S) == []
    two.moved("rushabdev", 0.5)
    assert two.silent(1.1 + 2 * DOWN_AFTER_S) == ["rushabdev"]


def test_what_a_peer_missed_is_sent_again_at_once(two: Replication) -> None:
    hear(two, 4, 0.0)
    two.sent("rushabdev", Run(0, OWN, 4), 10, 0.0, size_bytes=100)
    hear(two, 4, 0.2, missed=True)
    assert two.next_run("rushabdev", [own(10)], 0.2) == Run(0, OWN, 4)


def test_a_run_that_was_read_before_the_peer_told_something_new_does_not_count(two: Replication) -> None:
    hear(two, 4, 0.0)
    run = two.next_run("rushabdev", [own(10)], 0.0)
    assert run is not None
    hear(two, 2, 0.1, missed=True)
    two.sent("rushabdev", run, 10, 0.1, size_bytes=100)
    assert two.next_run("rushabdev", [own(10)], 0.1) == Run(0, OWN, 2)


def test_no_more_than_a_window_is_on_its_way(two: Replication) -> None:
    hear(two, 0, 0.0)
    two.sent("rushabdev", Run(0, OWN, 0), WINDOW_RECORDS, 0.0, size_bytes=100)
    assert two.next_run("rushabdev", [own(100_000)], 0.1) is None
    hear(two, 1, 0.2)
    assert two.next_run("rushabdev", [own(100_000)], 0.2) == Run(0, OWN, WINDOW_RECORDS)


def test_only_so_many_bytes_are_on_their_way(two: Replication) -> None:
    hear(two, 0, 0.0)
    for number in range(4):
        two.sent("rushabdev", Run(0, OWN, number), number + 1, 0.0, size_bytes=WINDOW_BYTES // 4)
    assert two.next_run("rushabdev", [own(10)], 0.1) is None
    # What is held no longer counts.
    hear(two, 2, 0.2)
    assert two.next_run("rushabdev", [own(10)], 0.2) == Run(0, OWN, 4)
    two.sent("rushabdev", Run(0, OWN, 4), 5, 0.2, size_bytes=WINDOW_BYTES)
    assert two.next_run("rushabdev", [own(10)], 0.3) is None
    # Nor does what was lost on the way.
    hear(two, 2, 0.4, missed=True)
    assert two.next_run("rushabdev", [own(10)], 0.4) == Run(0, OWN, 2)


def test_what_is_lost_on_the_way_is_sent_again_also_if_it_was_large(two: Replication) -> None:
    hear(two, 0, 0.0)
    two.sent("rushabdev", Run(0, OWN, 0), 1, 0.0, size_bytes=2 * WINDOW_BYTES)
    assert two.next_run("rushabdev", [own(10)], 0.1) is None
    assert two.next_run("rushabdev", [own(10)], 0.1 + RESEND_AFTER_S) == Run(0, OWN, 0)


def test_a_peer_that_falls_silent_is_away_once_and_comes_back(two: Replication) -> None:
    hear(two, 10, 0.0)
    assert two.silent(DOWN_AFTER_S) == []
    assert two.silent(DOWN_AFTER_S + 0.1) == ["rushabdev"]
    assert two.silent(DOWN_AFTER_S + 0.2) == []
    assert two.next_run("rushabdev", [own(20)], 3.0) is None
    assert hear(two, 10, 4.0)
    assert two.next_run("rushabdev", [own(20)], 4.0) == Run(0, OWN, 10)


def test_a_peer_whose_store_is_new_gets_everything(two: Replication) -> None:
    hear(two, 10, 0.0)
    assert not two.heard("rushabdev", "another epoch", {}, 10, 0.5)
    assert two.next_run("rushabdev", [own(10), copied(1, PEER, 7)], 0.5) == Run(0, OWN, 0)


def test_a_peer_is_not_sent_its_own_journal(two: Replication) -> None:
    hear(two, 10, 0.0)
    assert two.next_run("rushabdev", [own(10), copied(1, PEER, 7)], 60.0) is None


def test_the_writer_of_a_journal_brings_it_first(two: Replication) -> None:
    hear(two, 10, 0.0)
    origins = [own(10), copied(2, THIRD, 5)]
    assert two.next_run("rushabdev", origins, 0.0) is None
    assert two.next_run("rushabdev", origins, PASS_ON_AFTER_S - 0.1) is None
    run = two.next_run("rushabdev", origins, PASS_ON_AFTER_S + 0.1)
    assert run == Run(2, THIRD, 0)
    two.sent("rushabdev", run, 5, PASS_ON_AFTER_S + 0.1, size_bytes=100)
    assert two.next_run("rushabdev", origins, PASS_ON_AFTER_S + 0.2) is None


def test_what_its_writer_brings_is_not_passed_on(two: Replication) -> None:
    origins = [own(10), copied(2, THIRD, 100)]
    for second in range(20):
        two.heard("rushabdev", PEER, {OWN: 10, THIRD: second}, 10, float(second))
        assert two.next_run("rushabdev", origins, second + 0.5) is None


# -- copies ------------------------------------------------------------------------------------------------------------


def test_copies_are_counted_by_what_is_held() -> None:
    three = Replication(OWN, ["rushabdev", "dc"])
    assert three.copies_of(5) == 1
    three.heard("rushabdev", PEER, {OWN: 5}, 5, 0.0)
    three.heard("dc", THIRD, {OWN: 4, PEER: 9}, 5, 0.0)
    assert (three.copies_of(5), three.copies_of(4)) == (2, 3)
    assert three.copies_of(9, PEER) == 2


def test_senders_wait_for_a_peer_that_is_in_step(two: Replication) -> None:
    assert two.in_step() == []
    hear(two, 10, 0.0)
    assert two.in_step() == ["rushabdev"]
    two.silent(10.0)
    assert two.in_step() == []


def test_senders_do_not_wait_for_a_peer_that_catches_up(two: Replication) -> None:
    hear(two, 3, 0.0, own_sequence=1000)
    assert two.in_step() == []
    hear(two, 999, 5.0, own_sequence=1500)
    assert two.in_step() == []
    hear(two, 1000, 6.0, own_sequence=1600)
    assert two.in_step() == ["rushabdev"]


def test_a_wait_in_vain_is_the_last_one_until_the_peer_has_caught_up(two: Replication) -> None:
    hear(two, 10, 0.0)
    two.waited_in_vain(12)
    assert two.in_step() == []
    hear(two, 12, 3.0, own_sequence=12)
    assert two.in_step() == ["rushabdev"]


def test_the_lag_is_told_in_records_and_seconds(two: Replication) -> None:
    assert two.lag("rushabdev", 10, 5.0).seconds is None
    hear(two, 10, 6.0)
    lag = two.lag("rushabdev", 10, 7.0)
    assert (lag.durable, lag.records, lag.seconds) == (10, 0, 0.0)
    hear(two, 10, 8.0, own_sequence=30)
    lag = two.lag("rushabdev", 30, 9.0)
    assert (lag.records, lag.seconds) == (20, 3.0)


@pytest.mark.parametrize("behind", [0, 1, 20, 900])
def test_a_peer_that_is_always_a_little_behind_lags_that_little(two: Replication, behind: int) -> None:
    # A record each ms without end, a hello each 10 ms: what there is now it never has.
    for now_ms in range(0, 60_000, 10):
        hear(two, max(0, now_ms - behind), now_ms / 1000, own_sequence=now_ms)
        lag = two.lag("rushabdev", now_ms, now_ms / 1000)
        if now_ms > 2 * behind + 10:
            assert lag.seconds is not None
            assert behind <= round(lag.seconds * 1000) <= 2 * behind + 20
    stuck = two.lag("rushabdev", 70_000, 70.0)
    assert stuck.seconds is not None
    assert stuck.seconds >= 10.0
