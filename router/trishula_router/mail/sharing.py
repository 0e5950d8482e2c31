"""Capabilities: who gets a message that is addressed to what somebody can do (``to: "capability:deploy"``).

Such a message waits in a mailbox of the capability's own. It goes to exactly one agent that announced the capability
with its ``attach``, is present (not ``stale``) and has room in its window: the least loaded one, by what it holds and
what waits for it, then by the ``load`` that its beats tell, then by name (:func:`share_out`). If that agent leaves, is
taken over, fails or lets the lease run out before it acks, the message is back in the capability's mailbox and goes to
whoever is the least loaded then, and to the same one again only if nobody else has room: what one failed at, another
can perhaps do. Order between such messages is not promised: they go to different agents.

Which capabilities an agent may announce, its ``serve`` grants say (:mod:`trishula_router.agents.serving`).

Of linked nodes one hands such a message out at a time; where it has nobody and another node has, it hands the message
over (:mod:`trishula_router.mail.handover`).

Policy only, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trishula_router.agents.consumers import Consumer
from trishula_router.mail.entry import Entry

__all__ = ["Candidate", "share_out"]


@dataclass(slots=True, eq=False)
class Candidate:
    """An agent that can take a message.

    Attributes:
        consumer: its session.
        pending: how many messages wait for itself.
        load: what its beats tell; 0 if they tell nothing.
        share: what it gets.
    """

    consumer: Consumer
    pending: int
    load: float
    share: list[Entry]

    @property
    def room(self) -> int:
        """How many more it can take."""
        size_bytes = self.consumer.in_flight_bytes + sum(entry.size_bytes for entry in self.share)
        room = self.consumer.room - self.consumer.urgent_room
        return room - len(self.share) if size_bytes < self.consumer.window_bytes else 0

    @property
    def burden(self) -> tuple[int, float, str]:
        """By what the least loaded is found."""
        return self.consumer.in_flight + self.pending + len(self.share), self.load, self.consumer.address


def share_out(entries: Iterable[Entry], candidates: Sequence[Candidate]) -> list[Entry]:
    """Give each message to the candidate that is the least loaded then; returns those that nobody has room for."""
    left = []
    for entry in entries:
        able = [candidate for candidate in candidates if candidate.room > 0]
        others = [candidate for candidate in able if candidate.consumer.address != entry.holder]
        if able:
            min(others or able, key=lambda candidate: candidate.burden).share.append(entry)
        else:
            left.append(entry)
    return left
