"""The connection to the bus: the one file of the agent side that knows Autobahn, and the wall around it.

It joins one node by WebSocket and ticket, and makes a :class:`~trishula.session.transport.Link` of the session; which
node of the list, when, and when anew is :mod:`trishula.session.joining`'s affair. What Autobahn does by default and we
don't want, with our answer:

* ``Component`` retries with delays up to 300 s and never resets them → our own loop.
* No pings: a frozen or unplugged node is noticed when TCP gives up, after many minutes; its own pings wait behind a
  large message, and don't see that it moves → :mod:`trishula.session.carrying`.
* Errors in ``onJoin`` and in event handlers are logged on a logger that nobody reads → ours go to :mod:`logging`.
* A session that ends fails its calls with bare ``ApplicationError`` or ``TransportLost`` → :class:`LinkLost`.
* Its option ``tcpNoDelay`` has no effect on a client → set on the socket.
* Two of its timers, and one of Twisted's TLS, run on the process's one reactor, which is not ours in a program that
  owns its loop (:mod:`trishula.runtime.loops`) → they get our clock.
* Each frame is encoded when it is sent, by a library that writes what nobody can read → what is said is packed before
  (:mod:`trishula.contract.payload`), and copied into the frame as it is.
* What is written leaves the process when the loop has its turn again, which is too late for a handler that says how
  long it will take and then blocks the loop → :meth:`_Protocol.push`.
* A map key that is no string, which CBOR clients can send, ends a MessagePack session that reads it → ours reads it.
* An EVENT that arrives after an unsubscribe is a protocol error that kills the connection → we never unsubscribe.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn
from urllib.parse import urlsplit

import msgspec
from autobahn.exception import Disconnected
from autobahn.twisted.wamp import ApplicationSession
from autobahn.twisted.websocket import WampWebSocketClientFactory, WampWebSocketClientProtocol
from autobahn.wamp.exception import ApplicationError, SerializationError, TransportLost
from autobahn.wamp.serializer import (
    JsonObjectSerializer,
    JsonSerializer,
    MsgPackObjectSerializer,
    MsgPackSerializer,
    Serializer,
)
from autobahn.wamp.types import CloseDetails, ComponentConfig, PublishOptions, RegisterOptions
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.ssl import optionsForClientTLS
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from trishula.contract.payload import error_data
from trishula.contract.texts import legible
from trishula.contract.uris import (
    ADMIN_PREFIX,
    AGENT_PREFIX,
    AUDIT_PREFIX,
    DIRECTORY_BEAT,
    MAILBOX_WORKING,
    NODE_PREFIX,
    PREFIX,
    REALM,
)
from trishula.errors import (
    BusUnreachable,
    CallFailed,
    NodeStopping,
    NotAllowed,
    PayloadNotJson,
    ProcedureUnknown,
    RemoteError,
    TrishulaError,
    from_wire,
    retry_after_in,
)
from trishula.runtime.backoff import Backoff
from trishula.runtime.pending import Pending, rejected
from trishula.runtime.surroundings import Clock, Surroundings, Timer
from trishula.session.carrying import Carrying
from trishula.session.joining import Attempt, Joining, Owner
from trishula.session.reconnect_policy import DEFAULT_BACKOFF
from trishula.session.transport import AnswerLate, Ending, Endpoint, LinkLost, unpacked
from trishula.session.trust import trust_in
from trishula.session.tunnel import ProxyRefused, Tunnel
from trishula.settings import Settings
from trishula.token_file import CurrentToken

__all__ = ["WampConnection", "error_of_leaving", "heard_by_caller"]

_log = logging.getLogger("trishula")

#: From the first SYN to a joined session. The next node doesn't wait so long for a host that answers nothing at all.
ATTEMPT_TIMEOUT_S = 5.0
#: A session that we have moved away from stays so long for the calls that are under way on it.
RETIRE_TIMEOUT_S = 10.0
#: The node has this long to say goodbye; after that the socket is closed in its face.
LEAVE_TIMEOUT_S = 1.0

#: A node that says nothing for so long is pinged, and given up after so much more: together less than the 4 s in which
#: a client is to work on, on another node. The node hears the pings, and has none of its own to send.
QUIET_S = 1.5
PATIENCE_S = 2.0
#: The silence of a node that has let us in counts after so long, or once it has answered something.
SERVED_WITHIN_S = 2.0

_WEBSOCKET_OPTIONS: dict[str, Any] = {
    "openHandshakeTimeout": ATTEMPT_TIMEOUT_S,
    "closeHandshakeTimeout": LEAVE_TIMEOUT_S,
    # Ours: see _Protocol.onCloseFrame.
    "serverConnectionDropTimeout": 0,
    # The node's limits bound what it sends; a second limit here could only cut the connection in a loop.
    "maxFramePayloadSize": 0,
    "maxMessagePayloadSize": 0,
    # msgpack hands over bytes that were never claimed to be text.
    "utf8validateIncoming": False,
}

#: What a handler says before it blocks the loop: it is on its way when the verb returns.
_AT_ONCE = frozenset({MAILBOX_WORKING, DIRECTORY_BEAT})

#: WebSocket's codes for "I can't take what you sent": protocol error, wrong kind of data, no such text, too large.
_COMPLAINTS = frozenset({1002, 1003, 1007, 1009})

_to_msgpack = msgspec.msgpack.Encoder().encode
_from_msgpack = msgspec.msgpack.Decoder().decode


class WampConnection(Joining):
    """Joins its nodes again and again; see :class:`trishula.session.transport.Connection`."""

    def __init__(self, settings: Settings, around: Surroundings, *, backoff: Backoff = DEFAULT_BACKOFF) -> None:
        super().__init__(settings.urls, around, failback_s=settings.failback_s, backoff=backoff)
        self._settings = settings
        self._token = CurrentToken(settings.agent, settings.token, settings.token_file)

    def attempt_at(self, url: str) -> Attempt:
        return _Attempt(url, self._settings, self._token, self._clock, self)


class _Attempt:
    """One try to join one node, and the session that came of it, until its socket is closed."""

    def __init__(self, url: str, settings: Settings, token: CurrentToken, clock: Clock, owner: Owner) -> None:
        self.url = url
        self._link: _WampLink | None = None
        self._settings = settings
        self._token = token
        self._clock = clock
        self._owner = owner
        self._connecting: Deferred[Any] | None = None
        self._protocol: Any = None
        self._session: _Session | None = None
        self._reason: TrishulaError | None = None
        self._timer: Timer | None = None
        self._is_watching = False
        self._is_retiring = False
        self._ended = False

    def begin(self, *, watching: bool) -> None:
        self._is_watching = watching
        parts = urlsplit(self.url)
        secure = parts.scheme == "wss"
        host = parts.hostname or ""
        # Autobahn's own default ports for ws and wss; a URL without a port is a proxy's.
        port = parts.port or (443 if secure else 80)
        factory = WampWebSocketClientFactory(
            self._make_session, url=self.url, serializers=[_MsgPack(), _Json()], reactor=self._clock
        )
        factory.protocol = _Protocol
        factory.setProtocolOptions(**_WEBSOCKET_OPTIONS)
        factory.attempt = self
        factory.clock = self._clock
        factory._batched_timer = _Timers(self._clock)
        proxy = self._settings.proxies.of(self.url)
        ear = (host, port) if proxy is None else (proxy.host, proxy.port)
        endpoint: Any = HostnameEndpoint(self._clock, *ear, timeout=ATTEMPT_TIMEOUT_S)
        if proxy is not None:
            endpoint = Tunnel(endpoint, proxy, host, port)
        self._timer = self._clock.callLater(ATTEMPT_TIMEOUT_S, self._too_late)
        wrapped = factory
        if secure:
            # Not Twisted's wrapClientTLS: it takes the clock of the process's own reactor.
            clock: Any = self._clock
            try:
                trusted = trust_in(self._settings.ca_file)
            except (OSError, ValueError) as error:
                # It was there when the settings were read, and may be again.
                why = BusUnreachable(f"{self.url} can't be checked: ca_file {self._settings.ca_file}: {error}")
                self._clock.callLater(0, self._end, why)
                return
            wrapped = TLSMemoryBIOFactory(optionsForClientTLS(host, trusted), True, factory, clock=clock)
        self._connecting = endpoint.connect(wrapped)
        self._connecting.addCallbacks(self._connected, self._not_connected)

    def join(self) -> None:
        self._is_watching = False
        if self._session is not None and self._session.is_connected():
            self._timer = self._clock.callLater(ATTEMPT_TIMEOUT_S, self._too_late)
            self._be_patient(ATTEMPT_TIMEOUT_S)
            self._session.say_hello()

    def leave(self) -> None:
        if self._session is not None and self._session.is_attached():
            self._stop_timer()
            self._timer = self._clock.callLater(LEAVE_TIMEOUT_S, self._abort)
            with contextlib.suppress(TransportLost):
                self._session.leave()
        else:
            self._abort()

    def retire(self) -> None:
        self._is_retiring = True
        self._timer = self._clock.callLater(RETIRE_TIMEOUT_S, self.leave)
        self.call_ended()

    def call_ended(self) -> None:
        """A call on the session is through, ours or one that was made of us."""
        if self._is_retiring:
            # Not in this turn: the answer of a call that was made of us is still to be written.
            self._clock.callLater(0, self._leave_if_idle)

    def _leave_if_idle(self) -> None:
        if self._is_retiring and (self._link is None or self._link.under_way == 0):
            self._is_retiring = False
            self.leave()

    def drop(self, error: TrishulaError) -> None:
        """End the session as if the network had."""
        self._reason = self._reason or error
        self._abort()

    def session_left(self, reason: str, sentence: str | None) -> None:
        """The node said goodbye, or refused to let us in."""
        if self._reason is None and reason != CloseDetails.REASON_TRANSPORT_LOST:
            self._reason = error_of_leaving(self.url, reason, sentence)

    def is_another_host(self) -> None:
        """Whoever answered has a certificate that is good, and not for the host that we asked for."""
        self._reason = self._reason or BusUnreachable(
            f"what answers at {self.url} is not trusted: its certificate is for other hosts"
        )

    def served(self) -> None:
        """The node answered something on this session: from now on it is to show that it lives."""
        self._be_patient(0.0)

    def _be_patient(self, for_s: float) -> None:
        # While everybody joins a node may be too busy to answer pings.
        if self._protocol.pulse is not None:
            self._protocol.pulse.begin(self._clock.seconds() + for_s)

    def mark_sent(self) -> int:
        """Where what was sent until now ends; see :meth:`is_busy_with`."""
        outflow = None if self._protocol is None else self._protocol.outflow
        return 0 if outflow is None else outflow.offered_bytes

    def push(self) -> None:
        """Hand what was said until now to the kernel."""
        if self._protocol is not None:
            self._protocol.push()

    def is_busy_with(self, position: int) -> bool:
        """Whether what was sent before a position is still on its way, or something long is on its way to us."""
        protocol = self._protocol
        if protocol is None or protocol.outflow is None:
            return False
        return bool(protocol.outflow.is_moving(position) or protocol.inside_message)

    def session_connected(self, session: _Session) -> None:
        """The WebSocket is open, and nobody has joined on it."""
        if self._is_watching:
            self._stop_timer()
            self._owner.attempt_opened(self)
        else:
            self._be_patient(ATTEMPT_TIMEOUT_S)
            session.say_hello()

    def session_joined(self, session: _Session) -> None:
        self._stop_timer()
        self._be_patient(SERVED_WITHIN_S)
        self._link = _WampLink(self.url, session, self._clock, self)
        self._owner.attempt_joined(self, self._link)

    def closed(self, reason: object, ending: Ending | None) -> None:
        """The socket is closed; ``ending``: how the node did it, if it was the node."""
        if self._link is not None and self._reason is None:
            self._link.ending = ending
        self._end(self._reason or BusUnreachable(f"the connection to {self.url} ended: {reason}"))

    def _make_session(self) -> _Session:
        self._session = _Session(self._settings.agent, self._token, self)
        return self._session

    def _connected(self, protocol: Any) -> None:
        self._connecting = None
        # Behind TLS it is the wrapper's.
        self._protocol = getattr(protocol, "wrappedProtocol", protocol)

    def _not_connected(self, failure: Failure) -> None:
        self._connecting = None
        if isinstance(failure.value, ProxyRefused):
            self._end(self._reason or BusUnreachable(f"{self.url} can't be reached: {failure.value}"))
            return
        why = "no answer" if isinstance(failure.value, CancelledError) else str(failure.value).rstrip(".")
        self._end(self._reason or BusUnreachable(f"there is no node at {self.url}: {why}"))

    def _too_late(self) -> None:
        self._timer = None
        self._reason = self._reason or BusUnreachable(
            f"the node at {self.url} let nobody join within {ATTEMPT_TIMEOUT_S:g} s{self._by_way_of()}"
        )
        self._abort()

    def _by_way_of(self) -> str:
        proxy = self._settings.proxies.of(self.url)
        return "" if proxy is None else f", by way of the proxy {proxy}"

    def _abort(self) -> None:
        self._stop_timer()
        if self._connecting is not None:
            self._connecting.cancel()
        elif self._protocol is not None and self._protocol.transport is not None:
            self._protocol.transport.abortConnection()

    def _end(self, error: TrishulaError) -> None:
        if not self._ended:
            self._ended = True
            self._stop_timer()
            self._owner.attempt_ended(self, error)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


class _MsgPackFrames(MsgPackObjectSerializer):  # type: ignore[misc]  # Autobahn is untyped
    """Frames in MessagePack, with what is packed copied in."""

    def serialize(self, obj: object) -> bytes:
        return _to_msgpack(obj)

    def unserialize(self, payload: bytes) -> list[Any]:
        return [_from_msgpack(payload)]


class _JsonFrames(JsonObjectSerializer):  # type: ignore[misc]  # Autobahn is untyped
    """Frames in JSON."""

    def serialize(self, obj: object) -> bytes:
        return bytes(super().serialize(unpacked(obj)))


class _MsgPack(MsgPackSerializer):  # type: ignore[misc]  # Autobahn is untyped
    def __init__(self) -> None:
        Serializer.__init__(self, _MsgPackFrames())


class _Json(JsonSerializer):  # type: ignore[misc]  # Autobahn is untyped
    def __init__(self) -> None:
        Serializer.__init__(self, _JsonFrames())


class _Timers:
    """Autobahn's timers of a connection, on our clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def call_later(self, delay_s: float, call: Callable[..., object], *args: Any) -> Timer:
        return self._clock.callLater(delay_s, call, *args)


class _Protocol(Carrying, WampWebSocketClientProtocol):  # type: ignore[misc]  # Autobahn is untyped
    """Tells the attempt when the socket is closed, in whichever state it was."""

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


class _Session(ApplicationSession):  # type: ignore[misc]  # Autobahn is untyped
    """Autobahn's session with its habits overridden."""

    def __init__(self, agent: str, token: CurrentToken, attempt: _Attempt) -> None:
        super().__init__(ComponentConfig(realm=REALM))
        self._agent = agent
        self._token = token
        self._attempt = attempt

    def onConnect(self) -> None:
        self._attempt.session_connected(self)

    def say_hello(self) -> None:
        """Ask to be let in."""
        # If it closes at this moment, its end is all that there is to tell.
        with contextlib.suppress(TransportLost):
            self.join(REALM, authmethods=["ticket"], authid=self._agent)

    def onChallenge(self, challenge: object) -> str:
        return self._token.now()

    def onJoin(self, details: object) -> None:
        self._attempt.session_joined(self)

    def onLeave(self, details: Any) -> None:
        self._attempt.session_left(details.reason, details.message)
        self._errback_outstanding_requests(TransportLost())
        if self.is_connected():
            self.disconnect()

    def onUserError(self, fail: Failure, msg: str) -> None:
        # An endpoint's error is on its way to its caller. Anything else is a fault of this module.
        if not isinstance(fail.value, ApplicationError | CancelledError):
            _log.error("%s", msg, exc_info=fail.value)


class _WampLink:
    """One joined session; see :class:`trishula.session.transport.Link`."""

    __slots__ = ("_attempt", "_clock", "_is_served", "_session", "ending", "under_way", "url")

    def __init__(self, url: str, session: _Session, clock: Clock, attempt: _Attempt) -> None:
        self.url = url
        self.under_way = 0
        self.ending: Ending | None = None
        self._session = session
        self._clock = clock
        self._attempt = attempt
        self._is_served = False

    def call(
        self, uri: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> Pending[Any]:
        # How long to wait for an agent's procedure its caller has decided.
        is_strict = uri.startswith(AGENT_PREFIX)
        answer = self._request(
            uri, lambda: self._session.call(uri, *args, **(kwargs or {})), timeout_s, is_strict=is_strict
        )
        if uri in _AT_ONCE:
            self._attempt.push()
        return answer

    def subscribe(self, topic: str, handler: Callable[..., object]) -> Pending[None]:
        return self._request(topic, lambda: self._session.subscribe(handler, topic), ATTEMPT_TIMEOUT_S)

    def register(self, uri: str, endpoint: Endpoint) -> Pending[None]:
        def invoked(*args: Any, **kwargs: Any) -> Deferred[Any]:
            self.under_way += 1
            return endpoint(args, kwargs).deferred().addBoth(self._through).addErrback(_to_wire)

        # A node that has not noticed yet that our last session is dead still holds its registration.
        options = RegisterOptions(force_reregister=True)
        return self._request(uri, lambda: self._session.register(invoked, uri, options=options), ATTEMPT_TIMEOUT_S)

    def publish(self, topic: str, args: Sequence[Any]) -> Pending[None]:
        options = PublishOptions(acknowledge=True)
        return self._request(topic, lambda: self._session.publish(topic, *args, options=options), ATTEMPT_TIMEOUT_S)

    def drop(self) -> None:
        self._attempt.drop(LinkLost(f"the session with {self.url} was given up"))

    def _request(
        self, uri: str, begin: Callable[[], Deferred[Any]], timeout_s: float | None, *, is_strict: bool = False
    ) -> Pending[Any]:
        try:
            deferred = begin()
        except SerializationError as error:
            return rejected(PayloadNotJson(f"what was to be sent to {uri} can't be written: {error}"))
        except TransportLost:
            return rejected(LinkLost(f"the connection to {self.url} was lost before {uri} was asked"))
        pending = _Request(self, deferred)
        self.under_way += 1
        timer: Timer | None = None
        position = self._attempt.mark_sent()

        def late(wait_s: float) -> None:
            nonlocal timer
            if not is_strict and self._attempt.is_busy_with(position):
                # On a slow line the question or the answer takes as long as it takes.
                timer = self._clock.callLater(wait_s, late, wait_s)
            else:
                self.give_up(deferred)

        if timeout_s is not None:
            timer = self._clock.callLater(timeout_s, late, timeout_s)

        def answered(value: object) -> None:
            if timer is not None and timer.active():
                timer.cancel()
            if not self._is_served:
                self._is_served = True
                self._attempt.served()
            pending.resolve(value)

        def failed(failure: Failure) -> None:
            if timer is not None and timer.active():
                timer.cancel()
            pending.reject(self._error_of_call(uri, timeout_s, failure))

        deferred.addCallbacks(answered, failed).addBoth(self._through)
        return pending

    def _through(self, outcome: Any) -> Any:
        self.under_way -= 1
        if self.under_way == 0:
            self._attempt.call_ended()
        return outcome

    def give_up(self, deferred: Deferred[Any]) -> None:
        """Wait no longer for an answer."""
        if self._session.is_attached():
            # Autobahn sends a CANCEL, so that a long poll doesn't go on for nobody.
            with contextlib.suppress(TransportLost):
                deferred.cancel()

    def _error_of_call(self, uri: str, timeout_s: float | None, failure: Failure) -> BaseException:
        error = failure.value
        if isinstance(error, TrishulaError):
            return error
        if isinstance(error, TransportLost):
            return LinkLost(f"the connection to {self.url} was lost before {uri} answered")
        if isinstance(error, CancelledError):
            return AnswerLate(f"{uri} did not answer within {timeout_s:g} s")
        if isinstance(error, ApplicationError):
            return _from_application_error(uri, error)
        return RemoteError(f"{uri} failed: {error}", remote_uri=type(error).__name__)


class _Request(Pending[Any]):
    """The outcome of a question on a link."""

    __slots__ = ("_deferred", "_link")

    def __init__(self, link: _WampLink, deferred: Deferred[Any]) -> None:
        super().__init__()
        self._link = link
        self._deferred = deferred

    def cancel(self) -> None:
        if not self.done:
            self._link.give_up(self._deferred)


def _sentence(error: ApplicationError) -> str:
    return str(error.args[0]) if error.args else str(error.error)


def _from_application_error(uri: str, error: ApplicationError) -> TrishulaError:
    sentence = _sentence(error)
    is_the_nodes = uri.startswith(PREFIX) and not uri.startswith(AGENT_PREFIX)
    if is_the_nodes and error.error in (ApplicationError.NO_SUCH_PROCEDURE, ApplicationError.CANCELED):
        # Its procedures go before its sessions do. What was sent then is not refused: it is offered again.
        return NodeStopping(f"the node takes no call of {uri} now: it stops or starts; try again, or another node")
    if error.error == ApplicationError.AUTHORIZATION_FAILED:
        return NodeStopping(f"the node can't say now whether {uri} is allowed: it stops or starts ({sentence})")
    if error.error == ApplicationError.NO_SUCH_PROCEDURE:
        return ProcedureUnknown(f"nobody offers {uri} now: its agent is not connected, or has no such procedure")
    if error.error == ApplicationError.NOT_AUTHORIZED:
        return NotAllowed(_why_not_allowed(uri))
    if error.error == ApplicationError.INVALID_PAYLOAD:
        return PayloadNotJson(f"the answer of {uri} can't be written: {sentence}")
    if error.error in (ApplicationError.CANCELED, ApplicationError.TIMEOUT):
        return CallFailed(f"{uri} was cancelled before it answered")
    return from_wire(error.error, sentence, error.kwargs)


def _why_not_allowed(uri: str) -> str:
    """The router's own sentence has numbers of sessions and names of roles, and nothing to go on with."""
    if uri.startswith((AUDIT_PREFIX, NODE_PREFIX, ADMIN_PREFIX)):
        return (
            f"this needs an operator's token, and this agent's is none ({uri}); whoever keeps the node makes an agent "
            "an operator with: trishula token new NAME --operator"
        )
    return (
        f"this agent may not use {uri}: its grants in agents.json, or the rules of the bus, say no; the journal has "
        "the reason, for an operator: trishula audit query --kind refused"
    )


def heard_by_caller(uri: str, error: BaseException) -> TrishulaError:
    """What the caller of a procedure gets when the procedure fails so: there and back over the wire.

    Args:
        uri: the procedure's.
        error: what it failed with.
    """
    try:
        _to_wire(Failure(error))  # type: ignore[no-untyped-call]
    except ApplicationError as told:
        return _from_application_error(uri, told)


def error_of_leaving(url: str, reason: str, sentence: str | None) -> TrishulaError:
    """Why a session ended, or was not let in: our own errors typed, everything else as "not reachable now"."""
    error = from_wire(reason, sentence or reason, {"retry_after_s": retry_after_in(sentence or "")})
    if isinstance(error, RemoteError):
        return BusUnreachable(f"the node at {url} ended the session: {sentence or reason} ({reason})")
    return error


def _to_wire(failure: Failure) -> NoReturn:
    """A procedure's error as its caller sees it: our own classes by their URI, everything else as a failed call."""
    error = failure.value
    data = None if error is None else error_data(error)
    details: dict[str, Any] = {} if data is None else {"data": data}
    if isinstance(error, RemoteError):
        raise ApplicationError(error.remote_uri, legible(error.sentence), **details)
    if isinstance(error, TrishulaError) and error.uri is not None:
        if error.retry_after_s is not None:
            details["retry_after_s"] = error.retry_after_s
        raise ApplicationError(error.uri, legible(error.sentence), **details)
    raise ApplicationError(CallFailed.uri, legible(f"{type(error).__name__}: {error}"), **details)
