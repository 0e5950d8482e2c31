"""Who uses a store: one process at a time, and anybody can read which.

The lock belongs to whoever opens the store to write, so it holds however a node was started: by ``trishula node start``
or by ``crossbar start``. It is an flock on a file beside the store, and so the kernel lets go of it when the process
ends, however that comes about. The file's text says who holds it; without the lock it says who did.

Rejected: a file with a process id alone (after a crash it names a process that is another one's), and a lock on the
store's own file (SQLite's locks are lost when any descriptor of that file is closed in the process).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from trishula_router.store.interface import StoreError

__all__ = ["FILE_NAME", "STARTED_BY", "Hold", "Holder", "StoreHeld", "held_sentence", "holder_of"]

FILE_NAME = "store.lock"

#: The environment variable in which whoever starts a node's processes says how that was done.
STARTED_BY = "TRISHULA_STARTED_BY"

#: Whoever only looks takes the lock for microseconds; so long, and so often, it is tried again.
_PATIENCE_S = 0.02
_ATTEMPTS = 10


class Holder(msgspec.Struct, frozen=True):
    """Who uses a store.

    Attributes:
        pid: the process.
        since: when it began to, in ms.
        how: the command that started it.
    """

    pid: int
    since: int
    how: str

    def __str__(self) -> str:
        """In words."""
        since = datetime.fromtimestamp(self.since / 1000, UTC)
        return f"process {self.pid}, started by {self.how}, since {since:%Y-%m-%d %H:%M:%S} UTC"


class StoreHeld(StoreError):
    """Another process uses the store."""


class Hold:
    """The lock of one state directory, held until :meth:`release`, or until this process ends.

    Args:
        directory: the state directory.
        how: the command that this process was started by.
        name: of the lock's file.

    Raises:
        StoreHeld: another one holds it; the sentence says who.
        StoreError: the lock can't be made.
    """

    def __init__(self, directory: Path, how: str, name: str = FILE_NAME) -> None:
        file = directory / name
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"the lock {file} can't be made: {error.strerror}") from None
        try:
            if not _take(descriptor):
                raise StoreHeld(held_sentence(directory, _read(descriptor)))
        except StoreHeld:
            os.close(descriptor)
            raise
        self._descriptor: int | None = descriptor
        text = msgspec.json.encode(Holder(os.getpid(), time.time_ns() // 1_000_000, how)) + b"\n"
        # On a full disk nobody can read who it is; it is held all the same.
        with contextlib.suppress(OSError):
            os.pwrite(descriptor, text, 0)
            os.ftruncate(descriptor, len(text))

    def release(self) -> None:
        """Let go of it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def held_sentence(directory: Path, holder: Holder | None) -> str:
    """What somebody is told who wants a state directory that is in use."""
    who = holder or "a process that has not said which"
    return f"a node already runs on the state directory {directory} ({who}); stop it, or name another with --state"


def _take(descriptor: int) -> bool:
    for attempt in range(_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt + 1 < _ATTEMPTS:
                time.sleep(_PATIENCE_S)
        else:
            return True
    return False


def _read(descriptor: int) -> Holder | None:
    try:
        return msgspec.json.decode(os.pread(descriptor, 4096, 0), type=Holder)
    except (OSError, msgspec.MsgspecError):
        return None


def holder_of(directory: Path, name: str = FILE_NAME) -> Holder | None:
    """Who holds a lock of a state directory, by default that of its store; ``None`` if nobody does."""
    try:
        descriptor = os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(descriptor) or Holder(0, 0, "unknown")
    finally:
        os.close(descriptor)
    return None
