"""The files of attachments: each method blocks, and belongs into a thread; one thread at a time for one attachment.

::

    <state>/attachments/<agent>/<digest>.<size>.part     what is here of it
    <state>/attachments/<agent>/<digest>                 complete: checked, fsynced, and renamed after that

``<digest>`` is the SHA-256 in hexadecimal, and agents' names are lower-case words, so nothing that a client chose
freely becomes part of a path. Parts are made durable some MiB at a time: a gigabyte at the end would have everybody's
messages wait for the disk. What is lost of them with the power is found out when the whole is checked.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trishula.contract.addresses import is_agent_name
from trishula_router.attachments.ledger import Key

__all__ = ["DIRECTORY", "HASHED_AT_ONCE", "AttachmentFiles", "Found"]

DIRECTORY = "attachments"
#: So much of a part may be not on the disk yet.
_SYNC_BYTES = 4 * 1024 * 1024
#: So much is read and hashed by one piece of work: some milliseconds.
HASHED_AT_ONCE = 8 * 1024 * 1024
_READ_BYTES = 1024 * 1024
_MARK = "sha256:"
_is_whole = re.compile(r"([0-9a-f]{64})\Z").match
_is_part = re.compile(r"([0-9a-f]{64})\.([0-9]{1,12})\.part\Z").match


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is on the disk; ``touched_at`` in ms."""

    key: Key
    size_bytes: int
    have_bytes: int
    is_complete: bool
    touched_at: int


class AttachmentFiles:
    """See the module's docstring.

    Args:
        directory: where they are; made when there is something to keep.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._unsynced: dict[Key, int] = {}

    def scan(self) -> list[Found]:
        """What is there."""
        found: list[Found] = []
        if not self._directory.is_dir():
            return found
        for folder in self._directory.iterdir():
            if is_agent_name(folder.name) and folder.is_dir() and not folder.is_symlink():
                found += self._in(folder)
        return found

    def _in(self, folder: Path) -> Iterator[Found]:
        for path in folder.iterdir():
            status = path.lstat()
            touched_at = int(status.st_mtime * 1000)
            if whole := _is_whole(path.name):
                key = folder.name, _MARK + whole[1]
                yield Found(key, status.st_size, status.st_size, True, touched_at)
            elif part := _is_part(path.name):
                key = folder.name, _MARK + part[1]
                yield Found(key, int(part[2]), status.st_size, False, touched_at)

    def free_bytes(self) -> int:
        """What the disk has left."""
        at = self._directory
        while not at.exists():
            at = at.parent
        return shutil.disk_usage(at).free

    def append(self, key: Key, size_bytes: int, offset: int, data: bytes) -> None:
        """Write what follows; what is behind ``offset`` already is written over.

        Raises:
            OSError: it can't be written.
        """
        part = self._part(key, size_bytes)
        part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            # After a failed write there may be more than anybody counted.
            os.ftruncate(descriptor, offset)
            written = 0
            while written < len(data):
                written += os.pwrite(descriptor, data[written:], offset + written)
            unsynced = self._unsynced.get(key, 0) + len(data)
            if unsynced >= _SYNC_BYTES:
                os.fdatasync(descriptor)
                unsynced = 0
            self._unsynced[key] = unsynced
        finally:
            os.close(descriptor)

    def hash_some(self, key: Key, part_of_bytes: int | None, offset: int, hasher: hashlib._Hash) -> int:
        """Read on and hash; how many bytes there were, 0 at the end.

        Args:
            key: of which attachment.
            part_of_bytes: how large the whole is of which it is a part; ``None`` of one that is complete.
            offset: where to begin.
            hasher: what is given the bytes.

        Raises:
            OSError: it can't be read.
        """
        path = self._whole(key) if part_of_bytes is None else self._part(key, part_of_bytes)
        count = 0
        with path.open("rb") as file:
            file.seek(offset)
            while count < HASHED_AT_ONCE and (data := file.read(_READ_BYTES)):
                hasher.update(data)
                count += len(data)
        return count

    def complete(self, key: Key, size_bytes: int) -> None:
        """Make a part durable that was found to be whole, under its name.

        Raises:
            OSError: it can't be.
        """
        part, whole = self._part(key, size_bytes), self._whole(key)
        descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.replace(whole)
        # The name is in the folder, and the folder's in the directory above it, and so on.
        for folder in (whole.parent, self._directory, self._directory.parent):
            _sync_folder(folder)
        self._unsynced.pop(key, None)

    def read(self, key: Key, offset: int, most_bytes: int, part_of_bytes: int | None = None) -> bytes:
        """Some of it; ``part_of_bytes`` as in :meth:`hash_some`.

        Raises:
            OSError: it can't be read.
        """
        path = self._whole(key) if part_of_bytes is None else self._part(key, part_of_bytes)
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(most_bytes)

    def delete(self, key: Key, size_bytes: int) -> None:
        """Let it go, whole or not.

        Raises:
            OSError: it can't be.
        """
        self._unsynced.pop(key, None)
        for path in (self._part(key, size_bytes), self._whole(key)):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            # Others of the agent may be there.
            self._whole(key).parent.rmdir()

    def _whole(self, key: Key) -> Path:
        agent, digest = key
        return self._directory / agent / digest.removeprefix(_MARK)

    def _part(self, key: Key, size_bytes: int) -> Path:
        whole = self._whole(key)
        return whole.with_name(f"{whole.name}.{size_bytes}.part")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
