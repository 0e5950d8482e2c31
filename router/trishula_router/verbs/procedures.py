"""The wire contract's procedures, as verbs of a node: arguments checked, services asked, results as they travel.

Each verb takes who calls and the positional arguments as they came; what breaks a rule is refused by ``arguments`` with
the key, the value and the rule. Nothing is decided here: the rules are in the services that a node is made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula.contract.texts import one_line, show_value
from trishula.errors import AgentUnknown, MailboxBusy, NotAllowed, TakenOver
from trishula_router.agents.callers import Caller, Verb
from trishula_router.agents.lives import Life
from trishula_router.agents.quotas import Quota
from trishula_router.clocks.sender_clock import SenderClock
from trishula_router.mail.batch import Batch
from trishula_router.mail.delivery_token import read_token
from trishula_router.peers.presence_exchange import taken_over
from trishula_router.store.facts import TakenOverFacts
from trishula_router.store.journal import Kind
from trishula_router.verbs import arguments
from trishula_router.verbs.audit_options import QueryOptions, WhyOptions
from trishula_router.verbs.further import FURTHER

if TYPE_CHECKING:
    # Its type alone: the node knows nothing of what is asked of it by name.
    from trishula_router.node import Node

__all__ = ["Procedures"]


class Procedures:
    """The procedures of one node.

    Args:
        node: whose services they ask.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    def by_uri(self) -> dict[str, Verb]:
        """Every procedure, by its URI; how long its calls take is measured."""
        measured = self._node.measures.calls.measured
        return {uri: measured(uri, verb) for uri, verb in self._by_uri().items()}

    def _by_uri(self) -> dict[str, Verb]:
        return {
            uris.MAILBOX_SEND: self._send,
            uris.MAILBOX_ATTACH: self._attach,
            uris.MAILBOX_ACK: self._ack,
            uris.MAILBOX_NACK: self._nack,
            uris.MAILBOX_WORKING: self._working,
            uris.MAILBOX_FETCH: self._fetch,
            uris.MAILBOX_PEEK: self._peek,
            uris.MAILBOX_STATUS: self._status,
            uris.MAILBOX_ANSWER: self._answer,
            uris.MAILBOX_CANCEL: self._cancel,
            uris.DIRECTORY_LIST: self._list,
            uris.DIRECTORY_GET: self._get,
            uris.DIRECTORY_FIND: self._find,
            uris.DIRECTORY_BEAT: self._beat,
            uris.AUDIT_QUERY: self._query,
            uris.AUDIT_WHY: self._why,
            uris.AUDIT_VERIFY: self._verify,
            uris.ADMIN_DEAD_LIST: self._dead_list,
            uris.ADMIN_DEAD_SHOW: self._dead_show,
            uris.ADMIN_DEAD_REPLAY: self._dead_replay,
            uris.ADMIN_DEAD_PURGE: self._dead_purge,
            uris.ADMIN_MAILBOX_PURGE: self._mailbox_purge,
            **{uri: verb for verbs in FURTHER for uri, verb in verbs(self._node).by_uri().items()},
        }

    async def _send(self, caller: Caller, args: tuple[Any, ...]) -> list[dict[str, Any]]:
        raw, options = arguments.read_positional(args, "send", 1, 2)
        raws = arguments.read_list(raw, "messages", self._node.config.limits.batch_messages)
        said = arguments.read(arguments.SendOptions, options, "options")
        now = self._node.now()
        session = self._node.sessions[caller.session]
        measured_ms = partial(self._node.directory.ahead_ms, session)

        def beat(sent_at: int | None) -> None:
            self._node.directory.beat(session, self._node.now(), sent_at=sent_at)

        signatures = arguments.read_signatures(said, raws)
        clock = SenderClock(now, said.sent_at, measured_ms, raws)
        batch = Batch(raws, signatures, said.copies, clock, beat, session.proof)
        return await self._node.intake.send(caller.agent, caller.session, batch, now)

    async def _attach(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        (raw,) = arguments.read_positional(args, "attach", 0, 1)
        options = arguments.read(arguments.AttachOptions, raw, "options")
        address = Address(caller.agent, options.instance)
        if options.instance is None:
            # What an instance announces counts for nothing.
            self._node.serving.check(caller.agent, options.capabilities)
        consumer = self._node.consumers.session_of(address)
        if consumer is not None and self._node.sessions.is_older(caller.session, consumer):
            # What a session said before its network broke may come after its client has joined anew: it must not end
            # the session that the client has now.
            raise TakenOver(
                f"a newer session consumes the mailbox of {address} already; run one session of an agent, or give each "
                "its own instance"
            )
        life = None
        if options.run is not None:
            life = Life(options.run, options.after, frozenset(options.begun), options.host)
        self._contest(address, life, caller.session)
        session = self._node.sessions[caller.session]
        if options.instance is not None:
            self._node.addressing.speak_as(address, session)
        self._node.directory.attached(
            session,
            self._node.now(),
            instance=options.instance,
            capabilities=tuple(options.capabilities),
            heartbeat_s=options.heartbeat_s,
        )
        session.binary = options.binary
        if options.instance is None:
            self._node.canary_rounds.announced(caller.agent, caller.session, options.canaries)
            taken = self._node.neighbourhood.taken_at(address)
            lost_at = None if taken is None else taken[1]
            self._node.measures.comings.attached(
                caller.agent, self._node.now(), elsewhere=taken is not None, node_lost_at=lost_at
            )
        before = self._node.delivery.attach(
            address,
            caller.session,
            options.window or self._node.config.delivery.window,
            () if options.instance is not None else tuple(options.capabilities),
            life,
        )
        self._node.neighbourhood.attached(address)
        if before is not None:
            self._take_over(address, before, caller.session, life)
        self._node.tell_presence()
        place = self._place(options.epoch, options.position)
        mode = self._node.fallback.mode
        return {
            "node": self._node.config.node,
            **place,
            "lease_s": self._node.config.delivery.lease_s,
            "limits": self._limits_of(caller.session),
            **({} if mode.facts.mode == "live" else {"fallback": mode.told()}),
        }

    def _limits_of(self, session: int) -> dict[str, int]:
        limits = self._node.config.limits
        told = {
            "payload_bytes": limits.payload_bytes,
            "batch_messages": limits.batch_messages,
            "ttl_ms": limits.ttl_ms,
        }
        attachment_bytes = self._node.attachments.limit_bytes
        if attachment_bytes is not None:
            told["attachment_bytes"] = attachment_bytes
        frame_bytes = self._node.router.frame_limit_bytes(session)
        return told if frame_bytes is None else {**told, "frame_bytes": frame_bytes}

    def _place(self, epoch: str | None, position: int | None) -> dict[str, Any]:
        """Where the store is, and, for a client that says what it last knew, whether that means anything here.

        The same epoch with less than the client has seen is another history too: somebody has put an old copy of the
        file in place by hand.
        """
        here = {"epoch": self._node.store.epoch, "high_water": self._node.store.high_water}
        if epoch is None and position is None:
            return here
        is_behind = position is not None and position > self._node.store.high_water
        return {**here, "epoch_changed": is_behind or epoch not in (None, self._node.store.epoch)}

    def _contest(self, address: Address, life: Life | None, session: int) -> None:
        """Let no two processes take a mailbox over from each other for ever.

        Raises:
            TakenOver: one has it that keeps it.
        """
        own = self._node.consumers.session_of(address)
        if own == session:
            return
        holder = (
            self._node.consumers.life_of(address) if own is not None else self._node.neighbourhood.holder_of(address)
        )
        if holder is None or life is None or holder.run == life.run:
            return
        quiet_s = self._node.takeovers.allow(str(address), self._node.seconds())
        if quiet_s is not None:
            raise TakenOver(
                f"the mailbox of {address} changed hands too often, and {holder.host or 'another process'} keeps it; "
                "stop one of the two, or give each its own instance (this one may try again when nobody has for "
                f"{quiet_s:g} s)"
            )

    def _take_over(self, address: Address, before: int, by: int, life: Life | None) -> None:
        host = None if life is None else life.host
        self._node.note(Kind.TAKEN_OVER, TakenOverFacts(address.agent, str(address), before, by, host))
        self._node.close_session(before, TakenOver.uri, taken_over(str(address), host))

    async def _ack(self, caller: Caller, args: tuple[Any, ...]) -> list[bool]:
        (raw,) = arguments.read_positional(args, "ack", 1, 1)
        return await self._node.settlement.ack(
            caller.agent, arguments.read_tokens(raw, "tokens", arguments.WINDOW_LIMIT, self._node.store.epoch)
        )

    async def _nack(self, caller: Caller, args: tuple[Any, ...]) -> list[bool]:
        (raw,) = arguments.read_positional(args, "nack", 1, 1)
        refused = []
        for index, item in enumerate(arguments.read_list(raw, "items", arguments.WINDOW_LIMIT)):
            one = arguments.read(arguments.NackItem, item, f"items[{index}]")
            position, attempt = read_token(one.token, f"items[{index}].token", self._node.store.epoch)
            # Not refused: clients of earlier releases give what an exception says as it is, and its call brings others.
            refused.append((position, attempt, one_line(one.reason), one.requeue))
        return await self._node.settlement.nack(caller.agent, refused)

    async def _working(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, int]:
        token, for_s = arguments.read_positional(args, "working", 2, 2)
        position, attempt = read_token(token, "token", self._node.store.epoch)
        span_s = arguments.read_span(for_s, "for_s")
        return {"lease_until_at": self._node.settlement.working(caller.agent, position, attempt, span_s)}

    async def _fetch(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        (raw,) = arguments.read_positional(args, "fetch", 0, 1)
        options = arguments.read(arguments.FetchOptions, raw, "options")
        address = Address(caller.agent, options.instance)
        if options.wait_s > 0:
            fetches = self._node.delivery.fetches
            self._node.quotas.admit(
                Quota.FETCHES, caller.agent, fetches.of_session(caller.session), fetches.of_agent(caller.agent)
            )
        if options.instance is not None:
            if not self._node.instances.is_there(str(address)):
                # An agent at another node may answer it before the next round of news.
                self._node.neighbourhood.tell_soon()
            session = self._node.sessions[caller.session]
            self._node.addressing.speak_as(address, session)
            self._node.directory.speaks_as(session, options.instance)
        elsewhere = self._node.neighbourhood.consumer_of(address)
        if elsewhere is not None and self._node.consumers.session_of(address) != caller.session:
            raise MailboxBusy(
                f"the mailbox of {address} is being pushed to a session at the node {elsewhere}; stop that agent, or "
                "fetch for an instance of your own"
            )
        self._node.sessions[caller.session].binary = options.binary
        deliveries = await self._node.delivery.fetch(
            address, caller.session, options.max, options.wait_s, options.run, caller.patience
        )
        pending, in_flight = self._node.mailroom.counts(str(address))
        return {
            "deliveries": deliveries,
            **self._place(options.epoch, options.position),
            "pending": pending,
            "in_flight": in_flight,
        }

    async def _peek(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        (raw,) = arguments.read_positional(args, "peek", 0, 1)
        options = arguments.read(arguments.PeekOptions, raw, "options")
        address = str(Address(caller.agent, options.instance))
        page = await self._node.peeking.page(address, options.after, options.max)
        pending, in_flight = self._node.mailroom.counts(address)
        turn = self._node.turns.of(caller.agent)["state"]
        return {**page, **self._place(None, None), "pending": pending, "in_flight": in_flight, "turn": turn}

    async def _status(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        (raw,) = arguments.read_positional(args, "status", 1, 1)
        return await self._node.audit.status(caller.agent, arguments.read_ids(raw, "ids", arguments.FETCH_LIMIT))

    async def _answer(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        (message_id,) = arguments.read_positional(args, "answer", 1, 1)
        (checked,) = arguments.read_ids([message_id], "id", 1)
        return await self._node.outcomes.of(caller.agent, checked)

    async def _cancel(self, caller: Caller, args: tuple[Any, ...]) -> list[bool]:
        (raw,) = arguments.read_positional(args, "cancel", 1, 1)
        return await self._node.audit.cancel(caller.agent, arguments.read_ids(raw, "ids", arguments.FETCH_LIMIT))

    async def _list(self, caller: Caller, args: tuple[Any, ...]) -> list[dict[str, Any]]:
        arguments.read_positional(args, "list", 0, 0)
        return self._node.neighbourhood.entries()

    async def _get(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        (name,) = arguments.read_positional(args, "get", 1, 1)
        for entry in self._node.neighbourhood.entries():
            if entry["agent"] == name:
                return entry
        raise AgentUnknown(
            f"no agent {show_value(name)} is registered at this node; `trishula agents` lists those that are"
        )

    async def _find(self, caller: Caller, args: tuple[Any, ...]) -> list[dict[str, Any]]:
        (raw,) = arguments.read_positional(args, "find", 0, 1)
        options = arguments.read(arguments.FindOptions, raw, "options")
        return [
            entry
            for entry in self._node.neighbourhood.entries()
            if (options.capability is None or options.capability in entry["capabilities"])
            and options.presence in (None, entry["presence"])
        ]

    async def _beat(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        received_at = self._node.now()
        (raw,) = arguments.read_positional(args, "beat", 1, 1)
        beat = arguments.read(arguments.BeatOptions, raw, "beat")
        if self._only_looks(caller) and (beat.state, beat.busy_until, beat.load, beat.progress) != (None,) * 4:
            # All would see it, in the directory and in an event.
            raise NotAllowed(
                f"{caller.agent} is an observer, which tells nobody anything: leave state, busy_until, load and "
                "progress out of its beats"
            )
        heartbeat_s = self._node.directory.beat(
            self._node.sessions[caller.session],
            received_at,
            sent_at=beat.sent_at,
            state=beat.state,
            busy_until=beat.busy_until,
            load=beat.load,
            progress=beat.progress,
        )
        self._node.tell_presence()
        answer: dict[str, Any] = {"received_at": received_at, "answered_at": self._node.now()}
        return answer if heartbeat_s is None else {**answer, "heartbeat_s": heartbeat_s}

    def _only_looks(self, caller: Caller) -> bool:
        principal = self._node.principals.get(caller.agent)
        return principal is not None and principal.only_looks

    def _knows_all(self, caller: Caller) -> bool:
        """Whether a caller may know how anybody's messages stand: an operator, or an observer.

        As for all that operators ask, it must have joined as one and be one still: the grants may have been taken away
        while its session lived.
        """
        principal = self._node.principals.get(caller.agent)
        return principal is not None and (principal.only_looks or (caller.is_operator and principal.operator))

    async def _query(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        (raw,) = arguments.read_positional(args, "query", 0, 1)
        options = arguments.read(QueryOptions, raw, "options")
        if self._only_looks(caller) and (options.procedure, options.subject) != (None, None):
            raise NotAllowed(
                f"{caller.agent} is an observer, which learns nothing of what messages hold: leave procedure and "
                "subject out of the question"
            )
        return await self._node.audit.query(options)

    async def _why(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        message_id, raw = arguments.read_positional(args, "why", 1, 2)
        options = arguments.read(WhyOptions, raw, "options")
        (checked,) = arguments.read_ids([message_id], "id", 1)
        operator = self._knows_all(caller)
        if options.archive:
            lives = self._node.audit.archived_lives
            return await lives.page(caller.agent, checked, options.sender, options.after, operator=operator)
        return await self._node.audit.why(caller.agent, checked, options.sender, operator=operator)

    async def _verify(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        arguments.read_positional(args, "verify", 0, 0)
        return await self._node.audit.verify()

    async def _dead_list(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        (raw,) = arguments.read_positional(args, "dead.list", 0, 1)
        options = arguments.read(arguments.DeadListOptions, raw, "options")
        return await self._node.dead_letters.page(agent=options.agent, limit=options.limit, after=options.after)

    async def _dead_show(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        (raw,) = arguments.read_positional(args, "dead.show", 1, 1)
        return await self._node.dead_letters.show(arguments.read_position(raw, "seq"))

    async def _dead_replay(self, caller: Caller, args: tuple[Any, ...]) -> list[bool]:
        (raw,) = arguments.read_positional(args, "dead.replay", 1, 1)
        positions = arguments.read_positions(raw, "seqs", arguments.FETCH_LIMIT)
        return await self._node.dead_letters.replay(positions, self._node.now(), caller.agent)

    async def _dead_purge(self, caller: Caller, args: tuple[Any, ...]) -> int:
        (raw,) = arguments.read_positional(args, "dead.purge", 1, 1)
        if isinstance(raw, Mapping):
            options = arguments.read(arguments.DeadPurgeOptions, raw, "options")
            return await self._node.dead_letters.purge_all(options.before, self._node.now(), caller.agent)
        positions = arguments.read_positions(raw, "seqs", arguments.FETCH_LIMIT)
        return await self._node.dead_letters.purge(positions, self._node.now(), caller.agent)

    async def _mailbox_purge(self, caller: Caller, args: tuple[Any, ...]) -> int:
        agent, raw = arguments.read_positional(args, "mailbox.purge", 1, 2)
        options = arguments.read(arguments.MailboxPurgeOptions, raw, "options")
        departures = self._node.departures
        if options.dry_run:
            return departures.open_from(str(agent)) if options.sent else departures.open_for(str(agent))
        if options.sent:
            return await departures.purge_sender(agent, caller.agent)
        return await departures.purge(agent, caller.agent)
