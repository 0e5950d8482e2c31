"""Zones: which stretches of a journal may have records that fit a question, so that the others need not be read.

A *zone* is :data:`ZONE_RECORDS` records of one journal that follow each other. Of each zone that is full a store may
keep *terms*: the agents that its records tell of, and the messages that they tell of; their kinds, types and outcomes;
and the first and the last instant. A question reads the zones that have all its terms, and what has no terms yet.

It is a zone map (a block range index) in place of an index of records by agent, kind and time: some bytes a record and
not some dozens, and nothing while a message is accepted, because terms are gathered behind the journal.

What is told of a message later (who got it, how it ended) changes which questions its earlier records fit. So whoever
gathers the terms of a zone adds those of its messages to all zones that have records of them: see
:mod:`.sqlite.zone_index`.

Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import combinations
from typing import Protocol

import msgspec
from twisted.internet.defer import Deferred, succeed

__all__ = [
    "ZONE_SHIFT",
    "Likely",
    "NoZones",
    "Sought",
    "Zones",
    "about_id",
    "forgetting",
    "of_kind",
    "of_pair",
    "of_party",
    "of_type",
    "parties_terms",
    "with_outcome",
    "zone_of",
]

#: A position shifted by this is its zone. Of 512 records a rare agent costs little to look for, and of ten agents that
#: are in every zone the terms take a byte a record.
ZONE_SHIFT = 9
ZONE_RECORDS = 1 << ZONE_SHIFT


class Sought(msgspec.Struct, frozen=True):
    """What records must have that fit a question, as far as zones tell; without any of it each zone may have some.

    Attributes:
        terms: a zone must have one of each group.
        zones: if not ``None``, zones that stand for the last group: those that are known to have what is asked for.
        since, until: as a question's, ms.
    """

    terms: tuple[tuple[str, ...], ...] = ()
    zones: frozenset[int] | None = None
    since: int | None = None
    until: int | None = None

    @property
    def is_anything(self) -> bool:
        """Whether nothing is sought that a zone tells."""
        return not self.terms and self.zones is None and self.since is None and self.until is None


class Likely(msgspec.Struct, frozen=True):
    """Where to look.

    Attributes:
        stretches: (behind this position, up to and with this one), in order.
        upto: what is at and before this position, and in none of them, does not fit.
    """

    stretches: list[tuple[int, int]]
    upto: int


class Zones(Protocol):
    """What a store knows of its zones."""

    def likely(self, sought: Sought, after: int, end: int) -> Deferred[Likely]:
        """Where to look for it in one journal, behind a position and up to ``end``, or some of the way."""

    def step(self) -> Deferred[int]:
        """Gather the terms of some more zones; the answer is how many. It is asked for again and again."""


class NoZones:
    """Of a store in memory: all of it is looked through."""

    def likely(self, sought: Sought, after: int, end: int) -> Deferred[Likely]:
        return succeed(Likely([(after, end)], end))

    def step(self) -> Deferred[int]:
        return succeed(0)


def zone_of(position: int) -> int:
    """The zone that a record is in."""
    return position >> ZONE_SHIFT


# -- terms: a letter for what it is, and the rest as agents wrote it ---------------------------------------------------


def of_kind(kind: str) -> str:
    """The zone has a record of this kind."""
    return f"k:{kind}"


def of_type(message_type: str) -> str:
    """It has a record that tells of a message of this type."""
    return f"t:{message_type}"


def with_outcome(state: str) -> str:
    """It has a record that tells of a message that ended so."""
    return f"o:{state}"


def about_id(message_id: str) -> str:
    """It has a record that names the id and is not found by the row of its message."""
    return f"i:{message_id}"


def forgetting(zone: int) -> str:
    """It has a record that bodies of messages were deleted that were accepted in that other zone."""
    return f"f:{zone}"


def of_party(name: str) -> str:
    """It has a record of this agent, or of a message of it; an instance counts as its agent."""
    return f"a:{_agent(name)}"


def of_pair(one: str, other: str) -> str:
    """The same, of both."""
    first, last = sorted((_agent(one), _agent(other)))
    return f"a:{first}" if first == last else f"p:{first} {last}"


def parties_terms(names: Collection[str]) -> Iterator[str]:
    """All terms of a record, or a message, that names these agents."""
    agents: Iterable[str] = sorted(set(map(_agent, names)))
    yield from map(of_party, agents)
    for one, other in combinations(agents, 2):
        yield of_pair(one, other)


def _agent(address: str) -> str:
    return address.split("/", 1)[0]
