"""Room on the disk: how much of it a send may take, so that what is there can still be settled.

An ack needs pages too: its record, the change of its message. If sends filled the last page, nothing could be settled,
so nothing could ever be freed. So sends leave a reserve alone, of ``limits.store`` and of the disk, that only the other
verbs use: a base, and a share for each open message, which has its records before it. What is refused is refused before
a byte of it is written.

Free pages within the file count as room: SQLite fills them before the file grows, so a store whose bodies are removed
by retention takes messages again, and its file stays as large as it once was.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from trishula_router.store.interface import Draft
from trishula_router.store.writer import storage_full

__all__ = ["Space"]

#: The share of the limit, and of the disk, that is kept back; and at most so much.
_RESERVED_SHARE = 16
_RESERVED_MOST_BYTES = 32 * 1024 * 1024

#: Rows, indexes and records of one message to one recipient, as measured and rounded up: its ids may be long.
_ROWS_BYTES = 1500
#: The records that an open message has before it: deliveries, returns, its end, each in a record of its own.
_SETTLING_BYTES = 1000

#: Counting the open messages takes as long as there are many; what is claimed in between is added.
_COUNT_EVERY = 100


class Space:
    """Keeps the reserve of a store.

    Measuring costs a few calls, so it is done only when what was claimed since the last time comes near the limit.

    Args:
        directory: where the store's file is.
        limit_bytes: how large it may grow.
    """

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._left_bytes = 0
        self._open = 0
        self._count_in = 0

    def claim(self, connection: sqlite3.Connection, drafts: Sequence[Draft]) -> None:
        """Make sure that there is room for messages.

        Raises:
            StorageFull: there is not.
        """
        messages = sum(len(draft.recipients) for draft in drafts)
        self.claim_for(connection, messages, sum(len(draft.envelope) for draft in drafts))

    def claim_for(self, connection: sqlite3.Connection, messages: int, size_bytes: int) -> None:
        """The same for so many messages with bodies of that size together."""
        needed = size_bytes + (_ROWS_BYTES + _SETTLING_BYTES) * messages
        if needed > self._left_bytes:
            room = self._measure(connection)
            if needed > room:
                raise storage_full()
            # Half of it, because others write onto the same disk, and so do settlements.
            self._left_bytes = max(needed, min(room // 2, _RESERVED_MOST_BYTES))
        self._left_bytes -= needed
        self._open += messages

    def fullness(self, connection: sqlite3.Connection) -> float:
        """How much of the room for messages is taken: 1.0 is all, and then sends are refused."""
        self._left_bytes = 0
        room = self._limit_bytes - _reserve(self._limit_bytes)
        return 1.0 - max(0, self._measure(connection)) / room

    def _measure(self, connection: sqlite3.Connection) -> int:
        page, pages, free = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_size", "page_count", "freelist_count")
        )
        self._count_in -= 1
        if self._count_in < 0:
            self._count_in = _COUNT_EVERY
            self._open = int(connection.execute("SELECT count(*) FROM message WHERE state = 0").fetchone()[0])
        reserved = _reserve(self._limit_bytes) + self._open * _SETTLING_BYTES
        in_file = self._limit_bytes - reserved - (pages - free) * page
        disk = shutil.disk_usage(self._directory)
        # Pages go into the write-ahead log first, so room within the file alone is no room.
        on_disk = disk.free - _reserve(disk.total)
        return min(in_file, on_disk)


def _reserve(whole_bytes: int) -> int:
    return min(whole_bytes // _RESERVED_SHARE, _RESERVED_MOST_BYTES)
