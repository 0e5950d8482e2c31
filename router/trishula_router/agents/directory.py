"""The directory: who is registered, who is there, what they can do, and how their clocks stand.

Presence is decided in :mod:`.presence`. What an agent says of itself ends with its last session.

Three signals are told apart in its entry: the *socket* (``sessions``), the *heartbeat* (``last_beat_at``; any own call
is a sign of life as well: ``last_seen_at``) and the *progress* that it reports (``progress``; ``progress_at``: since
when it says just that). A heartbeat that goes on while the progress stands still is an agent that hangs in its work.

When an agent was there last outlives the node (:meth:`Directory.memory`, :meth:`Directory.recall`). Policy only: every
verb takes ``now`` (ms) and returns what changed (:meth:`Directory.changes`).

The cost of presence follows what happens, not how many agents there are: an agent is looked at when it did something
that may change its presence, and at the instant at which its silence, or the end of what it said, may
(:func:`.presence.next_change_at`). A beat that says what the last one said is looked at by nobody. And many agents are
told, with the answers to their beats, to beat less often, so that all of them together beat :data:`_BEATS_PER_S` times
a second; so much longer may each be silent. That somebody's connection is gone or its process frozen, pings show much
earlier.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trishula_router.agents.presence import PRESENT, Known, next_change_at, presence_of
from trishula_router.agents.sessions import Session, Sessions, Stage
from trishula_router.clocks.peer_clocks import ahead_of
from trishula_router.settings.options import PresencePolicy

__all__ = ["Directory", "Seen"]


@dataclass(frozen=True, slots=True)
class Seen:
    """When an agent was there last.

    Attributes:
        seen_at: its last sign of life.
        offline_since: since when it was offline; ``None`` if it was there when this was written.
    """

    seen_at: int
    offline_since: int | None


#: Samples of the clocks' difference that are kept: the last five minutes at a beat every ten seconds.
_SKEW_SAMPLES = 30

#: An agent that can change by itself only much later is looked at so often all the same: what it says changes, and a
#: look that was planned for a far day would be kept until then.
_LOOK_WITHIN_MS = 60_000

#: So long an agent is taken at its word that it is busy: one that says "for ever" and freezes must be called stale.
_BUSY_MOST_MS = 86_400_000

#: What of an agent is an instant.
_INSTANTS = ("seen_at", "busy_until", "beat_at", "progress_at", "turn_until", "turn_since", "since")
#: Beats of all agents a second, if there are so many that they would be more. Each takes a node 100 µs.
_BEATS_PER_S = 50.0
#: Nobody is told to beat less often.
_SLOWEST_S = 60.0


class Directory:
    """All agents of a node.

    Args:
        node: the node's name.
        policy: when an agent is stale.
        sessions: who is joined.
        registered: the names of all registered agents.
        may_serve: whether an agent may (still) serve a capability that it announced.
    """

    def __init__(
        self,
        node: str,
        policy: PresencePolicy,
        sessions: Sessions,
        registered: Callable[[], Iterable[str]],
        may_serve: Callable[[str, str], bool] = lambda agent, capability: True,
    ) -> None:
        self._node = node
        self._policy = policy
        self._sessions = sessions
        self._registered = registered
        self._may_serve = may_serve
        self._known: dict[str, Known] = {}
        # Who did something since the last look that may change its presence, in order.
        self._touched: dict[str, None] = {}
        # (when to look, at whom), the earliest first. Of an agent the one counts that says the same as its look_at.
        self._looks: list[tuple[int, str]] = []
        # Who announced each capability.
        self._announced: dict[str, dict[str, None]] = {}

    def joined(self, session: Session) -> None:
        """A session joined."""
        self._known.setdefault(session.agent, Known()).seen_at = session.joined_at
        self._touched[session.agent] = None

    def attached(
        self,
        session: Session,
        now: int,
        *,
        instance: str | None,
        capabilities: tuple[str, ...],
        heartbeat_s: float | None,
    ) -> None:
        """A session consumes a mailbox now; only the agent's own (no instance) speaks for the agent."""
        self.sign_of_life(session, now)
        session.instance, session.heartbeat_s = instance, heartbeat_s
        self._touched[session.agent] = None
        if instance is None:
            known = self._known[session.agent]
            self._announce(session.agent, known, capabilities)
            known.heartbeat_s = heartbeat_s

    def _announce(self, agent: str, known: Known, capabilities: tuple[str, ...]) -> None:
        for one in known.capabilities:
            who = self._announced[one]
            who.pop(agent, None)
            if not who:
                del self._announced[one]
        # Announced twice, a capability would be withdrawn twice.
        known.capabilities = tuple(dict.fromkeys(capabilities))
        for one in known.capabilities:
            self._announced.setdefault(one, {})[agent] = None

    def speaks_as(self, session: Session, instance: str) -> None:
        """A session turned out to be an instance's."""
        session.instance = instance
        self._touched[session.agent] = None

    def sign_of_life(self, session: Session, now: int) -> None:
        """A session did something by itself: it called."""
        known = self._known[session.agent]
        # Of an agent that is there a further sign of life changes nothing; it comes with each of its calls.
        if not session.has_called or known.presence not in PRESENT:
            session.has_called = True
            self._touched[session.agent] = None
        if session.instance is None:
            known.seen_at = now

    def beat(
        self,
        session: Session,
        now: int,
        *,
        sent_at: int | None = None,
        state: str | None = None,
        busy_until: int | None = None,
        load: float | None = None,
        progress: str | None = None,
    ) -> float | None:
        """A heartbeat arrived at ``now``; ``sent_at`` is the agent's clock when it left.

        A script under the agent's name beats for itself alone: the agent may be frozen beside it.

        Returns:
            how often the session is to beat from now on, in seconds, if that is less often than it said.
        """
        if session.stage is Stage.GONE:
            # It came behind messages that waited for the store.
            return None
        agent, known = session.agent, self._known[session.agent]
        if sent_at is not None:
            session.skews_ms = [*session.skews_ms[-_SKEW_SAMPLES + 1 :], sent_at - now]
            if busy_until is not None:
                busy_until = min(busy_until - ahead_of(sent_at, now), now + _BUSY_MOST_MS)
        asked_s, paced_s = session.heartbeat_s or self._policy.heartbeat_s, self._paced_s()
        told_s = paced_s if paced_s > asked_s else None
        if session.instance is not None:
            return told_s
        known.seen_at = known.beat_at = now
        heartbeat_s = session.heartbeat_s if told_s is None else told_s
        if (heartbeat_s or 0.0) < (known.heartbeat_s or 0.0):
            # The end of its patience may come before the look that was planned.
            self._touched[agent] = None
        known.heartbeat_s = heartbeat_s
        if (state, busy_until) != (known.says, known.busy_until) or known.presence not in PRESENT:
            self._touched[agent] = None
        known.says, known.busy_until, known.load = state, busy_until, load
        if progress != known.progress:
            known.progress, known.progress_at = progress, None if progress is None else now
        if sent_at is not None:
            known.skews_ms = session.skews_ms
        return told_s

    def in_turn(self, agent: str, until: int | None, doing: str | None, since: int | None) -> None:
        """An agent is in a turn until then (ms), or with ``None`` in none; see :mod:`.turns`."""
        known = self._known.setdefault(agent, Known())
        known.turn_until, known.turn_doing, known.turn_since = until, doing, since
        self._touched[agent] = None

    def _paced_s(self) -> float:
        return min(round(self._sessions.count / _BEATS_PER_S, 1), _SLOWEST_S)

    def ahead_ms(self, session: Session) -> int | None:
        """By how much the clock of a session is ahead of the node's, as its beats show; ``None`` if it never beat."""
        return max(session.skews_ms) if session.skews_ms else None

    def follow_clock(self, by_ms: int) -> None:
        """The node's clock was set: it is ahead by so much now, and what is known was known at an earlier instant."""
        for session in self._sessions.all():
            session.joined_at = (session.joined_at or 0) + by_ms
            session.skews_ms = []
        for agent, known in self._known.items():
            for name in _INSTANTS:
                at = getattr(known, name)
                if at is not None:
                    setattr(known, name, at + by_ms)
            # Measured by the clock as it was.
            known.skews_ms, known.look_at = [], None
            self._touched[agent] = None
        self._looks = []

    def left(self, session: Session) -> None:
        """A session is gone."""
        self._touched[session.agent] = None
        if not any(one.instance is None for one in self._sessions.of_agent(session.agent)):
            # Its next life says for itself what it does.
            known = self._known[session.agent]
            known.says = known.busy_until = known.load = known.progress = known.progress_at = None

    def here_since(self, agent: str) -> int | None:
        """When the oldest session that an agent has here joined, ms; ``None`` if it has none."""
        # In the order of joining.
        return next((session.joined_at for session in self._sessions.of_agent(agent)), None)

    def changes(self, now: int) -> list[dict[str, Any]]:
        """The agents whose presence changed since the last call, as their entries."""
        looked_at, self._touched = self._touched, {}
        while self._looks and self._looks[0][0] <= now:
            at, agent = heapq.heappop(self._looks)
            if self._known[agent].look_at == at:
                self._known[agent].look_at = None
                looked_at[agent] = None
        changed = []
        for agent in looked_at:
            known = self._known[agent]
            known.end_turn(now)
            presence, reason = self._presence_of(agent, known, now)
            if presence != known.presence:
                known.presence, known.reason, known.since = presence, reason, now
                changed.append(self.entry(agent))
            self._plan_look(agent, known, now)
        return changed

    def _presence_of(self, agent: str, known: Known, now: int) -> tuple[str, str]:
        return presence_of(known, self._sessions.of_agent(agent), now=now, policy=self._policy)

    def _plan_look(self, agent: str, known: Known, now: int) -> None:
        at = next_change_at(known, self._sessions.of_agent(agent), now=now, policy=self._policy)
        if at is None:
            return
        at = min(at, now + _LOOK_WITHIN_MS)
        if known.look_at is None or at < known.look_at:
            known.look_at = at
            heapq.heappush(self._looks, (at, agent))

    def entry(self, agent: str) -> dict[str, Any]:
        """What the directory tells of one agent; presence is as of the last :meth:`changes`.

        Of an agent in a turn it tells what that is about, and when it ends, if that is later than its beats say.
        """
        known = self._known.get(agent) or Known()
        doing = known.progress if known.turn_doing is None else known.turn_doing
        return {
            "agent": agent,
            "presence": known.presence,
            "since": known.since,
            "reason": known.reason,
            "node": None if known.presence == "offline" else self._node,
            "capabilities": [one for one in known.capabilities if self._may_serve(agent, one)],
            "last_seen_at": known.seen_at,
            "last_beat_at": known.beat_at,
            "busy_until": max((at for at in (known.busy_until, known.turn_until) if at is not None), default=None),
            "load": known.load,
            "progress": doing,
            "progress_at": known.progress_at if known.turn_doing is None else known.turn_since,
            "clock_skew_ms": known.skew_ms,
            "sessions": len(self._sessions.of_agent(agent)),
        }

    def able(self, capability: str, now: int) -> dict[str, float]:
        """Who announced a capability and is present at ``now`` (ms): online or busy; each with its load."""
        return {
            agent: self._known[agent].load or 0.0
            for agent in self._announced.get(capability, ())
            if self._may_serve(agent, capability) and self._presence_of(agent, self._known[agent], now)[0] in PRESENT
        }

    def entries(self, now: int) -> list[dict[str, Any]]:
        """The registered agents, by name, as they are at ``now`` (ms)."""
        found = []
        for agent in sorted(self._registered()):
            known = self._known.get(agent)
            if known is not None:
                known.end_turn(now)
            entry = self.entry(agent)
            if known is not None:
                entry["presence"], entry["reason"] = self._presence_of(agent, known, now)
                if entry["presence"] != known.presence:
                    # It changed since the last look, which was a moment ago.
                    entry["since"] = now
                elif entry["presence"] == "offline":
                    entry["reason"] = known.reason
                entry["node"] = None if entry["presence"] == "offline" else self._node
            found.append(entry)
        return found

    # -- over the node's end -------------------------------------------------------------------------------------------

    def memory(self, agents: Iterable[str] | None = None) -> dict[str, Seen]:
        """When agents (all that were ever here, by default) were there last, for the node's next run."""
        return {
            agent: Seen(known.seen_at, known.since if known.presence == "offline" else None)
            for agent in (self._known if agents is None else agents)
            if (known := self._known.get(agent)) is not None and known.seen_at is not None
        }

    def recall(self, seen: Mapping[str, Seen]) -> None:
        """Take over what an earlier run of the node remembered; to be called before anybody joins.

        Whoever was here when that run ended is offline since its last sign of life, as far as anybody knows.
        """
        for agent, one in seen.items():
            known = self._known.setdefault(agent, Known())
            known.seen_at = one.seen_at
            known.since = one.seen_at if one.offline_since is None else one.offline_since
