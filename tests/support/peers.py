"""Peers that are none, for tests: who plays a node at its address, and who comes in where peers do with what it has."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import msgpack
from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.ssl import Certificate, optionsForClientTLS

from tests.support.raw import RawClient
from trishula.contract import uris
from trishula_router.upstream.link_proofs import CONNECTOR, Ends, channel_between

__all__ = [
    "ABORT",
    "Answer",
    "AUTHENTICATE",
    "CALL",
    "CHALLENGE",
    "ERROR",
    "HELLO",
    "PUBLISH",
    "PUBLISHED",
    "REGISTER",
    "REGISTERED",
    "RESULT",
    "SUBSCRIBE",
    "SUBSCRIBED",
    "WELCOME",
    "FakeListener",
    "Intruder",
    "Message",
    "NodeKey",
    "come_in",
    "intrude",
]

HELLO, WELCOME, ABORT, CHALLENGE, AUTHENTICATE, GOODBYE, ERROR = 1, 2, 3, 4, 5, 6, 8
PUBLISH, PUBLISHED, SUBSCRIBE, SUBSCRIBED, CALL, RESULT, REGISTER, REGISTERED = 16, 17, 32, 33, 48, 50, 64, 65
TIMEOUT_S = 10.0

Message = list[Any]
#: What is said to a message, now or later.
Answer = Callable[[Message], list[Message] | Coroutine[Any, Any, list[Message]]]
_ROLES: dict[str, Any] = {role: {} for role in ("caller", "callee", "publisher", "subscriber")}


class NodeKey:
    """A node's key pair; a stolen one, or one of the test's own."""

    def __init__(self, private: Ed25519PrivateKey | None = None) -> None:
        self._private = private or Ed25519PrivateKey.generate()

    @classmethod
    def stolen(cls, state_dir: Path) -> NodeKey:
        """That of the node whose state directory this is."""
        for line in (state_dir / "crossbar" / "key.priv").read_text().splitlines():
            tag, _, value = line.partition(":")
            if tag == "private-key-ed25519":
                return cls(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(value.strip())))
        raise AssertionError("there is no key")

    @property
    def public(self) -> str:
        """64 hexadecimal digits."""
        return self._private.public_key().public_bytes_raw().hex()

    def sign(self, text: bytes) -> str:
        """128 hexadecimal digits."""
        return self._private.sign(text).hex()


class _Playing(WebSocketServerProtocol):  # type: ignore[misc]
    def onConnect(self, request: Any) -> Any:
        return request.protocols[0]

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        listener: FakeListener = self.factory.listener
        message = msgpack.unpackb(payload)
        listener.heard.append(message)
        said = listener.answer(message)
        if isinstance(said, list):
            self._say(said)
        else:
            Deferred.fromCoroutine(said).addCallback(self._say)

    def _say(self, messages: list[Message]) -> None:
        for message in messages:
            self.sendMessage(msgpack.packb(message), isBinary=True)


class FakeListener:
    """Plays a node at an address: whatever comes is kept, and answered as the test says.

    Args:
        port: where it listens, on loopback.
        answer: what it says to a message.

    Attributes:
        heard: all messages that came.
    """

    def __init__(self, port: int, answer: Answer) -> None:
        from twisted.internet import reactor

        self.heard: list[Message] = []
        self.answer = answer
        factory = WebSocketServerFactory(protocols=["wamp.2.msgpack"])
        factory.protocol, factory.listener = _Playing, self
        self._listening = cast(Any, reactor).listenTCP(port, factory, interface="127.0.0.1")

    @property
    def kinds(self) -> set[int]:
        """Of the messages that came."""
        return {message[0] for message in self.heard}

    async def stop(self) -> None:
        """Listen no more."""
        await self._listening.stopListening()


class _Coming(WebSocketClientProtocol):  # type: ignore[misc]
    def onOpen(self) -> None:
        self.factory.opened.callback(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.factory.heard.put(msgpack.unpackb(payload))

    def onClose(self, wasClean: bool, code: Any, reason: Any) -> None:
        self.factory.heard.put([ABORT, {}, f"closed: {reason}"])


class Intruder:
    """A connection to the path of the peers, message by message."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._requests = 0

    def send(self, *message: Any) -> None:
        """Send a WAMP message."""
        self._protocol.sendMessage(msgpack.packb(list(message)), isBinary=True)

    def send_raw(self, payload: bytes) -> None:
        """Send any message."""
        self._protocol.sendMessage(payload, isBinary=True)

    async def receive(self) -> Message:
        """The next WAMP message; an ABORT if the connection was closed."""
        from twisted.internet import reactor

        answer: Deferred[Message] = self._protocol.factory.heard.get()
        return await answer.addTimeout(TIMEOUT_S, cast(Any, reactor))

    def hello(self, **extra: Any) -> None:
        """Ask to be let in."""
        self.send(HELLO, uris.REALM, {"roles": _ROLES, "authmethods": ["cryptosign"], "authextra": extra})

    async def prove(self, node: str, name: str, key: NodeKey, listener: str) -> Message:
        """Come in as ``name`` with its key at the node that has the key ``listener``; the answer."""
        nonce = os.urandom(32).hex()
        self.hello(pubkey=key.public, challenge=nonce, channel_binding=None)
        kind, _, extra, *_ = await self.receive()
        assert kind == CHALLENGE, extra
        ends = Ends(node, name, listener, key.public, extra["challenge"], nonce, channel_between(False, None))
        self.send(AUTHENTICATE, key.sign(ends.text(CONNECTOR)), {})
        return await self.receive()

    async def ask(self, kind: int, *rest: Any, **options: Any) -> Message:
        """Send a request, and wait for its answer; events in between are dropped."""
        self._requests += 1
        self.send(kind, self._requests, options, *rest)
        while True:
            answer = await self.receive()
            if (
                answer[0] == ABORT
                or (answer[0] == ERROR and answer[2] == self._requests)
                or answer[1] == self._requests
            ):
                return answer

    def hang_up(self) -> None:
        """Break the connection."""
        self._protocol.transport.abortConnection()


async def intrude(url: str, trusting: Path | None = None) -> Intruder:
    """Connect to the path of the peers at the node with that URL; over TLS if that file names whom to trust."""
    from twisted.internet import reactor

    address = url.removesuffix(uris.WEBSOCKET_PATH) + uris.PEER_PATH
    factory = WebSocketClientFactory(address, protocols=["wamp.2.msgpack"])
    factory.protocol, factory.opened, factory.heard = _Coming, Deferred(), DeferredQueue()
    port = int(url.rpartition(":")[2].partition("/")[0])
    endpoint: Any = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    if trusting is not None:
        authority = Certificate.loadPEM(trusting.read_bytes())
        endpoint = wrapClientTLS(optionsForClientTLS("localhost", trustRoot=authority), endpoint)
    await endpoint.connect(factory)
    protocol = await factory.opened.addTimeout(TIMEOUT_S, cast(Any, reactor))
    return Intruder(protocol)


def come_in(client: RawClient, node: str, name: str, key: NodeKey, listener: str) -> Message:
    """As :meth:`Intruder.prove`, with a socket alone: for a process that has no reactor.

    Args:
        client: a connection to the path of the peers.
        node, listener: who listens there, and its public key.
        name, key: as whom to come in, and its key.

    Returns:
        The answer: a WELCOME or an ABORT.
    """
    nonce = os.urandom(32).hex()
    client.open("wamp.2.msgpack")
    extra = {"pubkey": key.public, "challenge": nonce, "channel_binding": None}
    details = {"roles": _ROLES, "authmethods": ["cryptosign"], "authextra": extra}
    client.send_frame(2, cast(bytes, msgpack.packb([HELLO, uris.REALM, details])))
    kind, _, challenge, *_ = msgpack.unpackb(client.receive_bytes())
    assert kind == CHALLENGE, challenge
    ends = Ends(node, name, listener, key.public, challenge["challenge"], nonce, channel_between(False, None))
    client.send_frame(2, cast(bytes, msgpack.packb([AUTHENTICATE, key.sign(ends.text(CONNECTOR)), {}])))
    answer: Message = msgpack.unpackb(client.receive_bytes())
    return answer
