"""Archived records page by page: every page goes on where the one before ended, whatever its size."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.segments import KEY, Made, head, records
from trishula.evidence.archive import Archive
from trishula.evidence.chain import GENESIS
from trishula_router.archiving.reading import ArchiveReader, NotArchived

MADE = list(records(30))
MUCH = 1 << 20


def make(folder: Path, *ranges: tuple[int, int]) -> Archive:
    archive = Archive(folder)
    for first, last in ranges:
        with archive.new(head(first, digest_before(first)), KEY.sign) as writer:
            for record in MADE[first - 1 : last]:
                writer.add(*record)
    return archive


def digest_before(sequence: int) -> bytes:
    return MADE[sequence - 2].digest if sequence > 1 else GENESIS


def rows(made: list[Made]) -> list[tuple[int, str, bytes, bytes]]:
    return [(one.at, one.kind, one.facts, one.digest) for one in made]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return make(tmp_path_factory.mktemp("archive"), (1, 9), (10, 10), (11, 30))


@given(asked=st.lists(st.tuples(st.integers(0, 29), st.integers(1, 40)), max_size=8))
def test_any_page_of_any_size_in_any_order(archive: Archive, asked: list[tuple[int, int]]) -> None:
    reader = ArchiveReader(archive)
    for after, limit in asked:
        page = reader.page(after, limit, MUCH)
        assert page.previous == digest_before(after + 1)
        assert page.records == rows(MADE[after : after + limit])
        if after + limit < 30:
            # The next one, for which nothing is opened.
            more = reader.page(after + limit, 3, MUCH)
            assert more.previous == page.records[-1][3]
            assert more.records == rows(MADE[after + limit : after + limit + 3])


def test_a_page_ends_where_it_is_large_enough(archive: Archive) -> None:
    reader = ArchiveReader(archive)
    assert len(reader.page(0, 30, 1).records) == 1
    assert reader.page(1, 30, len(MADE[1].facts) + 1).records == rows(MADE[1:3])


def test_the_end_of_the_archive(archive: Archive) -> None:
    with pytest.raises(NotArchived, match="record 31 is in no segment of the archive"):
        ArchiveReader(archive).page(30, 5, MUCH)


def test_what_was_deleted_is_said_and_never_passed_over(tmp_path: Path) -> None:
    reader = ArchiveReader(make(tmp_path, (10, 12), (20, 30)))
    with pytest.raises(NotArchived, match="record 1 is"):
        reader.page(0, 5, MUCH)
    with pytest.raises(NotArchived, match="record 9 is"):
        reader.page(9, 5, MUCH)
    assert reader.page(10, 30, MUCH).records == rows(MADE[10:12])
    with pytest.raises(NotArchived, match="record 13 is"):
        reader.page(12, 30, MUCH)
    assert reader.page(20, 30, MUCH).records == rows(MADE[20:])
