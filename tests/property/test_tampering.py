"""Whatever is done to a segment by somebody without the key is found, and what was done is named.

A segment of random length, with or without bodies, is changed in one of six ways, and packed anew so that all but the
signatures fits; or one bit of the file is flipped, or its end cut off. What is not touched is found whole.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.segments import KEY, edited, lines_of, pack, write
from trishula.evidence.checking import check_file
from trishula.evidence.findings import Checked


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


counts = st.integers(4, 40)
everies = st.integers(1, 12)


def check(path: Path) -> Checked:
    return check_file(path, [KEY.public])


def places_of_records(lines: list[bytes]) -> list[int]:
    return [place for place, line in enumerate(lines) if line.startswith(b'{"line":"record"')]


def proven(checked: Checked) -> set[int]:
    return {sequence for first, last in checked.proven for sequence in range(first, last + 1)}


SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@SETTINGS
@given(count=st.integers(0, 40), every=everies, bodies=st.booleans())
def test_no_false_alarm(folder: Path, count: int, every: int, bodies: bool) -> None:
    checked = check(write(folder / "sound", count, every=every, bodies=bodies))
    assert (checked.ok, checked.findings) == (True, ())
    assert proven(checked) == set(range(1, count + 1))


@SETTINGS
@given(count=counts, every=everies, data=st.data())
def test_a_flipped_bit(folder: Path, count: int, every: int, data: st.DataObject) -> None:
    path = write(folder / "flipped", count, every=every)
    raw = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    path.write_bytes(raw)
    assert not check(path).ok


@SETTINGS
@given(count=counts, every=everies, data=st.data())
def test_an_end_cut_off(folder: Path, count: int, every: int, data: st.DataObject) -> None:
    path = write(folder / "cut", count, every=every)
    raw = path.read_bytes()
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw) - 1))])
    checked = check(path)
    assert {finding.what for finding in checked.findings} <= {"truncated", "empty", "foreign"}
    # What is proven is what is signed in what is left.
    assert proven(checked) == set(range(1, (checked.proven_to or 0) + 1))


@SETTINGS
@given(count=counts, every=everies, bodies=st.booleans(), data=st.data())
def test_a_deleted_record(folder: Path, count: int, every: int, bodies: bool, data: st.DataObject) -> None:
    path = write(folder / "deleted", count, every=every, bodies=bodies)
    lines = lines_of(path)
    sequence = data.draw(st.integers(1, count))
    del lines[places_of_records(lines)[sequence - 1]]
    pack(path, lines)
    checked = check(path)
    assert (f"record {sequence} is missing", sequence) in [(one.sentence, one.sequence) for one in checked.findings]
    assert sequence not in proven(checked)


@SETTINGS
@given(count=counts, every=everies, data=st.data())
def test_two_swapped(folder: Path, count: int, every: int, data: st.DataObject) -> None:
    path = write(folder / "swapped", count, every=every)
    lines = lines_of(path)
    one, other = sorted(data.draw(st.lists(st.integers(1, count), min_size=2, max_size=2, unique=True)))
    places = places_of_records(lines)
    first, second = places[one - 1], places[other - 1]
    lines[first], lines[second] = lines[second], lines[first]
    pack(path, lines)
    checked = check(path)
    named = {finding.sequence for finding in checked.findings if finding.what in ("swapped", "missing", "inserted")}
    assert one in named
    assert not {one, other} & proven(checked)


@SETTINGS
@given(count=counts, every=everies, data=st.data())
def test_one_inserted(folder: Path, count: int, every: int, data: st.DataObject) -> None:
    path = write(folder / "inserted", count, every=every)
    lines = lines_of(path)
    places = places_of_records(lines)
    copied, before = data.draw(st.integers(1, count)), data.draw(st.integers(1, count))
    number = data.draw(st.integers(1, 2 * count))
    lines.insert(places[before - 1], edited(lines[places[copied - 1]], sequence=number))
    pack(path, lines)
    checked = check(path)
    assert not checked.ok
    assert {finding.what for finding in checked.findings} & {"inserted", "swapped", "changed", "missing"}


@SETTINGS
@given(count=counts, every=everies, data=st.data())
def test_a_changed_record(folder: Path, count: int, every: int, data: st.DataObject) -> None:
    path = write(folder / "changed", count, every=every)
    lines = lines_of(path)
    sequence = data.draw(st.integers(1, count))
    place = places_of_records(lines)[sequence - 1]
    changes: dict[str, object] = data.draw(
        st.sampled_from([{"at": 1}, {"facts": "{}"}, {"kind": "joined"}, {"digest": "0" * 64}])
    )
    lines[place] = edited(lines[place], **changes)
    pack(path, lines)
    checked = check(path)
    assert ("changed", sequence) in [(one.what, one.sequence) for one in checked.findings]
    assert sequence not in proven(checked)
