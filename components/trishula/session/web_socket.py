"""The client's end of a WebSocket: Autobahn's with its habits overridden, and how WAMP is written on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import txaio
from autobahn.exception import Disconnected
from autobahn.twisted.websocket import WampWebSocketClientProtocol
from autobahn.wamp.exception import TransportLost
from autobahn.wamp.serializer import (
    JsonObjectSerializer,
    JsonSerializer,
    MsgPackObjectSerializer,
    MsgPackSerializer,
    Serializer,
)
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.python.failure import Failure

from trishula.runtime.surroundings import Clock, Timer
from trishula.session.carrying import Carrying
from trishula.session.short_way import ShortWay
from trishula.session.transport import Ending, unpacked

__all__ = ["LEAVE_TIMEOUT_S", "OPTIONS", "PATIENCE_S", "QUIET_S", "JsonFrames", "MsgPackFrames", "Timers", "WebSocket"]

#: The node has this long to say goodbye; after that the socket is closed in its face.
LEAVE_TIMEOUT_S = 1.0
#: A node that says nothing for so long is pinged, and given up after so much more: together less than the 4 s in which
#: a client is to work on, on another node. The node hears the pings, and has none of its own to send.
QUIET_S = 1.5
PATIENCE_S = 2.0

#: Of Autobahn's client protocol.
OPTIONS: dict[str, Any] = {
    "closeHandshakeTimeout": LEAVE_TIMEOUT_S,
    # Ours: see WebSocket.onCloseFrame.
    "serverConnectionDropTimeout": 0,
    # The node's limits bound what it sends; a second limit here could only cut the connection in a loop.
    "maxFramePayloadSize": 0,
    "maxMessagePayloadSize": 0,
    # msgpack hands over bytes that were never claimed to be text.
    "utf8validateIncoming": False,
}

#: WebSocket's codes for "I can't take what you sent": protocol error, wrong kind of data, no such text, too large.
_COMPLAINTS = frozenset({1002, 1003, 1007, 1009})


_to_msgpack = msgspec.msgpack.Encoder().encode
_from_msgpack = msgspec.msgpack.Decoder().decode


class _MsgPackWriter(MsgPackObjectSerializer):  # type: ignore[misc]  # Autobahn is untyped
    """Frames in MessagePack, with what is packed copied in."""

    def serialize(self, obj: object) -> bytes:
        return _to_msgpack(obj)

    def unserialize(self, payload: bytes) -> list[Any]:
        return [_from_msgpack(payload)]


class _JsonWriter(JsonObjectSerializer):  # type: ignore[misc]  # Autobahn is untyped
    """Frames in JSON."""

    def serialize(self, obj: object) -> bytes:
        return bytes(super().serialize(unpacked(obj)))


class MsgPackFrames(MsgPackSerializer):  # type: ignore[misc]  # Autobahn is untyped
    """Messages of WAMP in MessagePack."""

    def __init__(self) -> None:
        Serializer.__init__(self, _MsgPackWriter())


class JsonFrames(JsonSerializer):  # type: ignore[misc]  # Autobahn is untyped
    """Messages of WAMP in JSON."""

    def __init__(self) -> None:
        Serializer.__init__(self, _JsonWriter())


class Timers:
    """Autobahn's timers of a connection, on our clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def call_later(self, delay_s: float, call: Callable[..., object], *args: Any) -> Timer:
        return self._clock.callLater(delay_s, call, *args)


class WebSocket(ShortWay, Carrying, WampWebSocketClientProtocol):  # type: ignore[misc]  # Autobahn is untyped
    """Tells the attempt when the socket is closed, in whichever state it was."""

    # Autobahn warns of ends that we tell in our own words; in a script, which sets up no logging, that went to stderr.
    log = txaio.make_logger("error")
    _timer: Timer | None = None
    _dropping: Timer | None = None

    def onOpen(self) -> None:
        clock = self.factory.clock
        self.carry(clock.seconds, QUIET_S, PATIENCE_S)
        self._timer = clock.callLater(QUIET_S, self._look)
        super().onOpen()

    def _look(self) -> None:
        self._timer = None
        again_s = self.take_pulse()
        if again_s:
            self._timer = self.factory.clock.callLater(again_s, self._look)

    def connectionMade(self) -> None:
        super().connectionMade()
        # Autobahn's own option for it has no effect: it reads the value before the protocol has it, and a bare except
        # hides that. Without it small frames wait for the delayed ACK of the one before.
        self.transport.setTcpNoDelay(True)

    def send(self, msg: object) -> None:
        try:
            super().send(msg)
        except Disconnected:
            # While it closes, which takes up to a second, Autobahn's session believes in it and its socket doesn't.
            raise TransportLost from None

    def push(self) -> None:
        """Hand what was sent to the kernel now, and not in the loop's next turn: there may be none for a long time.

        What waits for room in the window, or doesn't fit into the socket's buffer, stays behind: nothing passes it.
        """
        transport = self.transport
        # Twisted's TLS gathers what is written in a turn, and has no public word for "that was it".
        gathered = getattr(transport, "_aggregator", None)
        if gathered is not None:
            gathered.flush()
            transport = transport.transport
        # Once it is being closed, what is left is the loop's to write: with it goes the socket.
        if transport is not None and transport.connected and not transport.disconnecting:
            # A fault of the socket is there again when the loop writes, and is the loop's to report.
            transport.doWrite()

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> object:
        answered = self.state == self.STATE_CLOSING
        outcome = super().onCloseFrame(code, reasonRaw)
        if answered:
            # It is the node that closes the socket now.
            self._dropping = self.factory.clock.callLater(LEAVE_TIMEOUT_S, self.onServerConnectionDropTimeout)
        return outcome

    def connectionLost(self, reason: Failure) -> None:
        # Autobahn says of it that the connection was lost.
        if isinstance(reason.value, VerificationError):
            self.factory.attempt.is_another_host()
        elif isinstance(reason.value, SSL.Error):
            # TLS alone ends so, and still has its handle: a plain connection has none by now.
            self.factory.attempt.tls_ended(self.transport.getHandle())
        super().connectionLost(reason)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        for timer in (self._timer, self._dropping):
            if timer is not None and timer.active():
                timer.cancel()
        super().onClose(wasClean, code, reason)
        self.factory.attempt.closed(reason or "closed by the node", self._ending(code, reason))

    def _ending(self, code: int | None, reason: str | None) -> Ending | None:
        if self.droppedByMe or self.failedByMe:
            return None
        return Ending(reason or "it closed the connection", code in _COMPLAINTS)
