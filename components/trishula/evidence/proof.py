"""Which records of a segment are proven: those that lead, link by link, up to a digest that the node signed."""

from __future__ import annotations

__all__ = ["Proof"]

#: Runs that are kept one by one; a file with more breaks than that is told of well enough.
_MOST_RUNS = 100


class Proof:
    """Follows the links of a chain.

    Args:
        first: the sequence of the first record.

    Attributes:
        runs: the runs of records that are proven so far, (first, last) each.
        to: the newest record whose digest is signed; ``None`` if there is none.
    """

    def __init__(self, first: int) -> None:
        self.runs: list[tuple[int, int]] = []
        self.to: int | None = None
        self._begin = first

    def broken(self, next_sequence: int) -> None:
        """The links up to here lead no further; from ``next_sequence`` on they hold again."""
        self._begin = next_sequence

    def signed(self, sequence: int) -> None:
        """The digest of the last record is signed."""
        self.to = sequence
        if self._begin > sequence:
            return
        run = self._begin, sequence
        if self.runs and self.runs[-1][0] == self._begin:
            self.runs[-1] = run
        elif len(self.runs) < _MOST_RUNS:
            self.runs.append(run)

    def covers(self, sequence: int) -> bool:
        """Whether no record of this run, which ends with ``sequence``, is without a signed digest behind it."""
        return self.to == sequence or self._begin > sequence
