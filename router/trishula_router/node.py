"""The node's composition root: every service is made here, and only here, and wired to the others.

:class:`Node` is what a node does, without a word of WAMP: verbs with a caller, checked arguments and results. The edge
registers :meth:`Node.procedures` and hands over what comes; tests drive a node without a router.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from trishula import uris
from trishula.errors import AgentUnknown, NodeStopping, NotAllowed, StorageFailed, StorageFull, TakenOver, TokenInvalid
from trishula.message import show_value
from trishula.names import Address, is_capability
from trishula_router import arguments
from trishula_router.admission import Admission
from trishula_router.audit import Audit
from trishula_router.authenticator import Authenticator
from trishula_router.authorizer import Authorizer, Denial
from trishula_router.clock import Clock, Timer
from trishula_router.dead_letters import DeadLetters
from trishula_router.delivery import Delivery, Outlet
from trishula_router.directory import Directory, Seen
from trishula_router.instances import Instances
from trishula_router.intake import Intake
from trishula_router.journal import Kind
from trishula_router.mailroom import Mailroom
from trishula_router.notices import Notices
from trishula_router.options import NodeConfig
from trishula_router.principals import OPERATOR_ROLE, Principals
from trishula_router.rates import Rate, Rates, Refusals
from trishula_router.recipients import Recipients
from trishula_router.retention import Retention
from trishula_router.settlement import Settlement
from trishula_router.store.interface import Store
from trishula_router.tokens import digest_of

__all__ = ["Caller", "Node", "Router", "Verb"]

log = Logger()

#: Leases and pauses are looked at so often; they are seconds long, so this is fine enough and costs nothing.
TICK_S = 0.25
#: Messages that nobody asks for are looked at so often whether their time is over.
EXPIRY_ROUND_S = 10.0
#: Bodies that nobody needs any more are looked for so often; a sender whom a full store refused comes again after 5 s.
RETENTION_ROUND_S = 5.0
#: When agents gave their last sign of life is kept so often; after a crash it is known so exactly.
SEEN_ROUND_S = 60.0
#: Under what the store remembers it.
_SEEN_PREFIX = "seen:"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the router vouches for."""

    session: int
    agent: str
    role: str

    @property
    def is_operator(self) -> bool:
        """Whether it joined as an operator."""
        return self.role == OPERATOR_ROLE


#: A procedure of the node: (caller, positional arguments) → result.
Verb = Callable[[Caller, tuple[Any, ...]], Coroutine[Deferred[Any], Any, Any]]


class Router(Outlet, Protocol):
    """What a node asks of the router it is embedded in."""

    def announce(self, topic: str, event: Mapping[str, Any]) -> None:
        """Publish an event for all."""

    def close_session(self, session: int, uri: str, sentence: str) -> None:
        """End a client's session, telling it why: an error's URI and a sentence."""


class Node:
    """All of a node's services.

    Args:
        config: the node's options.
        store: open; the node closes it.
        principals: who may join.
        router: the way out.
        clock: timers.
        now: the wall clock in ms.
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
        random: Callable[[], float],
        version: str,
    ) -> None:
        self._config = config
        self._store = store
        self._principals = principals
        self._router = router
        self._clock = clock
        self._now = now
        self._version = version
        self._started_at = now()
        self._stopping = False
        self._timers: list[Timer] = []
        #: The fault of the agents file that was logged last.
        self._agents_fault: str | None = None
        self._remembered: dict[str, Seen] = {}
        self.authenticator = Authenticator(principals)
        self.admission = Admission(principals, config.limits.connections)
        self.refusals = Refusals(lambda facts: self._note(Kind.REFUSED, facts))
        self.authorizer = Authorizer(principals, self._denied)
        self.directory = Directory(config.node, config.presence, principals.names)
        self.instances = Instances(config.delivery.instance_grace_s)
        self.mailroom = Mailroom()
        self.settlement = Settlement(
            self.mailroom,
            store,
            config.delivery,
            clock=clock,
            now=now,
            random=random,
            tell=router.tell,
            # Settlement makes room and delivery fills it; delivery ends what it can't deliver: one has to come first.
            has_room=lambda address: self.delivery.pump_soon(address),
            notices=Notices(config.node, store.epoch, config.delivery.default_ttl_ms, self._reach),
            arrived=lambda entries: self.delivery.arrived(entries),
        )
        self.delivery = Delivery(
            self.mailroom,
            store,
            self.settlement,
            config.delivery,
            router,
            able=lambda capability: self.directory.able(capability, self._now()),
            clock=clock,
            now=now,
        )
        self.intake = Intake(
            config.node,
            store,
            self.mailroom,
            Recipients(principals, lambda address: self.instances.knows(address, clock.seconds())),
            config.limits,
            Rates(
                Rate(config.limits.rate_per_s, config.limits.burst),
                Rate(config.limits.broadcast_rate_per_s, config.limits.broadcast_burst),
            ),
            now_s=clock.seconds,
            refused=self.refusals.refused,
            default_ttl_ms=config.delivery.default_ttl_ms,
            arrived=self.delivery.arrived,
            ack=self.settlement.ack,
        )
        self.retention = Retention(store, config.retention, now)
        self.audit = Audit(store, self.settlement)
        self.dead_letters = DeadLetters(store, self.settlement, lambda address: self._reach(address) == address)

    async def start(self) -> None:
        """Take over what the store holds, and begin to work."""
        sizes = await self._store.open_mailboxes()
        self.mailroom.load(sizes)
        if self._store.high_water:
            self.instances.begin(self._clock.seconds())
        for address in sizes:
            self.instances.remember(address, self._clock.seconds())
        remembered = await self._store.remembered(_SEEN_PREFIX)
        self.directory.recall({key.removeprefix(_SEEN_PREFIX): _read_seen(text) for key, text in remembered.items()})
        facts = {"node": self._config.node, "version": self._version, "pid": os.getpid()}
        try:
            await self._store.note(Kind.NODE_STARTED, facts, self._now())
        except StorageFull:
            # It can't take anything, and can still hand over what it has.
            log.failure("the node's store is full; it starts all the same, and refuses what is sent")
        self._every(TICK_S, self._tick)
        self._every(EXPIRY_ROUND_S, self._expire)
        self._every(RETENTION_ROUND_S, self._forget)
        self._every(SEEN_ROUND_S, self._remember_all)

    async def stop(self) -> None:
        """Accept nothing more, make durable what was accepted, and close the store."""
        if self._stopping:
            return
        self._stopping = True
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        self._remember(self.directory.memory())
        try:
            await self._store.note(Kind.NODE_STOPPED, {"node": self._config.node}, self._now())
        except (StorageFull, StorageFailed):
            log.failure("that the node stopped could not be noted")
        await self._store.close()

    def _every(self, period_s: float, work: Callable[[], Coroutine[Deferred[Any], Any, None]]) -> None:
        """Do work again and again; a round that fails is logged, and the next one comes all the same."""
        slot = len(self._timers)

        def again(_: object = None) -> None:
            if not self._stopping:
                self._timers[slot] = self._clock.callLater(period_s, once)

        def once() -> None:
            done: Deferred[None] = Deferred.fromCoroutine(work())
            done.addErrback(lambda failure: log.failure("a round of the node's housekeeping failed", failure))
            done.addBoth(again)

        self._timers.append(self._clock.callLater(period_s, once))

    async def _tick(self) -> None:
        if self._principals.reload_if_changed():
            log.info("the agents file changed and was read again")
        if self._principals.fault != self._agents_fault:
            self._agents_fault = self._principals.fault
            if self._agents_fault is not None:
                log.warn("{fault}; the agents stay as they were", fault=self._agents_fault)
        for session, sentence in self.admission.ended(self._now() / 1000):
            self._router.close_session(session, TokenInvalid.uri, sentence)
        self.settlement.take_back_overdue()
        self.delivery.tick()
        self._tell_presence()

    async def _forget(self) -> None:
        await self.retention.round()

    async def _expire(self) -> None:
        self.refusals.flush(self._clock.seconds())
        for address in self.instances.gone(self._clock.seconds()):
            try:
                await self.settlement.close_mailbox(address, "its instance is gone")
            except (StorageFull, StorageFailed):
                log.failure("the mailbox of {address} could not be closed; it is tried again later", address=address)
                self.instances.remember(address, self._clock.seconds())
        await self.settlement.expire()

    def _tell_presence(self) -> None:
        changed = self.directory.changes(self._now())
        for entry in changed:
            self._router.announce(uris.EVENT_AGENT, entry)
        gone = [entry["agent"] for entry in changed if entry["presence"] == "offline"]
        if gone and not self._stopping:
            self._remember(self.directory.memory(gone))

    async def _remember_all(self) -> None:
        self._remember(self.directory.memory())

    def _remember(self, seen: Mapping[str, Seen]) -> None:
        """Keep for the next run of the node when agents were there last: what changed since it was kept last."""
        fresh = {agent: one for agent, one in seen.items() if self._remembered.get(agent) != one}
        if fresh:
            self._remembered.update(fresh)
            notes = {_SEEN_PREFIX + agent: msgspec.json.encode(one).decode() for agent, one in fresh.items()}
            self._store.remember(notes).addErrback(
                lambda failure: log.failure("it could not be kept when agents were there last", failure)
            )

    def _reach(self, address: str) -> str | None:
        """Where a message for an address can go: there, to its agent if it is an instance that is gone, or nowhere."""
        if is_capability(address):
            return address
        agent = Address.parse(address).agent
        if self._principals.get(agent) is None:
            return None
        return address if address == agent or self.instances.is_there(address) else agent

    # -- sessions ------------------------------------------------------------------------------------------------------

    def authenticate(self, realm: object, authid: object, details: Mapping[str, Any]) -> dict[str, str]:
        """Whose session a joining client gets; see :meth:`Authenticator.authenticate`.

        Raises:
            TokenMissing, TokenInvalid, NotAllowed, ConnectionsExceeded: if it may not join.
        """
        now_s = self._now() / 1000
        answer = self.authenticator.authenticate(realm, authid, details, now_s)
        self.admission.admit(answer["authid"], details["session"], digest_of(details["ticket"]), now_s)
        return answer

    def session_joined(self, agent: str, session: int, role: str) -> None:
        """A client joined as an agent."""
        self.admission.joined(agent, session, self._now() / 1000)
        self.directory.joined(agent, session, self._now())
        self._note(Kind.JOINED, {"agent": agent, "session": session, "role": role})

    def session_left(self, session: int) -> None:
        """A client's session is gone."""
        self.admission.left(session)
        agent = self.directory.left(session)
        if agent is None:
            return
        self.delivery.session_left(session)
        self.instances.left(session, self._clock.seconds())
        self._note(Kind.LEFT, {"agent": agent, "session": session})
        self._tell_presence()

    def _note(self, kind: Kind, facts: Mapping[str, Any]) -> None:
        if not self._stopping:
            self._store.note(kind, facts, self._now()).addErrback(
                lambda failure: log.failure("{kind} could not be noted", failure, kind=kind)
            )

    def _denied(self, denial: Denial) -> None:
        detail = f"{denial.action} {denial.uri[:200]}: {denial.reason}"
        self.refusals.refused(denial.authid, denial.error, detail, self._clock.seconds())

    # -- the verbs of the wire contract --------------------------------------------------------------------------------

    def procedures(self) -> dict[str, Verb]:
        """Every procedure that the node registers, by URI."""
        return {
            uris.MAILBOX_SEND: self._send,
            uris.MAILBOX_ATTACH: self._attach,
            uris.MAILBOX_ACK: self._ack,
            uris.MAILBOX_NACK: self._nack,
            uris.MAILBOX_WORKING: self._working,
            uris.MAILBOX_FETCH: self._fetch,
            uris.MAILBOX_STATUS: self._status,
            uris.MAILBOX_CANCEL: self._cancel,
            uris.DIRECTORY_LIST: self._list,
            uris.DIRECTORY_GET: self._get,
            uris.DIRECTORY_FIND: self._find,
            uris.DIRECTORY_BEAT: self._beat,
            uris.AUDIT_QUERY: self._query,
            uris.AUDIT_WHY: self._why,
            uris.AUDIT_VERIFY: self._verify,
            uris.NODE_STATUS: self._node_status,
            uris.ADMIN_DEAD_LIST: self._dead_list,
            uris.ADMIN_DEAD_SHOW: self._dead_show,
            uris.ADMIN_DEAD_REPLAY: self._dead_replay,
            uris.ADMIN_DEAD_PURGE: self._dead_purge,
        }

    async def serve(self, verb: Verb, caller: Caller, args: tuple[Any, ...]) -> Any:
        """Run a procedure for a caller: every way in leads through here."""
        if self._stopping:
            raise NodeStopping("the node is stopping and takes no more calls; try another node, or this one later")
        if self.directory.has_left(caller.session):
            # Its last calls may come after the news that it is gone; what they took would wait for nobody.
            raise NotAllowed(f"session {caller.session} of {caller.agent} is gone; join again")
        self.directory.sign_of_life(caller.agent, caller.session, self._now())
        return await _to_its_end(verb(caller, args))

    async def _send(self, caller: Caller, args: tuple[Any, ...]) -> list[dict[str, Any]]:
        raws, options = arguments.read_positional(args, "send", 1, 2)
        batch = arguments.read_list(raws, "messages", self._config.limits.batch_messages)
        copies = arguments.read(arguments.SendOptions, options, "options").copies

        def beat(sent_at: int | None) -> None:
            self.directory.beat(caller.agent, caller.session, self._now(), sent_at=sent_at)

        return await self.intake.send(caller.agent, batch, copies=copies, now=self._now(), beat=beat)

    async def _attach(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        (raw,) = arguments.read_positional(args, "attach", 0, 1)
        options = arguments.read(arguments.AttachOptions, raw, "options")
        address = Address(caller.agent, options.instance)
        consumer = self.delivery.session_of(address)
        if consumer is not None and self.directory.is_older(caller.agent, caller.session, consumer):
            # What a session said before its network broke may come after its client has joined anew: it must not end
            # the session that the client has now.
            raise TakenOver(
                f"a newer session consumes the mailbox of {address} already; run one session of an agent, or give each "
                "its own instance"
            )
        if options.instance is not None:
            self.instances.present(str(address), caller.session)
        self.directory.attached(
            caller.agent,
            caller.session,
            self._now(),
            instance=options.instance,
            capabilities=tuple(options.capabilities),
            heartbeat_s=options.heartbeat_s,
        )
        before = self.delivery.attach(
            address,
            caller.session,
            options.window or self._config.delivery.window,
            () if options.instance is not None else tuple(options.capabilities),
        )
        if before is not None:
            self._take_over(address, before, caller.session)
        self._tell_presence()
        place = self._place(options.epoch, options.position)
        return {"node": self._config.node, **place, "lease_s": self._config.delivery.lease_s}

    def _place(self, epoch: str | None, position: int | None) -> dict[str, Any]:
        """Where the store is, and, for a client that says what it last knew, whether that means anything here.

        The same epoch with less than the client has seen is another history too: somebody has put an old copy of the
        file in place by hand.
        """
        here = {"epoch": self._store.epoch, "high_water": self._store.high_water}
        if epoch is None and position is None:
            return here
        is_behind = position is not None and position > self._store.high_water
        return {**here, "epoch_changed": is_behind or epoch not in (None, self._store.epoch)}

    def _take_over(self, address: Address, before: int, by: int) -> None:
        self._note(Kind.TAKEN_OVER, {"agent": address.agent, "address": str(address), "session": before, "by": by})
        sentence = (
            f"a newer session consumes the mailbox of {address} now, so this one was closed; run one session of an "
            "agent, or give each its own instance"
        )
        self._router.close_session(before, TakenOver.uri, sentence)

    async def _ack(self, caller: Caller, args: tuple[Any, ...]) -> list[bool]:
        (raw,) = arguments.read_positional(args, "ack", 1, 1)
        return await self.settlement.ack(
            caller.agent, arguments.read_tokens(raw, "tokens", arguments.WINDOW_LIMIT, self._store.epoch)
        )

    async def _nack(self, caller: Caller, args: tuple[Any, ...]) -> list[bool]:
        (raw,) = arguments.read_positional(args, "nack", 1, 1)
        refused = []
        for index, item in enumerate(arguments.read_list(raw, "items", arguments.WINDOW_LIMIT)):
            one = arguments.read(arguments.NackItem, item, f"items[{index}]")
            position, attempt = arguments.read_token(one.token, f"items[{index}].token", self._store.epoch)
            refused.append((position, attempt, one.reason, one.requeue))
        return await self.settlement.nack(caller.agent, refused)

    async def _working(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, int]:
        token, for_s = arguments.read_positional(args, "working", 2, 2)
        position, attempt = arguments.read_token(token, "token", self._store.epoch)
        span_s = arguments.read_span(for_s, "for_s")
        return {"lease_until_at": self.settlement.working(caller.agent, position, attempt, span_s)}

    async def _fetch(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        (raw,) = arguments.read_positional(args, "fetch", 0, 1)
        options = arguments.read(arguments.FetchOptions, raw, "options")
        address = Address(caller.agent, options.instance)
        if options.instance is not None:
            self.instances.present(str(address), caller.session)
            self.directory.speaks_as(caller.agent, caller.session, options.instance)
        deliveries = await self.delivery.fetch(address, caller.session, options.max, options.wait_s)
        pending, in_flight = self.mailroom.counts(str(address))
        return {
            "deliveries": deliveries,
            **self._place(options.epoch, options.position),
            "pending": pending,
            "in_flight": in_flight,
        }

    async def _status(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        (raw,) = arguments.read_positional(args, "status", 1, 1)
        return await self.audit.status(caller.agent, arguments.read_ids(raw, "ids", arguments.FETCH_LIMIT))

    async def _cancel(self, caller: Caller, args: tuple[Any, ...]) -> list[bool]:
        (raw,) = arguments.read_positional(args, "cancel", 1, 1)
        return await self.audit.cancel(caller.agent, arguments.read_ids(raw, "ids", arguments.FETCH_LIMIT))

    async def _list(self, caller: Caller, args: tuple[Any, ...]) -> list[dict[str, Any]]:
        arguments.read_positional(args, "list", 0, 0)
        return self.directory.find(self._now())

    async def _get(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        (name,) = arguments.read_positional(args, "get", 1, 1)
        for entry in self.directory.find(self._now()):
            if entry["agent"] == name:
                return entry
        raise AgentUnknown(
            f"no agent {show_value(name)} is registered at this node; `trishula agents` lists those that are"
        )

    async def _find(self, caller: Caller, args: tuple[Any, ...]) -> list[dict[str, Any]]:
        (raw,) = arguments.read_positional(args, "find", 0, 1)
        options = arguments.read(arguments.FindOptions, raw, "options")
        return self.directory.find(self._now(), capability=options.capability, presence=options.presence)

    async def _beat(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, int]:
        received_at = self._now()
        (raw,) = arguments.read_positional(args, "beat", 1, 1)
        beat = arguments.read(arguments.BeatOptions, raw, "beat")
        self.directory.beat(
            caller.agent,
            caller.session,
            received_at,
            sent_at=beat.sent_at,
            state=beat.state,
            busy_until=beat.busy_until,
            load=beat.load,
            progress=beat.progress,
        )
        self._tell_presence()
        return {"received_at": received_at, "answered_at": self._now()}

    async def _query(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        (raw,) = arguments.read_positional(args, "query", 0, 1)
        return await self.audit.query(arguments.read(arguments.QueryOptions, raw, "options"))

    async def _why(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        message_id, raw = arguments.read_positional(args, "why", 1, 2)
        options = arguments.read(arguments.WhyOptions, raw, "options")
        (checked,) = arguments.read_ids([message_id], "id", 1)
        return await self.audit.why(caller.agent, checked, options.sender, operator=caller.is_operator)

    async def _verify(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        arguments.read_positional(args, "verify", 0, 0)
        return await self.audit.verify()

    async def _dead_list(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        (raw,) = arguments.read_positional(args, "dead.list", 0, 1)
        options = arguments.read(arguments.DeadListOptions, raw, "options")
        return await self.dead_letters.page(agent=options.agent, limit=options.limit, after=options.after)

    async def _dead_show(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        (raw,) = arguments.read_positional(args, "dead.show", 1, 1)
        return await self.dead_letters.show(arguments.read_position(raw, "seq"))

    async def _dead_replay(self, caller: Caller, args: tuple[Any, ...]) -> list[bool]:
        (raw,) = arguments.read_positional(args, "dead.replay", 1, 1)
        positions = arguments.read_positions(raw, "seqs", arguments.FETCH_LIMIT)
        return await self.dead_letters.replay(positions, self._now())

    async def _dead_purge(self, caller: Caller, args: tuple[Any, ...]) -> int:
        (raw,) = arguments.read_positional(args, "dead.purge", 1, 1)
        if isinstance(raw, Mapping):
            options = arguments.read(arguments.DeadPurgeOptions, raw, "options")
            return await self.dead_letters.purge_all(options.before, self._now())
        positions = arguments.read_positions(raw, "seqs", arguments.FETCH_LIMIT)
        return await self.dead_letters.purge(positions, self._now())

    async def _node_status(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        arguments.read_positional(args, "status", 0, 0)
        pending, in_flight = self.mailroom.totals()
        entries = self.directory.find(self._now())
        return {
            "node": self._config.node,
            "version": self._version,
            "pid": os.getpid(),
            "started_at": self._started_at,
            "epoch": self._store.epoch,
            "high_water": self._store.high_water,
            "agents": len(entries),
            "present": sum(entry["presence"] != "offline" for entry in entries),
            "pending": pending,
            "in_flight": in_flight,
            "store_bytes": self._store.size_bytes(),
            "agents_file_fault": self._principals.fault,
        }


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
