"""Room on the disk: how much of it a send may take, so that what is there can still be settled.

An ack needs pages too: its record, the change of its message. If sends filled the last page, nothing could be settled,
so nothing could ever be freed. So sends leave a reserve alone, of ``limits.store`` and of the disk, that only the other
verbs use: a base, and a share for each open message, which has its records before it. What is refused is refused before
a byte of it is written.

**Room for urgent mail.** Of what sends may take, a part (``limits.urgent_room``, a tenth, and at most 64 MiB) takes
messages of priority 1 only: whoever fills the store, with mail that is settled or not, keeps no alarm out. What is
appended together may use it if all of it is urgent: of a call with both kinds the intake makes two parts. So may what
is copied of a linked node's journal, if an urgent message is in it: it has been accepted there, and comes in the
journal's order.

Two bounds, and the nearer one counts:

* *Within the file*, ``limits.store``. Free pages count as room: SQLite fills them before the file grows, so a store
  whose bodies are removed by retention takes messages again. What it doesn't need soon goes back to the disk
  (:mod:`.shrinking`), which changes nothing of this bound.
* *On the disk*. What is written goes into the write-ahead log first, and from there into the file, so for a while the
  disk has it twice. Counted as taken is what the file is still to grow by (*owed*: without that no checkpoint is
  possible, and without checkpoints the log grows until nothing is), and what the log may still grow by up to its bound.
  The bound goes by the size of the disk: on one of 20 MB a log of 16 MiB leaves no room for anything. The log of the
  zones beside the store (:mod:`.zone_index`) counts alike: it goes at a clean end, and what it leaves is no room for
  sends. A part of the reserve lies on the disk as a ballast, so that nobody else can take it: see :mod:`.ballast`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from trishula.contract.units import show_bytes
from trishula.errors import StorageFull
from trishula_router.store.fold_changes import Row
from trishula_router.store.interface import Condition
from trishula_router.store.messages import URGENT, Draft
from trishula_router.store.sqlite.ballast import Ballast
from trishula_router.store.sqlite.gathered_rows import Rows

__all__ = ["PAGE_BYTES", "ZONES_FILE_NAME", "Space", "storage_full"]

ZONES_FILE_NAME = "node.zones.sqlite"

PAGE_BYTES = 4096

#: The share of the limit, and of the disk, that is kept back; and at most so much.
_RESERVED_SHARE = 16
_RESERVED_MOST_BYTES = 32 * 1024 * 1024
_RESERVED_LEAST_BYTES = 256 * 1024
#: What is kept for urgent mail is at most so much: some ten thousand messages.
_URGENT_MOST_BYTES = 64 * 1024 * 1024
#: The ballast follows the open messages up to so many times the base.
_BALLAST_MOST = 4

#: The share of the disk that is left alone for the small files: the node's log, its configuration at a start.
_MARGIN_SHARE = 64
_MARGIN_MOST_BYTES = 4 * 1024 * 1024

#: The write-ahead log is moved into the file whenever it has grown to this share, and to no more than SQLite's own
#: 16 MiB here: with 4 MiB the writer stalls four times as often for the same work. It may be four times as long while
#: somebody reads.
_LOG_SHARE = 64
_LOG_MOST_BYTES = 16 * 1024 * 1024
_LOG_LEAST_BYTES = 128 * 1024
_LOG_SLACK = 4

#: Rows, indexes and records of one message to one recipient, as measured and rounded up: its ids may be long.
_ROWS_BYTES = 1500
#: The records that an open message has before it: deliveries, returns, its end, each in a record of its own.
_SETTLING_BYTES = 1000

#: Counting the open messages takes as long as there are many; what is claimed in between is added.
_COUNT_EVERY = 100

#: From this share on the log warns, and below the other one it may do so again.
_NEARLY_FULL, _NOT_NEARLY = 0.9, 0.8


def storage_full(why: str = "free disk space on the node or raise limits.store") -> StorageFull:
    """What a sender is told when there is no room."""
    return StorageFull(f"the node's store is full, so it accepted nothing; {why}", retry_after_s=5.0)


class Space:
    """Keeps the reserve of a store. Used by the writer's thread; :meth:`condition` by any.

    Measuring costs a few calls, so it is done only when what was claimed since the last time comes near the limit.

    Args:
        file: the store's.
        limit_bytes: how large it may grow.
        say: takes sentences for the node's log.
        urgent_room: the part that takes urgent messages only.

    Attributes:
        rows: what jobs leave to be inserted together.
    """

    def __init__(
        self,
        file: Path,
        limit_bytes: int,
        say: Callable[[str], None] = lambda sentence: None,
        *,
        urgent_room: float = 0.0,
    ) -> None:
        self._file = file
        self._log = file.with_name(file.name + "-wal")
        self._zones_log = file.with_name(ZONES_FILE_NAME + "-wal")
        self._directory = file.parent
        self._limit_bytes = limit_bytes
        self._say = say
        self.rows = Rows()
        self.ballast = Ballast(file.parent)
        disk_bytes = _disk(self._directory)[0]
        bound = min(disk_bytes, limit_bytes)
        self._base = max(_RESERVED_LEAST_BYTES, min(bound // _RESERVED_SHARE, _RESERVED_MOST_BYTES))
        self._urgent_bytes = min(int(bound * urgent_room), _URGENT_MOST_BYTES)
        self._margin = min(disk_bytes // _MARGIN_SHARE, _MARGIN_MOST_BYTES)
        #: How long the write-ahead log is when it is moved into the file, and how long it may be.
        self.log_bytes = max(_LOG_LEAST_BYTES, min(bound // _LOG_SHARE, _LOG_MOST_BYTES))
        self.log_most_bytes = _LOG_SLACK * self.log_bytes
        self._left_bytes = 0
        self._open = 0
        self._count_in = 0
        self._used_bytes = 0
        #: Of the last measuring: how large the file is, what of it is free pages, and whether these can be given back.
        self.file_bytes = self.unused_bytes = 0
        self.can_shrink = False
        # Of the last measuring: room within the file; on the disk, with the ballast; on the disk, for all that is
        # written; what the log may grow by; and what all of that leaves for sends that are not urgent.
        self._in_file = self._on_disk = self._spare = self._log_growth = self._room = 0
        # Of the last refusal, until there is room for as much: how much was wanted, and why it wasn't had.
        self._refused_bytes = 0
        self._shortage: str | None = None
        self._is_nearly_full = False

    # -- sends ---------------------------------------------------------------------------------------------------------

    def claim(self, connection: sqlite3.Connection, drafts: Sequence[Draft]) -> None:
        """Make sure that there is room for messages.

        Raises:
            StorageFull: there is not.
        """
        messages = sum(len(draft.recipients) for draft in drafts)
        are_urgent = all(draft.priority <= URGENT for draft in drafts)
        self._claim(connection, messages, sum(len(draft.envelope) for draft in drafts), are_urgent=are_urgent)

    def claim_copies(self, connection: sqlite3.Connection, new: Sequence[Row], bodies: Iterable[bytes]) -> None:
        """The same for messages of another node's journal, and their bodies."""
        self._claim(connection, len(new), sum(map(len, bodies)), are_urgent=any(row.priority <= URGENT for row in new))

    def _claim(self, connection: sqlite3.Connection, messages: int, size_bytes: int, *, are_urgent: bool) -> None:
        needed = size_bytes + (_ROWS_BYTES + _SETTLING_BYTES) * messages
        if needed > self._left_bytes:
            # Rows that are to be inserted yet take room as well.
            self.rows.write(connection)
            self._measure(connection)
            if not self._fits(needed, are_urgent=are_urgent):
                raise self._refuse(needed, are_urgent=are_urgent)
            # Half of it, because others write onto the same disk, and so do settlements.
            self._left_bytes = max(needed, min(self._room // 2, _RESERVED_MOST_BYTES))
        self._left_bytes -= needed
        self._open += messages

    def ended(self, messages: int) -> None:
        """So many messages are settled and need nothing more."""
        self._open = max(0, self._open - messages)

    def fullness(self, connection: sqlite3.Connection) -> float:
        """How much of the room for messages is taken: 1.0 is all, and then sends are refused."""
        self._left_bytes = 0
        self._measure(connection)
        return self._fullness()

    def _fullness(self) -> float:
        room = max(0, self._room)
        return self._used_bytes / max(1, self._used_bytes + room)

    def _measure(self, connection: sqlite3.Connection) -> None:
        page, pages, free, mode = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_size", "page_count", "freelist_count", "auto_vacuum")
        )
        self._count_in -= 1
        if self._count_in < 0:
            self._count_in = _COUNT_EVERY
            self._open = int(connection.execute("SELECT count(*) FROM message WHERE state = 0").fetchone()[0])
        for_settling = self._open * _SETTLING_BYTES
        self._used_bytes = (pages - free) * page
        self.file_bytes, self.unused_bytes, self.can_shrink = pages * page, free * page, mode != 0
        in_file_reserve = min(self._limit_bytes // _RESERVED_SHARE, _RESERVED_MOST_BYTES)
        self._in_file = self._limit_bytes - in_file_reserve - for_settling - self._used_bytes
        reserve = self._base + for_settling
        owed = max(0, pages * page - _size(self._file))
        self._log_growth = max(0, self.log_most_bytes - _size(self._log))
        # What it just gave up for a transaction is not taken back before that is written.
        # Nobody reads that log while it is written, so it is longer than its bound by one transaction at most.
        owed += max(0, 2 * self.log_bytes - _size(self._zones_log))
        unneeded = _disk(self._directory)[1] - self._margin - owed - self._log_growth
        self.ballast.hold(min(reserve, _BALLAST_MOST * self._base), unneeded)
        self._spare = _disk(self._directory)[1] - self._margin
        self._on_disk = self._spare + self.ballast.held_bytes - owed - self._log_growth
        # Free pages of the file are room for acks as well, but not for the log.
        room = min(self._in_file, self._on_disk + free * page - reserve if self._on_disk > 0 else 0)
        self._room = room - self._urgent_bytes
        self._tell()

    def _fits(self, needed: int, *, are_urgent: bool) -> bool:
        # A transaction that is longer than the log's bound makes the log longer, too.
        in_log = max(0, needed - self.log_most_bytes // 2)
        # What the log grows by must not come from the ballast.
        has_log = min(needed + _ROWS_BYTES, self._log_growth) + in_log <= max(0, self._spare)
        return has_log and needed + in_log <= self._room + are_urgent * self._urgent_bytes

    # -- what is wrong -------------------------------------------------------------------------------------------------

    def is_disk_short(self) -> bool:
        """Whether the disk has less left than a transaction and the move of the log into the file may need."""
        return _disk(self._directory)[1] < self._margin + self.log_most_bytes

    def _refuse(self, needed: int, *, are_urgent: bool) -> StorageFull:
        kept = "acks" if are_urgent or not self._urgent_bytes else "urgent mail and acks"
        room = self._room + self._urgent_bytes
        if room < self._in_file or needed <= (room if are_urgent else self._room):
            way_out = "free disk space on the node"
            what = (
                f"the disk of {self._directory} has {show_bytes(_disk(self._directory)[1])} left, which are kept for "
                f"{kept} and for the node's own files; free some space"
            )
        else:
            way_out = "raise limits.store on the node, or have agents work off what waits"
            what = (
                f"it takes {show_bytes(self._used_bytes)} of the {show_bytes(self._limit_bytes)} that limits.store "
                f"allows, and the rest is kept for {kept}; raise limits.store, or have agents work off what waits"
            )
        if self._shortage is None:
            self._say(f"the store is full, sends are refused and acks go on: {what}")
        if self._shortage is None or not are_urgent:
            self._refused_bytes = max(1, needed)
        self._shortage = what
        return storage_full(way_out)

    def _tell(self) -> None:
        if self._shortage is not None and self._fits(self._refused_bytes, are_urgent=False):
            self._shortage = None
            self._say("the store has room again, sends are accepted")
        fullness = self._fullness()
        if self._is_nearly_full and fullness < _NOT_NEARLY:
            self._is_nearly_full = False
        elif not self._is_nearly_full and fullness >= _NEARLY_FULL and self._shortage is None:
            self._is_nearly_full = True
            self._say(
                f"the store is {fullness:.0%} full: it takes {show_bytes(self._used_bytes)}, limits.store is "
                f"{show_bytes(self._limit_bytes)}, and the disk has {show_bytes(_disk(self._directory)[1])} left; when "
                "it is full, sends are refused"
            )

    def condition(self) -> Condition:
        """How full it is."""
        return Condition(
            size_bytes=_size(self._file) + _size(self._log),
            used_bytes=self._used_bytes,
            limit_bytes=self._limit_bytes,
            free_bytes=_disk(self._directory)[1],
            reserve_bytes=self.ballast.held_bytes,
            shortage=self._shortage,
            room_bytes=max(0, self._room),
            unused_bytes=self.unused_bytes,
            can_shrink=self.can_shrink,
        )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _disk(directory: Path) -> tuple[int, int]:
    """(all of it, what is free for us), in bytes; where the directory is gone there is none."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return 0, 0
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
