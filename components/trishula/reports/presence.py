"""When nodes were up and agents were there, as the journals tell it. No I/O and no clock.

When a node was down it says itself (``trishula.node.objectives``), and that is what counts. Of a node that was not
asked, and of time that it doesn't know any more, the journals tell less: see :mod:`trishula.watching.lives`. That a
node stood still, was not ready or in maintenance stands in no journal.

An agent is there as long as any session of it is. A script is a session of its agent too; operators come to look and
go, and are no agents here. A *reconnect* is the first
session of an agent that is back after at most :data:`BACK_WITHIN_MS`; a *failover* is a reconnect at another node. A
session at a node of which nothing is known any more is taken to have ended with the last sign of life of the node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trishula.watching.availability import Availability, NodeTime, availability
from trishula.watching.lives import Life, Lives
from trishula.watching.outages import Stretch, length_ms, united, within

__all__ = ["BACK_WITHIN_MS", "Presence"]

#: Who is away for longer has not lost a connection, but has left.
BACK_WITHIN_MS = 10 * 60_000
#: A node looks at itself so soon after the first record that it wrote.
_SOON_MS = 60_000
_OPERATOR = "operator"


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
        self._lives = Lives(since, until)
        self._agents: dict[str, _Agent] = {}
        #: Sessions that are there, by node and session: whose, and since when.
        self._open: dict[str, dict[object, tuple[str, int]]] = {}
        #: Sessions of operators: (node, session).
        self._visits: set[tuple[str, object]] = set()

    def add(self, kind: str, at: int, record: Mapping[str, Any]) -> None:
        """Take note of a record; arguments as those of :meth:`.messages.Messages.add`.

        One from behind the span tells that its node was there until then, or that it was killed before.
        """
        name, session = str(record.get("node")), record.get("session")
        there = self._open.setdefault(name, {})
        ended_at = self._lives.add(kind, at, record)
        if kind == "node_started":
            for agent, begin in there.values():
                self._agent(agent).sessions.append((begin, begin if ended_at is None else max(begin, ended_at), name))
            there.clear()
        elif at >= self._until:
            pass
        elif kind == "joined" and record.get("role") != _OPERATOR:
            there[session] = str(record.get("agent")), at
        elif kind == "joined":
            self._visits.add((name, session))
        elif kind == "left" and (name, session) not in self._visits:
            agent, begin = there.pop(session, (str(record.get("agent")), self._since))
            self._agent(agent).sessions.append((begin, at, name))
        elif kind == "refused" and self._since <= at:
            self._agent(str(record.get("agent"))).refusals += 1 + int(record.get("more", 0))

    def add_last(self, kind: str, at: int, record: Mapping[str, Any]) -> None:
        """Take note of the last record of a journal, which may be from before the span; arguments as those of add."""
        self._lives.last(kind, at, record)

    def _agent(self, name: str) -> _Agent:
        return self._agents.setdefault(name, _Agent())

    def told(self, status: Mapping[str, Any]) -> dict[str, Any]:
        """``{nodes, bus, agents, failovers}``; see :mod:`trishula.reports.summary`.

        Args:
            status: ``trishula.node.status`` of the node whose journals were read.
        """
        times = self._lives.times(self._times, status)
        failovers: list[dict[str, Any]] = []
        agents = [self._told_agent(name, agent, failovers) for name, agent in self._with_open(times).items()]
        return {
            "nodes": [self._told_node(name, times[name]) for name in sorted(times)],
            "bus": _told(availability(list(times.values()), self._since, self._until)),
            "agents": sorted(agents, key=lambda one: str(one["agent"])),
            "failovers": sorted(failovers, key=lambda one: (one["at"], one["agent"])),
        }

    def _told_node(self, name: str, time: NodeTime) -> dict[str, Any]:
        life = self._lives.lives.get(name) or Life()
        unknown = [] if time.until is None else [[max(self._since, time.until), self._until]]
        return {
            "node": name,
            **_told(availability([time], self._since, self._until)),
            "unknown_s": sum(end - begin for begin, end in unknown) / 1000,
            "unknown": unknown,
            "crashes": life.crashes,
            "told_by": self._told_by(name, life),
        }

    def _told_by(self, name: str, life: Life) -> str:
        told = self._times.get(name)
        if told is None:
            return "journal"
        begun_at = self._since if name in self._lives.lives else told.since
        begun_at = begun_at if life.begun_at is None else life.begun_at
        return "node" if told.since <= begun_at + _SOON_MS else "both"

    def _with_open(self, times: Mapping[str, NodeTime]) -> dict[str, _Agent]:
        """All agents, with the sessions that nobody has ended."""
        found = {name: _Agent(list(agent.sessions), agent.refusals) for name, agent in self._agents.items()}
        for name, there in self._open.items():
            life, time = self._lives.lives.get(name) or Life(), times.get(name)
            end = life.stopped_at if life.stopped_at is not None or time is None else time.until
            for agent, begin in there.values():
                found.setdefault(agent, _Agent()).sessions.append((begin, end, name))
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
        "availability": found.share if found.known_ms else None,
        "down_s": found.down_ms / 1000,
        "down": [list(one) for one in found.down],
        "planned_s": length_ms(found.planned) / 1000,
        "planned": [list(one) for one in found.planned],
    }
