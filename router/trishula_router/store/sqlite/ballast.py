"""The ballast: a file that takes room on the disk so that there is some when it is needed.

A reserve that is only counted is anybody's: another program's log fills the disk, and then no ack can be written, so
nothing can be drained. The ballast's bytes are the node's own. When a verb that may draw on the reserve finds no room,
the ballast gives up a bite of it, no more: whoever fills the disk would take all that is left lying about.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["BITE_BYTES", "FILE_NAME", "Ballast", "make_room_to_start"]

FILE_NAME = "node.ballast"

#: What is given up at a time, or more if more is needed.
BITE_BYTES = 512 * 1024
#: What the small files of a start need: the configuration, SQLite's index of the log, what goes into the node's log.
_START_BYTES = 512 * 1024
#: Where a file can't be made longer without writing it.
_CHUNK = bytes(64 * 1024)
_BLOCK_BYTES = 4096


class Ballast:
    """The ballast of a state directory.

    Args:
        directory: where it is.
    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / FILE_NAME
        self.held_bytes = self._measured()
        # A file system that packs what is written takes nothing for it; to write it again and again costs the disk.
        self._is_futile = False

    def _measured(self) -> int:
        try:
            found = self._file.stat()
        except OSError:
            return 0
        # A file with holes, as a copy may leave it, holds nothing.
        return min(found.st_size, found.st_blocks * 512)

    def hold(self, target_bytes: int, free_bytes: int) -> None:
        """Come as near to a size as the room allows.

        Args:
            target_bytes: the size.
            free_bytes: how much it may grow at most.
        """
        if self._is_futile:
            return
        wanted = min(target_bytes, self.held_bytes + max(0, free_bytes))
        wanted, target_bytes = wanted // _BLOCK_BYTES * _BLOCK_BYTES, target_bytes // _BLOCK_BYTES * _BLOCK_BYTES
        # Not for every message: it follows the open ones, by the bite.
        if wanted < target_bytes or abs(wanted - self.held_bytes) >= min(BITE_BYTES, max(1, target_bytes // 4)):
            self._resize(wanted)

    def give_up(self, at_least_bytes: int = 0) -> bool:
        """Let go of a bite; whether there was anything to let go of."""
        before = self.held_bytes
        if before:
            self._resize(max(0, before - max(BITE_BYTES, at_least_bytes)))
        return self.held_bytes < before

    def _resize(self, size_bytes: int) -> None:
        if size_bytes == self.held_bytes:
            return
        with contextlib.suppress(OSError):
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if size_bytes < self.held_bytes:
                    os.ftruncate(descriptor, size_bytes)
                else:
                    _allocate(descriptor, size_bytes)
            finally:
                os.close(descriptor)
        self.held_bytes = self._measured()
        if self.held_bytes < size_bytes // 2:
            self._is_futile = True
            self._file.unlink(missing_ok=True)
            self.held_bytes = 0


def _allocate(descriptor: int, size_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        with contextlib.suppress(OSError):
            os.posix_fallocate(descriptor, 0, size_bytes)
            return
    at = os.lseek(descriptor, 0, os.SEEK_END)
    while at < size_bytes:
        at += os.write(descriptor, _CHUNK[: size_bytes - at])


def make_room_to_start(directory: Path) -> None:
    """Have enough room for a node's small files on a full disk, if its ballast has any."""
    free_bytes = _free(directory)
    if free_bytes < _START_BYTES:
        Ballast(directory).give_up(_START_BYTES - free_bytes)


def _free(directory: Path) -> int:
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize
