"""A bus in memory, for asynchronous tests: see :mod:`trishula.testing`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Unpack

import msgspec

from trishula.agent import Agent
from trishula.async_client import AsyncClient
from trishula.contract.message import Message
from trishula.errors import BusUnreachable
from trishula.key_settings import GivenKeys
from trishula.runtime.pending import Pending, start
from trishula.runtime.surroundings import Surroundings
from trishula.session.transport import Connection
from trishula.settings import Settings, given_keys
from trishula.testing.handovers import Handed, Handovers, Letter
from trishula.testing.memory_node import Grants, MemoryNode, options_of
from trishula.testing.network import Router
from trishula.testing.session import URL
from trishula.testing.turned_clock import LifeClock, TurnedClock
from trishula.testing.wire import Wire

__all__ = ["MemoryBus", "Running"]

#: How long a join may take on the bus's clock; it takes no time at all.
_JOIN_TIMEOUT_S = 10.0
#: How often to look whether the handlers are through: they may wait for something real.
_LOOK_EVERY_S = 0.002


class MemoryBus:
    """One bus with one node; made by :func:`trishula.testing.bus`, and entered by ``async with``."""

    def __init__(
        self,
        agents: Mapping[str, Grants],
        options: Mapping[str, Mapping[str, object] | None],
        starts_at: datetime | None,
    ) -> None:
        self._agents = agents
        self._options = options
        self._starts_ms = time.time_ns() // 1_000_000 if starts_at is None else round(starts_at.timestamp() * 1000)
        self._words = 0
        self._clients: dict[str, _MemoryClient] = {}
        self._running: list[Running] = []
        self._handovers = Handovers()

    # -- life ----------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> MemoryBus:
        self._directory = tempfile.TemporaryDirectory(prefix="trishula-testing-")
        try:
            directory = Path(self._directory.name)
            self.clock = TurnedClock(asyncio.get_running_loop())
            self._router = Router(self.clock, self._handovers)
            config = options_of(directory, **self._options)
            self._node = MemoryNode(config, self._agents, self._router, self.clock, self._now_ms)
            await self._node.start()
        except BaseException:
            self._directory.cleanup()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            for running in reversed(self._running.copy()):
                await running.stop()
            for client in self._clients.values():
                await client.stop()
            await self._node.stop()
        finally:
            self.clock.close()
            self._directory.cleanup()
            await _let_reactor_go()

    # -- who takes part ------------------------------------------------------------------------------------------------

    def client(self, agent: str, **keys: Unpack[GivenKeys]) -> AsyncClient:
        """A program of an agent, such as a script, that has joined; the same one each time for the same agent.

        Its address is an instance of the agent (``dc/…``). ``fetch()`` takes from the agent's own mailbox.

        Args:
            agent: whose program it is.
            keys: ``key_file``, ``trusted_keys`` and ``require_signature``, as :class:`~trishula.agent.Agent` has them.

        Raises:
            ValueError: the bus has no agent of that name.
            BusUnreachable: the node is stopped, or the agent is cut off.
            TrishulaError: the node refuses it.
        """
        found = self._clients.get(agent)
        if found is None or found.is_closed:
            settings, around = self._settings(agent, **keys), self._around(LifeClock(self.clock))
            found = _MemoryClient(settings, around, Wire(self._router, settings, around))
            self._join(start(found.start()))
            self._clients[agent] = found
        return found

    def wire(self, agent: str) -> Wire:
        """A connection of an agent, for a client that is not made of this package's :class:`~trishula.client.Client`.

        Raises:
            ValueError: the bus has no agent of that name.
        """
        return Wire(self._router, self._settings(agent), self._around(LifeClock(self.clock)))

    def run(self, agent: Agent) -> Running:
        """Run an agent: ``async with bus.run(agent):``, until the block ends."""
        return Running(self, agent)

    def _join(self, joined: Pending[None]) -> None:
        """Have a client join within this turn of the loop."""
        while not joined.done and self.clock.go_off():
            pass
        if not joined.done:
            joined.cancel()
            raise BusUnreachable("the node of this bus can't be reached: it is stopped, or the agent is cut off")
        joined.result()

    def _settings(self, agent: str, **keys: Unpack[GivenKeys]) -> Settings:
        token = self._node.tokens.get(agent)
        if token is None:
            raise ValueError(
                f"this bus has no agent {agent!r}: it was made with {', '.join(self._node.tokens)}; name it in "
                "trishula.testing.bus(agents=[…])"
            )
        return Settings((URL,), agent, token, keys=given_keys(**keys))

    def _around(self, clock: LifeClock) -> Surroundings:
        return Surroundings(clock, self._now_ms, lambda: 0.5, self._word, host="a test")

    def _word(self, size: int) -> str:
        self._words += 1
        return f"{self._words:0{2 * size}x}"

    # -- time ----------------------------------------------------------------------------------------------------------

    def _now_ms(self) -> int:
        return self._starts_ms + round(self.clock.seconds() * 1000)

    @property
    def now(self) -> datetime:
        """The bus's wall clock."""
        return datetime.fromtimestamp(self._now_ms() / 1000, UTC)

    async def advance(
        self, *, days: float = 0.0, hours: float = 0.0, minutes: float = 0.0, seconds: float = 0.0
    ) -> None:
        """Turn the clock of the node and of everybody on the bus, and let happen what happens meanwhile.

        An hour takes about a second, a day some seconds. What waits for something else than the bus, such as
        ``asyncio.sleep``, takes the time that it takes.
        """
        span_s = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
        if span_s < 0:
            raise ValueError(f"a clock can't be turned back, by {-span_s:g} s")
        await self.clock.turn(span_s)

    async def settle(self) -> None:
        """Let everything be done that can be done without time passing."""
        await self.clock.settle()

    async def idle(self, timeout: float = 5.0) -> None:
        """Wait until the running agents have handled all that they were handed, and their answers are sent.

        What failed and waits for its next attempt is not waited for: :meth:`advance` brings it.

        Args:
            timeout: how long to wait, in real seconds.

        Raises:
            TimeoutError: something is in hand still; the sentence says what.
        """
        end_s = time.monotonic() + timeout
        while True:
            await self.settle()
            at_work = [one for one in self._running if one.is_at_work]
            in_hand = [one for one in self.deliveries() if one.outcome == "in hand" and self._is_run(one.to)]
            if not at_work and not in_hand:
                return
            if time.monotonic() >= end_s:
                what = ", ".join(f"{one.message.type} {one.message.id} in the hands of {one.to}" for one in in_hand)
                raise TimeoutError(
                    f"after {timeout:g} s there is still something to do: {what or 'an answer is not sent'}; does a "
                    "handler wait for a time of the bus? Then turn the clock by bus.advance()"
                )
            await asyncio.sleep(_LOOK_EVERY_S)

    def _is_run(self, address: str) -> bool:
        return any(one.agent.name == address for one in self._running)

    # -- what may go wrong ---------------------------------------------------------------------------------------------

    async def disconnect(self, agent: str) -> None:
        """Break the network below all sessions of an agent; they join anew by themselves, after 0.1 s at first.

        Raises:
            ValueError: it has no session.
        """
        if not self._router.break_off(agent):
            raise ValueError(f"{agent} has no session on this bus now that could be broken")
        await self.settle()

    @contextlib.contextmanager
    def cut_off(self, agent: str) -> Iterator[None]:
        """Have no network lead to an agent as long as the block lasts: its sessions break, and nobody joins."""
        self._settings(agent)
        self._router.cut_off.add(agent)
        self._router.break_off(agent)
        try:
            yield
        finally:
            self._router.cut_off.discard(agent)

    async def stop_node(self, *, crash: bool = False) -> None:
        """Stop the node: in order, or by a ``crash`` as ``kill -9`` does. What was accepted stays."""
        await self._node.stop(crash=crash)
        await self.settle()

    async def start_node(self) -> None:
        """Start the node again after :meth:`stop_node`; the clients join anew by themselves, after 0.1 s to 5 s."""
        if self._node.node is not None:
            raise RuntimeError("the node of this bus runs already")
        await self._node.start()

    async def restart_node(self, *, crash: bool = False) -> None:
        """Stop the node and start it again, and have everybody join anew."""
        await self.stop_node(crash=crash)
        await self.start_node()
        await self.advance(seconds=5)

    # -- what happened -------------------------------------------------------------------------------------------------

    def deliveries(self, agent: str | None = None) -> list[Handed]:
        """What the node has handed to an agent and its instances, or to all, in order, with what became of each.

        Answers to calls (RESULT, ERROR) are among them.
        """
        return self._handovers.of(agent)

    def dead_letters(self, agent: str | None = None) -> list[Letter]:
        """The dead letters, of one recipient or of all, oldest first."""
        return [
            Letter(
                msgspec.convert(letter["message"], Message),
                letter["reason"],
                letter["failures"],
                datetime.fromtimestamp(letter["dead_at"] / 1000, UTC),
            )
            for letter in self._node.dead_letters(agent)
        ]

    def why(self, message_id: str, sender: str | None = None) -> dict[str, Any]:
        """The life of a message as ``trishula why`` tells it: ``{"messages": [{"state", "events", …}], …}``.

        Raises:
            MessageUnknown: there is none.
        """
        return self._node.why(message_id, sender)

    def state(self, message_id: str, sender: str | None = None) -> str:
        """The state of a message: ``accepted``, ``delivered``, ``done``, ``dead``, ``expired`` or ``cancelled``.

        Raises:
            MessageUnknown: there is none.
        """
        return str(self.why(message_id, sender)["messages"][0]["state"])


class Running:
    """An agent that runs on a bus in memory: ``async with bus.run(agent) as running:``.

    Attributes:
        agent: the agent.
    """

    def __init__(self, bus: MemoryBus, agent: Agent) -> None:
        self.agent = agent
        self._bus = bus
        self._clock: LifeClock | None = None
        self._wire: Wire | None = None

    async def __aenter__(self) -> Running:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the agent; ``async with`` does it. Again after :meth:`crash` or :meth:`stop`, as its next process.

        Raises:
            RuntimeError: it runs already.
            TrishulaError: the node refuses it.
        """
        bus, agent = self._bus, self.agent
        settings = bus._settings(agent.name, **agent._given_keys)
        clock = LifeClock(bus.clock)
        around = bus._around(clock)
        wire = Wire(bus._router, settings, around)
        await start(
            agent.start(
                settings,
                around=around,
                connection=wire,
                timeout=_JOIN_TIMEOUT_S,
                state=Path(bus._directory.name) / "agents",
            )
        )
        self._clock, self._wire = clock, wire
        bus._running.append(self)

    async def stop(self) -> None:
        """Stop the agent in order: let its handlers finish, for 5 s at most. Nothing if it doesn't run."""
        if self in self._bus._running:
            self._bus._running.remove(self)
            await start(self.agent.stop())

    async def crash(self) -> None:
        """End the agent as ``kill -9`` ends its process: what it has not acknowledged is handed over again.

        A handler that runs is cancelled, so that nothing of it goes on; one in a thread (``thread=True``) can't be.
        """
        if self not in self._bus._running or self._clock is None or self._wire is None:
            raise RuntimeError(f"{self.agent.name} doesn't run, so it can't crash")
        self._bus._running.remove(self)
        self._clock.end()
        self._wire.vanish()
        self.agent._vanish()
        await self._bus.settle()

    @property
    def is_at_work(self) -> bool:
        """Whether something that it said has not reached the node."""
        try:
            client = self.agent.client
        except RuntimeError:
            # The node has ended it.
            return False
        return client.is_ready and client.unconfirmed > 0


class _MemoryClient(AsyncClient):
    """A client on a bus in memory."""

    def __init__(self, settings: Settings, around: Surroundings, connection: Connection) -> None:
        super().__init__(timeout=_JOIN_TIMEOUT_S)
        self._settings = settings
        self._here = around, connection

    def _world(self) -> tuple[Settings, Surroundings, Connection]:
        return self._settings, *self._here

    @property
    def is_closed(self) -> bool:
        """Whether whoever got it has left with it."""
        return self._client is None


async def _let_reactor_go() -> None:
    """A handler in a thread has made a reactor of this loop; it goes when nobody holds it."""
    loops = sys.modules.get("trishula.runtime.loops")
    if loops is not None:
        loops.LoopReactor.of(asyncio.get_running_loop()).hold()()
        await asyncio.sleep(0)
