"""Processes that run as one agent and want its mailbox: who gets it, who keeps it, who is told what."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from tests.support.pair import Nodes
from tests.support.stores import result_of
from trishula.contract import uris
from trishula.errors import TakenOver
from trishula_router.agents import takeovers as takeovers_module
from trishula_router.agents.takeovers import LONGEST_S, QUIET_S, Takeovers
from trishula_router.store.memory import MemoryStore


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, MemoryStore("epoch-1"), Clock()).start()


def copy(rig: Rig, run: str) -> int:
    """A process of agni joins and attaches."""
    session = rig.join("agni")
    rig.attach(session, run=run, host=f"host of {run}")
    return session


# -- the policy --------------------------------------------------------------------------------------------------------


def test_two_takeovers_are_free_and_then_it_must_be_quiet_for_ever_longer() -> None:
    takeovers = Takeovers()
    assert [takeovers.allow("agni", now_s) for now_s in (0.0, 1.0)] == [None, None]
    assert [takeovers.allow("agni", now_s) for now_s in (2.0, 3.0, 4.0)] == [2 * QUIET_S, 4 * QUIET_S, 8 * QUIET_S]
    assert takeovers.allow("other", 4.0) is None
    assert takeovers.allow("agni", 4.0 + 8 * QUIET_S) is None


def test_a_copy_that_tries_for_ever_never_gets_in() -> None:
    takeovers = Takeovers()
    now_s, answers = 0.0, []
    for _ in range(1000):
        answers.append(takeovers.allow("agni", now_s))
        now_s += 55.0
    assert answers.count(None) == 2
    assert answers[-1] == LONGEST_S


def test_what_happens_now_and_then_is_nobodys_contest() -> None:
    takeovers = Takeovers()
    assert {takeovers.allow("agni", day * 86_400.0) for day in range(100)} == {None}


def test_it_remembers_no_more_than_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeovers_module, "_REMEMBERED", 10)
    takeovers = Takeovers()
    for number in range(1000):
        takeovers.allow(f"dc/{number}", number * 30.0)
    assert len(takeovers._contests) <= 11


# -- a node ------------------------------------------------------------------------------------------------------------


def test_whoever_is_taken_over_is_told_by_whom(rig: Rig) -> None:
    first, second = copy(rig, "r1"), copy(rig, "r2")
    assert rig.outlet.closed == [
        (
            first,
            TakenOver.uri,
            "a newer session, on host of r2, consumes the mailbox of agni now, so this one was closed; run one session "
            "of an agent, or give each its own instance",
        )
    ]
    (record,) = rig.call(rig.join("dc", operator=True), uris.AUDIT_QUERY, {"kind": "taken_over"})["records"]
    assert (record["session"], record["by"], record["host"]) == (first, second, "host of r2")


def test_two_copies_that_are_started_again_and_again_have_a_stable_winner(rig: Rig) -> None:
    holder = copy(rig, "a1")
    for run in ("b1", "a2"):
        loser, holder = holder, copy(rig, run)
        rig.leave(loser)
        rig.advance(1)
    for number in range(2, 50):
        session = rig.join("agni")
        with pytest.raises(TakenOver) as caught:
            rig.attach(session, run=f"b{number}", host="host of b")
        rig.leave(session)
        rig.advance(5)
    assert caught.value.sentence.startswith(
        "the mailbox of agni changed hands too often, and host of a2 keeps it; stop "
    )
    dc = rig.join("dc")
    rig.send(dc, {"id": "m1", "to": "agni"})
    assert rig.ids(holder) == ["m1"]
    # When it leaves, the other one is welcome.
    rig.leave(holder)
    assert rig.ids(copy(rig, "b50")) == ["m1"]


def test_a_process_that_joins_anew_is_no_other_one(rig: Rig) -> None:
    for _ in range(20):
        copy(rig, "r1")
    assert len(rig.outlet.closed) == 19


def test_clients_that_tell_nothing_take_over_as_before(rig: Rig) -> None:
    for _ in range(20):
        rig.attach(rig.join("agni"))
    assert len(rig.outlet.closed) == 19


def test_copies_at_two_nodes_have_a_winner_too(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, {name: MemoryStore(f"epoch-{name}") for name in ("one", "two")})
    nodes.advance(3)
    won: list[str] = []
    sentences: list[str] = []
    for number in range(12):
        name = ("one", "two")[number % 2]
        rig = nodes.rigs[name]
        session = rig.join("agni")
        try:
            result_of(rig.begin(session, uris.MAILBOX_ATTACH, {"run": f"r{number}", "host": f"host of {name}"}))
            won.append(name)
        except TakenOver:
            rig.leave(session)
        nodes.advance(1)
        for other in nodes.rigs.values():
            for closed, _, sentence in other.outlet.closed:
                sentences.append(sentence)
                other.leave(closed)
            other.outlet.closed = []
        nodes.advance(2)
    assert len(won) <= 4, won
    assert sentences[0].startswith("a newer session, on host of two, consumes the mailbox of agni at the node two now")
