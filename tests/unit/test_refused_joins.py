"""Refused joins in the journal."""

from __future__ import annotations

from typing import Any

from msgspec import to_builtins

from trishula_router.agents.refused_joins import RefusedJoins


def refuse(joins: RefusedJoins, count: int, now_s: float, address: str | None = "10.0.0.1") -> None:
    for _ in range(count):
        joins.refused(address, "dc", "an.error", "a sentence", now_s)


def test_the_first_is_noted_at_once_and_the_others_once_a_minute() -> None:
    noted: list[Any] = []
    joins = RefusedJoins(lambda facts: noted.append(to_builtins(facts)))
    facts = {"agent": "dc", "error": "an.error", "detail": "a sentence", "address": "10.0.0.1"}
    refuse(joins, 1000, 5.0)
    joins.flush(15.0)
    assert noted == [facts]
    joins.flush(65.0)
    assert noted == [facts, {**facts, "more": 998}]
    refuse(joins, 1, 70.0)
    joins.flush(125.0)
    assert noted[2:] == [facts]
    assert joins.count == 1001


def test_an_address_that_was_quiet_for_a_minute_begins_anew() -> None:
    noted: list[Any] = []
    joins = RefusedJoins(lambda facts: noted.append(to_builtins(facts)))
    refuse(joins, 1, 0.0)
    joins.flush(60.0)
    refuse(joins, 1, 61.0)
    assert len(noted) == 2


def test_very_many_addresses_share_their_records() -> None:
    noted: list[Any] = []
    joins = RefusedJoins(lambda facts: noted.append(to_builtins(facts)))
    for number in range(5000):
        refuse(joins, 2, 0.0, f"10.0.{number // 250}.{number % 250}")
    assert len(noted) == 101
    joins.flush(60.0)
    assert len(noted) == 202
    assert joins.count == 10_000
    assert sum(1 + one.get("more", 0) for one in noted) == 10_000
