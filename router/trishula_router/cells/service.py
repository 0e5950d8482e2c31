"""The cells of a node: made of its services, where its configuration asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from trishula.contract.addresses import Address
from trishula.errors import NotAllowed, TakenOver, TrishulaError
from trishula_router.agents.consumers import Consumers
from trishula_router.cells.acceptance import Acceptance
from trishula_router.cells.directories import Directories
from trishula_router.cells.exchange import Ends, Exchange
from trishula_router.cells.forwards import Forwards
from trishula_router.cells.homekeeping import Homekeeping
from trishula_router.cells.homes import Homes
from trishula_router.cells.onward import Onward
from trishula_router.cells.owed import Owed
from trishula_router.cells.seal import Seal, read_keys
from trishula_router.cells.topics import Topics
from trishula_router.clocks.clock import Clock
from trishula_router.mail.delivery import Delivery
from trishula_router.mail.endings import Endings
from trishula_router.mail.mailroom import Mailroom
from trishula_router.mail.outlet import News, Outlet
from trishula_router.mail.settlement import Settlement
from trishula_router.peers.journal_exchange import Peering
from trishula_router.peers.presence_exchange import Neighbourhood
from trishula_router.store.interface import Store

__all__ = ["Cells", "Parts"]

#: The file of the key is read again so often, so that it may be changed.
_KEY_S = 5.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What of a node its cell works with."""

    node: str
    store: Store
    mailroom: Mailroom
    delivery: Delivery
    settlement: Settlement
    endings: Endings
    consumers: Consumers
    peering: Peering
    neighbourhood: Neighbourhood
    outlet: Outlet


class Cells:
    """A node's part in its cell.

    Args:
        cell: the cell's name.
        key_file: with the key that all cells share.
        parts: of the node.
        acceptance: takes what comes.
        ends: of the road.
        epoch: of this run of the node.
        refused: (whose, error, sentence, seconds) of what is not believed.
        close_session: ends a session: (session, error's URI, sentence).
        clock: timers.
        now: the wall clock in ms.
        random: spreads pauses, and makes tickets.
        late_s: see :class:`~trishula_router.settings.cells.CellOptions`.

    Attributes:
        topics: carries live events; ``None`` where no road for them is.
        directories: tells and hears who is there; likewise.
    """

    def __init__(
        self,
        cell: str,
        key_file: Path,
        parts: Parts,
        acceptance: Acceptance,
        ends: Ends,
        *,
        epoch: str,
        refused: Callable[[str, type[TrishulaError], str, float], None],
        close_session: Callable[[int, str, str], None],
        clock: Clock,
        now: Callable[[], int],
        random: Callable[[], float],
        late_s: float,
    ) -> None:
        self.cell = cell
        self.topics: Topics | None = None
        self.directories: Directories | None = None
        self.late_s = late_s
        self._key_file = key_file
        self._parts = parts
        self._acceptance = acceptance
        self._refused = refused
        self._close_session = close_session
        self._clock = clock
        self.epoch = epoch
        self._tickets = 0
        self._version = (0, 0)
        self._seal: Seal | None = None
        self._seal_s = 0.0
        self.homes, self.forwards = Homes(cell), Forwards()
        self.exchange = exchange = Exchange(
            cell,
            epoch,
            ends,
            self.sealed,
            homes=self.homes,
            forwards=self.forwards,
            owed=Owed(),
            acceptance=acceptance,
            leads=self.leads,
            is_consumed=self._is_consumed,
            mailboxes=parts.mailroom.addresses,
            cancel=self._cancel,
            refused=self._not_believed,
            clock=clock,
            random=random,
        )
        self.onward = exchange.onward = Onward(
            cell,
            self.homes,
            self.forwards,
            parts.mailroom,
            parts.store,
            parts.delivery,
            parts.settlement,
            is_consumed=self._is_consumed,
            is_on=lambda: self.leads() and not parts.delivery.is_held_back,
            post=exchange.post,
            look_up=exchange.look_up,
            outlet=parts.outlet,
            ticket=self._ticket,
            clock=clock,
            now=now,
        )
        exchange.homekeeping = Homekeeping(
            cell,
            self.homes,
            ends.write,
            ends.in_writer,
            self.sealed,
            refused=exchange.not_believed,
            moved=self._moved,
            superseded=self._superseded,
            seconds=clock.seconds,
            now=now,
        )
        parts.delivery.onward = self.onward.pump

    async def round(self) -> None:
        """What is due: to be called a few times a second."""
        consumers, fetches = self._parts.consumers, self._parts.delivery.fetches
        version = consumers.version, fetches.version
        if version != self._version:
            self._version = version
            here = fetches.fetchers()
            here.update({consumer.address: consumer.session for consumer in consumers.all()})
            self.exchange.here(here)
        self.exchange.round()
        if self.topics is not None:
            self.topics.round()
        if self.directories is not None:
            self.directories.round()

    def heard(self, news: Iterable[News]) -> None:
        """What senders are told at this node."""
        self.exchange.told(news)

    def stop(self) -> None:
        """Begin nothing more."""
        self.exchange.stop()
        for part in (self.topics, self.directories):
            if part is not None:
                part.stop()

    # -- what is told of it --------------------------------------------------------------------------------------------

    def remark(self, position: int, address: str) -> str | None:
        """What ``trishula why`` says of an open message here; ``None`` if nothing."""
        forward = self.forwards.get(position)
        if forward is not None:
            where = (
                "waits there for its agent" if forward.is_there else "was sent there, and its arrival is not told yet"
            )
            if forward.is_delivered:
                where = "is with its agent there"
            return f"it goes to the cell {forward.cell}, and {where}"
        if address not in self.onward.waiting:
            return None
        cell = self.homes.cell_of(address)
        if cell == self.cell:
            return None
        if cell is None:
            return (
                f"it waits here because no cell has told yet that {address} is with it; it goes on as soon as "
                f"{address} attaches somewhere"
            )
        fault = self.exchange.fault
        return f"it is to go to the cell {cell}, and waits here: {fault or 'it goes when its turn comes'}"

    def told(self) -> dict[str, Any]:
        """What there is to know of it, as it travels."""
        messages, oldest_s = self.waiting()
        leads = self.leads()
        return {
            "cell": self.cell,
            "where": self.exchange.where,
            "leads": leads,
            "waiting_messages": messages,
            "waiting_s": round(oldest_s, 3),
            "out_messages": len(self.forwards),
            "resent": self.forwards.resent,
            "accepted": self._acceptance.accepted,
            "refused_entries": self.exchange.refusals,
            "errors": self.exchange.errors,
            "canary_s": round(self.exchange.canary.age_s(self._clock.seconds()), 3) if leads else None,
            "fault": self.exchange.fault,
            "topics": None if self.topics is None else self.topics.told(),
            "others": None if self.directories is None else self.directories.told(),
        }

    def waiting(self) -> tuple[int, float]:
        """How many messages are not known to be at their cells, and for how long the first of them has waited, in s.

        Those whose agent is at no cell that is known, or at this one, don't count: as any mail they wait for an agent.
        """
        now_s, since_s, messages = self._clock.seconds(), [], 0
        for forward in self.forwards.sent():
            messages += 1
            since_s.append(forward.since_s)
        for address, from_s in self.onward.waiting.items():
            if self.homes.cell_of(address) not in (None, self.cell):
                messages += self._parts.mailroom.counts(address)[0]
                since_s.append(from_s)
        return messages, max(0.0, now_s - min(since_s, default=now_s))

    # -- what its parts ask --------------------------------------------------------------------------------------------

    def sealed(self) -> Seal:
        """Seals what this cell writes, by the key as it is in its file; see :func:`.seal.read_keys`."""
        now_s = self._clock.seconds()
        if self._seal is None or now_s - self._seal_s >= _KEY_S:
            self._seal, self._seal_s = Seal(self.cell, read_keys(self._key_file)), now_s
        return self._seal

    def leads(self) -> bool:
        """Whether this node forwards, reads and speaks for its cell: of linked nodes in sight the first by name."""
        peers = self._parts.peering.replication.peers
        return all(name > self._parts.node for name, peer in peers.items() if peer.is_up)

    def _is_consumed(self, address: str) -> bool:
        parts = self._parts
        return (
            parts.consumers.is_consumed(address)
            or parts.delivery.fetches.is_awaited(address)
            or parts.neighbourhood.consumer_of(Address.parse(address)) is not None
        )

    def _cancel(self, positions: Sequence[int]) -> Deferred[list[bool]]:
        return Deferred.fromCoroutine(self._parts.endings.cancel(positions))

    def _ticket(self) -> str:
        self._tickets += 1
        return f"{self.epoch}:{self._tickets}"

    def _not_believed(self, sentence: str) -> None:
        self._refused(self.cell, NotAllowed, sentence[:500], self._clock.seconds())

    def _moved(self, address: str) -> None:
        self.exchange.look_at(address)
        self._parts.delivery.pump_soon(address)

    def _superseded(self, address: str, cell: str) -> None:
        session = self._parts.consumers.session_of(Address.parse(address))
        if session is not None:
            self._close_session(
                session,
                TakenOver.uri,
                f"a newer session consumes the mailbox of {address} in the cell {cell} now, so this one was closed; "
                "run one session of an agent, or give each its own instance",
            )
