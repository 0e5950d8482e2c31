"""Forwards: the messages that this cell has sent to other cells, and what becomes of each. Policy only: no I/O.

A forward begins when a message was taken out of its mailbox. It is *sent* until its cell says that the message is in
its journal, then *there* until it ends; then it is settled here with the outcome that the other cell tells. Where no
news comes, a message that is sent is sent again, and of one that is there it is asked, both after growing pauses. One
that its sender cancelled is settled here at once, and the other cell is told until it answers with an end.

How much is sent and not there is bounded for each cell, so that one that is away holds up nobody else.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from trishula.runtime.backoff import Backoff
from trishula_router.cells.letters import FINAL, LATER, REFUSED, UNKNOWN, Key, News

__all__ = ["Due", "Forward", "Forwards", "Heard"]

#: What of the messages to one cell is on its way at most, and not known to be there.
SENT_MOST, SENT_BYTES = 1024, 8 * 1024 * 1024
#: All that is out at most: an entry of memory each.
OUT_MOST = 200_000
#: The first pause lets a busy reader work off what is before it.
RESEND = Backoff(first_s=3.0, factor=2.0, cap_s=60.0)
#: An agent may be away for weeks; its mail costs a line each now and then.
ASKING = Backoff(first_s=30.0, factor=2.0, cap_s=900.0)
_RECALLS = 12


@dataclass(slots=True, eq=False)
class Forward:
    """One message that is out at another cell.

    Attributes:
        position: here.
        key: which message it is.
        cell: where it was sent to.
        ticket: of this forward.
        size_bytes: its size.
        since_s: when it began.
        due_s: when to send it again, or ask.
        tries: how often that was done since there was news.
        is_there: whether it is in that cell's journal.
        is_delivered: whether an agent has had it there.
        is_recalled: whether its sender has cancelled it.
    """

    position: int
    key: Key
    cell: str
    ticket: str
    size_bytes: int
    since_s: float
    due_s: float
    tries: int = 0
    is_there: bool = False
    is_delivered: bool = False
    is_recalled: bool = False


class Heard(NamedTuple):
    """What follows from news.

    Attributes:
        forward: which it is about.
        then: it ``ended`` as the news say; or it was ``delivered``, or ``surfaced`` there for the first time; or it is
            put ``off``; or it is ``lost`` there, to be sent again now.
    """

    forward: Forward
    then: Literal["ended", "delivered", "surfaced", "off", "lost"]


class Due(NamedTuple):
    """What no news came of: what to send again, of what to ask, and what to recall once more."""

    again: list[Forward]
    ask: list[Forward]
    recall: list[Forward]


class Forwards:
    """What is out at other cells.

    Attributes:
        resent: how often a message was sent again.
    """

    def __init__(self) -> None:
        self._by_position: dict[int, Forward] = {}
        self._by_key: dict[Key, Forward] = {}
        self._of_address: dict[str, dict[int, None]] = {}
        # By cell: what is sent and not there.
        self._sent: dict[str, dict[int, None]] = {}
        self._sent_bytes: dict[str, int] = {}
        # (due_s, position, ticket); what is not due any more is skipped when it comes up.
        self._due: list[tuple[float, int, str]] = []
        self.resent = 0

    def __len__(self) -> int:
        return len(self._by_position)

    def room(self, cell: str) -> int:
        """How many more messages may be sent to a cell now."""
        if self._sent_bytes.get(cell, 0) >= SENT_BYTES:
            return 0
        return max(0, min(SENT_MOST - len(self._sent.get(cell, ())), OUT_MOST - len(self._by_position)))

    def begin(self, position: int, key: Key, cell: str, ticket: str, size_bytes: int, now_s: float) -> Forward:
        """A message is sent to a cell."""
        forward = Forward(position, key, cell, ticket, size_bytes, now_s, now_s + RESEND.first_s)
        self._by_position[position] = self._by_key[key] = forward
        self._of_address.setdefault(key[2], {})[position] = None
        self._sent.setdefault(cell, {})[position] = None
        self._sent_bytes[cell] = self._sent_bytes.get(cell, 0) + size_bytes
        self._schedule(forward, forward.due_s)
        return forward

    def get(self, position: int) -> Forward | None:
        """The forward of a message."""
        return self._by_position.get(position)

    def of(self, key: Key) -> Forward | None:
        """The same, by its key."""
        return self._by_key.get(key)

    def to_address(self, address: str) -> list[Forward]:
        """What is out for an address."""
        return [self._by_position[position] for position in self._of_address.get(address, ())]

    def addresses(self) -> list[str]:
        """The addresses for which something is out."""
        return list(self._of_address)

    def is_out_for(self, address: str) -> bool:
        """Whether something is out for an address."""
        return address in self._of_address

    def hear(self, news: News, cell: str, now_s: float) -> Heard | None:
        """A cell told of a message; ``None`` if nothing follows from that."""
        forward = self._by_key.get(news.key)
        # That a message is done is true of whichever forward of it.
        if forward is None or (news.state != "done" and (news.ticket, cell) != (forward.ticket, forward.cell)):
            return None
        if news.state in FINAL or news.state == REFUSED:
            self.drop(forward)
            return Heard(forward, "ended")
        if forward.is_recalled:
            if news.state in (LATER, UNKNOWN):
                self.drop(forward)
            return None
        if news.state == LATER:
            self.drop(forward)
            return Heard(forward, "off")
        if news.state == UNKNOWN:
            self._not_there(forward, now_s)
            return Heard(forward, "lost")
        self._there(forward, now_s)
        if news.state == "surfaced":
            return Heard(forward, "surfaced")
        if news.state == "delivered" and not forward.is_delivered:
            forward.is_delivered = True
            return Heard(forward, "delivered")
        return None

    def recall(self, forward: Forward, now_s: float) -> None:
        """Its sender has cancelled it: the cell is to be told, until it says how the message ended."""
        forward.is_recalled, forward.tries = True, 0
        self._unsent(forward)
        self._schedule(forward, now_s + RESEND.first_s)

    def drop(self, forward: Forward) -> None:
        """It is out no more: it ended, or was taken back."""
        if self._by_position.get(forward.position) is not forward:
            return
        self._unsent(forward)
        del self._by_position[forward.position]
        if self._by_key.get(forward.key) is forward:
            del self._by_key[forward.key]
        mine = self._of_address[forward.key[2]]
        mine.pop(forward.position, None)
        if not mine:
            del self._of_address[forward.key[2]]

    def due(self, now_s: float, limit: int) -> Due:
        """What to send again, of what to ask and what to recall, because no news came of it."""
        found = Due([], [], [])
        while self._due and self._due[0][0] <= now_s and sum(map(len, found)) < limit:
            due_s, position, ticket = heapq.heappop(self._due)
            forward = self._by_position.get(position)
            if forward is None or forward.ticket != ticket or forward.due_s != due_s:
                continue
            forward.tries += 1
            if forward.is_recalled and forward.tries > _RECALLS:
                self.drop(forward)
                continue
            pauses = ASKING if forward.is_there and not forward.is_recalled else RESEND
            self._schedule(forward, now_s + pauses.pause_s(forward.tries, lambda: 0.5))
            (found.recall if forward.is_recalled else found.ask if forward.is_there else found.again).append(forward)
        self.resent += len(found.again)
        return found

    def hurry(self, now_s: float) -> None:
        """What was on the road is lost: have all that is out sent again, or asked for, as soon as it may be."""
        for forward in self._by_position.values():
            forward.tries = 0
            self._schedule(forward, now_s)

    def sent(self) -> Iterator[Forward]:
        """What is sent and not known to be there."""
        return (self._by_position[position] for those in self._sent.values() for position in those)

    def _there(self, forward: Forward, now_s: float) -> None:
        self._unsent(forward)
        forward.is_there, forward.tries = True, 0
        self._schedule(forward, now_s + ASKING.first_s)

    def _not_there(self, forward: Forward, now_s: float) -> None:
        if forward.is_there:
            forward.is_there = False
            self._sent.setdefault(forward.cell, {})[forward.position] = None
            self._sent_bytes[forward.cell] = self._sent_bytes.get(forward.cell, 0) + forward.size_bytes
        forward.tries = 0
        self._schedule(forward, now_s + RESEND.first_s)

    def _unsent(self, forward: Forward) -> None:
        those = self._sent.get(forward.cell, {})
        if forward.position in those:
            del those[forward.position]
            self._sent_bytes[forward.cell] -= forward.size_bytes
            if not those:
                del self._sent[forward.cell], self._sent_bytes[forward.cell]

    def _schedule(self, forward: Forward, due_s: float) -> None:
        forward.due_s = due_s
        heapq.heappush(self._due, (due_s, forward.position, forward.ticket))
