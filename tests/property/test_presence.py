"""Presence by looking at whom something happened to, against the plain model that looks at everybody each time."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trishula_router.agents import directory
from trishula_router.agents.directory import Directory
from trishula_router.agents.presence import presence_of
from trishula_router.agents.sessions import Sessions
from trishula_router.settings.options import PresencePolicy

AGENTS = ("agni", "dc", "rushabdev")
POLICY = PresencePolicy(heartbeat_s=0.5, stale_after_s=2.0)

BEATS_PER_S = directory._BEATS_PER_S

agents = st.sampled_from(AGENTS)
#: Small spans, so that the instants that count are hit exactly.
spans = st.sampled_from([0, 1, 250, 499, 500, 999, 1000, 1001, 1999, 2000, 2001, 5000, 61_000])
busy_spans = st.sampled_from([None, -1, 0, 1, 500, 3000, 10_000, 10_000_000])


class EverybodyLookedAt(Directory):
    """The plain model: each look goes over all agents."""

    def changes(self, now: int) -> list[dict[str, Any]]:
        changed = []
        for agent, known in self._known.items():
            presence, reason = self._plainly(agent, now)
            if presence != known.presence:
                known.presence, known.reason, known.since = presence, reason, now
                changed.append(self.entry(agent))
        return changed

    def able(self, capability: str, now: int) -> dict[str, float]:
        return {
            agent: known.load or 0.0
            for agent, known in self._known.items()
            if capability in known.capabilities and self._plainly(agent, now)[0] in ("online", "busy")
        }

    def _plainly(self, agent: str, now: int) -> tuple[str, str]:
        return presence_of(self._known[agent], self._sessions.of_agent(agent), now=now, policy=self._policy)


class Side:
    """A directory, with the sessions that it asks."""

    def __init__(self, kind: type[Directory]) -> None:
        self.sessions = Sessions()
        self.directory = kind("single", POLICY, self.sessions, lambda: AGENTS)
        self.sessions.when_joined(self.directory.joined)
        self.sessions.when_left(self.directory.left)


class Presence(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        # So that three sessions are many.
        directory._BEATS_PER_S = 2.0
        self.sides = Side(Directory), Side(EverybodyLookedAt)
        self.real, self.model = (side.directory for side in self.sides)
        self.now = 1_000_000
        self.sessions: dict[int, str] = {}
        self.next_session = 1

    def both(self, verb: str, *args: Any, **named: Any) -> None:
        assert getattr(self.real, verb)(*args, **named) == getattr(self.model, verb)(*args, **named)

    def of_both(self, verb: str, session: int, *args: Any, **named: Any) -> None:
        """Of a session something came."""
        told = [getattr(side.directory, verb)(side.sessions[session], *args, **named) for side in self.sides]
        assert told[0] == told[1]

    def a_session(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.sessions)))

    @rule(agent=agents)
    def join(self, agent: str) -> None:
        for side in self.sides:
            side.sessions.joined(self.next_session, agent, "agent", None, self.now)
        self.sessions[self.next_session] = agent
        self.next_session += 1

    @rule(
        data=st.data(),
        instance=st.sampled_from([None, None, "x"]),
        able=st.sampled_from([(), ("deploy",), ("deploy", "test"), ("test", "test")]),
        heartbeat_s=st.sampled_from([None, 0.333, 0.5, 1.5]),
    )
    def attach(
        self, data: st.DataObject, instance: str | None, able: tuple[str, ...], heartbeat_s: float | None
    ) -> None:
        if self.sessions:
            session = self.a_session(data)
            said = {"instance": instance, "capabilities": able, "heartbeat_s": heartbeat_s}
            self.of_both("attached", session, self.now, **said)

    @rule(data=st.data())
    def act(self, data: st.DataObject) -> None:
        if self.sessions:
            session = self.a_session(data)
            self.of_both("sign_of_life", session, self.now)

    @rule(data=st.data(), state=st.sampled_from([None, None, "busy"]), busy_for=busy_spans)
    def beat(self, data: st.DataObject, state: str | None, busy_for: int | None) -> None:
        if self.sessions:
            session = self.a_session(data)
            until = None if busy_for is None else self.now + busy_for
            self.of_both("beat", session, self.now, state=state, busy_until=until)

    @rule(data=st.data())
    def fetch_as_an_instance(self, data: st.DataObject) -> None:
        if self.sessions:
            session = self.a_session(data)
            self.of_both("speaks_as", session, "y")

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if self.sessions:
            session = self.a_session(data)
            del self.sessions[session]
            for side in self.sides:
                side.sessions.left(session)

    @rule(span=spans)
    def wait(self, span: int) -> None:
        self.now += span

    @rule()
    def look(self) -> None:
        by_name = [
            sorted(one.changes(self.now), key=lambda entry: str(entry["agent"])) for one in (self.real, self.model)
        ]
        assert by_name[0] == by_name[1]

    @invariant()
    def all_is_the_same(self) -> None:
        self.both("entries", self.now)
        for capability in ("deploy", "test", "none"):
            self.both("able", capability, self.now)

    @invariant()
    def nothing_grows(self) -> None:
        # One look is planned for each agent, and at most one that an earlier one made needless for each thing it said.
        assert len(self.real._looks) <= 2 * self.next_session + 100
        assert all(at <= self.now + directory._LOOK_WITHIN_MS for at, _ in self.real._looks)

    def teardown(self) -> None:
        directory._BEATS_PER_S = BEATS_PER_S


TestPresence = Presence.TestCase
TestPresence.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
