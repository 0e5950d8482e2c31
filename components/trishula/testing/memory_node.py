"""The node of a bus in memory: the real one, on a store in memory, with the options that a test gave it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from trishula.distribution import version
from trishula.runtime.pending import start
from trishula.settings import SettingsInvalid
from trishula.testing.network import Router
from trishula.testing.turned_clock import LifeClock, TurnedClock
from trishula_router.agents.file import update_agents
from trishula_router.agents.principals import Principals
from trishula_router.agents.text import AgentEntry
from trishula_router.agents.tokens import TokenEntry, digest_of
from trishula_router.node import Node
from trishula_router.settings.faults import ConfigError
from trishula_router.settings.options import NodeConfig, parse_options
from trishula_router.store.memory import MemoryStore
from trishula_router.verbs.procedures import Procedures

__all__ = ["Grants", "MemoryNode", "options_of"]

T = TypeVar("T")

#: A store's; each bus has a new one, and none outlives its bus.
_EPOCH = f"{1:016x}"


@dataclass(frozen=True, slots=True)
class Grants:
    """What an agent may do; without any of it an agent may do all but an operator's work.

    Attributes:
        send: to whom it may send: ``"*"``, ``"broadcast"``, agents or ``"capability:NAME"``.
        call: what it may call: ``"*"``, an agent, or ``agent.procedure``.
        serve: which capabilities it may announce: ``"*"`` or their names; ``None``: those that nobody else is granted.
        operator: whether it may ask about everybody's messages, and administer the node.
    """

    send: tuple[str, ...] = ("*",)
    call: tuple[str, ...] = ("*",)
    serve: tuple[str, ...] | None = None
    operator: bool = False


def options_of(directory: Path, **sections: Mapping[str, object] | None) -> NodeConfig:
    """The node's options, as the ``extra`` in a node's configuration has them.

    Raises:
        SettingsInvalid: with every fault.
    """
    given = {name: dict(section) for name, section in sections.items() if section is not None}
    try:
        return parse_options({"state": str(directory), **given}, base=directory, path="bus")
    except ConfigError as error:
        raise SettingsInvalid(str(error)) from None


class MemoryNode:
    """One node, from life to life: a restart keeps its store.

    Args:
        config: its options.
        agents: who is registered.
        router: what is around it.
        clock: its clock.
        now_ms: the wall clock, in ms since the epoch.
    """

    def __init__(
        self,
        config: NodeConfig,
        agents: Mapping[str, Grants],
        router: Router,
        clock: TurnedClock,
        now_ms: Callable[[], int],
    ) -> None:
        self._config = config
        self._router = router
        self._clock = clock
        self._now_ms = now_ms
        self._store = MemoryStore(_EPOCH, config.node)
        self._life: LifeClock | None = None
        #: The token of each agent.
        self.tokens = {name: f"{name}.of-a-bus-in-memory" for name in agents}
        with update_agents(config.agents_file) as known:
            for name, grants in agents.items():
                token = TokenEntry(digest_of(self.tokens[name]), now_ms() / 1000)
                known[name] = AgentEntry(grants.operator, grants.send, grants.call, (token,), grants.serve)

    @property
    def node(self) -> Node | None:
        """The node, while it runs."""
        return self._router.node

    async def start(self) -> None:
        """Begin a life."""
        self._life = life = LifeClock(self._clock, is_housekeeping=True)
        node = Node(
            self._config,
            self._store,
            Principals(self._config.agents_file),
            self._router,
            clock=life,
            now=self._now_ms,
            worked_s=lambda: 0.0,
            # The middle of what chance may be: a pause is what the options say.
            random=lambda: 0.5,
            version=version(),
        )
        await start(node.start())
        self._router.run(node, Procedures(node).by_uri())

    async def stop(self, *, crash: bool = False) -> None:
        """End the life: in order, or as ``kill -9`` does."""
        node, life = self.node, self._life
        if node is None or life is None:
            return
        if not crash:
            await start(node.stop())
        # Not before: a node that stops says so in its journal.
        life.end()
        self._router.gone()

    def dead_letters(self, agent: str | None) -> list[dict[str, Any]]:
        """All dead letters, each with its message."""
        node = self._running()
        letters: list[dict[str, Any]] = []
        after = 0
        while True:
            page = _now(node.dead_letters.page(agent=agent, limit=500, after=after))
            for letter in page["letters"]:
                letters.append(_now(node.dead_letters.show(letter["seq"])))
            if not page["more"]:
                return letters
            after = page["letters"][-1]["seq"]

    def why(self, message_id: str, sender: str | None) -> dict[str, Any]:
        """The life of a message; errors as the node's."""
        return _now(self._running().audit.why("the test", message_id, sender, operator=True))

    def _running(self) -> Node:
        node = self.node
        if node is None:
            raise RuntimeError("the node of this bus is stopped: await bus.start_node() first")
        return node


def _now(question: Coroutine[Any, Any, T]) -> T:
    """The answer of one of the node's services, which is there at once: the store in memory never waits."""
    return start(question).result()
