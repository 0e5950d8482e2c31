"""The road of directories: the last beat of each cell, when it came, and what each cell says of its agents.

:class:`MemoryDirectoryRoad` is one in memory, which tests use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from trishula_router.cells.road import RoadFailed

__all__ = ["DirectoryRoad", "Heard", "MemoryDirectoryRoad", "MemoryDirectoryRoads"]


class Heard(NamedTuple):
    """The last beat of a cell, and how long ago it was put down."""

    cell: str
    beat: bytes
    age_s: float


class DirectoryRoad(Protocol):
    """One end of the road; one thread uses it. All of it blocks, for seconds at most.

    Each method raises :class:`.road.RoadFailed` if it can't do it; some of it may be done then all the same.
    """

    def tell(self, cell: str, beat: bytes, agents: bytes | None, kept_s: float) -> bytes | None:
        """Put down the beat of the own cell and, unless they are as before, its agents; take out the cells that have
        put down none for so long. Returns the beat that was there before."""

    def beats(self, since_ms: int) -> tuple[int, list[Heard]]:
        """The beats that were put down since an instant of the road's clock, and that instant for the next time."""

    def agents(self, cells: Sequence[str]) -> list[bytes | None]:
        """What cells say of their agents."""

    def close(self) -> None:
        """Let go of connections; the next call makes new ones."""


class MemoryDirectoryRoads:
    """What all ends share.

    Args:
        seconds: the road's clock.

    Attributes:
        is_down: whether nobody reaches it.
        fetched: how often something was asked of agents.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.seconds = seconds
        self.is_down = False
        self.fetched = 0
        self.beats: dict[str, tuple[bytes, int]] = {}
        self.agents: dict[str, bytes] = {}

    def flush(self) -> None:
        """Lose everything."""
        self.beats.clear()
        self.agents.clear()


class MemoryDirectoryRoad:
    """See :class:`DirectoryRoad`.

    Args:
        roads: what is shared.
    """

    def __init__(self, roads: MemoryDirectoryRoads) -> None:
        self._roads = roads

    def tell(self, cell: str, beat: bytes, agents: bytes | None, kept_s: float) -> bytes | None:
        """See :class:`DirectoryRoad`."""
        now_ms = self._now_ms()
        before = self._roads.beats.get(cell)
        if agents is not None:
            self._roads.agents[cell] = agents
        self._roads.beats[cell] = beat, now_ms
        for one in [one for one, (_, at) in self._roads.beats.items() if now_ms - at > kept_s * 1000]:
            del self._roads.beats[one]
            self._roads.agents.pop(one, None)
        return None if before is None else before[0]

    def beats(self, since_ms: int) -> tuple[int, list[Heard]]:
        """See :class:`DirectoryRoad`."""
        now_ms = self._now_ms()
        found = [(cell, beat, at) for cell, (beat, at) in self._roads.beats.items() if at >= since_ms]
        return now_ms, [Heard(cell, beat, (now_ms - at) / 1000) for cell, beat, at in found]

    def agents(self, cells: Sequence[str]) -> list[bytes | None]:
        """See :class:`DirectoryRoad`."""
        self._now_ms()
        self._roads.fetched += len(cells)
        return [self._roads.agents.get(cell) for cell in cells]

    def close(self) -> None:
        """Nothing is open."""

    def _now_ms(self) -> int:
        if self._roads.is_down:
            raise RoadFailed("the road in memory is down")
        return round(self._roads.seconds() * 1000)
