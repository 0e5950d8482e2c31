"""The archive's files, for the archiver: each method blocks, and belongs into a thread.

The segments of a store are in ``archive/EPOCH`` of the state directory. Each epoch has a folder of its own: a store
that was restored from a backup gives out sequences again, for other records.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from trishula.evidence.archive import Archive, Segment
from trishula.evidence.checking import check_file
from trishula.evidence.lines import Head
from trishula.evidence.signing import SigningKey
from trishula.evidence.writing import SegmentWriter
from trishula.named_files import open_file
from trishula_router.archiving.segment_index import IndexBuilder, index_path
from trishula_router.store.bases import Base
from trishula_router.store.facts import ArchivedFacts
from trishula_router.store.journal import Record

__all__ = ["FOLDER", "Contents", "SegmentUnusable", "Segments"]

#: Within the state directory.
FOLDER = "archive"
#: How the name of a segment ends that is not of this journal, so that it is none of its archive.
_UNUSED = ".unused"


class SegmentUnusable(Exception):
    """A segment can't be relied on; the text is the sentence for the operator."""


class _GivenUp(Exception):
    """What a segment is left with that is not to be kept."""


class Contents(msgspec.Struct, frozen=True):
    """What an archive has.

    Attributes:
        segments: how many.
        size_bytes: how large they are together.
        first, last: the first and the last record that one has; 0 if there is none.
    """

    segments: int
    size_bytes: int
    first: int
    last: int


class Segments:
    """The segments of one store.

    Args:
        state_dir: the node's.
        node: its name.
        epoch: of the store.

    Attributes:
        key: signs what is written; without one nothing is signed.
    """

    def __init__(self, state_dir: Path, node: str, epoch: str) -> None:
        self.archive = Archive(state_dir / FOLDER / epoch)
        self.key: SigningKey | None = None
        self._state_dir = state_dir
        self._node = node
        self._epoch = epoch
        self._open = contextlib.ExitStack()
        self._writer: SegmentWriter | None = None
        self._index: IndexBuilder | None = None

    def name_of(self, sequence: int) -> str | None:
        """The segment that has a record, as a path within the state directory; ``None`` if none has it."""
        found = self.archive.holding(sequence)
        return None if found is None else str(found.path.relative_to(self._state_dir))

    def contents(self) -> Contents:
        """What there is."""
        found = self.archive.segments()
        size_bytes = sum(segment.path.stat().st_size for segment in found)
        return Contents(len(found), size_bytes, found[0].first if found else 0, found[-1].last if found else 0)

    # -- writing one ---------------------------------------------------------------------------------------------------

    def begin(self, base: Base, now: int) -> None:
        """Begin the segment that follows a base; what a former one left that didn't come to its end is gone."""
        self.give_up()
        self.archive.remove_leftovers()
        head = Head(
            kind="archive",
            node=self._node,
            origin=self._node,
            epoch=self._epoch,
            first=base.sequence + 1,
            previous=base.digest.hex(),
            made_at=now,
            key="" if self.key is None else self.key.public,
        )
        self._writer = self._open.enter_context(self.archive.new(head, None if self.key is None else self.key.sign))
        self._index = IndexBuilder(head.first)

    def add(self, records: Sequence[Record]) -> None:
        """Write the next records.

        Raises:
            ChainBroken: one of them doesn't continue the chain.
        """
        assert self._writer is not None and self._index is not None, "begin first"
        for record in records:
            self._writer.add(record.position, record.at, record.kind, record.facts, record.digest)
            self._index.add(record.kind, record.facts)

    def finish(self) -> ArchivedFacts:
        """Put the segment in its place, on disk, read it back, and tell what it has.

        Raises:
            SegmentUnusable: what was read is not what was written.
        """
        assert self._writer is not None, "begin first"
        last = self._writer.sequence
        self._writer = None
        self._open.close()
        segment = self.archive.holding(last)
        if segment is None:
            raise SegmentUnusable(f"the segment that ends with record {last} is not in {self.archive.folder}")
        facts = self.facts_of(segment)
        if self._index is not None:
            # Whoever seeks a message makes one that is missing.
            with contextlib.suppress(OSError):
                self._index.save(segment.path)
        return facts

    def give_up(self) -> None:
        """Let go of a segment that didn't come to its end."""
        stack, self._open, self._writer = self._open, contextlib.ExitStack(), None
        with contextlib.suppress(_GivenUp), stack:
            raise _GivenUp

    # -- those that are there ------------------------------------------------------------------------------------------

    def facts_of(self, segment: Segment) -> ArchivedFacts:
        """What a segment has, after a check of all of it.

        Raises:
            SegmentUnusable: it is not as it was written.
        """
        checked = check_file(segment.path, () if self.key is None else (self.key.public,))
        if not checked.ok or checked.head is None:
            why = checked.findings[0].sentence if checked.findings else "it can't be read"
            raise SegmentUnusable(f"the archive segment {segment.path} is not as it was written: {why}")
        if (checked.head.origin, checked.head.epoch) != (self._node, self._epoch):
            raise SegmentUnusable(f"the archive segment {segment.path} is of another journal")
        with open_file(segment.path) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        first, last = checked.head.first, checked.end
        return ArchivedFacts(
            first, last, checked.head.previous, checked.digest.hex(), checked.records, segment.path.name, sha256
        )

    def behind(self, sequence: int) -> list[Segment]:
        """Those that end behind a record, the first one first."""
        return [segment for segment in self.archive.segments() if segment.last > sequence]

    def set_aside(self, segment: Segment) -> str:
        """Take a segment that is not of this journal out of its archive; the name that it has then."""
        aside = segment.path.with_name(segment.path.name + _UNUSED)
        segment.path.replace(aside)
        index_path(segment.path).unlink(missing_ok=True)
        return str(aside)

    def delete_old(self, until: int, before: int) -> list[str]:
        """Delete segments.

        Args:
            until: of those alone that end with this record, or before.
            before: that were made before this instant (ms).

        Returns:
            their names.
        """
        gone = []
        for segment in self.archive.segments():
            if segment.last <= until and segment.path.stat().st_mtime_ns // 1_000_000 < before:
                segment.path.unlink(missing_ok=True)
                index_path(segment.path).unlink(missing_ok=True)
                gone.append(segment.path.name)
        return gone
