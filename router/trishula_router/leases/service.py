"""The parts of work leases at one node, wired to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from trishula.contract.addresses import Address
from trishula_router.agents.sessions import Sessions
from trishula_router.clocks.clock import Clock
from trishula_router.leases.agreement import Agreement
from trishula_router.leases.book import Book
from trishula_router.leases.ledger import Ledger
from trishula_router.leases.letters import Letters
from trishula_router.leases.presence import Presence
from trishula_router.leases.rates import LeaseRates
from trishula_router.leases.rounds import LeaseRounds
from trishula_router.leases.work_leases import WorkLeases
from trishula_router.mail.mailroom import Mailroom
from trishula_router.peers.journal_exchange import Peering
from trishula_router.peers.presence_exchange import Neighbourhood
from trishula_router.settings.options import NodeConfig
from trishula_router.store.interface import Store

__all__ = ["LeaseService", "lease_service"]


@dataclass(frozen=True, slots=True)
class LeaseService:
    """What the node uses of them.

    Attributes:
        work_leases: what agents ask.
        rates: how often they may.
        rounds: what happens without that.
    """

    work_leases: WorkLeases
    rates: LeaseRates
    rounds: LeaseRounds


def lease_service(
    config: NodeConfig,
    store: Store,
    sessions: Sessions,
    peering: Peering,
    neighbourhood: Neighbourhood,
    mailroom: Mailroom,
    reach: Callable[[str], str | None],
    clock: Clock,
    now: Callable[[], int],
) -> LeaseService:
    """Make the parts of one node.

    Args:
        config: its options.
        store: keeps the records.
        sessions: who is here.
        peering: what the other nodes hold.
        neighbourhood: who is there.
        mailroom: delivers what holders are told.
        reach: which address to write to for an address: itself, its agent, or ``None``.
        clock: timers and spans.
        now: the wall clock in ms.
    """
    replication, copies = peering.replication, peering.copies
    book = Book()
    agreement = Agreement(config.node, store, replication, book)

    def secure(sequence: int) -> Deferred[int]:
        return copies.secure(sequence, 1 + len(replication.peers))

    def is_elsewhere(address: Address) -> bool:
        if address.instance is not None:
            return neighbourhood.has_instance(str(address))
        return neighbourhood.is_elsewhere(address.agent)

    presence = Presence(
        sessions,
        is_elsewhere=is_elsewhere,
        reached=lambda: {name: peer.is_up for name, peer in replication.peers.items()},
        now_s=clock.seconds,
    )
    ledger = Ledger(config.node, store, agreement, book, secure=secure, clock=clock, now=now)
    leases = WorkLeases(ledger, presence, clock)
    letters = Letters(config.node, store, mailroom, reach, config.delivery.default_ttl_ms, now)
    rounds = LeaseRounds(ledger, agreement, presence, leases, store, tell=letters.tell, now=now, now_s=clock.seconds)
    return LeaseService(leases, LeaseRates(), rounds)
