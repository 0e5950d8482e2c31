"""Retention, on each store: which bodies go, when, and what stays."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from twisted.internet.defer import Deferred, fail, succeed

from tests.support.subjects import InSqlite, Subject, append, draft, fill, is_sound, kinds, open_ids, state_of
from trishula.errors import StorageFailed, StorageFull
from trishula_router.mail.retention import Retention
from trishula_router.settings.options import RetentionPolicy
from trishula_router.store.interface import Forgotten
from trishula_router.store.messages import Accepted, State
from trishula_router.store.sqlite.connection import FILE_NAME

DAY_MS = 86_400_000
MIB = 1024 * 1024


def forget(subject: Subject, after: int = 0, limit: int = 100, *, before: int, dead_before: int = 0) -> Forgotten:
    return subject.do(lambda store: store.forget(after, limit, before=before, dead_before=dead_before, at=9000))


def bodies(subject: Subject) -> set[int]:
    found: dict[int, bytes] = subject.do(lambda store: store.bodies(list(range(1, 100))))
    return set(found)


def settle(subject: Subject, state: State, at: int, *positions: int) -> None:
    subject.do(lambda store: store.settle(positions, state, None, at))


@pytest.fixture
def filled(subject: Subject) -> Subject:
    """Messages 1 to 6: done at 200 and 300, dead at 200, cancelled, open, expired."""
    append(subject, *(draft(f"m{number}", body=b"x" * number) for number in range(1, 7)), at=100)
    settle(subject, State.DONE, 200, 1)
    settle(subject, State.DONE, 300, 2)
    settle(subject, State.DEAD, 200, 3)
    settle(subject, State.CANCELLED, 200, 4)
    settle(subject, State.EXPIRED, 200, 6)
    return subject


def test_the_settled_go_when_their_time_is_over(filled: Subject) -> None:
    done = forget(filled, before=300)
    assert (done.after, done.bodies, done.size_bytes) == (0, 3, 1 + 4 + 6)
    assert bodies(filled) == {2, 3, 5}
    assert forget(filled, before=300).bodies == 0
    assert forget(filled, before=301).bodies == 1
    assert bodies(filled) == {3, 5}
    assert forget(filled, before=9999, dead_before=201).bodies == 1
    assert bodies(filled) == {5}
    # However late it is: what is open stays.
    assert forget(filled, before=2**50, dead_before=2**50).bodies == 0
    assert open_ids(filled) == ["m5"]


def test_what_became_of_them_stays(filled: Subject) -> None:
    before = kinds(filled)
    forget(filled, before=300)
    assert kinds(filled) == [*before, "forgotten"]
    (record,) = filled.do(lambda store: store.records(after=0, limit=10, kind="forgotten"))
    assert msgspec.json.decode(record.facts) == {"bodies": [1, 4, 6], "bytes": 11}
    assert state_of(filled, 1) is State.DONE
    assert append(filled, draft("m1")) == [Accepted((1,), True)]
    assert is_sound(filled)


def test_nothing_to_do_leaves_no_record(filled: Subject) -> None:
    before = kinds(filled)
    assert forget(filled, before=100).bodies == 0
    assert kinds(filled) == before


def test_step_by_step(filled: Subject) -> None:
    first = forget(filled, 0, 2, before=300)
    assert (first.after, first.bodies) == (2, 1)
    second = forget(filled, first.after, 3, before=300)
    assert (second.after, second.bodies) == (5, 1)
    third = forget(filled, second.after, 3, before=300)
    assert (third.after, third.bodies) == (0, 1)


def test_a_broadcast_goes_when_it_is_settled_everywhere(subject: Subject) -> None:
    append(subject, draft("b", "agni", "rushabdev"), draft("m"))
    settle(subject, State.DONE, 200, 1, 3)
    assert forget(subject, before=1000).bodies == 1
    assert bodies(subject) == {1, 2}
    settle(subject, State.DEAD, 200, 2)
    forget(subject, before=1000)
    assert bodies(subject) == {1, 2}
    forget(subject, before=1000, dead_before=1000)
    assert bodies(subject) == set()
    assert is_sound(subject)


# -- a file ------------------------------------------------------------------------------------------------------------


class Clock:
    """A wall clock that a test sets."""

    now = 0

    def __call__(self) -> int:
        return self.now


def round_of(subject: InSqlite, retention: Retention) -> int:
    return subject.calls.wait(Deferred.fromCoroutine(retention.round()))


def test_the_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    subject = InSqlite(tmp_path)
    clock = Clock()
    policy = RetentionPolicy(bodies_ms=DAY_MS, dead_ms=DAY_MS)
    sizes = []
    for day in range(12):
        clock.now = day * DAY_MS
        found = append(subject, *(draft(f"m{day}.{index}", body=b"x" * 5000) for index in range(100)), at=clock.now)
        settle(subject, State.DONE, clock.now, *(one.positions[0] for one in found))
        round_of(subject, Retention(subject.store, policy, clock))
        subject.reopen()
        sizes.append((tmp_path / FILE_NAME).stat().st_size)
    # Two days of bodies are 1 MB; twelve would be 6. Rows and records stay, which are small.
    assert sizes[-1] < 2_500_000
    assert is_sound(subject)
    subject.close()


def test_a_store_that_is_full_of_settled_messages_makes_room(tmp_path: Path) -> None:
    subject = InSqlite(tmp_path, limit_bytes=2 * MIB)
    retention = Retention(subject.store, RetentionPolicy(), lambda: 1000)
    accepted = fill(subject)
    with pytest.raises(StorageFull):
        append(subject, draft("no", body=b"x" * 20_000))
    settle(subject, State.DEAD, 500, 1)
    settle(subject, State.DONE, 500, *range(2, len(accepted)))
    # Long before their time: first it sees that it is tight, then it makes room, and no more of it than is needed.
    deleted = round_of(subject, retention) + round_of(subject, retention)
    assert len(accepted) // 6 < deleted < len(accepted) // 2
    assert bodies(subject) & set(range(2, deleted + 3)) == {deleted + 2}
    append(subject, draft("now", body=b"x" * 20_000))
    assert open_ids(subject) == [accepted[-1], "now"]
    # The dead letter keeps its time.
    assert bodies(subject) & {1, 2} == {1}
    assert is_sound(subject)
    subject.close()


def test_a_store_with_room_keeps_them_for_their_time(tmp_path: Path) -> None:
    subject = InSqlite(tmp_path)
    clock = Clock()
    retention = Retention(subject.store, RetentionPolicy(bodies_ms=DAY_MS, dead_ms=2 * DAY_MS), clock)
    append(subject, draft("m1"), draft("m2"), at=0)
    settle(subject, State.DONE, 10, 1)
    settle(subject, State.DEAD, 10, 2)
    seen = []
    for clock.now in (1000, DAY_MS + 10, DAY_MS + 11, 2 * DAY_MS + 10, 2 * DAY_MS + 11):
        seen.append(round_of(subject, retention))
    assert seen == [0, 0, 1, 0, 1]
    subject.close()


class Failing:
    """A store of which a place can't be read."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def forget(self, after: int, limit: int, *, before: int, dead_before: int, at: int) -> Deferred[Forgotten]:
        self.asked.append(after)
        if after < 200:
            return fail(StorageFailed("the node can't use its store (database disk image is malformed)"))
        return succeed(Forgotten(0, 3, 30, 0.1))


def test_a_round_that_fails_does_not_keep_the_next_one() -> None:
    store = Failing()
    retention = Retention(store, RetentionPolicy(), lambda: 0)  # type: ignore[arg-type]
    counts: list[int] = []
    for _ in range(3):
        Deferred.fromCoroutine(retention.round()).addCallback(counts.append)
    assert counts == [0, 3, 0]
    assert store.asked == [0, 200, 0]
