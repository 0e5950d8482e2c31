"""What waits in an outbox for its next call: what goes out again, then the rest by urgency. No I/O.

The more urgent overtakes, as in the node's mailboxes, or an urgent message would wait until all that was sent before it
has its receipt: behind a full outbox that takes seconds. Equal urgency keeps the order of sending.

What was offered before, and goes out again, comes first and in the order in which it was offered *for the first time*,
whatever its urgency and whenever it was sent: of what it refused the node waits for the one that came first, and lets
nothing of the same urgency or less pass (its module ``mail.send_order``). In the order of sending an entry would come
before the one that the node waits for, be refused for that, and then be overtaken by its neighbour. So an entry's
first offer fixes its *place*, and what has none is free to be overtaken. There are a few calls of the offered ones at
most.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from trishula.contract.message import DEFAULT_PRIORITY
from trishula.messaging.entries import Entry

__all__ = ["ByUrgency", "priority_of"]

_PRIORITIES = 5


class ByUrgency:
    """See the module's docstring."""

    __slots__ = ("_again", "_fresh")

    def __init__(self) -> None:
        self._again: deque[Entry] = deque()
        # Of each priority, the most urgent first.
        self._fresh: tuple[deque[Entry], ...] = tuple(deque() for _ in range(_PRIORITIES))

    def __bool__(self) -> bool:
        return bool(self._again) or any(self._fresh)

    def __iter__(self) -> Iterator[Entry]:
        return (entry for queue in self.queues() for entry in queue)

    def first(self) -> deque[Entry] | None:
        """The queue with the entry whose turn is next, at its front; ``None`` if nothing waits."""
        if self._again:
            return self._again
        for queue in self._fresh:
            if queue:
                return queue
        return None

    def queues(self) -> tuple[deque[Entry], ...]:
        """All queues; they may be changed while they are gone through."""
        return self._again, *self._fresh

    def append(self, entry: Entry) -> None:
        """An entry is sent, behind those that are as urgent."""
        self._fresh[entry.priority - 1].append(entry)

    def put_back(self, entries: Iterable[Entry]) -> None:
        """Entries wait again: those that were offered before all others, the rest where they were."""
        offered: list[Entry] = []
        fresh: list[Entry] = []
        for entry in entries:
            (offered if entry.place else fresh).append(entry)
        self._again = deque(sorted((*offered, *self._again), key=_place))
        for priority in {entry.priority for entry in fresh}:
            returned = [entry for entry in fresh if entry.priority == priority]
            self._fresh[priority - 1].extendleft(sorted(returned, key=_number, reverse=True))

    def sort(self) -> None:
        """Bring each urgency in the order of sending."""
        self._fresh = tuple(deque(sorted(queue, key=_number)) for queue in self._fresh)

    def remove(self, entry: Entry) -> None:
        """An entry doesn't wait any more; it did."""
        for queue in self.queues():
            if entry in queue:
                queue.remove(entry)
                return

    def clear(self) -> None:
        """Nothing waits any more."""
        for queue in self.queues():
            queue.clear()


def priority_of(wire: Mapping[str, Any]) -> int:
    """How urgent a message is that was checked; a whole number may have come as a float."""
    return int(wire.get("priority") or DEFAULT_PRIORITY)


def _number(entry: Entry) -> int:
    return entry.number


def _place(entry: Entry) -> int:
    return entry.place
