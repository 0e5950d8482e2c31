"""Onward: takes messages out of mailboxes whose agents are at other cells, and settles them with what comes of them.

It stands where a consumer does: what it took is under a lease, so that nobody else delivers or ends it; but the lease
has no end of its own, no attempt is counted, and no delivery is on record until the other cell tells of one. Who
attaches here gets what is out at once (:meth:`Onward.take_back`), for that agent's home is here from then on; what
another cell does with its copy meanwhile is told apart by the agent's own memory of ids.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from trishula.contract.addresses import agent_of, is_capability
from trishula.contract.attached import attachment_of
from trishula.errors import MessageInvalid, StorageFailed, StorageFull
from trishula_router.background import run, together
from trishula_router.cells.forwards import Forward, Forwards
from trishula_router.cells.homes import Homes
from trishula_router.cells.letters import Ask, Letter, Mail, News
from trishula_router.clocks.clock import Clock
from trishula_router.mail.delivery import Delivery
from trishula_router.mail.entry import Entry
from trishula_router.mail.mailbox import Mailbox
from trishula_router.mail.mailroom import Lease, Mailroom
from trishula_router.mail.outlet import News as Told
from trishula_router.mail.outlet import Outlet
from trishula_router.mail.settlement import Settlement
from trishula_router.store.interface import Store
from trishula_router.store.messages import State
from trishula_router.store.signed_bodies import split_signature

__all__ = ["Onward", "reason_of"]

#: What is taken at a time.
_BATCH = 256
_BATCH_BYTES = 2 * 1024 * 1024
_LEAST_HOLD_S, _MOST_HOLD_S = 1.0, 30.0
#: The cell that has a message is the first to say that its time is over.
_EXPIRY_MS = 60_000

_to_json = msgspec.json.Encoder().encode


class Onward:
    """See the module's docstring.

    Args:
        cell: the own cell's name.
        homes: who is where.
        forwards: what is out.
        mailroom, store, delivery, settlement: the node's.
        is_consumed: whether an address is consumed in this cell.
        is_on: whether this node forwards.
        post: sends a letter: (cell, letter).
        look_up: has the road asked soon for the homes that are wanted.
        tell: takes news for senders.
        ticket: draws a ticket.
        clock: timers.
        now: the wall clock in ms.
    """

    def __init__(
        self,
        cell: str,
        homes: Homes,
        forwards: Forwards,
        mailroom: Mailroom,
        store: Store,
        delivery: Delivery,
        settlement: Settlement,
        *,
        is_consumed: Callable[[str], bool],
        is_on: Callable[[], bool],
        post: Callable[[str, Letter], None],
        look_up: Callable[[], None],
        outlet: Outlet,
        ticket: Callable[[], str],
        clock: Clock,
        now: Callable[[], int],
    ) -> None:
        self._cell = cell
        self._homes = homes
        self._forwards = forwards
        self._mailroom = mailroom
        self._store = store
        self._delivery = delivery
        self._settlement = settlement
        self._is_consumed = is_consumed
        self._is_on = is_on
        self._post = post
        self._look_up = look_up
        self._outlet = outlet
        self._ticket = ticket
        self._clock = clock
        self._now = now
        # Addresses for which bodies are being read: what comes after them goes after them.
        self._loading: set[str] = set()
        # By address whose mailbox at its cell took no more: (until when nothing is sent there, how long that was).
        self._held: dict[str, tuple[float, float]] = {}
        #: Since when mail waits for an address that nobody here consumes, for whatever reason.
        self.waiting: dict[str, float] = {}

    # -- out -----------------------------------------------------------------------------------------------------------

    def pump(self, address: str) -> None:
        """Send on what waits for an address that nobody at this node consumes, if it can go out."""
        if is_capability(address) or not self._is_on() or not self._mailroom.has(address):
            return
        mailbox = self._mailroom.mailbox(address)
        if mailbox.open_messages <= len(mailbox.in_flight):
            self.waiting.pop(address, None)
            return
        if self._is_consumed(address):
            self.waiting.pop(address, None)
            return
        # Also if its home is here: it may be another one by now.
        if self._homes.want(address, self._clock.seconds()):
            # The first message to an agent, and those behind it, don't wait for the next round.
            self._look_up()
        self.waiting.setdefault(address, self._clock.seconds())
        cell = self._homes.cell_of(address)
        if cell is None or cell == self._cell or address in self._loading or self._is_held(address):
            return
        room = min(self._forwards.room(cell), _BATCH)
        if not room:
            return
        taken = mailbox.take(room, self._now(), _BATCH_BYTES)
        if taken.expired:
            self._settlement.expire_soon(taken.expired)
        if taken.ready or mailbox.wants_refill:
            self._loading.add(address)
            run(self._send(mailbox, taken.ready, cell))

    def _is_held(self, address: str) -> bool:
        return self._held.get(address, (0.0, 0.0))[0] > self._clock.seconds()

    async def _send(self, mailbox: Mailbox, entries: list[Entry], cell: str) -> None:
        address = mailbox.address
        try:
            loaded = await self._delivery.loader.with_bodies(entries)
            if self._is_consumed(address) or not self._is_on():
                self._mailroom.put_back(loaded, 0)
                return
            now, now_s = self._now(), self._clock.seconds()
            for entry in loaded:
                self._send_one(entry, cell, now, now_s)
            self._homes.want(address, now_s)
            if mailbox.wants_refill:
                await self._delivery.loader.refill(mailbox)
        finally:
            self._loading.discard(address)
        if mailbox.open_messages > len(mailbox.in_flight):
            self._delivery.pump_soon(address)
        else:
            self.waiting.pop(address, None)

    def _send_one(self, entry: Entry, cell: str, now: int, now_s: float) -> None:
        wire = entry.wire or {}
        self._mailroom.leases[entry.position] = Lease(entry, None, None, float("inf"))
        if (why := _unfit(wire)) is not None:
            self._settlement.settle_soon([entry], State.DEAD, why)
            return
        key = entry.sender, entry.id, entry.recipient
        forward = self._forwards.begin(entry.position, key, cell, self._ticket(), entry.size_bytes, now_s)
        self._post(cell, _mail(forward, wire, entry.expires_at - now, entry.by_deadline))
        self._mailroom.forget_body(entry)

    async def send_again(self, forwards: Sequence[Forward]) -> None:
        """Send messages once more whose first sending came to nothing, as far as is known."""
        if not forwards:
            return
        try:
            bodies = await self._store.bodies([forward.position for forward in forwards])
        except (StorageFull, StorageFailed):
            return
        now = self._now()
        for forward in forwards:
            lease, body = self._mailroom.leases.get(forward.position), bodies.get(forward.position)
            if self._forwards.get(forward.position) is not forward or lease is None or lease.settling:
                continue
            if body is None:
                # Whoever gives it back reads it again, and says what is wrong.
                self.take_back([forward])
            elif lease.entry.expires_at <= now:
                self._forwards.drop(forward)
                self._settlement.expire_soon([lease.entry])
            else:
                wire: dict[str, Any] = msgspec.json.decode(body)
                left_ms = lease.entry.expires_at - now
                self._post(forward.cell, _mail(forward, wire, left_ms, lease.entry.by_deadline))

    def ask(self, forwards: Iterable[Forward]) -> None:
        """Ask how messages stand at their cells; what a cell that is gone for good has had ends with its time."""
        for forward in forwards:
            lease = self._mailroom.leases.get(forward.position)
            if lease is not None and not lease.settling and lease.entry.expires_at + _EXPIRY_MS <= self._now():
                self._forwards.drop(forward)
                self._settlement.expire_soon([lease.entry])
                continue
            sender, message_id, to = forward.key
            self._post(forward.cell, Ask(ticket=forward.ticket, sender=sender, id=message_id, to=to))

    # -- back ----------------------------------------------------------------------------------------------------------

    def take_back(self, forwards: Iterable[Forward], hold_s: float = 0.0) -> None:
        """Have messages that are out wait in their mailboxes again: for ``hold_s``, or for whoever is next at once."""
        for forward in forwards:
            self._forwards.drop(forward)
            lease = self._mailroom.leases.get(forward.position)
            if lease is not None and not lease.settling:
                self._mailroom.put_back([lease.entry], 0)
            if not hold_s:
                self._delivery.pump_soon(forward.key[2])

    def put_off(self, forward: Forward, retry_s: float | None) -> None:
        """Its mailbox at the other cell takes no more just now: nothing is sent there for a while."""
        address, now_s = forward.key[2], self._clock.seconds()
        _, before_s = self._held.get(address, (0.0, 0.0))
        if not self._is_held(address):
            hold_s = min(max(retry_s or 0.0, _LEAST_HOLD_S, 2 * before_s), _MOST_HOLD_S)
            self._held[address] = now_s + hold_s, hold_s
            self._clock.callLater(hold_s, self._delivery.pump_soon, address)
        self.take_back([forward], hold_s=1.0)

    def goes_well(self, address: str) -> None:
        """The other cell takes messages for an address."""
        self._held.pop(address, None)

    async def done(self, those: Iterable[tuple[int, str]]) -> None:
        """Messages, (position, address) each, are done at other cells: so they are here, all by one settlement."""
        held, others = [], dict[str, list[int]]()
        for position, to in those:
            lease = self._mailroom.leases.get(position)
            if lease is None or lease.settling:
                # Taken back since, or somebody settles it: that it is done is true all the same.
                others.setdefault(agent_of(to), []).append(position)
            else:
                held.append(self._mailroom.withdraw(lease.entry))
        steps: list[Coroutine[Deferred[Any], Any, Any]] = (
            [self._settlement.settle(held, State.DONE, None)] if held else []
        )
        steps += [self._settlement.ack(agent, positions) for agent, positions in others.items()]
        await together(steps)

    async def ended(self, position: int, state: str, reason: str | None) -> None:
        """A message ended at another cell, and was not done: so it does here."""
        lease = self._mailroom.leases.get(position)
        if lease is None or lease.settling:
            # Whoever settles it knows better, and what waits again is sent again, and told again.
            return
        end = State[state.upper()] if state != "refused" else State.DEAD
        await self._settlement.settle([self._mailroom.withdraw(lease.entry)], end, reason)

    async def delivered(self, forwards: Iterable[Forward]) -> None:
        """Agents have messages at their cells."""
        now = self._now()
        by_address: dict[str, list[Forward]] = {}
        for forward in forwards:
            lease = self._mailroom.leases.get(forward.position)
            if lease is not None and not lease.settling:
                lease.entry.attempts = max(1, lease.entry.attempts)
                by_address.setdefault(forward.key[2], []).append(forward)
        await together(self._delivered(address, those, now) for address, those in by_address.items())

    async def _delivered(self, address: str, forwards: Sequence[Forward], now: int) -> None:
        leases = self._mailroom.leases
        attempts = [(forward.position, leases[forward.position].entry.attempts) for forward in forwards]
        await self._store.deliver(attempts, address, None, now)
        self._outlet.tell([Told(*forward.key, "delivered", now) for forward in forwards])

    async def surfaced(self, forward: Forward) -> None:
        """A message was put into a model's context at its cell."""
        now = self._now()
        sender, message_id, to = forward.key
        first = await self._store.surface([(forward.position, 1)], to, None, now)
        if first:
            self._mailroom.surfaced(forward.position, now)
            self._outlet.tell([Told(sender, message_id, to, "surfaced", now)])


def reason_of(news: News, cell: str) -> str | None:
    """The reason to settle a message with that was not done."""
    if news.state == "refused":
        return f"the cell {cell} does not take it: {news.reason or 'it says no more'}"
    return news.reason


def _mail(forward: Forward, wire: dict[str, Any], left_ms: int, by_deadline: bool) -> Mail:
    message, beside = split_signature(wire)
    sender, message_id, to = forward.key
    return Mail(
        ticket=forward.ticket,
        sender=sender,
        id=message_id,
        to=to,
        left_ms=left_ms,
        envelope=_to_json(message),
        by_deadline=by_deadline,
        signature=str(beside.get("signature", "")),
    )


def _unfit(wire: dict[str, Any]) -> str | None:
    """Why a message can't go to another cell; ``None`` if it can."""
    try:
        attachment = attachment_of(wire.get("payload"))
    except MessageInvalid:
        return None
    if attachment is None:
        return None
    return (
        "it names an attachment, which does not travel to other cells, and its recipient is at another one; send it "
        "where the recipient can fetch it, or put what is needed into the payload"
    )
