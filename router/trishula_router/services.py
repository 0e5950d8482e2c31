"""The services of a node, wired to each other: each is made here, and only here.

:class:`Services` decides nothing. What two services need of each other goes through callables that it hands them; what
runs by the clock is in :mod:`trishula_router.housekeeping`, and what comes from outside in :mod:`trishula_router.node`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.logger import Logger

from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula_router.agents.addressing import Addressing
from trishula_router.agents.admission import Admission
from trishula_router.agents.authorizer import Authorizer, Denial
from trishula_router.agents.change_records import ChangeRecords
from trishula_router.agents.consumers import Consumers
from trishula_router.agents.directory import Directory
from trishula_router.agents.door import Door
from trishula_router.agents.gate import Gate
from trishula_router.agents.instances import Instances
from trishula_router.agents.joins import Joins
from trishula_router.agents.last_seen import LastSeen
from trishula_router.agents.principals import Principals
from trishula_router.agents.quotas import Quotas
from trishula_router.agents.refused_joins import RefusedJoins
from trishula_router.agents.revoking import Revoking
from trishula_router.agents.serving import Serving
from trishula_router.agents.sessions import Sessions
from trishula_router.agents.takeovers import Takeovers
from trishula_router.agents.token_uses import TokenUses
from trishula_router.agents.turns import Turns
from trishula_router.alerts.notifier import Notifier, Send
from trishula_router.archiving.archiver import archiver_of
from trishula_router.attachments.exchange import Exchange
from trishula_router.attachments.keeping import Keeping
from trishula_router.background import log_fault
from trishula_router.cells.service import Cells
from trishula_router.clocks.clock import Clock
from trishula_router.clocks.timekeeper import Timekeeper
from trishula_router.clocks.timeline import Timeline
from trishula_router.fallback import Fallback
from trishula_router.leases.service import lease_service
from trishula_router.mail.audit import Audit
from trishula_router.mail.backlogs import Backlogs
from trishula_router.mail.conversations import Conversations
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
from trishula_router.mail.outlet import Overheard
from trishula_router.mail.peek import Peeking
from trishula_router.mail.places import place_of
from trishula_router.mail.rates import Rates, Refusals
from trishula_router.mail.recalls import Recalls
from trishula_router.mail.receipts import Receipts
from trishula_router.mail.recipients import Recipients
from trishula_router.mail.replies import Replies
from trishula_router.mail.retention import Retention
from trishula_router.mail.room import Room
from trishula_router.mail.settlement import Settlement
from trishula_router.mail.surfacing import Surfacing
from trishula_router.measures import Measures
from trishula_router.mirroring.mirror import Mirror
from trishula_router.objectives.canaries import canaries_of
from trishula_router.objectives.recorder import BookFile, NoBookFile, Recorder
from trishula_router.peers.agents_exchange import Sharing
from trishula_router.peers.elsewhere import Elsewhere
from trishula_router.peers.journal_exchange import Peering
from trishula_router.peers.journal_policy import Replication
from trishula_router.peers.link_records import LinkRecords
from trishula_router.peers.listener import Listener
from trishula_router.peers.peer_states import reached
from trishula_router.peers.presence_exchange import Neighbourhood
from trishula_router.router import Router
from trishula_router.settings.options import NodeConfig
from trishula_router.store.facts import Facts
from trishula_router.store.interface import Copied, Store
from trishula_router.store.journal import Kind
from trishula_router.store.runs import Extract
from trishula_router.token_bucket import Rate

__all__ = ["CATCHING_UP", "Services"]

log = Logger()

#: Why nothing goes out.
CATCHING_UP, _SETTING_CLOCK = "catching up", "setting the clock"


class Services:
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

    notifier: Notifier  # from the start of the node on
    recorder: Recorder  # likewise
    book_file: BookFile = NoBookFile()  # the edge puts a file here
    mirrors: Sequence[Mirror] = ()  # likewise, what the configuration asks for
    cells: Cells | None = None  # likewise
    send_alert: Send | None = None  # likewise, sends an alert by a road; without it nobody is told

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
        self.router, self.outlet = router, Overheard(router)
        self.clock, self.now = clock, now
        self.version = version
        self.worked_s = worked_s
        self.random = random
        self.started_at = now()
        self.measures = Measures(clock.seconds)
        self.canaries, self.file_canaries = canaries_of(config.objectives.canaries, f"{self.started_at:x}")
        self.is_stopping = False
        self.connections: Callable[[], Mapping[str, int]] = dict  #: to this node, for ``node.status``; the edge counts
        self.proxy_workers: Callable[[], Mapping[str, int]] = dict  #: likewise; none of them by default
        self.joined_by_proxy: Callable[[int, str], object] = lambda worker, client_ip: None  # they keep a pace
        self.ready: Callable[[], Mapping[str, Any]] = self._ready_unchecked  # the edge puts its checks here
        self.forget_retained: Callable[[], object] = lambda: None  # drops the retained events of agents that are gone
        self.last_seen = LastSeen(store)
        self.sessions = Sessions()
        self.admission = Admission(principals, self.sessions, config.limits.connections)
        self.revoking = Revoking(principals, store, lambda at: reached(self.peering.replication, at), now)
        self.change_records = ChangeRecords(principals, store, self.note, self.revoking.write, now)
        self.gate = Gate()
        self.token_uses = TokenUses(store, self.sessions, now)
        self.joins = Joins()
        self.quotas = Quotas(config.limits)
        self.refused_joins = RefusedJoins(lambda facts: self.note(Kind.REFUSED, facts))
        self.door = Door(
            principals, self.admission, self.sessions, self.joins, self.refused_joins, now=now, now_s=clock.seconds
        )
        self.refusals = Refusals(lambda facts: self.note(Kind.REFUSED, facts))
        self.links = LinkRecords(self.note, clock.seconds)
        self.authorizer = Authorizer(
            principals, self._denied, lambda peer, agent: self.neighbourhood.against(peer, agent)
        )
        self.directory = Directory(config.node, config.presence, self.sessions, principals.names, principals.may_serve)
        self.turns = Turns(store, self.directory, now)
        self.instances = Instances(config.delivery.instance_grace_s)
        self.addressing = Addressing(
            principals,
            self.instances,
            self.quotas,
            is_elsewhere=lambda address: self.neighbourhood.has_instance(address),
            seconds=clock.seconds,
        )
        self.timekeeper = Timekeeper(
            timeline,
            store,
            seconds=clock.seconds,
            hold=self._hold_for_clock,
            go_on=self._go_on_by_clock,
            follow=self._follow_clock,
        )
        self.fallback = Fallback(config.node, store, router.announce, now)
        self.mailroom = Mailroom()
        self.consumers = Consumers(self.sessions, config.delivery.window_bytes)
        self.recalls = Recalls(
            self.mailroom, router.inform, lambda entry: token_of(entry.position, entry.attempts, store.epoch)
        )
        place = partial(place_of, store, config.node)
        self.settlement = Settlement(
            self.mailroom,
            store,
            config.delivery,
            clock=clock,
            now=now,
            random=random,
            tell=self.outlet.tell,
            notices=Notices(config.node, place, config.delivery.default_ttl_ms, self.addressing.reach),
        )
        self.surfacing = Surfacing(
            self.mailroom, store, config.delivery.surface_within_s, clock=clock, now=now, tell=self.outlet.tell
        )
        self.endings = Endings(self.mailroom, store, self.settlement, self.recalls, now)
        self.delivery = Delivery(
            self.mailroom,
            store,
            self.consumers,
            self.settlement,
            config.delivery,
            self.outlet,
            able=lambda capability: self.directory.able(capability, self.now()),
            handover=Handover(self.mailroom, store, able_at=lambda it: self.elsewhere.able_at(it), now=now),
            clock=clock,
            now=now,
        )
        within_ms = round(config.limits.conversation_within_s * 1000)
        self.conversations = Conversations(config.limits.conversation_hops, within_ms)
        inflow = Inflow(
            self.mailroom,
            is_consumed=self.consumers.is_consumed,
            tell=self.outlet.tell,
            recalls=self.recalls,
            conversations=self.conversations,
            now=now,
        )

        def absorb(copy: Copied, extract: Extract, ahead_ms: int) -> None:
            inflow.absorb(copy, extract, ahead_ms)
            for follower in (self.fallback, self.revoking, self.leases.rounds, self.attachments.sweep):
                follower.copied(copy, extract)

        self.peering = Peering(
            config.node,
            store,
            Replication(store.epoch, config.peers),
            post=router.post,
            absorb=absorb,
            sighted=self._sighted,
            caught_up=self.gate.open,
            clock=clock,
            now=now,
        )
        self.peering.about = lambda: (version, principals.digest)
        self.sharing = Sharing(config, principals, store, self.peering.replication, router.post, clock.seconds, now)
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
            close_session=self.close_session,
            note=self.note,
            clock=clock,
            now=now,
        )
        near = self.peering, self.neighbourhood, self.mailroom
        self.leases = lease_service(config, store, self.sessions, *near, self.addressing.reach, clock, now)
        self.elsewhere = Elsewhere(self.directory, self.neighbourhood, self.peering, now)
        self.listener = Listener(
            self.peering, self.neighbourhood, principals.names, self.refusals.refused, clock, worked_s
        )
        self.listener.agents = self.sharing.receive
        self.serving = Serving(principals, now_s=clock.seconds, refused=self.refusals.refused)
        self.replies = replies = Replies(store, self.mailroom.leases, principals.may_serve)
        self.outcomes = Outcomes(store, replies)
        self.room = Room(self.mailroom, config.limits)
        self.attachments = Keeping(config.attachments, store, clock, now)
        knows, post = principals.get, router.post
        self.listener.attachments = Exchange(config.node, self.attachments, store, self.peering, knows, post, clock)
        self.intake = Intake(
            store,
            self.room,
            Receipts(config.node, store, self.peering.copies, tell=self.outlet.tell, now=now),
            Recipients(principals, self.addressing.knows_instance, self.addressing.expect),
            config.limits,
            Rates(
                Rate(config.limits.rate_per_s, config.limits.burst),
                Rate(config.limits.broadcast_rate_per_s, config.limits.broadcast_burst),
                Rate(config.limits.broadcast_deliveries_per_s, config.limits.broadcast_at_once),
            ),
            warning=self.neighbourhood.warning,
            check_answer=self.recalls.check,
            replies=replies,
            naming=self.attachments.name,
            conversations=self.conversations,
            mode=self.fallback.mode,
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
        self.archiver = archiver_of(config, store, now, self.timekeeper.earlier, self.peering.replication)
        self.peeking = Peeking(store)
        self.backlogs = Backlogs(
            config.node,
            self.mailroom,
            store,
            self.consumers,
            self.delivery,
            elsewhere=self.elsewhere.consumed,
            entry_of=self.directory.entry,
            able=self.elsewhere.able,
            unread=self.surfacing.unread_in,
            clock=clock,
            now=now,
        )
        self.audit = Audit(
            config.node,
            store,
            self.endings,
            missing=self.peering.missing,
            ahead_ms=self.peering.clocks.ahead_ms,
            warning=self.neighbourhood.warning,
            unread=self.surfacing.warning,
            archived_in=self.archiver.segments.name_of,
            archive=self.archiver.segments.archive,
            in_thread=lambda work: self.archiver.in_thread(work),
        )
        self.dead_letters = DeadLetters(
            store, self.settlement, lambda address: self.addressing.reach(address) == address, config.limits.ttl_ms
        )
        self._built()

    def _built(self) -> None:
        """All parts are there."""

    def close_session(self, session: int, uri: str, sentence: str) -> None:
        """End a client's session; the news that it is gone comes by itself."""
        self.sessions.leaving(session)
        self.router.close_session(session, uri, sentence)

    def _hold_for_clock(self) -> None:
        self.delivery.hold_back(_SETTING_CLOCK)
        self.peering.pause()

    def _go_on_by_clock(self) -> None:
        self.peering.resume()
        self.delivery.let_go(_SETTING_CLOCK)

    def _follow_clock(self, by_ms: int, since: int) -> None:
        """The clock was set: what is in memory follows."""
        self.mailroom.follow_clock(by_ms, since, self.now() + round(self.config.delivery.backoff.cap_s * 1000))
        self.directory.follow_clock(by_ms)
        self.turns.follow_clock(by_ms)
        self.neighbourhood.follow_clock(by_ms)
        self.audit.follow_clock(by_ms, self.store.high_water)
        self.started_at += by_ms
        self.tell_presence()

    def _sighted(self, peer: str, is_there: bool) -> None:
        if not is_there:
            # First, or what it said before would come after that.
            self.listener.lost(peer)
        self.neighbourhood.sighted(peer, is_there)

    def tell_presence(self) -> None:
        """Announce the agents whose presence changed since the last call."""
        changed = self.directory.changes(self.now())
        for entry in changed:
            self.router.announce(uris.EVENT_AGENT, entry)
        if changed:
            self.neighbourhood.tell_soon()
        gone = [entry["agent"] for entry in changed if entry["presence"] == "offline"]
        if gone and not self.is_stopping:
            self.last_seen.keep(self.directory.memory(gone))

    def _ready_unchecked(self) -> dict[str, Any]:
        return {"ready": not self.is_stopping, "node": self.config.node, "version": self.version, "checks": []}

    def note(self, kind: Kind, facts: Facts) -> None:
        """Write a record that nobody waits for into the journal."""
        if not self.is_stopping:
            self.store.note(kind, facts, self.now()).addErrback(log_fault, log, "{kind} could not be noted", kind=kind)

    def _denied(self, denial: Denial) -> None:
        self.refusals.refused(denial.authid, denial.error, denial.detail, self.clock.seconds())
