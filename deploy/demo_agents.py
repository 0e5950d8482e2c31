"""The three sample agents with one thing more, for the demo of two nodes: ``agent run deploy/demo_agents.py:dc``.

Told to, each calls the other two in turn, twenty times a second, by durable COMMANDs. What it asked, was answered and
ran it writes down as the clients of a drill do, so that the drill's checker can judge it.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from trishula.agent import Agent
from trishula.agents import agni as sample_agni
from trishula.agents import dc as sample_dc
from trishula.agents import rushabdev as sample_rushabdev
from trishula.runtime.pending import Pending
from trishula_drill.history import Handled, History, Receipted, Sent, digest_of

__all__ = ["NAMES", "agni", "dc", "rushabdev"]

NAMES = ("dc", "agni", "rushabdev")
_EVERY_S = 0.05
#: A call is given up, and shown as lost, if it has no answer by then.
_TIMEOUT_S = 30.0


class _Talk:
    """An agent's part in the traffic."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._others = tuple(name for name in NAMES if name != agent.name)
        self._history: History | None = None
        self._task: asyncio.Task[None] | None = None
        self._hushed = asyncio.Event()
        self._open = 0
        agent.on_start(self.prepare)
        for procedure in (self.talk, self.heard, self.hush):
            agent.add_procedure(procedure)

    def prepare(self) -> None:
        self._history = History(Path(os.environ["DEMO_HISTORY"]) / f"{self._agent.name}.jsonl")

    @property
    def _told(self) -> History:
        if self._history is None:
            raise RuntimeError(f"{self._agent.name} has not started")
        return self._history

    async def talk(self) -> None:
        """Begin to call the others."""
        self._task = asyncio.get_running_loop().create_task(self._keep_calling())

    async def hush(self) -> int:
        """Call nobody any more; returns how many calls had no answer in time."""
        self._hushed.set()
        until_s = time.monotonic() + _TIMEOUT_S
        while self._open and time.monotonic() < until_s:
            await asyncio.sleep(0.02)
        return self._open

    def heard(self, call: str) -> str:
        """What the others call: it can be counted."""
        sender = call.partition(".")[0]
        name = self._agent.name
        self._told.commit(Handled(time.monotonic_ns(), name, name, sender, call, _digest(call)))
        return call

    async def _keep_calling(self) -> None:
        number = 0
        while not self._hushed.is_set():
            number += 1
            self._call(self._others[number % len(self._others)], number)
            await asyncio.sleep(_EVERY_S)

    def _call(self, to: str, number: int) -> None:
        name = self._agent.name
        call = f"{name}.call.{number}"
        self._told.tell(Sent(time.monotonic_ns(), name, name, call, (to,), number, 3, _digest(call)))
        self._open += 1

        def answered(pending: Pending[Any]) -> None:
            self._open -= 1
            if pending.error is None:
                node = self._agent.client.node or ""
                self._told.tell(Receipted(time.monotonic_ns(), name, call, node))

        self._agent.client.call_with(to, "heard", (call,), id=call, timeout=_TIMEOUT_S).when_done(answered)


def _digest(call: str) -> str:
    return digest_of({"args": [call], "kwargs": {}})


def _talkative(agent: Agent) -> Agent:
    _Talk(agent)
    return agent


dc = _talkative(sample_dc.build())
agni = _talkative(sample_agni.build())
rushabdev = _talkative(sample_rushabdev.build())
