"""The file that an audit is mirrored into: lines at its end, and beside it up to which record they go.

At least once: a page of lines is written and fsynced first, and its position then; after a crash between the two the
page is written again. What a crash left of a line is cut off before. The file is opened anew when it was renamed or
removed, as ``logrotate`` does, so no signal is needed; one that was truncated in its place is written on from its end.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import NamedTuple

from trishula.files.disk import sync

__all__ = ["MirrorFile", "Place", "PositionUnreadable"]

#: How much of a file's end is looked at for a torn line; a line is at most about as long as a page of facts.
_TAIL_BYTES = 4 * 1024 * 1024


class PositionUnreadable(Exception):
    """The file with the position is none; the text says what to do."""


class Place(NamedTuple):
    """Up to which record a mirror goes: of which journal, its number, and its digest (hexadecimal)."""

    epoch: str
    sequence: int
    digest: str


class MirrorFile:
    """One mirror.

    Args:
        path: the file; its folder must exist.

    Raises:
        PositionUnreadable: there is a position, and it can't be read.
        OSError: likewise.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position_path = path.with_name(f"{path.name}.position")
        self.place = self._read_place()
        self._descriptor: int | None = None

    def write(self, lines: bytes, place: Place) -> None:
        """Append lines, and keep the place behind them; on disk when it returns.

        Raises:
            OSError: that failed; then the place is as before, and the same lines are to be written again.
        """
        descriptor = self._opened()
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except OSError:
            # Part of a line may be there: whoever writes again looks.
            self.close()
            raise
        self._keep(place)

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None

    def _opened(self) -> int:
        if self._descriptor is not None and not self._is_there(self._descriptor):
            self.close()
        if self._descriptor is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            descriptor = self._descriptor = os.open(self.path, flags, 0o600)
            _cut_torn_line(descriptor)
            sync(self.path.parent)
        return self._descriptor

    def _is_there(self, descriptor: int) -> bool:
        try:
            ours, there = os.fstat(descriptor), os.stat(self.path)
        except FileNotFoundError:
            return False
        return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)

    def _keep(self, place: Place) -> None:
        beside = self.position_path.with_name(f"{self.position_path.name}.tmp")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(json.dumps(place._asdict()).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.position_path)
        sync(self.position_path.parent)
        self.place = place

    def _read_place(self) -> Place | None:
        try:
            told = json.loads(self.position_path.read_bytes())
            return Place(str(told["epoch"]), int(told["sequence"]), str(told["digest"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise PositionUnreadable(
                f"{self.position_path} says no position; remove it, and the mirror begins with the first record again"
            ) from None


def _cut_torn_line(descriptor: int) -> None:
    """Cut off what a crash, or a disk without room, left of a line."""
    size = os.fstat(descriptor).st_size
    begin = max(0, size - _TAIL_BYTES)
    tail = os.pread(descriptor, size - begin, begin)
    if tail and not tail.endswith(b"\n"):
        os.ftruncate(descriptor, begin + tail.rfind(b"\n") + 1)
