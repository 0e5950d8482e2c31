"""Records of an archive for who seeks some of them, a bounded piece at a time; belongs into a thread.

A segment can be read from its begin alone, so whoever goes on behind a record would read what is before it again. So
the last readers stay open where they ended, some few of them, for as many who ask at once. Whole segments are passed
over by what their last line says of their time.

What can't be read is told and passed over: segments that are missing, and what is behind a damage. A record is told
once, also where two files have it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import msgspec

from trishula.evidence.archive import Archive, Segment, SegmentDamaged
from trishula.evidence.lines import RecordLine
from trishula.evidence.unpacking import read_foot
from trishula.named_files import open_file
from trishula_router.archiving.segment_lines import chained, no_segment, why_unread
from trishula_router.store.journal import Kind

__all__ = ["ArchiveWalk", "Message", "Piece"]

#: Records looked at for one answer: a tenth of a second for a thread.
_LOOK_RECORDS = 20_000
#: How many readers stay open, each with a file.
_READERS = 4
#: Tables of messages kept, each of one segment: some 10 MB each where every record accepts a message.
_TABLES = 3
#: By how much records may stand behind ones with a later instant; see ``LATE_MS`` of the store.
_LATE_MS = 10_000

_LISTED = (Kind.DELIVERED, Kind.SURFACED)


class Piece(NamedTuple):
    """What one call read.

    Attributes:
        records: those that fit, the oldest first.
        after: the record up to which all was looked at.
        looked: how many records were.
        faults: what could not be read, a sentence each.
    """

    records: list[RecordLine]
    after: int
    looked: int
    faults: list[str]


class Message(NamedTuple):
    """A message, as its segment tells of it: its ``accepted`` record, and to whom that says it was delivered last.

    A message that waited until a later segment has no holder here: then its records are found by sender and recipient.
    """

    at: int
    facts: str
    holder: str | None


class _Fault(NamedTuple):
    sentence: str
    after: int


#: Of whom a reader stays open: the place, and what it passes over.
_Place = tuple[int, int, int | None, int | None]


class ArchiveWalk:
    """Reads records, piece by piece. Threads take turns.

    Args:
        archive: the segments.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._readers: OrderedDict[_Place, Iterator[RecordLine | _Fault]] = OrderedDict()
        self._tables: OrderedDict[Segment, dict[int, Message]] = OrderedDict()
        self._lock = threading.Lock()

    def piece(
        self,
        after: int,
        end: int,
        limit: int,
        kinds: Collection[str] = (),
        since: int | None = None,
        until: int | None = None,
    ) -> Piece:
        """Records behind ``after``, up to ``end``.

        Args:
            after: a sequence.
            end: a sequence; there is a segment with each record up to this one, or it is missing.
            limit: at most so many records.
            kinds: of these alone; of all if there are none.
            since, until: not before, and before these instants (ms).
        """
        with self._lock:
            reader = self._readers.pop((after, end, since, until), None) or self._read(after, end, since, until)
            records: list[RecordLine] = []
            faults: list[str] = []
            looked = 0
            for one in reader:
                after = one.after if isinstance(one, _Fault) else one.sequence
                if isinstance(one, _Fault):
                    if one.sentence:
                        faults.append(one.sentence)
                    continue
                looked += 1
                if (
                    (not kinds or one.kind in kinds)
                    and (since is None or one.at >= since)
                    and (until is None or one.at < until)
                ):
                    records.append(one)
                if len(records) >= limit or looked >= _LOOK_RECORDS:
                    self._readers[(after, end, since, until)] = reader
                    break
            else:
                after = end
            while len(self._readers) > _READERS:
                self._readers.popitem(last=False)
            return Piece(records, after, looked, faults)

    def _read(self, after: int, end: int, since: int | None, until: int | None) -> Iterator[RecordLine | _Fault]:
        place = after
        for segment in self._archive.segments():
            if segment.last <= place or segment.first > end:
                continue
            if segment.first > place + 1:
                yield self._gap(place + 1, segment.first - 1)
                place = segment.first - 1
            if not _may_have(segment, since, until):
                place = min(end, segment.last)
                yield _Fault("", place)
                continue
            try:
                for line in chained(segment.path, place):
                    if place < line.sequence <= end:
                        place = line.sequence
                        yield line
            except (SegmentDamaged, OSError) as error:
                why = why_unread(segment, error)
                last = min(end, segment.last)
                if place < last:
                    yield _Fault(f"{why}; its records {place + 1} to {last} are left out", last)
                else:
                    yield _Fault(why, place)
                place = max(place, last)
        if place < end:
            yield self._gap(place + 1, end)

    def _gap(self, first: int, last: int) -> _Fault:
        return _Fault(no_segment(self._archive, first, last), last)

    # -- messages ------------------------------------------------------------------------------------------------------

    def segments_of(self, positions: Iterable[int]) -> set[Segment]:
        """The segments that have these records."""
        wanted = sorted(positions)
        found = set()
        for segment in self._archive.segments():
            if any(segment.first <= position <= segment.last for position in wanted):
                found.add(segment)
        return found

    def messages(self, positions: Iterable[int]) -> dict[int, Message]:
        """The messages that were accepted by these records; those that can't be read are left out.

        It costs a segment's reading for each that has some of them and was not read of late.
        """
        with self._lock:
            wanted = sorted(positions)
            found: dict[int, Message] = {}
            for segment in sorted(self.segments_of(wanted)):
                table = self._table(segment)
                found.update({one: table[one] for one in wanted if one in table})
            return found

    def forget(self) -> None:
        """Let go of what is kept for who goes on."""
        with self._lock:
            self._readers.clear()
            self._tables.clear()

    def _table(self, segment: Segment) -> dict[int, Message]:
        table = self._tables.pop(segment, None)
        if table is None:
            table = {}
            try:
                for line in chained(segment.path, segment.last):
                    if line.kind == Kind.ACCEPTED:
                        table[line.sequence] = Message(line.at, line.facts, None)
                    elif line.kind in _LISTED:
                        _note_holder(table, line.facts)
            except (SegmentDamaged, OSError):
                # Whoever reads the segment for its records is told.
                pass
        self._tables[segment] = table
        while len(self._tables) > _TABLES:
            self._tables.popitem(last=False)
        return table


class _Delivered(msgspec.Struct, gc=False):
    to: str | None = None
    messages: list[tuple[int, int]] = []


_read_delivered = msgspec.json.Decoder(_Delivered).decode


def _note_holder(table: dict[int, Message], facts: str) -> None:
    """Who got a message to a capability only its delivery tells."""
    try:
        told = _read_delivered(facts)
    except msgspec.MsgspecError:
        return
    for position, _ in told.messages:
        message = table.get(position)
        if message is not None and '"to":"capability:' in message.facts:
            table[position] = message._replace(holder=told.to)


def _may_have(segment: Segment, since: int | None, until: int | None) -> bool:
    """Whether a segment may have records of a time, by what its last line says."""
    if since is None and until is None:
        return True
    try:
        with open_file(segment.path) as file:
            found = read_foot(file)
    except OSError:
        return True
    if found is None or found[0].first_at is None or found[0].last_at is None:
        return True
    return (since is None or found[0].last_at >= since - _LATE_MS) and (
        until is None or found[0].first_at < until + _LATE_MS
    )
