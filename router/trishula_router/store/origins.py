"""The journals that a store holds: how each of them ends, and what the numbers of origins mean in the facts of others.

The number of an origin is a store's own matter, so a position that a copied record tells of is translated: the record's
origin and the number there lead to a (node, epoch), and that to the number here. Both steps are kept in the store; a
pair gets its number here at first mention, even before there is a record of it.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from trishula_router.store.bases import Base
from trishula_router.store.facts import write_facts
from trishula_router.store.first_use import FIRST_USE, first_use_in
from trishula_router.store.journal import GENESIS, ORIGIN_SHIFT, SEQUENCE_MASK, digest_of
from trishula_router.store.runs import Extract, Fresh, Origin

__all__ = ["Chain", "End", "Learned", "Numbering", "Tails", "position_in", "read_base", "read_numbering"]

_NEWEST = "SELECT position, digest FROM journal WHERE position BETWEEN ? AND ? ORDER BY position DESC LIMIT 1"


def position_in(origin: int, sequence: int) -> int:
    """The position of a record of an origin."""
    return origin << ORIGIN_SHIFT | sequence


class End(NamedTuple):
    """The newest record of a chain."""

    sequence: int = 0
    digest: bytes = GENESIS


def _read_end(connection: sqlite3.Connection, origin: int) -> End:
    span = position_in(origin, 0), position_in(origin, SEQUENCE_MASK)
    position, digest = connection.execute(_NEWEST, span).fetchone() or (0, GENESIS)
    base = read_base(connection, origin)
    # Before the base there may be records that are held.
    ends = End(position & SEQUENCE_MASK, digest), End(base.sequence, base.digest)
    return max(ends, key=lambda one: one.sequence)


def read_base(connection: sqlite3.Connection, origin: int = 0) -> Base:
    """Where the records of an origin begin; also in a backup of the time before journals were cut."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'base'").fetchone():
        return Base()
    found = connection.execute("SELECT sequence, digest, until FROM base WHERE origin = ?", (origin,)).fetchone()
    return Base(*found) if found else Base()


def _read_first_use(connection: sqlite3.Connection) -> int:
    rows = connection.execute("SELECT key, value FROM property WHERE key = ?", (FIRST_USE,)).fetchall()
    return first_use_in(dict(rows))


class Chain:
    """Both ends of the node's own chain, as the writer's transaction sees them.

    Attributes:
        base: where it begins.
        durable: its newest end as of the last commit.
        durable_base: where it begins as of the last commit.
        first_use: see :mod:`.first_use`; ``durable_first_use``: as of the last commit.
        collects: whether somebody takes what is written: see :meth:`keep` and :meth:`take`.
    """

    def __init__(self) -> None:
        self.sequence, self.digest = End()
        self.durable = End()
        self.base = self.durable_base = Base()
        self.first_use = self.durable_first_use = 0
        self.collects = False
        self._pending: list[Fresh] = []
        self._fresh: list[Fresh] = []

    def reload(self, connection: sqlite3.Connection) -> None:
        """Take both ends from the file."""
        self.base = self.durable_base = read_base(connection)
        self.first_use = self.durable_first_use = _read_first_use(connection)
        self.durable = _read_end(connection, 0)
        self.sequence, self.digest = self.durable

    def commit(self) -> None:
        self.durable = End(self.sequence, self.digest)
        self.durable_base = self.base
        self.durable_first_use = self.first_use
        if self._pending:
            self._fresh += self._pending
            self._pending = []

    def rollback(self) -> None:
        self.sequence, self.digest = self.durable
        self.base = self.durable_base
        self.first_use = self.durable_first_use
        self._pending = []

    def keep(self, fresh: Fresh) -> None:
        """Collect a record that the transaction wrote."""
        self._pending.append(fresh)

    def take(self) -> list[Fresh]:
        """What was collected and is durable by now, each once."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def extend(self, at: int, kind: str, facts: object) -> tuple[int, int, str, bytes, bytes]:
        """The next record, as a row of the journal."""
        encoded = write_facts(facts)
        self.sequence += 1
        self.digest = digest_of(self.digest, self.sequence, at, kind, encoded)
        return self.sequence, at, kind, encoded, self.digest


class _Told(NamedTuple):
    node: str
    epoch: str
    ours: int


class Numbering:
    """Which number is whose journal, here and in the facts of others. What is known once never changes.

    Args:
        epoch: of the own store.
        node: the own node's name, "" if nobody told it.

    Attributes:
        names: (node, epoch) by the number here, without the own one.
    """

    def __init__(self, epoch: str, node: str = "") -> None:
        self.node = node
        self.names: dict[int, tuple[str, str]] = {}
        self._numbers = {epoch: 0}
        self._told: dict[tuple[int, int], _Told] = {}

    def copy(self) -> Numbering:
        """The same, to go back to."""
        made = Numbering("", self.node)
        made.names, made._numbers, made._told = dict(self.names), dict(self._numbers), dict(self._told)
        return made

    def number_of(self, epoch: str) -> int | None:
        """The number here, if the origin has one."""
        return self._numbers.get(epoch)

    def node_of(self, number: int) -> str:
        """Whose an origin is."""
        return self.names[number][0] if number else self.node

    def give_number(self, node: str, epoch: str) -> int:
        """The number here, a new one at first mention."""
        number = self._numbers.get(epoch)
        if number is None:
            number = max(self.names, default=0) + 1
            self.add(number, node, epoch)
        return number

    def add(self, number: int, node: str, epoch: str) -> None:
        """An origin that has its number."""
        self.names[number] = node, epoch
        self._numbers[epoch] = number

    def add_told(self, origin: int, theirs: int, node: str, epoch: str) -> bool:
        """Keep what a number means in the facts of an origin; whether that was news."""
        if theirs == 0 or (origin, theirs) in self._told:
            return False
        self._told[origin, theirs] = _Told(node, epoch, self.give_number(node, epoch))
        return True

    def translate(self, origin: int, position: int) -> int | None:
        """The position here that the facts of an origin mean; ``None`` if nobody told what its number is."""
        theirs = position >> ORIGIN_SHIFT
        if origin == 0:
            return position
        if theirs == 0:
            return position_in(origin, position)
        told = self._told.get((origin, theirs))
        return None if told is None else position_in(told.ours, position & SEQUENCE_MASK)

    def of(self, origin: int) -> dict[int, tuple[str, str]]:
        """The numbering that the facts of an origin use: what another store needs to read them."""
        if origin == 0:
            return dict(self.names)
        return {theirs: (told.node, told.epoch) for (whose, theirs), told in self._told.items() if whose == origin}


def read_numbering(connection: sqlite3.Connection, node: str = "") -> Numbering:
    """The numbering of a store's file; ``node`` is the own node's name."""
    (epoch,) = connection.execute("SELECT value FROM property WHERE key = 'epoch'").fetchone() or ("",)
    numbering = Numbering(epoch, node)
    for number, node, of_epoch in connection.execute("SELECT number, node, epoch FROM origin"):
        numbering.add(number, node, of_epoch)
    for origin, theirs, node, of_epoch in connection.execute("SELECT origin, theirs, node, epoch FROM numbering"):
        numbering.add_told(origin, theirs, node, of_epoch)
    return numbering


class Learned(NamedTuple):
    """An origin's number, and the rows that tables ``origin`` and ``numbering`` get for it."""

    number: int
    origins: list[tuple[int, str, str]]
    numbering: list[tuple[int, int, str, str, int]]


class Tails:
    """The ends of all chains, and the numbering, as the writer's transaction sees them: rolled back together with it.

    Args:
        epoch: of the own store.
        node: the own node's name, "" if nobody told it.

    Attributes:
        own: the end of the own chain.
        numbering: see :class:`Numbering`.
        copied: how many records of others are held.
        durable: the origins but the own one, as of the last commit.
        durable_bases: where their journals begin, as of the last commit; of those that were cut.
    """

    def __init__(self, epoch: str, node: str = "") -> None:
        self._node = node
        self.own = Chain()
        self.numbering = Numbering(epoch, node)
        self.copied = 0
        self.durable: tuple[Origin, ...] = ()
        self.durable_bases: dict[int, Base] = {}
        self._ends: dict[int, End] = {}
        self._bases: dict[int, Base] = {}
        self._kept: tuple[Numbering, dict[int, End], dict[int, Base]] | None = None

    def reload(self, connection: sqlite3.Connection) -> None:
        """Take everything from the file."""
        self.own.reload(connection)
        self.numbering = read_numbering(connection, self._node)
        self._ends = {number: _read_end(connection, number) for number in self.numbering.names}
        self._bases = {number: read_base(connection, number) for number in self.numbering.names}
        self._publish()

    def commit(self) -> None:
        self.own.commit()
        if self._kept is not None:
            self._publish()

    def rollback(self) -> None:
        self.own.rollback()
        if self._kept is not None:
            self.numbering, self._ends, self._bases = self._kept
            self._publish()

    def _publish(self) -> None:
        self._kept = None
        self.copied = sum(end.sequence for end in self._ends.values())
        self.durable_bases = dict(self._bases)
        self.durable = tuple(
            Origin(number, node, epoch, self.end_of(number).sequence, self.base_of(number).sequence)
            for number, (node, epoch) in self.numbering.names.items()
        )

    def _keep(self) -> None:
        if self._kept is None:
            self._kept = self.numbering.copy(), dict(self._ends), dict(self._bases)

    def held(self, number: int) -> int:
        """Up to which sequence a journal is held, the own one, too."""
        return self.end_of(number).sequence if number else self.own.sequence

    def end_of(self, number: int) -> End:
        """The end of another's chain."""
        return self._ends.get(number, End())

    def base_of(self, number: int) -> Base:
        """Where another's journal begins."""
        return self._bases.get(number, Base())

    def rebase(self, number: int, base: Base) -> None:
        """It begins elsewhere now."""
        self._keep()
        self._bases[number] = base

    def learn(self, node: str, extract: Extract) -> Learned:
        """Give the origin of a run its number, and keep what its numbers mean."""
        known = self.numbering.number_of(extract.epoch)
        if known is not None and extract.origins.items() <= self.numbering.of(known).items():
            return Learned(known, [], [])
        self._keep()
        before = len(self.numbering.names)
        number = self.numbering.give_number(node, extract.epoch)
        told = [
            (number, theirs, *name, self.numbering.give_number(*name))
            for theirs, name in extract.origins.items()
            if self.numbering.add_told(number, theirs, *name)
        ]
        fresh = [(ours, *name) for ours, name in list(self.numbering.names.items())[before:]]
        return Learned(number, fresh, told)

    def move(self, number: int, end: End) -> None:
        """Records were copied behind the end of another's chain."""
        self._keep()
        self.copied += end.sequence - self.end_of(number).sequence
        self._ends[number] = end
