"""A road in memory: what the road over Redis promises, without Redis. Tests use it, and lose things on purpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trishula_router.cells.road import Change, Entry, Fields, RoadFailed

__all__ = ["MemoryRoad", "MemoryRoads"]


class MemoryRoads:
    """What all ends share.

    Args:
        seconds: the clock by which homes end, and entries are given to another reader.

    Attributes:
        is_down: whether nobody reaches it.
        appended: how many entries were put on streams.
        losses: how often everything was lost.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.seconds = seconds
        self.is_down = False
        self.appended = self.losses = 0
        self.streams: dict[str, dict[str, dict[bytes, bytes]]] = {}
        #: By cell: id → (who reads it, since when).
        self.pending: dict[str, dict[str, tuple[str, float]]] = {}
        self.homes: dict[str, tuple[bytes, float]] = {}

    def flush(self) -> None:
        """Lose everything."""
        self.losses += 1
        self.streams.clear()
        self.pending.clear()
        self.homes.clear()


class MemoryRoad:
    """See :class:`.road.Road`.

    Args:
        roads: what is shared.
        cell: whose stream is read.
        node: who reads it.
        takes_over_s: after that time another reader's entries are taken over.
    """

    def __init__(self, roads: MemoryRoads, cell: str, node: str, takes_over_s: float = 15.0) -> None:
        self._roads = roads
        self._cell = cell
        self._node = node
        self._takes_over_s = takes_over_s
        # What this node read before, and never took out; ``None``: it has not looked yet.
        self._again: set[str] | None = None

    @property
    def where(self) -> str:
        """In memory."""
        return "memory"

    @property
    def losses(self) -> int:
        """See :class:`.road.Road`."""
        return self._roads.losses

    def append(self, entries: Sequence[tuple[str, Fields]], worked_off: Sequence[str] = ()) -> None:
        """See :class:`.road.Road`."""
        self._check()
        for entry_id in worked_off:
            self._roads.streams.get(self._cell, {}).pop(entry_id, None)
            self._roads.pending.get(self._cell, {}).pop(entry_id, None)
        for cell, fields in entries:
            self._roads.appended += 1
            self._roads.streams.setdefault(cell, {})[f"{self._roads.appended}-0"] = dict(fields)

    def read(self, limit: int, wait_s: float) -> list[Entry]:
        """See :class:`.road.Road`; it doesn't wait."""
        self._check()
        stream = self._roads.streams.get(self._cell, {})
        pending = self._roads.pending.setdefault(self._cell, {})
        now_s, found = self._roads.seconds(), list[Entry]()
        if self._again is None:
            self._again = {entry_id for entry_id, (reader, _) in pending.items() if reader == self._node}
        for entry_id, fields in stream.items():
            reader, since_s = pending.get(entry_id, ("", 0.0))
            is_left = reader not in ("", self._node) and now_s - since_s >= self._takes_over_s
            if (not reader or entry_id in self._again or is_left) and len(found) < limit:
                found.append(Entry(entry_id, dict(fields)))
        for entry in found:
            pending[entry.id] = (self._node, now_s)
            self._again.discard(entry.id)
        return found

    def homes(self, addresses: Sequence[str]) -> list[bytes | None]:
        """See :class:`.road.Road`."""
        self._check()
        return [self._home(address) for address in addresses]

    def put_homes(self, changes: Sequence[Change], ttl_s: float) -> list[bool]:
        """See :class:`.road.Road`."""
        self._check()
        done = []
        for change in changes:
            done.append(self._home(change.address) == change.seen)
            if done[-1]:
                self._roads.homes[change.address] = change.home, self._roads.seconds() + ttl_s
        return done

    def close(self) -> None:
        """The next reading begins with what was not taken out."""
        self._again = None

    def _home(self, address: str) -> bytes | None:
        home, until_s = self._roads.homes.get(address, (None, 0.0))
        return home if until_s > self._roads.seconds() else None

    def _check(self) -> None:
        if self._roads.is_down:
            raise RoadFailed("the road in memory is down")
