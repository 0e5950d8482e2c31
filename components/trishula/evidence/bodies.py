"""The bodies of messages beside the records that accepted them: each must have the SHA-256 that its record states."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from trishula.evidence.findings import What
from trishula.evidence.lines import BodyLine, NoBody, RecordLine

__all__ = ["ACCEPTED", "Bodies", "stated_sum"]

#: The kind of the records that have bodies.
ACCEPTED = "accepted"


class _Facts(msgspec.Struct, frozen=True, gc=False):
    sha256: str


_read = msgspec.json.Decoder(_Facts).decode


def stated_sum(facts: str | bytes) -> str | None:
    """The SHA-256 that the facts of an accepted record state of its body; ``None`` if they are garbled."""
    try:
        return _read(facts).sha256
    except (msgspec.MsgspecError, UnicodeError):
        return None


class Bodies:
    """Judges bodies as they come.

    Args:
        are_there: whether the file should have any.
        find: told what is wrong.

    Attributes:
        count: how many there are.
        redacted: how many somebody left out.
    """

    def __init__(self, are_there: bool, find: Callable[[What, str, int | None], None]) -> None:
        self.count = self.redacted = 0
        self._are_there = are_there
        self._find = find
        self._sequence: int | None = None
        #: What the last record states, if its body has not come yet; and the body before.
        self._stated: str | None = None
        self._is_due = False
        self._last: str | None = None

    def record(self, line: RecordLine) -> None:
        """The next record."""
        if not self._are_there:
            return
        self.settle()
        self._sequence = line.sequence
        self._stated = stated_sum(line.facts) if line.kind == ACCEPTED else None
        self._is_due = self._stated is not None

    def body(self, line: BodyLine) -> None:
        """A body."""
        self.count += 1
        digest = hashlib.sha256(line.body.encode()).hexdigest()
        if not self._follows(line.sequence):
            self._find("body", f"a body of record {line.sequence} stands where none belongs", line.sequence)
        elif digest != self._stated:
            self._find(
                "body", f"the body beside record {line.sequence} is not the one that was accepted", line.sequence
            )
        self._is_due, self._last = False, digest

    def no_body(self, line: NoBody) -> None:
        """Why there is none."""
        self.redacted += line.reason == "redacted"
        if not self._follows(line.sequence):
            self._find(
                "body",
                f"of record {line.sequence} a note says why it has no body, and none belongs there",
                line.sequence,
            )
        self._is_due = False

    def settle(self) -> None:
        """The body of the last record should have come by now."""
        if self._is_due and self._stated != self._last:
            self._find(
                "body", f"the body beside record {self._sequence} is missing, and no note says why", self._sequence
            )
        self._is_due = False

    def _follows(self, sequence: int) -> bool:
        return self._is_due and sequence == self._sequence
