"""Canaries: whether agents reach each other, and how fast, also while they have nothing to say.

A canary goes from one agent to another one as a message would, and is none: it has no place in a mailbox, in the
journal, in a quota, and no handler ever sees it. The node asks the client of the first agent for it (*asked*); that
sends it; the node makes a note durable, as it would a message (*held*), and hands it on (*handed*): to the client of
the second agent, which answers, or to the linked node where that agent is, which hands it to the client and brings the
answer back (:mod:`.visiting`). A canary that is not answered within :data:`PATIENCE_S` is lost. So who sits behind a
link that is down loses canaries until it is found elsewhere.

By files (:data:`FILES`) canaries go between agents of this node that have a folder: the client of the first one writes
a file into its outbox, says so, and whoever carries files brings it to the second one's inbox. That takes as long as
somebody's rsync takes, so the patience is longer.

How long it took one way is half of each client's round trip and all of the disk's part; by files, from when the file
was written. Over a link, it is by what the link showed of the two nodes' clocks, and within the round trip; where that
isn't known, half of the round trip.

Each canary is counted once, at the node of its sender. Each pair of agents has its turn once a minute if the node may
send as many; of a larger bus one pair after the other has, so that each agent has many turns before a pair has its
second one. Only clients that said that they know canaries get any. Policy only; ``now_s`` is the clock for spans.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trishula.watching.quantiles import spread_of
from trishula_router.histogram import FAST_S, SLOW_S, Histogram
from trishula_router.spans import Spans

__all__ = [
    "FILES",
    "FILES_PATIENCE_S",
    "LINK",
    "LIVE",
    "PATIENCE_S",
    "Canaries",
    "Flight",
    "Place",
    "RoadTally",
    "canaries_of",
]

#: The roads: between two agents of this node, to one of a linked node, and by files between two of this node.
LIVE, LINK, FILES = "live", "link", "files"
#: One that is not answered by then is lost; files are carried once a minute, say, in two steps.
PATIENCE_S, FILES_PATIENCE_S = 10.0, 300.0
#: A pair's last canaries that are remembered, and the pairs whose are: the ones of last.
_OUTCOMES, _PAIRS = 60, 1000
#: So many pairs are told.
_TOLD = 200
#: So many pairs are tried before one is found whose first may send to the second.
_TRIES = 100

#: Where an agent is that is not here: its node, and what that node tells its sessions apart by.
Place = tuple[str, int]


@dataclass(slots=True)
class Flight:
    """A canary under way.

    Attributes:
        id: its own.
        sender, recipient: between which agents.
        sessions: theirs; of a recipient elsewhere what its node tells its sessions apart by.
        began_s: when the leg under way began.
        asked_s: when it was asked for.
        road: which one it takes.
        peer: the linked node where the recipient is; ``None`` if it is here.
        took_s: how long the way took so far.
        leg: ``asked``, ``held`` or ``handed``.
        sent_at: when it was handed to the peer, by this node's wall clock, ms.
    """

    id: str
    sender: str
    recipient: str
    sessions: tuple[int, int]
    began_s: float
    asked_s: float
    road: str = LIVE
    peer: str | None = None
    took_s: float = 0.0
    leg: str = "asked"
    sent_at: int = 0


@dataclass(slots=True)
class RoadTally:
    """What became of the canaries of one road.

    Attributes:
        answered, lost: how many were.
        spans: how many ms they took one way, to be taken.
        times: the same in seconds, for good.
    """

    answered: int = 0
    lost: int = 0
    spans: Spans = field(default_factory=Spans)
    times: Histogram = field(default_factory=lambda: Histogram(FAST_S))


@dataclass(slots=True)
class _Pair:
    """What became of a pair's last canaries: ms one way, ``None`` of a lost one."""

    outcomes: deque[int | None] = field(default_factory=lambda: deque(maxlen=_OUTCOMES))


class Canaries:
    """See the module's docstring.

    Args:
        per_minute: how many are sent at most; 0 for none.
        run: names the node's run, so that no id comes twice.
        by_files: whether they go by files, and not by the node.

    Attributes:
        roads: what became of those of each road.
    """

    def __init__(self, per_minute: int, run: str, *, by_files: bool = False) -> None:
        self.per_minute = per_minute
        slow = {FILES: RoadTally(times=Histogram(SLOW_S))}
        self.roads = slow if by_files else {LIVE: RoadTally(), LINK: RoadTally()}
        self._by_files = by_files
        self._patience_s = FILES_PATIENCE_S if by_files else PATIENCE_S
        self._run, self._count = run, 0
        #: Agent → its session that knows canaries.
        self._sessions: dict[str, int] = {}
        self._flights: dict[str, Flight] = {}
        self._pairs: OrderedDict[tuple[str, str, str], _Pair] = OrderedDict()
        self._turn = 0
        self._due_s: float | None = None

    def announced(self, agent: str, session: int, *, knows: bool) -> None:
        """A session attached to an agent's mailbox, and says whether it knows canaries."""
        if knows:
            self._sessions[agent] = session
        else:
            self._sessions.pop(agent, None)

    def knowing(self, consumers: Mapping[str, int]) -> list[str]:
        """The agents here whose sessions know canaries, and consume their mailboxes.

        Args:
            consumers: agent → the session that its messages are pushed to.
        """
        self._sessions = {agent: session for agent, session in self._sessions.items() if agent in consumers}
        return sorted(agent for agent, session in self._sessions.items() if consumers[agent] == session)

    def next(
        self,
        consumers: Mapping[str, int],
        elsewhere: Mapping[str, Place],
        may_send: Callable[[str, str], bool],
        now_s: float,
    ) -> Flight | None:
        """The canary that is due now, if any.

        Args:
            consumers: agent → the session that its messages are pushed to.
            elsewhere: the agents at linked nodes whose sessions know canaries, and where each is.
            may_send: whether an agent may send to another one.
            now_s: the time.
        """
        if self._due_s is not None and now_s < self._due_s:
            return None
        agents, others = self.knowing(consumers), sorted(elsewhere)
        pairs = len(agents) * (len(agents) - 1 + len(others))
        if not self.per_minute or not pairs:
            return None
        self._due_s = now_s + 60.0 / min(self.per_minute, pairs)
        for _ in range(min(pairs, _TRIES)):
            sender, recipient = self._take_turn(agents, others)
            if may_send(sender, recipient):
                peer, session = elsewhere.get(recipient, (None, self._sessions.get(recipient, 0)))
                self._count += 1
                sessions = self._sessions[sender], session
                road = FILES if self._by_files else LIVE if peer is None else LINK
                flight = Flight(f"{self._run}-{self._count}", sender, recipient, sessions, now_s, now_s, road, peer)
                self._flights[flight.id] = flight
                return flight
        return None

    def _take_turn(self, agents: Sequence[str], others: Sequence[str]) -> tuple[str, str]:
        """Each agent here to its neighbour, then each to the next but one, and so on.

        Rounds to agents elsewhere are spread evenly among those to agents here.
        """
        count = len(agents)
        rounds = count - 1 + len(others)
        place, turn = self._turn % count, self._turn // count % rounds
        self._turn += 1
        before, after = turn * len(others) // rounds, (turn + 1) * len(others) // rounds
        if after > before:
            return agents[place], others[(place + before) % len(others)]
        return agents[place], agents[(place + 1 + turn - before) % count]

    def heard(self, canary: str, session: int, now_s: float) -> Flight | None:
        """A client answered; the flight, ``held`` if it is to be handed on, ``handed`` if it has arrived.

        ``None``: nobody asked that session.
        """
        flight = self._flights.get(canary)
        if flight is None or flight.leg == "held" or flight.sessions[flight.leg == "handed"] != session:
            return None
        if flight.leg == "handed" and flight.peer is not None:
            return None
        if not self._by_files:
            flight.took_s += (now_s - flight.began_s) / 2
        elif flight.leg == "handed":
            flight.took_s = now_s - flight.began_s
        flight.began_s = now_s
        if flight.leg == "asked":
            flight.leg = "held"
        else:
            self._arrived(flight)
        return flight

    def handed(self, flight: Flight, now_s: float, now: int = 0) -> None:
        """The node's note is durable, and the canary goes on; ``now`` by the wall clock, ms."""
        flight.took_s += now_s - flight.began_s
        flight.began_s, flight.sent_at = now_s, now
        flight.leg = "handed"

    def answered(
        self, peer: str, canary: str, *, way_ms: int | None, kept_s: float, took_s: float, now_s: float
    ) -> bool:
        """A peer brings back a canary that was handed to it; whether there is such a one.

        Args:
            peer: which node.
            canary: its id.
            way_ms: how long it was on its way there by both clocks; ``None`` if too little is known of the peer's.
            kept_s: for how long the peer had it.
            took_s: how much of that it was on its way to the client.
            now_s: the time.
        """
        flight = self._flights.get(canary)
        if flight is None or flight.peer != peer or flight.leg != "handed":
            return False
        # What clocks say can't be more than there and back; one of them may have been set meanwhile.
        both_s = max(0.0, now_s - flight.began_s - kept_s)
        flight.took_s += (both_s / 2 if way_ms is None else min(both_s, max(0.0, way_ms / 1000))) + took_s
        self._arrived(flight)
        return True

    def sent_at(self, canary: str) -> int:
        """When a canary was handed to a peer, ms; 0 if there is none."""
        flight = self._flights.get(canary)
        return 0 if flight is None else flight.sent_at

    def _arrived(self, flight: Flight) -> None:
        del self._flights[flight.id]
        tally, took_ms = self.roads[flight.road], round(flight.took_s * 1000)
        tally.answered += 1
        tally.spans.observe(took_ms)
        tally.times.observe(flight.took_s)
        self._note(flight, took_ms)

    def look(self, consumers: Mapping[str, int], elsewhere: Mapping[str, Place], now_s: float) -> None:
        """Give up what is overdue: it is lost, unless one of its two agents has left or come again meanwhile."""
        for flight in [one for one in self._flights.values() if now_s - one.asked_s > self._patience_s]:
            del self._flights[flight.id]
            sender, recipient = flight.sessions
            if flight.peer is None:
                is_there = consumers.get(flight.recipient) == recipient
            else:
                is_there = elsewhere.get(flight.recipient) == (flight.peer, recipient)
            if is_there and consumers.get(flight.sender) == sender:
                self.roads[flight.road].lost += 1
                self._note(flight, None)

    def _note(self, flight: Flight, outcome: int | None) -> None:
        key = flight.sender, flight.recipient, flight.road
        self._pairs.setdefault(key, _Pair()).outcomes.append(outcome)
        self._pairs.move_to_end(key)
        if len(self._pairs) > _PAIRS:
            self._pairs.popitem(last=False)

    def told(self) -> list[dict[str, Any]]:
        """The last canaries of each pair, as they travel: those with losses first, then the slowest."""
        found = []
        for (sender, recipient, road), pair in self._pairs.items():
            spread = spread_of(one for one in pair.outcomes if one is not None)
            found.append(
                {
                    "from": sender,
                    "to": recipient,
                    "road": road,
                    "canaries": len(pair.outcomes),
                    "lost": len(pair.outcomes) - spread["messages"],
                    "p50_ms": spread["p50_ms"],
                    "p99_ms": spread["p99_ms"],
                }
            )
        found.sort(key=lambda one: (-one["lost"], -(one["p99_ms"] or 0), one["from"], one["to"]))
        return found[:_TOLD]


def canaries_of(per_minute: int, run: str) -> tuple[Canaries, Canaries]:
    """A node's canaries: those that go by the node, and those that go by files; so many a minute of each."""
    return Canaries(per_minute, run), Canaries(per_minute, f"{run}-f", by_files=True)
