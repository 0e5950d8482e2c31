"""Which records of a run are new to a store, and whether they continue the chain that is held there.

Nothing here does I/O.
"""

from __future__ import annotations

from trishula_router.store.bases import Base
from trishula_router.store.journal import digest_of
from trishula_router.store.origins import End
from trishula_router.store.remembering import are_in_order
from trishula_router.store.runs import Extract, JournalCut, JournalForked
from trishula_router.store.telling import is_map

__all__ = ["joined", "rebased"]

_NO_BASE = Base()


def joined(
    extract: Extract, node: str, end: End, base: Base = _NO_BASE
) -> list[tuple[int, int, str, bytes, bytes]] | None:
    """The records of a run behind the end of what is held, with their sequences; ``None`` if there is a gap.

    Args:
        extract: the run.
        node: whose journal it is.
        end: of what is held of it.
        base: where that begins.

    Raises:
        JournalForked: one of them doesn't continue the chain.
    """
    if extract.first > end.sequence + 1:
        return None
    for at, (_, _, facts, _) in enumerate(extract.records):
        if not is_map(facts):
            raise JournalForked(node, extract.epoch, extract.first + at, "has facts that are no map of JSON")
    if extract.rest is not None:
        return _left(extract, node, end, base)

    def forked(sequence: int, why: str) -> JournalForked:
        return JournalForked(node, extract.epoch, sequence, why)

    held = end.sequence - extract.first + 1
    if held > len(extract.records) or not extract.records:
        return []
    previous = extract.previous if held == 0 else extract.records[held - 1][3]
    # Of the last record of a rest that was cut nobody knew the digest: who hands out what follows is believed.
    if (end.digest or not end.sequence) and previous != end.digest:
        raise forked(end.sequence + (held == 0), "is not of the journal that is held here")
    fresh = []
    for sequence, (at, kind, facts, digest) in enumerate(extract.records[held:], end.sequence + 1):
        if digest_of(previous, sequence, at, kind, facts) != digest:
            raise forked(sequence, "doesn't match its digest")
        fresh.append((sequence, at, kind, facts, digest))
        previous = digest
    return fresh


def _left(extract: Extract, node: str, end: End, base: Base) -> list[tuple[int, int, str, bytes, bytes]]:
    """The same of a run of what is left of records that were cut."""
    rest = extract.rest
    if rest is None or rest.last <= end.sequence:
        return []
    if end.sequence and not base.is_behind:
        # Of a message that is open here, its end may be among what is missing: it would be delivered once more.
        raise JournalCut(node, extract.epoch, end.sequence + 1, rest.last)
    if not are_in_order(extract):
        raise JournalForked(node, extract.epoch, extract.first, "is told out of order")
    told = zip(rest.sequences, extract.records, strict=True)
    return [(sequence, *record) for sequence, record in told if sequence > end.sequence]


def rebased(extract: Extract, end: End, base: Base) -> Base | None:
    """Where a journal begins once a run was joined to it; ``None`` if that is where it began before.

    A run without gaps also goes on behind a rest of which not all was told: it is of another node, that has cut less.

    Args:
        extract: the run.
        end, base: as they were before.
    """
    if extract.rest is not None:
        return Base(extract.rest.last, extract.rest.digest, max(extract.rest.last, extract.rest.until))
    if not base.is_behind:
        return None
    held = end.sequence - extract.first + 1
    return Base(end.sequence, extract.previous if held == 0 else extract.records[held - 1][3], end.sequence)
