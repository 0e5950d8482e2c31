"""Which handler takes a message: procedures, patterns of subjects in their order, the handler of the type."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import pytest

from trishula import Agent
from trishula.consumer.handlers import Handler
from trishula.consumer.routes import Routes, SubjectPattern
from trishula.contract.message import MailType, Message


def texts(letters: str, longest: int) -> list[str]:
    return ["".join(one) for length in range(longest + 1) for one in product(letters, repeat=length)]


# The second kind has several parts between stars.
PATTERNS = [text for text in {*texts("ab*", 4), *texts("a*", 7)} if text and "**" not in text]
SUBJECTS = texts("ab", 5)


def test_a_pattern_fits_what_its_regular_expression_does() -> None:
    for text in PATTERNS:
        pattern = SubjectPattern(text)
        expression = re.compile(text.replace("*", ".*"))
        assert [one for one in SUBJECTS if pattern.fits(one)] == [one for one in SUBJECTS if expression.fullmatch(one)]


def test_a_pattern_covers_another_only_if_it_fits_all_that_the_other_one_fits() -> None:
    fitting = {text: {one for one in SUBJECTS if SubjectPattern(text).fits(one)} for text in PATTERNS}
    for one, other in product(PATTERNS, repeat=2):
        if SubjectPattern(one).covers(SubjectPattern(other)):
            assert fitting[one] >= fitting[other], (one, other)
    assert SubjectPattern("deploy.*").covers(SubjectPattern("deploy.eu*"))
    assert not SubjectPattern("deploy.eu").covers(SubjectPattern("deploy.*"))


def test_a_subject_of_a_stranger_costs_one_pass() -> None:
    pattern = SubjectPattern("*".join("a" * 60))
    assert not pattern.fits("a" * 255 + "b")


@pytest.mark.parametrize("text", ["", 7, None, "two\nlines", "x" * 257])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^subject is .*; a pattern of subjects is a string of 1 to 256 char"):
        SubjectPattern(text)


def test_two_stars_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one \* stands for any run of characters"):
        SubjectPattern("deploy.**")


def handler(name: str) -> Handler:
    return Handler(lambda message: None, name=name)


def message(type: MailType, **fields: Any) -> Message:
    return Message(type=type, id="m", to="agni", **fields)


@pytest.fixture
def routes() -> Routes:
    routes = Routes("agni")
    routes.procedures["add"] = handler("add")
    for name, pattern in (("europe", "deploy.eu*"), ("everywhere", "deploy.*"), ("of_all", None)):
        routes.add(["COMMAND", "STATUS"], None if pattern is None else SubjectPattern(pattern), handler(name))
    return routes


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("deploy.eu.west", "europe"),
        ("deploy.us", "everywhere"),
        ("deploy", "of_all"),
        ("Deploy.us", "of_all"),
        (None, "of_all"),
    ],
)
def test_patterns_are_tried_in_their_order_and_then_the_type(routes: Routes, subject: str | None, name: str) -> None:
    found = routes.handler_of(message("STATUS", subject=subject))
    assert found is not None
    assert found.name == name
    assert routes.handler_of(message("RESULT", subject=subject)) is None


def test_a_procedure_is_found_by_its_name(routes: Routes) -> None:
    command = message("COMMAND", procedure="add", subject="deploy.eu")
    found = routes.procedure_of(command)
    assert found is not None
    assert found.name == "add"
    assert routes.procedure_of(message("COMMAND", procedure="other")) is None


def test_a_pattern_that_would_take_nothing_is_refused(routes: Routes) -> None:
    with pytest.raises(ValueError) as raised:
        routes.add(["STATUS"], SubjectPattern("deploy.us"), handler("late"))
    assert str(raised.value) == (
        'no STATUS would come to subject="deploy.us": the handler everywhere, declared before with subject="deploy.*", '
        "takes them all; declare the narrower pattern first"
    )


def test_a_wrong_decorator_is_refused_where_it_is_written() -> None:
    agent = Agent("agni")
    with pytest.raises(ValueError, match=r'^no type is given; write for example @agent.on\("STATUS"\)'):
        agent.on(subject="deploy.*")
    with pytest.raises(ValueError, match=r'write @agent.on\("STATUS"\), not @agent.on$'):

        @agent.on  # type: ignore[arg-type]
        def heard(message: Message) -> None: ...

    with pytest.raises(ValueError, match=r"^subject is "):
        agent.on("STATUS", subject="")


def test_a_procedure_counts_in_commands_alone() -> None:
    # A node may put the name of one that takes unsigned COMMANDs into whatever it makes up.
    routes = Routes("agni")
    routes.procedures["add"] = handler("add")
    routes.add(["STATUS", "COMMAND"], None, Handler(lambda message: None, name="told", requires_signature=True))
    forged = message("STATUS", procedure="add")
    assert routes.procedure_of(forged) is None
    assert "told of agni takes signed messages alone" in (routes.unsigned(forged) or "")
    assert routes.unsigned(message("COMMAND", procedure="add")) is None
