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
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from trishula.evidence.archive import Archive, Segment, SegmentDamaged
from trishula.evidence.chain import ChainCheck
from trishula.evidence.lines import Head, RecordLine, read_line
from trishula.evidence.unpacking import Unpacker, read_foot
from trishula.named_files import open_file
from trishula_router.store.journal import Kind

__all__ = ["ArchiveWalk", "Message", "Piece", "Traces"]

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


class Traces(NamedTuple):
    """What a segment tells of the messages of one id.

    Attributes:
        accepted: those that it accepted, by position.
        records: the records that tell of those and of the ones that were known, with the positions of these.
        after: the record up to which all was looked at.
        faults: as those of a piece.
    """

    accepted: dict[int, Message]
    records: list[tuple[RecordLine, set[int]]]
    after: int
    faults: list[str]


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
                for line in _chained(segment.path, place):
                    if place < line.sequence <= end:
                        place = line.sequence
                        yield line
            except (SegmentDamaged, OSError) as error:
                why = _why(segment, error)
                last = min(end, segment.last)
                if place < last:
                    yield _Fault(f"{why}; its records {place + 1} to {last} are left out", last)
                else:
                    yield _Fault(why, place)
                place = max(place, last)
        if place < end:
            yield self._gap(place + 1, end)

    def _gap(self, first: int, last: int) -> _Fault:
        which = f"record {first} is" if first == last else f"records {first} to {last} are"
        return _Fault(
            f"{which} in no segment of the archive {self._archive.folder}: deleted, as retention.archive says, or "
            "missing",
            last,
        )

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

    def traces(self, message_id: str, known: Collection[int], after: int, end: int) -> Traces:
        """What the first segment behind ``after`` tells of messages of an id.

        Args:
            message_id: the id.
            known: the positions of those that were found before.
            after: a sequence.
            end: as that of a piece.
        """
        with self._lock:
            segment = next((one for one in self._archive.segments() if one.last > after), None)
            if segment is None or segment.first > end:
                return Traces({}, [], end, [self._gap(after + 1, end).sentence] if after < end else [])
            traces = Traces({}, [], min(end, segment.last), [])
            if segment.first > after + 1:
                traces.faults.append(self._gap(after + 1, segment.first - 1).sentence)
            # As text first: of a hundred million records nearly all are of other messages.
            needles = [message_id.encode(), *(str(position).encode() for position in known)]
            positions = set(known)
            try:
                for raw in _raw_lines(segment.path):
                    if not any(needle in raw for needle in needles):
                        continue
                    line = read_line(raw)
                    if not isinstance(line, RecordLine) or line.sequence > end:
                        continue
                    facts = _decoded(line.facts)
                    if line.kind == Kind.ACCEPTED:
                        if facts.get("id") == message_id:
                            traces.accepted[line.sequence] = Message(line.at, line.facts, None)
                            traces.records.append((line, {line.sequence}))
                            positions.add(line.sequence)
                            needles.append(str(line.sequence).encode())
                    elif listed := positions.intersection(_listed(facts)):
                        traces.records.append((line, listed))
            except (SegmentDamaged, OSError) as error:
                traces.faults.append(f"{_why(segment, error)}; what is behind that in it is left out")
            return traces

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
                for line in _chained(segment.path, segment.last):
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


def _why(segment: Segment, error: SegmentDamaged | OSError) -> str:
    return str(error) if isinstance(error, SegmentDamaged) else f"{segment.path} can't be read: {error.strerror}"


def _chained(path: Path, after: int) -> Iterator[RecordLine]:
    """The records of a segment, as long as each behind ``after`` follows from the one before.

    Raises:
        SegmentDamaged: one doesn't, or the file can't be read to its end.
        OSError: it can't be opened.
    """
    chain: ChainCheck | None = None
    for raw in _raw_lines(path):
        line = read_line(raw)
        if isinstance(line, Head):
            chain = ChainCheck(bytes.fromhex(line.previous), line.first - 1)
        elif isinstance(line, RecordLine):
            digest = bytes.fromhex(line.digest)
            if chain is None or line.sequence <= after:
                # What is before was checked when it was told.
                chain = ChainCheck(digest, line.sequence)
            elif (what := chain.follow(line.sequence, line.at, line.kind, line.facts.encode(), digest)) is not None:
                raise SegmentDamaged(f"{path} is damaged: {what}")
            yield line
        elif line is None:
            raise SegmentDamaged(f"{path} is damaged: it has a line that no node writes")


def _raw_lines(path: Path) -> Iterator[bytes]:
    """The lines of a segment.

    Raises:
        SegmentDamaged: it can't be read to its end.
        OSError: it can't be opened.
    """
    with open_file(path) as file:
        unpacker = Unpacker(file)
        for raws in unpacker.lines():
            yield from raws
        if unpacker.fault is not None:
            raise SegmentDamaged(f"{path} is damaged: {unpacker.fault[1]}")


def _decoded(facts: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(facts)
    except msgspec.MsgspecError:
        return {}
    return found if isinstance(found, dict) else {}


def _listed(facts: dict[str, Any]) -> Iterator[int]:
    # That a body was deleted in its time is no event of a message's life.
    for one in facts.get("messages", ()):
        yield one[0] if isinstance(one, list) else one


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
