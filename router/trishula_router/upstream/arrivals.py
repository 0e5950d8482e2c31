"""Connections that are not WebSockets yet: Twisted's web server has them, and each is seen to when its turn is.

An :class:`Arrival` stands between a connection and the server's channel until the first bytes come. Then it goes on at
once, or waits unread until :mod:`.pacing` lets it; of those that wait the one that came last is next.

Of TLS the first bytes are those of its handshake, which costs a node as much as all that a stranger may say after it:
so it is the handshake that waits. Behind a proxy that names whom it speaks for nobody is known before the request, so
there the request waits, and the proxy's handshakes do not.

It reaches into Twisted's web server (``HTTPChannel``) and TLS (``TLSMemoryBIOProtocol``): their methods of a protocol
are replaced on the one object.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from trishula_router.client_ips import Proxies, site_of
from trishula_router.clocks.clock import Clock
from trishula_router.upstream.pacing import Pace
from trishula_router.upstream.strangers import Step

__all__ = ["Arrival", "Arrivals", "Door"]

#: How soon it is looked again whether those that wait may go on.
_AGAIN_S = 0.025
_FORWARDED_FOR = re.compile(rb"^x-forwarded-for:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


class Door(Protocol):
    """Who looks after all connections."""

    def came(self, connection: Any, step: Step) -> None:
        """Somebody came."""

    def left(self, connection: Any) -> None:
        """Its socket is closed."""


class Arrivals:
    """All of them.

    Args:
        door: who looks after all connections.
        clock: timers.
        proxies: who may say for whom a connection is.
    """

    def __init__(self, door: Door, clock: Clock, proxies: Proxies) -> None:
        self.door = door
        self._clock = clock
        self._proxies = proxies
        self._pace = Pace()
        self._by_transport: WeakKeyDictionary[Any, Arrival] = WeakKeyDictionary()
        # Of each address, in the order in which they came.
        self._waiting: dict[str, dict[Arrival, None]] = {}
        self._is_looking = False

    def come(self, channel: Any, host: object) -> None:
        """A connection is made; ``host`` is its address, if it has one."""
        self.door.came(Arrival(channel, host if isinstance(host, str) else "", self), Step.ARRIVED)

    def is_proxy(self, host: str) -> bool:
        """Whether many come from there."""
        return self._proxies.has(host)

    def made(self, arrival: Arrival, transport: Any) -> None:
        """Its transport is there."""
        self._by_transport[transport] = arrival

    def became(self, transport: Any) -> None:
        """It is a WebSocket now."""
        arrival = self._by_transport.pop(transport, None)
        if arrival is not None:
            self.door.left(arrival)

    def began(self, arrival: Arrival, head: bytes) -> bool:
        """Its first bytes came; whether it may go on now. If not, it is told later."""
        arrival.counts_as = site_of(self._client_ip_in(arrival.host, head))
        arrival.has_begun = True
        others = self._waiting.get(arrival.counts_as)
        if others is None and self._pace.begins(arrival.counts_as, self._clock.seconds()):
            return True
        self._waiting.setdefault(arrival.counts_as, {})[arrival] = None
        self._look_soon()
        return False

    def gone(self, arrival: Arrival) -> None:
        """It waits no more."""
        others = self._waiting.get(arrival.counts_as, {})
        if others.pop(arrival, 1) is None and not others:
            del self._waiting[arrival.counts_as]

    def is_earnest(self, client_ip: str) -> None:
        """One from there has joined, or would have."""
        self._pace.joined(site_of(client_ip))

    def _client_ip_in(self, host: str, head: bytes) -> str:
        if not self._proxies.has(host):
            return host
        found = b",".join(_FORWARDED_FOR.findall(head))
        return self._proxies.client_ip_of(host, found.decode("latin-1") if found else None)

    def _look_soon(self) -> None:
        if not self._is_looking:
            self._is_looking = True
            self._clock.callLater(_AGAIN_S, self._look)

    def _look(self) -> None:
        self._is_looking = False
        now_s = self._clock.seconds()
        for site, waiting in list(self._waiting.items()):
            while waiting and self._pace.begins(site, now_s):
                arrival = next(reversed(waiting))
                self.gone(arrival)
                arrival.go_on()
        if self._waiting:
            self._look_soon()


class Arrival:
    """One connection.

    Args:
        channel: of Twisted's web server.
        host: where it comes from.
        arrivals: all of them.

    Attributes:
        client_ip: what it counts for as a stranger; ``None`` behind a proxy, which says that with the request.
        counts_as: for whom its bytes are.
        has_begun: whether its first bytes came.
    """

    def __init__(self, channel: Any, host: str, arrivals: Arrivals) -> None:
        self.host = host
        self.client_ip = None if not host or arrivals.is_proxy(host) else host
        self.counts_as = ""
        self.has_begun = False
        self._channel = channel
        # What is to be read on, and who takes what came; of TLS these are what is beneath the channel.
        self._unread: Any = channel
        self._take: Any = None
        self._arrivals = arrivals
        self._data = b""
        # Of this one channel; a WebSocket takes its place, and then it hears of nothing any more.
        self._made, channel.makeConnection = channel.makeConnection, self._make
        self._lost, channel.connectionLost = channel.connectionLost, self._lose
        self._received, channel.dataReceived = channel.dataReceived, self._receive

    def _make(self, transport: Any) -> None:
        self._arrivals.made(self, transport)
        self._made(transport)
        if self.client_ip is not None and hasattr(transport, "transport") and hasattr(transport, "dataReceived"):
            self._greeted, transport.dataReceived = transport.dataReceived, partial(self._greet, transport)

    def _lose(self, *args: Any) -> None:
        self._arrivals.gone(self)
        self._arrivals.door.left(self)
        self._lost(*args)

    def _greet(self, tls: Any, data: bytes) -> None:
        """The first bytes of TLS came."""
        del tls.dataReceived
        self._begin(tls, self._greeted, data)

    def _receive(self, data: bytes) -> None:
        """Bytes for the web server came."""
        if self._data:
            # More of TLS, which had it already.
            self._data += data
            return
        self._channel.dataReceived = self._received
        if self.has_begun:
            self._received(data)
        else:
            self._begin(self._channel, self._received, data)

    def _begin(self, protocol: Any, take: Callable[[bytes], object], data: bytes) -> None:
        if self._arrivals.began(self, data):
            take(data)
        else:
            self._data, self._take, self._unread = data, take, protocol
            protocol.dataReceived = self._wait
            protocol.transport.pauseProducing()

    def _wait(self, data: bytes) -> None:
        self._data += data

    def go_on(self) -> None:
        """It may."""
        if not _is_open(self._channel.transport):
            return
        protocol, data = self._unread, self._data
        self._data = b""
        protocol.dataReceived = self._take
        protocol.transport.resumeProducing()
        self._take(data)

    def progress(self) -> tuple[Step | None, float]:
        """How far it has come; ``None`` if it is gone."""
        if not _is_open(self._channel.transport):
            return None, 0.0
        return Step.ASKED if getattr(self._channel, "_handlingRequest", False) else Step.ARRIVED, 0.0

    def dismiss(self) -> None:
        """End it."""
        self._arrivals.gone(self)
        self._channel.transport.abortConnection()


def _is_open(transport: Any) -> bool:
    # Of TLS, the connection beneath it.
    while transport is not None and hasattr(transport, "transport"):
        transport = transport.transport
    return transport is not None and bool(getattr(transport, "connected", False))
