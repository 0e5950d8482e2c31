"""The index of a segment says no of no message that is there, and counts as none when it can't be relied on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trishula_router.archiving.segment_index import IndexBuilder, SegmentIndex, index_path, positions_listed

FIRST = 100


def built(*records: tuple[str, bytes]) -> IndexBuilder:
    builder = IndexBuilder(FIRST)
    for record in records:
        builder.add(*record)
    return builder


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    path = tmp_path / "segment"
    path.write_bytes(b"of some size")
    return path


@given(st.sets(st.text(max_size=40), max_size=300), st.text(max_size=40))
def test_each_id_is_found(ids: set[str], other: str) -> None:
    index = built(*(("accepted", msgspec.json.encode({"id": one, "to": "agni"})) for one in ids)).built()
    assert all(index.may_tell(one, ()) for one in ids)
    assert other in ids or not index.may_tell(other, ()), "one in ten million may fail by chance"


def test_positions_before_the_segment_are_found() -> None:
    index = built(("done", b'{"messages":[7,[8,1],103]}'), ("delivered", b'{"to":"agni","messages":[[9,2]]}')).built()
    assert [at for at in (6, 7, 8, 9, 10, 103) if index.may_tell("x", [at])] == [7, 8, 9]
    assert index.may_tell("x", [1, 2, 9])


@pytest.mark.parametrize("facts", [b"", b"[]", b'{"messages":5}', b'{"messages":[[]]}', b'{"id":5}', b"{", b"{}"])
def test_facts_that_no_node_writes_list_nothing(facts: bytes) -> None:
    assert list(positions_listed(facts)) == []
    assert not built(("done", facts), ("accepted", facts)).built().may_tell("x", [0])


def test_it_is_kept(segment: Path) -> None:
    built(("accepted", b'{"id":"a"}')).save(segment)
    index = SegmentIndex.load(segment)
    assert index is not None
    assert (index.may_tell("a", ()), index.may_tell("b", ())) == (True, False)
    assert sorted(path.name for path in segment.parent.iterdir()) == ["segment", "segment.index"]


@pytest.mark.parametrize(
    "fault",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"more"),
        lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]),
        lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"),
        lambda path: path.with_name("segment").write_bytes(b"of another size"),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["missing", "empty", "short", "long", "other file", "one byte", "other segment", "folder"],
)
def test_one_that_cant_be_relied_on_counts_as_none(segment: Path, fault: Callable[[Path], object]) -> None:
    built(("accepted", b'{"id":"a"}')).save(segment)
    fault(index_path(segment))
    assert SegmentIndex.load(segment) is None
