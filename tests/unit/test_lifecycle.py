"""What follows what happened to a message: decisions, as a table."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from tests.support.nodes import POLICY
from trishula_router.mail.entry import (
    LOST_SESSIONS_PER_ATTEMPT,
    Dead,
    Entry,
    after_crash,
    after_failure,
    after_lost_session,
)
from trishula_router.store.messages import Return, StoredMessage

NOW = 1_000_000


def entry(*, failures: int = 0, attempts: int = 1) -> Entry:
    return Entry(7, "dc", "m1", "agni", "STATUS", 3, 10**15, 10, attempts=attempts, failures=failures)


def crash(crashes: int, failures: int, *, max_attempts: int = 5) -> Return | Dead:
    """What follows a crash, ``crashes`` of them with this one, after so many failures."""
    it = msgspec.structs.replace(entry(failures=failures, attempts=99), crashes=crashes)
    return after_crash(it, now=NOW, policy=replace(POLICY, max_attempts=max_attempts), random=lambda: 0.0)


def fail(failures: int, *, requeue: bool = True, chance: float = 0.0, max_attempts: int = 5) -> Return | Dead:
    policy = replace(POLICY, max_attempts=max_attempts)
    return after_failure(
        entry(failures=failures), "it broke", requeue=requeue, now=NOW, policy=policy, random=lambda: chance
    )


@pytest.mark.parametrize(("failures", "pause_ms"), [(0, 1000), (1, 2000), (2, 4000), (3, 8000)])
def test_a_failure_brings_it_back_after_a_growing_pause(failures: int, pause_ms: int) -> None:
    assert fail(failures) == Return(7, failures + 1, NOW + pause_ms)


def test_the_pause_is_spread_and_capped() -> None:
    assert fail(0, chance=1.0) == Return(7, 1, NOW + 800)
    assert fail(40, max_attempts=1000) == Return(7, 41, NOW + 300_000)


def test_the_last_failure_ends_it() -> None:
    assert fail(4) == Dead("5 of 5 attempts failed, the last one: it broke")
    assert fail(9) == Dead("10 of 5 attempts failed, the last one: it broke")
    assert fail(0, max_attempts=1) == Dead("1 of 1 attempts failed, the last one: it broke")


def test_a_nack_for_good_ends_it_at_once() -> None:
    assert fail(0, requeue=False) == Dead("it broke")


def test_a_lost_session_costs_no_failure_and_no_pause() -> None:
    lost = after_lost_session(entry(failures=2, attempts=3), now=NOW, policy=POLICY)
    assert lost == Return(7, 2, NOW)


def test_lost_sessions_that_nobody_explains_end_it_in_the_end() -> None:
    most = POLICY.max_attempts * LOST_SESSIONS_PER_ATTEMPT
    assert isinstance(
        after_lost_session(msgspec.structs.replace(entry(attempts=99), losses=most - 1), now=NOW, policy=POLICY), Return
    )
    assert after_lost_session(msgspec.structs.replace(entry(attempts=99), losses=most), now=NOW, policy=POLICY) == Dead(
        "it was delivered 20 times and each time its agent was lost before it answered"
    )


@pytest.mark.parametrize(("crashes", "pause_ms"), [(1, 0), (2, 2000), (3, 4000), (4, 8000)])
def test_a_crash_is_a_failure_whose_pause_begins_with_the_second(crashes: int, pause_ms: int) -> None:
    assert crash(crashes, crashes - 1) == Return(7, crashes, NOW + pause_ms)


def test_the_last_crash_ends_it() -> None:
    assert crash(5, 4) == Dead(
        "5 of 5 attempts failed, the last one: its agent's process ended while its handler ran, 5 times in all"
    )


@pytest.mark.parametrize("crashes", [1, 2])
def test_no_message_dies_of_a_crash_that_it_was_not_alone_in(crashes: int) -> None:
    assert isinstance(crash(crashes, 4), Return)
    assert isinstance(crash(crashes, 0, max_attempts=1), Return)
    assert isinstance(crash(3, 4), Dead)


def test_an_entry_of_the_store_is_what_the_store_says() -> None:
    stored = StoredMessage(
        7, "dc", "m1", "agni", "COMMAND", 2, 100, 900, 55, attempts=3, failures=1, due_at=400, arrival=9
    )
    made = Entry.of(stored)
    assert (made.position, made.sender, made.id, made.recipient, made.type) == (7, "dc", "m1", "agni", "COMMAND")
    assert (made.priority, made.expires_at, made.size_bytes) == (2, 900, 55)
    assert (made.attempts, made.failures, made.due_at, made.wire) == (3, 1, 400, None)
    assert made.order == (2, 9)
