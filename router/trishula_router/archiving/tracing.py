"""What an archive tells of the messages of one id: one segment a call, and those alone that may tell of them.

Only the accepted record of a message has its id; all others list it by its position. So who seeks goes from the oldest
segment on, with the positions that were found by then. Segments whose index (see :mod:`.segment_index`) has neither are
passed over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from typing import Any, NamedTuple

import msgspec

from trishula.evidence.archive import Archive, Segment, SegmentDamaged
from trishula.evidence.lines import RecordLine, read_line
from trishula_router.archiving.segment_index import IndexBuilder, SegmentIndex, positions_listed
from trishula_router.archiving.segment_lines import no_segment, raw_lines, why_unread
from trishula_router.archiving.walking import Message
from trishula_router.store.journal import Kind

__all__ = ["MessageTraces", "Traces"]

#: Indexes looked at for one answer: a tenth of a second for a thread, as a segment is.
_MOST_INDEXES = 200


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


class MessageTraces:
    """Seeks messages.

    Args:
        archive: the segments.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def of(self, message_id: str, known: Collection[int], after: int, end: int) -> Traces:
        """What the first segment behind ``after`` that has something of an id tells of its messages.

        Segments whose index says that they have nothing are passed over: damages of those are for
        ``trishula journal verify`` to find.

        Args:
            message_id: the id.
            known: the positions of those that were found before.
            after: a sequence.
            end: as that of a piece.
        """
        faults: list[str] = []
        place, looked = after, 0
        for segment in self._archive.segments():
            if segment.last <= place or segment.first > end:
                continue
            if looked == _MOST_INDEXES:
                return Traces({}, [], place, faults)
            if segment.first > place + 1:
                faults.append(no_segment(self._archive, place + 1, segment.first - 1))
            place, looked = min(end, segment.last), looked + 1
            index = SegmentIndex.load(segment.path)
            if index is None:
                # Of a release before. Its making is a reading, so that this call goes no further.
                index, looked = _make_index(segment), _MOST_INDEXES
            if index is None or index.may_tell(message_id, known):
                return self._traces_in(segment, message_id, known, end, faults)
        if place < end:
            faults.append(no_segment(self._archive, place + 1, end))
        return Traces({}, [], end, faults)

    def _traces_in(
        self, segment: Segment, message_id: str, known: Collection[int], end: int, faults: list[str]
    ) -> Traces:
        traces = Traces({}, [], min(end, segment.last), faults)
        # As text first: of a hundred million records nearly all are of other messages.
        needles = [message_id.encode(), *(str(position).encode() for position in known)]
        positions = set(known)
        try:
            for raw in raw_lines(segment.path):
                if not any(needle in raw for needle in needles):
                    continue
                line = read_line(raw)
                if not isinstance(line, RecordLine) or line.sequence > end:
                    continue
                if line.kind == Kind.ACCEPTED:
                    if _decoded(line.facts).get("id") == message_id:
                        traces.accepted[line.sequence] = Message(line.at, line.facts, None)
                        traces.records.append((line, {line.sequence}))
                        positions.add(line.sequence)
                        needles.append(str(line.sequence).encode())
                elif listed := positions.intersection(positions_listed(line.facts)):
                    traces.records.append((line, listed))
        except (SegmentDamaged, OSError) as error:
            traces.faults.append(f"{why_unread(segment, error)}; what is behind that in it is left out")
        return traces


def _make_index(segment: Segment) -> SegmentIndex | None:
    """The index of a segment, made out of that; ``None`` if it can't be read."""
    builder = IndexBuilder(segment.first)
    try:
        builder.add_lines(raw_lines(segment.path))
    except (SegmentDamaged, OSError):
        return None
    with contextlib.suppress(OSError):
        builder.save(segment.path)
    return builder.built()


def _decoded(facts: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(facts)
    except msgspec.MsgspecError:
        return {}
    return found if isinstance(found, dict) else {}
