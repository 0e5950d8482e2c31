"""What many leases and long patterns cost a node: counted in comparisons and passes, not in time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from trishula.contract import scopes, uris
from trishula.contract.scopes import Scope
from trishula.errors import ArgumentInvalid
from trishula_router.leases.book import Book, Lease
from trishula_router.store.lease_facts import LeaseFacts
from trishula_router.store.memory import MemoryStore


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, MemoryStore("epoch-1"), Clock()).start()


class Counted:
    """Counts the calls of a function, and calls it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        self.count = 0
        original = getattr(owner, name)

        def counting(*args: Any, **named: Any) -> Any:
            self.count += 1
            return original(*args, **named)

        monkeypatch.setattr(owner, name, counting)


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    scopes._overlap.cache_clear()


def busy(rig: Rig) -> None:
    """Two agents with 20 leases each and 20 claims each that wait for the other's."""
    dc, agni = rig.join("dc"), rig.join("agni")
    for number in range(20):
        rig.call(dc, uris.LEASE_CLAIM, f"path:src/d{number}/**")
        rig.call(agni, uris.LEASE_CLAIM, f"path:src/a{number}/**")
    for number in range(20):
        rig.call(dc, uris.LEASE_CLAIM, f"path:src/a{number}/*.py", {"queue": True})
        rig.call(agni, uris.LEASE_CLAIM, f"path:src/d{number}/*.py", {"queue": True})
    rig.advance(1)


def test_a_round_in_which_nothing_happened_compares_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    busy(rig)
    compared = Counted(monkeypatch, Lease, "is_rival")
    rig.advance(30)
    assert compared.count == 0


def test_a_round_in_which_something_happened_looks_at_each_claim_that_waits_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy(rig)
    boss = rig.join("rushabdev")
    compared, sorted_ = Counted(monkeypatch, Lease, "is_rival"), Counted(monkeypatch, Book, "all")
    rig.call(boss, uris.LEASE_CLAIM, "task:ISSUE-17")
    asked, passes = compared.count, sorted_.count
    rig.advance(0.5)
    # What kept a claim waiting before still does.
    assert compared.count - asked <= 2 * 40
    assert sorted_.count - passes <= 3


def test_who_comes_back_has_its_turn(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    told = rig.call(dc, uris.LEASE_CLAIM, "path:src")
    rig.call(agni, uris.LEASE_CLAIM, "path:src", {"queue": True})
    rig.leave(agni)
    rig.call(dc, uris.LEASE_RELEASE, told["id"])
    rig.advance(5)
    rig.join("agni")
    rig.advance(1)
    (found,) = rig.call(dc, uris.LEASE_LIST)
    assert (found["state"], found["holder"]) == ("granted", "agni")


def test_two_patterns_are_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = Counted(monkeypatch, scopes, "_share_a_path")
    for _ in range(5):
        assert not Scope.parse("path:src/a/**").overlaps(Scope.parse("path:src/*b/*.py"))
    assert compared.count == 1


def test_what_differs_in_a_directory_is_told_apart_there(monkeypatch: pytest.MonkeyPatch) -> None:
    walked, names = Counted(monkeypatch, scopes, "_share_a_path"), Counted(monkeypatch, scopes, "_share_a_name")
    assert not Scope.parse("path:src/a/" + "*/" * 20).overlaps(Scope.parse("path:src/b/" + "*/" * 20))
    assert walked.count == 0
    assert not Scope.parse("path:src/*a/" + "*/" * 20).overlaps(Scope.parse("path:src/b/" + "*/" * 20))
    # src and src, *a and b.
    assert names.count == 2


def test_the_worst_of_names_take_a_step_a_letter() -> None:
    one, other = Scope.parse("path:" + "*a" * 97 + "*"), Scope.parse("path:*" + "b*" * 97)
    spans = []
    for _ in range(5):
        before = time.thread_time()
        assert scopes._share_a_path(one._segments, other._segments)
        spans.append(time.thread_time() - before)
    # A step for each pair of letters would take a hundred times what it takes; the bound is for slow machines.
    assert min(spans) < 0.005


@pytest.mark.parametrize("scope", ["path:" + "/".join(["*"] * 33), "path:" + "a" * 196, "task:" + "a" * 196])
def test_a_long_scope_is_refused_and_one_of_the_most_is_not(rig: Rig, scope: str) -> None:
    dc = rig.join("dc")
    with pytest.raises(ArgumentInvalid, match=r"at most 200 characters .* at most 32 segments"):
        rig.call(dc, uris.LEASE_CLAIM, scope)
    shorter = scope.removesuffix("/*").removesuffix("a")
    assert rig.call(dc, uris.LEASE_CLAIM, shorter)["state"] == "granted"


def test_a_long_scope_that_a_node_of_before_granted_still_bars_others() -> None:
    book = Book()
    long = "path:src/" + "/".join(["*"] * 100)
    book.fold(LeaseFacts("granted", "one", 5, "agni", holder="dc", scope=long, ttl_ms=1000, order=5))
    (lease,) = book.all()
    assert book.against("agni", Scope.parse("path:src"), shared=False) == [lease]
