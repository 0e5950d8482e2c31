"""Delivery: messages go from mailboxes to the sessions that consume them.

An address of an agent or an instance has at most one *consumer* that is pushed to (``attach``), with a window of
unacknowledged messages; any session of the agent may pull (``fetch``) while nobody is attached. The mailbox of a
capability has none of its own: its messages are shared out among the consumers of agents that announced it
(:mod:`trishula_router.mail.sharing`), or handed over to a node that has some (:mod:`trishula_router.mail.handover`). A
message that went out is under a lease; how it comes back is ``settlement``'s part.

The order that keeps the promise: a message is shown to a consumer only after the message is durable
(:meth:`.Mailroom.arrived` is called after the commit, and wakes the delivery). An event may get lost on the way to its
consumer; then no ack comes, and the lease brings the message back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from trishula.contract.addresses import Address, is_capability
from trishula.errors import MailboxBusy, StorageFailed, StorageFull
from trishula_router.agents.consumers import Consumer, Consumers
from trishula_router.agents.lives import Life
from trishula_router.agents.patience import Patience
from trishula_router.background import run
from trishula_router.clocks.clock import Clock
from trishula_router.mail.entry import Entry
from trishula_router.mail.fetching import Fetch, Fetches
from trishula_router.mail.handover import BATCH, Handover
from trishula_router.mail.lender import Lender
from trishula_router.mail.loader import Loader
from trishula_router.mail.mailbox import Mailbox
from trishula_router.mail.mailroom import Mailroom
from trishula_router.mail.outlet import News, Outlet
from trishula_router.mail.parcels import ROOM_BYTES, parcels
from trishula_router.mail.settlement import STORE_RETRY_MS, Settlement
from trishula_router.mail.sharing import Candidate, share_out
from trishula_router.settings.options import DeliveryPolicy
from trishula_router.store.interface import Store

__all__ = ["Delivery"]

#: How long a message that must be out alone waits for another such one, before it is looked at again.
SUSPECT_PAUSE_MS = 1000


class Delivery:
    """Who consumes which mailbox, and what goes out to them.

    Args:
        mailroom: what waits and what is out.
        store: what is durable.
        consumers: who is pushed what.
        settlement: ends messages that can't go out.
        policy: windows and leases.
        outlet: where deliveries and news go.
        able: who is present and announced a capability, with its load.
        handover: gives messages to a capability to another node.
        clock: timers and leases.
        now: the wall clock in ms, for what is written down.
    """

    def __init__(
        self,
        mailroom: Mailroom,
        store: Store,
        consumers: Consumers,
        settlement: Settlement,
        policy: DeliveryPolicy,
        outlet: Outlet,
        *,
        able: Callable[[str], Mapping[str, float]],
        handover: Handover,
        clock: Clock,
        now: Callable[[], int],
    ) -> None:
        self._mailroom = mailroom
        self._consumers = consumers
        self._settlement = settlement
        self.loader = Loader(mailroom, store, settlement, round(policy.backoff.cap_s * 1000), now)
        self.lender = Lender(mailroom, store, policy.lease_s, clock, now, consumers.takes_binary)
        self._outlet = outlet
        self._able = able
        self._handover = handover
        self._clock = clock
        self._now = now
        self.fetches = Fetches()
        #: Takes an address that nobody here consumes: its agent may be at another cell.
        self.onward: Callable[[str], None] = lambda address: None
        # Addresses for which bodies are being read. Nothing further is pushed there until they are, to whomever: a
        # newer session that takes over in the meantime would get the later messages first.
        self._loading: set[str] = set()
        self._to_pump: set[str] = set()
        self._held_back: set[str] = set()
        mailroom.wakes(self.pump_soon)

    def hold_back(self, why: str) -> None:
        """Let nothing go out until :meth:`let_go` was called for that reason and all others."""
        self._held_back.add(why)

    @property
    def is_held_back(self) -> bool:
        """Whether nothing goes out yet."""
        return bool(self._held_back)

    def let_go(self, why: str) -> None:
        """Deliver from now on, as far as it was held back for that reason."""
        if why in self._held_back:
            self._held_back.discard(why)
            self.pump_all()

    # -- consumers -----------------------------------------------------------------------------------------------------

    def attach(
        self,
        address: Address,
        session: int,
        window: int,
        capabilities: tuple[str, ...] = (),
        life: Life | None = None,
    ) -> int | None:
        """Push the mailbox's messages to a session from now on, and those to what it can do.

        Args:
            life: what the client tells of its process.

        Returns:
            the session that was consuming it until now, which is to be closed, or ``None``.
        """
        name = str(address)
        consumer, before = self._consumers.attach(name, session, window, capabilities, life, self._clock.seconds())
        if before is not None:
            self._settlement.lost(before.session, name)
        self._settlement.met(name, life)
        if life is not None and life.begun:
            # Up to a window of names; nobody asks for them again.
            consumer.life = replace(life, begun=frozenset())
        self.pump(name)
        return None if before is None else before.session

    def session_left(self, session: int) -> None:
        """A session is gone: what it held waits again, what it waited for doesn't come."""
        self.fetches.left(session)
        self._settlement.lost(session)

    async def fetch(
        self,
        address: Address,
        session: int,
        room: int,
        wait_s: float,
        run: str | None = None,
        patience: Patience | None = None,
    ) -> list[dict[str, Any]]:
        """Pull messages: what is there, or, if nothing is, what comes within ``wait_s``.

        Args:
            run: names this run of the client's process.
            patience: tells when whoever asks has given up; nothing is taken for it then.

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
        self._settlement.fetching(name, run)
        fetch = Fetch(name, session, room, run)
        self.fetches.begin(fetch)
        if patience is not None:
            patience.when_over(lambda: self.fetches.give_up(fetch))
        try:
            deliveries = await self._serve(fetch)
            if deliveries or wait_s <= 0 or fetch.over:
                return deliveries
            self.fetches.wait(fetch, first=False)
            timeout = self._clock.callLater(wait_s, self.fetches.end_wait, fetch)
            try:
                return await fetch.answer
            finally:
                if timeout.active():
                    timeout.cancel()
        finally:
            self.fetches.end(fetch)

    async def _serve(self, fetch: Fetch) -> list[dict[str, Any]]:
        if self._held_back:
            return []
        mailbox = self._mailroom.mailbox(fetch.address)
        while mailbox.wants_refill:
            await self.loader.refill(mailbox)
        if self._held_back:
            # Since then.
            return []
        # The answer is one WebSocket message: over the client's limit it would end its session, again and again.
        entries = await self.loader.with_bodies(self._take(mailbox, fetch.room, ROOM_BYTES))
        fitting = 0 if fetch.gone else next(iter(_parcels(entries)), 0)
        if fitting < len(entries):
            self._mailroom.put_back(entries[fitting:], 0)
            self.pump_soon(fetch.address)
            entries = entries[:fitting]
        if not entries:
            return []
        return self._hand_over(fetch.address, fetch.session, None, fetch.run, entries)

    # -- the pump ------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Pauses that are over, and messages to capabilities that somebody may have come for: a few times a second."""
        for name in {*self._mailroom.pauses_over(self._now()), *self._mailroom.capabilities()}:
            self.pump(name)

    def pump_all(self) -> None:
        """Deliver whatever can be delivered now, to whomever."""
        for name in {*self._consumers.addresses(), *self.fetches.awaited(), *self._mailroom.capabilities()}:
            self.pump(name)

    def pump_soon(self, address: str) -> None:
        """Deliver what can be delivered at the end of this turn of the reactor.

        One commit makes the sends of many calls durable; what arrives with it goes out in one event, and comes back in
        one ack. A call costs the router as much as twenty messages, so this is what bounds the throughput.
        """
        if not self._to_pump:
            self._clock.callLater(0, self._pump_those)
        self._to_pump.add(address)

    def _pump_those(self) -> None:
        addresses, self._to_pump = self._to_pump, set()
        for address in addresses:
            self.pump(address)

    def pump(self, address: str) -> None:
        """Deliver what can be delivered now."""
        if self._held_back:
            return
        if is_capability(address):
            self._pump_capability(address)
            return
        consumer, is_awaited = self._consumers.get(address), self.fetches.is_awaited(address)
        if consumer is None and not is_awaited:
            self.onward(address)
            return
        mailbox = self._mailroom.mailbox(address)
        if consumer is not None:
            self._pump_to(mailbox, consumer)
        else:
            run(self._serve_waiter(self.fetches.next(address)))
        self._refill_soon(mailbox)
        if consumer is not None:
            for capability in consumer.capabilities:
                self._pump_capability(str(Address("", None, capability)))

    def _pump_capability(self, address: str) -> None:
        if not self._mailroom.has(address) or address in self._loading:
            return
        mailbox = self._mailroom.mailbox(address)
        candidates = self._candidates(address)
        if not candidates:
            self._hand_over_to_another_node(mailbox)
            return
        room = sum(max(0, candidate.room) for candidate in candidates)
        if not room:
            return
        entries = self._take(mailbox, room)
        if all(entry.wire is not None for entry in entries):
            self._share_out(address, entries)
        else:
            self._loading.add(address)
            run(self._load_and_share_out(mailbox, entries))
        self._refill_soon(mailbox)

    def _hand_over_to_another_node(self, mailbox: Mailbox) -> None:
        node = self._handover.node_for(mailbox.address)
        if node is None:
            return
        entries = self._take(mailbox, BATCH)
        if entries:
            run(self._handover.hand(entries, node))
            self.pump_soon(mailbox.address)
        self._refill_soon(mailbox)

    async def _load_and_share_out(self, mailbox: Mailbox, entries: list[Entry]) -> None:
        try:
            loaded = await self.loader.with_bodies(entries)
        finally:
            self._loading.discard(mailbox.address)
        self._share_out(mailbox.address, loaded)
        self.pump(mailbox.address)

    def _candidates(self, address: str) -> list[Candidate]:
        """Who can take messages to a capability: now, or when there is room in its window."""
        able = self._able(Address.parse(address).capability or "")
        return [
            Candidate(consumer, self._mailroom.counts(agent)[0], load, [])
            for agent, load in able.items()
            if (consumer := self._consumers.get(agent)) is not None
            and Address.parse(address).capability in consumer.capabilities
        ]

    def _share_out(self, address: str, entries: Iterable[Entry]) -> None:
        candidates = self._candidates(address)
        self._mailroom.put_back(share_out(entries, candidates), 0)
        for candidate in candidates:
            self._push(candidate.consumer, candidate.share)

    async def _serve_waiter(self, fetch: Fetch) -> None:
        try:
            deliveries = await self._serve(fetch)
        except (StorageFull, StorageFailed):
            deliveries = []
        if deliveries:
            # There may be more, for the next one that waits.
            self.pump_soon(fetch.address)
        if deliveries or fetch.over:
            fetch.answer.callback(deliveries)
        else:
            # What woke it was taken by another, or its time to live was over: it goes on waiting, in its old place.
            self.fetches.wait(fetch, first=True)

    def _pump_to(self, mailbox: Mailbox, consumer: Consumer) -> None:
        if mailbox.address in self._loading or consumer.room <= 0:
            return
        limit_bytes = consumer.window_bytes - consumer.in_flight_bytes
        entries = self._take(mailbox, consumer.room, limit_bytes, consumer.urgent_room)
        if not entries:
            return
        if all(entry.wire is not None for entry in entries):
            self._push(consumer, entries)
        else:
            self._loading.add(mailbox.address)
            run(self._load_and_push(mailbox, consumer, entries))

    async def _load_and_push(self, mailbox: Mailbox, consumer: Consumer, entries: list[Entry]) -> None:
        consumer.coming += len(entries)
        try:
            loaded = await self.loader.with_bodies(entries)
        finally:
            self._loading.discard(mailbox.address)
            consumer.coming -= len(entries)
        if self._consumers.get(mailbox.address) is consumer:
            self._push(consumer, loaded)
        else:
            self._mailroom.put_back(loaded, 0)
        self.pump(mailbox.address)

    def _push(self, consumer: Consumer, entries: list[Entry]) -> None:
        suspects = [entry for entry in entries if entry.crashes and entry.is_suspect]
        if suspects:
            # One of them at a time, so that it is seen which one it is.
            later = {e.position for e in (suspects if self._mailroom.has_suspect(consumer) else suspects[1:])}
            self._mailroom.put_back([one for one in suspects if one.position in later], self._now() + SUSPECT_PAUSE_MS)
            entries = [entry for entry in entries if entry.position not in later]
            # There may be others in their stead.
            self.pump_soon(consumer.address)
        if not entries:
            return
        run = None if consumer.life is None else consumer.life.run
        counts = _parcels(entries)
        deliveries = self._hand_over(consumer.address, consumer.session, consumer, run, entries)
        address = Address.parse(consumer.address)
        start = 0
        for count in counts:
            self._outlet.push(address, consumer.session, deliveries[start : start + count])
            start += count

    def _take(self, mailbox: Mailbox, room: int, limit_bytes: int | None = None, urgent_room: int = 0) -> list[Entry]:
        taken = mailbox.take(room, self._now(), limit_bytes, urgent_room)
        if taken.expired:
            self._settlement.expire_soon(taken.expired)
        return taken.ready

    def _hand_over(
        self, holder: str, session: int, consumer: Consumer | None, run: str | None, entries: Sequence[Entry]
    ) -> list[dict[str, Any]]:
        deliveries = self.lender.lend(holder, session, consumer, run, entries)
        now = self._now()
        self._outlet.tell(News(e.sender, e.id, e.recipient, "delivered", now) for e in entries)
        return deliveries

    def _refill_soon(self, mailbox: Mailbox) -> None:
        if mailbox.wants_refill and not self.loader.is_refilling(mailbox.address):
            run(self._refill_and_pump(mailbox))

    async def _refill_and_pump(self, mailbox: Mailbox) -> None:
        try:
            await self.loader.refill(mailbox)
        except (StorageFull, StorageFailed):
            self._mailroom.pause(mailbox.address, self._now() + STORE_RETRY_MS)
            raise
        self.pump(mailbox.address)


def _parcels(entries: Sequence[Entry]) -> list[int]:
    return parcels([(entry.size_bytes, entry.wire) for entry in entries])
