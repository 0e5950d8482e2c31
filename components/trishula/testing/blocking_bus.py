"""A bus in memory, for tests without ``async``: see :mod:`trishula.testing`.

It has a loop of its own, which runs only while a verb of the bus, or of one of its clients, waits. So nothing happens
between two lines of a test.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar, Unpack

from trishula.agent import Agent
from trishula.async_client import AsyncClient
from trishula.key_settings import GivenKeys
from trishula.runtime.loops import loop_runs
from trishula.sync import Bus
from trishula.testing.handovers import Handed, Letter
from trishula.testing.memory_bus import MemoryBus, Running

__all__ = ["BlockingMemoryBus", "BlockingRunning"]

T = TypeVar("T")


class BlockingMemoryBus:
    """:class:`~trishula.testing.MemoryBus` whose verbs wait; made by :func:`trishula.testing.bus`, entered by ``with``.

    Attributes:
        bus: the bus beneath.
    """

    def __init__(self, bus: MemoryBus) -> None:
        self.bus = bus
        self._clients: dict[str, _BlockingClient] = {}

    # -- life ----------------------------------------------------------------------------------------------------------

    def __enter__(self) -> BlockingMemoryBus:
        if loop_runs():
            raise RuntimeError(
                'an asyncio loop runs here already, and "with trishula.testing.bus(…)" runs one of its own: write '
                '"async with"'
            )
        self._runner = asyncio.Runner()
        try:
            self.wait(self.bus.__aenter__)
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.wait(self.bus.__aexit__, kind, error, at)
        finally:
            self._runner.close()

    def wait(self, verb: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **options: Any) -> T:
        """Run an ``async`` function in the bus's loop, and wait for what it returns: for all that has no verb here."""
        return self._runner.run(verb(*args, **options))

    # -- who takes part ------------------------------------------------------------------------------------------------

    def client(self, agent: str, **keys: Unpack[GivenKeys]) -> Bus:
        """See :meth:`MemoryBus.client`; its verbs wait, as those of :func:`trishula.connect` do."""
        client = self.wait(self._joined, agent, **keys)
        found = self._clients.get(agent)
        if found is None or not found.is_of(client):
            found = self._clients[agent] = _BlockingClient(client, self.wait)
        return found

    async def _joined(self, agent: str, **keys: Unpack[GivenKeys]) -> AsyncClient:
        return self.bus.client(agent, **keys)

    @contextlib.contextmanager
    def run(self, agent: Agent) -> Iterator[BlockingRunning]:
        """Run an agent: ``with bus.run(agent):``, until the block ends."""
        running = BlockingRunning(self, self.bus.run(agent))
        running.start()
        try:
            yield running
        finally:
            running.stop()

    # -- time ----------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The bus's wall clock."""
        return self.bus.now

    def advance(self, *, days: float = 0.0, hours: float = 0.0, minutes: float = 0.0, seconds: float = 0.0) -> None:
        """See :meth:`MemoryBus.advance`."""
        self.wait(self.bus.advance, days=days, hours=hours, minutes=minutes, seconds=seconds)

    def settle(self) -> None:
        """See :meth:`MemoryBus.settle`."""
        self.wait(self.bus.settle)

    def idle(self, timeout: float = 5.0) -> None:
        """See :meth:`MemoryBus.idle`."""
        self.wait(self.bus.idle, timeout)

    # -- what may go wrong ---------------------------------------------------------------------------------------------

    def disconnect(self, agent: str) -> None:
        """See :meth:`MemoryBus.disconnect`."""
        self.wait(self.bus.disconnect, agent)

    @contextlib.contextmanager
    def cut_off(self, agent: str) -> Iterator[None]:
        """See :meth:`MemoryBus.cut_off`."""
        with self.bus.cut_off(agent):
            self.settle()
            yield

    def stop_node(self, *, crash: bool = False) -> None:
        """See :meth:`MemoryBus.stop_node`."""
        self.wait(self.bus.stop_node, crash=crash)

    def start_node(self) -> None:
        """See :meth:`MemoryBus.start_node`."""
        self.wait(self.bus.start_node)

    def restart_node(self, *, crash: bool = False) -> None:
        """See :meth:`MemoryBus.restart_node`."""
        self.wait(self.bus.restart_node, crash=crash)

    # -- what happened -------------------------------------------------------------------------------------------------

    def deliveries(self, agent: str | None = None) -> list[Handed]:
        """See :meth:`MemoryBus.deliveries`."""
        return self.bus.deliveries(agent)

    def dead_letters(self, agent: str | None = None) -> list[Letter]:
        """See :meth:`MemoryBus.dead_letters`."""
        return self.bus.dead_letters(agent)

    def why(self, message_id: str, sender: str | None = None) -> dict[str, Any]:
        """See :meth:`MemoryBus.why`."""
        return self.bus.why(message_id, sender)

    def state(self, message_id: str, sender: str | None = None) -> str:
        """See :meth:`MemoryBus.state`."""
        return self.bus.state(message_id, sender)


class BlockingRunning:
    """An agent that runs: ``with bus.run(agent) as running:``.

    Attributes:
        agent: the agent.
    """

    def __init__(self, bus: BlockingMemoryBus, running: Running) -> None:
        self.agent = running.agent
        self._bus = bus
        self._running = running

    def start(self) -> None:
        """See :meth:`Running.start`."""
        self._bus.wait(self._running.start)

    def stop(self) -> None:
        """See :meth:`Running.stop`."""
        self._bus.wait(self._running.stop)

    def crash(self) -> None:
        """See :meth:`Running.crash`."""
        self._bus.wait(self._running.crash)


class _BlockingClient(Bus):
    """The verbs of a script, on the loop of a bus in memory."""

    def __init__(self, client: AsyncClient, wait: Callable[..., Any]) -> None:
        super().__init__(client, 0.0)
        self._run = wait

    def is_of(self, client: AsyncClient) -> bool:
        """Whether its verbs are those of a client."""
        return self._client is client

    def _wait(self, timeout_s: float, verb: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **options: Any) -> T:
        outcome: T = self._run(verb, *args, **options)
        return outcome

    def _soon(self, do: Callable[[], None]) -> None:
        # The loop is driven by this very thread, and stands still now.
        do()
