"""Connecting to a peer, and connecting again: one :class:`LinkClient` for each ``rlinks`` entry of the configuration.

:func:`install` puts it in the place of Crossbar's ``RLinkManager.start_link`` (26.10.1). What that does otherwise:

- after each failed attempt it waits longer, up to 60 s, so that a link is back a minute after its peer is; here the
  pause is 0.2 to 1 s, however long the outage was (not reported);
- it pings every 10 s, and notices a frozen or unplugged peer after 15; here after 3, and a large batch that moves on a
  slow line is a sign of life (:mod:`trishula.session.carrying`; not reported);
- it takes messages of at most 1 MiB, while the path of the peer takes 16 (not reported);
- it gives a TCP connection 10 s, in which a peer that was switched off may come back; here 2 (not reported);
- it waits without end for a peer that took the connection and then answers nothing; here 20 s (not reported);
- its near leg runs in the role ``trusted``, whose registrations the other links of the router take for the router's
  own and forward again (issue 1894); here it is ``rlink``, like the far one;
- it takes whoever listens at the peer's address for the peer, and begins to forward (not reported); here nothing goes
  out before the listener has proved the key that this node's configuration has for the peer (:mod:`.link_proofs`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autobahn.twisted.websocket import WampWebSocketClientFactory, WampWebSocketClientProtocol
from autobahn.wamp.message import Interrupt
from autobahn.wamp.serializer import MsgPackSerializer
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from trishula.runtime.backoff import Backoff
from trishula.session.carrying import Carrying, Road
from trishula_router.upstream.link_bridge import Bridge
from trishula_router.upstream.link_far_leg import FarLeg
from trishula_router.upstream.link_host import LinkHost, Told
from trishula_router.upstream.link_legs import Leg
from trishula_router.upstream.link_tls import tls_fault

__all__ = ["LinkClient", "install"]

log = Logger()

#: The same for each attempt: a peer that was away for a week is awaited as eagerly as one that was restarted.
RETRY = Backoff(first_s=1.0, factor=1.0, cap_s=1.0, jitter=0.8)
#: From one step of coming up to the next. A peer that answers pings and nothing else would be waited for until somebody
#: restarts a node. Not a limit for all steps together: a link that has many names to carry takes its time.
STEP_WITHIN_S = 20.0
#: A peer that says nothing for so long is pinged, and given up after so much more. Nodes say hello to each other twice
#: a second, so there is hardly a ping.
QUIET_S = 1.0
PATIENCE_S = 2.0
#: What a router denied to a link is tried again so often: nodes tell each other where agents are every 2 s.
AGAIN_S = 2.0
_WEBSOCKET_OPTIONS = {
    "openHandshakeTimeout": 2.0,
    "closeHandshakeTimeout": 1.0,
    "failByDrop": True,
    "tcpNoDelay": True,
    "maxFramePayloadSize": 16 * 1024 * 1024,
    "maxMessagePayloadSize": 16 * 1024 * 1024,
}


def install(
    node: str,
    told: Told,
    random: Callable[[], float],
    new_nonce: Callable[[], str],
    lost: Callable[[str], object],
) -> Callable[[str], Road | None]:
    """Have the links of this router worker made by us.

    Args:
        node: this node's name.
        told: of what becomes of them.
        random: spreads the attempts of peers that lost the same node.
        new_nonce: 32 bytes of chance, in hexadecimal digits.
        lost: told the peer's name when a link broke.

    Returns:
        what tells how it stands with the link that we have made to a peer; ``None`` if there is none.
    """
    clients: dict[str, LinkClient] = {}
    from crossbar.worker.rlink import RLink, RLinkManager
    from twisted.internet.defer import succeed

    def start_link(manager: Any, link_id: str, config: Any, caller: Any) -> Deferred[Any]:
        link = RLink(link_id, config)
        manager._links[link_id] = link

        def on_link(up: bool) -> None:
            # Crossbar shows it in its own status.
            link.connected = up
            if not up:
                lost(link_id)

        host = LinkHost(manager, node, new_nonce)
        told.made_here(link_id)
        clients[link_id] = LinkClient(link_id, config.realm, config.transport, host, told, on_link, random)
        clients[link_id].start()
        return succeed(link)

    RLinkManager.start_link = start_link
    return lambda peer: clients[peer].road() if peer in clients else None


class LinkClient:
    """Keeps the link to one peer up.

    Args:
        peer: the peer's name.
        realm: the peer's.
        transport: where it listens: Crossbar's configuration of a connecting WebSocket transport.
        host: the worker.
        told: of what becomes of it.
        on_link: told with True when the link carries all names that there are, with False when it broke.
        random: spreads the attempts.
    """

    def __init__(
        self,
        peer: str,
        realm: str,
        transport: dict[str, Any],
        host: LinkHost,
        told: Told,
        on_link: Callable[[bool], object],
        random: Callable[[], float],
    ) -> None:
        self.peer = peer
        self.realm = realm
        self.host = host
        self.told = told
        self._on_link = on_link
        self._random = random
        self._endpoint = host.endpoint(transport["endpoint"])
        self._factory = _Factory(self, transport["url"])
        self._far: FarLeg | None = None
        self._near: NearLeg | None = None
        self._bridge: Bridge | None = None
        self._patience: Any = None
        self._up = False
        self._stopped = False
        # The latest cause that is in the log, and whether this attempt has told one.
        self._trouble = ""
        self._has_told = False

    def start(self) -> None:
        """Connect, and stay connected until the reactor stops."""
        self.host.reactor.addSystemEventTrigger("before", "shutdown", self._stop)
        self._connect()

    def road(self) -> Road | None:
        """How it stands with the connection; ``None`` if there is none."""
        far = self._far
        return None if far is None or far._transport is None else far._transport.road()

    def _stop(self) -> None:
        self._stopped = True
        if self._far is not None and self._far.is_attached():
            self._far.leave()

    def _connect(self) -> None:
        self._has_told = False
        if not self._stopped:
            self._endpoint.connect(self._factory).addCallbacks(self._connected, self._not_connected)

    def _connected(self, protocol: Any) -> None:
        self._patience = self.host.reactor.callLater(STEP_WITHIN_S, self._out_of_patience, protocol)

    def _out_of_patience(self, protocol: Any) -> None:
        self._patience = None
        self.trouble(f"it took the connection, and then left something unanswered for {STEP_WITHIN_S:g} s")
        protocol.transport.abortConnection()

    def _step(self) -> None:
        if self._patience is not None:
            self._patience.reset(STEP_WITHIN_S)

    def _wait_no_more(self) -> None:
        patience, self._patience = self._patience, None
        if patience is not None:
            patience.cancel()

    def _not_connected(self, failure: Failure) -> None:
        self.trouble(failure.getErrorMessage())
        self._again()

    def _again(self) -> None:
        if not self._stopped:
            self.host.reactor.callLater(RETRY.pause_s(0, self._random), self._connect)

    def trouble(self, why: str) -> None:
        """Tell why there is no link; log it once for each cause, not for each attempt."""
        self._has_told = True
        self.told.troubled(self.peer, why)
        if why != self._trouble:
            self._trouble = why
            log.warn("no link to {peer}: {why}; it is tried again until it works", peer=self.peer, why=why)

    def refused(self, why: str) -> None:
        """One of the two refused the link: have it put on record, once for each cause."""
        self._has_told = True
        if why != self._trouble:
            self._trouble = why
            self.told.refused(self.peer, why)
        else:
            self.told.troubled(self.peer, why)

    def joined(self, far: FarLeg) -> None:
        """The peer let us in."""
        self._step()
        self._far = far
        near = self._near = NearLeg(self.host.realm, self.peer)
        near.gone = lambda: far.disconnect()
        self._bridge = Bridge(near, far, self._step)
        self.host.embed(near, self.peer)
        Deferred.fromCoroutine(self._bridge.begin()).addCallbacks(
            lambda _: self._is_up(far), lambda failure: self._half_up(far, failure)
        )

    def _is_up(self, far: FarLeg) -> None:
        if far is self._far:
            self._wait_no_more()
            self._up, self._trouble = True, ""
            log.warn("the link to {peer} is up", peer=self.peer)
            self.told.up(self.peer, "this node made it", is_logged=True)
            self._on_link(True)
            self._try_again(far)

    def _try_again(self, far: FarLeg) -> None:
        if far is not self._far or self._bridge is None:
            return
        done = Deferred.fromCoroutine(self._bridge.again())
        done.addErrback(lambda failure: log.debug("names are not carried: {why}", why=failure.getErrorMessage()))
        self.host.reactor.callLater(AGAIN_S, self._try_again, far)

    def _half_up(self, far: FarLeg, failure: Failure) -> None:
        if far is self._far:
            self.trouble(failure.getErrorMessage())
            far.disconnect()

    def lost(self, why: str) -> None:
        """The connection is gone, whether it had become a link or not."""
        self._wait_no_more()
        bridge, near, self._bridge, self._near, self._far = self._bridge, self._near, None, None, None
        if bridge is not None and near is not None:
            bridge.end()
            near.gone = _nothing
            self.host.remove(near)
        if self._up:
            self._up = False
            log.warn("the link to {peer} broke: {why}", peer=self.peer, why=why)
            self.told.down(self.peer, why, is_logged=True)
            self._on_link(False)
        elif not self._has_told:
            self.trouble(why)
        self._again()


class NearLeg(Leg):
    """The end in our own router."""

    gone: Callable[[], object]

    def onConnect(self) -> None:
        """Join, behind a transport that can interrupt us."""
        self._transport = _Embedded(self, self._transport)
        self.join(self.config.realm)

    def onLeave(self, details: Any) -> None:
        """Our router threw us out: nothing is left to carry for."""
        super().onLeave(details)
        self.gone()


class _Embedded:
    """Crossbar's transport of an embedded session, which can't send INTERRUPT and raises (not reported)."""

    def __init__(self, leg: NearLeg, inner: Any) -> None:
        self._leg = leg
        self._inner = inner

    def send(self, msg: Any) -> None:
        if isinstance(msg, Interrupt):
            self._leg.onMessage(msg)
        else:
            self._inner.send(msg)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Factory(WampWebSocketClientFactory):  # type: ignore[misc]
    noisy = False

    def __init__(self, client: LinkClient, url: str) -> None:
        super().__init__(lambda: FarLeg(client), url=url, serializers=[MsgPackSerializer()])
        self.setProtocolOptions(**_WEBSOCKET_OPTIONS)
        self.protocol = _Protocol
        self.client = client


class _Protocol(Carrying, WampWebSocketClientProtocol):  # type: ignore[misc]
    _timer: Any = None
    _tls_fault: str | None = None

    def connectionLost(self, *args: Any) -> None:
        """Keep what TLS says of it: it is not told any more where the end is."""
        self._tls_fault = tls_fault(args[0].value) if args else None
        super().connectionLost(*args)

    def onOpen(self) -> None:
        """See whether the peer lives, from now on."""
        reactor = self.factory.client.host.reactor
        pulse = self.carry(reactor.seconds, QUIET_S, PATIENCE_S)
        # A peer that comes up has much to do. How long its steps may take is watched otherwise.
        pulse.begin(reactor.seconds() + STEP_WITHIN_S)
        self._timer = reactor.callLater(QUIET_S, self._look)
        super().onOpen()

    def _look(self) -> None:
        self._timer = None
        again_s = self.take_pulse()
        if again_s:
            self._timer = self.factory.client.host.reactor.callLater(again_s, self._look)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Also for connections that never had a session."""
        if self._timer is not None:
            self._timer.cancel()
        super().onClose(wasClean, code, reason)
        self.factory.client.lost(self._tls_fault or reason or "it was closed")


def _nothing() -> None:
    """Nobody to tell."""
