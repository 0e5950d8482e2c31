"""The road of live events: what is said on a channel is heard by those that listen at that moment, and kept by nobody.

:class:`MemoryLiveRoad` is one in memory, which tests use.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Protocol

from trishula_router.cells.road import RoadFailed

__all__ = ["LiveRoad", "MemoryLiveRoad", "MemoryLiveRoads"]


class LiveRoad(Protocol):
    """One end of the road; one thread uses it. All of it blocks, for seconds at most.

    Each method raises :class:`.road.RoadFailed` if it can't do it; some of it may be done then all the same.
    """

    @property
    def where(self) -> str:
        """Where it leads, for people."""

    def say(self, told: Sequence[tuple[str, bytes]]) -> None:
        """Say something on channels, (channel, text) each, in order; once."""

    def hear(self, channels: Set[str], wait_s: float) -> list[tuple[str, bytes]]:
        """What was said on these channels, and on no others, since they were first asked for; waits for the first."""

    def close(self) -> None:
        """Let go of connections; the next call makes new ones."""


class MemoryLiveRoads:
    """What all ends share.

    Attributes:
        ends: who listens.
        is_down: whether nobody reaches it.
        is_deaf: whether it takes what is said, and nobody hears anything.
    """

    def __init__(self) -> None:
        self.ends: list[MemoryLiveRoad] = []
        self.is_down = self.is_deaf = False


class MemoryLiveRoad:
    """See :class:`LiveRoad`.

    Args:
        roads: what is shared.
    """

    def __init__(self, roads: MemoryLiveRoads) -> None:
        self._roads = roads
        self._channels: Set[str] = frozenset()
        self._heard: list[tuple[str, bytes]] = []
        roads.ends.append(self)

    @property
    def where(self) -> str:
        """In memory."""
        return "memory"

    def say(self, told: Sequence[tuple[str, bytes]]) -> None:
        """See :class:`LiveRoad`."""
        self._check()
        for end in () if self._roads.is_deaf else self._roads.ends:
            end._heard += [one for one in told if one[0] in end._channels]

    def hear(self, channels: Set[str], wait_s: float) -> list[tuple[str, bytes]]:
        """See :class:`LiveRoad`; it doesn't wait."""
        self._check()
        self._channels = frozenset(channels)
        heard, self._heard = self._heard, []
        return heard

    def close(self) -> None:
        """Hear nothing more."""
        self._channels, self._heard = frozenset(), []

    def _check(self) -> None:
        if self._roads.is_down:
            raise RoadFailed("the road in memory is down")
