"""Shares: how much each agent has open, in each mailbox and in all, and how much of the room that leaves it.

What is *open* is accepted and not settled. It is counted for the agent that sent it, whichever of its instances did:
exactly, with each message that comes and goes, and at a start from the store. What the node tells a sender of its
messages counts for that sender: who has COMMANDs expire by the thousand pays for the news of it.

**A part of what others leave.** One agent may fill a mailbox up to ``limits.mailbox_share``, a half, of what the others
leave of it. So the first that floods gets a half, the next one a half of the rest, and so on: it takes 16 agents
together to fill a mailbox of the default size. With a share that is fixed two would do. The first :data:`SPARED`
messages of an agent ask for room only, so that the smallest mailbox is of use.

**Room for urgent mail.** ``limits.urgent_room`` of each mailbox, a tenth, takes priority 1 only. It is shared in the
same way, counted by what an agent has open of that priority: who sends everything as urgent takes a half of it.

The store is shared by the same rules (``limits.store_share``): a message costs its envelope and
:data:`MESSAGE_BYTES` for its rows and records. Settled messages, which take room in its file until retention removes
them, are nobody's: of the file itself :mod:`trishula_router.store.sqlite.space` keeps a part for urgent mail.

Policy only: no I/O, no clock; :mod:`.room` asks, ``mailroom`` counts.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

from trishula.contract.addresses import is_capability
from trishula_router.store.messages import URGENT, OpenSize

__all__ = ["MESSAGE_BYTES", "SPARED", "URGENT", "Part", "Shares", "Sum"]

#: So many messages of one agent in one mailbox are in no proportion to anything.
SPARED = 4
#: What a message takes in the store beside its envelope: rows, indexes, the records of its life
#: (:mod:`trishula_router.store.sqlite.space`).
MESSAGE_BYTES = 2500


@dataclass(slots=True)
class Sum:
    """What one agent has open in one mailbox, or in all.

    Attributes:
        messages, size_bytes: of all priorities.
        urgent, urgent_bytes: those of them that are of priority 1.
        capabilities: over all mailboxes: how many of those are of capabilities.
    """

    messages: int = 0
    size_bytes: int = 0
    urgent: int = 0
    urgent_bytes: int = 0
    capabilities: int = 0

    def add(self, size_bytes: int, is_urgent: bool) -> None:
        """Count a message."""
        self.messages += 1
        self.size_bytes += size_bytes
        if is_urgent:
            self.urgent += 1
            self.urgent_bytes += size_bytes

    def discount(self, size_bytes: int, is_urgent: bool) -> None:
        """Count a message no more."""
        self.messages -= 1
        self.size_bytes -= size_bytes
        if is_urgent:
            self.urgent -= 1
            self.urgent_bytes -= size_bytes

    @property
    def cost_bytes(self) -> int:
        """What it takes in the store."""
        return self.size_bytes + MESSAGE_BYTES * self.messages

    @property
    def urgent_cost_bytes(self) -> int:
        """What its urgent messages take in the store."""
        return self.urgent_bytes + MESSAGE_BYTES * self.urgent


#: Of whoever has nothing open; never changed.
_NOTHING = Sum()


class Shares:
    """What is open, by mailbox and by sender.

    Attributes:
        total: over all agents.
    """

    def __init__(self) -> None:
        self.total = Sum()
        self._mailboxes: dict[str, dict[str, Sum]] = {}
        self._agents: dict[str, Sum] = {}

    def load(self, address: str, senders: Mapping[str, OpenSize]) -> None:
        """Take over what an earlier run of the node left open in a mailbox."""
        for agent, size in senders.items():
            for one in (self._in(address, agent), self._agents[agent], self.total):
                one.messages += size.messages
                one.size_bytes += size.size_bytes
                one.urgent += size.urgent
                one.urgent_bytes += size.urgent_bytes

    def _in(self, address: str, agent: str) -> Sum:
        """The sum of an agent in a mailbox, made on first use."""
        senders = self._mailboxes.get(address)
        if senders is None:
            senders = self._mailboxes[address] = {}
        own = senders.get(agent)
        if own is None:
            own = senders[agent] = Sum()
            everywhere = self._agents.get(agent)
            if everywhere is None:
                everywhere = self._agents[agent] = Sum()
            if is_capability(address):
                everywhere.capabilities += 1
        return own

    def add(self, address: str, agent: str, size_bytes: int, priority: int) -> None:
        """A message of an agent is open in a mailbox."""
        is_urgent = priority <= URGENT
        self._in(address, agent).add(size_bytes, is_urgent)
        self._agents[agent].add(size_bytes, is_urgent)
        self.total.add(size_bytes, is_urgent)

    def discount(self, address: str, agent: str, size_bytes: int, priority: int) -> None:
        """A message that was counted is not open there any more."""
        is_urgent = priority <= URGENT
        senders = self._mailboxes.get(address, {})
        own = senders.get(agent)
        if own is None:
            # Damage of the store's file has changed the sender's name since: that was counted for nobody else.
            return
        everywhere = self._agents[agent]
        own.discount(size_bytes, is_urgent)
        everywhere.discount(size_bytes, is_urgent)
        self.total.discount(size_bytes, is_urgent)
        if not own.messages:
            del senders[agent]
            if is_capability(address):
                everywhere.capabilities -= 1
            if not senders:
                del self._mailboxes[address]
            if not everywhere.messages:
                del self._agents[agent]

    def of(self, address: str, agent: str) -> Sum:
        """What an agent has open in a mailbox."""
        return self._mailboxes.get(address, {}).get(agent, _NOTHING)

    def of_agent(self, agent: str) -> Sum:
        """What an agent has open in all mailboxes."""
        return self._agents.get(agent, _NOTHING)

    def by_agent(self) -> Mapping[str, Sum]:
        """What each agent has open that has anything."""
        return self._agents

    def senders(self, address: str) -> int:
        """How many agents have something open in a mailbox."""
        return len(self._mailboxes.get(address, ()))

    def top_senders(self, address: str, limit: int) -> list[tuple[str, int]]:
        """The agents that have the most messages open in a mailbox, each with how many."""
        counts = ((agent, own.messages) for agent, own in self._mailboxes.get(address, {}).items())
        return heapq.nsmallest(limit, counts, key=lambda one: (-one[1], one[0]))

    def mailboxes_of(self, agent: str) -> list[str]:
        """The mailboxes in which an agent has something open."""
        return [address for address, senders in self._mailboxes.items() if agent in senders]


@dataclass(frozen=True, slots=True)
class Part:
    """How some room is shared: places of a mailbox, its bytes, or those of the store.

    Attributes:
        room: all of it.
        kept: what of it takes urgent mail only.
        share: the part of what others leave that one agent may have.
    """

    room: int
    kept: int
    share: float

    @property
    def ample(self) -> int:
        """As long as no more than this is taken by all together, nobody has too much."""
        return int(self.share * (self.room - self.kept))

    def is_open(self, total: int, size: int, is_urgent: bool) -> bool:
        """Whether there is room for something at all, whoever sends it."""
        return total + size <= (self.room if is_urgent else self.room - self.kept)

    def is_fair(self, own: int, own_urgent: int, total: int, size: int, is_urgent: bool) -> bool:
        """Whether an agent may have so much more.

        Args:
            own: what it has.
            own_urgent: what of that is urgent.
            total: what all have.
            size: how much more.
            is_urgent: whether that is urgent.
        """
        if own + size <= self.share * (self.room - self.kept - (total - own)):
            return True
        return is_urgent and own_urgent + size <= self.share * min(self.kept, self.room - (total - own_urgent))
