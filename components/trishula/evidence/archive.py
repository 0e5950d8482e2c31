"""An archive: a folder with the segments of one journal, each joining on to the one before.

The name of a segment tells its first and its last record, so that the one that holds a record is found without reading
any. Whether the names are true, and whether the segments join on to each other, is for :meth:`Archive.check` to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from trishula.evidence.checking import check_file
from trishula.evidence.findings import Checked, Finding
from trishula.evidence.lines import Foot, Head, RecordLine, read_line
from trishula.evidence.unpacking import Unpacker
from trishula.evidence.writing import CHECKPOINT_EVERY, LEFTOVER, SegmentWriter, new_segment
from trishula.named_files import open_file

__all__ = [
    "Archive",
    "Segment",
    "SegmentDamaged",
    "join_of",
    "name_faults",
    "read_records",
    "segment_name",
    "segment_of",
]

_NAME = re.compile(r"(\d{16})-(\d{16})\.jsonl\.gz\Z")


class SegmentDamaged(Exception):
    """A segment can't be read to its end; the text says which, and why."""


class Segment(msgspec.Struct, frozen=True, order=True):
    """A file of an archive.

    Attributes:
        first, last: the sequences of its first and its last record, as its name says.
        path: the file.
    """

    first: int
    last: int
    path: Path


def segment_name(first: int, last: int) -> str:
    """How a segment is called: names sort as records do."""
    return f"{first:016d}-{last:016d}.jsonl.gz"


def segment_of(path: Path) -> Segment:
    """A file as a segment; one that is called otherwise, such as an export, has -1 for both sequences."""
    name = _NAME.match(path.name)
    return Segment(-1, -1, path) if name is None else Segment(int(name[1]), int(name[2]), path)


class Archive:
    """The segments of one journal.

    Args:
        folder: where they are; it need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def segments(self) -> list[Segment]:
        """All of them, by their first record; other files are passed over."""
        if not self.folder.is_dir():
            return []
        return sorted(segment_of(path) for path in self.folder.iterdir() if _NAME.match(path.name))

    def holding(self, sequence: int) -> Segment | None:
        """The segment that holds a record; ``None`` if none does."""
        return next((one for one in self.segments() if one.first <= sequence <= one.last), None)

    def read(self, after: int = 0) -> Iterator[RecordLine]:
        """The records behind a sequence, out of all segments, without a check of them.

        Raises:
            SegmentDamaged: one can't be read to its end.
        """
        for segment in self.segments():
            if segment.last > after:
                yield from (line for line in read_records(segment.path) if line.sequence > after)

    def new(
        self, head: Head, sign: Callable[[bytes], str] | None = None, every: int = CHECKPOINT_EVERY
    ) -> AbstractContextManager[SegmentWriter]:
        """Write a segment; see :func:`.writing.new_segment`. The folder is made if it isn't there."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

        def name(foot: Foot) -> str:
            return segment_name(head.first, foot.last)

        return new_segment(self.folder, name, head, sign, every)

    def remove_leftovers(self) -> list[Path]:
        """Remove what a crash left of segments that were being written; for when nobody writes."""
        left = list(self.folder.glob(f".*{LEFTOVER}")) if self.folder.is_dir() else []
        for path in left:
            path.unlink(missing_ok=True)
        return left

    def check(
        self, public_keys: Collection[str] = (), progress: Callable[[float], None] = lambda _: None
    ) -> Iterator[tuple[Segment, Checked]]:
        """Check segment by segment, and how each joins on to the one before; see :func:`.checking.check_file`."""
        before: Checked | None = None
        segments = self.segments()
        for number, segment in enumerate(segments):

            def tell(part: float, number: int = number) -> None:
                progress((number + part) / len(segments))

            checked = check_file(segment.path, public_keys, tell)
            checked = checked.and_of([*join_of(before, checked), *name_faults(segment, checked)])
            yield segment, checked
            before = checked


def join_of(before: Checked | None, after: Checked) -> list[Finding]:
    """What is wrong where two segments of a journal meet.

    Args:
        before: the segment before; ``None`` if there is none.
        after: the segment behind it.
    """
    if before is None or before.head is None or after.head is None:
        return []
    head, other = after.head, before.head
    # A store that was restored from a backup goes on with the same chain, under another epoch.
    is_same_chain = head.origin == other.origin and bytes.fromhex(head.previous) == before.digest
    if (head.origin, head.epoch) != (other.origin, other.epoch) and not is_same_chain:
        said = f"it is of the journal of {head.origin} ({head.epoch}), and the one before of {other.origin}"
        return [Finding("gap", f"{said} ({other.epoch})")]
    last = before.end
    if head.first > last + 1:
        return [Finding("gap", f"records {last + 1} to {head.first - 1} are in no segment")]
    if head.first <= last:
        return [Finding("gap", f"records {head.first} to {last} are in the segment before, too")]
    if bytes.fromhex(head.previous) != before.digest:
        return [Finding("gap", f"it doesn't go on where the one before ends: record {last} has another digest there")]
    return []


def name_faults(segment: Segment, checked: Checked) -> list[Finding]:
    """What is wrong with the name of a segment."""
    if checked.head is None or segment.first < 0 or (segment.first, segment.last) == (checked.head.first, checked.end):
        return []
    told = f"{checked.head.first} to {checked.end}"
    return [Finding("foot", f"its name says records {segment.first} to {segment.last}, and it holds {told}")]


def read_records(path: Path) -> Iterator[RecordLine]:
    """The records of a segment, without a check.

    Raises:
        SegmentDamaged: it can't be read to its end.
    """
    with open_file(path) as file:
        unpacker = Unpacker(file)
        for raws in unpacker.lines():
            for raw in raws:
                line = read_line(raw)
                if line is None:
                    raise SegmentDamaged(f"{path} is damaged: it has a line that no node writes")
                if isinstance(line, RecordLine):
                    yield line
        if unpacker.fault is not None:
            raise SegmentDamaged(f"{path} is damaged: {unpacker.fault[1]}")
