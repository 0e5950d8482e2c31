"""A selection of a journal's records as a file: those that a question asks for; the others are left out, and counted.

Each record is bound to the journal as in a whole export: a run of records follows the digest of the record before it,
and the node signs the digest of the run's last one. A node signs what its own store has, so nothing can be put in. That
nothing was left out which the question asks for can't be proven by a file without it: the check says so.

A page of records is held at a time, and nothing of those before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from trishula.cli.newest import PAGE, Ask
from trishula.errors import NodeFailed
from trishula.evidence.writing import SegmentWriter

__all__ = ["pages_of_selection", "runs_of"]


def runs_of(ask: Ask, asked: dict[str, Any], first: int, last: int) -> Iterator[tuple[int, int]]:
    """The records from ``first`` to ``last`` that fit a question, as runs that follow each other: (first, last) each.

    Args:
        ask: asks ``trishula.audit.query``.
        asked: the question, without ``after`` and ``limit``.
        first, last: sequences.
    """
    begin = end = 0
    after, more = first - 1, True
    while more and after < last:
        told = ask({**asked, "after": after, "limit": PAGE})
        for sequence in (int(record["seq"]) for record in told["records"]):
            if sequence > last:
                more = False
                break
            if begin and sequence == end + 1 and sequence - begin < PAGE:
                end = sequence
                continue
            if begin:
                yield begin, end
            begin = end = sequence
        before, after = after, int(told.get("after", after))
        more = more and bool(told["more"]) and after > before
    if begin:
        yield begin, end


def pages_of_selection(
    ask: Callable[[int, int], dict[str, Any]],
    runs: Iterator[tuple[int, int]],
    last: int,
    writer: SegmentWriter,
    add: Callable[[dict[str, Any]], None],
) -> str:
    """Write the runs, and what stands for the records between them; returns the signature of the last record.

    Args:
        ask: asks ``trishula.audit.records``, behind a record, for at most so many.
        runs: see :func:`runs_of`.
        last: the sequence that the file ends with.
        writer: of the file.
        add: writes the records of a page.

    Raises:
        NodeFailed: the node hands out no chain.
    """
    signature = ""
    for begin, end in runs:
        if begin <= writer.sequence:
            raise NodeFailed(f"the node named record {begin} twice; export it again")
        page = ask(begin - 1, end - begin + 1)
        if begin > writer.sequence + 1:
            writer.omit(begin - 1, bytes.fromhex(page["previous"]))
        while True:
            add(page)
            signature = str(page["signature"])
            # What follows may be left out.
            writer.checkpoint(signature)
            if writer.sequence >= end:
                break
            if not page["records"]:
                raise NodeFailed(f"the node has no record behind {writer.sequence} any more; export it again")
            page = ask(writer.sequence, end - writer.sequence)
    if writer.sequence < last:
        page = ask(last - 1, 1)
        writer.omit(last, bytes.fromhex(page["records"][-1][4]))
        signature = str(page["signature"])
    return signature
