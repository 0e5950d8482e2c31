"""Connections that proxy workers bring: for the rest of the node they are what they would be without.

At the socket of the proxy workers each connection begins with an :mod:`.introduction`. From then on its transport
answers with the client's own address, so all that counts by address (strangers, the pace of handshakes, refusals, the
journal) counts the client and not the proxy worker; and a key that is bound to the client's TLS is checked against it.

It reaches into Twisted (``Site.buildProtocol``, ``transport.getPeer`` and ``transport.protocol`` of the one connection)
and Autobahn (``TransportDetails``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.protocol import Protocol
from twisted.logger import Logger

from trishula_router.clocks.clock import Clock
from trishula_router.upstream.introduction import END, MOST_BYTES, Introduction, read_introduction

__all__ = ["bind_channel", "expect_introductions"]

log = Logger()

#: A proxy worker writes the line with the first bytes; who takes longer is none.
_WITHIN_S = 5.0


def expect_introductions(site: Any, path: str, clock: Clock) -> bool:
    """Have the web servers of this process take the connections at a socket as introduced ones.

    Args:
        site: Crossbar's class of a web server.
        path: the socket's; what comes in elsewhere stays as it is.
        clock: timers.

    Returns:
        Whether the class is as expected; if not, nothing was changed.
    """
    build = getattr(site, "buildProtocol", None)
    if not callable(build):
        return False

    def build_protocol(self: Any, address: Any) -> Any:
        if isinstance(address, UNIXAddress):
            return _Introduced(lambda of: build(self, of), address, path, clock)
        return build(self, address)

    site.buildProtocol = build_protocol
    return True


def bind_channel(transport: Any, details: Any) -> None:
    """Let a WebSocket's details tell of the TLS that the proxy worker has ended for it, if there was any.

    Args:
        transport: of the connection.
        details: Autobahn's, from which authentication takes the channel's id.
    """
    introduction = getattr(transport, "introduction", None)
    if introduction is not None and introduction.channel_id is not None:
        details.is_secure = True
        details.channel_type = type(details).CHANNEL_TYPE_TLS
        details.channel_id = {"tls-unique": introduction.channel_id}


class _Introduced(Protocol):
    """A connection whose introduction is to come.

    Args:
        build: makes what takes the connection over, for an address.
        address: as Twisted knows it.
        path: the socket at which connections are introduced.
        clock: timers.
    """

    # Twisted's, which is of no one interface.
    transport: Any = None

    def __init__(self, build: Callable[[Any], Any], address: Any, path: str, clock: Clock) -> None:
        self._build = build
        self._address = address
        self._path = path
        self._clock = clock
        self._data = b""
        self._timer: Any = None

    def connectionMade(self) -> None:
        name = self.transport.getHost().name
        if (name.decode() if isinstance(name, bytes) else name) != self._path:
            # A socket of the operator's own.
            self._become(self._build(self._address), b"")
            return
        self._timer = self._clock.callLater(_WITHIN_S, self._refuse)

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        line, found, rest = self._data.partition(END)
        if len(line) >= MOST_BYTES:
            self._refuse()
        elif found:
            try:
                introduction = read_introduction(line)
            except ValueError:
                self._refuse()
            else:
                self._introduce(introduction, rest)

    def _introduce(self, introduction: Introduction, rest: bytes) -> None:
        self._end_timer()
        kind = IPv6Address if ":" in introduction.ip else IPv4Address
        peer = kind("TCP", introduction.ip, introduction.port)
        transport = self.transport
        transport.getPeer, transport.introduction = (lambda: peer), introduction
        self._become(self._build(peer), rest)

    def _become(self, protocol: Any, data: bytes) -> None:
        transport = self.transport
        if protocol is None:
            transport.abortConnection()
            return
        transport.protocol = protocol
        protocol.makeConnection(transport)
        if data:
            protocol.dataReceived(data)

    def _refuse(self) -> None:
        self._end_timer()
        log.warn("a connection at the socket of the proxy workers did not say whose it is, and was ended")
        self.transport.abortConnection()

    def _end_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def connectionLost(self, *_: Any) -> None:
        self._end_timer()
