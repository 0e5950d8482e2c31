"""The records of a segment in their order: which are changed, missing, swapped or put in.

A record out of its place tells little before the next one is known: if that goes on behind the gap, a record is
missing; if it is the one that was expected, the record was put in before it; if it is the one after that, the record
stands in the place of another. Which of them have only changed places is known at the end.
"""

from __future__ import annotations

from collections.abc import Callable

from trishula.evidence.chain import ChainCheck
from trishula.evidence.findings import MOST_FINDINGS, What
from trishula.evidence.lines import RecordLine
from trishula.evidence.proof import Proof

__all__ = ["Order"]


class Order:
    """Judges records in the order in which they come.

    Args:
        first: the sequence that the first one should have.
        previous: the digest before it.
        find: told what is wrong.
        proof: told where the chain has no link.

    Attributes:
        digest: of the last record in its place, as it is stated; empty if that one can't be read or isn't there.
    """

    def __init__(self, first: int, previous: bytes, find: Callable[[What, str, int], None], proof: Proof) -> None:
        self.digest = previous
        self._chain = ChainCheck(previous, first - 1)
        self._find = find
        self._proof = proof
        self._held: RecordLine | None = None
        self._can_judge = True
        self._unreadable = 0
        #: Records out of their places → before which one they stand, and whether in the place of it.
        self._strays: dict[int, tuple[int, bool]] = {}
        self._lost: list[tuple[int, int]] = []

    @property
    def sequence(self) -> int:
        """Of the last record in its place."""
        return self._chain.sequence

    def unreadable(self) -> None:
        """There is a line that can't be read; it may have been a record."""
        self._unreadable += 1

    def record(self, line: RecordLine) -> None:
        """The next one."""
        if self._held is not None:
            self._place(self._held, line.sequence)
        expected = self._chain.sequence + 1
        if 0 < line.sequence - expected <= self._unreadable:
            self._skip(line.sequence - 1)
        elif line.sequence != expected:
            self._held = line
            return
        self._unreadable = 0
        self._judge(line)

    def settle(self, next_sequence: int | None) -> None:
        """No record follows, but something behind which ``next_sequence`` should come, if that is known."""
        if self._held is not None:
            self._place(self._held, next_sequence)

    def resume(self, sequence: int, digest: bytes, *, are_lost: bool) -> None:
        """The chain goes on behind a record that isn't here; whether those up to it should be."""
        if are_lost and sequence > self._chain.sequence:
            self._lose(self._chain.sequence + 1, sequence)
        self._chain.resume(sequence, digest)
        self.digest = digest
        self._can_judge = True
        self._proof.broken(sequence + 1)

    def end(self, last: int | None) -> None:
        """There are no more.

        Args:
            last: the sequence that the last one should have, if that is known.
        """
        self.settle(None if last is None else last + 1)
        if last is not None and last > self._chain.sequence and not self._unreadable:
            self._lose(self._chain.sequence + 1, last)
        for first, end in self._lost:
            if first != end or first not in self._strays:
                self._find("missing", _missing(first, end), first)
        lost = {first for first, end in self._lost if first == end}
        for stray, (before, is_in_place) in self._strays.items():
            if is_in_place and self._strays.get(before) == (stray, True):
                if stray < before:
                    self._find("swapped", f"records {stray} and {before} are swapped", stray)
            elif stray == before + 1 and stray in lost:
                self._find("swapped", f"records {before} and {stray} are swapped", before)
            elif stray in lost:
                self._find("swapped", f"record {stray} stands before record {before}", stray)
            elif is_in_place:
                self._find("missing", f"record {before} is missing, and in its place stands {_one(stray)}", before)
            else:
                self._find("inserted", f"{_one(stray)} is put in before record {before}".capitalize(), before)

    def _place(self, held: RecordLine, next_sequence: int | None) -> None:
        """Say where a record that is out of its place belongs, now that the next one is known."""
        self._held = None
        expected = self._chain.sequence + 1
        if next_sequence == expected + 1:
            self._stray(held.sequence, expected, is_in_place=True)
            self._skip(expected)
        elif held.sequence > expected and next_sequence != expected:
            self._lose(expected, held.sequence - 1)
            self._skip(held.sequence - 1)
            self._judge(held)
        else:
            self._stray(held.sequence, expected, is_in_place=False)
            if held.sequence == expected - 1:
                # Of two records of one number the chain knows which is true only by what follows.
                self._skip(held.sequence)

    def _stray(self, sequence: int, before: int, *, is_in_place: bool) -> None:
        if len(self._strays) < MOST_FINDINGS:
            self._strays[sequence] = before, is_in_place
        else:
            self._find("inserted", f"{_one(sequence)} stands before record {before}", before)

    def _lose(self, first: int, last: int) -> None:
        if len(self._lost) < MOST_FINDINGS:
            self._lost.append((first, last))
        else:
            self._find("missing", _missing(first, last), first)

    def _skip(self, sequence: int) -> None:
        self._chain.skip(sequence)
        self._can_judge, self.digest = False, b""

    def _judge(self, line: RecordLine) -> None:
        digest = bytes.fromhex(line.digest)
        what = self._chain.follow(line.sequence, line.at, line.kind, line.facts.encode(), digest)
        if what is not None:
            self._find("changed", what, line.sequence)
        if what is not None or not self._can_judge:
            self._proof.broken(line.sequence + 1)
        self._can_judge = True
        self.digest = digest


def _missing(first: int, last: int) -> str:
    return f"record {first} is missing" if first == last else f"records {first} to {last} are missing"


def _one(sequence: int) -> str:
    return f"a record that calls itself {sequence}"
