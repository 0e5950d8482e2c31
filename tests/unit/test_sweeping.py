"""Large garbage is collected by its bytes."""

from __future__ import annotations

from trishula_router.mail.sweeping import SWEEP_BYTES, Sweeper

MIB = 1024 * 1024


def test_it_collects_once_for_so_many_bytes() -> None:
    rounds: list[int] = []
    sweeper = Sweeper(lambda: rounds.append(1))
    for _ in range(SWEEP_BYTES // MIB - 1):
        sweeper.passed(MIB)
    assert rounds == []
    sweeper.passed(MIB)
    assert rounds == [1]
    sweeper.passed(3 * SWEEP_BYTES)
    assert rounds == [1, 1]
    sweeper.passed(MIB)
    assert rounds == [1, 1]


def test_what_is_small_costs_nothing() -> None:
    rounds: list[int] = []
    sweeper = Sweeper(lambda: rounds.append(1))
    for _ in range(100_000):
        sweeper.passed(1000)
    assert rounds == []


def test_memory_is_given_back_when_large_things_have_passed_and_a_round_was_quiet() -> None:
    done: list[str] = []
    sweeper = Sweeper(lambda: done.append("collect"), lambda: done.append("give back"))
    sweeper.rest()
    sweeper.passed(SWEEP_BYTES - MIB)
    sweeper.rest()
    sweeper.rest()
    assert done == []
    sweeper.passed(MIB // 2)
    sweeper.passed(MIB // 2)
    sweeper.rest()
    assert done == ["collect"]
    sweeper.rest()
    assert done == ["collect", "collect", "give back"]
    sweeper.rest()
    assert len(done) == 3


def test_a_round_is_quiet_in_which_nothing_passed() -> None:
    rounds: list[bool] = []
    sweeper = Sweeper(lambda: None, rest=lambda *, is_quiet: rounds.append(is_quiet))
    sweeper.rest()
    sweeper.passed(1)
    sweeper.rest()
    sweeper.rest()
    assert rounds == [True, False, True]
