"""Which files of a v1 archive are messages of its history: a table, without I/O.

=============  ========================================================================================================
outcome        the file
=============  ========================================================================================================
``IMPORTED``   is a message that the history doesn't have
``KNOWN``      is a message that the history had before this import
``COPY``       is the same message as an earlier file of this import: the sender's folder has it, and the recipient's
``ODD``        is none of these, and a sentence says why
=============  ========================================================================================================

Each file has one outcome, so the four counts add up to the files.

A message is known by its sender and its id. Two files that have these in common and say different things are not one
message: the second is odd, and nobody guesses which of them was meant.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass

from trishula.contract.addresses import is_message_id
from trishula.errors import FileInvalid
from trishula.files.history import Key, Line, digest_of
from trishula.files.names import Names
from trishula.files.seen import Seen
from trishula.files.tree import Found
from trishula.files.v1 import from_v1, read_map

__all__ = ["Importing", "Odd", "ImportOutcome"]


class ImportOutcome(enum.Enum):
    """See the module's docstring."""

    IMPORTED = "imported"
    KNOWN = "known"
    COPY = "copies"
    ODD = "odd"


@dataclass(frozen=True, slots=True)
class Odd:
    """A file that is not in the history, or not as it stood.

    Attributes:
        file: its path below the folder.
        why: one sentence.
    """

    file: str
    why: str


class Importing:
    """One import.

    Attributes:
        counts: how many files had each outcome.
        odd: the files that are not taken.
        noted: the files that are taken, with something that was set for them.

    Args:
        seen: what the history has; what the import sees comes to it.
        names: how v1 called the agents.
        at: the instant of the import, ISO 8601.
        by: who imports.
    """

    def __init__(self, seen: Seen, names: Names, at: str, by: str) -> None:
        self._seen = seen
        self._names = names
        self._at, self._by = at, by
        self.counts = dict.fromkeys(ImportOutcome, 0)
        self.odd: list[Odd] = []
        self.noted: list[Odd] = []

    @property
    def files(self) -> int:
        """How many were judged."""
        return sum(self.counts.values())

    def judge(self, found: Found) -> Line | None:
        """What the history gets of a file, if anything."""
        try:
            outcome, line = self._judge(found)
        except FileInvalid as error:
            self.odd.append(Odd(found.path, error.sentence))
            outcome, line = ImportOutcome.ODD, None
        self.counts[outcome] += 1
        return line

    def _judge(self, found: Found) -> tuple[ImportOutcome, Line | None]:
        if found.why_not is not None:
            raise FileInvalid(found.why_not)
        raw, notes = read_map(found.data), []
        if raw.get("id") in (None, ""):
            stem = found.path.rpartition("/")[2].rpartition(".")[0]
            if not is_message_id(stem):
                raise FileInvalid("id is missing, and the file's name is no id either; give it one")
            raw["id"] = stem
            notes.append("id is missing; the file's name is taken for it")
        if raw.get("timestamp") in (None, ""):
            notes.append("timestamp is missing; the message has no time")
        message = from_v1(raw, self._names)
        digest, key = digest_of(message), (str(message.sender), message.id)
        before = self._seen.get(key)
        if before is not None:
            first, path = before
            if first != digest:
                raise FileInvalid(_another(key, path or "the history"))
            if path is not None:
                return ImportOutcome.COPY, None
        self._seen.put(key, digest, found.path)
        if before is not None:
            return ImportOutcome.KNOWN, None
        self.noted.extend(Odd(found.path, note) for note in notes)
        sha256 = hashlib.sha256(found.data).hexdigest()
        line = Line(message.to_wire(), found.path, sha256, digest, self._at, self._by, tuple(notes))
        return ImportOutcome.IMPORTED, line


def _another(key: Key, where: str) -> str:
    return f"{where} has another message {key[1]} from {key[0]}; give this one an id of its own if both were meant"
