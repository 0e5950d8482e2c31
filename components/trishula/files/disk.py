"""Files on a disk that may be full, read-only or gone: written so that nobody sees half of one, and moved.

A file system's refusal becomes a :class:`~trishula.errors.FolderUnusable` with one sentence by :func:`usable`. All
functions block.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trishula.errors import FolderUnusable
from trishula.files.file_names import MOST_BYTES

__all__ = ["content_of", "move", "names_like", "put", "sync", "usable"]

#: What a file system answers that syncs no directories.
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
_BLOCK_BYTES = 1 << 20
_numbers = itertools.count(1)


@contextmanager
def usable(root: Path) -> Iterator[None]:
    """Say what the operating system refuses below ``root`` in one sentence.

    Raises:
        FolderUnusable: it refused something.
    """
    try:
        yield
    except OSError as error:
        raise FolderUnusable(_sentence(root, error)) from error


def put(directory: Path, name: str, data: bytes) -> None:
    """Write a file under a temporary name, sync it, rename it to its own, and sync the directory.

    Raises:
        OSError: as the operating system says it; nothing is left behind, and what had that name is untouched.
    """
    temporary = directory / _temporary_name()
    try:
        # A process that had our number may have left one.
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, directory / name)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync(directory)


def _temporary_name() -> str:
    # Short, for the name itself may be as long as names can be.
    return f".{os.getpid()}-{next(_numbers)}.tmp"


def _sentence(root: Path, error: OSError) -> str:
    text = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        way_out = "make room on its disk"
    elif error.errno == errno.EROFS:
        way_out = "mount its disk for writing"
    elif error.errno in (errno.ENOENT, errno.ENOTDIR):
        if not root.is_dir():
            return f"the folder {root} is gone; mount its disk, or make it again"
        return f"the folder {root} lacks a directory ({error.filename}); mount its disk, or make the directory again"
    elif error.errno in (errno.EACCES, errno.EPERM):
        way_out = "give this program's user the right to read and write there"
    else:
        way_out = "see whether its disk is well"
    where = f" at {error.filename}" if error.filename else ""
    return f"the folder {root} can't be used ({text}{where}); {way_out}"


def names_like(name: str) -> Iterator[str]:
    """The name, and then the same with numbers: ``x.json``, ``x.2.json``, …"""
    if len(os.fsencode(name)) > MOST_BYTES:
        # Cut, for the sake of what is put behind it.
        ending = ".json" if name.lower().endswith(".json") else ""
        name = os.fsencode(name)[: MOST_BYTES - 10].decode(errors="ignore") + ending
    yield name
    stem, dot, ending = name.rpartition(".")
    if not dot:
        stem, ending = name, ""
    number = 2
    while True:
        yield f"{stem}.{number}{dot}{ending}"
        number += 1


def content_of(path: Path, size: int) -> bytes | None:
    """What a file of that size has in it; ``None`` if it has another size, or is no regular file.

    Raises:
        FileNotFoundError: there is none.
    """
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode) or status.st_size != size:
        return None
    return path.read_bytes()


def move(source: Path, target: Path) -> None:
    """Rename a file; between two disks: copy it, sync the copy, and remove it.

    Raises:
        OSError: as the operating system says it; the file is where it was.
    """
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV or not stat.S_ISREG(os.lstat(source).st_mode):
            raise
        # The two directories are on two disks.
        temporary = target.with_name(_temporary_name())
        try:
            with source.open("rb") as old, temporary.open("wb") as new:
                shutil.copyfileobj(old, new, _BLOCK_BYTES)
                new.flush()
                os.fsync(new.fileno())
            os.replace(temporary, target)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        source.unlink()


def sync(directory: Path) -> None:
    """Have a directory's entries on the disk, where the file system knows of that."""
    number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(number)
