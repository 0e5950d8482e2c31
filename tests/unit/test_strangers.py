"""How long a connection that has not joined may stay."""

from __future__ import annotations

import pytest

from trishula_router.upstream.strangers import Step, Strangers, room_for

HOME = "10.0.0.1"


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
    strangers.came("one", step, 0.0, HOME)
    # One look to see it, another one to say it.
    assert first_overdue_s(strangers, step) == 6.0


def test_the_time_of_a_step_begins_with_it() -> None:
    strangers = Strangers(5.0, 10)
    strangers.came("one", Step.OPENED, 0.0, HOME)
    assert strangers.overdue("one", Step.OPENED, 0.0, 4.5) is None
    assert strangers.overdue("one", Step.GREETED, 4.9, 5.0) is None
    assert strangers.overdue("one", Step.GREETED, 4.9, 9.9) is None
    assert strangers.overdue("one", Step.GREETED, 4.9, 10.1) is None
    assert strangers.overdue("one", Step.GREETED, 4.9, 10.6) == ("it was to say who it is (AUTHENTICATE) within 5 s")


def test_one_that_was_overdue_and_moved_on_is_forgiven() -> None:
    strangers = Strangers(5.0, 10)
    strangers.came("one", Step.OPENED, 0.0, HOME)
    assert strangers.overdue("one", Step.OPENED, 0.0, 8.0) is None
    assert strangers.overdue("one", Step.GREETED, 8.1, 8.5) is None
    assert strangers.overdue("one", Step.GREETED, 8.1, 9.0) is None


def test_who_watches_and_pings_has_a_quarter_of_an_hour() -> None:
    strangers = Strangers(5.0, 10)
    strangers.came("one", Step.OPENED, 0.0, HOME)
    assert first_overdue_s(strangers, Step.OPENED, pings=True) == 801.0


@pytest.mark.parametrize("step", [Step.ARRIVED, Step.GREETED])
def test_bytes_win_no_time_elsewhere(step: Step) -> None:
    strangers = Strangers(5.0, 10)
    strangers.came("one", step, 0.0, HOME)
    assert first_overdue_s(strangers, step, pings=True) == 6.0


def test_a_page_may_take_a_minute() -> None:
    strangers = Strangers(5.0, 10)
    strangers.came("one", Step.ARRIVED, 0.0, HOME)
    assert first_overdue_s(strangers, Step.ASKED) == 61.5


def test_beyond_the_number_the_oldest_goes() -> None:
    strangers = Strangers(5.0, 10)
    for name in ("one", "two"):
        strangers.came(name, Step.ARRIVED, 0.0, HOME)
    assert strangers.one_too_many(HOME, 2) is None
    strangers.came("three", Step.ARRIVED, 0.0, None)
    assert strangers.one_too_many(None, 2) == ("one", "limits.strangers")
    strangers.went("two")
    assert strangers.one_too_many(None, 2) is None
    assert list(strangers) == ["one", "three"]
    assert len(strangers) == 2


def test_beyond_the_number_of_an_address_its_own_oldest_goes() -> None:
    strangers = Strangers(5.0, 2)
    for name, address in (("other", "10.0.0.2"), ("one", HOME), ("two", HOME), ("three", HOME), ("last", "10.0.0.2")):
        strangers.came(name, Step.ARRIVED, 0.0, address)
    assert strangers.one_too_many("10.0.0.2", 100) is None
    assert strangers.one_too_many(HOME, 100) == ("one", "limits.strangers_per_address")
    strangers.went("one")
    assert strangers.one_too_many(HOME, 100) is None


def test_who_leaves_its_session_is_counted_once() -> None:
    strangers = Strangers(5.0, 1)
    strangers.came("one", Step.OPENED, 0.0, HOME)
    strangers.came("one", Step.OPENED, 9.0, HOME)
    assert strangers.one_too_many(HOME, 1) is None
    strangers.went("one")
    strangers.went("one")
    assert len(strangers) == 0


def test_whose_address_is_not_known_counts_among_all_alone() -> None:
    strangers = Strangers(5.0, 1)
    for name in range(5):
        strangers.came(name, Step.ARRIVED, 0.0, None)
    assert strangers.one_too_many(None, 5) is None
    assert strangers.one_too_many(None, 4) == (0, "limits.strangers")


@pytest.mark.parametrize(
    ("descriptors", "members", "room"),
    [
        (65_000, 0, 32_436),
        (1000, 0, 436),
        (1000, 400, 436),
        (1000, 600, 272),
        (1000, 872, 8),
        (1000, 5000, 8),
        (100, 0, 37),
        (0, 0, 8),
    ],
)
def test_members_and_the_store_keep_their_descriptors(descriptors: int, members: int, room: int) -> None:
    assert room_for(descriptors, members) == room
