"""Which messages a segment tells of: a small file beside it, so that who seeks one message reads few segments.

A segment can be read from its begin alone, some seconds for a million records, and nearly all records are of other
messages. Its index has a check sum of four bytes for each message that it accepted, of the message's id, and for each
older message that its records list, of the position. A message whose sum is not there is not in the segment. A sum
that is there may be another one's (one in a thousand questions, with four million of them): then the segment is read in
vain, and nothing is wrong. A Bloom filter would take a third of the space, and more code than this whole module.

The index is made from the segment, when that is written, or by whoever reads a segment of a release before; it may be
deleted at any time. One that is torn, or of another file of that name, counts as none: what it says is believed only
if its own check sum and the size of its segment are as it says.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from trishula.evidence.lines import RecordLine, read_line
from trishula.evidence.writing import LEFTOVER
from trishula.named_files import open_file
from trishula_router.store.journal import Kind

__all__ = ["IndexBuilder", "SegmentIndex", "index_path", "positions_listed"]

_MAGIC = b"TRIINDX1"
#: The magic; how large the segment is (bytes); the check sum of what follows; how many sums follow, of 4 bytes each.
_HEAD = struct.Struct("<8sQII")


class _Accepted(msgspec.Struct, gc=False):
    id: str = ""


class _Listing(msgspec.Struct, gc=False):
    messages: list[int | list[int]] = []


_read_accepted = msgspec.json.Decoder(_Accepted).decode
_read_listing = msgspec.json.Decoder(_Listing).decode


def index_path(segment: Path) -> Path:
    """Where the index of a segment is."""
    return segment.with_name(segment.name + ".index")


def positions_listed(facts: bytes | str) -> Iterator[int]:
    """The messages that a record lists, by position; that a body was deleted in its time is no event of a life."""
    with contextlib.suppress(msgspec.MsgspecError):
        for one in _read_listing(facts).messages:
            if not isinstance(one, list):
                yield one
            elif one:
                yield one[0]


def _sum_of(key: str) -> int:
    return zlib.crc32(key.encode())


class SegmentIndex:
    """What the file says.

    Args:
        sums: the check sums, in order.
    """

    def __init__(self, sums: array[int]) -> None:
        self._sums = sums

    def may_tell(self, message_id: str, positions: Iterable[int]) -> bool:
        """Whether its segment may tell of messages with that id, or of those at these positions."""
        return any(self._has(_sum_of(key)) for key in (message_id, *map(str, positions)))

    def _has(self, wanted: int) -> bool:
        place = bisect_left(self._sums, wanted)
        return place < len(self._sums) and self._sums[place] == wanted

    @classmethod
    def load(cls, segment: Path) -> SegmentIndex | None:
        """Read the index of a segment; ``None`` if it has none that can be relied on."""
        try:
            with open_file(index_path(segment)) as file:
                head, rest = file.read(_HEAD.size), file.read()
            magic, size_bytes, check, count = _HEAD.unpack(head)
            is_good = magic == _MAGIC and size_bytes == segment.stat().st_size and len(rest) == 4 * count
        except (OSError, struct.error):
            return None
        if not is_good or zlib.crc32(rest) != check:
            return None
        sums = array("I")
        sums.frombytes(rest)
        return cls(sums)


class IndexBuilder:
    """Makes an index, record by record.

    Args:
        first: the sequence of the segment's first record.
    """

    def __init__(self, first: int) -> None:
        self._first = first
        self._sums: set[int] = set()

    def add(self, kind: str, facts: bytes | str) -> None:
        """Take a record in."""
        if kind == Kind.ACCEPTED:
            with contextlib.suppress(msgspec.MsgspecError):
                self._sums.add(_sum_of(_read_accepted(facts).id))
            return
        # Messages that the segment accepted itself are found by their ids.
        self._sums.update(_sum_of(str(position)) for position in positions_listed(facts) if position < self._first)

    def add_lines(self, raws: Iterable[bytes]) -> None:
        """Take the records of a segment in, as its lines."""
        for raw in raws:
            line = read_line(raw)
            if isinstance(line, RecordLine):
                self.add(line.kind, line.facts)

    def built(self) -> SegmentIndex:
        """The index so far."""
        return SegmentIndex(array("I", sorted(self._sums)))

    def save(self, segment: Path) -> None:
        """Write the index of a segment, in one step. It is not synced: a torn one is made anew.

        Raises:
            OSError: it can't be written.
        """
        rest = array("I", sorted(self._sums)).tobytes()
        path = index_path(segment)
        temporary = path.with_name(f".{path.name}{LEFTOVER}")
        head = _HEAD.pack(_MAGIC, segment.stat().st_size, zlib.crc32(rest), len(rest) // 4)
        temporary.write_bytes(head + rest)
        temporary.chmod(0o600)
        temporary.replace(path)
