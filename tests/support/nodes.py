"""A node without a router: its verbs as a client would call them, and a record of all it said to the outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.stores import result_of
from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula.runtime.backoff import Backoff
from trishula_router.agents.callers import Caller
from trishula_router.agents.file import AgentEntry, update_agents
from trishula_router.agents.principals import Principals
from trishula_router.clocks.timeline import Timeline
from trishula_router.mail.outlet import News
from trishula_router.node import Node
from trishula_router.realm import AGENT_ROLE, OPERATOR_ROLE
from trishula_router.settings.cells import CellOptions
from trishula_router.settings.limits import Limits
from trishula_router.settings.options import AgentsPolicy, DeliveryPolicy, NodeConfig, PresencePolicy
from trishula_router.store.interface import Store
from trishula_router.verbs.procedures import Procedures

__all__ = ["LIMITS", "POLICY", "PRESENCE", "START_MS", "Outlet", "Rig"]

#: The wall clock when a test's clock is at 0.
START_MS = 1_700_000_000_000

LIMITS = Limits(
    payload_bytes=1024 * 1024,
    mailbox_messages=100_000,
    mailbox_bytes=256 * 1024 * 1024,
    store_bytes=8 * 1024**3,
    batch_messages=1024,
)
POLICY = DeliveryPolicy(
    window=64,
    lease_s=60.0,
    max_attempts=5,
    backoff=Backoff(first_s=1.0, factor=2.0, cap_s=300.0),
    default_ttl_ms=7 * 86_400_000,
    instance_grace_s=300.0,
)
PRESENCE = PresencePolicy(heartbeat_s=10.0, stale_after_s=30.0)


@dataclass
class Outlet:
    """Plays :class:`trishula_router.router.Router` and records what it is told."""

    pushed: list[tuple[str, int, list[dict[str, Any]]]] = field(default_factory=list)
    news: list[News] = field(default_factory=list)
    announced: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    closed: list[tuple[int, str, str]] = field(default_factory=list)
    recalled: list[tuple[str, int, list[dict[str, Any]]]] = field(default_factory=list)
    canaries: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)
    posted: list[tuple[str, str, bytes]] = field(default_factory=list)

    def push(self, address: Address, session: int, deliveries: list[dict[str, Any]]) -> None:
        self.pushed.append((str(address), session, deliveries))

    def inform(self, address: Address, session: int, told: Mapping[str, Any]) -> None:
        if "cancelled" in told:
            self.recalled.append((str(address), session, told["cancelled"]))
        else:
            self.canaries.append((str(address), session, told["canary"]))

    def tell(self, news: Iterable[News]) -> None:
        self.news.extend(news)

    def announce(self, topic: str, event: Mapping[str, Any]) -> None:
        self.announced.append((topic, dict(event)))

    def frame_limit_bytes(self, session: int) -> int | None:
        return None

    def close_session(self, session: int, uri: str, sentence: str) -> None:
        self.closed.append((session, uri, sentence))

    def post(self, peer: str, kind: str, text: bytes) -> None:
        self.posted.append((peer, kind, text))

    def take(self, session: int | None = None) -> list[dict[str, Any]]:
        """The deliveries pushed since the last call, to one session or to all; those to others stay."""
        mine = [one for one in self.pushed if session in (None, one[1])]
        self.pushed = [one for one in self.pushed if session not in (None, one[1])]
        return [delivery for _, _, deliveries in mine for delivery in deliveries]

    def take_news(self) -> list[tuple[str, str, str]]:
        """(id, recipient, state) of the news since the last call."""
        told = [(one.id, one.recipient, one.state) for one in self.news]
        self.news = []
        return told


class Rig:
    """A node on a store, a clock and a recorder.

    Args:
        directory: where its agents file is made.
        store: shared by the rigs that play restarts of one node.
        clock: shared likewise.
        agents: who is registered; ``None``: whom the file has that is there.
        name: the node's.
        peers: the names of the nodes that it is linked with.
        ahead_ms: how far its wall clock is ahead of the true one.
        timeline: whose clock the node has; without one that never steps.
        shares: whether it shares its agents with its peers.
        cells: by which it would join other cells; what joins it is the caller's to give.
    """

    def __init__(
        self,
        directory: Path,
        store: Store,
        clock: Clock,
        *,
        agents: Mapping[str, AgentEntry] | Iterable[str] | None = ("agni", "dc", "rushabdev"),
        policy: DeliveryPolicy = POLICY,
        limits: Limits = LIMITS,
        name: str = "single",
        peers: tuple[str, ...] = (),
        ahead_ms: int = 0,
        timeline: Timeline | None = None,
        shares: bool = False,
        cells: CellOptions | None = None,
    ) -> None:
        self.clock = clock
        self.ahead_ms = ahead_ms
        self.store = store
        self.outlet = Outlet()
        self.agents_file = directory / "agents.json"
        if agents is not None:
            records = agents if isinstance(agents, Mapping) else {name: AgentEntry() for name in agents}
            with update_agents(self.agents_file) as known:
                known.clear()
                known.update(records)
        timers: Any = clock  # mypy can't read the interfaces of zope
        config = NodeConfig(
            name,
            directory,
            self.agents_file,
            limits,
            policy,
            PRESENCE,
            peers=peers,
            agents=AgentsPolicy(shares),
            cells=cells or CellOptions(),
        )
        self.node = Node(
            config,
            store,
            Principals(self.agents_file),
            self.outlet,
            clock=timers,
            now=self.now if timeline is None else timeline.clock,
            worked_s=lambda: 0.0,
            random=lambda: 0.0,
            version="0",
            timeline=timeline,
        )
        self.verbs = Procedures(self.node).by_uri()
        self._agent_of: dict[int, tuple[str, str]] = {}
        self._sessions = 0

    def now(self) -> int:
        """The wall clock, in ms."""
        return START_MS + self.ahead_ms + round(self.clock.seconds() * 1000)

    def start(self) -> Rig:
        """Start the node."""
        result_of(Deferred.fromCoroutine(self.node.start()))
        return self

    def crash(self) -> None:
        """End the node as a power cut does: no timer of it fires any more, nothing is written."""
        timers: list[Any] = list(self.clock.getDelayedCalls())
        for timer in timers:
            timer.cancel()

    def stop(self) -> None:
        """Stop the node in order."""
        stopped = Deferred.fromCoroutine(self.node.stop())
        self.settle()
        result_of(stopped)
        self.crash()

    def settle(self) -> None:
        """Let the reactor have its turns, without time passing."""
        for _ in range(5):
            self.clock.advance(0)

    def advance(self, seconds: float) -> None:
        """Let time pass, in steps of the node's housekeeping."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(min(0.25, end - self.clock.seconds()))
        self.settle()

    def join(self, agent: str, *, operator: bool = False, session: int | None = None) -> int:
        """A client joins; its session id."""
        if session is None:
            self._sessions += 1
            session = self._sessions
        role = OPERATOR_ROLE if operator else AGENT_ROLE
        self._agent_of[session] = (agent, role)
        self.node.session_joined(agent, session, role)
        self.settle()
        return session

    def leave(self, session: int) -> None:
        """A client's session is gone."""
        self.node.session_left(session)
        self.settle()

    def begin(self, session: int, uri: str, *args: Any) -> Deferred[Any]:
        """Call a procedure; the answer to come."""
        agent, role = self._agent_of[session]
        answer = Deferred.fromCoroutine(self.node.serve(self.verbs[uri], Caller(session, agent, role), args))
        self.settle()
        return answer

    def call(self, session: int, uri: str, *args: Any) -> Any:
        """Call a procedure; its answer."""
        return result_of(self.begin(session, uri, *args))

    # -- the verbs that nearly every test uses -------------------------------------------------------------------------

    def send(self, session: int, *messages: Any, **options: Any) -> list[dict[str, Any]]:
        """``mailbox.send``; messages may be short: type STATUS is filled in."""
        batch = [{"type": "STATUS", **one} if isinstance(one, dict) else one for one in messages]
        receipts: list[dict[str, Any]] = self.call(session, uris.MAILBOX_SEND, batch, options or None)
        return receipts

    def attach(self, session: int, **options: Any) -> dict[str, Any]:
        """``mailbox.attach``."""
        answer: dict[str, Any] = self.call(session, uris.MAILBOX_ATTACH, options or None)
        return answer

    def ack(self, session: int, *tokens: str) -> list[bool]:
        """``mailbox.ack``."""
        answer: list[bool] = self.call(session, uris.MAILBOX_ACK, list(tokens))
        return answer

    def nack(self, session: int, token: str, reason: str = "it failed", *, requeue: bool = True) -> bool:
        """``mailbox.nack`` of one."""
        (answer,) = self.call(session, uris.MAILBOX_NACK, [{"token": token, "reason": reason, "requeue": requeue}])
        return bool(answer)

    def fetch(self, session: int, **options: Any) -> dict[str, Any]:
        """``mailbox.fetch`` that doesn't wait."""
        answer: dict[str, Any] = self.call(session, uris.MAILBOX_FETCH, options or None)
        return answer

    def pushed(self, session: int | None = None) -> list[dict[str, Any]]:
        """The deliveries pushed since the last look."""
        self.settle()
        return self.outlet.take(session)

    def ids(self, session: int | None = None) -> list[str]:
        """The ids of the messages pushed since the last look."""
        return [delivery["message"]["id"] for delivery in self.pushed(session)]

    def states(self, session: int, *ids: str) -> dict[str, str]:
        """``mailbox.status`` by id."""
        answer = self.call(session, uris.MAILBOX_STATUS, list(ids))
        return {message_id: told["state"] for message_id, told in answer.items()}
