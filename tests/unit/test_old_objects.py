"""What Python's collector looks at, in a node: with a collector that counts, and with Python's own."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from trishula_router.old_objects import OldObjects

#: Rounds in which nobody is served, before everything is looked at.
QUIET = 20


class Counting:
    """A collector of objects that are numbers only."""

    def __init__(self, left: int = 1000) -> None:
        self.callbacks: list[Callable[[str, dict[str, Any]], None]] = []
        self.old, self.frozen, self.garbage = left, 0, 0
        self.looked_at: list[int] = []
        self.counted = 0

    def collect(self) -> int:
        self.looked_at.append(self.old)
        self.old -= self.garbage
        self.garbage = 0
        for callback in self.callbacks:
            callback("stop", {"generation": 2, "collected": 0, "uncollectable": 0})
        return 0

    def freeze(self) -> None:
        self.frozen, self.old = self.frozen + self.old, 0

    def unfreeze(self) -> None:
        self.frozen, self.old = 0, self.frozen + self.old

    def get_freeze_count(self) -> int:
        self.counted += 1
        return self.frozen

    def get_objects(self, generation: int) -> list[Any]:
        return [None] * (self.old if generation == 2 else 0)

    def round_over(self, new: int) -> int:
        """New objects got old; how many one of Python's own rounds looks at."""
        self.old += new
        self.collect()
        return self.looked_at.pop()


@pytest.fixture
def collector() -> Counting:
    return Counting()


@pytest.fixture
def old(collector: Counting) -> OldObjects:
    old = OldObjects(collector)
    old.begin()
    assert collector.looked_at.pop() == 1000
    collector.counted = 0
    return old


def be_quiet(old: OldObjects, rounds: int = QUIET) -> None:
    for _ in range(rounds):
        old.rest(is_quiet=True)


@pytest.mark.usefixtures("old")
def test_a_round_looks_at_what_came_since(collector: Counting) -> None:
    assert [collector.round_over(new) for new in (30, 20, 100)] == [30, 20, 100]


def test_young_rounds_and_beginnings_freeze_nothing(collector: Counting, old: OldObjects) -> None:
    collector.old = 30
    for phase, generation in (("stop", 0), ("stop", 1), ("start", 2)):
        [callback] = collector.callbacks
        callback(phase, {"generation": generation})
    assert collector.old == 30
    be_quiet(old)
    assert collector.looked_at == []


def test_everything_is_looked_at_when_it_is_quiet_and_a_lot_was_frozen(collector: Counting, old: OldObjects) -> None:
    collector.round_over(250)
    be_quiet(old)
    assert collector.looked_at == []
    collector.round_over(1)
    old.rest(is_quiet=False)
    assert collector.looked_at == []
    collector.garbage = 200
    be_quiet(old)
    assert collector.looked_at == [1251]
    assert collector.frozen == 1051
    be_quiet(old)
    assert collector.looked_at == [1251]
    # A fourth of what was left, and not of what was left first.
    collector.round_over(262)
    be_quiet(old)
    assert collector.looked_at == [1251]


def test_a_breath_is_no_quiet_moment(collector: Counting, old: OldObjects) -> None:
    collector.round_over(900)
    for _ in range(3):
        be_quiet(old, QUIET - 1)
        old.rest(is_quiet=False)
    assert collector.looked_at == []
    be_quiet(old)
    assert collector.looked_at == [1900]


def test_it_is_when_it_is_never_quiet_and_very_much_was_frozen(collector: Counting, old: OldObjects) -> None:
    collector.round_over(4000)
    old.rest(is_quiet=False)
    assert collector.looked_at == []
    collector.round_over(1)
    old.rest(is_quiet=False)
    assert collector.looked_at == [5001]


def test_what_went_by_itself_is_counted_before_and_only_then(collector: Counting, old: OldObjects) -> None:
    collector.round_over(300)
    collector.frozen -= 200
    old.rest(is_quiet=False)
    assert collector.counted == 0
    be_quiet(old)
    assert (collector.counted, collector.looked_at) == (1, [])
    be_quiet(old)
    assert collector.counted == 1
    collector.round_over(151)
    be_quiet(old)
    assert collector.looked_at == [1251]


def test_with_pythons_own_collector_garbage_that_was_frozen_goes() -> None:
    # In a process of its own: what is frozen here would stay for all tests.
    program = """
        import gc, weakref
        from trishula_router.old_objects import OldObjects

        class Round:
            def __init__(self):
                self.me = self

        gc.disable()
        old = OldObjects()
        old.begin()
        began = gc.get_freeze_count()
        rounds = [Round() for _ in range(began)]
        seen = weakref.ref(rounds[0])
        gc.collect()
        assert gc.get_freeze_count() > 2 * began, (began, gc.get_freeze_count())
        del rounds
        gc.collect()
        assert seen() is not None
        for _ in range(20):
            old.rest(is_quiet=True)
        assert seen() is None
        assert gc.get_freeze_count() < 1.1 * began
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
    assert all("OldObjects" not in str(callback) for callback in gc.callbacks)
