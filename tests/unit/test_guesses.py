"""Wrong tokens: who waits, and who doesn't."""

from __future__ import annotations

import itertools

from trishula_router.agents import guesses as module
from trishula_router.agents.guesses import Guesses

HERE, THERE = "10.0.0.1", "10.0.0.2"
RIGHT = "the digest of the right one"


def guess(guesses: Guesses, name: str, now_s: float, *, address: str = HERE, is_agent: bool = True) -> str:
    """What becomes of one wrong token."""
    if guesses.wait_s(address, name, "the digest of a wrong one", now_s):
        return "not looked at"
    return "not told" if guesses.wrong(address, name, now_s, is_agent=is_agent) else "wrong"


def looked_at(guesses: Guesses, seconds: int, *names: str, is_agent: bool = True) -> int:
    """How many of ten wrong tokens a second are looked at."""
    name = itertools.cycle(names)
    return sum(
        guess(guesses, next(name), tenth / 10, is_agent=is_agent) != "not looked at" for tenth in range(seconds * 10)
    )


def test_guessing_goes_at_a_few_a_minute() -> None:
    guesses = Guesses()
    assert looked_at(guesses, 60, "dc") <= 9
    # And no faster after that.
    assert sum(guess(guesses, "dc", 60 + tenth / 10) == "wrong" for tenth in range(6000)) <= 31


def test_the_first_few_are_told_that_they_are_wrong() -> None:
    guesses = Guesses()
    assert [guess(guesses, "dc", 0.0) for _ in range(5)] == ["wrong"] * 3 + ["not looked at"] * 2
    assert guesses.wait_s(HERE, "dc", None, 0.25) == 0.75


def test_the_right_token_from_elsewhere_waits_for_nothing() -> None:
    guesses = Guesses()
    looked_at(guesses, 60, "dc")
    assert guesses.wait_s(THERE, "dc", RIGHT, 60.0) == 0.0


def test_other_agents_behind_the_same_address_wait_for_nothing() -> None:
    guesses = Guesses()
    looked_at(guesses, 60, "dc")
    assert guesses.wait_s(HERE, "agni", RIGHT, 60.0) == 0.0


def test_who_got_in_from_there_before_gets_in_again() -> None:
    guesses = Guesses()
    guesses.right(HERE, "dc", RIGHT)
    looked_at(guesses, 60, "dc")
    assert guesses.wait_s(HERE, "dc", "a wrong one", 60.0) > 0.0
    assert guesses.wait_s(HERE, "dc", RIGHT, 60.0) == 0.0
    # Elsewhere nobody has, and a new token is another one.
    looked_at(guesses, 60, "agni")
    assert guesses.wait_s(HERE, "agni", RIGHT, 60.0) > 0.0


def test_one_address_learns_nothing_after_too_many_names() -> None:
    guesses = Guesses()
    told = [guess(guesses, f"name{number}", 0.0) for number in range(30)]
    assert told == ["wrong"] * 20 + ["not told"] * 10


def test_names_of_nobody_are_not_told_from_others() -> None:
    for pattern in (["dc"], ["dc", "agni"], [f"name{number}" for number in range(25)]):
        answers = []
        for is_agent in (True, False):
            guesses = Guesses()
            answers.append([guess(guesses, pattern[n % len(pattern)], n / 10, is_agent=is_agent) for n in range(400)])
        assert answers[0] == answers[1]


def test_many_names_of_nobody_give_an_agent_no_more_guesses() -> None:
    guesses = Guesses()
    for number in range(1000):
        guess(guesses, f"nobody{number}", 0.0, is_agent=False)
    assert looked_at(guesses, 60, "dc") <= 9


def test_after_a_quarter_of_an_hour_all_is_forgotten() -> None:
    guesses = Guesses()
    looked_at(guesses, 60, "dc")
    assert [guess(guesses, "dc", 1000.0) for _ in range(4)] == ["wrong"] * 3 + ["not looked at"]


def test_what_is_kept_is_bounded() -> None:
    guesses = Guesses()
    for number in range(module._MOST + 5000):
        guesses.wrong(f"address{number // 10}", f"name{number}", 0.0, is_agent=False)
        guesses.right(f"address{number}", "dc", RIGHT)
    counted = len(guesses._sources) + sum(len(there.names) for there in guesses._sources.values())
    assert counted == guesses._counted <= module._MOST
    assert len(guesses._known) <= module._MOST
