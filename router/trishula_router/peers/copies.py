"""Copies: senders that wait until their messages are on so many nodes, and those that are told later.

A sender waits for a short time only. Whoever got fewer copies than there may be is told when there are more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred

from trishula_router.peers.journal_policy import Replication

__all__ = ["Copies"]

#: How long a sender waits for a copy: longer than any healthy peer takes, and bearable once.
COPIES_PATIENCE_S = 1.0
#: Senders that got fewer copies than there may be are told when there are more; so many are remembered, and so many
#: bytes of their names: a broadcast has as many as there are agents.
OWED_LIMIT = 10_000
OWED_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class _Waiter:
    """A sender that waits until a record is on so many nodes."""

    sequence: int
    copies: int
    until_s: float
    answer: Deferred[int] = field(default_factory=Deferred)


class Copies:
    """Who is to learn of copies.

    Args:
        replication: knows what is held where.
        now_s: the clock for spans.
    """

    def __init__(self, replication: Replication, now_s: Callable[[], float]) -> None:
        self.replication = replication
        self._now_s = now_s
        self._stopped = False
        self._waiters: list[_Waiter] = []
        # (sequence, whom to tell, what that takes)
        self._owed: deque[tuple[int, Callable[[int], None], int]] = deque()
        self._owed_bytes = 0

    def available(self) -> int:
        """How many copies a sender can have now."""
        return 1 + len(self.replication.in_step())

    def secure(self, sequence: int, copies: int) -> Deferred[int]:
        """Wait until a record of ours is on so many nodes, but not for ever.

        Returns:
            on how many it is.
        """
        waiter = _Waiter(sequence, min(copies, self.available()), self._now_s() + COPIES_PATIENCE_S)
        if self._stopped or self.replication.copies_of(sequence) >= waiter.copies:
            waiter.answer.callback(self.replication.copies_of(sequence))
        else:
            self._waiters.append(waiter)
        return waiter.answer

    def owe(self, sequence: int, told: Callable[[int], None], size_bytes: int) -> None:
        """Tell later of the second copy of a record that has one so far.

        Args:
            sequence: the record's.
            told: takes the number of copies. It is kept for as long as the peer is away, so it must hold no body.
            size_bytes: what ``told`` holds; the oldest are forgotten for the newest.
        """
        if not self.replication.peers:
            return
        self._owed.append((sequence, told, size_bytes))
        self._owed_bytes += size_bytes
        while len(self._owed) > OWED_LIMIT or self._owed_bytes > OWED_BYTES:
            self._next_owed()

    def _next_owed(self) -> Callable[[int], None]:
        _, told, size_bytes = self._owed.popleft()
        self._owed_bytes -= size_bytes
        return told

    def stop(self) -> None:
        """The node stops: whoever waits is told how many copies there are."""
        self._stopped = True
        self._answer(all_of_them=True)

    def look(self) -> None:
        """Answer those whose copies are there, or whose time is over."""
        self._answer(all_of_them=False)

    def _answer(self, *, all_of_them: bool) -> None:
        now_s, available = self._now_s(), self.available()
        waiting: list[_Waiter] = []
        answered: list[_Waiter] = []
        for waiter in self._waiters:
            copies = self.replication.copies_of(waiter.sequence)
            in_vain = now_s >= waiter.until_s
            if in_vain and copies < waiter.copies:
                self.replication.waited_in_vain(waiter.sequence)
            is_over = all_of_them or in_vain or copies >= min(waiter.copies, available)
            (answered if is_over else waiting).append(waiter)
        self._waiters = waiting
        for waiter in answered:
            waiter.answer.callback(self.replication.copies_of(waiter.sequence))
        while self._owed and (copies := self.replication.copies_of(self._owed[0][0])) > 1:
            self._next_owed()(copies)
