"""Writing a segment: record by record, in constant memory, and into its place only when it is whole and on disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from trishula.evidence.chain import digest_of
from trishula.evidence.lines import (
    BodyLine,
    Checkpoint,
    Foot,
    Head,
    Line,
    NoBody,
    Omitted,
    RecordLine,
    write_line,
)
from trishula.evidence.signing import statement
from trishula.evidence.unpacking import GZIP_HEADER, stored, trailer
from trishula.files.disk import sync

__all__ = ["CHECKPOINT_EVERY", "LEFTOVER", "ChainBroken", "SegmentWriter", "new_segment"]

#: Records between two checkpoints, unless the caller says otherwise. A signature takes as long as twenty records.
CHECKPOINT_EVERY = 1000
#: How the name of a file ends that is not whole yet.
LEFTOVER = ".segment.tmp"
_FLUSH_BYTES = 256 * 1024


class ChainBroken(ValueError):
    """A record doesn't continue the chain, or can't be written as text; the text says which."""


class SegmentWriter:
    """Writes one segment. It refuses what doesn't continue the chain: no file is made that would not stand its check.

    Args:
        file: where to; the caller closes it.
        head: the first line.
        sign: signs a statement, such as :meth:`.SigningKey.sign`; ``None`` if signatures come from elsewhere (see
            :meth:`checkpoint`), or from nowhere.
        every: how many records there are between two checkpoints, with ``sign``.

    Attributes:
        head: the same.
        sequence: of the last record so far.
        digest: of that record.
        count: how many records there are so far.
    """

    def __init__(
        self,
        file: BinaryIO,
        head: Head,
        sign: Callable[[bytes], str] | None = None,
        every: int = CHECKPOINT_EVERY,
    ) -> None:
        self.head = head
        self.sequence = head.first - 1
        self.digest = bytes.fromhex(head.previous)
        self.count = 0
        self._file = file
        self._sign = sign
        self._every = every
        self._unsigned = 0
        self._ats: tuple[int, int] | None = None
        self._sha256 = hashlib.sha256()
        self._deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._crc = self._size_bytes = self._waiting_bytes = 0
        self._waiting: list[bytes] = []
        self._write(GZIP_HEADER)
        self._put(head)

    def add(
        self, sequence: int, at: int, kind: str, facts: bytes, digest: bytes, body: bytes | NoBody | None = None
    ) -> None:
        """Write the next record.

        Args:
            sequence, at, kind, facts, digest: the record.
            body: of the message that it accepted; or why there is none; ``None`` if it accepted none, the file has no
                bodies, or the message has the same one as the one before.

        Raises:
            ChainBroken: it doesn't follow the last one, or is no text; nothing of it was written.
        """
        if sequence != self.sequence + 1:
            raise ChainBroken(f"record {sequence} doesn't follow record {self.sequence}")
        if digest_of(self.digest, sequence, at, kind, facts) != digest:
            raise ChainBroken(f"record {sequence} ({kind}) doesn't match its digest")
        try:
            told = facts.decode()
            beside = BodyLine(sequence, body.decode()) if isinstance(body, bytes) else body
        except UnicodeDecodeError:
            raise ChainBroken(f"record {sequence} ({kind}), or its body, is no text") from None
        self._put(RecordLine(sequence, at, kind, told, digest.hex()))
        if beside is not None:
            self._put(beside)
        self.sequence, self.digest = sequence, digest
        self.count += 1
        self._ats = (at if self._ats is None else self._ats[0], at)
        self._unsigned += 1
        if self._sign is not None and self._unsigned >= self._every:
            self.checkpoint()

    def omit(self, last: int, digest: bytes) -> None:
        """Leave records out, up to the last with this digest.

        Raises:
            ChainBroken: there are records before that no checkpoint covers.
        """
        if last <= self.sequence:
            raise ChainBroken(f"records up to {last} can't be left out behind record {self.sequence}")
        if self._unsigned and self._sign is not None:
            self.checkpoint()
        if self._unsigned and self.head.key:
            raise ChainBroken(f"record {self.sequence} needs a checkpoint: what follows it is left out")
        self._put(Omitted(self.sequence + 1, last, digest.hex()))
        self.sequence, self.digest = last, digest

    def checkpoint(self, signature: str | None = None) -> None:
        """Write a checkpoint of the last record.

        Args:
            signature: the node's, if it comes from elsewhere.
        """
        self._put(Checkpoint(self.sequence, self.digest.hex(), self._signature(signature)))
        self._unsigned = 0

    def finish(self, signature: str | None = None) -> Foot:
        """Write the last line; nothing may be written behind it.

        Args:
            signature: as that of :meth:`checkpoint`.
        """
        self._flush()
        self._write(self._deflate.flush() + trailer(self._crc, self._size_bytes))
        first_at, last_at = self._ats or (None, None)
        sha256 = self._sha256.hexdigest()
        signed = self._signature(signature)
        foot = Foot(self.sequence, self.digest.hex(), self.count, first_at, last_at, sha256, signed)
        self._file.write(stored(write_line(foot)))
        return foot

    def _signature(self, given: str | None) -> str:
        if given is not None or self._sign is None:
            return given or ""
        head = self.head
        return self._sign(statement(head.node, head.origin, head.epoch, self.sequence, self.digest))

    def _put(self, line: Line) -> None:
        raw = write_line(line)
        self._waiting.append(raw)
        self._waiting_bytes += len(raw)
        if self._waiting_bytes >= _FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        raw = b"".join(self._waiting)
        self._waiting, self._waiting_bytes = [], 0
        self._crc = zlib.crc32(raw, self._crc)
        self._size_bytes += len(raw)
        self._write(self._deflate.compress(raw))

    def _write(self, packed: bytes) -> None:
        self._sha256.update(packed)
        self._file.write(packed)


@contextlib.contextmanager
def new_segment(
    folder: Path,
    name: str | Callable[[Foot], str],
    head: Head,
    sign: Callable[[bytes], str] | None = None,
    every: int = CHECKPOINT_EVERY,
) -> Iterator[SegmentWriter]:
    """Write a segment as a new file, for its owner's eyes alone. Use it as a context.

    The file gets its name when the context ends, when it is whole and on disk; whatever happens before leaves at most a
    file whose name ends with :data:`LEFTOVER`. With ``sign``, or without any signature, the last line is written then,
    too; whoever has the signature from elsewhere calls :meth:`.SegmentWriter.finish` before.

    Args:
        folder: where the file belongs.
        name: how it is called there, or what calls it so by its last line. A file of that name is replaced.
        head, sign, every: see :class:`SegmentWriter`.

    Raises:
        OSError: it can't be written.
    """
    # The process is in the name, so that two exports into one folder leave each other alone.
    beside = folder / f".{head.first:016d}-{os.getpid()}{LEFTOVER}"
    beside.unlink(missing_ok=True)
    try:
        with _private(beside) as file:
            writer = _Once(file, head, sign, every)
            yield writer
            foot = writer.foot or writer.finish()
            file.flush()
            os.fsync(file.fileno())
        beside.replace(folder / (name if isinstance(name, str) else name(foot)))
        sync(folder)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


class _Once(SegmentWriter):
    foot: Foot | None = None

    def finish(self, signature: str | None = None) -> Foot:
        self.foot = super().finish(signature)
        return self.foot


def _private(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
