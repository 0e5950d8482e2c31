"""The mends: what a node changes in Crossbar, Autobahn and Twisted, each listed here and nowhere else.

Each mend reaches into names that are private to one release, so each looks first whether what it mends is built as
expected (:mod:`.crossbar_parts`). Where it is not, the mend changes nothing and the log says what the node does without
it. There is one exception: a node with peers doesn't start where its peers could speak for each other.

==========================  ===========================================================================================
mend                        what it is there for
==========================  ===========================================================================================
:mod:`.link_offer`          links to peers carry what a node has, and make way for each other
:mod:`.link_keys`           who makes a link proves the key of its node
:mod:`.agent_keys`          an agent proves its key, and a stranger learns nothing of anybody's
:mod:`.link_client`         this node's own links, in the place of Crossbar's
:mod:`.direct_authorizer`   permissions are asked for without a call
:mod:`.answers`             only who was asked answers a call
:mod:`.direct_events`       deliveries go to their session without a publication
:mod:`.direct_words`        what nodes say to each other goes to and from their links without a publication
:mod:`.link_disclosing`     a peer speaks for itself and its agents alone
:mod:`.live_topics`         agents' topics are heard at other cells
:mod:`.turns`               sessions that end don't hold up the others
:mod:`.direct_calls`        calls of the node skip Crossbar's dealer
:mod:`.requests`            agents keep within their quotas
:mod:`.asking`              each request gets its answer, and leaves nothing behind
:mod:`.unanswered`          calls that nobody answers end
:mod:`.retained`            retained events have a bound
:mod:`.frames`              bad frames cost little, and don't flood the log
:mod:`.log_floods`          one line that comes often doesn't push all others out of the log
:mod:`.connections`         who doesn't join, or doesn't read, costs little
:mod:`.accepting`           many who come at once hold nobody up
:mod:`.introduced`          who comes by a proxy worker counts as who it is
:mod:`.web_doors`           over HTTP the node tells nothing of itself
:mod:`.renewal`             a certificate that is replaced needs no restart
:mod:`.own_pages`           the node's page runs its own scripts alone, and reaches the node that it came from
==========================  ===========================================================================================
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from autobahn import util
from autobahn.wamp import message, serializer, websocket
from autobahn.wamp.exception import ProtocolError, SerializationError
from twisted.internet import reactor, tcp
from twisted.logger import Logger, globalLogPublisher
from twisted.web import server

from trishula.errors import NodeFailed
from trishula.session.carrying import Road
from trishula_router.client_ips import Proxies
from trishula_router.launcher import allow_files, descriptors_left
from trishula_router.mail.sweeping import Sweeper
from trishula_router.node import Node
from trishula_router.peers.journal_exchange import KINDS
from trishula_router.realm import AGENT_ROLE, LINK_ROLE, OPERATOR_ROLE
from trishula_router.settings.proxy_socket import proxy_socket_of
from trishula_router.upstream.accepting import accept_few
from trishula_router.upstream.agent_keys import Authenticate, guard_agent_keys
from trishula_router.upstream.answers import guard_answers
from trishula_router.upstream.asking import Asking
from trishula_router.upstream.connections import Connections
from trishula_router.upstream.decoding import values_for
from trishula_router.upstream.direct_authorizer import Authorize, answer_directly
from trishula_router.upstream.direct_calls import DirectCalls, Result, Serve
from trishula_router.upstream.direct_events import DirectEvents
from trishula_router.upstream.direct_words import DirectWords
from trishula_router.upstream.frames import guard_frames
from trishula_router.upstream.guarded_connection import guard_connections
from trishula_router.upstream.introduced import expect_introductions
from trishula_router.upstream.link_client import install
from trishula_router.upstream.link_disclosing import guard_forwarding
from trishula_router.upstream.link_keys import guard_peers
from trishula_router.upstream.link_offer import making_way, offer_names
from trishula_router.upstream.live_topics import carry_live_topics
from trishula_router.upstream.log_floods import guard_log
from trishula_router.upstream.own_calls import OwnCalls
from trishula_router.upstream.own_pages import guard_pages
from trishula_router.upstream.renewal import renew_certificates
from trishula_router.upstream.renewal_log import RenewalLog
from trishula_router.upstream.requests import Requests
from trishula_router.upstream.retained import Retained
from trishula_router.upstream.turns import Turns, pace_meta_events
from trishula_router.upstream.unanswered import Unanswered
from trishula_router.upstream.web_doors import guard_web
from trishula_router.upstream.written_together import Writes

__all__ = ["Mends"]

log = Logger()

#: Whose requests are looked at.
_CLIENTS = (AGENT_ROLE, OPERATOR_ROLE)


class Mends:
    """All mends of a node.

    Args:
        session: the node's own session in the router, which leads into the router.
        node: the node.
        served: what answers each of the node's procedures.
        authenticate: says whose session a client gets.
        is_denied: whether a session may not call a procedure.
        against_second: why a further link of a peer is refused.
        new_nonce: makes what a peer, or an agent with a key, has to sign.
        sweeper: told of what passed.
    """

    def __init__(
        self,
        session: Any,
        node: Node,
        served: Mapping[str, Serve],
        *,
        authenticate: Authenticate,
        is_denied: Callable[[Mapping[str, object], str, Mapping[str, object]], bool],
        against_second: Callable[[str], str | None],
        new_nonce: Callable[[], str],
        sweeper: Sweeper,
    ) -> None:
        self._session = session
        self._node = node
        self._served = served
        self._authenticate = authenticate
        self._is_denied = is_denied
        self._against_second = against_second
        self._new_nonce = new_nonce
        self._sweeper = sweeper
        #: How it stands with the links that this node has made.
        self.made_links: Callable[[str], Road | None] = lambda _: None

    async def install(self, direct_events: DirectEvents, authorize_by: Callable[[Authorize], None]) -> None:
        """Install them all.

        Args:
            direct_events: carries deliveries, once it is installed.
            authorize_by: told what decides who may do what, as soon as that is known.

        Raises:
            NodeFailed: without that mend the node must not serve.
        """
        node, config, transport = self._node, self._node.config, self._session._transport
        clock: Any = reactor
        roles: tuple[str, ...] = _CLIENTS
        authorizer = node.authorizer.authorize
        authorize_by(authorizer)
        if config.peers:
            roles = (*roles, LINK_ROLE)
            authorizer = making_way(self._session, node.authorizer.authorize)
            authorize_by(authorizer)
            await offer_names(self._session)
            guard_peers(config.node, node.links, self._new_nonce, self._against_second)
            self.made_links = install(config.node, node.links, random.random, self._new_nonce, node.link_lost)
        # Behind guard_peers, whose way it keeps.
        guard_agent_keys(self._authenticate, self._new_nonce)
        if not answer_directly(transport, roles, authorizer):
            log.warn("this Crossbar is built otherwise than expected, so it asks for permissions by the longer way")
        is_guarded = guard_answers(transport, ProtocolError, forwards=(LINK_ROLE,), forged=node.answer_forged)
        _without(is_guarded, "any agent can answer any other's calls")
        if not direct_events.install(transport):
            log.warn("this Crossbar is built otherwise than expected, so deliveries take the longer way")
        if config.peers and not guard_forwarding(transport, node.principals.role_of, node.neighbourhood.may_tell):
            raise NodeFailed("this Crossbar is built otherwise than expected: peers could speak for each other")
        await self._carry_live_topics()
        turns, writes = Turns(time.monotonic, clock.callLater), Writes()
        _without(pace_meta_events(transport, turns), "a session that ends can hold up the others")
        direct = DirectCalls(self._served, self._is_denied, message, Result, clock.callLater, turns, writes)
        is_direct = direct.install(transport)
        if not is_direct:
            log.warn("this Crossbar is built otherwise than expected, so calls of the node take the longer way")
        requests = Requests(node.quotas, _CLIENTS, message, direct.open_of, node.exceeded, turns)
        is_bounded = requests.install(transport)
        _without(is_bounded, "any agent can fill this node's memory")
        asking = Asking(
            message,
            util.id,
            protocol_error=ProtocolError,
            unwritable=SerializationError,
            forwards=(LINK_ROLE,),
            is_open=direct.is_open,
        )
        _without(asking.install(transport), "some requests get no answer, or stay behind")
        unanswered = Unanswered(message, config.limits.call_wait_s, (*_CLIENTS, LINK_ROLE), clock, turns)
        _without(unanswered.install(transport), "calls that nobody answers wait for ever")
        self._bound_retained(transport)
        own_calls = OwnCalls(self._served, direct, requests.may_call, message)
        self._guard_frames(own_calls if is_direct and is_bounded else None)
        if not guard_log(globalLogPublisher, clock, time.time):
            log.warn("this Twisted is built otherwise than expected: floods of one line can push all others out")
        self._look_after_connections(turns, writes)

    async def _carry_live_topics(self) -> None:
        """Before what bounds publications, which stands around it then."""
        node = self._node
        if node.cells is None or node.cells.topics is None:
            return
        is_carried = await carry_live_topics(
            self._session,
            node.cells.topics,
            message,
            _CLIENTS,
            node.principals.role_of,
            lambda who, uri, options: node.authorizer.decide(who, uri, "publish", options) is not None,
        )
        _without(is_carried, "agents' topics are not heard at other cells")

    def carry_words(self, direct_words: DirectWords, hear: Callable[[str, object, str], None]) -> None:
        """Have what nodes say to each other take the shorter way, once all others are installed.

        Args:
            direct_words: carries it from then on.
            hear: takes what peers say: (kind, text, peer).
        """
        config, transport = self._node.config, self._session._transport
        if config.peers and not direct_words.install(transport, config.node, KINDS, hear):
            log.warn("this Crossbar is built otherwise than expected, so what peers say takes the longer way")

    def _bound_retained(self, transport: object) -> None:
        node = self._node
        retained = Retained(
            node.quotas,
            node.config.limits.retained_bytes,
            _CLIENTS,
            message,
            node.exceeded,
            lambda agent: node.principals.get(agent) is not None,
        )
        if retained.install(transport):
            node.forget_retained = retained.forget_departed
        else:
            _without(False, "retained events have no bound")

    def _guard_frames(self, own_calls: OwnCalls | None) -> None:
        limits = self._node.config.limits
        if not guard_frames(
            websocket.WampWebSocketServerProtocol,
            serializer,
            self._sweeper.passed,
            most_values=values_for(limits.payload_bytes, limits.batch_messages),
            # What others take of the processor meanwhile is nobody's fault.
            seconds=time.thread_time,
            read=lambda connection, took_s, is_refused: connection.frame_took(took_s, is_refused=is_refused),
            own_calls=own_calls,
        ):
            log.warn(
                "this Autobahn is built otherwise than expected: bad frames of clients can flood the log, and worse"
            )

    def _look_after_connections(self, turns: Turns, writes: Writes) -> None:
        # Late: where Crossbar is not installed, its absence is told in a sentence.
        from crossbar.common.twisted import endpoint
        from crossbar.common.twisted.web import Site
        from crossbar.router import protocol
        from crossbar.webservice import base, static

        # Under "crossbar start" nobody has asked for more yet.
        allow_files()
        node, sweeper = self._node, self._sweeper
        connections = Connections(
            node.config.limits,
            reactor,
            node.ended_slow_reader,
            Proxies(node.config.proxies),
            descriptors_left(),
            lambda client_ip, reason, sentence: node.door.refused(client_ip, None, reason, sentence),
            freed=sweeper.passed,
            by_proxy=lambda worker, client_ip: node.joined_by_proxy(worker, client_ip),
            rest=sweeper.rest,
        )
        if not accept_few(tcp.Port):
            log.warn("this Twisted is built otherwise than expected: many who come at once hold everybody up")
        if guard_connections(connections, turns, writes, protocol, Site):
            node.connections = connections.told
            node.peering.road_to = lambda peer: self.made_links(peer) or connections.road_to(peer)
        else:
            _without(False, "who doesn't join or doesn't read costs the node memory")
        if node.config.proxy_workers:
            # Around guard_connections, which is told the client's address then.
            path = str(proxy_socket_of(node.config.state_dir))
            _without(expect_introductions(Site, path, reactor), "nobody can be let in by the proxy workers")
        for name in guard_web(server, base, static, message.Welcome):
            log.warn(
                "{name} is otherwise than expected: over HTTP the node tells more of itself than it should", name=name
            )
        if not renew_certificates(endpoint, RenewalLog()):
            _without(False, "a certificate that is replaced is shown after a restart only")
        for name in guard_pages(static, Path(str(files("trishula_router") / "web"))):
            log.warn("{name} is otherwise than expected: the node's page is served without its headers", name=name)


def _without(is_mended: bool, what: str) -> None:
    """Say what is so where Crossbar could not be mended."""
    if not is_mended:
        log.warn("this Crossbar is built otherwise than expected: {what}", what=what)
