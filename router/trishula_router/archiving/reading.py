"""Pages of archived records, for who goes through a journal from where its archive begins; belongs into a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import chain, islice
from typing import NamedTuple

from trishula.evidence.archive import Archive
from trishula.evidence.chain import GENESIS
from trishula.evidence.lines import RecordLine

__all__ = ["ArchiveReader", "NotArchived", "Page"]

#: One record: (at, kind, facts, digest), as :attr:`.Extract.records` has them.
Row = tuple[int, str, bytes, bytes]


class NotArchived(Exception):
    """No segment has the record that was asked for; the text is a sentence."""


class Page(NamedTuple):
    """Records that follow each other.

    Attributes:
        previous: the digest before the first one.
        records: those behind the sequence that was asked for.
    """

    previous: bytes
    records: list[Row]


class ArchiveReader:
    """Reads an archive page by page.

    Segments can only be read from their begin, so the reader stays open where the last page ended: whoever goes through
    a journal asks for the next one. One who asks for another place has it opened anew. Threads take turns.

    Args:
        archive: the segments.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._after = -1
        self._previous = GENESIS
        self._lines: Iterator[RecordLine] = iter(())
        self._lock = threading.Lock()

    def page(self, after: int, limit: int, limit_bytes: int) -> Page:
        """The records behind a sequence, at least one.

        Args:
            after: the sequence; 0 for the first page.
            limit: at most so many records.
            limit_bytes: no further record once their facts are so large.

        Raises:
            NotArchived: the record behind ``after`` is in no segment.
            SegmentDamaged: a segment can't be read.
        """
        with self._lock:
            return self._page(after, limit, limit_bytes)

    def _page(self, after: int, limit: int, limit_bytes: int) -> Page:
        if self._after != after:
            self._open(after)
        previous, size_bytes = self._previous, 0
        rows: list[Row] = []
        self._after = -1  # until the page is complete
        for line in islice(self._lines, limit):
            if line.sequence != after + len(rows) + 1:
                self._lines = chain([line], self._lines)
                break
            facts = line.facts.encode()
            rows.append((line.at, line.kind, facts, bytes.fromhex(line.digest)))
            size_bytes += len(facts)
            if size_bytes >= limit_bytes:
                break
        if not rows:
            raise NotArchived(f"record {after + 1} is in no segment of the archive {self._archive.folder}")
        self._after, self._previous = after + len(rows), rows[-1][3]
        return Page(previous, rows)

    def _open(self, after: int) -> None:
        self._previous = GENESIS
        self._lines = self._archive.read(max(after - 1, 0))
        if after:
            before = next(self._lines, None)
            if before is None or before.sequence != after:
                raise NotArchived(f"record {after} is in no segment of the archive {self._archive.folder}")
            self._previous = bytes.fromhex(before.digest)
