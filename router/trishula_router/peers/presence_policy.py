"""Neighbours: what the other nodes say of the agents that are with them.

Each node tells its peers, when something changed and every few seconds, what its directory says of each agent, which
instances are with it, and which mailboxes it delivers (:class:`Presence`). Out of that come one directory on all
nodes, the takeover of a mailbox across nodes, and the knowledge of instances and of capabilities that are elsewhere.

*Who consumes a mailbox*: of two sessions on two nodes the newer one, as on one node. Newer is who has the higher
*claim*: a node gives a session that attaches the wall clock's ms as its claim, or one more than the highest claim to
that mailbox that it has heard of, whichever is more; so a session that moves has the higher claim also where the
clocks differ. While the nodes can't reach each other both deliver, and the receiver's memory of ids keeps one.

*A node that can't be reached* is no sign that its agents are gone: they are ``stale``, with that as the reason, until
they are seen at another node or their node is back.

Policy only: instants are ms, no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from trishula.contract.addresses import Address
from trishula_router.clocks.peer_clocks import ahead_of

__all__ = ["Neighbours", "Presence", "by_own_clock", "is_entry", "sound"]


class Presence(msgspec.Struct, frozen=True):
    """What a node says of its agents.

    Attributes:
        node: who speaks.
        agents: the directory's entries of the agents that it has heard of.
        claims: the mailboxes that it delivers to a session, each with the session's claim.
        instances: the instances that are with it.
        capabilities: those of the agents that it can deliver to now. A node that tells none, because it is of an older
            version, is handed no message.
        canaries: the agents that it delivers to whose clients answer canaries; ``None`` if it is of an older version,
            which takes none.
        holders: of the mailboxes that it delivers, the run of the client's process, and where that runs, if it told.
        sent_at: when this was said, ms, by the speaker's clock, as all instants in it are; 0 if it is of an older
            version.
    """

    node: str
    agents: list[dict[str, Any]]
    claims: dict[str, int]
    instances: list[str]
    capabilities: list[str] = []
    sent_at: int = 0
    holders: dict[str, tuple[str, str | None]] = {}
    canaries: list[str] | None = None


@dataclass(slots=True)
class _Neighbour:
    presence: Presence
    #: Since when it can't be reached; ``None`` if it can.
    away_since: int | None = None
    #: The agents that have a session there, and since when it says so.
    present: dict[str, int] = field(default_factory=dict)
    instances: frozenset[str] = frozenset()


class Neighbours:
    """The agents of all other nodes.

    Args:
        node: the own node's name.
    """

    def __init__(self, node: str) -> None:
        self._node = node
        self._neighbours: dict[str, _Neighbour] = {}
        self._claims: dict[str, int] = {}

    # -- mailboxes -----------------------------------------------------------------------------------------------------

    def claim(self, address: str, now: int) -> None:
        """A session of this node begins to consume a mailbox."""
        known = (one.presence.claims.get(address, 0) for one in self._neighbours.values())
        self._claims[address] = max(now, self._claims.get(address, 0) + 1, *(claim + 1 for claim in known))

    def claims(self, addresses: Iterable[str]) -> dict[str, int]:
        """The claims of the mailboxes that this node delivers: all of them, to be told to the peers.

        Others are forgotten: who consumes such a mailbox next has a new claim, and instances come and go under ever new
        names.
        """
        self._claims = {address: self._claims.get(address, 0) for address in addresses}
        return dict(self._claims)

    def hear(self, presence: Presence, now: int) -> list[str]:
        """A peer spoke at ``now``; returns the mailboxes that a newer session consumes there."""
        ahead_ms = ahead_of(presence.sent_at, now)
        if ahead_ms:
            # Which of two nodes saw an agent last can be told by one clock only.
            agents = [by_own_clock(entry, ahead_ms) for entry in presence.agents]
            presence = msgspec.structs.replace(presence, agents=agents)
        before = self._neighbours.get(presence.node)
        since = {} if before is None else before.present
        present = {
            entry["agent"]: since.get(entry["agent"], now)
            for entry in presence.agents
            # Scripts under its name are sessions, and don't make it present.
            if entry["presence"] != "offline" or entry.get("sessions")
        }
        self._neighbours[presence.node] = _Neighbour(presence, present=present, instances=frozenset(presence.instances))
        return [
            address
            for address, claim in presence.claims.items()
            if (claim, presence.node) > (self._claims.get(address, 0), self._node)
        ]

    def is_at(self, name: str, agent: str) -> bool:
        """Whether a node says that an agent has a session there."""
        one = self._neighbours.get(name)
        return one is not None and agent in one.present

    def elsewhere(self, agent: str, besides: str | None, before: int) -> str | None:
        """A node in reach, another one than ``besides``, that has said since an instant that an agent has a session."""
        for name, one in self._neighbours.items():
            since = one.present.get(agent)
            if name != besides and one.away_since is None and since is not None and since <= before:
                return name
        return None

    def consumer_of(self, address: str) -> str | None:
        """The node in reach that delivers a mailbox to a session of its own."""
        for name, one in self._neighbours.items():
            if one.away_since is None and address in one.presence.claims:
                return name
        return None

    def holder_of(self, address: str) -> tuple[str, str | None] | None:
        """The run of the process that consumes a mailbox at a node in reach, and where that is."""
        for one in self._neighbours.values():
            if one.away_since is None and address in one.presence.claims:
                return one.presence.holders.get(address)
        return None

    def taken_at(self, address: str) -> tuple[str, int | None] | None:
        """The other node that told last that it delivers a mailbox, and since when it can't be reached, if it can't."""
        told = [
            (one.presence.claims[address], name)
            for name, one in self._neighbours.items()
            if address in one.presence.claims
        ]
        if not told:
            return None
        _, name = max(told)
        return name, self._neighbours[name].away_since

    def able(self, capability: str) -> list[str]:
        """The nodes in reach where an agent is present that can take messages to a capability."""
        return [
            name
            for name, one in self._neighbours.items()
            if one.away_since is None and capability in one.presence.capabilities
        ]

    def canary_places(self, now: int) -> dict[str, tuple[str, int]]:
        """The agents at other nodes whose clients answer canaries: each one's node, and the claim of its session.

        An agent whose node is out of reach is there until another node tells that it is with it, for a day at most.
        """
        places: dict[str, tuple[str, int]] = {}
        found = [(one.away_since is None, one) for one in self._neighbours.values()]
        consumed = {name for is_there, one in found if is_there for name in one.presence.claims}
        for is_there, one in found:
            if not is_there and now - (one.away_since or 0) > _AWAY_MS:
                continue
            for name in one.presence.canaries or ():
                claim = one.presence.claims.get(name)
                if claim is not None and "/" not in name and (is_there or name not in consumed):
                    places[name] = max((one.presence.node, claim), places.get(name, ("", -1)), key=lambda it: it[1])
        return places

    def without_canaries(self) -> list[str]:
        """The nodes in reach that take no canaries, for they are of an older version."""
        return sorted(
            name for name, one in self._neighbours.items() if one.away_since is None and one.presence.canaries is None
        )

    def has_instance(self, address: str) -> bool:
        """Whether an instance is with another node, or was when that was last heard of."""
        return any(address in one.instances for one in self._neighbours.values())

    # -- the directory -------------------------------------------------------------------------------------------------

    def follow_clock(self, by_ms: int) -> None:
        """The node's clock was set: it is ahead by so much now, and so is what was heard."""
        for one in self._neighbours.values():
            agents = [by_own_clock(entry, -by_ms) for entry in one.presence.agents]
            one.presence = msgspec.structs.replace(one.presence, agents=agents)
            one.away_since = None if one.away_since is None else one.away_since + by_ms
            one.present = {agent: since + by_ms for agent, since in one.present.items()}

    def lost(self, name: str, now: int) -> list[dict[str, Any]]:
        """A peer can't be reached; returns the entries of the agents that were there."""
        one = self._neighbours.get(name)
        if one is None or one.away_since is not None:
            return []
        one.away_since = now
        return [self._entry(name, one, entry) for entry in one.presence.agents if entry["presence"] != "offline"]

    def merged(self, own: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The own directory's entries, each replaced by what another node knows better.

        An agent that is here is here. Else the node counts where it is; if it is nowhere, the one that saw it last.
        """
        elsewhere: dict[str, dict[str, Any]] = {}
        for name, one in self._neighbours.items():
            for entry in one.presence.agents:
                told = self._entry(name, one, entry)
                if _knows_more(told, elsewhere.get(told["agent"])):
                    elsewhere[told["agent"]] = told
        return [
            dict(elsewhere[entry["agent"]])
            if entry["presence"] == "offline" and _knows_more(elsewhere.get(entry["agent"]), entry)
            else dict(entry)
            for entry in own
        ]

    def _entry(self, name: str, one: _Neighbour, entry: Mapping[str, Any]) -> dict[str, Any]:
        if one.away_since is None or entry["presence"] == "offline":
            return dict(entry)
        reason = f"its node {name} can't be reached from {self._node}; when it was, the agent was {entry['presence']}"
        return {**entry, "presence": "stale", "since": one.away_since, "reason": reason}


#: For so long an agent is looked for at a node that is out of reach.
_AWAY_MS = 86_400_000
_MOST = 2**53
#: A mailbox goes to the newest claim, which is an instant. No clock is so far ahead.
_CLAIMS_AHEAD_MS = 10 * 366 * 86_400_000
_TEXTS = ("agent", "presence")
_TEXTS_IF_ANY = ("reason", "node", "progress")
_NUMBERS_IF_ANY = (
    *("since", "last_seen_at", "last_beat_at", "busy_until", "load", "progress_at", "clock_skew_ms", "sessions"),
)


def sound(presence: Presence, is_registered: Callable[[str], bool], now: int) -> Presence:
    """What a node may say of agents: of those that are registered here, in the shape that the directory has.

    The rest is left out: agents that this node doesn't know, entries and claims that nobody could do anything with. An
    entry's node is who speaks.
    """
    agents = [
        {**entry, "node": None if entry["presence"] == "offline" else presence.node}
        for entry in presence.agents
        if is_entry(entry) and is_registered(entry["agent"])
    ]
    claims = {
        address: claim
        for address, claim in presence.claims.items()
        if 0 <= claim <= now + _CLAIMS_AHEAD_MS and _is_of(address, is_registered)
    }
    sent_at = presence.sent_at if 0 <= presence.sent_at < _MOST else 0
    return msgspec.structs.replace(presence, agents=agents, claims=claims, sent_at=sent_at)


def is_entry(entry: Mapping[str, Any]) -> bool:
    """Whether what somebody told has the shape of an entry of the directory."""
    capabilities = entry.get("capabilities", [])
    return (
        all(isinstance(entry.get(key), str) for key in _TEXTS)
        and entry["presence"] in _WEIGHT
        and all(isinstance(entry.get(key), str | None) for key in _TEXTS_IF_ANY)
        and all(_is_number(entry.get(key)) for key in _NUMBERS_IF_ANY)
        and isinstance(capabilities, list)
        and all(isinstance(one, str) for one in capabilities)
    )


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and -_MOST < value < _MOST)


def _is_of(address: str, is_registered: Callable[[str], bool]) -> bool:
    try:
        return is_registered(Address.parse(address).agent)
    except ValueError:
        return False


#: What are instants in an entry of the directory.
_INSTANTS = ("since", "last_seen_at", "last_beat_at", "busy_until", "progress_at")


def by_own_clock(entry: Mapping[str, Any], ahead_ms: int) -> dict[str, Any]:
    """An entry with its instants by this node's clock; its own clock's skew is by that of the agent's node."""
    moved = {key: entry[key] - ahead_ms for key in _INSTANTS if isinstance(entry.get(key), int)}
    return {**entry, **moved}


#: From what tells most of where an agent is.
_WEIGHT = {"online": 3, "busy": 3, "stale": 2, "offline": 1}


def _knows_more(told: Mapping[str, Any] | None, than: Mapping[str, Any] | None) -> bool:
    if told is None or than is None:
        return told is not None
    return _rank(told) > _rank(than)


def _rank(entry: Mapping[str, Any]) -> tuple[int, int]:
    return _WEIGHT.get(entry["presence"], 0), entry.get("last_seen_at") or 0
