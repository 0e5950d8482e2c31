"""Giving free pages back to the disk, in small steps between the messages.

What is cut from a store leaves free pages in its file. SQLite fills them before the file grows, and by itself gives
none back. A store is made so that it can (``auto_vacuum = INCREMENTAL``): SQLite keeps for each page where it belongs,
which takes a page in a thousand, and has 4 to 8 % more bytes written for a message. What it costs the processor, with
one message a call on a loaded machine: the medians are 1 to 6 % higher, the least of all runs 3.5 % lower to 0.6 %
higher. A *step* moves the last pages of the file into free places before them and cuts off its
end. It is a transaction like any other, so a crash leaves it whole or undone; the file itself gets shorter with the
next checkpoint.

What the next days need again stays: giving back a page that is taken again soon costs two writes for nothing. Hence the
two bounds: it begins when there is twice the reserve, and ends at the reserve. On a disk that is short nothing is given
back: there the free pages of the file are the room for acks, and others would take it. Nor is anything while the
write-ahead log is longer than it should be, because somebody reads: what a step moves would be in the log, too.

The file of a store of before can't shrink: that needs all of it written anew, see :mod:`.compacting`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from trishula_router.store.sqlite.space import PAGE_BYTES, Space

__all__ = ["INCREMENTAL", "STEP_BYTES", "STEP_PAGES", "Shrinking", "is_due", "reserve_bytes"]

#: The value of ``PRAGMA auto_vacuum`` for files that can shrink.
INCREMENTAL = 2

_RESERVED_SHARE = 10
_RESERVED_MOST_BYTES = 64 * 1024 * 1024
#: A file with less that it doesn't need is left alone.
_LEAST_BYTES = 1024 * 1024

#: Pages a step, and for how long it may run: as measured 64 take 1.5 ms of the processor, and as much again for the
#: fsync. On a disk where each page has to be read first the time is the nearer bound.
STEP_PAGES = 64
_STEP_S = 0.003
#: What a step writes at most, roughly: each page that it moves, and what points there.
STEP_BYTES = 2 * STEP_PAGES * PAGE_BYTES


def reserve_bytes(file_bytes: int) -> int:
    """How much of a file stays free for what comes: a tenth of it, and no more than 64 MiB."""
    return min(file_bytes // _RESERVED_SHARE, _RESERVED_MOST_BYTES)


def is_due(file_bytes: int, unused_bytes: int, *, goes_on: bool) -> bool:
    """Whether pages are to be given back.

    Args:
        file_bytes: how large the file is.
        unused_bytes: what of it is free pages.
        goes_on: whether the step before gave some back.
    """
    reserve = reserve_bytes(file_bytes)
    return unused_bytes > (reserve if goes_on else max(_LEAST_BYTES, 2 * reserve))


class Shrinking:
    """The steps of one store.

    Args:
        space: the room of the store, which measures the file.
        seconds: a clock.
        is_log_long: whether the write-ahead log waits for somebody who reads.
    """

    def __init__(self, space: Space, seconds: Callable[[], float], is_log_long: Callable[[], bool]) -> None:
        self._space = space
        self._seconds = seconds
        self._is_log_long = is_log_long
        self._goes_on = False

    @property
    def is_due(self) -> bool:
        """Whether a step is, by the last measuring; of no file that can't shrink."""
        space = self._space
        return space.can_shrink and is_due(space.file_bytes, space.unused_bytes, goes_on=self._goes_on)

    def step(self, connection: sqlite3.Connection) -> bool:
        """Give some pages back, in the transaction that runs, if that is due; whether there may be more."""
        space = self._space
        space.fullness(connection)
        if self._is_log_long():
            return False
        self._goes_on = self.is_due and not space.is_disk_short()
        if self._goes_on:
            spare_bytes = space.unused_bytes - reserve_bytes(space.file_bytes)
            end_s = self._seconds() + _STEP_S
            for _ in range(min(STEP_PAGES, -(-spare_bytes // PAGE_BYTES))):
                # A page each: Python takes one step of the statement, whatever number it names.
                connection.execute("PRAGMA incremental_vacuum(1)")
                if self._seconds() >= end_s:
                    break
            space.fullness(connection)
        return self._goes_on
