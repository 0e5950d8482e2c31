"""The node's composition root: every service is made here, and only here, and wired to the others.

:class:`Node` is what a node does, without a word of WAMP; what it offers to clients is in
:mod:`trishula_router.verbs.procedures`, which are built of its services. The edge registers them and hands over what
comes, by :meth:`Node.serve`; tests drive a node without a router.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from trishula.contract import uris
from trishula.contract.addresses import Address, is_agent_name, is_capability
from trishula.errors import (
    NodeBusy,
    NodeStopping,
    NotAllowed,
    RateLimited,
    ReadsTooSlowly,
    StorageFailed,
    StorageFull,
    TokenInvalid,
    TrishulaError,
)
from trishula_router.addresses import address_in, one_of
from trishula_router.agents.admission import Admission
from trishula_router.agents.authenticator import Authenticator
from trishula_router.agents.authorizer import Authorizer, Denial
from trishula_router.agents.callers import Caller, Verb
from trishula_router.agents.consumers import Consumers
from trishula_router.agents.directory import Directory, Seen
from trishula_router.agents.guesses import Guesses
from trishula_router.agents.instances import Instances
from trishula_router.agents.joins import Joins
from trishula_router.agents.principals import Principals
from trishula_router.agents.quotas import Quota, Quotas
from trishula_router.agents.refused_joins import RefusedJoins
from trishula_router.agents.serving import Serving
from trishula_router.agents.takeovers import Takeovers
from trishula_router.agents.tokens import digest_of, owner_of
from trishula_router.background import log_fault
from trishula_router.clocks.clock import Clock, Timer
from trishula_router.clocks.timekeeper import Timekeeper
from trishula_router.clocks.timeline import Timeline
from trishula_router.mail.audit import Audit
from trishula_router.mail.dead_letters import DeadLetters
from trishula_router.mail.delivery import Delivery
from trishula_router.mail.delivery_token import token_of
from trishula_router.mail.departures import Departures
from trishula_router.mail.endings import Endings
from trishula_router.mail.from_peers import Inflow
from trishula_router.mail.handover import Handover
from trishula_router.mail.intake import Intake
from trishula_router.mail.mailroom import Mailroom
from trishula_router.mail.notices import Notices
from trishula_router.mail.outcomes import Outcomes
from trishula_router.mail.outlet import Outlet
from trishula_router.mail.peek import Peeking
from trishula_router.mail.rates import Rates, Refusals
from trishula_router.mail.recalls import Recalls
from trishula_router.mail.receipts import Receipts
from trishula_router.mail.recipients import Recipients
from trishula_router.mail.replies import Replies
from trishula_router.mail.retention import Retention
from trishula_router.mail.room import Room
from trishula_router.mail.settlement import Settlement
from trishula_router.peers.journal_exchange import HELLO, JOURNAL, PRESENCE, Peering, Unbelievable
from trishula_router.peers.journal_policy import Replication
from trishula_router.peers.latest_words import LatestWords
from trishula_router.peers.link_records import LinkRecords
from trishula_router.peers.outlines import excess_of_journal
from trishula_router.peers.presence_exchange import Neighbourhood
from trishula_router.settings.options import NodeConfig
from trishula_router.store.interface import State, Store
from trishula_router.store.journal import ORIGIN_SHIFT, Kind, is_own
from trishula_router.token_bucket import Rate

__all__ = [
    "Node",
    "Router",
]

log = Logger()

#: Leases and pauses are looked at so often; they are seconds long, so this is fine enough and costs nothing.
TICK_S = 0.25
#: Messages that nobody asks for are looked at so often whether their time is over.
EXPIRY_ROUND_S = 10.0
#: Bodies that nobody needs any more are looked for so often; a sender whom a full store refused comes again after 5 s.
RETENTION_ROUND_S = 5.0
#: When agents gave their last sign of life is kept so often; after a crash it is known so exactly.
SEEN_ROUND_S = 60.0
#: How long a node that starts waits for its peers' news before it delivers what it has; so long, and no longer, a
#: message waits for a peer that is away.
CATCH_UP_PATIENCE_S = 1.5
#: What a peer's hello has at most, and its word of its agents: instances and claims, and an entry for each agent.
_HELLO_BYTES = 512 * 1024
_PRESENCE_BYTES = 1024 * 1024
_PER_AGENT_BYTES = 4096
#: Under what the store remembers it.
_SEEN_PREFIX = "seen:"
#: Why nothing goes out.
_CATCHING_UP, _SETTING_CLOCK = "catching up", "setting the clock"


class Router(Outlet, Protocol):
    """What a node asks of the router it is embedded in."""

    def announce(self, topic: str, event: Mapping[str, Any]) -> None:
        """Publish an event for all."""

    def frame_limit_bytes(self, session: int) -> int | None:
        """The most that one WebSocket message of a session may have; ``None`` if that is not known, or not limited."""

    def close_session(self, session: int, uri: str, sentence: str) -> None:
        """End a client's session, telling it why: an error's URI and a sentence."""

    def post(self, peer: str, kind: str, text: bytes) -> None:
        """Send something to another node; it may get lost on the way."""


class Node:
    """All of a node's services.

    Args:
        config: the node's options.
        store: open; the node closes it.
        principals: who may join.
        router: the way out.
        clock: timers.
        now: the wall clock in ms.
        timeline: whose clock ``now`` is; without one the node never sets its clock.
        worked_s: for how long the thread of the node has worked, in seconds.
        random: spreads pauses.
        version: what runs, for the journal and ``node.status``.
    """

    def __init__(
        self,
        config: NodeConfig,
        store: Store,
        principals: Principals,
        router: Router,
        *,
        clock: Clock,
        now: Callable[[], int],
        worked_s: Callable[[], float],
        random: Callable[[], float],
        version: str,
        timeline: Timeline | None = None,
    ) -> None:
        self.config = config
        self.store = store
        self.principals = principals
        self.router = router
        self._clock = clock
        self.now = now
        self.version = version
        self._worked_s = worked_s
        self._tick_due_s = clock.seconds()
        self.started_at = now()
        self._stopping = False
        self._timers: list[Timer] = []
        #: What the edge knows of the connections to this node, for ``node.status``.
        self.connections: Callable[[], Mapping[str, int]] = dict
        #: Drops the retained events of agents that are gone.
        self.forget_retained: Callable[[], object] = lambda: None
        #: The fault of the agents file that was logged last.
        self._agents_fault: str | None = None
        self._remembered: dict[str, Seen] = {}
        self.authenticator = Authenticator(principals)
        self.admission = Admission(principals, config.limits.connections)
        self.joins = Joins()
        self.quotas = Quotas(config.limits)
        self.guesses = Guesses()
        self.refused_joins = RefusedJoins(lambda facts: self.note(Kind.REFUSED, facts))
        self.refusals = Refusals(lambda facts: self.note(Kind.REFUSED, facts))
        self.links = LinkRecords(self.note, clock.seconds)
        self.authorizer = Authorizer(
            principals, self._denied, lambda peer, agent: self.neighbourhood.against(peer, agent)
        )
        self.directory = Directory(config.node, config.presence, principals.names, principals.may_serve)
        self.instances = Instances(config.delivery.instance_grace_s)
        self.timekeeper = Timekeeper(
            timeline,
            store,
            seconds=clock.seconds,
            hold=self._hold_for_clock,
            go_on=self._go_on_by_clock,
            follow=self._follow_clock,
        )
        self.mailroom = Mailroom()
        self.consumers = Consumers(config.delivery.window_bytes)
        self.recalls = Recalls(
            self.mailroom, router.recall, lambda entry: token_of(entry.position, entry.attempts, store.epoch)
        )
        self.settlement = Settlement(
            self.mailroom,
            store,
            config.delivery,
            clock=clock,
            now=now,
            random=random,
            tell=router.tell,
            notices=Notices(config.node, self._accepted_at, config.delivery.default_ttl_ms, self._reach),
        )
        self.endings = Endings(self.mailroom, store, self.settlement, self.recalls, now)
        self.delivery = Delivery(
            self.mailroom,
            store,
            self.consumers,
            self.settlement,
            config.delivery,
            router,
            able=lambda capability: self.directory.able(capability, self.now()),
            handover=Handover(self.mailroom, store, able_at=self._able_at, now=now),
            clock=clock,
            now=now,
        )
        inflow = Inflow(
            self.mailroom,
            is_consumed=self.consumers.is_consumed,
            tell=router.tell,
            recalls=self.recalls,
            now=now,
        )
        self.peering = Peering(
            config.node,
            store,
            Replication(store.epoch, config.peers),
            post=router.post,
            absorb=inflow.absorb,
            sighted=lambda peer, there: self.neighbourhood.sighted(peer, there),
            caught_up=lambda: self.delivery.let_go(_CATCHING_UP),
            clock=clock,
            now=now,
        )
        self.takeovers = Takeovers()
        self.neighbourhood = Neighbourhood(
            config.node,
            config.peers,
            principals,
            self.directory,
            self.consumers,
            self.instances,
            self.takeovers,
            post=router.post,
            announce=router.announce,
            close_session=router.close_session,
            note=self.note,
            clock=clock,
            now=now,
        )
        self._presences = LatestWords(lambda peer, text: self._hear(PRESENCE, text, peer), clock)
        self.serving = Serving(principals, now_s=clock.seconds, refused=self.refusals.refused)
        replies = Replies(store, self.mailroom.leases, principals.may_serve)
        self.outcomes = Outcomes(store, replies)
        self.room = Room(self.mailroom, config.limits)
        self.intake = Intake(
            store,
            self.room,
            Receipts(config.node, store, self.peering, tell=router.tell, now=now),
            Recipients(principals, self.knows_instance, self._expect),
            config.limits,
            Rates(
                Rate(config.limits.rate_per_s, config.limits.burst),
                Rate(config.limits.broadcast_rate_per_s, config.limits.broadcast_burst),
                Rate(config.limits.broadcast_deliveries_per_s, config.limits.broadcast_at_once),
            ),
            warning=self.neighbourhood.warning,
            check_answer=self.recalls.check,
            replies=replies,
            now_s=clock.seconds,
            refused=self.refusals.refused,
            default_ttl_ms=config.delivery.default_ttl_ms,
            ids_since=lambda at: self.timekeeper.earlier(at - config.retention.ids_ms),
            arrived=self.mailroom.arrived,
            ack=self.settlement.ack,
        )
        self.departures = Departures(
            principals,
            store,
            self.mailroom,
            self.endings,
            lambda address: self.neighbourhood.consumer_of(Address.parse(address)) is not None,
        )
        self.retention = Retention(store, config.retention, now, self.timekeeper.earlier)
        self.peeking = Peeking(store)
        self.audit = Audit(
            config.node,
            store,
            self.endings,
            missing=self.peering.missing,
            ahead_ms=self.peering.clocks.ahead_ms,
            warning=self.neighbourhood.warning,
        )
        self.dead_letters = DeadLetters(
            store, self.settlement, lambda address: self._reach(address) == address, config.limits.ttl_ms
        )

    async def start(self) -> None:
        """Take over what the store holds, and begin to work."""
        sizes = await self.store.open_mailboxes()
        self.mailroom.load(sizes)
        if self.store.high_water:
            self.instances.begin(self._clock.seconds())
        for address in sizes:
            self.instances.remember(address, self._clock.seconds())
        remembered = await self.store.remembered(_SEEN_PREFIX)
        self.directory.recall({key.removeprefix(_SEEN_PREFIX): _read_seen(text) for key, text in remembered.items()})
        await self.departures.begin()
        self.timekeeper.remember()
        facts = {"node": self.config.node, "version": self.version, "pid": os.getpid()}
        try:
            await self.store.note(Kind.NODE_STARTED, facts, self.now())
        except StorageFull:
            # It can't take anything, and can still hand over what it has.
            log.failure("the node's store is full; it starts all the same, and refuses what is sent")
        self._every(TICK_S, self._tick)
        self._every(EXPIRY_ROUND_S, self._expire)
        self._every(RETENTION_ROUND_S, self._forget)
        self._every(SEEN_ROUND_S, self._remember_all)
        if self.config.peers:
            # What was done elsewhere while this node was away is not to be delivered again, if that can be known soon.
            self.delivery.hold_back(_CATCHING_UP)
            self._timers.append(self._clock.callLater(CATCH_UP_PATIENCE_S, self.delivery.let_go, _CATCHING_UP))
        self.peering.start()
        self.neighbourhood.start()

    async def stop(self) -> None:
        """Accept nothing more, make durable what was accepted, and close the store."""
        if self._stopping:
            return
        self._stopping = True
        self.peering.stop()
        self.neighbourhood.stop()
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        self._remember(self.directory.memory())
        self.timekeeper.remember()
        try:
            await self.store.note(Kind.NODE_STOPPED, {"node": self.config.node}, self.now())
        except (StorageFull, StorageFailed):
            log.failure("that the node stopped could not be noted")
        await self.store.close()

    def _every(self, period_s: float, work: Callable[[], Coroutine[Deferred[Any], Any, None]]) -> None:
        """Do work again and again; a round that fails is logged, and the next one comes all the same."""
        slot = len(self._timers)

        def again(_: object = None) -> None:
            if not self._stopping:
                self._timers[slot] = self._clock.callLater(period_s, once)

        def once() -> None:
            done: Deferred[None] = Deferred.fromCoroutine(work())
            done.addErrback(log_fault, log, "a round of the node's housekeeping failed")
            done.addBoth(again)

        self._timers.append(self._clock.callLater(period_s, once))

    async def _tick(self) -> None:
        now_s = self._clock.seconds()
        self.joins.measure(self._worked_s(), now_s, now_s - self._tick_due_s)
        if self.principals.reload_if_changed():
            log.info("the agents file changed and was read again")
        if self.principals.fault != self._agents_fault:
            self._agents_fault = self.principals.fault
            if self._agents_fault is not None:
                log.warn("{fault}", fault=self._agents_fault)
        for session, sentence in self.admission.ended(self.now() / 1000):
            self.router.close_session(session, TokenInvalid.uri, sentence)
        self.departures.look()
        if not self.delivery.is_held_back:
            await self.departures.end()
        self.settlement.take_back_overdue()
        self.delivery.tick()
        self.tell_presence()
        if not self._stopping:
            await self.timekeeper.look()
        self._tick_due_s = self._clock.seconds() + TICK_S

    def _hold_for_clock(self) -> None:
        self.delivery.hold_back(_SETTING_CLOCK)
        self.peering.hold()

    def _go_on_by_clock(self) -> None:
        self.peering.go_on()
        self.delivery.let_go(_SETTING_CLOCK)

    def _follow_clock(self, by_ms: int, since: int) -> None:
        """The clock was set: what is in memory follows."""
        self.mailroom.follow_clock(by_ms, since, self.now() + round(self.config.delivery.backoff.cap_s * 1000))
        self.directory.follow_clock(by_ms)
        self.neighbourhood.follow_clock(by_ms)
        self.audit.follow_clock(by_ms, self.store.high_water)
        self.started_at += by_ms
        self.tell_presence()

    async def _forget(self) -> None:
        self.forget_retained()
        await self.retention.round()

    async def _expire(self) -> None:
        self.refusals.flush(self._clock.seconds())
        self.refused_joins.flush(self._clock.seconds())
        self.links.flush()
        for address in self.instances.gone(self._clock.seconds()):
            if self.neighbourhood.has_instance(address):
                # It is with another node, whose part its end is.
                continue
            try:
                await self.endings.close_mailbox(address, State.EXPIRED, "its instance is gone")
            except (StorageFull, StorageFailed):
                # It is tried again later.
                self.instances.remember(address, self._clock.seconds())
        self.mailroom.drop_unused(self.instances.is_there)
        if not self.timekeeper.is_setting:
            await self.endings.expire()
        # What a fault made nobody pump waits no longer than a round.
        self.delivery.pump_all()

    def tell_presence(self) -> None:
        """Announce the agents whose presence changed since the last call."""
        changed = self.directory.changes(self.now())
        for entry in changed:
            self.router.announce(uris.EVENT_AGENT, entry)
        if changed:
            self.neighbourhood.tell_soon()
        gone = [entry["agent"] for entry in changed if entry["presence"] == "offline"]
        if gone and not self._stopping:
            self._remember(self.directory.memory(gone))

    async def _remember_all(self) -> None:
        self._remember(self.directory.memory())
        self.timekeeper.remember()

    def _remember(self, seen: Mapping[str, Seen]) -> None:
        """Keep for the next run of the node when agents were there last: what changed since it was kept last."""
        fresh = {agent: one for agent, one in seen.items() if self._remembered.get(agent) != one}
        if fresh:
            self._remembered.update(fresh)
            notes = {_SEEN_PREFIX + agent: msgspec.json.encode(one).decode() for agent, one in fresh.items()}
            self.store.remember(notes).addErrback(log_fault, log, "it could not be kept when agents were there last")

    def _reach(self, address: str) -> str | None:
        """Where a message for an address can go: there, to its agent if it is an instance that is gone, or nowhere."""
        if is_capability(address):
            return address
        agent = Address.parse(address).agent
        if self.principals.get(agent) is None:
            return None
        return address if address == agent or self._is_there(address) else agent

    def _able_at(self, capability: str) -> str | None:
        """The node where an agent can take messages to a capability, if it hears what it is handed."""
        able = self.neighbourhood.able(capability)
        return next((name for name in able if name not in self.peering.faults), None)

    def _accepted_at(self, position: int) -> tuple[str, str, int]:
        """Where a message was accepted: (node, epoch of its store, sequence)."""
        if is_own(position):
            return self.config.node, self.store.epoch, position
        node, sequence = self.store.place(position)
        epoch = next(one.epoch for one in self.store.origins() if one.number == position >> ORIGIN_SHIFT)
        return node, epoch, sequence

    def knows_instance(self, address: str) -> bool:
        """Whether messages to an instance are taken."""
        if self._is_there(address):
            return True
        # After a start any name is taken on trust; it must not be any number of them.
        if self.quotas.agent_is_full(Quota.INSTANCES, self.instances.of_agent(Address.parse(address).agent)):
            return False
        return self.instances.knows(address, self._clock.seconds())

    def _expect(self, address: str) -> None:
        """An instance that is gone gets an answer all the same: its mailbox lasts for a grace time again."""
        self.instances.remember(address, self._clock.seconds())

    def _is_there(self, address: str) -> bool:
        # Asked for each message to an instance: most are here, and to look here costs the least.
        return self.instances.is_there(address) or self.neighbourhood.has_instance(address)

    def hear(self, kind: str, text: bytes, peer: str) -> None:
        """A peer said something, over its own link; what can't be used is noted, and changes nothing."""
        if kind == PRESENCE:
            self._presences.come(peer, text)
        else:
            self._hear(kind, text, peer)

    def _hear(self, kind: str, text: bytes, peer: str) -> None:
        hear = {HELLO: self.peering.receive_hello, JOURNAL: self.peering.receive_journal}
        # To read what is larger would keep everybody else waiting. A run of records has what messages have.
        most = {HELLO: _HELLO_BYTES, PRESENCE: _PRESENCE_BYTES + _PER_AGENT_BYTES * len(self.principals.names())}
        try:
            if len(text) > most.get(kind, len(text)):
                raise Unbelievable(f"it has {len(text)} bytes, and at most {most[kind]} mean anything")
            if kind == JOURNAL and (too_many := excess_of_journal(text)) is not None:
                raise Unbelievable(too_many)
            hear.get(kind, self.neighbourhood.receive)(peer, text)
        except (Unbelievable, msgspec.MsgspecError, ValueError) as error:
            # Of a peer of another version, it may be, or one whose key somebody else has.
            detail = f"what the node {peer} said as {kind} is not taken: {error}"[:500]
            self.refusals.refused(peer, NotAllowed, detail, self._clock.seconds())

    def role_of(self, agent: str) -> str | None:
        """The role of an agent by this node's own file; ``None`` if it is not registered."""
        principal = self.principals.get(agent)
        return None if principal is None else principal.role

    def link_lost(self, peer: str) -> None:
        """The link to a peer broke."""
        self.peering.link_lost(peer)

    # -- sessions ------------------------------------------------------------------------------------------------------

    def authenticate(self, realm: object, authid: object, details: Mapping[str, Any]) -> dict[str, str]:
        """Whose session a joining client gets; see :meth:`Authenticator.authenticate`.

        Raises:
            TokenMissing, TokenInvalid, NotAllowed, ConnectionsExceeded: if it may not join.
            NodeBusy, RateLimited: not now.
        """
        peer = address_in((details.get("transport") or {}).get("peer"))
        try:
            return self._admit(realm, authid, details, peer)
        except NodeBusy:
            raise
        except TrishulaError as error:
            self.join_refused(peer, _name_in(authid, details.get("ticket")), error.uri or "", error.sentence)
            raise

    def _admit(self, realm: object, authid: object, details: Mapping[str, Any], peer: str | None) -> dict[str, str]:
        ticket, now_s, now = details.get("ticket"), self._clock.seconds(), self.now() / 1000
        address, name = one_of(peer or ""), _name_in(authid, ticket) or ""
        digest = digest_of(ticket) if isinstance(ticket, str) else None
        self._have_wait(self.guesses.wait_s(address, name, digest, now_s))
        try:
            answer = self.authenticator.authenticate(realm, authid, details, now)
        except TokenInvalid:
            is_agent = self.principals.get(name) is not None
            self._have_wait(self.guesses.wrong(address, name, now_s, is_agent=is_agent))
            raise
        assert digest is not None
        self.guesses.right(address, answer["authid"], digest)
        self.admission.admit(answer["authid"], details["session"], digest, now)
        try:
            self.joins.begin(details["session"], now_s)
        except NodeBusy:
            self.admission.left(details["session"])
            raise
        return answer

    def _have_wait(self, wait_s: float) -> None:
        """Refuse to look at a token, or to say what it is, after too many wrong ones.

        Raises:
            RateLimited: there were too many.
        """
        if wait_s > 0.0:
            wait_s = round(wait_s + 0.05, 1)
            raise RateLimited(
                f"too many wrong tokens came from where this client is; whoever has the right one may try again in "
                f"{wait_s:g} s",
                retry_after_s=wait_s,
            )

    def join_refused(self, address: str | None, agent: str | None, error: str, sentence: str) -> None:
        """A client was refused before it had a session; also by the router itself, then without a name."""
        self.refused_joins.refused(address, agent, error, sentence, self._clock.seconds())

    def session_joined(self, agent: str, session: int, role: str, address: str | None = None) -> None:
        """A client joined as an agent, from an address."""
        self.admission.joined(agent, session, self.now() / 1000)
        self.directory.joined(agent, session, self.now())
        facts = {"agent": agent, "session": session, "role": role}
        self.note(Kind.JOINED, facts if address is None else {**facts, "address": address})
        self.neighbourhood.joined(agent)

    def session_left(self, session: int) -> None:
        """A client's session is gone."""
        self.admission.left(session)
        self.joins.left(session)
        agent = self.directory.left(session)
        if agent is None:
            return
        self.delivery.session_left(session)
        self.intake.holds.left(session)
        self.instances.left(session, self._clock.seconds())
        self.note(Kind.LEFT, {"agent": agent, "session": session})
        self.tell_presence()

    def ended_slow_reader(self, agent: str, sentence: str) -> None:
        """The edge ended a client's connection, which would have filled the memory."""
        self.refusals.refused(agent, ReadsTooSlowly, sentence, self._clock.seconds())

    def speak_as(self, address: Address, session: int) -> None:
        """A session speaks for an instance of its agent from now on.

        Raises:
            InstancesExceeded: the session or the agent has enough.
        """
        name, there = str(address), self.instances
        if not there.speaks_for(session, name):
            known = 0 if there.is_there(name) else there.of_agent(address.agent)
            self.quotas.admit(Quota.INSTANCES, address.agent, there.of_session(session), known)
        there.present(name, session)

    def exceeded(self, agent: str, error: TrishulaError) -> None:
        """An agent was refused what goes beyond its quotas."""
        self.refusals.refused(agent, type(error), error.sentence, self._clock.seconds())

    def seconds(self) -> float:
        """The clock for spans."""
        return self._clock.seconds()

    def note(self, kind: Kind, facts: Mapping[str, Any]) -> None:
        """Write a record that nobody waits for into the journal."""
        if not self._stopping:
            self.store.note(kind, facts, self.now()).addErrback(log_fault, log, "{kind} could not be noted", kind=kind)

    def _denied(self, denial: Denial) -> None:
        # A client can put a lone surrogate into a URI, and the journal is UTF-8.
        uri = denial.uri[:200].encode("utf-8", "backslashreplace").decode()
        detail = f"{denial.action} {uri}: {denial.reason}"
        self.refusals.refused(denial.authid, denial.error, detail, self._clock.seconds())

    def answer_forged(self, agent: str, sentence: str) -> None:
        """A session of an agent answered what it was not asked."""
        self.refusals.refused(agent, NotAllowed, sentence, self._clock.seconds())

    # -- the way in ----------------------------------------------------------------------------------------------------

    async def serve(self, verb: Verb, caller: Caller, args: tuple[Any, ...]) -> Any:
        """Run a procedure for a caller: every way in leads through here."""
        if self._stopping:
            raise NodeStopping("the node is stopping and takes no more calls; try another node, or this one later")
        if self.directory.has_left(caller.session):
            # Its last calls may come after the news that it is gone; what they took would wait for nobody.
            raise NotAllowed(f"session {caller.session} of {caller.agent} is gone; join again")
        self.directory.sign_of_life(caller.agent, caller.session, self.now())
        self.joins.served(caller.session)
        return await _to_its_end(verb(caller, args))


def _name_in(authid: object, ticket: object) -> str | None:
    """Who a client says it is, if that is a name; the token of one that mixed its settings up is not."""
    said = authid or (owner_of(ticket) if isinstance(ticket, str) else None)
    return said if isinstance(said, str) and is_agent_name(said) else None


def _read_seen(text: str) -> Seen:
    return msgspec.json.decode(text, type=Seen)


def _to_its_end(work: Coroutine[Deferred[Any], Any, Any]) -> Deferred[Any]:
    """The outcome of work that goes on when its caller goes away.

    Autobahn cancels the Deferred of a call that is interrupted. Work that is cut off between the store and the memory
    would leave messages that are stored and in no mailbox.
    """
    answer: Deferred[Any] = Deferred()

    def tell(outcome: object) -> None:
        if answer.called and isinstance(outcome, Failure):
            log.info("a call whose caller is gone failed: {why}", why=outcome.getErrorMessage())
        answer.callback(outcome)

    Deferred.fromCoroutine(work).addBoth(tell)
    return answer
