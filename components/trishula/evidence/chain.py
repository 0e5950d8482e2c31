"""The chain of a journal's records: the digest of each is over the record and over the digest of the one before.

``digest(n) = SHA-256(digest(n-1) | sequence | at | kind | 0 | facts)``, with the sequence and the instant as 64-bit
integers, big end first. Whoever holds the newest digest can tell whether anything before it was changed, left out or
put in.

Nothing here does I/O.
"""

from __future__ import annotations

import hashlib
import struct

__all__ = ["GENESIS", "ChainCheck", "digest_of"]

#: What the first record's digest is chained to.
GENESIS = bytes(32)

_HEAD = struct.Struct(">qq")


def digest_of(previous: bytes, sequence: int, at: int, kind: str, facts: bytes) -> bytes:
    """The digest of a record that follows one with the digest ``previous``."""
    return hashlib.sha256(previous + _HEAD.pack(sequence, at) + kind.encode() + b"\0" + facts).digest()


class ChainCheck:
    """Follows a chain record by record.

    A damaged record is told of once: the next one is judged by the digest that the damaged one states, or by the one
    that it should state, so that a flipped bit in either is held against that record alone.

    Args:
        previous: the digest before the first record.
        sequence: the sequence before it.
        node: whose it is, for the sentences; "" for the node's own.
    """

    def __init__(self, previous: bytes = GENESIS, sequence: int = 0, node: str = "") -> None:
        self._stated: bytes | None = previous
        self._should_be = previous
        self._of = node and f" of node {node}"
        self.sequence = sequence

    def skip(self, sequence: int) -> None:
        """There is a record at ``sequence`` that can't be read."""
        self._stated, self.sequence = None, sequence

    def resume(self, sequence: int, digest: bytes) -> None:
        """Go on behind the record at ``sequence``, whose digest is known from elsewhere."""
        self._stated = self._should_be = digest
        self.sequence = sequence

    def follow(self, sequence: int, at: int, kind: str, facts: bytes, digest: bytes) -> str | None:
        """What is wrong with the next record, or ``None``; one behind a gap can't be judged."""
        what = None
        if sequence != self.sequence + 1:
            what = f"records {self.sequence + 1} to {sequence - 1}{self._of} are missing"
            self._should_be = digest
        elif self._stated is None:
            self._should_be = digest
        else:
            before, self._should_be = self._should_be, digest_of(self._stated, sequence, at, kind, facts)
            if self._should_be != digest and digest_of(before, sequence, at, kind, facts) != digest:
                what = f"record {sequence}{self._of} ({kind}) doesn't match its digest"
        self._stated, self.sequence = digest, sequence
        return what
