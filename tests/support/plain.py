"""A plain WAMP client: Autobahn alone, none of our client code. The only module of the tests that imports Autobahn.

It can do what our own client never would: claim to forward for somebody, subscribe to patterns, join without a token,
send bytes that are no WAMP. What a node must withstand is tested with it, and that any WAMP client can take part.
"""

from __future__ import annotations

import base64
import gc
import json
import os
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from autobahn.twisted.wamp import ApplicationSession
from autobahn.twisted.websocket import WampWebSocketClientFactory
from autobahn.wamp.exception import ApplicationError, TransportLost
from autobahn.wamp.serializer import CBORSerializer, JsonObjectSerializer, JsonSerializer, MsgPackSerializer, Serializer
from autobahn.wamp.types import CallOptions, ComponentConfig, PublishOptions, RegisterOptions, SubscribeOptions
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint

from trishula.contract import uris

__all__ = [
    "FROZEN",
    "PROBE",
    "JoinRefused",
    "PlainClient",
    "Probe",
    "Refused",
    "TransportLost",
    "handshake",
    "join",
    "send_text_frame",
]

#: What a refused call, publication, registration or subscription raises; ``.error`` is its URI, ``.args`` what came.
Refused = ApplicationError


class _EscapedJson(JsonObjectSerializer):  # type: ignore[misc]
    def serialize(self, obj: object) -> bytes:
        return json.dumps(obj, separators=(",", ":"), default=_marked).encode()


def _marked(value: object) -> str:
    """Bytes, as WAMP writes them into JSON."""
    if isinstance(value, bytes):
        return "\0" + base64.b64encode(value).decode("ascii")
    raise TypeError(f"{type(value).__name__} is no JSON")


class _EscapedJsonSerializer(JsonSerializer):  # type: ignore[misc]
    """JSON in ASCII: unlike Autobahn's own way of writing it, it can carry lone surrogates."""

    def __init__(self) -> None:
        Serializer.__init__(self, _EscapedJson())


SERIALIZERS = {
    "json": JsonSerializer,
    "json-escaped": _EscapedJsonSerializer,
    "msgpack": MsgPackSerializer,
    "cbor": CBORSerializer,
}
TIMEOUT_S = 10.0


class JoinRefused(Exception):
    """The node aborted the session.

    Attributes:
        reason: the URI.
        sentence: what it said.
    """

    def __init__(self, reason: str, sentence: str | None) -> None:
        super().__init__(reason, sentence)
        self.reason = reason
        self.sentence = sentence


class _Session(ApplicationSession):  # type: ignore[misc]
    def __init__(self, authid: str | None, ticket: object, methods: list[str], realm: str, extra: Any) -> None:
        super().__init__(ComponentConfig(realm, None))
        self._hello = (realm, methods, authid, extra)
        self._ticket = ticket
        self.joined: Deferred[Any] = Deferred()
        self.gone: Deferred[str] = Deferred()
        self.calls: set[Deferred[Any]] = set()

    def onConnect(self) -> None:
        realm, methods, authid, extra = self._hello
        self.join(realm, methods, authid, authextra=extra)

    def onChallenge(self, challenge: Any) -> object:
        return self._ticket(challenge) if callable(self._ticket) else self._ticket

    def onJoin(self, details: Any) -> None:
        self.joined.callback(details)

    def onLeave(self, details: Any) -> None:
        if not self.joined.called:
            self.joined.errback(JoinRefused(details.reason, details.message))
        if not self.gone.called:
            self.gone.callback(details.reason)
        self.disconnect()

    def onDisconnect(self) -> None:
        if not self.joined.called:
            self.joined.errback(JoinRefused("disconnected", None))
        if not self.gone.called:
            self.gone.callback("disconnected")
        for call in [call for call in self.calls if not call.called]:
            call.errback(ConnectionError("the connection broke while the call was under way"))


def _in_time(answer: Deferred[Any]) -> Deferred[Any]:
    from twisted.internet import reactor

    return answer.addTimeout(TIMEOUT_S, reactor)


class PlainClient:
    """One joined session."""

    def __init__(self, session: _Session, details: Any) -> None:
        self._session = session
        self.details = details

    @property
    def gone(self) -> Deferred[str]:
        """Fires with the reason when the session ends."""
        return self._session.gone

    async def call(
        self,
        uri: str,
        *args: Any,
        named: Mapping[str, Any] | None = None,
        on_progress: Callable[..., object] | None = None,
        forward_for: list[dict[str, Any]] | None = None,
    ) -> Any:
        """Call; also as if forwarded for somebody."""
        options = CallOptions(forward_for=forward_for, on_progress=on_progress)
        return await self._answer(self._session.call(uri, *args, options=options, **(named or {})))

    def begin_call(self, uri: str, *args: Any) -> Deferred[Any]:
        """Call, and don't wait; cancelling the answer cancels the call."""
        answer: Deferred[Any] = self._session.call(uri, *args)
        return answer

    async def _answer(self, answer: Deferred[Any]) -> Any:
        # Autobahn never ends a call whose connection broke.
        self._session.calls.add(answer)
        try:
            return await _in_time(answer)
        finally:
            self._session.calls.discard(answer)

    async def publish(self, topic: str, *args: Any, forward_for: list[dict[str, Any]] | None = None) -> None:
        """Publish, and wait until the router took or refused it."""
        options = PublishOptions(acknowledge=True, forward_for=forward_for)
        await _in_time(self._session.publish(topic, *args, options=options))

    async def subscribe(
        self,
        topic: str,
        handler: Callable[..., object],
        *,
        match: str | None = None,
        forward_for: list[dict[str, Any]] | None = None,
    ) -> None:
        """Subscribe; the handler gets the arguments, and the details as ``details``."""
        options = SubscribeOptions(match=match, details_arg="details", forward_for=forward_for)
        await _in_time(self._session.subscribe(handler, topic, options=options))

    async def register(
        self,
        uri: str,
        procedure: Callable[..., object],
        *,
        match: str | None = None,
        forward_for: list[dict[str, Any]] | None = None,
    ) -> None:
        """Register; the procedure gets the arguments, and the details as ``details``."""
        options = RegisterOptions(match=match, details_arg="details", forward_for=forward_for)
        await _in_time(self._session.register(procedure, uri, options=options))

    def send_frame(self, payload: bytes) -> None:
        """Send a WebSocket message, whatever is in it."""
        transport = self._session._transport
        transport.sendMessage(payload, isBinary=transport._serializer._serializer.BINARY)

    async def ended(self) -> str:
        """Wait until the session has ended; the reason."""
        return str(await _in_time(self._session.gone))

    @property
    def asked(self) -> list[int]:
        """The numbers of the invocations that wait for this client's answer."""
        return list(self._session._invocations)

    def hang_up(self) -> None:
        """Break the connection, without a word."""
        self._session._transport.abort()

    async def leave(self) -> None:
        """End the session, and wait for it."""
        if self._session.is_attached():
            self._session.leave()
        await _in_time(self._session.gone)


async def join(
    url: str,
    authid: str | None,
    ticket: object,
    *,
    serializer: str = "json",
    methods: tuple[str, ...] = ("ticket",),
    realm: str = uris.REALM,
    authextra: dict[str, Any] | None = None,
    frame_limit_bytes: int = 0,
    endpoint: Any = None,
) -> PlainClient:
    """Join a node.

    Args:
        url, authid, ticket, serializer, methods, realm, authextra: how; a ticket may be made of the challenge.
        frame_limit_bytes: it closes at a larger WebSocket message, as libraries of other languages do; 0: at none.
        endpoint: Twisted's, by which it connects, such as one with TLS; by default TCP to what the URL names.

    Raises:
        JoinRefused: with what the node said.
    """
    from twisted.internet import reactor

    session = _Session(authid, ticket, list(methods), realm, authextra)
    factory = WampWebSocketClientFactory(lambda: session, url=url, serializers=[SERIALIZERS[serializer]()])
    factory.setProtocolOptions(maxFramePayloadSize=frame_limit_bytes, maxMessagePayloadSize=frame_limit_bytes)
    at = urlsplit(url)
    endpoint = endpoint or TCP4ClientEndpoint(reactor, at.hostname or "", at.port or 0, timeout=TIMEOUT_S)
    await endpoint.connect(factory)
    details = await _in_time(session.joined)
    return PlainClient(session, details)


#: What :class:`Probe` registers: a procedure of the node's that operators may call.
PROBE = f"{uris.NODE_PREFIX}probe"
FROZEN = f"{uris.NODE_PREFIX}frozen"


class Probe(ApplicationSession):  # type: ignore[misc]
    """A further component of a node's router worker: tells what cannot be seen from outside."""

    async def onJoin(self, details: Any) -> None:
        await self.register(self._probe, PROBE)
        await self.register(self._frozen, FROZEN)

    def _probe(self) -> list[bool]:
        """TCP_NODELAY of each connection that the worker has accepted."""
        from twisted.internet import reactor
        from twisted.internet.tcp import Server

        readers = cast(Any, reactor).getReaders()
        return [bool(reader.getTcpNoDelay()) for reader in readers if isinstance(reader, Server)]

    def _frozen(self) -> list[int]:
        """How many objects Python's collector passes over, before and after one of its rounds over the old ones."""
        before = gc.get_freeze_count()
        gc.collect()
        return [before, gc.get_freeze_count()]


# -- below WAMP --------------------------------------------------------------------------------------------------------


def handshake(url: str, *, origin: str | None = None, path: str | None = None) -> tuple[socket.socket, str]:
    """Ask for an upgrade to WebSocket with a plain socket; the socket, and the first line of the answer."""
    at = urlsplit(url)
    connection = socket.create_connection((at.hostname or "", at.port or 0), TIMEOUT_S)
    lines = [
        f"GET {path or at.path} HTTP/1.1",
        f"Host: {at.netloc}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: wamp.2.json",
    ]
    if origin is not None:
        lines.append(f"Origin: {origin}")
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    answer = b""
    while b"\r\n\r\n" not in answer and (more := connection.recv(4096)):
        answer += more
    return connection, answer.split(b"\r\n", 1)[0].decode()


def send_text_frame(connection: socket.socket, payload: bytes) -> None:
    """Send one masked WebSocket text frame."""
    mask = os.urandom(4)
    head = bytes([0x81, 0x80 | 127]) + struct.pack(">Q", len(payload)) + mask
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    connection.sendall(head + masked.to_bytes(len(payload), "big"))
