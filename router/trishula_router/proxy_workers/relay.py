"""Carries the bytes of each client to the router worker, and back, as fast as the slower of the two takes them.

A client is brought to the router worker with its first bytes; of TLS that is after the handshake. So whoever opens
connections and says nothing, or stays in the middle of a handshake, costs the router worker nothing. The same bounds
hold for them in each proxy worker as else in the router worker: ``limits.handshake``, ``limits.strangers``,
``limits.strangers_per_address`` (:mod:`trishula_router.upstream.strangers`), and the pace of handshakes of one address
(:mod:`trishula_router.upstream.pacing`). Who of them is in earnest the router worker knows, and says so.

Neither side is read while the other one's queue is full, so that what a slow client doesn't take stays in the router
worker's queues, which have bounds (``limits.connection_queue``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from trishula_router.client_ips import Proxies, site_of
from trishula_router.clocks.clock import Clock
from trishula_router.proxy_workers.task import Task
from trishula_router.upstream.arrivals import Arrivals
from trishula_router.upstream.introduction import Introduction
from trishula_router.upstream.strangers import Step, Strangers, room_for

__all__ = ["Relay"]

log = Logger()

#: An end whose other end is closed is given so long again and again, while it takes what was sent before.
_GOODBYE_S = 5.0
_ROUND_S = 0.5


class Relay(Factory):
    """All connections of a proxy worker.

    Args:
        connect: opens a connection to the router worker, for a factory of protocols.
        clock: timers.
        channel_of: the id of a transport's TLS channel; ``None`` if it has none.
        task: with its limits.
        descriptors: how many files the process can open.

    Attributes:
        clients: those that are open.
        arrivals: those whose first bytes are to come, or wait for their turn; a client that joined is told to it.
    """

    noisy = False

    def __init__(
        self,
        connect: Callable[[Factory], Deferred[Any]],
        clock: Clock,
        channel_of: Callable[[Any], bytes | None],
        task: Task,
        *,
        descriptors: int,
    ) -> None:
        self.connect = connect
        self.clock = clock
        self.channel_of = channel_of
        self.number = task.number
        self._most = task.strangers
        # A client that is brought on takes two.
        self._room = descriptors // 2
        self._strangers = Strangers(task.handshake_s, task.strangers_per_address)
        self.clients: set[Client] = set()
        self.arrivals = Arrivals(self, clock, Proxies(task.proxies))
        clock.callLater(_ROUND_S, self._again)

    def buildProtocol(self, addr: Any) -> Client:
        client = Client(self, addr)
        self.arrivals.come(client, addr.host)
        return client

    def came(self, connection: Any, step: Step) -> None:
        """A client connected: as an :class:`~trishula_router.upstream.arrivals.Arrival`."""
        site = None if connection.client_ip is None else site_of(connection.client_ip)
        self._strangers.came(connection, step, self.clock.seconds(), site)
        most = min(self._most, room_for(self._room, len(self.clients)))
        while (found := self._strangers.one_too_many(site, most)) is not None:
            self._dismiss(found[0])

    def left(self, connection: Any) -> None:
        """Its first bytes came, or it is closed."""
        self._strangers.went(connection)

    def _dismiss(self, arrival: Any) -> None:
        self._strangers.went(arrival)
        arrival.dismiss()

    def _again(self) -> None:
        now_s = self.clock.seconds()
        for arrival in self._strangers:
            step = arrival.progress()[0]
            if step is None:
                self._strangers.went(arrival)
            elif self._strangers.overdue(arrival, step, 0.0, now_s) is not None:
                self._dismiss(arrival)
        self.clock.callLater(_ROUND_S, self._again)


class _End(Protocol):
    """One end of what is carried.

    Attributes:
        other: the other one, once both are there.
    """

    # Twisted's, which is of no one interface.
    transport: Any = None
    other: _End | None = None
    _timer: Any = None

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def abort(self) -> None:
        """End it without waiting for anything."""
        if self.transport is not None:
            self.transport.abortConnection()

    def finish(self) -> None:
        """The other one is closed: send what is left, and close."""
        self.transport.unregisterProducer()
        self._close()
        self._wait(_unsent_bytes(self.transport))

    def _close(self) -> None:
        self.transport.loseConnection()

    def _wait(self, unsent_bytes: int) -> None:
        def look() -> None:
            left_bytes = _unsent_bytes(self.transport)
            if left_bytes < unsent_bytes:
                self._wait(left_bytes)
            else:
                self.abort()

        self._timer = self._clock.callLater(_GOODBYE_S, look)

    def connectionLost(self, *_: Any) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        other, self.other = self.other, None
        if other is not None:
            other.other = None
            other.finish()


class Client(_End):
    """A client's end.

    Args:
        relay: all of them.
        address: where it comes from.
    """

    def __init__(self, relay: Relay, address: Any) -> None:
        super().__init__(relay.clock)
        self.address = address
        self._relay = relay
        self._early: list[bytes] = []
        self._has_begun = self._is_ending = self._is_gone = False

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)
            return
        if self._is_ending:
            return
        self._early.append(data)
        if not self._has_begun:
            self._has_begun = True
            self._relay.arrivals.became(self.transport)
            self._relay.clients.add(self)
            # What is more of TLS may come all the same.
            self.transport.pauseProducing()
            self._relay.connect(Factory.forProtocol(lambda: _Inner(self, self._clock))).addErrback(self._refused)

    def take_early(self) -> bytes:
        """What it has sent so far, with what the router worker is to know of it before."""
        relay, address = self._relay, self.address
        introduction = Introduction(address.host, address.port, relay.channel_of(self.transport), relay.number)
        early, self._early = self._early, []
        return introduction.line() + b"".join(early)

    @property
    def is_gone(self) -> bool:
        """Whether it is closed."""
        return self._is_gone

    def connectionLost(self, *args: Any) -> None:
        self._is_gone = True
        self._relay.clients.discard(self)
        super().connectionLost(*args)

    def _close(self) -> None:
        self._is_ending = True
        self.transport.resumeProducing()
        if hasattr(self.transport, "transport"):
            # TLS has an end of its own, which the client answers.
            self.transport.loseConnection()
        else:
            # What a client still sends would have the kernel drop what it hasn't read yet: the reason of the end, say.
            self.transport.loseWriteConnection()

    def _refused(self, failure: Any) -> None:
        # The router worker is about to end, or has too much to do: clients come again.
        log.warn("a client was not let through: {why}", why=failure.getErrorMessage())
        self.abort()


class _Inner(_End):
    """The router worker's end of it."""

    def __init__(self, client: Client, clock: Clock) -> None:
        super().__init__(clock)
        self._client = client

    def connectionMade(self) -> None:
        client, inner, outer = self._client, self.transport, self._client.transport
        if client.is_gone:
            self.abort()
            return
        inner.write(client.take_early())
        self.other, client.other = client, self
        # Each is read only while the other one's queue has room.
        inner.registerProducer(outer, True)
        outer.registerProducer(inner, True)
        outer.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)


def _unsent_bytes(transport: Any) -> int:
    """What Twisted holds of what is to be sent; of TLS, beneath it."""
    beneath = getattr(transport, "transport", transport)
    return len(getattr(beneath, "dataBuffer", b"")) + int(getattr(beneath, "_tempDataBufferLen", 0))
