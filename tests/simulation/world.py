"""A world on a clock: the real rules of node and client, with a network and a disk that are seeded and cruel.

Everything is the product's own but the ends: :class:`trishula_router.node.Node` without a router, on a store whose
verbs take their time and are lost with the node; :class:`trishula.client.Client` and :class:`trishula.agent.Agent` on
connections of this module. All of it runs on one virtual clock; the seed decides every delay, fault and choice, so a
seed is a history, the same each time.

What the network may do, as a real one can: a call or its answer is late; a session breaks, and both ends hear of it at
different times; what was under way then is lost, or arrives after the next session has begun; a call that may be
repeated arrives twice; answers overtake each other and deliveries. What it may not do, because TCP doesn't: lose or
reorder the calls of one session, or the deliveries of one session.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.support.stores import HeldStore, result_of
from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula.errors import BusUnreachable, TrishulaError
from trishula.runtime.backoff import Backoff
from trishula.runtime.pending import Pending
from trishula.runtime.surroundings import Surroundings
from trishula.session.transport import AnswerLate, Connection, Ending, Endpoint, Link, LinkLost, Listener, unpacked
from trishula.settings import Settings
from trishula_router.agents.callers import Caller
from trishula_router.agents.principals import Principals
from trishula_router.mail.outlet import News
from trishula_router.node import Node
from trishula_router.realm import AGENT_ROLE
from trishula_router.settings.limits import Limits
from trishula_router.settings.options import DeliveryPolicy, NodeConfig, PresencePolicy
from trishula_router.store.memory import MemoryStore
from trishula_router.verbs.procedures import Procedures

__all__ = ["SimConnection", "World"]

START_MS = 1_700_000_000_000
LIMITS = Limits(
    payload_bytes=1024 * 1024,
    mailbox_messages=100_000,
    mailbox_bytes=256 * 1024 * 1024,
    store_bytes=8 * 1024**3,
    batch_messages=1024,
)
#: Short, so that a lease that runs out fits into a short history.
POLICY = DeliveryPolicy(
    window=8,
    lease_s=4.0,
    max_attempts=50,
    backoff=Backoff(first_s=0.1, factor=2.0, cap_s=1.0),
    default_ttl_ms=3_600_000,
    instance_grace_s=300.0,
)
PRESENCE = PresencePolicy(heartbeat_s=10.0, stale_after_s=30.0)

#: What a network that repeats a call may repeat, by the wire contract; a fetch leases anew.
_REPEATABLE = {uris.MAILBOX_SEND, uris.MAILBOX_ACK, uris.MAILBOX_NACK}


def _copied(value: Any) -> Any:
    """As the other side reads it: through the wire, and nobody's object any more."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value))


class SimTimer:
    """A call to come."""

    __slots__ = ("args", "at_s", "call")

    def __init__(self, at_s: float, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.at_s = at_s
        self.call: Callable[..., Any] | None = call
        self.args = args

    def active(self) -> bool:
        return self.call is not None

    def cancel(self) -> None:
        self.call = None


class SimClock:
    """As :class:`twisted.internet.task.Clock`, which sorts all its timers at each one that is set."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._timers: list[tuple[float, int, SimTimer]] = []
        self._numbers = 0

    def seconds(self) -> float:
        return self._now_s

    def callLater(self, delay: float, call: Callable[..., Any], *args: Any) -> SimTimer:
        return self.call_at(self._now_s + delay, call, *args)

    def call_at(self, at_s: float, call: Callable[..., Any], *args: Any) -> SimTimer:
        """Call at an instant: those of one instant in the order in which they were set, which a sum would blur."""
        timer = SimTimer(at_s, call, args)
        self._numbers += 1
        heapq.heappush(self._timers, (timer.at_s, self._numbers, timer))
        return timer

    def step(self) -> None:
        """Let time pass until the next timer, and let that go off."""
        while self._timers:
            at_s, _, timer = heapq.heappop(self._timers)
            if timer.call is not None:
                self._now_s = max(self._now_s, at_s)
                call, timer.call = timer.call, None
                call(*timer.args)
                return


class World:
    """See the module's docstring.

    Attributes:
        faults: how often what has struck.
    """

    def __init__(self, seed: int, principals: Principals, directory: Path) -> None:
        self.chance = random.Random(seed)
        self.clock = SimClock()
        self.memory = MemoryStore(f"epoch of {seed}")
        self.faults: dict[str, int] = {}
        self.bugs: list[str] = []
        self.sessions: dict[int, SimLink] = {}
        self.node: Node | None = None
        self._principals = principals
        # In some histories there is little room, or little may be sent at a time.
        limits = replace(
            LIMITS,
            mailbox_messages=self.chance.choice((100_000, 100_000, 2, 4)),
            **self.chance.choice(({}, {}, {"rate_per_s": 20, "burst": 4})),
        )
        self._config = NodeConfig("single", directory, directory / "agents.json", limits, POLICY, PRESENCE)
        self._store = HeldStore(self.memory)
        self._disk_is_busy = False
        self._node_timers: list[SimTimer] = []
        self._numbers = 0
        self._instants_ns = 0
        #: No fault strikes any more.
        self.is_calm = False
        self.start_node()

    # -- time ----------------------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        return START_MS + round(self.clock.seconds() * 1000)

    def instant_ns(self) -> int:
        """Now, as a number that is used once: what happens at the same time happens in an order all the same."""
        self._instants_ns = max(self._instants_ns + 1, int(self.clock.seconds() * 1e9))
        return self._instants_ns

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def later(self, least_s: float, most_s: float, call: Callable[..., object], *args: Any) -> float:
        """Call in a while; when."""
        at_s = self.clock.seconds() + self.chance.uniform(least_s, most_s)
        self.clock.callLater(at_s - self.clock.seconds(), call, *args)
        return at_s

    def step(self) -> None:
        """Let time pass until the next thing happens."""
        self.clock.step()
        self._use_disk()

    def surroundings(self) -> Surroundings:
        return Surroundings(self.clock, self.now_ms, self.chance.random, lambda n: f"{self.number():0{2 * n}x}")

    def struck(self, fault: str) -> None:
        self.faults[fault] = self.faults.get(fault, 0) + 1

    # -- the disk ------------------------------------------------------------------------------------------------------

    def _use_disk(self) -> None:
        if not self._disk_is_busy and self._store.waiting:
            self._disk_is_busy = True
            self.later(0.0005, 0.01, self._synced, self._store)

    def _synced(self, store: HeldStore) -> None:
        self._disk_is_busy = False
        if store is self._store:
            # A group of some that wait, as group commit makes them.
            store.let_write(self.chance.randint(1, 6))
            store.let_read(self.chance.randint(1, 3))

    # -- the node ------------------------------------------------------------------------------------------------------

    def start_node(self) -> None:
        self._store = HeldStore(self.memory)
        node_clock: Any = _NodeClock(self)
        self.node = Node(
            self._config,
            self._store,
            self._principals,
            self,
            clock=node_clock,
            now=self.now_ms,
            worked_s=lambda: 0.0,
            random=self.chance.random,
            version="0",
        )
        self.verbs = Procedures(self.node).by_uri()
        result_of(Deferred.fromCoroutine(self.node.start()))
        self._store.holding = True

    def kill_node(self, down_s: float) -> None:
        """As kill -9: what the disk has not is gone, no timer fires, nobody is told but by the network."""
        if self.node is None:
            return
        self.struck("kill node")
        self.node = None
        self._store.cut_power()
        for timer in self._node_timers:
            if timer.active():
                timer.cancel()
        self._node_timers.clear()
        for link in list(self.sessions.values()):
            link.node_is_gone()
        self.sessions.clear()
        self.clock.callLater(down_s, self.start_node)

    def break_a_session(self) -> None:
        """Some session's network goes."""
        if self.sessions:
            self.chance.choice(list(self.sessions.values())).break_off("break")

    def fail_the_disk(self, *errors: Exception) -> None:
        """The next write that matters fails."""
        verb = self.chance.choice(("append", "settle"))
        self.struck(f"disk: {verb}")
        self._store.fail_next(verb, self.chance.choice(errors))

    # trishula_router.services.Router

    def push(self, address: Address, session: int, deliveries: list[dict[str, Any]]) -> None:
        link = self.sessions.get(session)
        if link is not None:
            link.event(uris.inbox_of(address), _copied(deliveries))

    def inform(self, address: Address, session: int, told: Mapping[str, Any]) -> None:
        link = self.sessions.get(session)
        if link is not None:
            link.event(uris.inbox_of(address), [], _copied(dict(told)))

    def tell(self, news: Iterable[News]) -> None:
        """Senders of this world don't listen."""
        list(news)

    def announce(self, topic: str, event: Mapping[str, Any]) -> None:
        """Nor does anybody else."""

    def post(self, peer: str, kind: str, text: bytes) -> None:
        raise AssertionError("there is only one node")

    def frame_limit_bytes(self, session: int) -> int | None:
        return None

    def close_session(self, session: int, uri: str, sentence: str) -> None:
        link = self.sessions.get(session)
        if link is not None:
            link.close_by_node(uri, sentence)


class _NodeClock:
    """The clock of one life of the node: its timers end with it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._timers = world._node_timers

    def seconds(self) -> float:
        return self._world.clock.seconds()

    def callLater(self, delay: float, call: Callable[..., Any], *args: Any) -> SimTimer:
        timer = self._world.clock.callLater(delay, call, *args)
        self._timers.append(timer)
        if len(self._timers) > 64:
            self._timers[:] = [one for one in self._timers if one.active()]
        return timer


@dataclass(eq=False)
class SimLink:
    """One session; plays :class:`trishula.session.transport.Link` for the client, and the router's part for the
    node."""

    world: World
    owner: SimConnection
    session: int
    url: str = "ws://sim/ws"
    ending: Ending | None = None
    client_knows: bool = True
    node_knows: bool = True
    topics: dict[str, Callable[..., object]] = field(default_factory=dict)
    open_calls: set[Pending[Any]] = field(default_factory=set)
    up_s: float = 0.0
    down_s: float = 0.0

    # transport.Link

    def call(
        self, uri: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> Pending[Any]:
        answer: Pending[Any] = Pending()
        if not self.client_knows:
            answer.reject(LinkLost("gone"))
            return answer
        self.open_calls.add(answer)
        if timeout_s is not None:
            timer = self.world.clock.callLater(
                timeout_s, self._answered, answer, AnswerLate(f"no answer of {uri} in time")
            )
            answer.when_done(lambda _: timer.cancel() if timer.active() else None)
        self._up(self._serve, uri, _copied(unpacked(list(args))), answer)
        if uri in _REPEATABLE and not self.world.is_calm and self.world.chance.random() < 0.05:
            self.world.struck("repeat")
            self._up(self._serve, uri, _copied(unpacked(list(args))), answer)
        return answer

    def subscribe(self, topic: str, handler: Callable[..., object]) -> Pending[None]:
        answer: Pending[Any] = Pending()
        self.open_calls.add(answer)

        def subscribed() -> None:
            self.topics[topic] = handler
            self._down(self._answered, answer, None)

        self._up(subscribed)
        return answer

    def register(self, uri: str, endpoint: Endpoint) -> Pending[None]:
        answer: Pending[Any] = Pending()
        self.open_calls.add(answer)
        self._up(lambda: self._down(self._answered, answer, None))
        return answer

    def publish(self, topic: str, args: Sequence[Any]) -> Pending[None]:
        raise NotImplementedError("nobody publishes here")

    def drop(self) -> None:
        self.break_off("drop")

    # -- the way -------------------------------------------------------------------------------------------------------

    def _delay_s(self) -> float:
        # Mostly quick, sometimes slow.
        return self.world.chance.uniform(0.001, 0.01) if self.world.chance.random() < 0.9 else 0.3

    def _up(self, call: Callable[..., object], *args: Any) -> None:
        """To the node, in order."""
        self.up_s = max(self.up_s, self.world.clock.seconds() + self._delay_s())
        self.world.clock.call_at(self.up_s, self._at_node, call, args)

    def _at_node(self, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        if self.node_knows and self.world.node is not None:
            call(*args)

    def _down(self, call: Callable[..., object], *args: Any) -> None:
        """To the client, in any order: answers and deliveries take different ways through it."""
        self.world.clock.callLater(self._delay_s(), self._at_client, call, args)

    def _at_client(self, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        if self.client_knows:
            call(*args)

    def event(self, topic: str, deliveries: list[dict[str, Any]], *more: Any) -> None:
        """To the client, in the order of the node's telling."""
        handler = self.topics.get(topic)
        if handler is not None:
            self.down_s = max(self.down_s, self.world.clock.seconds() + self._delay_s())
            self.world.clock.call_at(self.down_s, self._at_client, handler, (deliveries, *more))

    def _serve(self, uri: str, args: list[Any], answer: Pending[Any]) -> None:
        node = self.world.node
        assert node is not None
        caller = Caller(self.session, self.owner.agent, AGENT_ROLE)
        served: Deferred[Any] = Deferred.fromCoroutine(node.serve(self.world.verbs[uri], caller, tuple(args)))

        def over(outcome: Any) -> None:
            if isinstance(outcome, Failure):
                if not isinstance(outcome.value, TrishulaError):
                    self.world.bugs.append(f"{uri}: {outcome.getTraceback()}")
                self._down(self._answered, answer, outcome.value)
            else:
                if uri == uris.MAILBOX_SEND:
                    self._count_refusals(outcome)
                self._down(self._answered, answer, _copied(outcome))

        served.addBoth(over)

    def _count_refusals(self, receipts: list[dict[str, Any]]) -> None:
        for error in {receipt["error"] for receipt in receipts if receipt["status"] == "refused"}:
            self.world.struck(f"refused: {error.rpartition('.')[2]}")

    def _answered(self, answer: Pending[Any], outcome: Any) -> None:
        self.open_calls.discard(answer)
        if answer.done:
            return
        if isinstance(outcome, BaseException):
            answer.reject(outcome)
        else:
            answer.resolve(outcome)

    # -- the end -------------------------------------------------------------------------------------------------------

    def break_off(self, fault: str) -> None:
        """The network between them is gone; each end learns it in its own time."""
        if not (self.client_knows and self.node_knows):
            return
        self.world.struck(fault)
        self.world.later(0.0, 0.5, self._tell_client)
        self.world.later(0.0, 3.0, self._tell_node)

    def node_is_gone(self) -> None:
        """The node's process is gone: its kernel tells the client."""
        self.node_knows = False
        self.world.later(0.0, 0.05, self._tell_client)

    def close_by_node(self, uri: str, sentence: str) -> None:
        """The node ends it; a client that still listens is told why."""
        self._tell_node()
        self._down(self.owner.closed_by_node, self, uri, sentence)

    def _tell_node(self) -> None:
        if self.node_knows:
            self.node_knows = False
            if self.world.sessions.pop(self.session, None) is not None and self.world.node is not None:
                self.world.node.session_left(self.session)

    def _tell_client(self) -> None:
        if not self.client_knows:
            return
        self.client_knows = False
        for answer in list(self.open_calls):
            self._answered(answer, LinkLost("gone"))
        self.owner.lost(self)


class SimConnection:
    """Joins again and again; plays :class:`trishula.session.transport.Connection`."""

    def __init__(self, world: World, agent: str) -> None:
        self.agent = agent
        self.link: SimLink | None = None
        self._world = world
        self._listener: Listener | None = None
        self._stopped = False

    def start(self, listener: Listener) -> None:
        self._listener = listener
        self._world.later(0.0, 0.05, self._join)

    def stop(self) -> Pending[None]:
        self._stopped = True
        if self.link is not None:
            link, self.link = self.link, None
            link.client_knows = False
            self._world.later(0.0, 0.01, link._tell_node)
        stopped: Pending[None] = Pending()
        stopped.resolve(None)
        return stopped

    def moved(self) -> None:
        raise AssertionError("there is only one node")

    def vanish(self) -> None:
        """The client's process was killed: it hears nothing any more, and its kernel tells the node."""
        self._stopped = True
        if self.link is not None:
            self.link.client_knows = False
            self._world.later(0.0, 0.05, self.link._tell_node)
            self.link = None

    def _join(self) -> None:
        assert self._listener is not None
        if self._stopped:
            return
        if self._world.node is None:
            self._listener.node_unreachable("ws://sim/ws", BusUnreachable("refused"), 0.2)
            self._world.later(0.1, 0.3, self._join)
            return
        self.link = link = SimLink(self._world, self, self._world.number())
        self._world.sessions[link.session] = link
        self._world.node.session_joined(self.agent, link.session, AGENT_ROLE)
        self._listener.link_joined(link)

    def lost(self, link: SimLink) -> None:
        if self.link is link and not self._stopped:
            self.link = None
            assert self._listener is not None
            self._listener.link_lost(BusUnreachable("gone"))
            self._world.later(0.05, 0.5, self._join)

    def closed_by_node(self, link: SimLink, uri: str, sentence: str) -> None:
        """Taken over: by ourselves, after a session that broke off; then it is not our session any more."""
        if self.link is link:
            self._world.bugs.append(f"the node closed the only session of {self.agent}: {uri} {sentence}")


def settings(agent: str) -> Settings:
    return Settings(("ws://sim/ws",), agent, f"{agent}.secret")


def _plays_the_interfaces(connection: SimConnection, link: SimLink) -> tuple[Connection, Link]:
    # For mypy: they have exactly the methods that the real ones have.
    return connection, link
