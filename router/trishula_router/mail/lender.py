"""The lender: gives messages to a session, each under a lease.

A lease says who has a message, and until when. Whoever has the message acks it, gives it back or keeps it beyond the
lease's time: that is ``settlement``'s part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.logger import Logger

from trishula.contract.binary import unmarked
from trishula_router.agents.consumers import Consumer
from trishula_router.background import log_fault
from trishula_router.clocks.clock import Clock
from trishula_router.histogram import SLOW_S, Histogram
from trishula_router.mail.delivery_token import token_of
from trishula_router.mail.entry import Entry
from trishula_router.mail.mailroom import Lease, Mailroom
from trishula_router.spans import Spans
from trishula_router.store.interface import Store
from trishula_router.store.signed_bodies import split_signature

__all__ = ["Lender"]

log = Logger()


class Lender:
    """Begins leases, and writes down what goes out.

    Args:
        mailroom: where the leases are.
        store: where attempts and deliveries are written down.
        lease_s: how long a session has for a message.
        clock: of the leases.
        now: the wall clock in ms, for what is written down.
        takes_binary: whether a session gets bytes in payloads as they are, and not marked.

    Attributes:
        waits: how many seconds after it was accepted each message went out first.
        delays: how many ms after it was accepted each message went out first, if the session that it was pushed to was
            attached by then.
        repeated: how many messages went out again.
    """

    def __init__(
        self,
        mailroom: Mailroom,
        store: Store,
        lease_s: float,
        clock: Clock,
        now: Callable[[], int],
        takes_binary: Callable[[int], bool],
    ) -> None:
        self._mailroom = mailroom
        self._store = store
        self._lease_s = lease_s
        self._clock = clock
        self._now = now
        self._takes_binary = takes_binary
        self.waits = Histogram(SLOW_S)
        self.delays = Spans()
        self.repeated = 0

    def lend(
        self, holder: str, session: int, consumer: Consumer | None, run: str | None, entries: Sequence[Entry]
    ) -> list[dict[str, Any]]:
        """Count the attempts, start the leases and note the deliveries of messages that go out.

        Args:
            holder: the address that gets them.
            session: whose they are from now on.
            consumer: in whose window they count, if they are pushed.
            run: of the client's process, if that was told.
            entries: the messages, with their bodies.

        Returns:
            what travels.
        """
        until_s, now = self._clock.seconds() + self._lease_s, self._now()
        is_native = self._takes_binary(session)
        leases, deliveries, epoch = self._mailroom.leases, [], self._store.epoch
        # Before that instant a message waited for an agent that was away, which says nothing of the node.
        here_since = None if consumer is None else now - round(1000 * (self._clock.seconds() - consumer.since_s))
        for entry in entries:
            entry.attempts += 1
            entry.holder = holder
            if entry.attempts == 1:
                waited_ms = max(0, now - entry.accepted_at)
                self.waits.observe(waited_ms / 1000)
                if here_since is not None and entry.accepted_at >= here_since:
                    self.delays.observe(waited_ms)
            else:
                self.repeated += 1
            leases[entry.position] = Lease(entry, session, consumer, until_s, run=run)
            token = token_of(entry.position, entry.attempts, epoch)
            message, beside = split_signature(entry.wire or {})
            if is_native and entry.binary:
                message = {**message, "payload": unmarked(message["payload"])}
            deliveries.append({"message": message, "attempt": entry.attempts, "token": token, **beside})
            self._mailroom.forget_body(entry)
        if consumer is not None:
            consumer.in_flight += len(entries)
            consumer.in_flight_bytes += sum(entry.size_bytes for entry in entries)
        attempts = [(entry.position, entry.attempts) for entry in entries]
        noted = self._store.deliver(attempts, holder, session, now)
        noted.addErrback(log_fault, log, "a delivery could not be noted")
        return deliveries
