"""When nodes were up and agents were there, as the journals tell it. No I/O and no clock.

When a node was down it says itself (``trishula.node.objectives``), and that is what counts. Of a node that was not
asked, and of time that it doesn't know any more, the journal tells less: a node writes when it starts and when it
stops. One that was killed writes nothing, so a start without a stop before says that it was down: from its last record
before, which is the last sign of life that there is, until the start. A session that was open then has ended with its
node. That a node stood still, was not ready or in maintenance stands in no journal.

An agent is there as long as any session of it is. A script is a session of its agent too; operators come to look and
go, and are no agents here. A *reconnect* is the first
session of an agent that is back after at most :data:`BACK_WITHIN_MS`; a *failover* is a reconnect at another node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trishula.watching.availability import Availability, NodeTime, availability
from trishula.watching.outages import Stretch, length_ms, united, within

__all__ = ["BACK_WITHIN_MS", "Presence"]

#: Who is away for longer has not lost a connection, but has left.
BACK_WITHIN_MS = 10 * 60_000
#: A node looks at itself so soon after the first record that it wrote.
_SOON_MS = 60_000
_OPERATOR = "operator"


@dataclass
class _Node:
    begun_at: int | None = None
    last_at: int | None = None
    stopped_at: int | None = None
    down: list[Stretch] = field(default_factory=list)
    crashes: int = 0
    sessions: dict[object, tuple[str, int]] = field(default_factory=dict)


@dataclass
class _Agent:
    """Of one agent: sessions as (begin, end, node), an open one with the end ``None``."""

    sessions: list[tuple[int, int | None, str]] = field(default_factory=list)
    refusals: int = 0


class Presence:
    """Takes note of records as they are read, of each journal in its order.

    Args:
        since, until: the span, ms since the epoch.
        times: what nodes said of their time, by their names.
    """

    def __init__(self, since: int, until: int, times: Mapping[str, NodeTime] | None = None) -> None:
        self._since, self._until = since, until
        self._times = dict(times or {})
        self._nodes: dict[str, _Node] = {}
        self._agents: dict[str, _Agent] = {}
        #: Sessions of operators: (node, session).
        self._visits: set[tuple[str, object]] = set()

    def add(self, kind: str, at: int, record: Mapping[str, Any]) -> None:
        """Take note of a record; arguments as those of :meth:`.messages.Messages.add`."""
        name = str(record.get("node"))
        node = self._nodes.setdefault(name, _Node())
        if kind == "node_started":
            if node.stopped_at is not None:
                node.down.append((node.stopped_at, at))
            elif node.last_at is not None:
                node.down.append((node.last_at, at))
                node.crashes += 1
            elif record["seq"] > 1:
                # Its last record is from before the span.
                node.down.append((self._since, at))
            else:
                node.begun_at = at
            self._end_sessions(node, name, node.last_at if node.stopped_at is None else node.stopped_at)
            node.stopped_at = None
        elif kind == "node_stopped":
            node.stopped_at = at
        elif kind == "joined" and record.get("role") != _OPERATOR:
            node.sessions[record.get("session")] = str(record.get("agent")), at
        elif kind == "joined":
            self._visits.add((name, record.get("session")))
        elif kind == "left" and (name, record.get("session")) not in self._visits:
            agent, begin = node.sessions.pop(record.get("session"), (str(record.get("agent")), self._since))
            self._agent(agent).sessions.append((begin, at, name))
        elif kind == "refused" and self._since <= at < self._until:
            self._agent(str(record.get("agent"))).refusals += 1 + int(record.get("more", 0))
        node.last_at = at if node.last_at is None else max(node.last_at, at)

    def _agent(self, name: str) -> _Agent:
        return self._agents.setdefault(name, _Agent())

    def _end_sessions(self, node: _Node, name: str, at: int | None) -> None:
        for agent, begin in node.sessions.values():
            self._agent(agent).sessions.append((begin, begin if at is None else max(begin, at), name))
        node.sessions.clear()

    def told(self) -> dict[str, Any]:
        """``{nodes, bus, agents, failovers}``; see :mod:`trishula.reports.summary`."""
        times = {name: self._time(name, node) for name, node in self._nodes.items()}
        # A node that wrote nothing in the span.
        times |= {name: told for name, told in self._times.items() if name not in times and told.since < self._until}
        failovers: list[dict[str, Any]] = []
        agents = [self._told_agent(name, agent, failovers) for name, agent in self._with_open().items()]
        return {
            "nodes": [
                {
                    "node": name,
                    **_told(availability([times[name]], self._since, self._until)),
                    "crashes": self._nodes[name].crashes if name in self._nodes else 0,
                    "told_by": self._told_by(name),
                }
                for name in sorted(times)
            ],
            "bus": _told(availability(list(times.values()), self._since, self._until)),
            "agents": sorted(agents, key=lambda one: str(one["agent"])),
            "failovers": sorted(failovers, key=lambda one: (one["at"], one["agent"])),
        }

    def _time(self, name: str, node: _Node) -> NodeTime:
        """What is known of a node's time: what it said, and before that what its journal tells."""
        still = [] if node.stopped_at is None else [(node.stopped_at, self._until)]
        begun_at = self._since if node.begun_at is None else node.begun_at
        told = self._times.get(name)
        if told is None:
            return NodeTime(begun_at, united([*node.down, *still]))
        before = within([*node.down, *still], 0, told.since)
        return NodeTime(min(begun_at, told.since), united([*before, *told.down]), told.declared)

    def _told_by(self, name: str) -> str:
        told = self._times.get(name)
        if told is None:
            return "journal"
        begun_at = self._nodes[name].begun_at if name in self._nodes else told.since
        return "node" if told.since <= (self._since if begun_at is None else begun_at) + _SOON_MS else "both"

    def _with_open(self) -> dict[str, _Agent]:
        """All agents, with the sessions that nobody has ended."""
        found = {name: _Agent(list(agent.sessions), agent.refusals) for name, agent in self._agents.items()}
        for name, node in self._nodes.items():
            for agent, begin in node.sessions.values():
                found.setdefault(agent, _Agent()).sessions.append((begin, node.stopped_at, name))
        return found

    def _told_agent(self, name: str, agent: _Agent, failovers: list[dict[str, Any]]) -> dict[str, Any]:
        counts: Counter[str] = Counter()
        there_until: int | None = None
        was_at = ""
        away: list[Stretch] = []
        for begin, end, node in sorted(agent.sessions, key=lambda session: (session[0], session[1] or self._until)):
            is_in_span = self._since <= begin < self._until
            counts["sessions"] += is_in_span
            if there_until is not None and begin > there_until:
                away.append((there_until, begin))
                if is_in_span and begin - there_until <= BACK_WITHIN_MS:
                    counts["reconnects"] += 1
                    if node != was_at:
                        counts["failovers"] += 1
                        took_s = (begin - there_until) / 1000
                        failovers.append({"agent": name, "from": was_at, "to": node, "at": begin, "took_s": took_s})
            until = self._until if end is None else end
            if there_until is None or until >= there_until:
                there_until, was_at = until, node
        if there_until is not None and there_until < self._until:
            away.append((there_until, self._until))
        away = united(within(away, self._since, self._until))
        return {
            "agent": name,
            **{what: counts[what] for what in ("sessions", "reconnects", "failovers")},
            "refusals": agent.refusals,
            "away_s": length_ms(away) / 1000,
            "away": [list(one) for one in away],
        }


def _told(found: Availability) -> dict[str, Any]:
    return {
        "availability": found.share,
        "down_s": found.down_ms / 1000,
        "down": [list(one) for one in found.down],
        "planned_s": length_ms(found.planned) / 1000,
        "planned": [list(one) for one in found.planned],
    }
