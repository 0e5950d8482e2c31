"""The connection to the bus, and the wall around Autobahn: nothing else of the agent side knows Autobahn.

The wall is four modules: this one, the :mod:`.web_socket`, the :mod:`.wamp_link` that is made of a joined session, and
the :mod:`.wamp_errors`.

A connection joins one node by WebSocket and token, or key, and makes a :class:`~trishula.session.transport.Link` of the
session; which node of the list, when, and when anew is :mod:`trishula.session.joining`'s affair. What Autobahn does by
default and we don't want, with our answer:

* ``Component`` retries with delays up to 300 s and never resets them → our own loop.
* No pings: a frozen or unplugged node is noticed when TCP gives up, after many minutes; its own pings wait behind a
  large message, and don't see that it moves → :mod:`trishula.session.carrying`.
* Errors in ``onJoin`` and in event handlers are logged on a logger that nobody reads → ours go to :mod:`logging`.
* A session that ends fails its calls with bare ``ApplicationError`` or ``TransportLost`` →
  :class:`~trishula.session.transport.LinkLost`.
* Its option ``tcpNoDelay`` has no effect on a client → set on the socket.
* Two of its timers, and one of Twisted's TLS, run on the process's one reactor, which is not ours in a program that
  owns its loop (:mod:`trishula.runtime.loops`) → they get our clock.
* Each frame is encoded when it is sent, by a library that writes what nobody can read → what is said is packed before
  (:mod:`trishula.contract.payload`), and copied into the frame as it is.
* What is written leaves the process when the loop has its turn again, which is too late for a handler that says how
  long it will take and then blocks the loop → :meth:`.web_socket.WebSocket.push`.
* A map key that is no string, which CBOR clients can send, ends a MessagePack session that reads it → ours reads it.
* An EVENT that arrives after an unsubscribe is a protocol error that kills the connection → we never unsubscribe.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from autobahn.twisted.wamp import ApplicationSession
from autobahn.twisted.websocket import WampWebSocketClientFactory
from autobahn.wamp.exception import ApplicationError, TransportLost
from autobahn.wamp.types import CloseDetails, ComponentConfig
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.ssl import optionsForClientTLS
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from trishula.contract.key_challenge import CHANNEL
from trishula.contract.uris import REALM
from trishula.errors import BusUnreachable, TrishulaError
from trishula.runtime.backoff import Backoff
from trishula.runtime.surroundings import Clock, Surroundings, Timer
from trishula.session.compression import compressing, is_this_machine
from trishula.session.identity import Proof
from trishula.session.joining import Attempt, Joining, Owner
from trishula.session.reconnect_policy import DEFAULT_BACKOFF
from trishula.session.transport import Ending
from trishula.session.trust import shown_by, trust_in, why_not_trusted
from trishula.session.tunnel import ProxyRefused, Tunnel
from trishula.session.wamp_errors import error_of_leaving
from trishula.session.wamp_link import ATTEMPT_TIMEOUT_S, WampLink
from trishula.session.web_socket import LEAVE_TIMEOUT_S, OPTIONS, JsonFrames, MsgPackFrames, Timers, WebSocket
from trishula.settings import Settings

if TYPE_CHECKING:
    from trishula.key_file import AgentKey

__all__ = ["WampConnection"]

_log = logging.getLogger("trishula")

#: A session that we have moved away from stays so long for the calls that are under way on it.
RETIRE_TIMEOUT_S = 10.0
#: The silence of a node that has let us in counts after so long, or once it has answered something.
SERVED_WITHIN_S = 2.0


class WampConnection(Joining):
    """Joins its nodes again and again; see :class:`trishula.session.transport.Connection`."""

    def __init__(self, settings: Settings, around: Surroundings, *, backoff: Backoff = DEFAULT_BACKOFF) -> None:
        super().__init__(settings.urls, around, failback_s=settings.failback_s, backoff=backoff)
        self._settings = settings
        self._proof = Proof(settings)

    def attempt_at(self, url: str) -> Attempt:
        return _Attempt(url, self._settings, self._proof, self._clock, self)


class _Attempt:
    """One try to join one node, and the session that came of it, until its socket is closed."""

    def __init__(self, url: str, settings: Settings, proof: Proof, clock: Clock, owner: Owner) -> None:
        self.url = url
        self._link: WampLink | None = None
        self._settings = settings
        self._proof = proof
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
            self._make_session, url=self.url, serializers=[MsgPackFrames(), JsonFrames()], reactor=self._clock
        )
        factory.protocol = WebSocket
        factory.setProtocolOptions(openHandshakeTimeout=ATTEMPT_TIMEOUT_S, **OPTIONS)
        proxy = self._settings.proxies.of(self.url)
        if self._settings.compression and (proxy is not None or not is_this_machine(host)):
            factory.setProtocolOptions(**compressing())
        factory.attempt = self
        factory.clock = self._clock
        factory._batched_timer = Timers(self._clock)
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
            try:
                shown = shown_by(self._settings.client_certificate)
            except (OSError, ValueError) as error:
                name = f"client_certificate {self._settings.client_certificate}"
                self._clock.callLater(0, self._end, BusUnreachable(f"{self.url} can't be shown {name}: {error}"))
                return
            try:
                options = optionsForClientTLS(host, trusted, **shown)
            except UnicodeError as error:
                why = BusUnreachable(f"{self.url} has a host that no certificate can name: {error}")
                self._clock.callLater(0, self._end, why)
                return
            wrapped = TLSMemoryBIOFactory(options, True, factory, clock=clock)
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
        self._refuse("its certificate is for other hosts")

    def tls_ended(self, handle: object) -> None:
        """TLS ended by an error; ``handle`` is OpenSSL's connection."""
        why = why_not_trusted(handle, self._settings.ca_file)
        if why is not None:
            self._refuse(why)

    def _refuse(self, why: str) -> None:
        self._reason = self._reason or BusUnreachable(f"what answers at {self.url} is not trusted: {why}")

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
        self._link = WampLink(self.url, session, self._clock, self)
        self._owner.attempt_joined(self, self._link)

    def closed(self, reason: object, ending: Ending | None) -> None:
        """The socket is closed; ``ending``: how the node did it, if it was the node."""
        if self._link is not None and self._reason is None:
            self._link.ending = ending
        self._end(self._reason or BusUnreachable(f"the connection to {self.url} ended: {reason}"))

    def _make_session(self) -> _Session:
        self._session = _Session(self._settings.agent, self._proof, self)
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


class _Session(ApplicationSession):  # type: ignore[misc]  # Autobahn is untyped
    """Autobahn's session with its habits overridden."""

    def __init__(self, agent: str, proof: Proof, attempt: _Attempt) -> None:
        super().__init__(ComponentConfig(realm=REALM))
        self._agent = agent
        self._proof = proof
        self._attempt = attempt
        self._key: AgentKey | None = None

    def onConnect(self) -> None:
        self._attempt.session_connected(self)

    def say_hello(self) -> None:
        """Ask to be let in."""
        # If it closes at this moment, its end is all that there is to tell.
        with contextlib.suppress(TransportLost):
            self._key = self._proof.key()
            extra = None if self._key is None else self._proof.hello(self._key, self._channel())
            self.join(REALM, authmethods=self._proof.methods, authid=self._agent, authextra=extra)

    def _channel(self) -> bytes | None:
        """The id of our TLS channel; ``None`` without TLS."""
        found = (self._transport.transport_details.channel_id or {}).get(CHANNEL)
        return found if isinstance(found, bytes) else None

    def onChallenge(self, challenge: Any) -> str:
        try:
            return self._proof.answer(challenge.method, challenge.extra, self._key, self._channel())
        except ValueError as error:
            # Autobahn logs another one with a traceback.
            raise ApplicationError(ApplicationError.AUTHENTICATION_FAILED, str(error)) from None

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
