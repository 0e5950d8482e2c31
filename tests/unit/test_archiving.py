"""The archiver: what it moves into segments and when, what is there after a crash at each step, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred, fail

from tests.support.stores import result_of
from tests.support.subjects import InMemory, Peer, draft
from trishula.errors import NodeFailed
from trishula.evidence.archive import Archive
from trishula.evidence.chain import GENESIS
from trishula.evidence.checking import check_file
from trishula.evidence.finding import find_message
from trishula.evidence.signing import SigningKey
from trishula_router.archiving import archiver as archiving
from trishula_router.archiving.archiver import Archiver
from trishula_router.archiving.due import SEGMENT_RECORDS, Due, due
from trishula_router.archiving.segments import Segments
from trishula_router.peers.journal_policy import Replication
from trishula_router.settings.options import RetentionPolicy
from trishula_router.store.facts import LeftFacts
from trishula_router.store.interface import Store
from trishula_router.store.journal import Kind, verify
from trishula_router.store.messages import State

T = TypeVar("T")

DAY_MS = 86_400_000
NOW = 1_800_000_000_000
KEY = SigningKey(bytes(32))


def archiver_on(store: Store, state_dir: Path, **options: Any) -> Archiver:
    holders = options.pop("holders", Replication(store.epoch, ()))
    segments = Segments(state_dir, "single", store.epoch)
    segments.key = KEY
    now = options.pop("now", NOW)
    policy = RetentionPolicy(**options)
    return Archiver(store, segments, policy, now=lambda: now, earlier=lambda instant: instant, holders=holders)


def run(work: Any) -> Any:
    return result_of(Deferred.fromCoroutine(work))


def note(store: Store, count: int, at: int) -> None:
    for _ in range(count):
        result_of(store.note(Kind.LEFT, LeftFacts("agni", 7), at))


def life(store: Store, message_id: str, at: int) -> int:
    """A message that is done, without its body."""
    (accepted,) = result_of(store.append([draft(message_id)], at))
    result_of(store.settle(accepted.positions, State.DONE, None, at + 5))
    result_of(store.forget(0, 1000, before=at + 6, dead_before=0, at=at + 6))
    return accepted.positions[0]


@pytest.fixture
def store() -> Store:
    return InMemory().store


def is_whole(store: Store, state_dir: Path) -> bool:
    """Whether the chain leads from the first record to the newest, by the files and the store alone."""
    end, digest = 0, GENESIS
    for _, checked in Archive(state_dir / "archive" / store.epoch).check([KEY.public]):
        assert checked.ok, checked.findings
        assert checked.first == end + 1
        end, digest = checked.end, checked.digest
    base = store.base()
    assert end >= base.sequence
    records = result_of(store.records(after=base.sequence, limit=100_000))
    if end == base.sequence:
        assert digest == base.digest
    assert not result_of(store.verify()).damages
    return verify(records, base.digest, base.sequence) == []


# -- when --------------------------------------------------------------------------------------------------------------


def test_by_age_a_whole_segment_goes_or_a_day_is_over() -> None:
    what = due(RetentionPolicy(records_ms=10 * DAY_MS), NOW, 0.5, lambda instant: instant)
    assert what == Due(NOW - 10 * DAY_MS, SEGMENT_RECORDS, NOW - 11 * DAY_MS)
    assert what.takes(NOW - 10 * DAY_MS - 1, NOW) and not what.takes(NOW - 10 * DAY_MS, NOW)
    # A clock that was wrong must not keep the journal for years.
    assert what.takes(NOW + 1, NOW)


def test_a_store_that_is_too_full_gives_the_oldest_early() -> None:
    policy = RetentionPolicy(early=0.6)
    assert due(policy, NOW, 0.59, lambda instant: instant).before == NOW - 90 * DAY_MS
    assert due(policy, NOW, 0.6, lambda instant: instant).before == NOW - 10_000


def test_nothing_is_archived_that_is_not_old_enough(store: Store, tmp_path: Path) -> None:
    note(store, 3, NOW - 90 * DAY_MS - 1)
    archiver = archiver_on(store, tmp_path)
    run(archiver.round(0.1))
    assert (store.base().sequence, (tmp_path / "archive").exists()) == (0, False)


def test_a_quiet_node_archives_once_a_day(store: Store, tmp_path: Path) -> None:
    note(store, 1, NOW - 91 * DAY_MS - 1)
    note(store, 2, NOW - 90 * DAY_MS - 1)
    note(store, 1, NOW - 90 * DAY_MS)
    run(archiver_on(store, tmp_path).round(0.1))
    assert store.base().sequence == 3
    assert is_whole(store, tmp_path)


def test_a_full_segment_goes_at_once(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving, "SEGMENT_RECORDS", 4)
    note(store, 9, NOW - 90 * DAY_MS - 1)
    archiver = archiver_on(store, tmp_path)
    what = Due(NOW - 90 * DAY_MS, 4, NOW - 91 * DAY_MS)
    for base in (4, 8, 8):
        run(archiver._once(what))
        assert store.base().sequence == base
    assert [segment.last for segment in archiver.segments.archive.segments()] == [4, 8]
    assert is_whole(store, tmp_path)


def test_early_the_newest_stay(store: Store, tmp_path: Path) -> None:
    note(store, 1200, NOW - 20_000)
    note(store, 5, NOW - 5_000)
    archiver = archiver_on(store, tmp_path)
    run(archiver.round(0.69))
    assert store.base().sequence == 0
    run(archiver.round(0.7))
    assert store.base().sequence == 1200
    assert is_whole(store, tmp_path)


def test_while_it_makes_room_nothing_is_foretold_by_growth(store: Store, tmp_path: Path) -> None:
    archiver = archiver_on(store, tmp_path)
    assert archiver.makes_room(0.69)
    assert not archiver.makes_room(0.7)
    assert not archiver_on(store, tmp_path, early=1.0).makes_room(0.1)
    archiver.fault = "the disk is gone"
    assert not archiver.makes_room(0.1)


# -- what --------------------------------------------------------------------------------------------------------------


def test_a_segment_has_what_the_journal_had_and_is_signed(store: Store, tmp_path: Path) -> None:
    old = life(store, "m1", NOW - 100 * DAY_MS)
    before = result_of(store.records(after=0, limit=10))
    archiver = archiver_on(store, tmp_path)
    run(archiver.round(0.1))
    (segment,) = archiver.segments.archive.segments()
    assert segment.path.stat().st_mode & 0o777 == 0o600
    lines = list(archiver.segments.archive.read())
    assert [(one.sequence, one.at, one.kind, one.facts.encode(), one.digest) for one in lines] == [
        (one.position, one.at, one.kind, one.facts, one.digest.hex()) for one in before
    ]
    checked = check_file(segment.path, [KEY.public])
    assert (checked.ok, checked.key_is_known, checked.proven_to) == (True, True, 3)
    assert archiver.segments.name_of(old) == f"archive/epoch-1/{segment.path.name}"
    assert archiver.told() == {
        "base": 3,
        "segments": 1,
        "bytes": segment.path.stat().st_size,
        "fault": None,
        "holds_back": None,
    }
    # Its id is over, so its row is gone; the archive tells of it.
    assert result_of(store.with_ids(["m1"])) == []
    found = list(find_message(segment.path.parent, "m1"))
    assert [one.kind for one in found] == ["accepted", "done", "forgotten"]
    assert list(find_message(segment.path.parent, "m")) == []


def test_what_waits_stays_and_goes_when_it_is_over(store: Store, tmp_path: Path) -> None:
    (waits,) = result_of(store.append([draft("waits")], NOW - 100 * DAY_MS))
    note(store, 3, NOW - 100 * DAY_MS)
    archiver = archiver_on(store, tmp_path)
    run(archiver.round(0.1))
    assert store.base().sequence == 4
    assert [one.id for one in result_of(store.head("agni", (0, 0), 10))] == ["waits"]
    assert [one.kind for one in result_of(store.records(after=0, limit=10))] == ["accepted", "archived"]
    result_of(store.settle(waits.positions, State.DONE, None, NOW - 99 * DAY_MS))
    result_of(store.forget(0, 10, before=NOW, dead_before=0, at=NOW))
    later = archiver_on(store, tmp_path, now=NOW + 100 * DAY_MS)
    run(later.round(0.1))
    run(later.round(0.1))
    assert [one.kind for one in result_of(store.records(after=0, limit=10))] == ["archived"]
    assert result_of(store.with_ids(["waits"])) == []
    assert is_whole(store, tmp_path)


def test_segments_are_deleted_by_the_option_alone(store: Store, tmp_path: Path) -> None:
    note(store, 3, NOW - 100 * DAY_MS)
    keeping = archiver_on(store, tmp_path)
    run(keeping.round(0.1))
    run(archiver_on(store, tmp_path, now=2**52).round(0.1))
    assert len(keeping.segments.archive.segments()) == 2
    gone = archiver_on(store, tmp_path, archive_ms=0, now=2**52)
    run(gone.round(0.1))
    assert gone.segments.archive.segments() == []
    assert gone.fault is None
    assert gone.told()["segments"] == 0


def test_a_linked_node_cuts_what_all_its_peers_have_acknowledged(store: Store, tmp_path: Path) -> None:
    note(store, 5, NOW - 100 * DAY_MS)
    holders = Replication(store.epoch, ("dc", "rushabdev"))
    archiver = archiver_on(store, tmp_path, holders=holders)

    def heard(name: str, held: int, epoch: str = "their-epoch") -> None:
        holders.heard(name, f"{epoch}-of-{name}", {store.epoch: held}, store.high_water, 0.0)

    heard("dc", 5)
    # The other one was not heard of since the start, whatever it acknowledged before.
    run(archiver.round(1.0))
    assert store.base().sequence == 0
    assert archiver.told()["holds_back"] == (
        "rushabdev has not told that it holds the records behind 0 of this node's journal, so these stay in the store; "
        "when that is full, sends are refused; have it come back, or take it out of the peers"
    )
    assert not archiver.makes_room(0.1)
    assert run(archiver.plan(None)).records == 0
    heard("rushabdev", 3)
    run(archiver.round(1.0))
    assert store.base().sequence == 3
    assert "rushabdev has not told that it holds the records behind 3 " in archiver.told()["holds_back"]
    # It comes back with an empty disk.
    holders.lost("rushabdev")
    heard("rushabdev", 0, "new")
    run(archiver.round(1.0))
    assert store.base().sequence == 3
    heard("dc", 6)
    heard("rushabdev", 6, "new")
    run(archiver.round(0.1))
    assert store.base().sequence == 5
    assert archiver.told()["holds_back"] is None
    assert archiver.makes_room(0.1)
    assert is_whole(store, tmp_path)


def test_what_was_archived_before_a_restart_is_cut_once_peers_have_told_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(store, 5, NOW - 100 * DAY_MS)

    def killed(limit: int) -> Any:
        raise RuntimeError

    holders = Replication(store.epoch, ("dc",))
    holders.heard("dc", "e2", {store.epoch: 5}, store.high_water, 0.0)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(store, "cut", killed)
        run(archiver_on(store, tmp_path, holders=holders).archive(0))
    assert (store.base().sequence, store.base().until) == (0, 5)
    holders = Replication(store.epoch, ("dc",))
    archiver = archiver_on(store, tmp_path, holders=holders)
    note(store, 5, NOW - 100 * DAY_MS)
    # A peer may have lost its disk meanwhile; and nothing further is archived before this is cut.
    for held in (0, 3):
        holders.heard("dc", "e2", {store.epoch: held} if held else {}, store.high_water, 0.0)
        assert run(archiver.archive(-1)).records == 0
        assert (store.base().sequence, store.base().until) == (0, 5)
        assert f"dc has not told that it holds the records behind {held} " in archiver.told()["holds_back"]
    holders.heard("dc", "e2", {store.epoch: store.high_water}, store.high_water, 0.0)
    run(archiver.round(0.1))
    assert (store.base().sequence, archiver.told()["holds_back"], archiver.fault) == (5, None, None)
    assert is_whole(store, tmp_path)


def test_a_copy_is_cut_as_far_as_its_writer_has_archived_it_and_others_hold_it(store: Store, tmp_path: Path) -> None:
    source = Peer("dc")
    note(source.store, 6, NOW - 100 * DAY_MS)
    result_of(store.copy("dc", result_of(source.store.extract(0, 0, limit=10, limit_bytes=10_000))))
    holders = Replication(store.epoch, ("dc", "rushabdev"))
    archiver = archiver_on(store, tmp_path, holders=holders)
    holders.heard("dc", source.store.epoch, {}, 0, 0.0)
    holders.heard("rushabdev", "another", {source.store.epoch: 2}, 0, 0.0)
    run(archiver.round(0.1))
    assert store.base(1).sequence == 0
    holders.peers["dc"].base = 4
    run(archiver.round(0.1))
    assert store.base(1).sequence == 2
    holders.heard("rushabdev", "another", {source.store.epoch: 6}, 0, 0.0)
    run(archiver.round(0.1))
    assert store.base(1).sequence == 4
    assert [origin.base for origin in store.origins()] == [0, 4]


def test_ids_of_one_that_was_linked_are_dropped_and_uses_counted_from_above(store: Store, tmp_path: Path) -> None:
    source = Peer("dc")
    note(source.store, 1, NOW - 100 * DAY_MS)
    result_of(store.copy("dc", result_of(source.store.extract(0, 0, limit=10, limit_bytes=10_000))))
    life(store, "m1", NOW - 100 * DAY_MS)
    run(archiver_on(store, tmp_path).round(0.1))
    assert store.base().sequence == 3
    assert result_of(store.with_ids(["m1"])) == []
    # Whoever was its peer may know the id, and come back.
    assert store.first_use == 1


def test_at_once_and_what_that_would_be(store: Store, tmp_path: Path) -> None:
    note(store, 3, NOW - 2 * DAY_MS)
    note(store, 1, NOW)
    archiver = archiver_on(store, tmp_path)
    assert run(archiver.archive(None)).records == 0
    planned = run(archiver.plan(DAY_MS))
    assert (planned.records, planned.first, planned.last, planned.file) == (3, 1, 3, None)
    assert store.base().sequence == 0
    done = run(archiver.archive(DAY_MS))
    assert (done.records, done.first_at, done.last_at) == (3, NOW - 2 * DAY_MS, NOW - 2 * DAY_MS)
    assert (tmp_path / str(done.file)).is_file()
    assert run(archiver.archive(DAY_MS)).records == 0


# -- faults and crashes ------------------------------------------------------------------------------------------------


def test_a_disk_that_takes_nothing_is_told_of_and_the_store_stays(store: Store, tmp_path: Path) -> None:
    note(store, 3, NOW - 100 * DAY_MS)
    (tmp_path / "archive").write_text("no folder")
    archiver = archiver_on(store, tmp_path)
    run(archiver.round(0.1))
    assert archiver.fault is not None and "can't be written" in archiver.fault
    assert store.base().sequence == 0
    with pytest.raises(NodeFailed, match="can't be written"):
        run(archiver.archive(None))
    (tmp_path / "archive").unlink()
    run(archiver.round(0.1))
    assert archiver.told()["fault"] is None
    assert store.base().sequence == 3


def test_a_segment_of_another_journal_is_set_aside(store: Store, tmp_path: Path) -> None:
    other = InMemory().store
    note(other, 4, NOW - 100 * DAY_MS)
    run(archiver_on(other, tmp_path).round(0.1))
    note(store, 3, NOW - 100 * DAY_MS)
    archiver = archiver_on(store, tmp_path)
    run(archiver.round(0.1))
    (segment,) = archiver.segments.archive.segments()
    assert segment.last == 3
    assert [path.suffix for path in sorted(segment.path.parent.iterdir())] == [".gz", ".index", ".unused"]
    assert is_whole(store, tmp_path)


class Crash(BaseException):
    """The process is gone at this point."""


class Crashing:
    """A store, and a thread, that end the process before or behind the n-th step."""

    def __init__(self, store: Store, at: int) -> None:
        self._store = store
        self._left = at

    def step(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise Crash

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in ("archived", "cut", "let_go", "drop"):
            return found

        def stepping(*args: Any, **options: Any) -> Any:
            self.step()
            done = found(*args, **options)
            try:
                self.step()
            except Crash as crash:
                return fail(crash)
            return done

        return stepping

    def in_thread(self, work: Callable[[], T]) -> Deferred[T]:
        self.step()
        done = result_of_call(work)
        self.step()
        return done


def result_of_call(work: Callable[[], T]) -> Deferred[T]:
    return archiving._at_once(work)


def test_a_crash_at_any_step_loses_nothing_and_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving, "_PAGE", 4)
    monkeypatch.setattr(archiving, "_STEP", 3)
    at = 0
    while True:
        at += 1
        store, state_dir = InMemory().store, tmp_path / str(at)
        for number in range(4):
            life(store, f"m{number}", NOW - 100 * DAY_MS)
        (waits,) = result_of(store.append([draft("waits")], NOW - 100 * DAY_MS))
        written = [(one.position, one.digest) for one in result_of(store.records(after=0, limit=100))]
        crashing = Crashing(store, at)
        archiver = archiver_on(crashing, state_dir)
        archiver.in_thread = crashing.in_thread
        try:
            run(archiver.round(0.1))
            break
        except Crash:
            pass
        again = archiver_on(store, state_dir)
        run(again.round(0.1))
        run(again.round(0.1))
        assert again.fault is None
        assert store.base().sequence == len(written)
        archived = [(one.sequence, bytes.fromhex(one.digest)) for one in again.segments.archive.read()]
        assert archived == written
        assert is_whole(store, state_dir)
        assert [one.id for one in result_of(store.head("agni", (0, 0), 10))] == ["waits"]
        assert result_of(store.bodies(waits.positions)) == {waits.positions[0]: b"{}"}
        assert not list((state_dir / "archive" / "epoch-1").glob("*.unused"))
        assert not list((state_dir / "archive" / "epoch-1").glob(".*"))
    assert at > 20
