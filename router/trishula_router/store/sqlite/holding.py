"""Who uses a store: one process at a time, and anybody can read which.

The lock belongs to whoever opens the store to write, so it holds however a node was started: by ``trishula node start``
or by ``crossbar start``. It is a lock on a file beside the store (:mod:`trishula.runtime.file_lock`), which ends with
the process. The file's text says who holds it; without the lock it says who did.
"""

from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from trishula.runtime.file_lock import FileHeld, FileLock, words_of_holder
from trishula_router.store.interface import StoreError

__all__ = ["FILE_NAME", "STARTED_BY", "Hold", "Holder", "StoreHeld", "held_sentence", "holder_of"]

FILE_NAME = "store.lock"

#: The environment variable in which whoever starts a node's processes says how that was done.
STARTED_BY = "TRISHULA_STARTED_BY"

#: For so long the lock is tried: whoever only looks takes it for microseconds.
_PATIENCE_S = 0.2


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
            self._lock = FileLock(file, patience_s=_PATIENCE_S)
        except FileHeld as held:
            raise StoreHeld(held_sentence(directory, _read(held.words))) from None
        except OSError as error:
            raise StoreError(f"the lock {file} can't be made: {error.strerror}") from None
        # On a full disk nobody can read who it is; it is held all the same.
        with contextlib.suppress(OSError):
            self._lock.write(msgspec.json.encode(Holder(os.getpid(), time.time_ns() // 1_000_000, how)) + b"\n")

    def release(self) -> None:
        """Let go of it."""
        self._lock.release()


def held_sentence(directory: Path, holder: Holder | None) -> str:
    """What somebody is told who wants a state directory that is in use."""
    who = holder or "a process that has not said which"
    return f"a node already runs on the state directory {directory} ({who}); stop it, or name another with --state"


def _read(words: bytes) -> Holder | None:
    try:
        return msgspec.json.decode(words, type=Holder)
    except msgspec.MsgspecError:
        return None


def holder_of(directory: Path, name: str = FILE_NAME) -> Holder | None:
    """Who holds a lock of a state directory, by default that of its store; ``None`` if nobody does."""
    words = words_of_holder(directory / name)
    return None if words is None else _read(words) or Holder(0, 0, "unknown")
