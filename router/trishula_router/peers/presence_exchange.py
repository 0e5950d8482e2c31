"""The neighbourhood: one node's exchange with its peers about agents, so that all nodes give one answer.

It tells the peers what the directory, the mailboxes and the instances of this node are, when that changed and every few
seconds, and takes in what they tell; :mod:`.presence_policy` decides what follows.

A peer *vouches* for the agents at its side: what it forwards as theirs (calls, events, names of procedures) is taken
for theirs. At its side are those that it says have a session there. Who just joined may be heard before the peer has
said so; that is taken too, unless the agent is known to be elsewhere, here or with a third node, for longer than nodes
take to tell each other: then the peer knows it as well, and tells of the newcomer before anything of it can come
(:meth:`Neighbourhood.joined`). An agent with sessions at two nodes, or that moves over in a failover, is at both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import msgspec
from twisted.logger import Logger

from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula.errors import TakenOver
from trishula_router.agents.consumers import Consumers
from trishula_router.agents.directory import Directory
from trishula_router.agents.instances import Instances
from trishula_router.agents.lives import Life
from trishula_router.agents.principals import Principals
from trishula_router.agents.takeovers import Takeovers
from trishula_router.clocks.clock import Clock, Timer
from trishula_router.peers.belief import Unbelievable
from trishula_router.peers.journal_exchange import PRESENCE
from trishula_router.peers.outlines import excess_of_presence
from trishula_router.peers.presence_policy import Neighbours, Presence, sound
from trishula_router.store.facts import Facts, TakenOverFacts
from trishula_router.store.journal import Kind

__all__ = ["Beyond", "Neighbourhood", "taken_over"]

log = Logger()

#: What nothing changed in is told again so often: one of the tellings may have got lost.
PRESENCE_PERIOD_S = 2.0
#: Who has been somewhere for so long is known to be there, to all nodes that are in reach.
KNOWN_TO_ALL_MS = 2000
#: Capabilities named in a sentence: enough to see a slip of the pen.
_CAPABILITIES_TOLD = 10


def taken_over(address: str, host: str | None, node: str | None = None) -> str:
    """What a session is told whose mailbox a newer one consumes: where that runs, and at which node if at another."""
    where = "" if host is None else f", on {host},"
    at = "" if node is None else f" at the node {node}"
    return (
        f"a newer session{where} consumes the mailbox of {address}{at} now, so this one was closed; run one session of "
        "an agent, or give each its own instance"
    )


class Beyond(Protocol):
    """What is known of agents beyond the linked nodes."""

    def merged(self, own: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The directory's entries of the linked nodes, each replaced by what is known better."""

    def follow_clock(self, by_ms: int) -> None:
        """The node's clock was set: it is ahead by so much now."""


class Neighbourhood:
    """Who is where, over all nodes.

    Args:
        node: the own node's name.
        peers: the names of the others.
        principals: who is registered here.
        directory, consumers, instances: what this node knows by itself.
        takeovers: counts mailboxes that change hands.
        post: sends a text to a peer: (peer, kind, text).
        announce: publishes an event for all.
        close_session: ends a session of this node: (session, error's URI, sentence).
        note: writes a record.
        clock: timers.
        now: the wall clock in ms.
    """

    def __init__(
        self,
        node: str,
        peers: Collection[str],
        principals: Principals,
        directory: Directory,
        consumers: Consumers,
        instances: Instances,
        takeovers: Takeovers,
        *,
        post: Callable[[str, str, bytes], None],
        announce: Callable[[str, Mapping[str, Any]], None],
        close_session: Callable[[int, str, str], None],
        note: Callable[[Kind, Facts], None],
        clock: Clock,
        now: Callable[[], int],
    ) -> None:
        self._node = node
        self._peers = peers
        self._principals = principals
        self._directory = directory
        self._consumers = consumers
        self._instances = instances
        self._takeovers = takeovers
        self._post = post
        self._announce = announce
        self._close_session = close_session
        self._note = note
        self._clock = clock
        self._now = now
        #: The agents here whose clients answer canaries; the node puts its own here as it starts.
        self.knowing: Callable[[], list[str]] = list
        #: What is known of agents beyond the linked nodes; a node with cells puts theirs here.
        self.beyond: Beyond | None = None
        self._neighbours = Neighbours(node)
        self._round: Timer | None = None
        self._soon: Timer | None = None
        self._stopped = False

    def start(self) -> None:
        """Begin to tell, if there is anybody to tell it to."""
        if self._peers:
            self._again()

    def stop(self) -> None:
        """Tell nothing more."""
        self._stopped = True
        for timer in (self._round, self._soon):
            if timer is not None and timer.active():
                timer.cancel()

    def _again(self) -> None:
        # First of all: a round that fails must not be the last one.
        self._round = self._clock.callLater(PRESENCE_PERIOD_S, self._again)
        self._tell()

    def tell_soon(self) -> None:
        """Something changed: tell it at the end of this turn of the reactor."""
        if self._peers and not self._stopped and (self._soon is None or not self._soon.active()):
            self._soon = self._clock.callLater(0, self._tell)

    def _tell(self) -> None:
        agents = [entry for entry in self._directory.entries(self._now()) if entry["last_seen_at"] is not None]
        presence = Presence(
            self._node,
            agents,
            self._neighbours.claims(self._consumers.addresses()),
            self._instances.addresses(),
            sorted(
                {
                    capability
                    for entry in agents
                    if entry["presence"] in ("online", "busy") and self._consumers.is_consumed(entry["agent"])
                    for capability in entry["capabilities"]
                }
            ),
            self._now(),
            {
                name: (life.run, life.host)
                for name in self._consumers.addresses()
                if (life := self._consumers.life_of(Address.parse(name))) is not None
            },
            self.knowing(),
        )
        text = msgspec.msgpack.encode(presence)
        for peer in self._peers:
            self._post(peer, PRESENCE, text)

    def receive(self, peer: str, text: bytes) -> None:
        """A peer told of its agents.

        Raises:
            Unbelievable, msgspec.MsgspecError: if it can't be used.
        """
        registered = frozenset(self._principals.names())
        if too_many := excess_of_presence(text, len(registered)):
            raise Unbelievable(too_many)
        presence = msgspec.msgpack.decode(text, type=Presence)
        if presence.node != peer:
            raise Unbelievable(f"it speaks as {presence.node}")
        if self._stopped or peer not in self._peers:
            return
        presence = sound(presence, registered.__contains__, self._now())
        for name in self._neighbours.hear(presence, self._now()):
            if not self._consumers.is_consumed(name):
                continue
            address = Address.parse(name)
            session = self._consumers.session_of(address)
            if session is not None:
                run, host = presence.holders.get(name, (None, None))
                life = self._consumers.life_of(address)
                if life is not None and run is not None and life.run != run:
                    self._takeovers.note(name, self._clock.seconds())
                facts = TakenOverFacts(address.agent, name, session, presence.node, host)
                self._note(Kind.TAKEN_OVER, facts)
                self._close_session(session, TakenOver.uri, taken_over(name, host, presence.node))

    def joined(self, agent: str) -> None:
        """A session joined at this node: if others think that its agent is with them, tell them at once."""
        if self._peers and self._neighbours.elsewhere(agent, None, self._now()) is not None:
            self.tell_soon()

    def against(self, peer: str, agent: str) -> str | None:
        """Why a peer can't vouch for an agent; ``None`` if it can."""
        if self._neighbours.is_at(peer, agent):
            return None
        known_since = self._now() - KNOWN_TO_ALL_MS
        here_since = self._directory.here_since(agent)
        if here_since is not None and here_since <= known_since:
            return f"{agent} is at this node, and {peer} has not told that it is there"
        other = self._neighbours.elsewhere(agent, peer, known_since)
        return None if other is None else f"{agent} is at the node {other}, and {peer} has not told that it is there"

    def may_tell(self, peer: str, topic: str, event: object) -> bool:
        """Whether a peer may tell an event to all: of itself, and of the agents for which it vouches."""
        if not isinstance(event, dict):
            return False
        if topic == uris.EVENT_AGENT:
            agent = event.get("agent")
            is_known = isinstance(agent, str) and self._principals.get(agent) is not None
            return is_known and event.get("node") in (None, peer) and self.against(peer, str(agent)) is None
        return event.get("node") == peer

    def follow_clock(self, by_ms: int) -> None:
        """The node's clock was set: it is ahead by so much now."""
        self._neighbours.follow_clock(by_ms)
        if self.beyond is not None:
            self.beyond.follow_clock(by_ms)
        self.tell_soon()

    def sighted(self, peer: str, is_there: bool) -> None:
        """A peer came into sight, or is away."""
        now = self._now()
        state = "up" if is_there else "down"
        self._announce(uris.EVENT_NODE, {"node": self._node, "peer": peer, "state": state, "at": now})
        if is_there:
            self.tell_soon()
            return
        for entry in self._neighbours.lost(peer, now):
            # Who is here by now is no longer there.
            if not self._is_here(entry["agent"]):
                self._announce(uris.EVENT_AGENT, entry)

    def _is_here(self, agent: str) -> bool:
        return bool(self._directory.entry(agent)["presence"] != "offline")

    # -- answers -------------------------------------------------------------------------------------------------------

    def attached(self, address: Address) -> None:
        """A session of this node consumes a mailbox from now on."""
        if self._peers:
            self._neighbours.claim(str(address), self._now())
            self.tell_soon()

    def entries(self) -> list[dict[str, Any]]:
        """The directory of all nodes, and of what is known beyond them."""
        linked = self.linked_entries()
        return linked if self.beyond is None else self.beyond.merged(linked)

    def linked_entries(self) -> list[dict[str, Any]]:
        """The directory of this node and of those that it is linked with."""
        return self._neighbours.merged(self._directory.entries(self._now()))

    def consumer_of(self, address: Address) -> str | None:
        """The node in reach that delivers a mailbox to a session of its own."""
        return self._neighbours.consumer_of(str(address))

    def taken_at(self, address: Address) -> tuple[str, int | None] | None:
        """The other node that told last that it delivers a mailbox, and since when (ms) it can't be reached, if so."""
        return self._neighbours.taken_at(str(address))

    def able(self, capability: str) -> list[str]:
        """The nodes in reach where an agent is present that can take messages to a capability."""
        return self._neighbours.able(capability)

    def warning(self, address: str) -> str | None:
        """Of the address of a capability: what to say if nobody who is present, here or elsewhere, announced it."""
        capability = Address.parse(address).capability or ""
        if self._directory.able(capability, self._now()) or self.able(capability):
            return None
        known = sorted(
            {
                one
                for entry in self.linked_entries()
                if entry["presence"] in ("online", "busy")
                for one in entry["capabilities"]
            }
        )
        told = ", ".join(known[:_CAPABILITIES_TOLD]) + (" and others" if len(known) > _CAPABILITIES_TOLD else "")
        return (
            f'no agent that is present here or at a linked node announced "{capability}"; the message waits until one '
            f"does, or its time to live is over; " + (f"announced now: {told}" if known else "nothing is announced now")
        )

    def holder_of(self, address: Address) -> Life | None:
        """What is known of the process that consumes a mailbox at another node in reach."""
        holder = self._neighbours.holder_of(str(address))
        return None if holder is None else Life(holder[0], host=holder[1])

    def canary_places(self) -> dict[str, tuple[str, int]]:
        """The agents at other nodes whose clients answer canaries, and where; none of those that are here as well."""
        places = self._neighbours.canary_places(self._now())
        return {name: place for name, place in places.items() if not self._consumers.is_consumed(name)}

    def without_canaries(self) -> list[str]:
        """The nodes in reach that take no canaries, for they are of an older version."""
        return self._neighbours.without_canaries()

    def is_elsewhere(self, agent: str) -> bool:
        """Whether an agent has a session at another node in reach."""
        return self._neighbours.elsewhere(agent, None, self._now()) is not None

    def has_instance(self, address: str) -> bool:
        """Whether an instance is with another node, as far as this one has heard."""
        return self._neighbours.has_instance(address)
