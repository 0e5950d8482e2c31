"""The parts of a door put together, and what it does by itself: join, look after tasks, notify, forget."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path
from typing import Any

from a2a.types.a2a_pb2 import AgentCard

from trishula import distribution
from trishula.a2a_door.callers import Callers
from trishula.a2a_door.cards import card_of
from trishula.a2a_door.keys import DoorKey
from trishula.a2a_door.ledger import Ledger
from trishula.a2a_door.shapes import stream_response_of
from trishula.a2a_door.targets import Networks
from trishula.a2a_door.tasks import Tasks
from trishula.a2a_door.upkeep import repeat
from trishula.a2a_door.webhooks import Webhooks
from trishula.client import Client
from trishula.errors import TrishulaError
from trishula.runtime.pending import start
from trishula.runtime.surroundings import real
from trishula.settings import Settings

__all__ = ["Service"]

_log = logging.getLogger("trishula")

#: What a node's news did not tell is found out after so long.
_SWEEP_S = 2.0
_FORGET_S = 3600.0
#: How long what is known of the agents is believed.
_AGENTS_S = 2.0


class Service:
    """See the module's docstring. Made in the loop that it lives in; ``async with`` it.

    Args:
        settings: whose token the door itself has: it asks for the agents, and sends nothing.
        callers: the settings of a caller's token.
        directory: of the door's file and key.
        url: by which clients call the door, without a slash at the end.
        only: the agents that it serves; all that are registered if empty.
        allowed: networks for webhooks, beside the public ones.
        wait_s: how long a caller waits for a task's end at most.

    Attributes:
        key: the door's key.
        tasks: all tasks.
        webhooks: notifications.
        callers: who calls.
        ends: set once no node lets the door in any more, as after its token was revoked: it is of no use from then on.
        end: why.
    """

    def __init__(
        self,
        settings: Settings,
        callers: Callable[[str], Settings],
        directory: Path,
        *,
        url: str,
        only: Collection[str],
        allowed: Networks,
        wait_s: float,
    ) -> None:
        around = real()
        self.url = url
        self.wait_s = wait_s
        self.now_ms = around.now_ms
        self._only = frozenset(only)
        self._clock = around.clock
        self.ends = asyncio.Event()
        self.end: TrishulaError | None = None
        self._own = Client(settings, instance=around.word(4), around=around)
        self._ledger = Ledger.open(directory)
        try:
            self.key = DoorKey.load(directory, url)
        except BaseException:
            self._ledger.close()
            raise
        self.webhooks = Webhooks(self._ledger, self.key, allowed, self._body, around.now_ms, around.random)
        self.tasks = Tasks(self._ledger, around.now_ms, self.webhooks.wake)
        self.callers = Callers(callers, around, self._news, self._ledger.has_work)
        self.tasks.serve(self.callers)
        self._agents: dict[str, tuple[str, ...]] = {}
        self._agents_s: float | None = None
        self._forgotten_s = around.clock.seconds()
        self._works: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Service:
        joining = start(self._own.start())
        joining.when_done(lambda pending: pending.error)
        self.tasks.resume()
        self._work(self.webhooks.run())
        # In this order: the callers' own sweep lets those go that the node refuses, and the tasks' sweep asks for them.
        self._work(repeat(_SWEEP_S, self._see_own_end, self.tasks.sweep, self.callers.sweep, self._forget))
        return self

    async def __aexit__(self, *_: object) -> None:
        for work in self._works:
            work.cancel()
        await asyncio.gather(*self._works, return_exceptions=True)
        await self.callers.close()
        await start(self._own.stop())
        self._ledger.close()

    async def agents(self) -> dict[str, tuple[str, ...]]:
        """The agents that are served, each with what it announced when it was there last.

        Raises:
            TrishulaError: the node doesn't say, and never did.
        """
        now_s = self._clock.seconds()
        if self._agents_s is None or now_s - self._agents_s > _AGENTS_S:
            try:
                found = await self._own.agents(timeout=5.0)
            except TrishulaError:
                if self._agents_s is None:
                    raise
            else:
                self._note_agents({one.agent: one.capabilities for one in found})
            self._agents_s = now_s
        return self._agents

    def _note_agents(self, announced: dict[str, tuple[str, ...]]) -> None:
        own = self._own.address.agent
        served = {name: announced[name] for name in announced if name != own and (not self._only or name in self._only)}
        changed = {name: said for name, said in served.items() if said and said != self._agents.get(name)}
        self._ledger.note_capabilities(changed)
        self._agents = {name: said or self._ledger.capabilities(name) for name, said in served.items()}

    async def _see_own_end(self) -> None:
        if self._own.end is not None:
            self.end = self._own.end
            self.ends.set()

    def card(self, agent: str, capabilities: tuple[str, ...]) -> AgentCard:
        """The card of an agent, signed."""
        return self.key.signed(card_of(agent, capabilities, f"{self.url}/agents/{agent}", distribution.version()))

    def _body(self, task_id: str, number: int) -> dict[str, Any] | None:
        row = self._ledger.task(task_id)
        if row is None:
            return None
        events = self._ledger.events(task_id, number - 1)[:1]
        return stream_response_of(row, *events[0]) if events else None

    def _news(self, name: str, ids: list[str]) -> None:
        self._work(self.tasks.look(name, ids or None))

    async def _forget(self) -> None:
        if self._clock.seconds() - self._forgotten_s > _FORGET_S:
            self._forgotten_s = self._clock.seconds()
            self.tasks.forget()

    def _work(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._works.add(task)
        task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[Any]) -> None:
        self._works.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("The door's work failed", exc_info=error)
