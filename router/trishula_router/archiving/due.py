"""Which records of a journal go into the archive next: those that are old enough, or the oldest where room is scarce.

By age, records go when they are older than ``retention.records``, a whole segment at a time; of a quiet node at least
once a day, so that a segment never lasts longer than that. Where the store is fuller than ``retention.early`` says the
oldest go before their time: a node that takes new messages is worth more than records that are at hand.

Nothing here does I/O, or reads a clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from trishula_router.settings.options import RetentionPolicy

__all__ = ["SEGMENT_RECORDS", "Due", "due"]

#: Records in a segment: some ten megabytes, a second's work to check.
SEGMENT_RECORDS = 100_000
#: Of a store that is too full: it isn't worth it for less.
_LEAST_RECORDS = 1_000
#: What was written a moment ago is about messages that are still on their way, so it would only be held.
_YOUNGEST_MS = 10_000
_DAY_MS = 86_400_000


class Due(NamedTuple):
    """What goes into a segment.

    Attributes:
        before: records that were written before this instant (ms).
        records: it is begun for so many of them, or more.
        overdue: and if the first one was written before this instant (ms), for any number of them.
    """

    before: int
    records: int
    overdue: int

    def takes(self, at: int, now: int) -> bool:
        """Whether a record that was written at an instant may go; one of the future was written by a wrong clock."""
        return at < self.before or at > now

    def is_overdue(self, at: int, now: int) -> bool:
        """Whether a segment is begun for a first record of that instant alone."""
        return at < self.overdue or at > now


def due(policy: RetentionPolicy, now: int, fullness: float, earlier: Callable[[int], int]) -> Due:
    """What goes now.

    Args:
        policy: of the node.
        now: ms.
        fullness: how much of what the store may take it takes: 1.0 is all.
        earlier: what the clock told at an instant of the past.
    """
    before, overdue = earlier(now - policy.records_ms), earlier(now - policy.records_ms - _DAY_MS)
    if fullness >= policy.early:
        return Due(max(before, earlier(now - _YOUNGEST_MS)), _LEAST_RECORDS, overdue)
    return Due(before, SEGMENT_RECORDS, overdue)
