"""What a check of a segment comes to: what was found, and what is proven all the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from trishula.evidence.lines import Head

__all__ = ["MOST_FINDINGS", "Checked", "Finding", "What"]

#: Findings that are kept one by one: a file with one record put in where all behind it were numbered anew has as many
#: as it has records.
MOST_FINDINGS = 50

What = Literal[
    "empty",
    "foreign",
    "newer",
    "damaged",
    "truncated",
    "unreadable",
    "changed",
    "missing",
    "swapped",
    "inserted",
    "unsigned",
    "wrong_key",
    "signature",
    "body",
    "foot",
    "gap",
]


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it was written.

    Attributes:
        what: in a word, for programs:

            * of the file: ``empty``, ``foreign`` (no segment), ``newer`` (of a later release), ``damaged`` (its bytes),
              ``truncated``, ``foot`` (its last line tells something else than its records), ``gap`` (it doesn't join on
              to the segment before);
            * of a line: ``unreadable``;
            * of a record: ``changed``, ``missing``, ``swapped``, ``inserted``; ``body`` (its message's);
            * of what is signed: ``unsigned``, ``wrong_key``, ``signature``.
        sentence: the same for people, with the numbers of the records.
        sequence: of the record, or the last one before; ``None`` if it is of the file.
    """

    what: What
    sentence: str
    sequence: int | None = None


class Checked(msgspec.Struct, frozen=True):
    """The outcome of a check.

    Attributes:
        ok: whether everything is as it was written, and all that was to be signed is.
        head: the first line; ``None`` if it can't be read.
        findings: those of the whole file, and then by record; at most :data:`MOST_FINDINGS`, and one of the file's
            bytes.
        further: how many more there were.
        records: how many there are.
        first, last: the sequences of the first and the last of them; ``None`` if there is none.
        first_at, last_at: when they were written, ms, as they say.
        end: the sequence up to which the file goes, with what it leaves out at its end.
        digest: of that record, as it is stated.
        omitted: how many records are left out.
        bodies, redacted: how many bodies of messages are there, and how many were left out by somebody.
        proven: runs of records, (first, last) each, that lead up to a statement that the key signed.
        proven_to: the last record of which the key signed a statement; ``None`` if there is none.
        key: the public key by which that was checked; empty if nothing is signed.
        key_is_known: whether that is one of those that the caller gave; else it is the one that the file names.
    """

    ok: bool
    head: Head | None
    findings: tuple[Finding, ...]
    further: int
    records: int
    first: int | None
    last: int | None
    first_at: int | None
    last_at: int | None
    end: int
    digest: bytes
    omitted: int
    bodies: int
    redacted: int
    proven: tuple[tuple[int, int], ...]
    proven_to: int | None
    key: str
    key_is_known: bool

    def and_of(self, findings: Sequence[Finding]) -> Checked:
        """The same, with findings from elsewhere before its own."""
        if not findings:
            return self
        return msgspec.structs.replace(self, ok=False, findings=(*findings, *self.findings))
