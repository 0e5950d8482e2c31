"""A road: what carries entries from cell to cell, and knows homes. It may lose everything at any moment.

Promises, held by ``tests/contract/test_road.py``: what a road takes it gives to the reader of that stream at least
once, as long as it loses nothing; an entry that is not taken out is given again to whoever reads the stream after a
while; a home is put down only in place of the one that was seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

__all__ = ["Change", "Entry", "Fields", "Road", "RoadFailed"]

Fields = Mapping[bytes, bytes]


class RoadFailed(Exception):
    """The road can't be used just now; the text says why, and holds no secret."""


class Entry(NamedTuple):
    """An entry of the own stream: its id, and its fields."""

    id: str
    fields: dict[bytes, bytes]


class Change(NamedTuple):
    """A home to put down for an address, in place of what was seen there; ``None`` if nothing was."""

    address: str
    seen: bytes | None
    home: bytes


class Road(Protocol):
    """One end of a road; one thread uses it. All of it blocks, for seconds at most.

    Each method raises :class:`RoadFailed` if it can't do it; some of it may be done then all the same.
    """

    @property
    def where(self) -> str:
        """Where it leads, for people."""

    @property
    def losses(self) -> int:
        """How often the own stream was found to be another one than before: what was on it is lost."""

    def append(self, entries: Sequence[tuple[str, Fields]], worked_off: Sequence[str] = ()) -> None:
        """Put entries on the streams of cells, (cell, fields) each, in order; and take those out of the own stream that
        were worked off, by their ids."""

    def read(self, limit: int, wait_s: float) -> list[Entry]:
        """The next entries of the own stream; waits for the first one. What was read and never taken out comes too,
        after a restart of this node at once, and of another node of the cell after a while."""

    def homes(self, addresses: Sequence[str]) -> list[bytes | None]:
        """What is put down for addresses."""

    def put_homes(self, changes: Sequence[Change], ttl_s: float) -> list[bool]:
        """Put homes down for so long; of each whether that was done."""

    def close(self) -> None:
        """Let go of connections; the next call makes new ones."""
