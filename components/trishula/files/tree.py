"""All files below a folder, whatever they are, in the order of their paths; nothing there is changed or followed."""

from __future__ import annotations

import heapq
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trishula.contract.units import show_bytes
from trishula.files.file_names import Kind, kind_of
from trishula.files.v1 import MOST_FILE_BYTES

__all__ = ["Found", "walk"]

#: Entries of a directory that are in memory at a time; it is read again for the next ones.
_AT_ONCE = 20_000
_SENTENCES = {
    Kind.TEMPORARY: "its name is that of a half-made file or of a tool's own; rename it to <id>.json if it is whole",
    Kind.CONFLICT: "its name is that of a second version (a conflict copy or a backup); rename the one that is meant",
    Kind.FOREIGN: "its name doesn't end in .json, and a message's does",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A file.

    Attributes:
        path: below the folder, with slashes; bytes that are no text are escaped.
        data: what it holds, if it may be a message.
        why_not: else why it can't be one, in one sentence.
    """

    path: str
    data: bytes = b""
    why_not: str | None = None


def walk(root: Path) -> Iterator[Found]:
    """The files below ``root``. A directory that can't be listed is told as one file that can't be read.

    Raises:
        OSError: ``root`` itself can't be listed.
    """
    # A stack of our own: a tree may be deeper than functions of Python can call each other.
    levels = [("", _entries(os.fsencode(root)))]
    while levels:
        prefix, entries = levels[-1]
        entry = next(entries, None)
        if entry is None:
            levels.pop()
            continue
        name = f"{prefix}{entry.name.decode(errors='backslashreplace')}"
        if not entry.is_dir(follow_symlinks=False):
            yield _found(entry.path, name)
            continue
        try:
            levels.append((f"{name}/", _entries(entry.path)))
        except OSError as error:
            yield Found(f"{name}/", why_not=f"the directory can't be listed: {error.strerror}")


def _entries(directory: bytes) -> Iterator[os.DirEntry[bytes]]:
    """The entries in the order of their names; a directory of any size takes the memory of ``_AT_ONCE`` of them."""
    first = _next_entries(directory, b"")
    return _all_entries(directory, first)


def _all_entries(directory: bytes, entries: list[os.DirEntry[bytes]]) -> Iterator[os.DirEntry[bytes]]:
    while entries:
        yield from entries
        if len(entries) < _AT_ONCE:
            return
        try:
            entries = _next_entries(directory, entries[-1].name)
        except FileNotFoundError:
            # Somebody deleted it meanwhile, and what was in it with it.
            return


def _next_entries(directory: bytes, after: bytes) -> list[os.DirEntry[bytes]]:
    with os.scandir(directory) as found:
        behind = (entry for entry in found if entry.name > after)
        return heapq.nsmallest(_AT_ONCE, behind, key=lambda entry: entry.name)


def _found(path: bytes, name: str) -> Found:
    kind = kind_of(name.rpartition("/")[2])
    if kind is not Kind.MESSAGE:
        return Found(name, why_not=_SENTENCES[kind])
    try:
        # Without waiting: a pipe has no end, and what a name stands for may change under our eyes.
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return Found(name, why_not="it is no regular file")
            data = file.read(MOST_FILE_BYTES + 1)
    except OSError as error:
        if os.path.islink(path):
            return Found(name, why_not="it is a symbolic link, and links are not followed; name the folder it is in")
        return Found(name, why_not=f"it can't be read: {error.strerror}")
    if len(data) > MOST_FILE_BYTES:
        return Found(name, why_not=f"it is larger than {show_bytes(MOST_FILE_BYTES)}, and no message is")
    return Found(name, data)
