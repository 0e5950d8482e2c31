"""A bus in memory for the tests of your own agents: no router, no port, no sleeping, and the node's real rules.

::

    import trishula.testing
    from my_agents import agent                  # a trishula.Agent called "me"

    async def test_my_agent():
        async with trishula.testing.bus(agents=["me", "dc"]) as bus, bus.run(agent):
            assert await bus.client("dc").call("me", "add", 2, 3) == 5

            receipt = await bus.client("dc").send("me", payload="what its handler fails on")
            await bus.advance(hours=1)           # five attempts, with the pauses between them
            assert bus.state(receipt.id) == "dead"
            assert bus.dead_letters()[0].reason.startswith("heard raised ValueError")

A test without ``async`` writes ``with`` instead, and leaves out each ``await``: ``with trishula.testing.bus(…) as
bus, bus.run(agent):``. A fixture takes three lines::

    @pytest.fixture
    def trishula_bus():
        with trishula.testing.bus(agents=["me", "dc"]) as bus:
            yield bus

What is real, and what is not. The node is the one that runs in a router, with its checks, permissions, quotas, leases,
attempts, times to live, dead letters and journal, on a store in memory. The agents and clients are the real ones, with
their outboxes, memories of ids and rejoining; an agent's file is in a directory that goes with the bus. There is no
router and no socket between them: what a router limits by itself (the size of frames, the number of open calls,
subscriptions and registrations, slow readers) is not limited here, and there is one node. The project's own tests run
one suite on this bus and on a real node.

Time: the node and everybody on the bus live by one clock, which goes on by itself and is turned by
:meth:`MemoryBus.advance`. What waits for anything else takes real time, such as ``asyncio.sleep`` in a handler.

It needs no more than the agent side of the distribution: neither Crossbar nor Autobahn's server is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import TracebackType

from trishula.contract.addresses import AGENT_RULE, is_agent_name
from trishula.testing.blocking_bus import BlockingMemoryBus, BlockingRunning
from trishula.testing.handovers import Handed, Letter
from trishula.testing.memory_bus import MemoryBus, Running
from trishula.testing.memory_node import Grants

__all__ = [
    "BlockingMemoryBus",
    "BlockingRunning",
    "Grants",
    "Handed",
    "Letter",
    "MemoryBus",
    "Running",
    "bus",
]


class bus:
    """A bus in memory: ``async with`` gives a :class:`MemoryBus`, ``with`` a :class:`BlockingMemoryBus`.

    Args:
        agents: who is registered: names, or a map of names to their :class:`Grants`.
        limits: how much the node takes, as its configuration has it: ``{"rate": "5/s", "burst": 5}``.
        delivery: how hard the node tries, likewise: ``{"lease": "10s", "max_attempts": 2}``.
        presence: when an agent counts as there, likewise: ``{"stale_after": "1m"}``.
        retention: how long the node remembers, likewise: ``{"dead": "1d"}``.
        starts_at: what the bus's wall clock says at first; the real one's time if absent.

    Raises:
        ValueError: what is in ``agents`` can't be the name of an agent.
        SettingsInvalid: when entered, if an option breaks its rule; the sentence has all that do.
    """

    def __init__(
        self,
        agents: Iterable[str] | Mapping[str, Grants] = ("me",),
        *,
        limits: Mapping[str, object] | None = None,
        delivery: Mapping[str, object] | None = None,
        presence: Mapping[str, object] | None = None,
        retention: Mapping[str, object] | None = None,
        starts_at: datetime | None = None,
    ) -> None:
        if isinstance(agents, str):
            raise ValueError(f"agents is {agents!r}; it must be a list of names, such as [{agents!r}]")
        known = dict(agents) if isinstance(agents, Mapping) else {name: Grants() for name in agents}
        for name in known:
            if not is_agent_name(name):
                raise ValueError(f"{name!r} can't be an agent's name: it is {AGENT_RULE}")
        options = {"limits": limits, "delivery": delivery, "presence": presence, "retention": retention}
        self._bus = MemoryBus(known, options, starts_at)
        self._blocking: BlockingMemoryBus | None = None

    async def __aenter__(self) -> MemoryBus:
        return await self._bus.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._bus.__aexit__(kind, error, at)

    def __enter__(self) -> BlockingMemoryBus:
        self._blocking = BlockingMemoryBus(self._bus)
        return self._blocking.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        blocking, self._blocking = self._blocking, None
        if blocking is not None:
            blocking.__exit__(kind, error, at)
