"""An archive of segments: found by their names, joined by their digests, and rid of what a crash left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.segments import KEY, head, lines_of, pack, records
from trishula.evidence.archive import Archive, SegmentDamaged, segment_name
from trishula.evidence.writing import LEFTOVER

MADE = list(records(30))


def add(archive: Archive, first: int, last: int, previous: bytes | None = None) -> Path:
    before = MADE[first - 2].digest if first > 1 else bytes(32)
    with archive.new(head(first, before if previous is None else previous), KEY.sign, every=4) as writer:
        for record in MADE[first - 1 : last]:
            writer.add(*record)
    return archive.folder / segment_name(first, last)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    archive = Archive(tmp_path / "archive")
    for first, last in ((1, 9), (10, 10), (11, 30)):
        add(archive, first, last)
    return archive


def faults(archive: Archive) -> dict[int, list[tuple[str, str]]]:
    return {
        segment.first: [(one.what, one.sentence) for one in checked.findings]
        for segment, checked in archive.check([KEY.public])
        if not checked.ok
    }


def test_a_whole_one(archive: Archive) -> None:
    assert [(one.first, one.last) for one in archive.segments()] == [(1, 9), (10, 10), (11, 30)]
    assert faults(archive) == {}
    assert sum(checked.records for _, checked in archive.check()) == 30


def test_none_yet(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "not there")
    assert archive.segments() == []
    assert archive.holding(1) is None
    assert list(archive.read()) == []
    assert archive.remove_leftovers() == []


@pytest.mark.parametrize(("sequence", "first"), [(1, 1), (9, 1), (10, 10), (11, 11), (30, 11)])
def test_the_segment_that_holds_a_record(archive: Archive, sequence: int, first: int) -> None:
    held = archive.holding(sequence)
    assert held is not None
    assert held.first == first


@pytest.mark.parametrize("sequence", [0, 31])
def test_a_record_that_no_segment_holds(archive: Archive, sequence: int) -> None:
    assert archive.holding(sequence) is None


@pytest.mark.parametrize("after", [0, 8, 9, 10, 29, 30])
def test_reading_on_behind_a_record(archive: Archive, after: int) -> None:
    assert [(line.sequence, line.facts.encode()) for line in archive.read(after)] == [
        (record.sequence, record.facts) for record in MADE[after:]
    ]


def test_a_segment_that_is_gone(archive: Archive) -> None:
    (archive.folder / segment_name(10, 10)).unlink()
    assert faults(archive) == {11: [("gap", "records 10 to 10 are in no segment")]}


def test_segments_that_overlap(archive: Archive) -> None:
    add(archive, 8, 10)
    assert faults(archive)[8] == [("gap", "records 8 to 9 are in the segment before, too")]


def test_segments_of_two_histories(archive: Archive) -> None:
    *_, other = records(10, previous=b"x" * 32)
    made = list(records(20, 11, other.digest))
    with archive.new(head(11, other.digest), KEY.sign) as writer:
        for record in made:
            writer.add(*record)
    told = "it doesn't go on where the one before ends: record 10 has another digest there"
    assert faults(archive) == {11: [("gap", told)]}


def test_a_name_that_is_not_true(archive: Archive) -> None:
    (archive.folder / segment_name(11, 30)).rename(archive.folder / segment_name(11, 31))
    assert faults(archive) == {11: [("foot", "its name says records 11 to 31, and it holds 11 to 30")]}


def test_what_a_crash_left(archive: Archive) -> None:
    left = archive.folder / f".{31:016d}-4711{LEFTOVER}"
    left.write_bytes(b"half of")
    (archive.folder / "notes.txt").write_text("an operator's")
    assert len(archive.segments()) == 3
    assert faults(archive) == {}
    assert archive.remove_leftovers() == [left]
    assert archive.remove_leftovers() == []
    assert (archive.folder / "notes.txt").exists()


def test_reading_out_of_a_damaged_one(archive: Archive) -> None:
    path = archive.folder / segment_name(11, 30)
    lines = lines_of(path)
    pack(path, [*lines[:5], b"{}\n", *lines[5:]])
    with pytest.raises(SegmentDamaged, match="a line that no node writes"):
        list(archive.read())
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(SegmentDamaged, match=r"30.jsonl.gz is damaged"):
        list(archive.read())
