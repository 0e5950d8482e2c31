"""The mailroom: all mailboxes of a node, the leases on what is out, and the bodies kept in memory.

The mailroom is the shared state of ``delivery`` (outward: to consumers) and of whatever brings mail or makes room:
``intake``, ``settlement`` (back: acked, failed, lost, expired) and ``from_peers``. All work on it from one thread, and
know each other through it alone: they tell the mailroom which mailbox has news, and the mailroom wakes the delivery.
What the mailroom holds is rebuilt from the store after a restart: a message that was out then is simply open, and is
delivered again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from trishula.contract.addresses import agent_of, is_capability
from trishula_router.agents.consumers import Consumer
from trishula_router.mail.entry import Entry
from trishula_router.mail.mailbox import Mailbox
from trishula_router.mail.shares import Shares
from trishula_router.store.messages import MailboxSize, StoredMessage, mailbox_of, payer_of

__all__ = ["BODY_CACHE_BYTES", "Lease", "Leases", "Mailroom", "got", "is_of"]

#: Bodies of waiting messages kept in memory over all mailboxes; beyond it they are read from the store when their turn
#: comes, so that a million waiting messages cost disk and not memory.
BODY_CACHE_BYTES = 32 * 1024 * 1024


@dataclass(slots=True, eq=False)
class Lease:
    """A message that is out.

    Attributes:
        session: who has it; ``None`` if it is only being settled.
        consumer: in whose window it counts, if it was pushed.
        until_s: when it is taken back, in seconds of the clock.
        run: of the client's process that has it, if that was told.
        settling: whether its final state is on its way into the store; it is nobody's then.
        answer: the id of the answer to it that is durable, if there is one.
        command: of a COMMAND: (agent that asked, its id, agent that has it).
    """

    entry: Entry
    session: int | None
    consumer: Consumer | None
    until_s: float
    settling: bool = False
    run: str | None = None
    answer: str | None = None
    command: tuple[str, str, str] | None = None

    def free(self) -> None:
        """It no longer counts in its consumer's window."""
        if self.consumer is not None:
            self.consumer.in_flight -= 1
            self.consumer.in_flight_bytes -= self.entry.size_bytes
            self.consumer = None


class Leases(dict[int, Lease]):
    """All leases, by position, those of each session, and those of COMMANDs by what their answers name.

    When a node loses its network all sessions leave, and what is out may be a hundred thousand messages: each session's
    own must be found without a look at all of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._of_session: dict[int, dict[int, None]] = {}
        # By Lease.command, positions.
        self._commands: dict[tuple[str, str, str], int] = {}

    def __setitem__(self, position: int, lease: Lease) -> None:
        if position in self:
            self.pop(position)
        super().__setitem__(position, lease)
        if lease.session is not None:
            self._of_session.setdefault(lease.session, {})[position] = None
            if (entry := lease.entry).type == "COMMAND":
                lease.command = agent_of(entry.sender), entry.id, agent_of(entry.holder or "")
                self._commands[lease.command] = position

    def pop(self, position: int, _: None = None) -> Lease | None:  # type: ignore[override]  # it never raises
        """Take one out; ``None`` if there is none."""
        lease = super().pop(position, None)
        if lease is not None and lease.session is not None:
            mine = self._of_session[lease.session]
            del mine[position]
            if not mine:
                del self._of_session[lease.session]
            if lease.command is not None and self._commands.get(lease.command) == position:
                del self._commands[lease.command]
        return lease

    def of_command(self, asker: str, message_id: str, agent: str) -> Lease | None:
        """The lease by which an agent has a COMMAND of another agent, if it has."""
        position = self._commands.get((asker, message_id, agent))
        return None if position is None else self.get(position)

    def of_session(self, session: int) -> list[Lease]:
        """Those of one session, in the order in which they went out."""
        return [self[position] for position in self._of_session.get(session, ())]


def is_of(agent: str, recipient: str) -> bool:
    """Whether an address is the agent's own, or that of an instance of it."""
    return recipient == agent or recipient.startswith(agent + "/")


def got(agent: str, stored: StoredMessage) -> bool:
    """Whether an agent, or an instance of it, got a message: it is to it, or to a capability and was handed to it."""
    return is_of(agent, stored.recipient) or (stored.holder is not None and is_of(agent, stored.holder))


def is_party(agent: str, stored: StoredMessage) -> bool:
    """Whether an agent, or an instance of it, sent or got a message."""
    return is_of(agent, stored.sender) or got(agent, stored)


def _is_elsewhere(address: str) -> bool:
    """Whether a mailbox is of messages to a capability that another node hands out, see :func:`mailbox_of`."""
    return "@" in address


class Mailroom:
    """All mailboxes of a node.

    Attributes:
        leases: what is out, by position.
        shares: who has how much open.
    """

    def __init__(self) -> None:
        self.leases = Leases()
        self.shares = Shares()
        self._mailboxes: dict[str, Mailbox] = {}
        # Called with an address whose mailbox can perhaps deliver.
        self._wake: Callable[[str], None] = lambda _: None
        # Of those the ones that are capabilities which this node hands out.
        self._capabilities: dict[str, None] = {}
        # (when a pause of a message is over, in which mailbox), the earliest first.
        self._pauses: list[tuple[int, str]] = []
        self._cached_bytes = 0

    def wakes(self, wake: Callable[[str], None]) -> None:
        """Have something called with each address whose mailbox can perhaps deliver: the delivery is."""
        self._wake = wake

    def arrived(self, entries: Iterable[Entry]) -> None:
        """Messages are durable now (and were reserved): they go out when their turn comes."""
        for entry in entries:
            self.add(entry)
            self._wake(entry.recipient)

    def has_room(self, address: str) -> None:
        """The consumer of an address has perhaps room again, or its mailbox has got a message."""
        self._wake(address)

    def load(self, sizes: Mapping[str, MailboxSize]) -> None:
        """Take over what an earlier run of the node left open."""
        for address, size in sizes.items():
            self._put(Mailbox(address, open_messages=size.messages, open_bytes=size.size_bytes))
            self.shares.load(address, size.senders)

    def reserve(self, address: str, payer: str, size_bytes: int, priority: int) -> None:
        """Count a message in a mailbox, and for an agent (:func:`payer_of`): it comes into the store, or is there."""
        self.mailbox(address).reserve(size_bytes)
        self.shares.add(address, payer, size_bytes, priority)

    def discount(self, address: str, payer: str, size_bytes: int, priority: int) -> None:
        """Count a message no more that was reserved: it was not stored after all."""
        self.mailbox(address).discount(size_bytes)
        self.shares.discount(address, payer, size_bytes, priority)

    def mailbox(self, address: str) -> Mailbox:
        """The mailbox of an address, made on first use."""
        mailbox = self._mailboxes.get(address)
        if mailbox is None:
            mailbox = self._put(Mailbox(address))
        return mailbox

    def _put(self, mailbox: Mailbox) -> Mailbox:
        self._mailboxes[mailbox.address] = mailbox
        if is_capability(mailbox.address) and not _is_elsewhere(mailbox.address):
            self._capabilities[mailbox.address] = None
        return mailbox

    def has(self, address: str) -> bool:
        """Whether there is a mailbox of that address in memory; one that has open messages always is."""
        return address in self._mailboxes

    def kept_here(self) -> list[Mailbox]:
        """All mailboxes in memory, but for those of capabilities that another node hands out."""
        return [box for address, box in self._mailboxes.items() if not _is_elsewhere(address)]

    def addresses(self) -> list[str]:
        """The addresses of all mailboxes in memory."""
        return list(self._mailboxes)

    def capabilities(self) -> list[str]:
        """The capabilities that this node has messages to hand out to."""
        return list(self._capabilities)

    def pause(self, address: str, until_at: int) -> None:
        """Something in a mailbox may go out at an instant (ms) and not before."""
        if not _is_elsewhere(address):
            heapq.heappush(self._pauses, (until_at, address))

    def pauses_over(self, now: int) -> list[str]:
        """The mailboxes in which a pause is over since the last call."""
        over: dict[str, None] = {}
        while self._pauses and self._pauses[0][0] <= now:
            over[heapq.heappop(self._pauses)[1]] = None
        return list(over)

    def drop_if_empty(self, address: str) -> None:
        """Forget the mailbox of an address that is gone."""
        mailbox = self._mailboxes.get(address)
        if mailbox is not None and mailbox.is_empty:
            del self._mailboxes[address]
            self._capabilities.pop(address, None)

    def follow_clock(self, by_ms: int, after: int, due_at_most: int) -> None:
        """The node's clock was set; see :meth:`Mailbox.follow_clock`."""
        self._pauses = [(min(at + by_ms, due_at_most), address) for at, address in self._pauses]
        heapq.heapify(self._pauses)
        for address, mailbox in self._mailboxes.items():
            for due_at in mailbox.follow_clock(by_ms, after, due_at_most):
                self.pause(address, due_at)

    def drop_unused(self, is_wanted: Callable[[str], bool]) -> None:
        """Forget the empty mailboxes of instances that nobody wants: to be called now and then.

        Instances come and go under ever new names. Those that are at other nodes have mailboxes here too.
        """
        unused = [address for address, mailbox in self._mailboxes.items() if mailbox.is_empty and "/" in address]
        for address in unused:
            if not is_wanted(address):
                del self._mailboxes[address]

    def counts(self, address: str) -> tuple[int, int]:
        """(pending, in flight) of an address."""
        mailbox = self._mailboxes.get(address)
        return (0, 0) if mailbox is None else (mailbox.open_messages - len(mailbox.in_flight), len(mailbox.in_flight))

    def totals(self) -> tuple[int, int]:
        """(pending, in flight) of the whole node."""
        in_flight = sum(len(mailbox.in_flight) for mailbox in self._mailboxes.values())
        return sum(mailbox.open_messages for mailbox in self._mailboxes.values()) - in_flight, in_flight

    def add(self, entry: Entry) -> None:
        """Put a message that is durable into its mailbox, with its body as long as there is room for bodies."""
        if self._cached_bytes + entry.size_bytes > BODY_CACHE_BYTES:
            entry.wire = None
        elif entry.wire is not None:
            self._cached_bytes += entry.size_bytes
        if entry.due_at:
            self.pause(entry.mailbox, entry.due_at)
        for dropped in self.mailbox(entry.mailbox).add(entry):
            self.forget_body(dropped)

    def keep_body(self, entry: Entry, wire: dict[str, object]) -> None:
        """Its body was read, because it goes out now."""
        entry.wire = wire
        self._cached_bytes += entry.size_bytes

    def forget_body(self, entry: Entry) -> None:
        """Its body is not needed in memory any more."""
        if entry.wire is not None:
            entry.wire = None
            self._cached_bytes -= entry.size_bytes

    def lease_of(self, agent: str, position: int, attempt: int | None = None) -> Lease | None:
        """The lease by which the agent has a message, if it has; with ``attempt``, only if that is the latest one."""
        lease = self.leases.get(position)
        # Of a message to a capability the holder alone decides, not the name that it is addressed to.
        if lease is None or lease.settling or not is_of(agent, lease.entry.holder or ""):
            return None
        return lease if attempt in (None, lease.entry.attempts) else None

    def surfaced(self, position: int, at: int | None) -> None:
        """A message was put into a model's context at another node, at an instant (ms)."""
        lease = self.leases.get(position)
        if lease is not None and lease.entry.surfaced_at is None:
            lease.entry.surfaced_at = at

    def release(self, agent: str, position: int, attempt: int | None = None) -> Entry | None:
        """Take a message that the agent has out of its window, to settle it or give it back; ``None`` if it has not."""
        lease = self.lease_of(agent, position, attempt)
        if lease is None:
            return None
        lease.settling = True
        lease.free()
        return lease.entry

    def withdraw(self, entry: Entry) -> Entry:
        """Make a message nobody's, wherever it is, because it is about to be settled.

        Args:
            entry: the message, perhaps newly read from the store.

        Returns:
            the entry that the mailroom knew the message by, or ``entry``.
        """
        mailbox = self.mailbox(entry.mailbox)
        lease = self.leases.get(entry.position)
        if lease is not None:
            lease.settling = True
            lease.free()
            return lease.entry
        known = mailbox.in_flight.get(entry.position) or mailbox.take_out(entry.position) or entry
        mailbox.in_flight[entry.position] = known
        self.leases[entry.position] = Lease(known, None, None, float("inf"), settling=True)
        return known

    def not_withdrawn(self, entries: Iterable[Entry]) -> list[Entry]:
        """Of messages that were taken to be delivered, those that nobody settled or is about to settle since."""
        return [
            entry
            for entry in entries
            if entry.position not in self.leases and self.mailbox(entry.mailbox).in_flight.get(entry.position) is entry
        ]

    def waits(self, entry: Entry) -> bool:
        """Whether a message, known by that entry, waits in memory for its turn."""
        mailbox = self._mailboxes.get(entry.mailbox)
        return mailbox is not None and mailbox.waits(entry)

    def has_suspect(self, consumer: Consumer) -> bool:
        """Whether a consumer has a message that must be out alone."""
        return any(lease.consumer is consumer and lease.entry.is_suspect for lease in self.leases.values())

    def is_settling(self, position: int) -> bool:
        """Whether a final state of the message is on its way into the store."""
        lease = self.leases.get(position)
        return lease is not None and lease.settling

    def put_back(self, entries: Iterable[Entry], due_at: int) -> None:
        """Messages that are out wait again, until ``due_at`` (ms; 0: their turn comes at once)."""
        for entry in entries:
            lease = self.leases.pop(entry.position, None)
            if lease is not None:
                lease.free()
            self.forget_body(entry)
            mailbox = self.mailbox(entry.mailbox)
            if entry.position in mailbox.in_flight:
                mailbox.give_back(entry, due_at)
                if due_at:
                    self.pause(mailbox.address, due_at)

    def move(self, stored: StoredMessage, former: str | None) -> None:
        """A message to a capability has another keeper, and so another mailbox. What is out of it stays out.

        Args:
            stored: the message as it is now.
            former: its keeper before.
        """
        address = mailbox_of(stored.recipient, stored.position, former)
        known = self.mailbox(address).move_out(stored.position, stored.size_bytes)
        entry, lease = Entry.of(stored), self.leases.get(stored.position)
        mailbox = self.mailbox(entry.mailbox)
        mailbox.reserve(stored.size_bytes)
        agent = payer_of(stored.sender, stored.id, stored.recipient)
        self.shares.discount(address, agent, stored.size_bytes, stored.priority)
        self.shares.add(mailbox.address, agent, stored.size_bytes, stored.priority)
        if lease is not None:
            lease.entry.keeper = stored.keeper
            mailbox.in_flight[stored.position] = lease.entry
        else:
            # Not the entry that is known: what others did with the message since, it doesn't tell.
            if known is not None:
                self.forget_body(known)
            self.add(entry)
        self.drop_if_empty(address)

    def settled(self, entries: Iterable[Entry]) -> None:
        """Messages are in a final state, durably."""
        for entry in entries:
            lease = self.leases.pop(entry.position, None)
            if lease is not None:
                lease.free()
            self.forget_body(entry)
            address = entry.mailbox
            if self.mailbox(address).settled(entry):
                payer = payer_of(entry.sender, entry.id, entry.recipient)
                self.shares.discount(address, payer, entry.size_bytes, entry.priority)
            if is_capability(entry.recipient):
                # Anybody may address any, so they must not pile up.
                self.drop_if_empty(address)
