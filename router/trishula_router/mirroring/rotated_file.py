"""A file of JSON lines that is renamed when it is large: ``FILE``, ``FILE.1`` (that of before), ``FILE.2`` …

Each page is fsynced, and then its position, in ``FILE.position``. A collector (Vector, Fluent Bit, Filebeat, Promtail)
follows by the inode: a file that was renamed grows no more. The last part of a disk is left to others: the node's store
may be on it, and needs some room even for acks.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from trishula.contract.units import show_bytes
from trishula.evidence.mirror_file import MirrorFile, PositionUnreadable
from trishula.evidence.mirror_file import Place as FilePlace
from trishula.homes import expanded
from trishula_router.mirroring.pages import Entry
from trishula_router.mirroring.place import Has, Place
from trishula_router.mirroring.target import TargetFailed
from trishula_router.settings.mirror import MirrorOptions

__all__ = ["LEAVES_BYTES", "RotatedFile"]

#: What a mirror leaves of its disk.
LEAVES_BYTES = 512 * 1024 * 1024


def _free_bytes(folder: Path) -> int:
    told = os.statvfs(folder)
    return told.f_bavail * told.f_frsize


class RotatedFile:
    """See the module's docstring, and :class:`.target.Target`.

    Args:
        options: with ``file``.
        base: the state directory, where a relative path starts.
        free_bytes: what is left on the disk of a folder, which tests replace.
    """

    name = "file"
    #: Who removes a file wants it gone.
    keeps = 0

    def __init__(self, options: MirrorOptions, base: Path, free_bytes: Callable[[Path], int] = _free_bytes) -> None:
        self._path = base / expanded(options.file)
        self._size_bytes = options.file_size_bytes
        self._count = options.file_count
        self._free_bytes = free_bytes
        self._file: MirrorFile | None = None

    @property
    def where(self) -> str:
        """The path."""
        return str(self._path)

    def has(self, place: Place) -> Has | None:
        """What the file's position says; see :class:`.target.Target`."""
        try:
            if self._file is None:
                self._file = MirrorFile(self._path)
        except PositionUnreadable as error:
            raise TargetFailed(str(error)) from None
        except OSError as error:
            raise self._failed(error) from None
        there = self._file.place
        if there is None or there.epoch != place.epoch:
            return None
        return Has(place.generation, there.sequence)

    def write(self, entries: Sequence[Entry], place: Place) -> None:
        """Append entries; see :class:`.target.Target`."""
        assert self._file is not None
        lines = b"".join(entry.line + b"\n" for entry in entries)
        try:
            if (free_bytes := self._free_bytes(self._path.parent)) < LEAVES_BYTES + len(lines):
                raise TargetFailed(
                    f"the disk of {self._path.parent} has {show_bytes(free_bytes)} left, and the mirror leaves the "
                    f"last {show_bytes(LEAVES_BYTES)} to others; free some space on it"
                )
            self._rotate(len(lines))
            last = entries[-1]
            self._file.write(lines, FilePlace(place.epoch, last.sequence, last.digest))
        except OSError as error:
            raise self._failed(error) from None

    def _rotate(self, more_bytes: int) -> None:
        try:
            size_bytes = self._path.stat().st_size
        except FileNotFoundError:
            return
        if not size_bytes or size_bytes + more_bytes <= self._size_bytes:
            return
        # A crash in between leaves a number out, which the next one fills.
        with contextlib.suppress(FileNotFoundError):
            self._numbered(self._count).unlink()
        for number in range(self._count - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._numbered(number).rename(self._numbered(number + 1))
        self._path.rename(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _failed(self, error: OSError) -> TargetFailed:
        return TargetFailed(f"{self._path} can't be written: {error.strerror or error}")
