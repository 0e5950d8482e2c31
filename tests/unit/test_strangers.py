"""How long a connection that has not joined may stay."""

from __future__ import annotations

import pytest

from trishula_router.strangers import Step, Strangers


def first_overdue_s(strangers: Strangers, step: Step, *, pings: bool = False, until_s: float = 2000.0) -> float:
    """When one that stays at a step has to go, looked at twice a second."""
    now_s = 0.0
    while now_s < until_s:
        now_s += 0.5
        if strangers.overdue("one", step, now_s if pings else 0.0, now_s):
            return now_s
    return until_s


@pytest.mark.parametrize("step", [Step.ARRIVED, Step.OPENED, Step.GREETED])
def test_each_step_has_its_time(step: Step) -> None:
    strangers = Strangers(5.0, 10)
    strangers.came("one", step, 0.0)
    # One look to see it, another one to say it.
    assert first_overdue_s(strangers, step) == 6.0


def test_the_time_of_a_step_begins_with_it() -> None:
    strangers = Strangers(5.0, 10)
    strangers.came("one", Step.OPENED, 0.0)
    assert strangers.overdue("one", Step.OPENED, 0.0, 4.5) is None
    assert strangers.overdue("one", Step.GREETED, 4.9, 5.0) is None
    assert strangers.overdue("one", Step.GREETED, 4.9, 9.9) is None
    assert strangers.overdue("one", Step.GREETED, 4.9, 10.1) is None
    assert strangers.overdue("one", Step.GREETED, 4.9, 10.6) == ("it was to say who it is (AUTHENTICATE) within 5 s")


def test_one_that_was_overdue_and_moved_on_is_forgiven() -> None:
    strangers = Strangers(5.0, 10)
    strangers.came("one", Step.OPENED, 0.0)
    assert strangers.overdue("one", Step.OPENED, 0.0, 8.0) is None
    assert strangers.overdue("one", Step.GREETED, 8.1, 8.5) is None
    assert strangers.overdue("one", Step.GREETED, 8.1, 9.0) is None


def test_who_watches_and_pings_has_a_quarter_of_an_hour() -> None:
    strangers = Strangers(5.0, 10)
    strangers.came("one", Step.OPENED, 0.0)
    assert first_overdue_s(strangers, Step.OPENED, pings=True) == 801.0


@pytest.mark.parametrize("step", [Step.ARRIVED, Step.GREETED])
def test_bytes_win_no_time_elsewhere(step: Step) -> None:
    strangers = Strangers(5.0, 10)
    strangers.came("one", step, 0.0)
    assert first_overdue_s(strangers, step, pings=True) == 6.0


def test_a_page_may_take_a_minute() -> None:
    strangers = Strangers(5.0, 10)
    strangers.came("one", Step.ARRIVED, 0.0)
    assert first_overdue_s(strangers, Step.ASKED) == 61.5


def test_beyond_the_number_the_oldest_goes() -> None:
    strangers = Strangers(5.0, 2)
    for name in ("one", "two"):
        strangers.came(name, Step.ARRIVED, 0.0)
    assert strangers.one_too_many() is None
    strangers.came("three", Step.ARRIVED, 0.0)
    assert strangers.one_too_many() == "one"
    strangers.went("two")
    assert strangers.one_too_many() is None
    assert list(strangers) == ["one", "three"]
    assert len(strangers) == 2
