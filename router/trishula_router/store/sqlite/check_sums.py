"""What all journals of a store add up to, message by message; for the check of a store.

A byte each, because a journal may have a hundred million records: 0 nothing, else the standing, see
:mod:`trishula_router.store.standing`. Of the few messages that were handed over, by whom they are kept, see
:mod:`trishula_router.store.keepers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trishula_router.store.journal import ORIGIN_SHIFT, SEQUENCE_MASK, Kind, Record
from trishula_router.store.messages import State
from trishula_router.store.origins import Numbering, position_in
from trishula_router.store.standing import PURGED_LIFE, standing_of, state_of, tellings

__all__ = ["Sums"]

_DONE, _PURGED, _MOST = 255, 254, 253
_ACCEPTED, _SEEN = 1, 2


def _byte(standing: int) -> int:
    state, life = state_of(standing)
    if state is State.DONE:
        return _DONE
    return _PURGED if life == PURGED_LIFE else min(_MOST, standing + 1)


class _Bytes:
    """A byte for each sequence of a journal: of those behind its base, and of single ones before that.

    Args:
        base, last: behind the one, up to the other.
    """

    def __init__(self, base: int, last: int) -> None:
        self._base = base
        self._last = max(base, last)
        self._behind = bytearray(self._last - base + 1)
        self._before: dict[int, int] = {}

    def __contains__(self, sequence: int) -> bool:
        return 0 < sequence <= self._last

    def __getitem__(self, sequence: int) -> int:
        return self._behind[sequence - self._base] if sequence > self._base else self._before.get(sequence, 0)

    def __setitem__(self, sequence: int, byte: int) -> None:
        if sequence > self._base:
            self._behind[sequence - self._base] = byte
        else:
            self._before[sequence] = byte

    def where(self, byte: int) -> Iterator[int]:
        """The sequences that have a byte."""
        yield from sorted(sequence for sequence, one in self._before.items() if one == byte)
        for place, one in enumerate(self._behind):
            if one == byte:
                yield self._base + place


class Sums:
    """Reads records, the own journal first, and tells whether rows are what they add up to.

    Args:
        lasts: the newest sequence of each origin.
        numbering: of the store.
        begins: up to which sequence each origin was cut; before that there are single records.
    """

    def __init__(self, lasts: Mapping[int, int], numbering: Numbering, begins: Mapping[int, int]) -> None:
        self._numbering = numbering
        self._standings = {number: _Bytes(begins.get(number, 0), last) for number, last in lasts.items()}
        self._rows = {number: _Bytes(begins.get(number, 0), last) for number, last in lasts.items()}
        self._claims: dict[int, tuple[int, str]] = {}

    def _holds(self, position: int) -> bool:
        number, sequence = position >> ORIGIN_SHIFT, position & SEQUENCE_MASK
        return number in self._rows and sequence in self._rows[number]

    def add(self, record: Record) -> None:
        """A record of some journal."""
        if record.kind == Kind.ACCEPTED:
            self._raise(record.position, 1)
            if self._holds(record.position):
                self._rows[record.position >> ORIGIN_SHIFT][record.position & SEQUENCE_MASK] = _ACCEPTED
            return
        origin = record.position >> ORIGIN_SHIFT
        for telling in tellings(record.kind, record.facts):
            message = self._numbering.translate(origin, telling.position)
            if message is not None and telling.standing >= 0 and self._holds(message):
                standing = telling.standing if origin else self._with_life(message, telling.standing)
                self._raise(message, _byte(standing))
            if message is not None and telling.hop:
                self._claim(message, (telling.hop, telling.keeper))

    def _claim(self, position: int, claim: tuple[int, str]) -> None:
        self._claims[position] = max(claim, self._claims.get(position, claim))

    def _with_life(self, message: int, standing: int) -> int:
        """Records from before lives were stated tell of the life that the message was in."""
        before = self._standings[message >> ORIGIN_SHIFT][message & SEQUENCE_MASK]
        state, life = state_of(standing)
        if not 0 < before <= _MOST or state is State.DONE:
            return standing
        state_before, life_before = state_of(before - 1)
        if state is State.OPEN:
            is_next = life <= life_before and state_before is not State.OPEN
            return standing_of(state, life_before + 1) if is_next else standing
        if life < life_before or (life == 0 and state_before is not State.OPEN):
            # Before there were others to agree with, the first end stayed.
            return standing_of(state, life_before) if state_before is State.OPEN else before - 1
        return standing

    def _raise(self, position: int, byte: int) -> None:
        if self._holds(position):
            standings, sequence = self._standings[position >> ORIGIN_SHIFT], position & SEQUENCE_MASK
            standings[sequence] = max(standings[sequence], byte)

    def join(self, alias: int, message: int) -> None:
        """What was told of an alias was told of its message; after all records."""
        if self._holds(alias):
            number, sequence = alias >> ORIGIN_SHIFT, alias & SEQUENCE_MASK
            self._raise(message, self._standings[number][sequence])
            self._rows[number][sequence] = _SEEN
        if alias in self._claims:
            self._claim(message, self._claims[alias])

    def keeps(self, position: int, keeper: str | None, hop: int) -> bool:
        """Whether a message's row names the keeper that its records tell of."""
        told_hop, told_keeper = self._claims.get(position, (0, ""))
        if hop > told_hop and position >> ORIGIN_SHIFT:
            # It came here ahead of the records that tell of it.
            return keeper is not None
        # The own node's name is not in the file.
        return hop == told_hop and (not hop or keeper in (told_keeper, ""))

    def is_message(self, position: int) -> bool:
        """Whether a message was accepted there."""
        return self._holds(position) and self._rows[position >> ORIGIN_SHIFT][position & SEQUENCE_MASK] != 0

    def see(self, position: int) -> None:
        """There is a row at a position."""
        if self._holds(position):
            self._rows[position >> ORIGIN_SHIFT][position & SEQUENCE_MASK] = _SEEN

    def missing(self) -> Iterator[int]:
        """Positions of accepted messages that have no row."""
        for number, rows in self._rows.items():
            for sequence in rows.where(_ACCEPTED):
                yield position_in(number, sequence)

    def difference(self, position: int, state: int, life: int) -> int:
        """How a row compares with what its records add up to: 0 it is that, below 0 it is less, above 0 more."""
        if not self._holds(position):
            return 0
        if state not in tuple(State):
            return -1
        told = self._standings[position >> ORIGIN_SHIFT][position & SEQUENCE_MASK]
        return _byte(standing_of(State(state), life)) - told
