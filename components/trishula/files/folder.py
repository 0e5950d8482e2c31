"""An agent's folder: ``outbox/``, ``inbox/``, ``rejected/`` and ``archive/YYYY-MM-DD/``, on whatever file system.

*Writing*: a file is written under a temporary name (``.….tmp``, which no reader takes for a message), synced, and
renamed; then its directory is synced. Nobody ever sees half a file of ours, and what :meth:`Folder.write_inbox` has
returned from is there after a power cut. Nothing is ever overwritten: a name that is taken by other content gets a
number.

*Reading*: a scan names only the files that are whole, as far as a reader can know: regular files that have not changed
(size, time, inode) between two looks at least ``stable_s`` apart. So a file is named by the second scan that sees it.
Not by its age: rsync keeps the times of the machine that a file comes from, whose clock may be any.
A scan sets aside at once what is no message by its name or its kind (:mod:`trishula.files.file_names`): sync tools'
conflict copies, symbolic links, pipes and directories that are called ``….json``. Temporary files are left alone.

*When the folder can't be used* (full, read-only, gone): :class:`~trishula.errors.FolderUnusable` with one sentence.
Every method leaves the folder as it was then, and can be called again. The four directories are made by
:meth:`Folder.prepare` alone: a disk that is not mounted must not be mistaken for an empty folder and be written below.

Names are paths from the folder's root, with ``/``: ``outbox/x.json``. All methods block. Any thread may write; all else
belongs to one thread at a time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple

from trishula.contract.texts import one_line, show_value
from trishula.errors import FolderUnusable
from trishula.files.disk import content_of, move, names_like, put, sync, usable
from trishula.files.file_names import Kind, day_of, is_plain, kind_of

__all__ = ["ARCHIVE", "INBOX", "OUTBOX", "REJECTED", "Folder"]

OUTBOX, INBOX, REJECTED, ARCHIVE = "outbox", "inbox", "rejected", "archive"

#: How long a file must not have changed to be taken for whole, in seconds.
DEFAULT_STABLE_S = 0.5


class _Mark(NamedTuple):
    """What changes when a file's content does."""

    inode: int
    size: int
    changed_ns: int


class Folder:
    """See the module's docstring.

    Args:
        root: where the four directories are.
        stable_s: how long a file must not have changed before it is read, in seconds.
        seconds: a clock for spans.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        stable_s: float = DEFAULT_STABLE_S,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root = Path(root)
        self.stable_s = stable_s
        self._seconds = seconds
        # By directory: each file seen there, as it was, and since when.
        self._seen: dict[str, dict[str, tuple[_Mark, float]]] = {}
        self._writing = threading.Lock()
        # As it was when its content was read.
        self._read: dict[str, _Mark] = {}

    def prepare(self) -> None:
        """Make the directories that are missing.

        Raises:
            FolderUnusable: that can't be done.
        """
        with usable(self.root):
            for part in (OUTBOX, INBOX, REJECTED, ARCHIVE):
                (self.root / part).mkdir(parents=True, exist_ok=True)

    # -- writing -------------------------------------------------------------------------------------------------------

    def write_outbox(self, name: str, data: bytes) -> str:
        """Put a file into the outbox; the name that it has there, and errors, as of :meth:`write_inbox`."""
        return self._write(OUTBOX, name, data)

    def write_inbox(self, name: str, data: bytes) -> str:
        """Put a file into the inbox; on return it is on the disk.

        Args:
            name: the file's name without directories, such as ``x.json``. If another file has that name, the new one
                is called ``x.2.json``; if it is there with the same content already, nothing is written.
            data: all of its content.

        Returns:
            Its name from the folder's root.

        Raises:
            FolderUnusable: the folder is full, read-only or gone.
            ValueError: no message may have that name.
        """
        return self._write(INBOX, name, data)

    def _write(self, part: str, name: str, data: bytes) -> str:
        if not is_plain(name):
            raise ValueError(f"{show_value(name)} can't be the name of a message's file")
        with self._writing, usable(self.root):
            directory = self.root / part
            for chosen in names_like(name):
                try:
                    if content_of(directory / chosen, len(data)) == data:
                        return f"{part}/{chosen}"
                except FileNotFoundError:
                    break
            put(directory, chosen, data)
            return f"{part}/{chosen}"

    # -- reading -------------------------------------------------------------------------------------------------------

    def scan_outbox(self) -> list[str]:
        """The files of the outbox that are whole, by name; see the module's docstring, and :meth:`scan_inbox`."""
        return self._scan(OUTBOX)

    def scan_inbox(self) -> list[str]:
        """The files of the inbox that are whole, by name: v1's names begin with the time.

        Raises:
            FolderUnusable: the directory can't be read, or is gone; or what is no message can't be set aside and
                nothing else is there. What was seen before stays known.
        """
        return self._scan(INBOX)

    def _scan(self, part: str) -> list[str]:
        now_s = self._seconds()
        known = self._seen.get(part, {})
        seen: dict[str, tuple[_Mark, float]] = {}
        whole, odd = [], []
        with usable(self.root), os.scandir(self.root / part) as entries:
            for entry in entries:
                kind = kind_of(entry.name)
                if kind is Kind.TEMPORARY:
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    # rsync --remove-source-files took it just now.
                    continue
                sentence = _oddity(entry.name, kind, status.st_mode)
                if sentence is not None:
                    # A directory without .json is somebody's own; inside of it nobody looks.
                    if kind is Kind.MESSAGE or not stat.S_ISDIR(status.st_mode):
                        odd.append((f"{part}/{entry.name}", sentence))
                    continue
                mark, since_s = _mark(status), now_s
                before = known.get(entry.name)
                if before is not None and before[0] == mark:
                    since_s = before[1]
                seen[entry.name] = mark, since_s
                if now_s - since_s >= self.stable_s:
                    whole.append(entry.name)
        self._seen[part] = seen
        for name in [name for name in self._read if name.startswith(f"{part}/") and name[len(part) + 1 :] not in seen]:
            del self._read[name]
        for name, sentence in odd:
            try:
                self.reject(name, sentence)
            except FolderUnusable:
                # In a full folder there may be no room for the sentence, and yet messages that can leave.
                if not whole:
                    raise
        return [f"{part}/{name}" for name in sorted(whole)]

    @property
    def is_changing(self) -> bool:
        """Whether the last scans saw files that they did not name yet: another scan should come soon."""
        now_s = self._seconds()
        return any(now_s - since_s < self.stable_s for seen in self._seen.values() for _, since_s in seen.values())

    def read(self, name: str, limit_bytes: int) -> bytes | None:
        """The content of a file that a scan named; ``None`` if it is gone, or no regular file any more.

        Args:
            limit_bytes: at most so much is read, and one byte more, by which the caller sees that the file is larger.

        Raises:
            FolderUnusable: it can't be read.
        """
        with usable(self.root):
            try:
                # A pipe that took its place must not block, and a link must not lead out of the folder.
                number = os.open(self._path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ELOOP) and self.root.joinpath(name).parent.is_dir():
                    return None
                raise
            with open(number, "rb") as file:
                status = os.fstat(number)
                if not stat.S_ISREG(status.st_mode):
                    return None
                self._read[name] = _mark(status)
                return file.read(limit_bytes + 1)

    # -- what becomes of a file ----------------------------------------------------------------------------------------

    def reject(self, name: str, sentence: str) -> str:
        """Move a file to ``rejected/`` and put the sentence beside it, as ``NAME.why.txt``.

        An earlier file of that name stays: the new one gets a number. The sentence is written first, so that a file
        never lies there without one. A file that is gone is no error.

        Returns:
            Its name from the folder's root; the sentence's is that and ``.why.txt``.

        Raises:
            FolderUnusable: it can't be moved; it is where it was.
        """
        with usable(self.root):
            path, directory = self._path(name), self.root / REJECTED
            chosen = next(one for one in names_like(path.name) if not os.path.lexists(directory / one))
            why = directory / f"{chosen}.why.txt"
            if not os.path.lexists(path):
                return f"{REJECTED}/{chosen}"
            put(directory, why.name, f"{one_line(sentence)}\n".encode(errors="replace"))
            try:
                move(path, directory / chosen)
            except OSError:
                with contextlib.suppress(OSError):
                    why.unlink()
                raise
            sync(directory)
            self._forget(name)
            return f"{REJECTED}/{chosen}"

    def is_archived(self, name: str, data: bytes) -> bool:
        """Whether some day of the archive has a file of that name with that content: it was done before.

        Raises:
            FolderUnusable: the archive can't be read.
        """
        with usable(self.root):
            file_name = self._path(name).name
            for directory in (self.root / ARCHIVE).iterdir():
                if day_of(directory.name) is not None and _has(directory / file_name, data):
                    return True
        return False

    def archive(self, name: str, at: datetime) -> str | None:
        """Move a file that is done to ``archive/YYYY-MM-DD/``; one that is there already is just removed.

        Who brings the same file again and again (rsync without ``--remove-source-files``) fills no archive. Not synced:
        what a power cut brings back is known by its id.

        Args:
            at: the day, by UTC.

        Returns:
            Its name from the folder's root; ``None`` if it is gone, or was replaced since it was read: the next scans
            name it again then.

        Raises:
            FolderUnusable: it can't be moved; it is where it was.
        """
        with usable(self.root):
            path = self._path(name)
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                self._forget(name)
                return None
            read = self._read.get(name)
            if read is not None and read != _mark(status):
                return None
            day = at.astimezone(UTC).date().isoformat()
            directory = self.root / ARCHIVE / day
            directory.mkdir(exist_ok=True)
            if stat.S_ISREG(status.st_mode) and _is_same(path, directory / path.name, status.st_size):
                path.unlink()
                chosen = path.name
            else:
                chosen = next(one for one in names_like(path.name) if not os.path.lexists(directory / one))
                move(path, directory / chosen)
            self._forget(name)
            return f"{ARCHIVE}/{day}/{chosen}"

    def remove(self, name: str) -> None:
        """Remove a file that is nobody's message; one that is gone is no error.

        Raises:
            FolderUnusable: it can't be removed.
        """
        with usable(self.root):
            self._path(name).unlink(missing_ok=True)
            self._forget(name)

    def prune(self, before: date) -> int:
        """Remove the days of the archive that are older; how many files went.

        Only directories that are called like a day, and of these only files: nothing else there is ours.

        Raises:
            FolderUnusable: they can't be removed.
        """
        count = 0
        with usable(self.root):
            for directory in sorted((self.root / ARCHIVE).iterdir()):
                day = day_of(directory.name)
                if day is None or day >= before or directory.is_symlink() or not directory.is_dir():
                    continue
                for path in directory.iterdir():
                    if path.is_symlink() or not path.is_dir():
                        path.unlink(missing_ok=True)
                        count += 1
                # Somebody may keep a directory of his own in there.
                with contextlib.suppress(OSError):
                    directory.rmdir()
        return count

    # ------------------------------------------------------------------------------------------------------------------

    def _path(self, name: str) -> Path:
        part, slash, inner = name.partition("/")
        if part not in (OUTBOX, INBOX) or not slash or not inner or "/" in inner or inner in (".", ".."):
            raise ValueError(f"{show_value(name)} is no file of an outbox or an inbox")
        return self.root / part / inner

    def _forget(self, name: str) -> None:
        self._read.pop(name, None)
        part, _, inner = name.partition("/")
        self._seen.get(part, {}).pop(inner, None)


def _oddity(name: str, kind: Kind, mode: int) -> str | None:
    """Why a file can't be a message, if it can't."""
    shown = show_value(name)
    if kind is Kind.CONFLICT:
        return (
            f"{shown} is called like a copy that a sync tool or an editor made of another file: see which of the two "
            "is meant, and give that one its own name and id"
        )
    if stat.S_ISLNK(mode):
        return f"{shown} is a symbolic link; a message is a file of its own: copy the file here"
    if not stat.S_ISREG(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "no regular file (a pipe, a socket or a device)"
        return f"{shown} is {what}; a message is a file"
    if kind is Kind.FOREIGN:
        return f"{shown} doesn't end in .json; a message's file does: rename it"
    return None


def _has(path: Path, data: bytes) -> bool:
    try:
        return content_of(path, len(data)) == data
    except (FileNotFoundError, NotADirectoryError):
        return False


def _is_same(path: Path, other: Path, size: int) -> bool:
    try:
        return content_of(other, size) == path.read_bytes()
    except FileNotFoundError:
        return False


def _mark(status: os.stat_result) -> _Mark:
    return _Mark(status.st_ino, status.st_size, status.st_mtime_ns)
