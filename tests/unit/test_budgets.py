"""Budgets of agents: the policy, and a node that keeps one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import LIMITS, Rig
from trishula.errors import RateLimited
from trishula_router.mail.budgets import Budgets
from trishula_router.store.memory import MemoryStore


def test_a_budget_is_used_up_and_fills_again() -> None:
    budgets = Budgets(60, 0)
    for _ in range(60):
        budgets.admit("agni", 10**9, 0.0, is_answer=False)
    with pytest.raises(
        RateLimited, match=r"agni has used up its budget of 60 messages an hour \(limits.hourly_messages\)"
    ):
        budgets.admit("agni", 1, 0.0, is_answer=False)
    # Others have their own.
    budgets.admit("dc", 1, 0.0, is_answer=False)
    with pytest.raises(RateLimited) as told:
        budgets.admit("agni", 1, 30.0, is_answer=False)
    assert told.value.retry_after_s == pytest.approx(30.0)
    budgets.admit("agni", 1, 60.5, is_answer=False)


def test_bytes_count_by_themselves_and_a_refusal_takes_nothing() -> None:
    budgets = Budgets(1000, 3600)
    budgets.admit("agni", 3000, 0.0, is_answer=False)
    for _ in range(3):
        with pytest.raises(RateLimited, match=r"3,600 bytes an hour \(limits.hourly_bytes\)"):
            budgets.admit("agni", 700, 0.0, is_answer=False)
    budgets.admit("agni", 600, 0.0, is_answer=False)


def test_answers_count_and_are_never_refused() -> None:
    budgets = Budgets(2, 0)
    for _ in range(4):
        budgets.admit("agni", 1, 0.0, is_answer=True)
    with pytest.raises(RateLimited) as told:
        budgets.admit("agni", 1, 0.0, is_answer=False)
    assert told.value.retry_after_s == pytest.approx(3 * 1800.0)


def test_a_node_keeps_a_budget(tmp_path: Path) -> None:
    limits = replace(LIMITS, hourly_messages=3)
    rig = Rig(tmp_path, MemoryStore("epoch-1"), Clock(), limits=limits).start()
    dc = rig.join("dc")
    receipts = rig.send(dc, *({"id": f"m{number}", "to": "agni"} for number in range(4)))
    assert [one["status"] for one in receipts] == ["accepted"] * 3 + ["refused"]
    # Clients of every release wait, and offer it again.
    assert (receipts[3]["error"], receipts[3]["retry_after_s"]) == ("trishula.error.rate_limited", 1200.0)
    rig.advance(1200.5)
    (again,) = rig.send(dc, {"id": "m3", "to": "agni"})
    assert again["status"] == "accepted"
