"""A tunnel through an HTTP proxy: CONNECT, and then the bytes of whoever asked for it, unseen (RFC 9110, 9.3.6).

The proxy looks the node's name up, so that a host without names of the world outside can use one. What it says when it
refuses becomes one sentence (:class:`ProxyRefused`).
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from trishula.contract.texts import one_line
from trishula.proxies import Proxy

__all__ = ["ProxyRefused", "Tunnel"]

#: The head of the proxy's answer; a longer one is none.
_HEAD_BYTES = 16 * 1024
_REASON_LENGTH = 100


class ProxyRefused(Exception):
    """The proxy on the way to a node opens no tunnel to it; never seen outside of a connection."""


@implementer(IStreamClientEndpoint)
class Tunnel:
    """An endpoint of Twisted's: connects a protocol with a host by way of a proxy.

    Args:
        endpoint: leads to the proxy.
        proxy: the proxy.
        host, port: where the tunnel is to end.
    """

    def __init__(self, endpoint: Any, proxy: Proxy, host: str, port: int) -> None:
        self._endpoint = endpoint
        self._proxy = proxy
        self._target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Connect; the outcome is the factory's protocol, once the tunnel is open."""
        asking: Deferred[Any] | None = None

        def cancel(_: object) -> None:
            (connecting if asking is None else asking).cancel()

        opened: Deferred[Any] = Deferred(cancel)

        def connected(end: _End) -> None:
            nonlocal asking
            asking = end.opened
            asking.addCallbacks(opened.callback, opened.errback)

        def failed(failure: Failure) -> None:
            why = "it gives no answer" if isinstance(failure.value, CancelledError) else str(failure.value).rstrip(".")
            opened.errback(ProxyRefused(f"the proxy {self._proxy} can't be reached: {why}"))

        make: Any = lambda: _End(self._proxy, self._target, protocolFactory)  # noqa: E731
        connecting = self._endpoint.connect(Factory.forProtocol(make))
        connecting.addCallbacks(connected, failed)
        return opened


class _End(Protocol):
    """Our end of a tunnel: asks for it, and passes everything on once it is open."""

    def __init__(self, proxy: Proxy, target: str, factory: Any) -> None:
        self.opened: Deferred[Any] = Deferred(lambda _: self._abort())
        self._proxy = proxy
        self._target = target
        self._factory = factory
        self._inner: Any = None
        self._head = b""

    def connectionMade(self) -> None:
        ask = f"CONNECT {self._target} HTTP/1.1\r\nHost: {self._target}\r\n"
        if self._proxy.authorization is not None:
            ask += f"Proxy-Authorization: {self._proxy.authorization}\r\n"
        self._transport.write(f"{ask}\r\n".encode())

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        if self.opened.called:
            return
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if end:
            self._answered(head, rest)
        elif len(self._head) > _HEAD_BYTES:
            self._refuse("answers with something that is no HTTP")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)
        else:
            self._refuse(f"closed the connection before it opened a tunnel to {self._target}")

    def _answered(self, head: bytes, rest: bytes) -> None:
        version, _, status = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        code = status[:3]
        if not version.startswith("HTTP/1.") or not code.isdigit():
            self._refuse("answers with something that is no HTTP")
        elif code == "407":
            self._refuse(
                "wants a user name and a password: write the proxy as http://USER:PASSWORD@HOST:PORT"
                if self._proxy.authorization is None
                else "doesn't take the user name and the password that are written in its URL"
            )
        elif not code.startswith("2"):
            self._refuse(f"opens no tunnel to {self._target}: {one_line(status[:_REASON_LENGTH]).strip()}")
        else:
            self._head = b""
            inner = self._inner = self._factory.buildProtocol(self._transport.getPeer())
            inner.makeConnection(self._transport)
            self.opened.callback(inner)
            if rest:
                inner.dataReceived(rest)

    def _refuse(self, why: str) -> None:
        if not self.opened.called:
            self.opened.errback(ProxyRefused(f"the proxy {self._proxy} {why}"))
            self._abort()

    def _abort(self) -> None:
        self._transport.abortConnection()

    @property
    def _transport(self) -> Any:
        # Twisted's interfaces are not types that mypy can check.
        return self.transport
