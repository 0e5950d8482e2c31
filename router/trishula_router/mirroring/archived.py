"""The archived part of a journal, for a mirror: what follows a record, or how far nothing does. It blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from trishula.evidence.archive import Archive, SegmentDamaged
from trishula.evidence.lines import RecordLine

__all__ = ["ArchiveWalk", "Walked"]

_NOWHERE = "no segment of the archive has them"


class Walked(NamedTuple):
    """What is behind a record.

    Attributes:
        lines: the records that follow, each the one before.
        gap_until: if none follows, up to which sequence there is none; else 0.
        why: there is none.
    """

    lines: list[RecordLine]
    gap_until: int = 0
    why: str = ""


class ArchiveWalk:
    """Goes through an archive, page by page; a segment stays open where a page ended.

    Args:
        archive: the segments.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._lines: Iterator[RecordLine] = iter(())
        self._next: RecordLine | None = None
        self._after = -1

    def behind(self, after: int, base: int, limit: int, limit_bytes: int) -> Walked:
        """The records behind a sequence, or the gap there.

        Args:
            after: the sequence.
            base: the last one that is in no store any more.
            limit: at most so many records.
            limit_bytes: no further record once their facts are so large.
        """
        is_opened = self._after != after
        if is_opened:
            self._open(after)
        lines: list[RecordLine] = []
        try:
            self._take(lines, after, limit, limit_bytes)
            if not lines and self._next is None and not is_opened:
                # A segment may be new since it was opened.
                self._open(after)
                self._take(lines, after, limit, limit_bytes)
        except (SegmentDamaged, OSError, ValueError) as error:
            self._after = -1
            if lines:
                return Walked(lines)
            return Walked([], min(base, self._end_of_damage(after + 1)), str(error))
        if lines:
            self._after = after + len(lines)
            return Walked(lines)
        until = base if self._next is None else min(base, self._next.sequence - 1)
        self._after = until if self._next is not None else -1
        return Walked([], until, _NOWHERE)

    def _open(self, after: int) -> None:
        self._after, self._next = after, None
        self._lines = self._archive.read(after)

    def _take(self, lines: list[RecordLine], after: int, limit: int, limit_bytes: int) -> None:
        size_bytes = 0
        while len(lines) < limit and size_bytes < limit_bytes:
            line = self._next or next(self._lines, None)
            self._next = None
            if line is None:
                return
            if line.sequence != after + len(lines) + 1:
                self._next = line
                return
            lines.append(line)
            size_bytes += len(line.facts)

    def _end_of_damage(self, first: int) -> int:
        """Up to where the segment goes in which a record should be."""
        return next((one.last for one in self._archive.segments() if one.last >= first), first)
