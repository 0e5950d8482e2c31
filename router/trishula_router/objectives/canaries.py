"""Canaries: whether agents reach each other, and how fast, also while they have nothing to say.

A canary goes from one agent to another one of this node as a message would, and is none: it has no place in a mailbox,
in the journal, in a quota, and no handler ever sees it. The node asks the client of the first agent for it (*asked*);
that sends it; the node makes a note durable, as it would a message (*held*), and hands it to the client of the second
one (*handed*), which answers. How long it took one way is half of each client's round trip and all of the disk's part:
nobody's clock but the node's has to do with it. A canary that is not answered within :data:`PATIENCE_S` is lost.

Each pair of agents has its turn once a minute if the node may send as many; of a larger bus one pair after the other
has, so that each agent has many turns before a pair has its second one. Only clients that said that they know canaries
get any. Policy only; ``now_s`` is the clock for spans.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trishula.watching.quantiles import spread_of
from trishula_router.histogram import FAST_S, Histogram
from trishula_router.spans import Spans

__all__ = ["PATIENCE_S", "Canaries", "Flight"]

#: One that is not answered by then is lost.
PATIENCE_S = 10.0
#: A pair's last canaries that are remembered, and the pairs whose are: the ones of last.
_OUTCOMES, _PAIRS = 60, 1000
#: So many pairs are told.
_TOLD = 200
#: So many pairs are tried before one is found whose first may send to the second.
_TRIES = 100


@dataclass(slots=True)
class Flight:
    """A canary under way.

    Attributes:
        id: its own.
        sender, recipient: between which agents.
        sessions: theirs.
        began_s: when the leg under way began.
        took_s: how long the way took so far.
        leg: ``asked``, ``held`` or ``handed``.
        asked_s: when it was asked for.
    """

    id: str
    sender: str
    recipient: str
    sessions: tuple[int, int]
    began_s: float
    asked_s: float
    took_s: float = 0.0
    leg: str = "asked"


@dataclass(slots=True)
class _Pair:
    """What became of a pair's last canaries: ms one way, ``None`` of a lost one."""

    outcomes: deque[int | None] = field(default_factory=lambda: deque(maxlen=_OUTCOMES))


class Canaries:
    """See the module's docstring.

    Args:
        per_minute: how many are sent at most; 0 for none.
        run: names the node's run, so that no id comes twice.

    Attributes:
        answered, lost: how many were.
        spans: how many ms they took one way, to be taken.
        times: the same in seconds, for good.
    """

    def __init__(self, per_minute: int, run: str) -> None:
        self.per_minute = per_minute
        self.answered = self.lost = 0
        self.spans = Spans()
        self.times = Histogram(FAST_S)
        self._run, self._count = run, 0
        #: Agent → its session that knows canaries.
        self._sessions: dict[str, int] = {}
        self._flights: dict[str, Flight] = {}
        self._pairs: OrderedDict[tuple[str, str], _Pair] = OrderedDict()
        self._turn = 0
        self._due_s: float | None = None

    def announced(self, agent: str, session: int, *, knows: bool) -> None:
        """A session attached to an agent's mailbox, and says whether it knows canaries."""
        if knows:
            self._sessions[agent] = session
        else:
            self._sessions.pop(agent, None)

    def next(self, consumers: Mapping[str, int], may_send: Callable[[str, str], bool], now_s: float) -> Flight | None:
        """The canary that is due now, if any.

        Args:
            consumers: agent → the session that its messages are pushed to.
            may_send: whether an agent may send to another one.
            now_s: the time.
        """
        if self._due_s is not None and now_s < self._due_s:
            return None
        self._sessions = {agent: session for agent, session in self._sessions.items() if agent in consumers}
        agents = sorted(agent for agent, session in self._sessions.items() if consumers[agent] == session)
        pairs = len(agents) * (len(agents) - 1)
        if not self.per_minute or not pairs:
            return None
        self._due_s = now_s + 60.0 / min(self.per_minute, pairs)
        for _ in range(min(pairs, _TRIES)):
            sender, recipient = self._take_turn(agents)
            if may_send(sender, recipient):
                sessions = self._sessions[sender], self._sessions[recipient]
                self._count += 1
                flight = Flight(f"{self._run}-{self._count}", sender, recipient, sessions, now_s, now_s)
                self._flights[flight.id] = flight
                return flight
        return None

    def _take_turn(self, agents: Sequence[str]) -> tuple[str, str]:
        """Each agent to its neighbour, then each to the next but one, and so on."""
        count = len(agents)
        place, ahead = self._turn % count, 1 + self._turn // count % (count - 1)
        self._turn += 1
        return agents[place], agents[(place + ahead) % count]

    def heard(self, canary: str, session: int, now_s: float) -> Flight | None:
        """A client answered; the flight, ``held`` if it is to be handed on, ``handed`` if it has arrived.

        ``None``: nobody asked that session.
        """
        flight = self._flights.get(canary)
        if flight is None or flight.leg == "held" or flight.sessions[flight.leg == "handed"] != session:
            return None
        flight.took_s += (now_s - flight.began_s) / 2
        flight.began_s = now_s
        if flight.leg == "asked":
            flight.leg = "held"
        else:
            del self._flights[canary]
            self.answered += 1
            self.spans.observe(round(flight.took_s * 1000))
            self.times.observe(flight.took_s)
            self._note(flight, round(flight.took_s * 1000))
        return flight

    def handed(self, flight: Flight, now_s: float) -> None:
        """The node's note is durable, and the canary goes on."""
        flight.took_s += now_s - flight.began_s
        flight.began_s = now_s
        flight.leg = "handed"

    def look(self, consumers: Mapping[str, int], now_s: float) -> None:
        """Give up what is overdue: it is lost, unless one of its two agents has left or come again meanwhile."""
        for flight in [one for one in self._flights.values() if now_s - one.asked_s > PATIENCE_S]:
            del self._flights[flight.id]
            if (consumers.get(flight.sender), consumers.get(flight.recipient)) == flight.sessions:
                self.lost += 1
                self._note(flight, None)

    def _note(self, flight: Flight, outcome: int | None) -> None:
        key = flight.sender, flight.recipient
        self._pairs.setdefault(key, _Pair()).outcomes.append(outcome)
        self._pairs.move_to_end(key)
        if len(self._pairs) > _PAIRS:
            self._pairs.popitem(last=False)

    def told(self) -> list[dict[str, Any]]:
        """The last canaries of each pair, as they travel: those with losses first, then the slowest."""
        found = []
        for (sender, recipient), pair in self._pairs.items():
            spread = spread_of(one for one in pair.outcomes if one is not None)
            found.append(
                {
                    "from": sender,
                    "to": recipient,
                    "road": "live",
                    "canaries": len(pair.outcomes),
                    "lost": len(pair.outcomes) - spread["messages"],
                    "p50_ms": spread["p50_ms"],
                    "p99_ms": spread["p99_ms"],
                }
            )
        found.sort(key=lambda one: (-one["lost"], -(one["p99_ms"] or 0), one["from"], one["to"]))
        return found[:_TOLD]
