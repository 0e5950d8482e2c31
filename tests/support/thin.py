"""A thin connection: WebSocket and MessagePack by hand, so that many hundred clients cost one process little.

:class:`ThinConnection` takes the place of :class:`trishula.session.connection.WampConnection` under a real client:
which node is tried when, what is set up after a join, beats and sends are those of :mod:`trishula`; only Autobahn is
left out. It does as much of the protocols as a client of ours uses: no fragments (a node's messages here are small), no
calls to the client, no progressive results.
"""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure

from trishula.contract.uris import REALM
from trishula.errors import BusUnreachable, RemoteError, TrishulaError, from_wire, retry_after_in
from trishula.runtime.pending import Pending, rejected
from trishula.runtime.surroundings import Surroundings, Timer
from trishula.session.joining import Attempt, Joining
from trishula.session.pulse import Pulse, PulseStep
from trishula.session.transport import AnswerLate, Ending, Endpoint, LinkLost
from trishula.session.wamp_link import ATTEMPT_TIMEOUT_S
from trishula.session.web_socket import PATIENCE_S, QUIET_S
from trishula.settings import Settings

__all__ = ["ThinConnection"]

_HELLO, _WELCOME, _ABORT, _CHALLENGE, _AUTHENTICATE, _GOODBYE, _ERROR = 1, 2, 3, 4, 5, 6, 8
_SUBSCRIBE, _SUBSCRIBED, _EVENT, _CALL, _RESULT = 32, 33, 36, 48, 50
_BINARY, _CLOSE, _PING, _PONG = 0x82, 0x88, 0x89, 0x8A
_ROLES: dict[str, dict[str, Any]] = {"caller": {}, "subscriber": {}, "publisher": {}, "callee": {}}


class ThinConnection(Joining):
    """Joins its nodes again and again.

    Args:
        settings: where and who.
        around: clocks; its clock is the reactor.
    """

    def __init__(self, settings: Settings, around: Surroundings) -> None:
        super().__init__(settings.urls, around, failback_s=settings.failback_s)
        self._settings = settings

    def attempt_at(self, url: str) -> Attempt:
        return _Attempt(url, self._settings, self)


class _Attempt(Protocol, ClientFactory):
    """One try to join, the session that comes of it, and the link that is made of that."""

    noisy = False
    ending: Ending | None = None

    def __init__(self, url: str, settings: Settings, owner: ThinConnection) -> None:
        self.url = url
        self._settings = settings
        self._owner = owner
        self._clock: Any = owner._clock
        self._received = b""
        self._is_upgraded = False
        self._is_joined = False
        self._reason: TrishulaError | None = None
        self._timer: Timer | None = None
        self._pulse = Pulse(QUIET_S, PATIENCE_S, 0.0)
        self._requests = 0
        self._open: dict[int, tuple[str, Pending[Any], Timer | None]] = {}
        self._handlers: dict[int, Callable[..., object]] = {}
        self._subscribing: dict[int, Callable[..., object]] = {}
        self._connector: Any = None
        self._socket: Any = None

    # -- the attempt ---------------------------------------------------------------------------------------------------

    def begin(self, *, watching: bool) -> None:
        assert not watching, "a crowd has one node"
        at = urlsplit(self.url)
        self._timer = self._clock.callLater(ATTEMPT_TIMEOUT_S, self._too_late)
        self._connector = self._clock.connectTCP(at.hostname or "", at.port or 80, self, timeout=ATTEMPT_TIMEOUT_S)

    def join(self) -> None:
        raise NotImplementedError

    def leave(self) -> None:
        if self._is_joined:
            self._tell([_GOODBYE, {}, "wamp.close.close_realm"])
        self._connector.disconnect()

    retire = leave

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return self

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self._end(BusUnreachable(f"there is no node at {self.url}: {reason.getErrorMessage()}"))

    def connectionMade(self) -> None:
        self._socket = self.transport
        self._socket.setTcpNoDelay(True)
        at = urlsplit(self.url)
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.write(
            f"GET {at.path} HTTP/1.1\r\nHost: {at.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Protocol: wamp.2.msgpack\r\n\r\n".encode()
        )

    def _too_late(self) -> None:
        self._timer = None
        self._reason = BusUnreachable(f"the node at {self.url} let nobody join within {ATTEMPT_TIMEOUT_S:g} s")
        self._connector.disconnect()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end(self._reason or BusUnreachable(f"the connection to {self.url} ended: {reason.getErrorMessage()}"))

    def _end(self, error: TrishulaError) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._is_joined = False
        waiting, self._open = self._open, {}
        for uri, pending, timer in waiting.values():
            if timer is not None and timer.active():
                timer.cancel()
            pending.reject(LinkLost(f"the connection to {self.url} was lost before {uri} answered"))
        self._owner.attempt_ended(self, error)

    # -- frames --------------------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        self._pulse.heard_s = self._clock.seconds()
        self._received += data
        if not self._is_upgraded:
            head, found, rest = self._received.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                self._reason = BusUnreachable(f"{self.url} answered {head[:60]!r}")
                self._connector.disconnect()
                return
            self._is_upgraded, self._received = True, rest
            self._tell(
                [_HELLO, REALM, {"roles": _ROLES, "authmethods": ["ticket"], "authid": self._settings.agent}],
            )
        at = 0
        while (frame := _frame(self._received, at)) is not None:
            opcode, payload, at = frame
            if opcode == _BINARY:
                self._heard(msgspec.msgpack.decode(payload))
            elif opcode == _PING:
                self._write(_PONG, payload)
            elif opcode == _CLOSE:
                self._connector.disconnect()
        self._received = self._received[at:]

    def _tell(self, message: Sequence[object]) -> None:
        self._write(_BINARY, msgspec.msgpack.encode(message))

    def _write(self, opcode: int, payload: bytes) -> None:
        # A mask of zeros is as good a mask as any, and costs nothing.
        size = len(payload)
        if size < 126:
            head = bytes((opcode, 0x80 | size))
        elif size < 65_536:
            head = struct.pack(">BBH", opcode, 0x80 | 126, size)
        else:
            head = struct.pack(">BBQ", opcode, 0x80 | 127, size)
        self._socket.write(head + b"\0\0\0\0" + payload)

    def _look(self) -> None:
        step, wait_s = self._pulse.look(self._clock.seconds())
        if step is PulseStep.DEAD:
            self._reason = BusUnreachable(f"the node at {self.url} is silent")
            self._connector.disconnect()
            return
        if step is PulseStep.PING:
            self._write(_PING, b"thin")
        self._timer = self._clock.callLater(wait_s, self._look)

    # -- WAMP ----------------------------------------------------------------------------------------------------------

    def _heard(self, message: list[Any]) -> None:
        kind = message[0]
        if kind == _EVENT:
            handler = self._handlers.get(message[1])
            if handler is not None:
                handler(*(message[4] if len(message) > 4 else ()))
        elif kind == _RESULT:
            arguments = message[3] if len(message) > 3 else []
            self._pulse.begin(0.0)
            self._answered(message[1], arguments[0] if arguments else None)
        elif kind == _SUBSCRIBED:
            self._handlers[message[2]] = self._subscribing.pop(message[1])
            self._answered(message[1], None)
        elif kind == _ERROR:
            arguments = message[5] if len(message) > 5 else []
            details = message[6] if len(message) > 6 else {}
            self._answered(message[2], from_wire(message[4], str((arguments or [message[4]])[0]), details))
        elif kind == _CHALLENGE:
            self._tell([_AUTHENTICATE, self._settings.token, {}])
        elif kind == _WELCOME:
            if self._timer is not None:
                self._timer.cancel()
            self._pulse.begin(self._clock.seconds() + 2 * ATTEMPT_TIMEOUT_S)
            self._timer = self._clock.callLater(QUIET_S, self._look)
            self._is_joined = True
            self._owner.attempt_joined(self, self)
        elif kind in (_ABORT, _GOODBYE):
            details, reason = message[1], message[2]
            sentence = str(details.get("message") or reason)
            error = from_wire(reason, sentence, {"retry_after_s": retry_after_in(sentence)})
            if isinstance(error, RemoteError):
                error = BusUnreachable(f"the node at {self.url} ended the session: {reason}")
            self._reason = self._reason or error
            self._connector.disconnect()

    def _answered(self, request: int, outcome: object) -> None:
        _, pending, timer = self._open.pop(request, ("", None, None))
        if timer is not None and timer.active():
            timer.cancel()
        if pending is not None:
            pending.settle(outcome)

    def _ask(self, request: int, uri: str, message: Sequence[object], timeout_s: float | None) -> Pending[Any]:
        if not self._is_joined:
            return rejected(LinkLost(f"the connection to {self.url} was lost before {uri} was asked"))
        pending: Pending[Any] = Pending()
        timer = None if timeout_s is None else self._clock.callLater(timeout_s, self._late, request, timeout_s)
        self._open[request] = (uri, pending, timer)
        self._tell(message)
        return pending

    def _late(self, request: int, timeout_s: float) -> None:
        uri, pending, _ = self._open.pop(request)
        pending.reject(AnswerLate(f"{uri} did not answer within {timeout_s:g} s"))

    # -- the link ------------------------------------------------------------------------------------------------------

    def call(
        self, uri: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> Pending[Any]:
        self._requests += 1
        message = [_CALL, self._requests, {}, uri, list(args), *([kwargs] if kwargs else [])]
        return self._ask(self._requests, uri, message, timeout_s)

    def subscribe(self, topic: str, handler: Callable[..., object]) -> Pending[None]:
        self._requests += 1
        self._subscribing[self._requests] = handler
        return self._ask(self._requests, topic, [_SUBSCRIBE, self._requests, {}, topic], ATTEMPT_TIMEOUT_S)

    def register(self, uri: str, endpoint: Endpoint) -> Pending[None]:
        raise NotImplementedError

    def publish(self, topic: str, args: Sequence[Any]) -> Pending[None]:
        raise NotImplementedError

    def drop(self) -> None:
        self._reason = self._reason or LinkLost(f"the session with {self.url} was given up")
        self._connector.disconnect()


def _frame(data: bytes, at: int) -> tuple[int, bytes, int] | None:
    """The frame that begins at ``at``: (first byte, payload, where it ends); ``None`` if it isn't all there."""
    if len(data) < at + 2:
        return None
    size, start = data[at + 1] & 0x7F, at + 2
    if size == 126:
        if len(data) < at + 4:
            return None
        (size,), start = struct.unpack_from(">H", data, at + 2), at + 4
    elif size == 127:
        if len(data) < at + 10:
            return None
        (size,), start = struct.unpack_from(">Q", data, at + 2), at + 10
    end = start + size
    return (data[at], data[start:end], end) if len(data) >= end else None
