"""The messages of a mailbox, one after the other, for a loop of its owner: ``for message in bus.messages():``.

A message is done when the loop asks for the next one: the body went through it without an exception. Whoever leaves the
loop before that, by an exception or by ``break``, gives the message back, and it comes again after a pause, five times
at most, then it is a dead letter. (Python tells an iterator that the loop was left, and not why.) Who is through with a
message and leaves says so: ``messages.ack()``.

Messages are fetched one by one, so nothing else is held by a loop that is slow or left. A lost acknowledgement means
that a message comes again; the iteration knows the last of those that it was through with, and passes over them.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from trishula.consumer.jobs import Key, key_of
from trishula.contract.deliveries import Delivery, Fetched
from trishula.contract.message import Message
from trishula.errors import BusUnreachable, NodeStopping, OutcomeUnknown
from trishula.messaging.engine import Engine
from trishula.runtime.pending import Pending
from trishula.runtime.waiting import sleep

__all__ = ["Messages", "SyncMessages"]

_log = logging.getLogger("trishula")

#: How long one fetch waits, in seconds, where there is no end to the waiting.
_TURN_S = 30.0
#: Between two questions while no node is there, in seconds.
_PAUSE_S = 0.5
#: Messages that were done, and may come again.
_REMEMBERED = 256
_LEFT = "the loop over the messages was left before it was through with this one"


class Messages:
    """The messages of a mailbox, for ``async for``; see the module's docstring.

    Args:
        engine: acknowledges and gives back.
        fetch: takes up to one message, and waits so many seconds for it.
        wait_s: how long to wait for a message before the iteration ends, in seconds; ``None`` to go on for ever.
    """

    def __init__(self, engine: Engine, fetch: Callable[[float], Awaitable[Fetched]], wait_s: float | None) -> None:
        self._engine = engine
        self._fetch = fetch
        self._wait_s = wait_s
        self._delivery: Delivery | None = None
        self._is_left = False
        self._done: dict[Key, None] = {}

    @property
    def delivery(self) -> Delivery | None:
        """The message in hand with its token, for ``working(token, 600)``, and its attempt; ``None`` between two."""
        return self._delivery

    def ack(self) -> None:
        """Be through with the message in hand: before a ``break``."""
        delivery, self._delivery = self._delivery, None
        if delivery is not None:
            self._be_done(delivery)

    def surfaced(self) -> None:
        """Say that the message in hand was put into a model's context; see :meth:`trishula.client.Client.surfaced`."""
        if self._delivery is not None:
            self._engine.settling.surfaced([self._delivery.token]).when_done(_passed_over)

    def nack(self, reason: str, *, requeue: bool = True) -> None:
        """Give the message in hand back, for another attempt or (``requeue=False``) to the dead letters, and go on.

        Args:
            reason: why, for ``trishula why`` and the dead letters.
            requeue: whether it comes again, after a pause.
        """
        delivery, self._delivery = self._delivery, None
        if delivery is not None:
            self._engine.settling.nack(delivery.token, reason, requeue)

    def leave(self) -> None:
        """Give back the message in hand, and what still comes, as it happens when a loop is left."""
        self._is_left = True
        if self._delivery is not None and self._engine.end is None:
            self.nack(_LEFT)

    def _be_done(self, delivery: Delivery) -> None:
        self._engine.settling.ack(delivery.token)
        self._done[key_of(delivery.message)] = None
        if len(self._done) > _REMEMBERED:
            del self._done[next(iter(self._done))]

    async def take(self) -> Message | None:
        """Be through with the message in hand, and wait for the next one; ``None`` if none came in time.

        Raises:
            MailboxBusy: a running agent is being pushed them.
            BusUnreachable, OutcomeUnknown: no node says what there is; without an end to the waiting it goes on.
        """
        self.ack()
        clock = self._engine.clock
        until_s = None if self._wait_s is None else clock.seconds() + self._wait_s
        while True:
            left_s = _TURN_S if until_s is None else max(0.0, min(until_s - clock.seconds(), _TURN_S))
            try:
                fetched = await self._fetch(left_s)
            except (BusUnreachable, NodeStopping, OutcomeUnknown):
                if until_s is not None or self._engine.end is not None:
                    raise
                await sleep(clock, _PAUSE_S)
                continue
            for delivery in fetched.deliveries:
                if key_of(delivery.message) in self._done:
                    self._be_done(delivery)
                else:
                    self._delivery = delivery
                    if not self._is_left:
                        return delivery.message
                    self.leave()
            if self._is_left:
                return None
            if not fetched.deliveries and until_s is not None and clock.seconds() >= until_s:
                return None

    def __aiter__(self) -> Messages:
        return self

    async def __anext__(self) -> Message:
        message = await self.take()
        if message is None:
            raise StopAsyncIteration
        return message

    def __del__(self) -> None:
        # The loop was left, by whichever way.
        self.leave()


def _passed_over(pending: Pending[list[bool]]) -> None:
    """Nobody waits for it; what comes again is said again."""
    if pending.error is not None:
        _log.info("It could not be told that a message reached a model: %s", pending.error)


class SyncMessages:
    """The messages of a mailbox, for ``for``; see the module's docstring.

    Args:
        messages: the same, in the reactor's thread.
        wait: runs a coroutine there, and waits for it.
        soon: has something called there, and doesn't wait.
    """

    def __init__(
        self,
        messages: Messages,
        wait: Callable[[Callable[[], Coroutine[Any, Any, Message | None]]], Message | None],
        soon: Callable[[Callable[[], None]], None],
    ) -> None:
        self._messages = messages
        self._wait = wait
        self._soon = soon

    @property
    def delivery(self) -> Delivery | None:
        """See :attr:`Messages.delivery`."""
        return self._messages.delivery

    def ack(self) -> None:
        """See :meth:`Messages.ack`."""
        self._soon(self._messages.ack)

    def surfaced(self) -> None:
        """See :meth:`Messages.surfaced`."""
        self._soon(self._messages.surfaced)

    def nack(self, reason: str, *, requeue: bool = True) -> None:
        """See :meth:`Messages.nack`."""
        self._soon(lambda: self._messages.nack(reason, requeue=requeue))

    def __iter__(self) -> SyncMessages:
        return self

    def __next__(self) -> Message:
        message = self._wait(self._messages.take)
        if message is None:
            raise StopIteration
        return message

    def __del__(self) -> None:
        self._soon(self._messages.leave)
