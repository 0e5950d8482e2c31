"""The leases of what an agent has in its hands: extended while a handler runs or waits for its turn.

A node offers a message again if nobody has acknowledged it within its lease. What has run for a whole tick is extended
at each tick; a handler that says how long it will take (``current_delivery().working``) has made a *promise*, which is
extended at once, and again on each later session as long as it holds.
"""

from __future__ import annotations

import logging
from typing import Any

from trishula.consumer.jobs import Key, key_of
from trishula.contract.message import Message
from trishula.messaging.deduplication import Inbox
from trishula.messaging.engine import Engine
from trishula.runtime.pending import Pending, resolved
from trishula.runtime.surroundings import Clock

__all__ = ["TICK_S", "Leases", "lease_s_of"]

_log = logging.getLogger("trishula")

#: A node's default, if it doesn't say.
_LEASE_S = 60.0
#: A job is noticed at the first tick and extended at the next; with a short lease they are a quarter of it apart.
TICK_S = 10.0


def lease_s_of(engine: Engine) -> float:
    """How long a delivery waits for its ack, as the node of the session says, or mostly says."""
    attached = engine.member.attached
    return (attached.lease_s if attached is not None else None) or _LEASE_S


class Leases:
    """See the module's docstring.

    Args:
        engine: asks the node.
        clock: the clock for spans.
        inbox: what the agent has in its hands.
    """

    def __init__(self, engine: Engine, clock: Clock, inbox: Inbox) -> None:
        self._engine = engine
        self._clock = clock
        self._inbox = inbox
        # Until when a handler said that it works.
        self._promises: dict[Key, float] = {}
        # What a handler has put into a model's context.
        self._surfaced: set[Key] = set()
        self._seen_at_last_tick: set[Key] = set()

    @property
    def tick_s(self) -> float:
        """How often :meth:`tick` is to be called while there is something in hand."""
        return min(TICK_S, lease_s_of(self._engine) / 4)

    def tick(self) -> bool:
        """Extend what has been in hand for a whole tick; whether there is anything in hand."""
        now = dict(self._inbox.running())
        now_s = self._clock.seconds()
        extension_s = lease_s_of(self._engine)
        for key in sorted(self._seen_at_last_tick & now.keys()):
            # A promise is longer: this would shorten it.
            if self._promises.get(key, 0.0) - now_s < extension_s:
                self._engine.working(now[key], extension_s).when_done(_log_refusal)
        self._seen_at_last_tick = set(now)
        if self._promises:
            # A plain function's is over with it, and nobody says so.
            self._promises = {key: until_s for key, until_s in self._promises.items() if until_s > now_s}
        return bool(now)

    def promise(self, message: Message, for_s: float) -> Pending[Any]:
        """The handler of ``message`` says how long it will take."""
        key = key_of(message)
        self._promises[key] = self._clock.seconds() + for_s
        token = self._inbox.token(*key)
        # Without a session now: its next delivery is extended.
        return resolved(None) if token is None else self._engine.working(token, for_s)

    def surfaced(self, message: Message) -> Pending[bool]:
        """The handler of ``message`` has put it into a model's context; whether a node has that on record."""
        key = key_of(message)
        self._surfaced.add(key)
        token = self._inbox.token(*key)
        # Without a session now: it is said when the message is delivered again.
        return resolved(False) if token is None else _first_of(self._engine.settling.surfaced([token]))

    def keep_promise(self, message: Message) -> None:
        """A message whose handler runs was delivered again, on a session that knows of no promise."""
        if key_of(message) in self._surfaced:
            self.surfaced(message).when_done(_log_refusal)
        left_s = self._promises.get(key_of(message), 0.0) - self._clock.seconds()
        if left_s > 0:
            self.promise(message, left_s).when_done(_log_refusal)

    def ended(self, message: Message) -> None:
        """Its handler is through."""
        self._promises.pop(key_of(message), None)
        self._surfaced.discard(key_of(message))


def _log_refusal(pending: Pending[Any]) -> None:
    if pending.error is not None:
        _log.info("A lease could not be extended: %s", pending.error)


def _first_of(every: Pending[list[bool]]) -> Pending[bool]:
    first: Pending[bool] = Pending()

    def answered(pending: Pending[list[bool]]) -> None:
        if pending.error is not None:
            first.reject(pending.error)
        else:
            first.resolve(pending.result()[0])

    every.when_done(answered)
    return first
