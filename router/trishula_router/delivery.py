"""Delivery: messages go from mailboxes to the sessions that consume them, and come back settled or not.

Each address has at most one *consumer* that is pushed to (``attach``), with a window of unacknowledged messages; any
session of the agent may pull (``fetch``) while nobody is attached. A delivered message is *held* under a lease by the
session that got it. It ends in one of three ways: settled (``ack``; ``nack`` for good), given back (``nack``, lease
over, session lost), or settled by others (expiry, cancel).

This module owns the mailboxes and the leases; which state follows is decided in ``lifecycle``, the order in
``mailbox``. It calls the store, and pushes through a function; it never sees a socket. What it keeps in memory is
rebuilt from the store after a restart: a message that was in flight then is simply open, and is delivered again.

The order that keeps the promise: a message is shown to a consumer only after it is durable (``arrived`` is called after
the commit), and its place in the window is free at the ack, but an ack is answered only when it is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trishula.errors import MailboxBusy, MessageUnknown, StorageFailed, StorageFull
from trishula.names import Address
from trishula_router.clock import Clock
from trishula_router.lifecycle import Dead, Entry, after_failure, after_lost_session
from trishula_router.mailbox import Mailbox
from trishula_router.options import DeliveryPolicy
from trishula_router.store.interface import MailboxSize, Return, State, Store

__all__ = ["Delivery", "News", "Outlet"]

log = Logger()

#: Bodies of waiting messages kept in memory over all mailboxes; beyond it they are read from the store when their turn
#: comes, so that a million waiting messages cost disk and not memory.
BODY_CACHE_BYTES = 32 * 1024 * 1024

#: One event carries at most so much: below the 16 MiB a WebSocket message may have, and small enough that an urgent
#: message doesn't wait behind it for long.
EVENT_LIMIT_BYTES = 1024 * 1024

#: How long what the store could not settle or read stays out of the way, so that a full disk is no busy loop.
STORE_RETRY_MS = 5000


@dataclass(frozen=True, slots=True)
class News:
    """What became of a message, for its sender. ``at`` in ms."""

    sender: str
    id: str
    recipient: str
    state: str
    at: int
    reason: str | None = None


class Outlet(Protocol):
    """Where delivery speaks to the outside."""

    def push(self, address: Address, session: int, deliveries: list[dict[str, Any]]) -> None:
        """Send deliveries to a consumer; they may get lost on the way."""

    def tell(self, news: Iterable[News]) -> None:
        """Tell senders, if they listen."""


@dataclass(slots=True)
class _Consumer:
    session: int
    window: int
    held: int = 0
    loading: bool = False


@dataclass(slots=True)
class _Lease:
    """A held message: whose it is, and until when (seconds of the clock)."""

    entry: Entry
    mailbox: Mailbox
    session: int
    until_s: float
    settling: bool = False


@dataclass(slots=True)
class _Waiter:
    """A ``fetch`` that waits for a message."""

    session: int
    room: int
    answer: Deferred[list[dict[str, Any]]] = field(default_factory=Deferred)


class Delivery:
    """All mailboxes of a node and who consumes them.

    Args:
        store: what is durable.
        policy: windows, leases, attempts.
        outlet: where deliveries and news go.
        clock: timers and leases.
        now: the wall clock in ms, for what is written down.
        random: spreads pauses.
    """

    def __init__(
        self,
        store: Store,
        policy: DeliveryPolicy,
        outlet: Outlet,
        *,
        clock: Clock,
        now: Callable[[], int],
        random: Callable[[], float],
    ) -> None:
        self._store = store
        self._policy = policy
        self._outlet = outlet
        self._clock = clock
        self._now = now
        self._random = random
        self._mailboxes: dict[str, Mailbox] = {}
        self._consumers: dict[str, _Consumer] = {}
        self._waiters: dict[str, list[_Waiter]] = {}
        self._leases: dict[int, _Lease] = {}
        self._refilling: dict[str, list[Deferred[None]]] = {}
        self._cached_bytes = 0

    def load(self, sizes: Mapping[str, MailboxSize]) -> None:
        """Take over what an earlier run of the node left open."""
        for address, size in sizes.items():
            self._mailboxes[address] = Mailbox(address, open_messages=size.messages, open_bytes=size.size_bytes)

    def mailbox(self, address: str) -> Mailbox:
        """The mailbox of an address, made on first use."""
        mailbox = self._mailboxes.get(address)
        if mailbox is None:
            mailbox = self._mailboxes[address] = Mailbox(address)
        return mailbox

    def counts(self, address: str) -> tuple[int, int]:
        """(pending, in flight) of an address."""
        mailbox = self._mailboxes.get(address)
        return (0, 0) if mailbox is None else (mailbox.open_messages - len(mailbox.held), len(mailbox.held))

    def totals(self) -> tuple[int, int]:
        """(pending, in flight) of the whole node."""
        held = sum(len(mailbox.held) for mailbox in self._mailboxes.values())
        return sum(mailbox.open_messages for mailbox in self._mailboxes.values()) - held, held

    # -- in: messages that became durable ------------------------------------------------------------------------------

    def arrived(self, entries: Iterable[Entry]) -> None:
        """Messages are durable now (and were reserved): deliver them when their turn comes."""
        touched: dict[str, Mailbox] = {}
        for entry in entries:
            mailbox = touched.get(entry.recipient)
            if mailbox is None:
                mailbox = touched[entry.recipient] = self.mailbox(entry.recipient)
            if self._cached_bytes + entry.size_bytes > BODY_CACHE_BYTES:
                entry.wire = None
            else:
                self._cached_bytes += entry.size_bytes
            for dropped in mailbox.add(entry):
                self._forget_body(dropped)
        for mailbox in touched.values():
            self._pump(mailbox)

    # -- out: to consumers ---------------------------------------------------------------------------------------------

    def attach(self, address: Address, session: int, window: int) -> int | None:
        """Push the mailbox's messages to a session from now on.

        Returns:
            the session that was consuming it until now, which is to be closed, or ``None``.
        """
        name = str(address)
        before = self._consumers.get(name)
        if before is not None and before.session != session:
            self._lost(before.session, name)
        held = sum(
            1
            for position in self.mailbox(name).held
            if (lease := self._leases.get(position)) is not None and lease.session == session and not lease.settling
        )
        self._consumers[name] = _Consumer(session, window, held)
        self._pump(self.mailbox(name))
        return before.session if before is not None and before.session != session else None

    def consumer(self, address: str) -> int | None:
        """The session that is pushed an address's messages."""
        consumer = self._consumers.get(address)
        return None if consumer is None else consumer.session

    async def fetch(self, address: Address, session: int, room: int, wait_s: float) -> list[dict[str, Any]]:
        """Pull messages: what is there, or, if nothing is, what comes within ``wait_s``.

        Raises:
            MailboxBusy: another session is attached to the mailbox.
        """
        name = str(address)
        consumer = self._consumers.get(name)
        if consumer is not None and consumer.session != session:
            raise MailboxBusy(
                f"the mailbox of {name} is being pushed to session {consumer.session}; stop that agent, or fetch for "
                "an instance of your own"
            )
        mailbox = self.mailbox(name)
        deliveries = await self._serve(mailbox, session, room)
        if deliveries or wait_s <= 0:
            return deliveries
        waiter = _Waiter(session, room)
        self._waiters.setdefault(name, []).append(waiter)
        timeout = self._clock.callLater(wait_s, self._end_wait, name, waiter)
        try:
            return await waiter.answer
        finally:
            if timeout.active():
                timeout.cancel()

    def _end_wait(self, name: str, waiter: _Waiter) -> None:
        waiters = self._waiters.get(name, [])
        if waiter in waiters:
            waiters.remove(waiter)
            waiter.answer.callback([])

    async def _serve(self, mailbox: Mailbox, session: int, room: int) -> list[dict[str, Any]]:
        while mailbox.wants_refill:
            await self._refill(mailbox)
        entries = await self._with_bodies(mailbox, self._take(mailbox, room))
        return self._hand_over(mailbox, session, entries)

    def _pump(self, mailbox: Mailbox) -> None:
        """Deliver what can be delivered now."""
        name = mailbox.address
        consumer = self._consumers.get(name)
        if consumer is not None:
            self._pump_to(mailbox, consumer)
        elif self._waiters.get(name):
            waiter = self._waiters[name].pop(0)
            Deferred.fromCoroutine(self._serve(mailbox, waiter.session, waiter.room)).addCallbacks(
                lambda deliveries: self._answer_waiter(mailbox, waiter, deliveries), waiter.answer.errback
            )
        if mailbox.wants_refill and name not in self._refilling and (consumer is not None or self._waiters.get(name)):
            _run(self._refill_and_pump(mailbox))

    def _answer_waiter(self, mailbox: Mailbox, waiter: _Waiter, deliveries: list[dict[str, Any]]) -> None:
        if deliveries:
            waiter.answer.callback(deliveries)
        else:
            # What woke it was taken by another, or its time was over: it goes on waiting, in its old place.
            self._waiters.setdefault(mailbox.address, []).insert(0, waiter)

    def _pump_to(self, mailbox: Mailbox, consumer: _Consumer) -> None:
        if consumer.loading or consumer.held >= consumer.window:
            return
        entries = self._take(mailbox, consumer.window - consumer.held)
        if not entries:
            return
        consumer.held += len(entries)
        if all(entry.wire is not None for entry in entries):
            self._push(mailbox, consumer, entries)
        else:
            consumer.loading = True
            _run(self._load_and_push(mailbox, consumer, entries))

    async def _load_and_push(self, mailbox: Mailbox, consumer: _Consumer, entries: list[Entry]) -> None:
        try:
            loaded = await self._with_bodies(mailbox, entries)
        finally:
            consumer.loading = False
        consumer.held -= len(entries) - len(loaded)
        if self._consumers.get(mailbox.address) is consumer:
            self._push(mailbox, consumer, loaded)
        else:
            self._put_back(loaded, 0)
        self._pump(mailbox)

    def _push(self, mailbox: Mailbox, consumer: _Consumer, entries: list[Entry]) -> None:
        if not entries:
            return
        deliveries = self._hand_over(mailbox, consumer.session, entries)
        address = Address.parse(mailbox.address)
        start, size = 0, 0
        for index, entry in enumerate(entries):
            if size + entry.size_bytes > EVENT_LIMIT_BYTES and index > start:
                self._outlet.push(address, consumer.session, deliveries[start:index])
                start, size = index, 0
            size += entry.size_bytes
        self._outlet.push(address, consumer.session, deliveries[start:])

    def _take(self, mailbox: Mailbox, room: int) -> list[Entry]:
        taken = mailbox.take(room, self._now())
        if taken.expired:
            self._settle_later(mailbox, taken.expired, State.EXPIRED, "its time to live was over")
        return taken.ready

    async def _with_bodies(self, mailbox: Mailbox, entries: list[Entry]) -> list[Entry]:
        """The same entries, with their bodies; one whose body the store has lost is dead."""
        missing = [entry for entry in entries if entry.wire is None]
        if not missing:
            return entries
        try:
            bodies = await self._store.bodies([entry.position for entry in missing])
        except (StorageFull, StorageFailed):
            self._put_back(entries, STORE_RETRY_MS)
            raise
        for entry in missing:
            if entry.position in bodies:
                entry.wire = msgspec.json.decode(bodies[entry.position])
                self._cached_bytes += entry.size_bytes
        lost = [entry for entry in missing if entry.wire is None]
        if lost:
            self._settle_later(mailbox, lost, State.DEAD, "its body is missing from the node's store")
        return [entry for entry in entries if entry.wire is not None]

    def _put_back(self, entries: Iterable[Entry], pause_ms: int) -> None:
        """Held messages wait again, although nothing happened to them that counts."""
        for entry in entries:
            self._leases.pop(entry.position, None)
            self._forget_body(entry)
            mailbox = self.mailbox(entry.recipient)
            if entry.position in mailbox.held:
                mailbox.give_back(entry, self._now() + pause_ms if pause_ms else 0)

    def _hand_over(self, mailbox: Mailbox, session: int, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """Count the attempt, start the lease, note the delivery; returns what travels."""
        if not entries:
            return []
        until_s = self._clock.seconds() + self._policy.lease_s
        now = self._now()
        deliveries = []
        for entry in entries:
            entry.attempts += 1
            self._leases[entry.position] = _Lease(entry, mailbox, session, until_s)
            token = f"{entry.position}.{entry.attempts}"
            deliveries.append({"message": entry.wire, "attempt": entry.attempts, "token": token})
            self._forget_body(entry)
        noted = self._store.deliver(
            [(entry.position, entry.attempts) for entry in entries], {"to": mailbox.address, "session": session}, now
        )
        noted.addErrback(lambda failure: log.failure("a delivery could not be noted", failure))
        self._outlet.tell(News(e.sender, e.id, e.recipient, "delivered", now) for e in entries)
        return deliveries

    def _forget_body(self, entry: Entry) -> None:
        if entry.wire is not None:
            entry.wire = None
            self._cached_bytes -= entry.size_bytes

    async def _refill_and_pump(self, mailbox: Mailbox) -> None:
        await self._refill(mailbox)
        self._pump(mailbox)

    async def _refill(self, mailbox: Mailbox) -> None:
        """Read on in the store; if that is being done already, wait until it is."""
        name = mailbox.address
        if name in self._refilling:
            done: Deferred[None] = Deferred()
            self._refilling[name].append(done)
            return await done
        self._refilling[name] = []
        try:
            after, limit = mailbox.begin_refill()
            stored = await self._store.head(name, after, limit)
            mailbox.refill([Entry.of(message) for message in stored], limit)
        finally:
            for done in self._refilling.pop(name):
                done.callback(None)

    # -- back: settled, given back, or lost ----------------------------------------------------------------------------

    async def ack(self, agent: str, tokens: Sequence[int]) -> list[bool]:
        """Messages are done.

        Also those that this node doesn't hold for the agent any more (its session was lost, the lease ran out, the node
        was restarted): that the work was done is true whoever holds the message now.

        Args:
            agent: who says so.
            tokens: positions.

        Returns:
            for each, whether it is a message to the agent; it is done then, durably.
        """
        known: dict[int, Entry | None] = {}
        for position in tokens:
            entry = self._release(agent, position)
            if entry is not None:
                known[position] = entry
        elsewhere = [position for position in tokens if position not in known]
        if elsewhere:
            known |= await self._find(agent, elsewhere)
        entries = [entry for entry in known.values() if entry is not None]
        await self._settle(entries, State.DONE, None)
        return [position in known for position in tokens]

    def _release(self, agent: str, position: int) -> Entry | None:
        """Take a held message of the agent's out of its window, to settle it."""
        lease = self._leases.get(position)
        if lease is None or lease.settling or not _is_of(agent, lease.entry.recipient):
            return None
        lease.settling = True
        self._free(lease)
        return lease.entry

    def _free(self, lease: _Lease) -> None:
        consumer = self._consumers.get(lease.mailbox.address)
        if consumer is not None and consumer.session == lease.session:
            consumer.held -= 1

    async def _find(self, agent: str, positions: Sequence[int]) -> dict[int, Entry | None]:
        """Messages of the agent's that it doesn't hold: ``None`` for those that are done or being settled."""
        found: dict[int, Entry | None] = {}
        for position, stored in (await self._store.at_positions(positions)).items():
            if not _is_of(agent, stored.recipient):
                continue
            lease = self._leases.get(position)
            if stored.state is State.DONE or (lease is not None and lease.settling):
                found[position] = None
                continue
            entry = self._release(agent, position) or self.mailbox(stored.recipient).hold(position) or Entry.of(stored)
            found[position] = entry
            if stored.state is State.OPEN:
                self._mark_settling(entry)
        return found

    def _mark_settling(self, entry: Entry) -> None:
        mailbox = self.mailbox(entry.recipient)
        mailbox.held.setdefault(entry.position, entry)
        if entry.position not in self._leases:
            self._leases[entry.position] = _Lease(entry, mailbox, 0, float("inf"), settling=True)

    async def _settle(self, entries: Sequence[Entry], state: State, reason: str | None) -> None:
        """Bring held messages to a final state, durably; then make room and tell the senders."""
        if not entries:
            return
        for mailbox in {entry.recipient: self.mailbox(entry.recipient) for entry in entries}.values():
            self._pump(mailbox)
        now = self._now()
        try:
            await self._store.settle([entry.position for entry in entries], state, reason, now)
        except (StorageFull, StorageFailed):
            # Nothing was settled, so all of it is still open and is delivered again: the receiver knows the ids.
            self._put_back(entries, STORE_RETRY_MS)
            raise
        for entry in entries:
            self._leases.pop(entry.position, None)
            self._forget_body(entry)
            self.mailbox(entry.recipient).settled(entry)
        word = state.name.lower()
        self._outlet.tell(News(e.sender, e.id, e.recipient, word, now, reason) for e in entries)

    def _settle_later(self, mailbox: Mailbox, entries: Sequence[Entry], state: State, reason: str) -> None:
        for entry in entries:
            self._mark_settling(entry)
        _run(self._settle(entries, state, reason))

    async def nack(self, agent: str, refused: Sequence[tuple[int, str, bool]]) -> list[bool]:
        """Attempts failed: (position, reason, requeue) each.

        Returns:
            for each, whether the agent held it; if not, it was settled or given back before, and nothing is changed.
        """
        outcome = []
        for position, reason, requeue in refused:
            entry = self._release(agent, position)
            outcome.append(entry is not None)
            if entry is not None:
                await self._conclude([entry], reason, requeue=requeue)
        return outcome

    async def _conclude(self, entries: Sequence[Entry], reason: str, *, requeue: bool) -> None:
        now = self._now()
        decided = [
            (e, after_failure(e, reason, requeue=requeue, now=now, policy=self._policy, random=self._random))
            for e in entries
        ]
        await self._carry_out(decided, reason, now)

    async def _carry_out(self, decided: Sequence[tuple[Entry, Return | Dead]], reason: str, now: int) -> None:
        returns = [(entry, decision) for entry, decision in decided if isinstance(decision, Return)]
        # Lost sessions that cost nothing and are due at once need no record: that they are open says it all.
        noteworthy = [r for e, r in returns if r.failures != e.failures]
        touched = set()
        for entry, back in returns:
            lease = self._leases.pop(entry.position)
            entry.failures = back.failures
            lease.mailbox.give_back(entry, back.due_at if back.due_at > now else 0)
            touched.add(lease.mailbox.address)
        for address in touched:
            self._pump(self.mailbox(address))
        if noteworthy:
            await self._store.give_back(noteworthy, reason, now)
        for entry, decision in decided:
            if isinstance(decision, Dead):
                await self._settle([entry], State.DEAD, decision.reason)

    def working(self, agent: str, position: int, for_s: float) -> int:
        """Extend the lease of a message to ``for_s`` from now; returns its new end in ms.

        Raises:
            MessageUnknown: the agent doesn't hold it (any more).
        """
        lease = self._leases.get(position)
        if lease is None or lease.settling or not _is_of(agent, lease.entry.recipient):
            raise MessageUnknown(
                f"token {position} is of no message that {agent} holds; it was settled, or given to another session "
                "after its lease ran out"
            )
        lease.until_s = self._clock.seconds() + for_s
        return self._now() + int(for_s * 1000)

    async def cancel(self, positions: Sequence[int]) -> list[bool]:
        """Cancel messages that are not settled; the caller has checked whose they are. Returns which were cancelled."""
        stored = await self._store.at_positions(positions)
        entries: dict[int, Entry] = {}
        for position, message in stored.items():
            lease = self._leases.get(position)
            if message.state is not State.OPEN or (lease is not None and lease.settling):
                continue
            if lease is not None:
                lease.settling = True
                self._free(lease)
                entries[position] = lease.entry
            else:
                entry = self.mailbox(message.recipient).hold(position) or Entry.of(message)
                self._mark_settling(entry)
                entries[position] = entry
        await self._settle(list(entries.values()), State.CANCELLED, "cancelled by its sender")
        return [position in entries for position in positions]

    def session_left(self, session: int) -> None:
        """A session is gone: what it held goes back, what it waited for doesn't come."""
        for name in [name for name, consumer in self._consumers.items() if consumer.session == session]:
            del self._consumers[name]
        for name, waiters in self._waiters.items():
            for waiter in [waiter for waiter in waiters if waiter.session == session]:
                self._end_wait(name, waiter)
        self._lost(session, None)

    def _lost(self, session: int, name: str | None) -> None:
        """Give back what a session held (of one address, or of all)."""
        now = self._now()
        decided = []
        for lease in self._leases.values():
            if lease.session == session and not lease.settling and (name is None or lease.mailbox.address == name):
                decision = after_lost_session(lease.entry, now=now, policy=self._policy)
                lease.settling = isinstance(decision, Dead)
                decided.append((lease.entry, decision))
        if name is not None:
            self._consumers.pop(name, None)
        if decided:
            _run(self._carry_out(decided, "its session was lost", now))

    # -- time ----------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """What time does: leases that ran out, pauses that are over. To be called a few times a second."""
        clock_s = self._clock.seconds()
        overdue = [lease for lease in self._leases.values() if lease.until_s <= clock_s and not lease.settling]
        for lease in overdue:
            lease.settling = True
            self._free(lease)
        if overdue:
            _run(self._conclude([lease.entry for lease in overdue], "no ack came within its lease", requeue=True))
        for name in [*self._consumers, *self._waiters]:
            self._pump(self.mailbox(name))

    async def expire(self, limit: int = 1000) -> int:
        """Settle messages whose time is over, also those that nobody asks for; returns how many."""
        over = await self._store.at_positions(await self._store.expired(self._now(), limit))
        entries = []
        for message in over.values():
            if message.state is State.OPEN and message.position not in self._leases:
                entry = self.mailbox(message.recipient).hold(message.position) or Entry.of(message)
                self._mark_settling(entry)
                entries.append(entry)
        await self._settle(entries, State.EXPIRED, "its time to live was over")
        return len(entries)

    async def close_mailbox(self, address: str, reason: str) -> None:
        """Expire all that is open for an address that is gone for good."""
        while stored := await self._store.head(address, (0, 0), 1000):
            entries = []
            for message in stored:
                lease = self._leases.get(message.position)
                if lease is not None and lease.settling:
                    continue
                entry = self.mailbox(address).hold(message.position) or Entry.of(message)
                self._mark_settling(entry)
                self._leases[message.position].settling = True
                entries.append(entry)
            if not entries:
                break
            await self._settle(entries, State.EXPIRED, reason)
        mailbox = self._mailboxes.get(address)
        if mailbox is not None and mailbox.is_empty:
            del self._mailboxes[address]


def _is_of(agent: str, recipient: str) -> bool:
    return recipient == agent or recipient.startswith(agent + "/")


def _run(work: Any) -> None:
    """Let a coroutine go its way; a fault in it is the node's, so it is logged and the node goes on."""
    Deferred.fromCoroutine(work).addErrback(lambda failure: log.failure("delivery failed", failure))
