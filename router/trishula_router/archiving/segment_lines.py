"""The lines of a segment, for who reads an archive; and what is said of what can't be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from trishula.evidence.archive import Archive, Segment, SegmentDamaged
from trishula.evidence.chain import ChainCheck
from trishula.evidence.lines import Head, RecordLine, read_line
from trishula.evidence.unpacking import Unpacker
from trishula.named_files import open_file

__all__ = ["chained", "no_segment", "raw_lines", "why_unread"]


def no_segment(archive: Archive, first: int, last: int) -> str:
    """What is said of records that no segment of an archive has."""
    which = f"record {first} is" if first == last else f"records {first} to {last} are"
    return f"{which} in no segment of the archive {archive.folder}: deleted, as retention.archive says, or missing"


def why_unread(segment: Segment, error: SegmentDamaged | OSError) -> str:
    return str(error) if isinstance(error, SegmentDamaged) else f"{segment.path} can't be read: {error.strerror}"


def chained(path: Path, after: int) -> Iterator[RecordLine]:
    """The records of a segment, as long as each behind ``after`` follows from the one before.

    Raises:
        SegmentDamaged: one doesn't, or the file can't be read to its end.
        OSError: it can't be opened.
    """
    chain: ChainCheck | None = None
    for raw in raw_lines(path):
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


def raw_lines(path: Path) -> Iterator[bytes]:
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
