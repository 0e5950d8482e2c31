"""One mailbox: the open messages of one address, in order of delivery, with bounded memory.

The order is by (priority, arrival): the more urgent first, then as they became durable here. A message is in one of
these places:

* *waiting* in memory: to be delivered now, or at its ``due_at``;
* *in flight*: delivered and not settled yet, or being settled;
* *spilled*: in the store only.

Memory holds the first messages of the order: all whose order is at or before the *frontier*. Without a frontier it
holds all. When more than ``2 * capacity`` wait, the later half is dropped from memory and the frontier moves forward;
when few are left, the owner reads the next ones from the store (:meth:`Mailbox.wants_refill`, :meth:`Mailbox.refill`).

Policy only: no I/O, no clock; ``delivery`` owns the mailboxes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from trishula_router.mail.entry import Entry
from trishula_router.store.messages import URGENT

__all__ = ["BEFORE_ALL", "Mailbox", "Taken"]

#: Before every message's order; arrivals and priorities start at 1.
BEFORE_ALL = (0, 0)

#: Messages kept in memory: enough for several windows, so that reading on happens while the agent works.
CAPACITY = 1024

#: Places that may be out of date before it is worth while to make the heaps anew.
_STALE_PLACES = 64


@dataclass(frozen=True, slots=True)
class Taken:
    """What :meth:`Mailbox.take` found: what to deliver, and what is over; both are in flight now."""

    ready: list[Entry] = field(default_factory=list)
    expired: list[Entry] = field(default_factory=list)


class Mailbox:
    """The open messages of one address.

    Attributes:
        address: whose mailbox it is.
        open_messages: how many are open: waiting, in flight, spilled, and reserved for a send under way.
        open_bytes: the sum of their sizes.
        in_flight: the delivered ones, by position.
    """

    def __init__(self, address: str, *, open_messages: int = 0, open_bytes: int = 0, capacity: int = CAPACITY) -> None:
        self.address = address
        self.open_messages = open_messages
        self.open_bytes = open_bytes
        self.in_flight: dict[int, Entry] = {}
        self._capacity = capacity
        self._waiting: dict[int, Entry] = {}
        #: (priority, arrival, position), the delayed ones with their ``due_at`` before it.
        self._ready: list[tuple[int, int, int]] = []
        self._delayed: list[tuple[int, int, int, int]] = []
        # A mailbox that is new in memory may have any number of messages on disk.
        self._frontier: tuple[int, int] | None = BEFORE_ALL if open_messages else None
        # The first message in order that went by memory while a refill was under way: its answer may lack it.
        self._passed: tuple[int, int] | None = None
        self._refill_is_void = False

    def reserve(self, size_bytes: int) -> None:
        """Count a message that is on its way into the store, so that concurrent sends can't overfill the mailbox."""
        self.open_messages += 1
        self.open_bytes += size_bytes

    def discount(self, size_bytes: int) -> None:
        """Count a message no more: it is settled, or was not stored after all."""
        self.open_messages -= 1
        self.open_bytes -= size_bytes

    def add(self, entry: Entry) -> list[Entry]:
        """Put in a message that is durable and reserved; returns those that memory lets go of for it."""
        if self._is_beyond(entry):
            return [entry]
        self._place(entry)
        return self._spill() if len(self._waiting) > 2 * self._capacity else []

    def _is_beyond(self, entry: Entry) -> bool:
        if self._frontier is None or entry.order <= self._frontier:
            return False
        self._passed = entry.order if self._passed is None else min(self._passed, entry.order)
        return True

    def _place(self, entry: Entry) -> None:
        self._waiting[entry.position] = entry
        if entry.due_at:
            heapq.heappush(self._delayed, (entry.due_at, *entry.order, entry.position))
        else:
            heapq.heappush(self._ready, (*entry.order, entry.position))

    def _spill(self) -> list[Entry]:
        waiting = sorted(self._waiting.values(), key=lambda entry: entry.order)
        kept, dropped = waiting[: self._capacity], waiting[self._capacity :]
        self._place_anew(kept)
        self._frontier = kept[-1].order
        self._refill_is_void = True
        return dropped

    def take(self, room: int, now: int, limit_bytes: int | None = None, urgent_room: int = 0) -> Taken:
        """The next messages in order; they are in flight from now on.

        Args:
            room: how many at most.
            now: ms.
            limit_bytes: how large they may be together; the first one may be larger.
            urgent_room: how many of ``room`` are left to urgent ones.
        """
        while self._delayed and self._delayed[0][0] <= now:
            heapq.heappush(self._ready, heapq.heappop(self._delayed)[1:])
        taken, size_bytes = Taken(), 0
        while self._ready and len(taken.ready) < room:
            position = self._ready[0][2]
            entry = self._waiting.get(position)
            # The heaps keep what was taken out or delayed since; the dictionary knows.
            if entry is None or entry.due_at > now:
                heapq.heappop(self._ready)
                continue
            is_over = entry.expires_at <= now
            if not is_over:
                if len(taken.ready) >= room - urgent_room and entry.priority > URGENT:
                    break
                size_bytes += entry.size_bytes
                if limit_bytes is not None and size_bytes > limit_bytes and taken.ready:
                    break
            heapq.heappop(self._ready)
            del self._waiting[position]
            self.in_flight[position] = entry
            (taken.expired if is_over else taken.ready).append(entry)
        return taken

    def give_back(self, entry: Entry, due_at: int) -> None:
        """A message in flight waits again, until ``due_at`` (ms)."""
        del self.in_flight[entry.position]
        entry.due_at = due_at
        if not self._is_beyond(entry):
            self._place(entry)

    def waits(self, entry: Entry) -> bool:
        """Whether a message, known by that entry, waits in memory."""
        return self._waiting.get(entry.position) is entry

    def take_out(self, position: int) -> Entry | None:
        """Take one waiting message out of its turn, because it is about to be settled."""
        entry = self._waiting.pop(position, None)
        if entry is not None:
            self.in_flight[position] = entry
            self._tidy()
        return entry

    def move_out(self, position: int, size_bytes: int) -> Entry | None:
        """An open message is no longer here, because it waits in another mailbox; ``None`` if memory didn't hold it."""
        self.discount(size_bytes)
        entry = self._waiting.pop(position, None)
        self._tidy()
        return entry or self.in_flight.pop(position, None)

    def _tidy(self) -> None:
        """Forget the places of what was taken out of its turn, once they are most of what the heaps hold.

        Where nobody takes messages because their agent is at another node, their places would pile up for ever.
        """
        if len(self._ready) + len(self._delayed) > 2 * len(self._waiting) + _STALE_PLACES:
            self._place_anew(self._waiting.values())

    def _place_anew(self, entries: Iterable[Entry]) -> None:
        entries = list(entries)
        self._waiting, self._ready, self._delayed = {}, [], []
        for entry in entries:
            self._place(entry)

    def settled(self, entry: Entry) -> bool:
        """A message in flight is in a final state: it is no longer here. Whether it was."""
        if self.in_flight.pop(entry.position, None) is None:
            return False
        self.discount(entry.size_bytes)
        return True

    def follow_clock(self, by_ms: int, after: int, due_at_most: int) -> set[int]:
        """The node's clock was set: what is in memory ends, and is due, in as long as before.

        Args:
            by_ms: it is ahead by so much now.
            after: messages with an ``arrival`` up to this one stay as they are.
            due_at_most: nothing is due later; what was written by another clock may say so.

        Returns:
            when something is due.
        """
        for entry in (*self._waiting.values(), *self.in_flight.values()):
            if entry.arrival > after:
                entry.expires_at += by_ms
                entry.accepted_at += by_ms
                entry.due_at = entry.due_at and entry.due_at + by_ms
            entry.due_at = min(entry.due_at, due_at_most)
        self._place_anew(self._waiting.values())
        return {entry.due_at for entry in self._waiting.values() if entry.due_at}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is open here."""
        return self.open_messages == 0

    @property
    def wants_refill(self) -> bool:
        """Whether memory runs low on what can go out, and the store has more."""
        # Not what waits in all: messages that failed and pause would keep those behind them from ever being read.
        return self._frontier is not None and len(self._ready) < max(1, self._capacity // 4)

    def begin_refill(self) -> tuple[tuple[int, int], int]:
        """What to ask the store for: the order to read on from, and how many at most."""
        self._passed = None
        self._refill_is_void = False
        # Held messages are open in the store too and come back with the answer; they must not use up its places.
        return self._frontier or BEFORE_ALL, self._capacity + len(self.in_flight)

    def refill(self, entries: Sequence[Entry], asked: int) -> None:
        """Put in what the store answered to :meth:`begin_refill`, in order.

        The answer is as old as the question. What went by memory since then is perhaps not in it, so memory is filled
        only up to there; what was dropped from memory since then makes the answer void, and the owner asks again.
        """
        if self._refill_is_void:
            return
        if self._passed is None and len(entries) < asked:
            self._frontier = None
        for entry in entries:
            if self._passed is not None and entry.order >= self._passed:
                break
            if entry.position not in self.in_flight and entry.position not in self._waiting:
                self._place(entry)
            if self._frontier is not None:
                self._frontier = entry.order
