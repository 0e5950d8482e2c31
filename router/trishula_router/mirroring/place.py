"""Where a mirror goes on, and how far it is behind. Policy: no I/O, no clock.

A mirror's *place* is which journal it copies (its epoch), up to which record, and under which *generation*. The target
knows best what it has; the place that the node remembers counts where the target has forgotten, as a flushed Redis has.

Entries of a stream have the id ``<generation>-<sequence>``. A generation is the instant (ms) at which the journal was
first mirrored there: a node whose store was made anew begins at record 1 again, and its entries must be behind those of
the journal before, or Redis would refuse them and who reads on from the last id would never see them.
"""

from __future__ import annotations

import msgspec

__all__ = ["Has", "Lag", "Place", "TargetUnfit", "allot_generation", "find_start"]


class TargetUnfit(Exception):
    """What the target has does not fit the journal; the text says what to do."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """How far a mirror is.

    Attributes:
        epoch: of the journal.
        sequence: of the last record that the target has.
        generation: under which the target has this journal; 0 before it has anything.
    """

    epoch: str
    sequence: int
    generation: int = 0


class Has(msgspec.Struct, frozen=True, gc=False):
    """The last entry that a target ever took, also if it was deleted since."""

    generation: int
    sequence: int


def allot_generation(has: Has | None, now: int) -> int:
    """The generation under which a target gets a journal that it has nothing of.

    Args:
        has: what the target has, of another journal.
        now: ms.
    """
    # A clock that was ahead may have made the last one.
    return max(now, 0 if has is None else has.generation + 1)


def find_start(place: Place, has: Has | None, newest: int, keeps: int) -> int:
    """Behind which record a mirror goes on with a target.

    What the target has lost is written again: by a restart from an older state its newest entries, by a flush all of
    them, and then as many as it would keep.

    Args:
        place: as the node remembers it, with its generation.
        has: what the target has; ``None`` if nothing.
        newest: the journal's newest record.
        keeps: how many records the target keeps; 0 if what is gone there is somebody else's doing.

    Raises:
        TargetUnfit: the target has what this journal can't have written.
    """
    if has is None or has.generation < place.generation:
        return max(0, min(place.sequence, newest) - keeps)
    if has.generation > place.generation:
        raise TargetUnfit("it has newer entries of another journal; give each node a target of its own")
    if has.sequence > newest:
        raise TargetUnfit(
            f"it has this journal up to record {has.sequence}, and the journal ends at {newest}: the store is an older "
            "copy of itself; delete the target's copy, and the mirror is written anew"
        )
    return has.sequence


class Lag(msgspec.Struct, frozen=True, gc=False):
    """How far a mirror is behind.

    Attributes:
        records: how many records it has not taken.
        s: how old the oldest of them is, in seconds; 0.0 if there is none.
    """

    records: int
    s: float

    @classmethod
    def of(cls, sequence: int, newest: int, oldest_at: int | None, now: int) -> Lag:
        """The lag of a mirror.

        Args:
            sequence: the last record that it has.
            newest: the journal's newest.
            oldest_at: when the record behind ``sequence`` was written, ms; ``None`` if that isn't known.
            now: ms.
        """
        records = max(0, newest - sequence)
        if not records or oldest_at is None:
            return cls(records, 0.0)
        return cls(records, max(0.0, (now - oldest_at) / 1000))
