"""Pages of the node's own journal, from its store, or from its archive where the store has cut them.

What is in neither, because ``retention.archive`` deleted the segment, somebody moved it, or the store is damaged, is a
*gap*: a line of its own of the kind ``gap`` with the first and the last sequence, so that no collector takes what it
has for the whole. Cutting never waits for a mirror: a Redis that is dead for a month must not fill the node's store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from trishula_router.archiving.archiver import InThread
from trishula_router.mirroring.archived import ArchiveWalk
from trishula_router.store.interface import Store

__all__ = ["GAP", "Entry", "Pages"]

#: The kind of the line that stands for records that are nowhere; the journal has none of that name.
GAP = "gap"
#: Records of a page.
_RECORDS = 250
#: Facts of a page from the archive, in bytes; no further record then.
_BYTES = 1024 * 1024

#: (at, kind, facts, digest), as the store and the archive have them.
_Row = tuple[int, str, bytes, bytes]


class Entry(msgspec.Struct, frozen=True, gc=False):
    """What a target gets: one line.

    Attributes:
        sequence: of the record; of a gap that of its last one.
        at: when it was written, ms.
        kind: of the record.
        digest: of the record, hexadecimal; empty for a gap.
        line: JSON, one line without its end: ``node``, ``epoch``, ``seq``, ``at``, ``kind``, ``facts``, ``digest``.
    """

    sequence: int
    at: int
    kind: str
    digest: str
    line: bytes


class _Line(msgspec.Struct):
    """As ``trishula audit mirror`` writes it: facts have an "epoch" and a "digest" of their own."""

    node: str
    epoch: str
    seq: int
    at: int
    kind: str
    facts: msgspec.Raw
    digest: str


_encode = msgspec.json.Encoder().encode


class Pages:
    """See the module's docstring.

    Args:
        node: the node's name.
        store: with the journal.
        walk: through its archive.
        in_thread: has the archive read.
        now: the wall clock in ms.
    """

    def __init__(self, node: str, store: Store, walk: ArchiveWalk, in_thread: InThread, now: Callable[[], int]) -> None:
        self._node = node
        self._store = store
        self._walk = walk
        self._in_thread = in_thread
        self._now = now

    async def behind(self, after: int) -> Sequence[Entry]:
        """The records behind a sequence, in order, each of which follows the one before; or one gap.

        Empty if there is none.
        """
        base = self._store.base().sequence
        if after < base:
            return await self._archived(after, base)
        records = await self._store.records(after=after, limit=_RECORDS)
        entries: list[Entry] = []
        for record in records:
            if record.position != after + len(entries) + 1:
                break
            row = record.at, record.kind, record.facts, record.digest
            entries.append(self._entry(record.position, row))
        if entries or not records:
            return entries
        if (base := self._store.base().sequence) > after:
            # It was cut meanwhile.
            return await self._archived(after, base)
        return [self._gap(after + 1, records[0].position - 1, "the store is damaged: trishula node verify")]

    async def _archived(self, after: int, base: int) -> Sequence[Entry]:
        walked = await self._in_thread(lambda: self._walk.behind(after, base, _RECORDS, _BYTES))
        if not walked.lines:
            return [self._gap(after + 1, walked.gap_until, walked.why)]
        return [
            self._entry(one.sequence, (one.at, one.kind, one.facts.encode(), bytes.fromhex(one.digest)))
            for one in walked.lines
        ]

    def _entry(self, sequence: int, row: _Row) -> Entry:
        at, kind, facts, digest = row
        line = _Line(self._node, self._store.epoch, sequence, at, kind, msgspec.Raw(facts), digest.hex())
        return Entry(sequence, at, kind, line.digest, _encode(line))

    def _gap(self, first: int, last: int, reason: str) -> Entry:
        facts = _encode({"first": first, "last": last, "reason": reason})
        at = self._now()
        line = _Line(self._node, self._store.epoch, last, at, GAP, msgspec.Raw(facts), "")
        return Entry(last, at, GAP, "", _encode(line))
