"""The lines of a segment out of its file, in constant memory, and what is wrong with the gzip around them.

gzip has bits that nobody reads: in its header, in the tables of its codes, behind its end. Here each bit of the file
counts: the last line has the SHA-256 of all packed bytes before, and stands at the end of the file, not packed, in the
one form that it can have there (:func:`stored`).
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from trishula.evidence.findings import What
from trishula.evidence.lines import Foot, read_line

__all__ = ["GZIP_HEADER", "Unpacker", "read_foot", "stored", "trailer"]

#: Deflate, no name, no time, no machine.
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
#: No line is longer: a file that claims so would fill the memory.
_MOST_LINE_BYTES = 64 * 1024 * 1024
_READ_BYTES = 64 * 1024
_UNPACKED_BYTES = 1024 * 1024
_MOST_FOOT_BYTES = 4096
_AROUND_BYTES = len(GZIP_HEADER) + 5 + 8


def trailer(crc: int, size_bytes: int) -> bytes:
    """The last eight bytes of what is packed as one: its checksum, and its size before."""
    return (crc & 0xFFFFFFFF).to_bytes(4, "little") + (size_bytes & 0xFFFFFFFF).to_bytes(4, "little")


def stored(raw: bytes) -> bytes:
    """Less than 64 KiB as gzip that packs nothing: there is one way only to write that."""
    size = len(raw).to_bytes(2, "little")
    inverse = (len(raw) ^ 0xFFFF).to_bytes(2, "little")
    return GZIP_HEADER + b"\x01" + size + inverse + raw + trailer(zlib.crc32(raw), len(raw))


def read_foot(file: BinaryIO) -> tuple[Foot, int] | None:
    """The last line, and where in the file it begins; ``None`` if it is missing, or not as it was written.

    It takes the same time at any size of the file.
    """
    size_bytes = os.fstat(file.fileno()).st_size
    file.seek(max(0, size_bytes - _MOST_FOOT_BYTES - _AROUND_BYTES))
    end = file.read()
    length = int.from_bytes(end[-4:], "little")
    raw = end[-8 - length : -8]
    if not 0 < length <= _MOST_FOOT_BYTES or end[-length - _AROUND_BYTES :] != stored(raw) or raw[-1:] != b"\n":
        return None
    line = read_line(raw[:-1])
    return (line, size_bytes - length - _AROUND_BYTES) if isinstance(line, Foot) else None


class Unpacker:
    """Unpacks one file.

    Args:
        file: the file.

    Attributes:
        foot: the last line; ``None`` if it is missing, or not as it was written.
        fault: what is wrong with the file (a word, a sentence), once :meth:`lines` has ended; ``None`` if it is whole.
        done: how much of the file is read, from 0 to 1.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.fault: tuple[What, str] | None = None
        self.done = 0.0
        self._file = file
        found = read_foot(file)
        self.foot: Foot | None = None
        self._end = os.fstat(file.fileno()).st_size
        if found is not None:
            self.foot, self._end = found
        self._sha256 = hashlib.sha256()

    def lines(self) -> Iterator[list[bytes]]:
        """The lines but the last one, without their line breaks, many at a time; what is behind a fault is left out."""
        rest = b""
        for piece in self._pieces():
            lines = (rest + piece).split(b"\n") if b"\n" in piece else [rest + piece]
            rest = lines.pop()
            if len(rest) > _MOST_LINE_BYTES:
                self.fault = "damaged", f"a line is longer than {_MOST_LINE_BYTES} bytes"
                return
            if lines:
                yield lines
        if self.fault is not None:
            return
        if self.foot is None:
            self.fault = "truncated", "the file breaks off: its last line is missing, or not as it was written"
        elif rest or self._sha256.hexdigest() != self.foot.sha256:
            self.fault = "damaged", "the bytes of the file are not those whose SHA-256 its last line tells"

    def _pieces(self) -> Iterator[bytes]:
        self._file.seek(0)
        header = self._file.read(len(GZIP_HEADER))
        if not header:
            self.fault = "empty", "the file is empty"
        elif header != GZIP_HEADER:
            self.fault = "foreign", _PACKED_ANEW if header.startswith(GZIP_HEADER[:2]) else _FOREIGN
        else:
            self._sha256.update(header)
            try:
                yield from self._unpack(header)
            except zlib.error as error:
                self.fault = "damaged", f"the file can't be unpacked any further ({error})"

    def _unpack(self, packed: bytes) -> Iterator[bytes]:
        inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
        read_bytes = len(packed)
        while packed:
            while packed and not inflate.eof:
                yield inflate.decompress(packed, _UNPACKED_BYTES)
                packed = inflate.unconsumed_tail
            packed = self._file.read(min(_READ_BYTES, self._end - read_bytes))
            read_bytes += len(packed)
            self._sha256.update(packed)
            self.done = read_bytes / self._end
        if not inflate.eof:
            yield inflate.flush()
            self.fault = "truncated", "the file breaks off: its end is missing"


_FOREIGN = "the file is no segment of a journal, or its first bytes were changed"
_PACKED_ANEW = (
    "the file begins as no segment does: its first ten bytes were changed, or somebody unpacked it and packed it again"
)
