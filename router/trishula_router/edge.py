"""The edge: where the node meets Crossbar, as the WAMP session that Crossbar embeds.

:class:`NodeSession` is the component that Crossbar embeds in its router worker. It makes the node from the component's
``extra``, registers the node's procedures, tells the node of sessions that come and go, and carries out what the node
wants of the router. How calls are answered is in :mod:`~trishula_router.upstream.call_answers`.

Facts about Crossbar that this module lives with (DESIGN section 10): events may be lost on the way to a client, so
nothing depends on them; ``eligible`` limits an event to one session; ``wamp.session.on_leave`` comes for every session
that ever joined, also after a broken transport.
"""

from __future__ import annotations

import copy
import gc
import json
import os
import random
import sys
import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from autobahn import util
from autobahn.twisted.wamp import ApplicationSession
from autobahn.wamp import message
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.role import DEFAULT_CLIENT_ROLES
from autobahn.wamp.types import (
    ComponentConfig,
    EventDetails,
    PublishOptions,
    RegisterOptions,
    SessionDetails,
    SubscribeOptions,
)
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula.distribution import version
from trishula.errors import NotAllowed, TrishulaError
from trishula.runtime.surroundings import use_monotonic_timers
from trishula_router.agents.file import KEPT_FILE, AgentsFileError
from trishula_router.agents.principals import Principals
from trishula_router.client_ips import ip_in
from trishula_router.clocks.machine import boot_id, say_stepped, steady_ms, wall_clock_ms
from trishula_router.clocks.timeline import NOTE, Timeline
from trishula_router.endpoints import running
from trishula_router.equipment import equip
from trishula_router.failure_file import write_failure
from trishula_router.health.readiness import Readiness
from trishula_router.mail.outlet import News
from trishula_router.mail.receipt_topics import ReceiptTopics
from trishula_router.mail.sweeping import Sweeper, give_back
from trishula_router.node import Node
from trishula_router.old_objects import OldObjects
from trishula_router.peers.journal_exchange import KINDS
from trishula_router.peers.peer_links import SILENT_S, PeerLinks
from trishula_router.privacy import NotPrivate, check_directory, close_files, keep_private
from trishula_router.realm import AGENT_ROLE, LINK_ROLE, OPERATOR_ROLE
from trishula_router.settings.faults import ConfigError
from trishula_router.settings.options import parse_options
from trishula_router.store.interface import StoreError
from trishula_router.store.sqlite.opening import open_store
from trishula_router.upstream.call_answers import as_endpoint, serving, to_wamp
from trishula_router.upstream.direct_authorizer import Authorize
from trishula_router.upstream.direct_events import DirectEvents, Event
from trishula_router.upstream.direct_words import DirectWords
from trishula_router.upstream.expulsion import expel
from trishula_router.upstream.mends import Mends
from trishula_router.upstream.round_trip import RoundTrip
from trishula_router.verbs.procedures import Procedures

__all__ = ["READY_FILE", "NodeSession"]

log = Logger()

#: How soon a busy thread lets another one run. The store's writer needs the interpreter for microseconds between its
#: writes, some fifty times a commit; with Python's 5 ms it waited for the reactor longer than for the disk. While
#: somebody kept the reactor busy, half a millisecond still made others' messages wait 60 ms, and this makes it 9; the
#: throughput is the same.
_SWITCH_INTERVAL_S = 0.00002

#: Written into the state directory when the node serves; the sign for `trishula node start`.
READY_FILE = "node.json"

#: Python's own default. Crossbar imports py_ecc, which sets 100,000: a client's deeply nested JSON would then overflow
#: the C stack in the deserializer and end the worker, before anybody asked that client for its token.
_RECURSION_LIMIT = 1000

#: Python's smallest. A whole number of JSON takes a time that grows with the square of its digits, to be read and to be
#: shown: with Python's own 4,300 a frame full of them took a second.
_MOST_DIGITS = 640


class NodeSession(ApplicationSession):  # type: ignore[misc]
    """The node, as a WAMP session; also its :class:`~trishula_router.services.Router`."""

    def __init__(self, config: ComponentConfig) -> None:
        super().__init__(config)
        # Crossbar sends INTERRUPT for the calls of a client that goes away, can't send it to an embedded component, and
        # fails halfway through letting that client go: its procedures would stay registered to nobody.
        self._session_roles: dict[str, Any] = {
            **DEFAULT_CLIENT_ROLES,
            "callee": copy.copy(DEFAULT_CLIENT_ROLES["callee"]),
        }
        self._session_roles["callee"].call_canceling = False
        self._node: Node | None = None
        self._old_objects = OldObjects()
        self._sweeper = Sweeper(partial(gc.collect, 1), give_back, self._old_objects.rest)
        self._authorizer: Authorize = _deny
        self._direct_events = DirectEvents(self, Event, util.id)
        self._direct_words = DirectWords(self, message.Event, ApplicationSession, util.id)
        self._mends: Mends | None = None
        self._receipts = ReceiptTopics()
        self._links = PeerLinks()

    # -- life ----------------------------------------------------------------------------------------------------------

    async def onJoin(self, details: SessionDetails) -> None:
        """Make the node; what makes that impossible is said in one sentence, and Crossbar stops."""
        sys.setrecursionlimit(_RECURSION_LIMIT)
        sys.set_int_max_str_digits(_MOST_DIGITS)
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        try:
            await self._begin()
        except (ConfigError, AgentsFileError, NotPrivate, StoreError) as error:
            log.critical("the node can't start: {error}", error=str(error))
            self._give_up(str(error))
        except Exception as error:
            log.failure("the node can't start")
            self._give_up(f"{type(error).__name__}: {error}")

    async def _begin(self) -> None:
        extra = {key: value for key, value in self.config.extra.items() if key != "cbdir"}
        base = Path(self.config.extra["cbdir"])
        config = parse_options(extra, base=base, path="extra")
        # Under "crossbar start" nobody has looked yet.
        keep_private()
        config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_directory(config.state_dir)
        if closed := close_files(config.state_dir):
            log.warn("others on this machine could open {files}; closed to them now", files=", ".join(closed))
        use_monotonic_timers(reactor, time.monotonic)
        store = open_store(
            config.state_dir,
            new_epoch=lambda: os.urandom(8).hex(),
            call_in_reactor=reactor.callFromThread,
            limit_bytes=config.limits.store_bytes,
            urgent_room=config.limits.urgent_room,
            node=config.node,
            at_turns_end=lambda work: reactor.callLater(0, work),  # type: ignore[arg-type]
        )
        timeline = Timeline.go_on(
            (await store.remembered(NOTE)).get(NOTE),
            boot=boot_id(),
            arrival=sum(origin.sequence for origin in store.origins()),
            wall_ms=wall_clock_ms,
            steady_ms=steady_ms,
            stepped=say_stepped,
        )
        node = Node(
            config,
            store,
            Principals(config.agents_file, config.state_dir / KEPT_FILE),
            self,
            clock=reactor,
            now=timeline.clock,
            timeline=timeline,
            worked_s=time.thread_time,
            random=random.random,
            version=version(),
        )
        equip(node, reactor.callFromThread, base)
        await node.start()
        self._node = node
        stop = lambda: Deferred.fromCoroutine(node.stop())  # noqa: E731
        reactor.addSystemEventTrigger("before", "shutdown", stop)  # type: ignore[arg-type]
        await self.subscribe(self._on_join, "wamp.session.on_join")
        await self.subscribe(self._on_leave, "wamp.session.on_leave")
        await self.subscribe(self._receipts.subscription_created, "wamp.subscription.on_create")
        await self.subscribe(self._receipts.subscription_deleted, "wamp.subscription.on_delete")
        await self.register(self._authenticate, uris.AUTHENTICATE)
        await self.register(self._authorize, uris.AUTHORIZE)
        verbs = Procedures(node).by_uri()
        for uri, verb in verbs.items():
            # Autobahn cancels what it has called; what serves calls directly never does.
            way = as_endpoint(serving(uri, verb, node.serve))
            await self.register(way, uri, options=RegisterOptions(details_arg="details"))
        served = {uri: serving(uri, verb, node.carry_out) for uri, verb in verbs.items()}
        for kind in KINDS if config.peers else ():
            options = SubscribeOptions(details_arg="details")
            await self.subscribe(partial(self._on_peer, kind), uris.peer_topic(config.node, kind), options=options)
        self._mends = Mends(
            self,
            node,
            served,
            authenticate=self._authenticate,
            is_denied=self._is_denied,
            against_second=self._against_second,
            new_nonce=_new_nonce,
            sweeper=self._sweeper,
        )
        await self._mends.install(self._direct_events, self._authorize_by)
        self._mends.carry_words(self._direct_words, self._hear)
        self._old_objects.begin()
        through = RoundTrip(self)
        await through.offer()
        Readiness(node, through).begin()
        running.show(node)
        self._tell_ready(config.state_dir, config.node, store.epoch)

    def _tell_ready(self, state_dir: Path, node: str, epoch: str) -> None:
        ready = {"node": node, "pid": os.getpid(), "started_at": wall_clock_ms(), "epoch": epoch}
        ready["cbdir"] = self.config.extra["cbdir"]
        temporary = state_dir / f"{READY_FILE}.new"
        temporary.write_text(json.dumps(ready) + "\n", encoding="utf-8")
        temporary.replace(state_dir / READY_FILE)

    def _give_up(self, why: str) -> None:
        write_failure(why, os.environ)
        # Crossbar would go on without us and serve nothing; the worker's end is what it notices.
        reactor.callLater(0, reactor.stop)  # type: ignore[arg-type,misc]

    def onUserError(self, fail: Any, msg: str) -> None:
        """Log what a procedure of ours fails with, unless it is an answer: a refusal is told to whoever asked.

        Autobahn logs a warning for each; a client that is refused a thousand times a second would fill the disk.
        """
        if not isinstance(fail.value, ApplicationError):
            super().onUserError(fail, msg)

    # -- in: calls and sessions ----------------------------------------------------------------------------------------

    def _is_denied(self, session: Mapping[str, object], uri: str, options: Mapping[str, object]) -> bool:
        assert self._node is not None
        return self._node.authorizer.decide(session, uri, "call", options) is not None

    async def _authenticate(self, realm: str, authid: str, details: Mapping[str, Any]) -> dict[str, Any]:
        assert self._node is not None
        try:
            return dict(await self._node.authenticate(realm, authid, details))
        except TrishulaError as error:
            raise to_wamp(error) from None

    def _authorize_by(self, authorizer: Authorize) -> None:
        self._authorizer = authorizer

    async def _authorize(
        self, session: Mapping[str, Any], uri: str, action: str, options: Mapping[str, Any] | None = None
    ) -> dict[str, bool]:
        return self._authorizer(session, uri, action, options)

    def _on_join(self, details: Mapping[str, Any]) -> None:
        assert self._node is not None
        if details.get("authrole") in (AGENT_ROLE, OPERATOR_ROLE):
            client_ip = ip_in((details.get("transport") or {}).get("peer"))
            self._node.session_joined(details["authid"], details["session"], details["authrole"], client_ip)
        elif details.get("authrole") == LINK_ROLE and details.get("authmethod") == "cryptosign":
            # The near legs of our own links have no key to prove.
            self._links.came(details["session"], details["authid"])
            self._node.links.up(details["authid"], "the peer made it")

    def _against_second(self, peer: str) -> str | None:
        """Why a further link of a peer, which has proved its key, is refused; it may take the place of a silent one."""
        assert self._node is not None
        if self._mends is not None and self._mends.made_links(peer) is not None:
            return "this node makes the link to it, and a second one doubles every event"
        road = self._node.peering.road_to(peer)
        replaced = self._links.let_in(peer, None if road is None else road.heard_s, self._node.seconds())
        if replaced is None:
            return "its link is there, and a second one doubles every event"
        for session in replaced:
            self._node.links.replaced(peer, f"nothing came over it for {SILENT_S:g} s")
            self.close_session(session, NotAllowed.uri, "a new link of this node takes the place of this one")
        return None

    def _on_leave(self, session: int, *_: Any) -> None:
        assert self._node is not None
        peer = self._links.went(session)
        if peer is None:
            self._node.session_left(session)
            return
        self._node.links.down(peer, "the peer's link to this node ended")
        if not self._links.has(peer):
            # Of an old connection and the new one in its place, the end of the old one may come late.
            self._node.link_lost(peer)

    def _on_peer(self, kind: str, text: object, details: EventDetails) -> None:
        # By guard_forwarding it is the peer whose key the link has.
        if isinstance(details.publisher_authid, str) and details.publisher_authrole == LINK_ROLE:
            self._hear(kind, text, details.publisher_authid)

    def _hear(self, kind: str, text: object, peer: str) -> None:
        assert self._node is not None
        if not isinstance(text, bytes):
            return
        self._sweeper.passed(len(text))
        try:
            self._node.listener.hear(kind, text, peer)
        except Exception:
            # A peer of another version, say: what it says is not understood, and that must not end the link.
            log.failure("what a peer said as {kind} could not be used", kind=kind)

    # -- out: what the node wants of the router ------------------------------------------------------------------------

    def push(self, address: Address, session: int, deliveries: list[dict[str, Any]]) -> None:
        """Send deliveries to one session."""
        topic = uris.inbox_of(address)
        if not self._direct_events.send(topic, session, deliveries):
            self._publish(topic, deliveries, [session])

    def inform(self, address: Address, session: int, told: Mapping[str, Any]) -> None:
        """Tell one session something that is no delivery."""
        self._publish(uris.inbox_of(address), [], [session], dict(told))

    def tell(self, news: Iterable[News]) -> None:
        """Tell senders that listen."""
        for topic, events in self._receipts.events(news).items():
            self._publish(topic, events, None)

    def announce(self, topic: str, event: Mapping[str, Any]) -> None:
        """Publish an event for all."""
        self._publish(topic, dict(event), None)

    def frame_limit_bytes(self, session: int) -> int | None:
        """What its transport takes of a session. Its options are in Crossbar's part of the config, so it is asked.

        It reaches into private names of Crossbar (26.10.1: ``Router._session_id_to_session``); if they are not as
        expected, clients keep within the contract's default.
        """
        sessions = getattr(getattr(self._transport, "_router", None), "_session_id_to_session", {})
        transport = getattr(sessions.get(session), "_transport", None)
        # Clients may or may not send a message in several frames.
        limits = [getattr(transport, name, 0) for name in ("maxFramePayloadSize", "maxMessagePayloadSize")]
        return min((limit for limit in limits if isinstance(limit, int) and limit > 0), default=None)

    def close_session(self, session: int, uri: str, sentence: str) -> None:
        """End a client's session."""
        later: Any = reactor.callLater
        if not expel(self._transport, session, uri, sentence, later):
            log.debug("session {session} was gone already", session=session)

    def post(self, peer: str, kind: str, text: bytes) -> None:
        """Send something to another node, over the link to it."""
        self._sweeper.passed(len(text))
        if not self._direct_words.say(peer, kind, text):
            self._publish(uris.peer_topic(peer, kind), text, None)

    def _publish(self, topic: str, event: Any, eligible: list[int] | None, *more: Any) -> None:
        if self._transport is None:
            return
        self.publish(topic, event, *more, options=PublishOptions(eligible=eligible) if eligible else None)


def _new_nonce() -> str:
    return os.urandom(32).hex()


def _deny(*_: object) -> dict[str, bool]:
    return {"allow": False, "disclose": True, "cache": False}
