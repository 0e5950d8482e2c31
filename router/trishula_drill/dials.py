"""What a drill tells a process whose disk and clock it makes ill, and hears back: numbers in a file that both map.

A process of ours that knows nothing of drills could not be told anything, and no production code has a hook for it: the
program that a drill starts in the place of the real one (:mod:`trishula_drill.ailing`) maps the file, puts the
illness in, and goes on as the real one. Rejected: signals (they would interrupt what they should only make fail), and a
socket (it would take part in the process's reactor).
"""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path

__all__ = ["Dials", "use_stepping_clock"]

_NUMBER = struct.Struct("=q")
#: Places of the numbers in the file.
_AHEAD_MS, _SEEN_MS, _IS_FAILING, _FAILURES, _IS_HANGING = range(_COUNT := 5)


class Dials:
    """The numbers of one process.

    Args:
        file: made if it is missing; all dials are at 0 then.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        size = _COUNT * _NUMBER.size
        with file.open("ab") as made:
            made.truncate(size)
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), size)

    def _read(self, place: int) -> int:
        value: int = _NUMBER.unpack_from(self._map, place * _NUMBER.size)[0]
        return value

    def _write(self, place: int, value: int) -> None:
        # Eight aligned bytes at once: whoever reads meanwhile sees the old number or the new one.
        _NUMBER.pack_into(self._map, place * _NUMBER.size, value)

    @property
    def ahead_ms(self) -> int:
        """By how much its wall clock is set ahead of the true one; negative if behind."""
        return self._read(_AHEAD_MS)

    @ahead_ms.setter
    def ahead_ms(self, value: int) -> None:
        self._write(_AHEAD_MS, value)

    @property
    def seen_ms(self) -> int:
        """The ``ahead_ms`` with which it read its wall clock last."""
        return self._read(_SEEN_MS)

    @seen_ms.setter
    def seen_ms(self, value: int) -> None:
        self._write(_SEEN_MS, value)

    @property
    def is_failing(self) -> bool:
        """Whether each fsync of its store fails."""
        return bool(self._read(_IS_FAILING))

    @is_failing.setter
    def is_failing(self, value: bool) -> None:
        self._write(_IS_FAILING, int(value))

    @property
    def is_hanging(self) -> bool:
        """Whether each fsync of its store waits until this is over."""
        return bool(self._read(_IS_HANGING))

    @is_hanging.setter
    def is_hanging(self, value: bool) -> None:
        self._write(_IS_HANGING, int(value))

    @property
    def failures(self) -> int:
        """How many of its fsyncs have failed."""
        return self._read(_FAILURES)

    @failures.setter
    def failures(self, value: int) -> None:
        self._write(_FAILURES, value)


def use_stepping_clock(dials: Dials) -> None:
    """Make this process's wall clock one that the drill can set; to be called before other modules bind it."""
    true_ns = time.time_ns

    def stepped_ns() -> int:
        ahead_ms = dials.ahead_ms
        dials.seen_ms = ahead_ms
        return true_ns() + ahead_ms * 1_000_000

    setattr(time, "time_ns", stepped_ns)  # noqa: B010  # mypy lets nobody assign to a function of a module
    setattr(time, "time", lambda: stepped_ns() / 1e9)  # noqa: B010  # as above
