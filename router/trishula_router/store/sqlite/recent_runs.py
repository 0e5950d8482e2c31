"""The newest records of the node's own journal, in memory: what peers that keep up are handed.

A peer that keeps up asks for each record within milliseconds of its commit. To read it from the file again, message and
body with it, costs half as much as to write it did, in the process that has the most to do.

Older records than :data:`FRESH_S` are not kept. A run from here says of each message that it is open, as a run that was
read at the commit would; of a message that was accepted a while ago the file knows better, see :mod:`.read_runs`.

One thread at a time: the writer's collects, and the reactor's has them once they are durable.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from trishula_router.store.journal import Kind
from trishula_router.store.runs import Extract, Fresh, Particulars

__all__ = ["FRESH_S", "Recent"]

#: Many times what a peer that keeps up takes to ask. What was accepted longer ago may well be settled by now, and a
#: peer that is told so with the message delivers it to nobody.
FRESH_S = 0.5
#: Of facts and envelopes together.
_LIMIT_BYTES = 4 * 1024 * 1024


class Recent:
    """Implements what of :meth:`~trishula_router.store.interface.Store.extract` needs no file.

    Args:
        epoch: of the journal.
        seconds: a clock.
    """

    def __init__(self, epoch: str, seconds: Callable[[], float]) -> None:
        self._epoch = epoch
        self._seconds = seconds
        self._records: deque[Fresh] = deque()
        self._size_bytes = 0
        # (when, up to which sequence) of what was added together.
        self._added: deque[tuple[float, int]] = deque()

    def add(self, fresh: Sequence[Fresh]) -> None:
        """Keep records that are durable now, in order."""
        if not fresh:
            return
        last = self._records[-1].sequence if self._records else 0
        for one in fresh:
            if one.record[1] in (Kind.REPLAYED, Kind.CLOCK_SET) or (last and one.sequence != last + 1):
                # A replay brings bodies along that are in the file, and when a clock is set, instants become others.
                self._clear()
            last = one.sequence
            self._records.append(one)
            self._size_bytes += one.size_bytes
        self._added.append((self._seconds(), last))
        self._drop_old()

    def _clear(self) -> None:
        self._records.clear()
        self._added.clear()
        self._size_bytes = 0

    def _drop_old(self) -> None:
        too_old_s = self._seconds() - FRESH_S
        while self._added and (self._added[0][0] < too_old_s or self._size_bytes > _LIMIT_BYTES):
            _, until = self._added.popleft()
            # The last one stays for its digest: what follows it continues the chain there.
            while len(self._records) > 1 and self._records[0].sequence < until:
                self._size_bytes -= self._records.popleft().size_bytes

    def run(
        self, after: int, origins: Mapping[int, tuple[str, str]], *, limit: int, limit_bytes: int
    ) -> Extract | None:
        """A run of records behind a sequence; ``None`` if that is to be read from the file.

        Args:
            after: the sequence.
            origins: see :attr:`Extract.origins`.
            limit, limit_bytes: as for a run from the file.
        """
        self._drop_old()
        skipped = after - self._records[0].sequence if self._records else -1
        if skipped < 0 or skipped + 1 >= len(self._records):
            return None
        previous = self._records[skipped].record[3]
        records: list[tuple[int, str, bytes, bytes]] = []
        messages: dict[int, Particulars] = {}
        bodies: dict[int, bytes] = {}
        size_bytes = body = place = 0
        for one in islice(self._records, skipped + 1, None):
            # A broadcast stays together, so that its envelope is sent once.
            shares = one.body != 0 and one.body == body
            size_bytes += len(one.record[2]) + (0 if shares else len(one.envelope))
            if records and not shares and (len(records) >= limit or size_bytes > limit_bytes):
                break
            body = one.body
            records.append(one.record)
            if body:
                if not shares:
                    place = one.sequence
                    bodies[place] = one.envelope
                messages[one.sequence] = Particulars(one.expires_at, one.by_deadline, place)
        return Extract(self._epoch, after + 1, previous, records, messages, bodies, {}, dict(origins))
