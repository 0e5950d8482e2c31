"""Acks, nacks and what surfaced, gathered: all of one turn travel in one call each, what surfaced first.

They belong to the session whose tokens they carry. Deliveries may come before everything is set up on it, and what is
acknowledged of them then waits until it is. When the session goes, they are dropped: the node delivers again what was
not acknowledged, and the next node may use the same tokens for other messages.

Where messages wait for their handlers behind others, one of them ends in each turn or two, and a call for each would
cost the agent and its node more than all the rest of the message. So an ack waits for those to come: until as many wait
as messages, which then keep the agent busy while the node hears of it and sends more; :data:`GATHER_S` at most.

That a message surfaced (was put into a model's context) is news for whoever watches the bus, and settles nothing. A
node of the release before doesn't take the word: it is asked once a session, that is logged, and all goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from trishula.contract.texts import LINE_RULE, is_line, show_value
from trishula.contract.uris import MAILBOX_ACK, MAILBOX_NACK, MAILBOX_SURFACED
from trishula.errors import ArgumentInvalid, BusUnreachable, NotAllowed, ProcedureUnknown
from trishula.messaging.second_road import SecondRoad, is_of_second_road
from trishula.runtime.pending import Pending, rejected, resolved
from trishula.runtime.surroundings import Clock, Timer
from trishula.session.transport import AnswerLate, Link, LinkLost

__all__ = ["GATHER_S", "Settling"]

_log = logging.getLogger("trishula")

#: A node that has not settled by then has trouble of its own; the lease is twice that.
_TIMEOUT_S = 30.0
#: What a node takes.
_REASON_LIMIT = 2000
#: Tokens in one call; the node takes 1024.
_BATCH = 1024
#: How long an ack waits for others at most, in seconds: a sender that watches for "done" doesn't notice.
GATHER_S = 0.005


#: Where the part of one caller begins in the items of a call, how many they are, and who waits.
_Waiting = tuple[int, int, Pending[list[bool]]]


class _Gathered:
    """What goes out in the next call of one kind, and who waits for which part of the answer."""

    __slots__ = ("items", "uri", "waiting")

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.items: list[Any] = []
        self.waiting: list[_Waiting] = []

    def add(self, items: Sequence[Any]) -> Pending[list[bool]]:
        pending: Pending[list[bool]] = Pending()
        self.waiting.append((len(self.items), len(items), pending))
        self.items.extend(items)
        return pending

    def take(self) -> tuple[list[Any], list[_Waiting]]:
        taken = self.items, self.waiting
        self.items, self.waiting = [], []
        return taken


class Settling:
    """See the module's docstring.

    Args:
        wake: called when there is something to flush.
        has_session: whether there is a session, ready or not.
        emptied: called when nothing may wait or be under way any more; :attr:`is_empty` tells.
        clock: timers and the clock for spans.

    Attributes:
        second_road: hears of the deliveries that came by it; ``None`` if there is no such road.
        backlog: how many messages wait for their handlers behind others, so that their acks are still to come.
    """

    def __init__(
        self,
        wake: Callable[[], None],
        has_session: Callable[[], bool],
        emptied: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._wake = wake
        self._has_session = has_session
        self._emptied = emptied
        self._clock = clock
        self.second_road: SecondRoad | None = None
        self.backlog: Callable[[], int] = int
        # Set while acks wait for others.
        self._gathering: Timer | None = None
        self._acks = _Gathered(MAILBOX_ACK)
        self._nacks = _Gathered(MAILBOX_NACK)
        self._surfacings = _Gathered(MAILBOX_SURFACED)
        # Whether a model reads what comes here, whether the session's node was told, and whether it takes no such word.
        self._has_model = self._is_declared = self._is_unheard = False
        self._flying = 0
        self._session = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits or is under way."""
        return not (self._acks.items or self._nacks.items or self._surfacings.items or self._flying)

    def ack(self, token: str, is_on_record: bool = False) -> None:
        """Acknowledge, and wait for nothing; ``is_on_record``: nothing of it is to be written when this turn ends."""
        if self.second_road is not None and is_of_second_road(token):
            self.second_road.settled(token)
            self._wake()
            return
        items = self._acks.items
        items.append(token)
        if len(items) == 1 or (self._gathering is not None and not (is_on_record and len(items) < self.backlog())):
            # Also where it waits for others: what is on record of it is written at the end of this turn.
            self._wake()

    def nack(self, token: str, reason: str, requeue: bool) -> None:
        """Give back, and wait for nothing."""
        if self.second_road is not None and is_of_second_road(token):
            self.second_road.given_back(token, reason, requeue)
            return
        self._nacks.items.append({"token": token, "reason": reason, "requeue": requeue})
        self._wake()

    def ack_all(self, tokens: Sequence[str]) -> Pending[list[bool]]:
        """Acknowledge, and wait for the answer."""
        return self._add(self._acks, list(tokens))

    def surfaced(self, tokens: Sequence[str]) -> Pending[list[bool]]:
        """Messages were put into a model's context; the answer says for each whether that is on record."""
        if any(is_of_second_road(token) for token in tokens):
            return self._surfaced_of_node(tokens)
        self._has_model = True
        if self._is_unheard:
            return resolved([False] * len(tokens))
        return self._add(self._surfacings, list(tokens))

    def _surfaced_of_node(self, tokens: Sequence[str]) -> Pending[list[bool]]:
        """As :meth:`surfaced`, where some came by the second road: no node has delivered those, and none notes them."""
        places = [at for at, token in enumerate(tokens) if not is_of_second_road(token)]
        if not places:
            return resolved([False] * len(tokens))
        outcome: Pending[list[bool]] = Pending()

        def answered(pending: Pending[list[bool]]) -> None:
            if pending.error is not None:
                outcome.reject(pending.error)
                return
            found = dict(zip(places, pending.result(), strict=True))
            outcome.resolve([found.get(at, False) for at in range(len(tokens))])

        self.surfaced([tokens[at] for at in places]).when_done(answered)
        return outcome

    def declare_model(self) -> None:
        """A model reads what comes here: on this session, and on each later one."""
        self._has_model = True
        self._wake()

    def moved(self) -> None:
        """There is another session now, at another node."""
        self._is_declared = self._is_unheard = False

    def nack_all(self, tokens: Sequence[str], reason: str, requeue: bool) -> Pending[list[bool]]:
        """Give back, and wait for the answer.

        Raises:
            ArgumentInvalid: the reason is none.
        """
        if not is_line(reason) or len(reason) > _REASON_LIMIT:
            return rejected(
                ArgumentInvalid(
                    f"reason is {show_value(reason)}; it must be a string of at most {_REASON_LIMIT} characters, "
                    f"{LINE_RULE}"
                )
            )
        return self._add(self._nacks, [{"token": token, "reason": reason, "requeue": requeue} for token in tokens])

    def _add(self, gathered: _Gathered, items: Sequence[Any]) -> Pending[list[bool]]:
        if not self._has_session():
            return rejected(_gone())
        if not items:
            return resolved([])
        pending = gathered.add(items)
        self._wake()
        return pending

    def flush_surfaced(self, link: Link) -> None:
        """Send what surfaced."""
        if self._has_model and not self._is_declared:
            self._is_declared = True
            if not self._surfacings.items:
                link.call(MAILBOX_SURFACED, [[]], timeout_s=_TIMEOUT_S).when_done(
                    lambda pending: self._heard(MAILBOX_SURFACED, pending.error) and None
                )
        self._flush(link, self._surfacings)

    def flush(self, link: Link, *, at_once: bool = False) -> None:
        """Send what was gathered; ``at_once``: also the acks that could wait for others."""
        self.flush_surfaced(link)
        if self._acks.items and not self._gathers(at_once):
            self._flush(link, self._acks)
        self._flush(link, self._nacks)

    def _flush(self, link: Link, gathered: _Gathered) -> None:
        if gathered.items:
            items, waiting = gathered.take()
            self._send(link, gathered.uri, items, waiting)

    def _gathers(self, at_once: bool) -> bool:
        """Whether the acks wait for others; see the module's docstring."""
        timer = self._gathering
        is_over = at_once or (timer is not None and not timer.active())
        if is_over or self._acks.waiting or len(self._acks.items) >= self.backlog():
            self._end_gathering()
            return False
        if timer is None:
            self._gathering = self._clock.callLater(GATHER_S, self._wake)
        return True

    def _end_gathering(self) -> None:
        if self._gathering is not None and self._gathering.active():
            self._gathering.cancel()
        self._gathering = None

    def _send(self, link: Link, uri: str, items: list[Any], waiting: list[_Waiting]) -> None:
        parts = [items[begin : begin + _BATCH] for begin in range(0, len(items), _BATCH)]
        answers: list[list[bool]] = [[] for _ in parts]
        session = self._session
        left = len(parts)

        def answered(index: int, pending: Pending[Any]) -> None:
            nonlocal left
            left -= 1
            error = self._heard(uri, pending.error)
            if error is None and pending.error is not None:
                answers[index] = [False] * len(parts[index])
            elif error is None:
                answers[index] = pending.result()
            else:
                _fail(waiting, error)
                if not waiting:
                    # The loss of a session is told by itself, and is none if we have moved.
                    level = logging.INFO if isinstance(error, LinkLost) else logging.WARNING
                    _log.log(
                        level, "%s of %d messages failed; they will be delivered again: %s", uri, len(items), error
                    )
            if left == 0:
                if session == self._session:
                    self._flying -= 1
                if waiting and error is None:
                    every = [answer for part in answers for answer in part]
                    for begin, count, one in waiting:
                        one.resolve(every[begin : begin + count])
                self._emptied()

        self._flying += 1
        for index, part in enumerate(parts):
            link.call(uri, [part], timeout_s=_TIMEOUT_S).when_done(partial(answered, index))

    def _heard(self, uri: str, error: BaseException | None) -> BaseException | None:
        """The fault of a call, if it is one: a node of the release before takes no word of what surfaced."""
        if uri != MAILBOX_SURFACED or not isinstance(error, NotAllowed | ProcedureUnknown):
            return error
        if not self._is_unheard:
            self._is_unheard = True
            _log.warning("This node doesn't note what reaches a model (%s): update the node to have that proof", uri)
        return None

    def disconnected(self) -> None:
        """The session is gone, and its tokens with it."""
        self._session += 1
        self.moved()
        self._end_gathering()
        self._flying = 0
        for gathered in (self._acks, self._nacks, self._surfacings):
            _, waiting = gathered.take()
            _fail(waiting, _gone())
        self._emptied()


def _fail(waiting: list[_Waiting], error: BaseException) -> None:
    # A session that went is the same fault to the caller, whether it went before or after the call.
    seen = _gone() if isinstance(error, LinkLost | AnswerLate) else error
    for _, _, one in waiting:
        one.reject(seen)


def _gone() -> BusUnreachable:
    return BusUnreachable("the session that the tokens belong to is gone; what was not acknowledged is delivered again")
