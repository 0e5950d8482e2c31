"""Finding the records of one message in an archive: the one that accepted it, and those that list it by position."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from trishula.evidence.archive import Archive, read_records

__all__ = ["Found", "find_message"]

#: Facts that list messages by position, alone or as the first of a list.
_LISTS = ("messages", "bodies")


class Found(msgspec.Struct, frozen=True):
    """A record of a message.

    Attributes:
        sequence: its place in the journal.
        at: when it was written, ms.
        kind: what it tells.
        facts: what it tells of.
        segment: the name of the file that has it.
    """

    sequence: int
    at: int
    kind: str
    facts: dict[str, Any]
    segment: str


def find_message(folder: Path, message_id: str) -> Iterator[Found]:
    """The records of each message of that id, oldest first; of a broadcast those of all its recipients.

    Args:
        folder: of the archive.
        message_id: the sender's id.

    Raises:
        SegmentDamaged: a segment can't be read to its end; what was found before it was told.
    """
    as_written = msgspec.json.encode(message_id).decode()
    positions: set[int] = set()
    for segment in Archive(folder).segments():
        for line in read_records(segment.path):
            if line.kind == "accepted":
                # As text first: of a hundred million records nearly all are of other messages.
                if as_written not in line.facts or msgspec.json.decode(line.facts).get("id") != message_id:
                    continue
                positions.add(line.sequence)
            elif not positions:
                continue
            facts = msgspec.json.decode(line.facts)
            if line.kind == "accepted" or not positions.isdisjoint(_listed(facts)):
                yield Found(line.sequence, line.at, line.kind, facts, segment.path.name)


def _listed(facts: dict[str, Any]) -> Iterator[int]:
    for name in _LISTS:
        for one in facts.get(name, ()):
            yield one[0] if isinstance(one, list) else one
