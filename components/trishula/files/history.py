"""The history of a bus from before there was one: messages of TRISHULA v1 in one file, read and never sent.

A line of the file is one message, as JSON::

    {"message": {…the wire's keys, with "from"…}, "file": "inbox/x.json", "file_sha256": "…", "digest": "…",
     "imported_at": "2026-02-10T00:02:00.000Z", "imported_by": "ann@hub", "notes": []}

``digest`` is the SHA-256 of ``message``: what tells one message from another of the same sender and id. Lines are added
at the end and synced, and no line is ever changed. A line without its end, which a crash leaves, is cut off by the next
import.

Rejected: a node's journal. Its records are what that node saw, each at its own instant, in a chain that other nodes
copy; and the ids of an agent there are those that its new messages must not have. Mail of years ago, whose senders
nobody has proven, is neither.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from trishula.contract.binary import marked_text
from trishula.contract.message import Message
from trishula.errors import FolderUnusable
from trishula.files.disk import sync
from trishula.named_files import open_file
from trishula.runtime.file_lock import FileHeld, FileLock

__all__ = ["History", "Key", "Line", "digest_of", "read_history"]

#: A message's sender and id.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Line:
    """One message of the history; see the module's docstring.

    Attributes:
        message: as it was sent, in the wire's keys.
        file: where it lay, below the folder that was imported.
        file_sha256: of the file's bytes, in hexadecimal.
        digest: of ``message``.
        imported_at: ISO 8601.
        imported_by: who imported it.
        notes: what was set for it, because the file didn't say so.
    """

    message: Mapping[str, Any]
    file: str
    file_sha256: str
    digest: str
    imported_at: str
    imported_by: str
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        """Its message's sender and id."""
        return str(self.message["from"]), str(self.message["id"])

    def encode(self) -> bytes:
        """The line, with its end."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields["notes"] = list(self.notes)
        return json.dumps(fields, ensure_ascii=True, default=marked_text).encode() + b"\n"


def digest_of(message: Message) -> str:
    """What tells one message from another: the SHA-256 of its wire form, keys sorted, in hexadecimal."""
    text = json.dumps(message.to_wire(), sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=marked_text)
    return hashlib.sha256(text.encode()).hexdigest()


def read_history(path: Path) -> Iterator[Line]:
    """The messages of a history, in the order in which they were imported; none if there is no file.

    A last line without its end is passed over: an import is writing it, or has been killed there.

    Raises:
        FolderUnusable: the file can't be read, or a line is none of a history.
    """
    number = 0
    try:
        with open_file(path) as file:
            for text in file:
                number += 1
                if text.endswith(b"\n"):
                    yield _line_of(text)
    except FileNotFoundError:
        return
    except OSError as error:
        raise FolderUnusable(f"the history {path} can't be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise FolderUnusable(
            f"line {number} of {path} is none of a history; name another file, or put it back from a backup"
        ) from None


def _line_of(text: bytes) -> Line:
    found = json.loads(text)
    line = Line(**{**found, "notes": tuple(found["notes"])})
    texts = (line.file, line.file_sha256, line.digest, line.imported_at, line.imported_by, *line.notes)
    if not all(isinstance(one, str) for one in texts):
        raise TypeError("a text of the line is none")
    _ = line.message["to"], line.message["type"], line.key
    return line


class History:
    """A history that is added to, by one process at a time; a context.

    Args:
        path: the file, which need not be there.
        known: told of each message that is in it: (its sender and id, its digest).

    Raises:
        FolderUnusable: it can't be read or written, another import has it, or it is no history.
    """

    def __init__(self, path: Path, known: Callable[[Key, str], object] = lambda key, digest: None) -> None:
        self._path = path
        self._lock: FileLock | None = None
        with self._usable():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._lock = FileLock(path.with_name(f".{path.name}.lock"))
            except FileHeld:
                raise FolderUnusable(f"another import adds to {path} now; begin again when it has ended") from None
        try:
            for line in read_history(path):
                known(line.key, line.digest)
            with self._usable():
                is_new = not path.exists()
                # Mail is its owner's alone.
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                self._file = os.fdopen(descriptor, "r+b")
                self._cut_half_a_line()
                if is_new:
                    sync(path.parent)
        except BaseException:
            self._lock.release()
            raise

    def add(self, lines: Iterable[Line]) -> None:
        """Add messages; they are on the disk on return.

        Raises:
            FolderUnusable: the disk didn't take them; none of them is in the history then.
        """
        added = list(lines)
        end = self._file.seek(0, os.SEEK_END)
        try:
            self._file.write(b"".join(line.encode() for line in added))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            raise FolderUnusable(f"the history {self._path} can't be written: {error.strerror}") from None

    def _cut_half_a_line(self) -> None:
        # In pieces from the end: a line may be as long as a message.
        end = self._file.seek(0, os.SEEK_END)
        at = end
        while at:
            start = max(0, at - (1 << 16))
            self._file.seek(start)
            found = self._file.read(at - start).rfind(b"\n")
            at = start
            if found >= 0:
                at = start + found + 1
                break
        if at < end:
            self._file.truncate(at)

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FolderUnusable(f"the history {self._path} can't be used: {error.strerror or error}") from None

    def __enter__(self) -> History:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What could not be written was said by add().
        with contextlib.suppress(OSError):
            self._file.close()
        if self._lock is not None:
            self._lock.release()
