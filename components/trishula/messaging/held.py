"""What a node refused for now: entries of an outbox that wait until they may be offered again. No I/O.

An entry that is refused with a temporary error is *held* for as long as the node said (``retry_after_s``), or else for
a pause that grows with its refusals. Entries are held by recipient: while one is, the outbox puts later entries to the
same recipient behind it, so that the order holds, and entries to other recipients pass. So does one to the same
recipient that is more urgent than all that wait, as the node lets it pass, but not when these are due, or urgent ones
without end would keep them from being released.

All that is held for one recipient is released together, when the pause of the earliest entry among them is over, and
not while a call with entries to that recipient is under way: the node may refuse these as well, and then they belong to
what is released. :mod:`trishula.messaging.outbox` says why the order depends on it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from trishula.errors import CopiesUnavailable, MailboxFull, RateLimited, StorageFull, TrishulaError
from trishula.messaging.entries import Entry
from trishula.runtime.backoff import Backoff

__all__ = ["Held", "HeldQueue"]

#: Refusals before anything is written. After a write that failed the message may be in the node's file all the same.
_DENIALS = (MailboxFull, RateLimited, StorageFull, CopiesUnavailable)


@dataclass(slots=True)
class HeldQueue:
    """Entries to one recipient that wait.

    Attributes:
        due_s: until when; the first one of them was told so.
        first: the place of that one.
        priority: of the most urgent.
        entries: in no particular order.
    """

    due_s: float
    first: int
    priority: int
    entries: deque[Entry] = field(default_factory=deque)

    def put_behind(self, entry: Entry) -> None:
        """An entry waits, too."""
        self.entries.append(entry)
        self.priority = min(self.priority, entry.priority)

    def lets_pass(self, entry: Entry, now_s: float) -> bool:
        """Whether an entry need not wait: it is more urgent than all that do, and these are not due."""
        return entry.priority < self.priority and now_s < self.due_s


class Held:
    """What is held, by recipient; see the module's docstring.

    Args:
        retry: the pauses between tries, unless the node says when.
        random: spreads the pauses; returns a number in [0, 1).
        refused: told of each refusal.

    Attributes:
        by_recipient: recipient, as it stands in the message → what waits for it.
    """

    __slots__ = ("_random", "_refused", "_retry", "by_recipient")

    def __init__(self, retry: Backoff, random: Callable[[], float], refused: Callable[[TrishulaError], object]) -> None:
        self._retry = retry
        self._refused = refused
        self._random = random
        # Open to the outbox, which looks into it for each entry that it takes.
        self.by_recipient: dict[str, HeldQueue] = {}

    def queues(self) -> Iterator[deque[Entry]]:
        """What waits, one queue a recipient; a queue may be changed while they are gone through."""
        return (held.entries for held in self.by_recipient.values())

    def hold(self, entry: Entry, error: TrishulaError, now_s: float) -> None:
        """Let an entry wait that was refused with ``error``, and tell it so."""
        pause_s = error.retry_after_s or self._retry.pause_s(entry.refusals, self._random)
        entry.refusals += 1
        entry.refusal = error
        entry.denials += isinstance(error, _DENIALS)
        held = self.by_recipient.setdefault(entry.to, HeldQueue(now_s + pause_s, entry.place, entry.priority))
        if entry.place < held.first:
            held.due_s, held.first = now_s + pause_s, entry.place
        held.put_behind(entry)
        if entry.held is not None:
            entry.held(error)
        self._refused(error)

    def release(self, now_s: float, under_way: Callable[[], set[str]]) -> list[Entry]:
        """Wait no more for what is due; returns it, in no particular order.

        Args:
            now_s: the clock.
            under_way: tells to whom entries are under way; asked only if something is due.
        """
        due = {to for to, held in self.by_recipient.items() if held.due_s <= now_s}
        if due:
            due -= under_way()
        return [entry for to in due for entry in self.by_recipient.pop(to).entries]

    def release_all(self) -> list[Entry]:
        """Wait no more at all; returns what waited, in no particular order."""
        entries = [entry for queue in self.queues() for entry in queue]
        self.by_recipient.clear()
        return entries

    def dues_s(self, under_way: set[str]) -> list[float]:
        """When what is held is due, except for recipients to whom entries are under way."""
        return [held.due_s for to, held in self.by_recipient.items() if to not in under_way]
