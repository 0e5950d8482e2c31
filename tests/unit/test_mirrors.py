"""Mirrors without Redis: where they go on, what is told of them, what of the journal is in a gap, and the file."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from tests.support.segments import KEY, Made, head, records
from tests.support.stores import HeldStore, result_of
from trishula.errors import StorageFailed
from trishula.evidence.archive import Archive
from trishula.evidence.chain import GENESIS
from trishula_router.commands.status_words import mirror_lines
from trishula_router.doctor.status_checks import check_status
from trishula_router.health.mirror_check import mirror_check
from trishula_router.mirroring.archived import ArchiveWalk, Walked
from trishula_router.mirroring.mirror import Mirror
from trishula_router.mirroring.pages import Entry, Pages
from trishula_router.mirroring.place import Has, Lag, Place, TargetUnfit, allot_generation, find_start
from trishula_router.mirroring.rotated_file import LEAVES_BYTES, RotatedFile
from trishula_router.mirroring.target import TargetFailed
from trishula_router.settings.mirror import MirrorOptions
from trishula_router.store.facts import LeftFacts
from trishula_router.store.interface import Store
from trishula_router.store.journal import Kind
from trishula_router.store.memory import MemoryStore

NOW = 1_800_000_000_000
MUCH = 1 << 20

# -- policy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("has", "keeps", "start"),
    [
        (Has(5, 70), 0, 70),
        # It took more than the node remembers, or lost some, as a restart from an older state does.
        (Has(5, 90), 0, 90),
        (Has(5, 10), 0, 10),
        # It was flushed: as much as it keeps follows again, and of a file that was removed nothing.
        (None, 1000, 0),
        (None, 50, 20),
        (None, 0, 70),
        # Somebody made an empty stream, or put back that of an older store.
        (Has(0, 0), 50, 20),
        (Has(4, 99), 50, 20),
    ],
)
def test_where_a_mirror_goes_on(has: Has | None, keeps: int, start: int) -> None:
    assert find_start(Place("epoch-1", 70, 5), has, 100, keeps) == start


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(TargetUnfit, match="newer entries of another journal; give each node a target of its own"):
        find_start(Place("epoch-1", 70, 5), Has(6, 1), 100, 0)
    with pytest.raises(TargetUnfit, match="up to record 101, and the journal ends at 100"):
        find_start(Place("epoch-1", 70, 5), Has(5, 101), 100, 0)


def test_a_generation_is_behind_all_that_were() -> None:
    assert allot_generation(None, 7) == 7
    assert allot_generation(Has(3, 99), 7) == 7
    # A clock was ahead.
    assert allot_generation(Has(70, 1), 7) == 71


def test_a_lag_is_the_age_of_the_oldest_that_is_missing() -> None:
    assert Lag.of(100, 100, NOW - 9000, NOW) == Lag(0, 0.0)
    assert Lag.of(90, 100, NOW - 9000, NOW) == Lag(10, 9.0)
    assert Lag.of(90, 100, None, NOW) == Lag(10, 0.0)
    assert Lag.of(90, 100, NOW + 9000, NOW) == Lag(10, 0.0)


# -- the archive -------------------------------------------------------------------------------------------------------

MADE = list(records(30))


def make(folder: Path, *ranges: tuple[int, int]) -> Archive:
    archive = Archive(folder)
    for first, last in ranges:
        with archive.new(head(first, MADE[first - 2].digest if first > 1 else GENESIS), KEY.sign) as writer:
            for record in MADE[first - 1 : last]:
                writer.add(*record)
    return archive


def walk_all(walk: ArchiveWalk, base: int, limit: int) -> list[Made | tuple[int, int, str]]:
    """What a mirror gets: records, and gaps as (first, last, why)."""
    found: list[Made | tuple[int, int, str]] = []
    after = 0
    while after < base:
        walked = walk.behind(after, base, limit, MUCH)
        if walked.lines:
            found += [
                Made(one.sequence, one.at, one.kind, one.facts.encode(), bytes.fromhex(one.digest))
                for one in walked.lines
            ]
            after = walked.lines[-1].sequence
        else:
            found.append((after + 1, walked.gap_until, walked.why))
            after = walked.gap_until
    return found


@pytest.mark.parametrize("limit", [1, 4, 100])
def test_what_is_in_no_segment_is_a_gap(tmp_path: Path, limit: int) -> None:
    walk = ArchiveWalk(make(tmp_path, (4, 6), (7, 9), (15, 20)))
    why = "no segment of the archive has them"
    wanted = [(1, 3, why), *MADE[3:9], (10, 14, why), *MADE[14:20], (21, 25, why)]
    assert walk_all(walk, 25, limit) == wanted
    assert walk_all(walk, 25, limit) == wanted
    assert walk_all(ArchiveWalk(Archive(tmp_path / "none")), 5, limit) == [(1, 5, why)]


def test_a_segment_that_was_made_meanwhile_is_found(tmp_path: Path) -> None:
    walk = ArchiveWalk(make(tmp_path, (1, 9)))
    assert len(walk.behind(0, 9, 100, MUCH).lines) == 9
    make(tmp_path, (10, 20))
    assert [one.sequence for one in walk.behind(9, 20, 100, MUCH).lines] == list(range(10, 21))


def test_a_damaged_segment_is_a_gap_up_to_its_end(tmp_path: Path) -> None:
    archive = make(tmp_path, (1, 9), (10, 20), (21, 30))
    damaged = archive.segments()[1].path
    damaged.write_bytes(damaged.read_bytes()[:40])
    found = walk_all(ArchiveWalk(archive), 30, 5)
    assert found[:9] == MADE[:9]
    assert found[-10:] == MADE[20:]
    (gap,) = found[9:-10]
    assert gap[:2] == (10, 20)
    assert str(damaged) in str(gap[2])


def test_a_page_ends_where_it_is_large_enough(tmp_path: Path) -> None:
    walk = ArchiveWalk(make(tmp_path, (1, 30)))
    assert len(walk.behind(0, 30, 100, 1).lines) == 1
    assert isinstance(walk.behind(1, 30, 100, len(MADE[1].facts) + 1), Walked)


# -- the file ----------------------------------------------------------------------------------------------------------


def entries(first: int, last: int, size_bytes: int = 10) -> list[Entry]:
    return [
        Entry(number, NOW, "left", f"{number:064x}", b"%0*d" % (size_bytes, number))
        for number in range(first, last + 1)
    ]


def file_of(folder: Path, **options: Any) -> RotatedFile:
    return RotatedFile(MirrorOptions(file="audit.jsonl", **options), folder, lambda _: 2 * LEAVES_BYTES)


PLACE = Place("epoch-1", 0, 7)


def test_a_file_is_renamed_when_it_is_large_and_the_oldest_deleted(tmp_path: Path) -> None:
    file = file_of(tmp_path, file_size_bytes=25, file_count=2)
    assert file.has(PLACE) is None
    for number in range(1, 9):
        file.write(entries(number, number), PLACE)
    assert {
        path.name: path.read_bytes().split() for path in tmp_path.glob("audit*") if "position" not in path.name
    } == {
        name: [b"%010d" % number for number in numbers]
        for name, numbers in {"audit.jsonl": (7, 8), "audit.jsonl.1": (5, 6), "audit.jsonl.2": (3, 4)}.items()
    }
    assert file_of(tmp_path).has(PLACE) == Has(7, 8)
    assert file_of(tmp_path).has(Place("epoch-2", 0, 7)) is None


def test_a_mirror_leaves_the_last_of_its_disk_to_others(tmp_path: Path) -> None:
    free = [LEAVES_BYTES + 19]
    file = RotatedFile(MirrorOptions(file="audit.jsonl"), tmp_path, lambda _: free[0])
    file.has(PLACE)
    with pytest.raises(TargetFailed, match="leaves the last 512 MiB to others"):
        file.write(entries(1, 2), PLACE)
    assert list(tmp_path.iterdir()) == []
    free[0] += 3
    file.write(entries(1, 2), PLACE)


def test_what_a_disk_refuses_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = RotatedFile(MirrorOptions(file="no/audit.jsonl"), tmp_path)
    nowhere.has(PLACE)
    with pytest.raises(TargetFailed, match=r"no/audit.jsonl can't be written: No such file or directory"):
        nowhere.write(entries(1, 1), PLACE)
    file = file_of(tmp_path)
    file.has(PLACE)

    def full(descriptor: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(TargetFailed, match=r"audit.jsonl can't be written: No space left on device"):
        file.write(entries(1, 1), PLACE)
    monkeypatch.undo()
    file.write(entries(1, 1), PLACE)
    (tmp_path / "audit.jsonl.position").write_text("{")
    with pytest.raises(TargetFailed, match="says no position; remove it"):
        file_of(tmp_path).has(PLACE)


# -- a mirror ----------------------------------------------------------------------------------------------------------


class Taker:
    """A target in memory, which fails when it is told to."""

    name, where, keeps = "redis", "here", 100

    def __init__(self) -> None:
        self.taken: list[Entry] = []
        self.last: Has | None = None
        self.fault: Exception | None = None
        self.asked: list[Place] = []

    def has(self, place: Place) -> Has | None:
        self.asked.append(place)
        if self.fault is not None:
            raise self.fault
        return self.last

    def write(self, entries: Sequence[Entry], place: Place) -> None:
        if self.fault is not None:
            raise self.fault
        self.taken += entries
        self.last = Has(place.generation, entries[-1].sequence)


T = TypeVar("T")


def at_once(work: Callable[[], T]) -> Deferred[T]:
    return maybeDeferred(work)


class Rig:
    """A mirror on a store; one made on the same store plays the node's next run."""

    def __init__(self, store: Store, taker: Taker, clock: Clock, folder: Path) -> None:
        self.clock = clock
        timers: Any = clock  # mypy can't read the interfaces of zope
        pages = Pages("single", store, ArchiveWalk(Archive(folder)), at_once, self.now)
        self.mirror = Mirror(taker, pages, store, in_thread=at_once, clock=timers, now=self.now, random=lambda: 0.0)
        result_of(Deferred.fromCoroutine(self.mirror.begin()))

    def now(self) -> int:
        return NOW + round(1000 * self.clock.seconds())

    def round(self) -> None:
        done = Deferred.fromCoroutine(self.mirror.round())
        while not done.called:
            self.clock.advance(0)
        result_of(done)

    def fault(self) -> str | None:
        fault = self.mirror.told()["fault"]
        assert fault is None or isinstance(fault, str)
        return fault


@pytest.fixture
def store() -> HeldStore:
    return HeldStore(MemoryStore("epoch-1"))


@pytest.fixture
def taker() -> Taker:
    return Taker()


@pytest.fixture
def rig(store: HeldStore, taker: Taker, tmp_path: Path) -> Rig:
    return Rig(store, taker, Clock(), tmp_path)


def note(store: HeldStore, count: int, at: int = NOW) -> None:
    for _ in range(count):
        result_of(store.inner.note(Kind.LEFT, LeftFacts("agni", 7), at))


def test_all_pages_are_taken_and_each_record_is_a_line(rig: Rig, store: HeldStore, taker: Taker) -> None:
    note(store, 600)
    rig.round()
    assert [entry.sequence for entry in taker.taken] == list(range(1, 601))
    (record,) = result_of(store.inner.records(after=599, limit=1))
    assert json.loads(taker.taken[-1].line) == {
        "node": "single",
        "epoch": "epoch-1",
        "seq": 600,
        "at": NOW,
        "kind": "left",
        "facts": json.loads(record.facts),
        "digest": record.digest.hex(),
    }
    assert taker.last == Has(NOW, 600)
    told = rig.mirror.told()
    assert (told["sequence"], told["lag_records"], told["lag_s"], told["errors"]) == (600, 0, 0.0, 0)


def test_a_target_that_fails_is_left_alone_for_growing_pauses(rig: Rig, store: HeldStore, taker: Taker) -> None:
    note(store, 10)
    taker.fault = TargetFailed("it is away")
    for pause_s in (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
        asked = len(taker.asked)
        rig.round()
        rig.clock.advance(pause_s - 0.1)
        rig.round()
        assert len(taker.asked) == asked + 1
        rig.clock.advance(0.2)
    told = rig.mirror.told()
    assert (told["fault"], told["errors"], told["lag_records"]) == ("it is away", 7, 10)
    assert told["lag_s"] == pytest.approx(91.7)
    taker.fault = None
    rig.round()
    assert (rig.fault(), [entry.sequence for entry in taker.taken]) == (None, list(range(1, 11)))


def test_while_a_target_hangs_one_page_is_in_memory_and_nothing_else_begins(
    store: HeldStore, taker: Taker, tmp_path: Path
) -> None:
    rig = Rig(store, taker, Clock(), tmp_path)
    hanging: Deferred[Any] = Deferred()
    rig.mirror._in_thread = lambda work: hanging
    note(store, 1000)
    done = Deferred.fromCoroutine(rig.mirror.round())
    rig.clock.advance(60.0)
    assert not done.called
    assert len(rig.mirror._page) == 250
    assert rig.mirror.told()["lag_s"] == 60.0


def test_the_next_run_goes_on_where_the_target_is(rig: Rig, store: HeldStore, taker: Taker, tmp_path: Path) -> None:
    note(store, 10)
    rig.round()
    rig.clock.advance(5.0)
    again = Rig(store, taker, rig.clock, tmp_path)
    note(store, 3)
    again.round()
    # Its place was not written down behind record 0, and the target knew better; the generation was.
    assert [entry.sequence for entry in taker.taken] == list(range(1, 14))
    assert taker.last == Has(NOW, 13)


def test_a_generation_is_durable_before_anything_is_written_under_it(rig: Rig, store: HeldStore, taker: Taker) -> None:
    note(store, 10)
    store.fail_next("remember", StorageFailed("the disk is away"))
    rig.round()
    assert taker.taken == []
    rig.round()
    assert len(taker.taken) == 10


def test_a_store_that_is_new_is_mirrored_behind_the_old_one(
    rig: Rig, store: HeldStore, taker: Taker, tmp_path: Path
) -> None:
    note(store, 10)
    rig.round()
    new = HeldStore(MemoryStore("epoch-2"))
    again = Rig(new, taker, rig.clock, tmp_path)
    note(new, 2)
    again.round()
    assert taker.last == Has(NOW + 1, 2)


def test_what_was_flushed_follows_again_as_far_as_it_is_kept(rig: Rig, store: HeldStore, taker: Taker) -> None:
    note(store, 150)
    rig.round()
    taker.last, taker.taken, taker.fault = None, [], TargetFailed("flushed")
    note(store, 1)
    rig.round()
    taker.fault = None
    rig.clock.advance(1.0)
    rig.round()
    assert [entry.sequence for entry in taker.taken] == list(range(51, 152))


def test_a_long_journal_begins_with_what_the_target_keeps(store: HeldStore, taker: Taker, tmp_path: Path) -> None:
    note(store, 150)
    rig = Rig(store, taker, Clock(), tmp_path)
    rig.round()
    assert [entry.sequence for entry in taker.taken] == list(range(51, 151))


def test_a_store_that_fails_is_no_fault_of_the_mirror(rig: Rig, store: HeldStore, taker: Taker) -> None:
    note(store, 5)
    store.fail_next("records", StorageFailed("the disk is away"))
    rig.round()
    assert (rig.fault(), taker.taken) == (None, [])
    rig.round()
    assert len(taker.taken) == 5


def test_a_mirror_that_was_stopped_keeps_its_place_and_begins_nothing(rig: Rig, store: HeldStore, taker: Taker) -> None:
    note(store, 5)
    rig.round()
    rig.mirror.stop()
    note(store, 5)
    rig.round()
    assert len(taker.taken) == 5
    (text,) = result_of(store.inner.remembered("mirror:")).values()
    assert json.loads(text) == {"epoch": "epoch-1", "sequence": 5, "generation": NOW}


# -- what is told ------------------------------------------------------------------------------------------------------

WELL = {
    "target": "redis",
    "where": "h:6379 s",
    "sequence": 7,
    "lag_records": 0,
    "lag_s": 0.0,
    "errors": 1,
    "fault": None,
}
LATE = {**WELL, "lag_records": 9, "lag_s": 301.0, "fault": "Redis can't be reached"}


def test_a_mirror_that_lags_is_degraded_and_never_in_the_way() -> None:
    assert mirror_check([WELL], 300.0).told() == {
        "check": "mirror",
        "ok": True,
        "reason": "",
        "lag_records": 0,
        "lag_s": 0.0,
    }
    check = mirror_check([WELL, LATE, {**LATE, "where": "f", "fault": None}], 300.0)
    assert (check.ok, check.degraded) == (True, True)
    assert check.reason == (
        "the mirror to h:6379 s lacks 9 records, the oldest of 5.0 min ago: Redis can't be reached; "
        "the mirror to f lacks 9 records, the oldest of 5.0 min ago: it is slower than records come"
    )
    assert not mirror_check([{**LATE, "lag_s": 300.0}], 300.0).degraded


def test_operators_read_of_it() -> None:
    assert mirror_lines({}) == []
    assert mirror_lines({"mirrors": [WELL, LATE]}) == [
        "mirror to h:6379 s: has the journal up to 7",
        "mirror to h:6379 s: has the journal up to 7, 9 records behind for 5.0 min; Redis can't be reached",
    ]


def test_the_doctor_knows_mirrors() -> None:
    def found(mirror: dict[str, Any]) -> list[tuple[str, str]]:
        status = {"node": "agni", "mirrors": [mirror]}
        return [(one.level.name, one.sentence) for one in check_status(status) if one.check == "node agni: mirror"]

    assert found(WELL) == [("OK", "h:6379 s has the journal up to 7")]
    assert found(LATE) == [("WARNING", "h:6379 s lacks 9 records of the journal: Redis can't be reached")]
    slow = {**LATE, "fault": None}
    assert found(slow) == [("WARNING", "h:6379 s lacks 9 records of the journal, the oldest of 5.0 min ago")]
    assert check_status({"node": "agni"})
