"""Holds: what a sender's refused message keeps back, so that nothing sent after it gets there before it.

A client has several calls under way. If a message of the first one is refused for now and room appears a moment later,
a message of the second one would be accepted and overtake it. So a temporary refusal *holds* the rest of what its
session sends to that recipient, with the same or less urgency: it is refused too, with the same error, until

* the refused message is offered again (its session knows by then, and offers what follows after it), or
* nothing that was under way can come any more, :data:`PATIENCE_S` after the refusal was answered, or ``retry_after_s``
  if that is longer: for senders that give the message up.

Until the message comes, not only until ``retry_after_s`` is over: a call that was sent before the refusal was known,
and is late, would find the door open again.

A hold is a session's, because an order is: two connections of one agent, or two instances, send in no order to each
other. A client that joins anew begins with its first message without a receipt; what its broken session said late stays
behind that session's holds. A broadcast has a line of its own: behind it nothing to a single agent waits, or one full
mailbox would keep a sender from everybody. Messages to capabilities are in no order.

Calls are numbered, and a hold knows by number of call which message of it was the first to be refused. The *head* of a
hold is that of the earliest call: the answers of the store come late, so a later call may be refused before an earlier
one; and a refused message may turn out to be a repeat, which its client won't offer again.

Policy only: every verb takes ``now_s``, of any clock.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from trishula.contract.addresses import BROADCAST, Address, is_capability, is_message_id
from trishula.contract.message import DEFAULT_PRIORITY, SIGNAL_TYPES
from trishula.errors import FallbackOn, TrishulaError

__all__ = ["PATIENCE_S", "Holds", "Place", "Turn", "place_of"]

#: A peer that is silent for so long is gone: a ping each second, and 2 s to answer it. Whatever a client sent before it
#: heard of a refusal is ahead of its answer to the next ping.
PATIENCE_S = 3.0

#: Recipients that one session is held at: with the calls that a client of ours has under way, 4 of 64 messages or
#: of the 128 of before, it meets no more. Beyond it the oldest hold goes.
HOLDS_LIMIT = 512
#: Calls of which a hold knows the first refused message; so many are never open at a time.
_HEADS_LIMIT = 16


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message stands in its call, ``index``, and in which line."""

    index: int
    to: str
    id: str
    priority: int


def place_of(index: int, raw: object) -> Place | None:
    """The place of a message as it came, checked or not; ``None`` if it is in no line."""
    fields: dict[Any, Any] = raw if isinstance(raw, dict) else {}
    to, message_id, priority = fields.get("to"), fields.get("id"), fields.get("priority")
    if (
        fields.get("type") in SIGNAL_TYPES
        or not isinstance(to, str)
        or not is_message_id(message_id)
        or is_capability(to)
    ):
        return None
    if to != BROADCAST:
        try:
            Address.parse(to)
        except ValueError:
            return None
    if isinstance(priority, float) and priority.is_integer():
        # Whole numbers may come so, and are taken as such.
        priority = int(priority)
    return Place(index, to, str(message_id), priority if isinstance(priority, int) else DEFAULT_PRIORITY)


@dataclass(slots=True)
class _Hold:
    """What waits behind one message.

    Attributes:
        heads: the first message that was refused, of each call: its index there, and its id.
        priority: of the most urgent refused one.
        error: why the head was refused.
        retry_s: how long its client is told to wait.
        told_s: when it was told; ``None``: the call is not answered yet.
        unanswered: calls with refused messages that came while it lasted, by their numbers.
    """

    heads: dict[int, tuple[int, str]]
    priority: int
    error: TrishulaError
    retry_s: float
    told_s: float | None = None
    unanswered: set[int] = field(default_factory=set)

    @property
    def head(self) -> str:
        return self.heads[min(self.heads)][1]

    def left_s(self, now_s: float) -> float:
        """How long it lasts at most."""
        return (now_s if self.told_s is None else self.told_s) + max(self.retry_s, PATIENCE_S) - now_s

    def is_over(self, now_s: float) -> bool:
        # Set back, a clock must not keep anybody out for longer than was said.
        is_late = self.told_s is not None and (now_s < self.told_s or self.left_s(now_s) <= 0.0)
        # A client offers the head when all its calls to that recipient are answered. Of one of them the store may take
        # its time, and then refuse what would become another hold, with another head.
        return is_late and not self.unanswered


class Holds:
    """The holds of all sessions."""

    def __init__(self) -> None:
        self._sessions: dict[int, dict[str, _Hold]] = {}
        self._calls = 0

    def turn(self, session: int) -> Turn:
        """A session calls."""
        self._calls += 1
        return Turn(self._sessions.setdefault(session, {}), self._calls)

    def left(self, session: int) -> None:
        """A session is gone."""
        self._sessions.pop(session, None)


class Turn:
    """One call of a session: the messages of it come in their order. Made by :meth:`Holds.turn`."""

    __slots__ = ("_holds", "_number", "_refused")

    def __init__(self, holds: dict[str, _Hold], number: int) -> None:
        self._holds = holds
        self._number = number
        self._refused: dict[str, list[tuple[int, str]]] = {}

    def check(self, to: str, message_id: str, priority: int, now_s: float, *, answers: bool = False) -> None:
        """Whether a message may be admitted.

        Args:
            to, message_id, priority: its.
            now_s: the clock.
            answers: it may be the answer to a COMMAND. Such a message doesn't wait behind what is refused because the
                bus is in fallback, which is for minutes or hours.

        Raises:
            TrishulaError: of the class by which the head of a hold was refused: it has to wait behind that.
        """
        hold = self._holds.get(to)
        if hold is None or priority < hold.priority or hold.head == message_id:
            return
        if answers and isinstance(hold.error, FallbackOn):
            return
        if hold.is_over(now_s):
            del self._holds[to]
            return
        # Who retries as told comes together with the head; who gave that up comes too early once.
        retry_s = (now_s if hold.told_s is None else hold.told_s) + hold.retry_s - now_s
        left_s = retry_s if retry_s > 0.0 else max(hold.left_s(now_s), 0.001)
        raise type(hold.error)(
            f"the message {message_id} to {to} waits behind {hold.head}, which this node refused for now: "
            f"{hold.error.sentence}; offer {hold.head} first, or, if it was given up, try again in {left_s:.3g} s",
            retry_after_s=max(round(left_s, 3), 0.001),
        )

    def passed(self, to: str, message_id: str) -> None:
        """A message was admitted, or refused for good: nothing waits behind it any more."""
        hold = self._holds.get(to)
        if hold is not None and hold.head == message_id:
            del self._holds[to]

    def refused(self, place: Place | None, error: TrishulaError, now_s: float) -> None:
        """A message was refused for now, by :meth:`check` or by whatever comes after it."""
        if place is None or is_capability(place.to):
            return
        refused = place.index, place.id
        self._refused.setdefault(place.to, []).append(refused)
        retry_s = error.retry_after_s or 0.0
        hold = self._holds.get(place.to)
        if hold is None or hold.is_over(now_s) or hold.head == place.id:
            self._holds.pop(place.to, None)
            self._make_room(now_s)
            self._holds[place.to] = _Hold(
                {self._number: refused}, place.priority, error, retry_s, unanswered={self._number}
            )
            return
        if hold.left_s(now_s) > 0.0:
            # Not after that, or one call after the other would keep a sender out who has given the head up.
            hold.unanswered.add(self._number)
        hold.priority = min(hold.priority, place.priority)
        # What the store refused is told last, and may stand before what was refused at once.
        hold.heads[self._number] = min(refused, hold.heads.get(self._number, refused))
        if hold.head == place.id:
            hold.error, hold.retry_s, hold.told_s = error, retry_s, None
        if len(hold.heads) > _HEADS_LIMIT:
            del hold.heads[max(hold.heads)]

    def _make_room(self, now_s: float) -> None:
        if len(self._holds) >= HOLDS_LIMIT:
            for to in [to for to, hold in self._holds.items() if hold.is_over(now_s)]:
                del self._holds[to]
        if len(self._holds) >= HOLDS_LIMIT:
            del self._holds[next(iter(self._holds))]

    def repeats(self, ids: Collection[str], now_s: float) -> None:
        """Of the messages of this call that were refused, these had been accepted before."""
        for to, refused in self._refused.items():
            hold = self._holds.get(to)
            if hold is None or self._number not in hold.heads:
                continue
            left = [one for one in refused if one[1] not in ids]
            if left:
                hold.heads[self._number] = min(left)
            elif len(hold.heads) == 1:
                del self._holds[to]
            else:
                del hold.heads[self._number]
                # The call of the new head may have been answered already.
                hold.told_s = now_s if hold.told_s is None else hold.told_s

    def answered(self, now_s: float) -> None:
        """The client is told, of all that was refused."""
        for to in self._refused:
            hold = self._holds.get(to)
            if hold is not None:
                hold.unanswered.discard(self._number)
                if min(hold.heads) == self._number:
                    hold.told_s = now_s
