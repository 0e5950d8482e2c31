"""Several nodes without routers, joined by a network that a test can cut, and that loses and repeats on request."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from twisted.internet.task import Clock

from tests.support.nodes import Rig
from trishula_router.clocks.timeline import Timeline
from trishula_router.peers.journal_exchange import PRESENCE
from trishula_router.settings.cells import CellOptions
from trishula_router.store.interface import Store

__all__ = ["Nodes"]


class Nodes:
    """Nodes that are peers of each other.

    Args:
        directory: where their agents files are made.
        stores: by node's name.
        agents: who is registered, at each.
        aheads_ms: how far the wall clocks of nodes are ahead of the true one.
        sharing: the nodes that share their agents; their files survive a restart.
        cell: that all of them are.
        join: given each rig before its node starts.
    """

    def __init__(
        self,
        directory: Path,
        stores: dict[str, Store],
        *,
        agents: Iterable[str] = ("agni", "dc", "rushabdev"),
        aheads_ms: Mapping[str, int] = MappingProxyType({}),
        sharing: Collection[str] = (),
        cell: CellOptions | None = None,
        join: Callable[[Rig], None] = lambda rig: None,
    ) -> None:
        self.clock = Clock()
        self.stores = stores
        self._directory = directory
        self._agents = tuple(agents)
        self._aheads_ms = aheads_ms
        self._sharing = sharing
        self._cell = cell
        self._join = join
        self.rigs: dict[str, Rig] = {}
        #: Whether something from one node to another gets through; a test may put in what it likes.
        self.lets_through: Callable[[str, str, str], bool] = lambda sender, to, kind: True
        for name in stores:
            self.boot(name)

    def boot(self, name: str, timeline: Timeline | None = None, *, makes_file: bool = True) -> Rig:
        """Start a node, or start it again; with a clock that the test sets, or without a file of agents."""
        directory = self._directory / name
        directory.mkdir(exist_ok=True)
        peers = tuple(peer for peer in self.stores if peer != name)
        has_file = name in self._sharing and (directory / "agents.json").exists()
        self.rigs[name] = rig = Rig(
            directory,
            self.stores[name],
            self.clock,
            agents=None if not makes_file or has_file else self._agents,
            name=name,
            peers=peers,
            ahead_ms=self._aheads_ms.get(name, 0),
            timeline=timeline,
            shares=name in self._sharing,
            cells=self._cell,
        )
        self._join(rig)
        return rig.start()

    def down(self, name: str) -> None:
        """End a node as a power cut does, as far as the others can tell: it hears and says nothing more."""
        rig = self.rigs.pop(name)
        rig.node.peering.stop()
        rig.node.neighbourhood.stop()
        rig.node.sharing.stop()
        if rig.node.cells is not None:
            rig.node.cells.stop()

    def settle(self) -> None:
        """Let all that is to be said be heard, without time passing."""
        for _ in range(100):
            self.clock.advance(0)
            posted = [(name, *one) for name, rig in self.rigs.items() for one in rig.outlet.posted]
            calls: list[Any] = list(self.clock.getDelayedCalls())  # mypy can't read the interfaces of zope
            if not posted and not any(call.getTime() <= self.clock.seconds() for call in calls):
                return
            for rig in self.rigs.values():
                rig.outlet.posted = []
            for sender, to, kind, text in posted:
                if to in self.rigs and self.lets_through(sender, to, kind):
                    self.rigs[to].node.listener.hear(kind, text, sender)
        raise AssertionError("the nodes never stop talking")

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(min(0.25, end - self.clock.seconds()))
            self.settle()

    def cut(self) -> None:
        """No node hears another any more."""
        self.lets_through = lambda sender, to, kind: False

    def heal(self) -> None:
        """All hear all."""
        self.lets_through = lambda sender, to, kind: True

    def lose_journals(self) -> None:
        """Records get lost; everything else arrives."""
        self.lets_through = lambda sender, to, kind: kind in ("hello", PRESENCE)
