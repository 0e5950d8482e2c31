"""How fast one agent may send, and how many refusals are noted: integers of time, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import to_builtins

from trishula.errors import NotAllowed, RateLimited, SenderFalse
from trishula_router.mail.rates import Rates, Refusals
from trishula_router.token_bucket import Rate, TokenBucket


def admitted(rates: Rates, now_s: float, count: int, agent: str = "dc", *, recipients: int | None = None) -> int:
    """How many of so many messages pass."""
    passed = 0
    for _ in range(count):
        try:
            rates.admit(agent, now_s, recipients=recipients)
        except RateLimited:
            continue
        passed += 1
    return passed


def refusal(rates: Rates, now_s: float, *, recipients: int | None = None) -> RateLimited:
    with pytest.raises(RateLimited) as caught:
        rates.admit("dc", now_s, recipients=recipients)
    return caught.value


def fast_and_slow(messages: Rate = Rate(100, 20), broadcasts: Rate = Rate(1, 2)) -> Rates:  # noqa: B008
    return Rates(messages, broadcasts, Rate(1_000_000, 1_000_000))


# -- the bucket --------------------------------------------------------------------------------------------------------


def test_a_bucket_is_full_at_first_and_fills_again() -> None:
    bucket = TokenBucket(Rate(10, 2), 100.0)
    for _ in range(2):
        assert bucket.wait_s(100.0) == 0
        bucket.take()
    assert bucket.wait_s(100.0) == pytest.approx(0.1)
    assert bucket.wait_s(100.05) == pytest.approx(0.05)
    assert bucket.wait_s(100.1) == pytest.approx(0)


def test_a_bucket_holds_no_more_than_its_burst() -> None:
    bucket = TokenBucket(Rate(10, 2), 0.0)
    taken = 0
    while bucket.wait_s(1000.0) == 0:
        bucket.take()
        taken += 1
    assert taken == 2


def test_a_clock_that_is_set_back_neither_fills_nor_empties() -> None:
    bucket = TokenBucket(Rate(1, 1), 100.0)
    bucket.take()
    assert bucket.wait_s(50.0) == pytest.approx(1)
    assert bucket.wait_s(51.0) == pytest.approx(0)


# -- rates -------------------------------------------------------------------------------------------------------------


def test_a_burst_passes_and_then_the_rate() -> None:
    rates = fast_and_slow()
    assert admitted(rates, 0.0, 50) == 20
    # Whoever waits as it was told gets what came in meanwhile.
    assert admitted(rates, 0.1, 50) == 10
    assert admitted(rates, 0.2, 50) == 10


def test_the_refusal_says_what_when_and_which_key() -> None:
    rates = fast_and_slow()
    admitted(rates, 0.0, 20)
    error = refusal(rates, 0.0)
    assert error.sentence == (
        "dc sends faster than this node lets it: 100 messages a second, 20 at once (limits.rate); nothing is lost, try "
        "again in 0.1 s"
    )
    assert error.retry_after_s == 0.1
    assert error.temporary


def test_the_instant_of_the_refusal_is_kept() -> None:
    rates = fast_and_slow()
    admitted(rates, 0.0, 20)
    retry_after_s = refusal(rates, 0.0).retry_after_s
    assert retry_after_s is not None
    rates.admit("dc", retry_after_s)


def test_nothing_passes_between_the_refusal_and_its_instant() -> None:
    # There is a token after 10 ms; a later message that took it would overtake the refused one.
    rates = fast_and_slow()
    admitted(rates, 0.0, 20)
    refusal(rates, 0.0)
    assert refusal(rates, 0.05).retry_after_s == pytest.approx(0.05)
    assert admitted(rates, 0.099, 5) == 0
    assert admitted(rates, 0.1, 5) == 5


def test_refusals_do_not_put_the_instant_off() -> None:
    rates = fast_and_slow()
    admitted(rates, 0.0, 20)
    for step in range(10):
        refusal(rates, step / 100)
    assert admitted(rates, 0.1, 50) == 10


def test_agents_do_not_share() -> None:
    rates = fast_and_slow()
    assert admitted(rates, 0.0, 50, "dc") == 20
    assert admitted(rates, 0.0, 50, "agni") == 20


def test_broadcasts_have_a_rate_of_their_own() -> None:
    rates = fast_and_slow()
    assert admitted(rates, 0.0, 3, recipients=3) == 2
    error = refusal(rates, 0.0, recipients=3)
    assert error.sentence == (
        "dc sends faster than this node lets it: 1 broadcasts a second, 2 at once (limits.broadcast_rate); nothing is "
        "lost, try again in 1 s"
    )


def test_broadcasts_count_as_messages() -> None:
    rates = fast_and_slow(broadcasts=Rate(1000, 1000))
    assert admitted(rates, 0.0, 15, recipients=3) == 15
    assert admitted(rates, 0.0, 15) == 5


def test_a_broadcast_counts_as_many_deliveries_as_it_has_recipients() -> None:
    rates = Rates(Rate(1000, 1000), Rate(1000, 1000), Rate(100, 500))
    assert admitted(rates, 0.0, 20, recipients=100) == 5
    error = refusal(rates, 0.0, recipients=100)
    assert error.sentence == (
        "dc sends faster than this node lets it: 100 deliveries of broadcasts a second, 500 at once "
        "(limits.broadcast_deliveries); nothing is lost, try again in 1 s"
    )
    assert admitted(rates, 1.0, 5, recipients=100) == 1
    assert admitted(rates, 1.0 + 100.0, 20) == 20
    # To fewer they may be more.
    assert admitted(rates, 200.0, 60, recipients=10) == 50


def test_a_broadcast_to_more_than_the_bucket_holds_needs_a_full_one_and_a_long_pause_after_it() -> None:
    rates = Rates(Rate(1000, 1000), Rate(1000, 1000), Rate(100, 500))
    assert admitted(rates, 0.0, 2, recipients=2000) == 1
    assert refusal(rates, 0.0, recipients=1).retry_after_s == pytest.approx(20.0)
    assert admitted(rates, 19.9, 1, recipients=2000) == 0
    assert admitted(rates, 20.1, 1, recipients=2000) == 1


def test_after_a_broadcast_too_many_messages_to_one_are_taken() -> None:
    rates = Rates(Rate(100, 20), Rate(1000, 1000), Rate(100, 500))
    assert admitted(rates, 0.0, 2, recipients=500) == 1
    assert admitted(rates, 0.0, 25) == 19
    assert refusal(rates, 0.0).retry_after_s == pytest.approx(0.1)
    assert admitted(rates, 1.0, 1) == 1
    assert admitted(rates, 1.0, 1, recipients=500) == 0
    assert admitted(rates, 5.0, 1, recipients=500) == 1


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 900)), max_size=60))
def test_no_more_is_delivered_in_the_long_run_than_the_rate(attempts: list[tuple[float, int]]) -> None:
    rates = Rates(Rate(1e6, 10**6), Rate(1e6, 10**6), Rate(100, 500))
    now_s, delivered, largest = 0.0, 0, 0
    for pause_s, recipients in attempts:
        now_s += pause_s
        if admitted(rates, now_s, 1, recipients=recipients):
            delivered += recipients
            largest = max(largest, recipients)
        assert delivered <= 500 + 100 * now_s + largest + 1


def test_a_clock_that_is_set_back_keeps_nobody_out() -> None:
    rates = fast_and_slow()
    admitted(rates, 1000.0, 21)
    refusal(rates, 1000.0)
    assert refusal(rates, 10.0).retry_after_s == pytest.approx(0.1)
    assert admitted(rates, 10.2, 5) == 5


@given(st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 60)), max_size=40))
def test_never_more_than_the_burst_and_the_rate(steps: list[tuple[float, int]]) -> None:
    rates, now_s, passed = fast_and_slow(), 0.0, 0
    for pause_s, count in steps:
        now_s += pause_s
        passed += admitted(rates, now_s, count)
        assert passed <= 20 + 100 * now_s + 1e-6


@given(st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 60)), min_size=1, max_size=40))
def test_who_waits_as_it_was_told_always_gets_on(steps: list[tuple[float, int]]) -> None:
    rates, now_s = fast_and_slow(), 0.0
    for pause_s, count in steps:
        now_s += pause_s
        if admitted(rates, now_s, count) < count:
            wait_s = refusal(rates, now_s).retry_after_s
            assert wait_s is not None
            # To the millisecond that was told.
            assert admitted(rates, now_s + wait_s + 0.001, 1) == 1
            now_s += wait_s + 0.001


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_the_first_refusals_are_noted_one_by_one_and_then_counted() -> None:
    noted: list[Mapping[str, Any]] = []
    refusals = Refusals(lambda facts: noted.append(to_builtins(facts)))
    for index in range(1000):
        refusals.refused("dc", SenderFalse, f"no {index}", 0.0)
    assert [one["detail"] for one in noted] == [f"no {index}" for index in range(20)]
    assert noted[0] == {"agent": "dc", "error": SenderFalse.uri, "detail": "no 0"}
    refusals.flush(10.0)
    assert len(noted) == 20
    refusals.flush(31.0)
    assert noted[20:] == [{"agent": "dc", "error": SenderFalse.uri, "detail": "no 999", "more": 979}]
    refusals.flush(100.0)
    assert len(noted) == 21


def test_a_flood_that_goes_on_is_a_record_now_and_then() -> None:
    noted: list[Mapping[str, Any]] = []
    refusals = Refusals(lambda facts: noted.append(to_builtins(facts)))
    for second in range(3600):
        refusals.refused("dc", NotAllowed, "no", float(second))
    assert len(noted) <= 20 + 3600 / 30 + 1
    assert sum(1 + one.get("more", 0) for one in noted) >= 3600 - 30


def test_one_agents_flood_hides_nobody_elses() -> None:
    noted: list[Mapping[str, Any]] = []
    refusals = Refusals(lambda facts: noted.append(to_builtins(facts)))
    for _ in range(100):
        refusals.refused("dc", NotAllowed, "no", 0.0)
    refusals.refused("agni", NotAllowed, "no", 0.0)
    assert noted[-1]["agent"] == "agni"
