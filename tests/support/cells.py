"""Cells without processes: nodes in memory on one road in memory, which loses, repeats and reorders when it is told to.

What an agent is, is played too: it has a memory of ids, as the file of a real one is, and handles a message once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from tests.support.nodes import LIMITS, Rig
from tests.support.stores import result_of
from trishula_router.agents.file import AgentEntry
from trishula_router.cells.exchange import Ends
from trishula_router.cells.memory_road import MemoryRoad, MemoryRoads
from trishula_router.cells.road import Change, Entry, Fields
from trishula_router.cells.service import Cells
from trishula_router.equipment import join_cells
from trishula_router.settings.cells import CellOptions
from trishula_router.settings.limits import Limits
from trishula_router.store.memory import MemoryStore

__all__ = ["AGENTS", "KEY", "Cell", "LossyRoad", "World"]

AGENTS = ("agni", "dc", "rushabdev")
KEY = "k" * 40
_T = TypeVar("_T")


class LossyRoad:
    """A road that loses, repeats and reorders what it is given.

    Args:
        road: the one below it.
        random: decides.

    Attributes:
        loss, repeats, swaps: the part of the entries that this happens to.
    """

    def __init__(self, road: MemoryRoad, random: Random) -> None:
        self._road = road
        self._random = random
        self.loss = self.repeats = self.swaps = 0.0

    @property
    def where(self) -> str:
        return self._road.where

    @property
    def losses(self) -> int:
        return self._road.losses

    def append(self, entries: Sequence[tuple[str, Fields]], worked_off: Sequence[str] = ()) -> None:
        out = [one for one in entries if self._random.random() >= self.loss]
        out += [one for one in out if self._random.random() < self.repeats]
        if self._random.random() < self.swaps:
            self._random.shuffle(out)
        self._road.append(out, worked_off if self._random.random() >= self.loss else ())

    def read(self, limit: int, wait_s: float) -> list[Entry]:
        return self._road.read(limit, wait_s)

    def homes(self, addresses: Sequence[str]) -> list[bytes | None]:
        return self._road.homes(addresses)

    def put_homes(self, changes: Sequence[Change], ttl_s: float) -> list[bool]:
        return self._road.put_homes(changes, ttl_s)

    def close(self) -> None:
        self._road.close()


class Cell:
    """A cell of one node, whose store outlives it."""

    def __init__(self, world: World, name: str, directory: Path, limits: Limits) -> None:
        self.world, self.name = world, name
        self._directory = directory / name
        self._directory.mkdir()
        (self._directory / "cells.key").write_text(KEY)
        (self._directory / "cells.key").chmod(0o600)
        self._limits = limits
        self.clock = Clock()
        self.clock.advance(world.seconds())
        self.store = MemoryStore(name)
        #: Agent → its session here.
        self.sessions: dict[str, int] = {}
        self._first_session = 1
        self.start()

    def start(self) -> None:
        """A new run of the node."""
        options = CellOptions(self.name, "redis://localhost", key_file="cells.key")
        self.rig = Rig(
            self._directory,
            self.store,
            self.clock,
            agents=self.world.agents,
            name=self.name,
            cells=options,
            limits=self._limits,
        )
        roads, random = self.world.roads, self.world.random
        self.road = LossyRoad(MemoryRoad(roads, self.name, self.name), random)
        reader = LossyRoad(MemoryRoad(roads, self.name, self.name), random)
        self.reader = reader
        join_cells(self.rig.node, Ends(self.road, reader, self._later, self._later))
        self.world.spoil(self)
        self.rig.start()

    @property
    def cells(self) -> Cells:
        cells = self.rig.node.cells
        assert cells is not None
        return cells

    def _later(self, work: Callable[[], _T]) -> Deferred[_T]:
        """As a thread does it: some turns of the reactor later."""
        done: Deferred[_T] = Deferred()
        timers: Any = self.clock
        timers.callLater(0.02, lambda: maybeDeferred(work).chainDeferred(done))
        return done

    def crash(self) -> None:
        """The node ends as with kill -9, and starts again with what its store has."""
        self.rig.crash()
        self.sessions.clear()
        self.start()

    def attach(self, agent: str) -> None:
        """An agent attaches here."""
        if agent not in self.sessions:
            self.world.sessions += 1
            self.sessions[agent] = self.rig.join(agent, session=self.world.sessions)
        self.rig.attach(self.sessions[agent], window=64)

    def leave(self, agent: str) -> None:
        """Its session here is gone."""
        session = self.sessions.pop(agent, None)
        if session is not None:
            self.rig.leave(session)

    def send(self, sender: str, *messages: dict[str, Any]) -> list[dict[str, Any]]:
        """An agent that looks in here sends, and leaves."""
        session = self.sessions.get(sender)
        passing = session is None
        if session is None:
            self.world.sessions += 1
            session = self.rig.join(sender, session=self.world.sessions)
        receipts = self.rig.send(session, *messages)
        if passing:
            self.rig.leave(session)
        return receipts

    def state(self, message_id: str, to: str | None = None) -> str | None:
        """The state of a message here; ``None`` if it is not known here."""
        found = result_of(self.store.with_ids([message_id]))
        states = [one.state_word for one in found if to in (None, one.recipient)]
        assert len(states) <= 1
        return states[0] if states else None

    def life(self, message_id: str) -> dict[str, Any]:
        """What ``trishula why`` says of it."""
        why = Deferred.fromCoroutine(self.rig.node.audit.why("dc", message_id, None, operator=True))
        (life,) = result_of(why)["messages"]
        return dict(life)

    def work(self) -> None:
        """The agents here handle what they were pushed."""
        self.rig.settle()
        pushed, self.rig.outlet.pushed = self.rig.outlet.pushed, []
        for address, session, deliveries in pushed:
            if self.sessions.get(address) != session:
                # A test plays that one by itself.
                self.rig.outlet.pushed.append((address, session, deliveries))
                continue
            for one in deliveries:
                message = one["message"]
                key = (address, message["from"].partition("/")[0], message["id"])
                self.world.seen[key] += 1
                if key not in self.world.handled:
                    self.world.handled[key] = self.name
                    self.world.ran[key] += 1
            self.rig.ack(session, *[one["token"] for one in deliveries])


class World:
    """Cells on one road.

    Args:
        directory: a temporary one.
        names: the cells'.
        random: what happens to entries.
        step_s: how far the clocks go at a time.
        agents: who is registered, at each cell; each has a file of its own.
        limits: of the nodes.
    """

    def __init__(
        self,
        directory: Path,
        names: Sequence[str] = ("north", "south"),
        random: Random | None = None,
        step_s: float = 0.05,
        agents: Mapping[str, AgentEntry] | None = None,
        **limits: Any,
    ) -> None:
        self.agents = agents or {name: AgentEntry(send=("*",)) for name in AGENTS}
        self.step_s = step_s
        self.random = random or Random(1)
        self._now_s = 0.0
        self.roads = MemoryRoads(self.seconds)
        self.sessions = 0
        self.loss = self.repeats = self.swaps = 0.0
        #: By (agent, sender, id): how often it came, how often it was handled, and where.
        self.seen: Counter[tuple[str, str, str]] = Counter()
        self.ran: Counter[tuple[str, str, str]] = Counter()
        self.handled: dict[tuple[str, str, str], str] = {}
        self.cells = {name: Cell(self, name, directory, replace(LIMITS, **limits)) for name in names}

    def seconds(self) -> float:
        return self._now_s

    def __getitem__(self, name: str) -> Cell:
        return self.cells[name]

    def spoil(self, cell: Cell) -> None:
        """Have a cell's ends lose what all lose."""
        for road in (cell.road, cell.reader):
            road.loss, road.repeats, road.swaps = self.loss, self.repeats, self.swaps

    def weather(self, loss: float = 0.0, repeats: float = 0.0, swaps: float = 0.0) -> None:
        """From now on entries are lost, repeated and swapped so often."""
        self.loss, self.repeats, self.swaps = loss, repeats, swaps
        for cell in self.cells.values():
            self.spoil(cell)

    def advance(self, seconds: float) -> None:
        """Let time pass everywhere, and agents work."""
        for _ in range(max(1, round(seconds / self.step_s))):
            self._now_s += self.step_s
            for cell in self.cells.values():
                cell.clock.advance(self.step_s)
                cell.work()

    def until(self, holds: Callable[[], bool], at_most_s: float = 60.0) -> None:
        """Let time pass until something holds."""
        end_s = self._now_s + at_most_s
        while not holds():
            assert self._now_s < end_s, "it did not come to hold"
            self.advance(0.25)
