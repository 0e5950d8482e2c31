"""Messages to a script's own address, from their arrival until the script fetches them.

A script is pushed what comes to its address, for the answers to its calls come there; everything else waits here. What
is here is only half of the truth: the node may have more (what was given back waits for its next attempt there, what
was fetched is under a lease until it is acknowledged). So an empty answer is one that the node has confirmed: the
counts of :meth:`Unfetched.fetch` are the node's.

A script may fetch once an hour. What waits here has its lease extended as long as the script lives: nobody has failed
at it, so it must neither become a dead letter nor count as an attempt that failed.

All of it belongs to the reactor's thread.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from trishula.consumer.leases import TICK_S, lease_s_of
from trishula.contract.deliveries import Delivery, Fetched
from trishula.contract.uris import MAILBOX_PEEK
from trishula.errors import TrishulaError
from trishula.messaging.engine import Engine
from trishula.runtime.pending import Pending
from trishula.runtime.surroundings import Clock, Timer

__all__ = ["ASK_TIMEOUT_S", "Unfetched"]

#: How many wait here at most: half of a script's window, so that answers still get through.
_LIMIT = 32
#: How long the node may take to say what it has.
ASK_TIMEOUT_S = 10.0


class Unfetched:
    """See the module's docstring.

    Args:
        engine: whose address it is.
        clock: how long a fetch waits.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._arrived: deque[Delivery] = deque()
        self._arrival: Pending[None] | None = None
        self._timer: Timer | None = None
        self._is_over = False

    def take(self, deliveries: list[Delivery]) -> None:
        """The node pushed these."""
        for delivery in deliveries:
            key = _key(delivery)
            # One whose lease ran out while nobody fetched it comes again, and only the newer token counts.
            self._arrived = deque(held for held in self._arrived if _key(held) != key)
            if len(self._arrived) >= _LIMIT:
                reason = f"the script {self._engine.address} fetches no messages, and holds {_LIMIT} already"
                self._engine.settling.nack(delivery.token, reason, False)
            else:
                self._arrived.append(delivery)
        self._watch()
        arrival, self._arrival = self._arrival, None
        if arrival is not None:
            arrival.resolve(None)

    async def fetch(self, limit: int, wait_s: float) -> Fetched:
        """Take up to ``limit`` messages: what is here, or, if nothing is, what comes within ``wait_s``.

        Raises:
            BusUnreachable, OutcomeUnknown: nothing is here, and no node says that there is nothing.
        """
        until_s = self._clock.seconds() + wait_s
        while True:
            left_s = until_s - self._clock.seconds()
            if not self._arrived and left_s > 0:
                await self._next_arrival(left_s)
            counts = await self._counts()
            if self._arrived or self._clock.seconds() >= until_s:
                break
        taken = [self._arrived.popleft() for _ in range(min(limit, len(self._arrived)))]
        left = len(self._arrived)
        if counts is None:
            return Fetched(taken, "", 0, left, len(taken))
        # What waits here is out for the node, and pending for the script.
        pending, in_flight = int(counts["pending"]) + left, max(int(counts["in_flight"]) - left, len(taken))
        return Fetched(taken, str(counts["epoch"]), int(counts["high_water"]), pending, in_flight)

    def close(self) -> None:
        """Keep nothing any longer; what is here is delivered again, to whoever is next."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self) -> None:
        if self._arrived and self._timer is None and not self._is_over:
            self._timer = self._clock.callLater(min(TICK_S, lease_s_of(self._engine) / 4), self._extend)

    def _extend(self) -> None:
        self._timer = None
        for delivery in self._arrived:
            # A token of a session that is gone is refused, and its message comes again with another one.
            self._engine.working(delivery.token, lease_s_of(self._engine)).when_done(lambda asked: asked.error)
        self._watch()

    async def _next_arrival(self, timeout_s: float) -> None:
        # Several threads may wait, and all of them hear of it: whoever finds nothing goes on to wait.
        if self._arrival is None:
            self._arrival = Pending()
        await self._engine.wait(self._arrival, timeout_s)

    async def _counts(self) -> dict[str, Any] | None:
        """What the node has for this address; ``None`` if it doesn't say, and there is something here to hand out."""
        if self._arrived and not self._engine.is_ready:
            return None
        try:
            asked = {"max": 1, "instance": self._engine.address.instance}
            answer: dict[str, Any] = await self._engine.asking.request(MAILBOX_PEEK, asked, timeout_s=ASK_TIMEOUT_S)
        except TrishulaError:
            if self._arrived:
                return None
            raise
        return answer


def _key(delivery: Delivery) -> tuple[str, str | None]:
    return delivery.message.id, delivery.message.sender
