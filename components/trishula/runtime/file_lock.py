"""A lock on a file: one holder at a time, on this machine, and the lock ends with the holder's process.

The lock is an flock: the kernel lets go of it when the process ends, however that comes about, ``kill -9`` included.
Rejected: a file that names a process and is removed at the end, for after a crash the file names a process that may be
another one by then.

The file is there for the lock alone. A file that is replaced by a rename would be another file afterwards, with a lock
of its own; and SQLite loses its locks on a file when any descriptor of that file is closed in the process. Nobody
removes the file, for then one process could hold the lock of the removed file and another one that of the new file.

What the file says is for whoever finds it locked: the holder writes there who it is. After its end the text stays.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path

try:
    import fcntl
except ImportError:
    # Windows has no flock.
    fcntl = None  # type: ignore[assignment]

__all__ = ["FileHeld", "FileLock", "words_of_holder"]

#: How soon a lock that was not free is tried again.
_AGAIN_S = 0.02
#: As much of a holder's text as is read.
_MOST_BYTES = 4096


class FileHeld(Exception):
    """Somebody else holds the lock.

    Attributes:
        words: what the holder wrote about itself; empty if it has not written yet, or could not.
    """

    def __init__(self, path: Path, words: bytes) -> None:
        super().__init__(f"{path} is locked")
        self.words = words


class FileLock:
    """The lock of a file, held from the beginning until :meth:`release`, or until this process ends.

    A second one in the same process is refused like one of another process. Whoever is forked off holds it as well.

    Args:
        path: the file; it is made, with mode 0600, if it isn't there.
        patience_s: for how long to try, in the thread that asks; ``None`` waits as long as it takes.

    Raises:
        FileHeld: it was not free in that time.
        OSError: the file can't be made, or this system has no such locks.
    """

    def __init__(self, path: Path, *, patience_s: float | None = 0.0) -> None:
        if fcntl is None:
            raise OSError(errno.ENOSYS, "this system can't lock a file for one process")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if patience_s is None:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            elif not _is_taken(descriptor, attempts=1 + round(patience_s / _AGAIN_S)):
                raise FileHeld(path, _words(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor: int | None = descriptor

    def write(self, words: bytes) -> None:
        """Tell whoever finds it locked who holds it.

        Raises:
            OSError: it can't be written, as on a full disk; the lock is held all the same.
        """
        if self._descriptor is None:
            raise ValueError("a lock that was let go of is not written to")
        # Whoever reads meanwhile finds some of the old text behind the new one, rather than nothing.
        os.pwrite(self._descriptor, words, 0)
        os.ftruncate(self._descriptor, len(words))

    def release(self) -> None:
        """Let go of it; again is no error."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def words_of_holder(path: Path) -> bytes | None:
    """What the holder of a file's lock wrote about itself; ``None`` if nobody holds it, or that can't be found out.

    To look is to take the lock for microseconds, side by side with others that look. Whoever wants the lock while
    somebody may look needs some patience.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _words(descriptor)
    finally:
        os.close(descriptor)
    return None


def _is_taken(descriptor: int, attempts: int) -> bool:
    for attempt in range(attempts):
        if attempt:
            time.sleep(_AGAIN_S)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False


def _words(descriptor: int) -> bytes:
    try:
        return os.pread(descriptor, _MOST_BYTES, 0)
    except OSError:
        return b""
