"""A question about records that a node has in its archive alone finds what it found while they were in the store."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from tests.contract.test_zones import QUESTIONS, live
from tests.support.subjects import InSqlite, append, draft
from trishula.evidence.archive import Archive
from trishula_router.archiving import archiver, segment_lines, tracing, walking
from trishula_router.archiving.archiver import Archiver
from trishula_router.archiving.segments import Segments
from trishula_router.archiving.walking import ArchiveWalk
from trishula_router.mail import archive_search
from trishula_router.mail.archive_search import ArchiveSearch
from trishula_router.mail.journal_search import JournalSearch
from trishula_router.mail.told_records import ToldRecords
from trishula_router.peers.journal_policy import Replication
from trishula_router.settings.options import RetentionPolicy
from trishula_router.store.messages import State
from trishula_router.verbs.audit_options import QueryOptions

#: So late that the ids of settled messages are forgotten, and so early that none is.
LATE, EARLY = 10**13, 3 * 10**6


class Node:
    """A store and its archive."""

    def __init__(self, directory: Path) -> None:
        self.subject = InSqlite(directory, node="single")
        self.subject.store._writer._connection.execute("PRAGMA synchronous = OFF")
        self.segments = Segments(directory, "single", self.subject.store.epoch)
        self.archive: Archive = self.segments.archive
        self.walk = ArchiveWalk(self.archive)
        store = self.subject.store
        records = ToldRecords("single", store, lambda node: None)
        archived = ArchiveSearch(self.walk, _at_once, store, records)
        self.search = JournalSearch("single", store, records, list, archived)

    def cut(self, now: int, older_than_ms: int = 10_000) -> None:
        """Have all records archived that are so old."""
        policy, holders = RetentionPolicy(), Replication("", ())
        one = Archiver(
            self.subject.store, self.segments, policy, now=lambda: now, earlier=lambda instant: instant, holders=holders
        )
        done = True
        while done:
            done = self.subject.calls.wait(Deferred.fromCoroutine(one.archive(older_than_ms))).records > 0

    def told(self, **asked: Any) -> dict[str, Any]:
        options = QueryOptions(**asked)
        told: dict[str, Any] = self.subject.calls.wait(Deferred.fromCoroutine(self.search.query(options)))
        return told

    def answer(self, **asked: Any) -> tuple[list[dict[str, Any]], list[str]]:
        """All pages, and what the archive could not tell."""
        records: list[dict[str, Any]] = []
        faults: list[str] = []
        after, more = asked.pop("after", 0), True
        while more:
            told = self.told(**{"limit": 1000, **asked}, after=after)
            records += told["records"]
            faults += told.get("archive_faults", [])
            assert told["after"] > after or not told["more"], "it goes on"
            after, more = told["after"], told["more"]
        return records, faults


def _at_once(work: Callable[[], Any]) -> Deferred[Any]:
    return succeed(work())


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.subject.close()


def some(node: Node, monkeypatch: pytest.MonkeyPatch, count: int = 30) -> int:
    """So many messages that are done, in segments of 20 records; the last record that is in one."""
    monkeypatch.setattr(archiver, "SEGMENT_RECORDS", 20)
    for number in range(count):
        at = 1000 + number * 1000
        positions = append(node.subject, draft(f"m{number}"), at=at)[0].positions
        node.subject.calls.wait(node.subject.store.settle(positions, State.DONE, None, at))
    node.subject.do(lambda store: store.forget(0, 1000, before=10**9, dead_before=0, at=count * 1000 + 1000))
    node.cut(LATE)
    base = node.subject.store.base().sequence
    assert base >= 2 * count
    return base


def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The segments that are opened from now on."""
    read: list[Path] = []
    reader = segment_lines.raw_lines

    def noted(path: Path) -> Iterator[bytes]:
        read.append(path)
        return reader(path)

    for module in (segment_lines, tracing):
        monkeypatch.setattr(module, "raw_lines", noted)
    return read


@pytest.mark.parametrize("now", [EARLY, LATE], ids=["known", "forgotten"])
def test_no_question_misses_a_record_that_is_cut(node: Node, monkeypatch: pytest.MonkeyPatch, now: int) -> None:
    live(node.subject, None, 800, seed=3)
    questions = [one for one in QUESTIONS if one.get("outcome") in (None, "refused")]
    end = node.subject.store.high_water
    before = [node.answer(**one)[0] for one in questions]
    monkeypatch.setattr(archiver, "SEGMENT_RECORDS", 500)
    monkeypatch.setattr(walking, "_LOOK_RECORDS", 450)
    node.cut(now)
    base = node.subject.store.base().sequence
    assert len(node.archive.segments()) >= 4 and base > end * 0.9
    for question, was in zip(questions, before, strict=True):
        for limit in (7, 1000):
            found, faults = node.answer(**question, archive=True, limit=limit)
            assert [one for one in found if one["seq"] <= end] == was, question
            assert faults == []


def test_without_asking_for_it_no_archive_is_read(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    base = some(node, monkeypatch)
    monkeypatch.setattr(node.walk, "piece", None)
    told = node.told()
    assert told["archived_to"] == base
    assert all(one["seq"] > base for one in told["records"])
    # What is in the store alone is found without it too.
    assert "archived_to" not in node.told(archive=True, after=base)


def test_a_question_about_an_end_or_a_body_says_that_no_archive_was_searched(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = some(node, monkeypatch)
    for asked in ({"outcome": "done"}, {"subject": "x"}, {"procedure": "x"}):
        assert node.told(**asked, archive=True)["archived_to"] == base


def test_a_time_is_found_without_reading_other_segments(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    some(node, monkeypatch)
    monkeypatch.setattr(walking, "_LATE_MS", 0)
    read = opened(monkeypatch)
    found, _ = node.answer(since=12_000, until=14_000, kind="accepted", archive=True)
    assert [one["id"] for one in found] == ["m11", "m12"]
    assert len(set(read)) == 1


def test_a_call_looks_at_so_many_records_and_keeps_its_place(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    some(node, monkeypatch)
    monkeypatch.setattr(walking, "_LOOK_RECORDS", 5)
    monkeypatch.setattr(archive_search, "_LOOK_LIMIT", 10)
    told = node.told(id="nothing", archive=True)
    assert (told["records"], told["more"], told["after"], told["looked"]) == ([], True, 10, 10)
    read = opened(monkeypatch)
    assert node.told(id="nothing", archive=True, after=10)["after"] == 20
    assert read == [], "the segment is still open"


def test_a_missing_segment_is_named_and_the_rest_is_told(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    some(node, monkeypatch)
    first, second, *_ = node.archive.segments()
    second.path.unlink()
    found, faults = node.answer(kind="accepted", archive=True)
    gone = f"records {second.first} to {second.last} are in no segment of the archive {node.archive.folder}"
    assert len(faults) == 1 and faults[0].startswith(gone)
    assert [one["id"] for one in found][:11] == [f"m{number}" for number in (*range(10), 20)]
    first.path.unlink()
    assert node.answer(kind="accepted", archive=True)[1][0].startswith("records 1 to ")


@pytest.mark.parametrize("damage", ["short", "garbled", "no gzip", "unreadable facts"])
def test_a_damaged_segment_is_named_and_the_rest_is_told(
    node: Node, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    base = some(node, monkeypatch)
    _, second, *_ = node.archive.segments()
    whole = second.path.read_bytes()
    if damage == "short":
        second.path.write_bytes(whole[: len(whole) // 2])
    elif damage == "garbled":
        second.path.write_bytes(whole[:200] + bytes(60) + whole[260:])
    elif damage == "no gzip":
        second.path.write_bytes(b"no segment")
    else:
        packed = gzip.compress(gzip.decompress(whole).replace(b'"facts":"{', b'"facts":"{{', 1), mtime=0)
        second.path.write_bytes(whole[:10] + packed[10:])
    found, faults = node.answer(archive=True)
    assert len(faults) == 1 and str(second.path) in faults[0]
    sequences = [one["seq"] for one in found]
    assert sequences == sorted(set(sequences)), "in order, and none twice"
    assert set(range(1, base + 1)) - set(sequences) <= set(range(second.first, second.last + 1))


def test_a_segment_whose_records_another_has_too_doubles_nothing(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    base = some(node, monkeypatch)
    first, *_ = node.archive.segments()
    copy = first.path.with_name(first.path.name.replace(f"{first.first:016d}", f"{first.first + 1:016d}"))
    copy.write_bytes(first.path.read_bytes())
    found, _ = node.answer(archive=True)
    assert [one["seq"] for one in found][:base] == list(range(1, base + 1))
