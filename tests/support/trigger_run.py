"""All four triggers of a real node fire and clear: ``python -m tests.support.trigger_run --step 10``.

With steps of a second it takes less than a minute; with the minutes of a node in use, half an hour. What happens is
real:

==========  ===========================================================================================================
``uptime``  the node is killed, and started again some time later
``p99``     ``agni`` gives back what it has in portions, each after a while, so that more waits in its mailbox
``loss``    ``agni`` gives some of the messages up; they are dead letters
``away``    the process of ``dhara`` is killed, and started again later
==========  ===========================================================================================================

Then nothing is sent any more, ``dhara`` is there, and all of them clear. A step that is not as it should be, because
the machine was slow, makes the run longer and nothing else: what fires is waited for.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.support.node import ROOT, NodeProcess, environment
from tests.support.scraped import Scraped
from tests.support.web import ask
from trishula.client import Client
from trishula.contract import uris
from trishula.contract.deliveries import Delivery
from trishula.runtime.surroundings import real
from trishula.settings import Settings
from trishula_router.settings.check import read_config_file
from trishula_router.settings.crossbar_config import options_of, render_config
from trishula_router.settings.objectives import TRIGGERS

__all__ = ["TriggerRun", "node_with_steps"]

#: What ``agni`` takes at a time, and how many messages are sent for each portion: the others wait for the next one,
#: which comes after a while that is longer than p99 may be.
_PORTION, _SENT, _EACH_S = 30, 32, 0.3
#: With so many that wait none is sent.
_MOST_WAITING = 200
#: Of so many messages one is lost.
_ONE_LOST_OF = 25
#: Nothing is waited for longer than so many steps, and a while for a slow machine.
_STEPS, _SLACK_S = 60, 120.0
_CHANGES = re.compile(r"the trigger (\w+) (?:fires: (.*)|has cleared)")


def node_with_steps(directory: Path, step_s: float) -> NodeProcess:
    """A node that does not run yet, whose triggers look each ``step_s``, with windows of ten and twenty steps."""
    config = read_config_file(ROOT / "config" / "single.json")
    options_of(config)["objectives"] = {
        "step": f"{step_s:g}s",
        # Its downtime is to be remembered while all else begins.
        "uptime_window": f"{20 * step_s:g}s",
        "loss_window": f"{10 * step_s:g}s",
        "away": f"{step_s:g}s",
        "agents": ["dhara"],
    }
    file = directory / "node.json"
    file.write_text(render_config(config))
    node = NodeProcess(directory / "state", config=file)
    for name in ("agni", "dc", "dhara"):
        node.token(name)
    node.token("boss", operator=True)
    return node


class TriggerRun:
    """Makes each trigger fire and clear.

    Args:
        node: of :func:`node_with_steps`, which is started here.
        step_s: as there.

    Attributes:
        fired: trigger → why it fired first, by the node's log.
        cleared: the triggers that cleared, in this order.
        events: what was heard of the bus's mode.
        modes: what the journal says of it, from the first record on.
        gauges: the values that the metric of the mode had.
        told: what became of triggers, for a person.
    """

    def __init__(self, node: NodeProcess, step_s: float) -> None:
        self.fired: dict[str, str] = {}
        self.cleared: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.modes: list[dict[str, Any]] = []
        self.gauges: set[float] = set()
        self.told: list[str] = []
        self._node, self._step_s = node, step_s
        self._held: list[Delivery] = []
        self._sent = self._ended = 0
        self._gauge = -1.0

    async def run(self) -> None:
        """All of it; fails if a trigger does not fire, or not clear."""
        # The node keeps that it was there three seconds after its start, and after each step.
        await deferToThread(self._node.start)
        await _sleep(3.5)
        self._node.kill()
        await _sleep(2 * self._step_s)
        await deferToThread(self._node.start)
        async with self._client("boss") as boss, self._client("dc") as dc:
            await boss.subscribe(uris.EVENT_FALLBACK, lambda event, **_: self.events.append(event))
            agni = Client(self._settings("agni"))
            agni.attach(self._held.extend, window=_PORTION)
            await agni.start(timeout=30.0)
            try:
                with self._dhara():
                    await self._until(boss, self._is_there)
                await self._until(boss, self._have_fired, lambda: self._portion(dc, agni))
                # What is left is handled at once, and no more comes.
                while self._ended < self._sent:
                    await self._give_back(agni)
                    await _sleep(0.01)
                with self._dhara():
                    await self._until(boss, self._have_cleared)
                    await self._until(boss, self._is_live)
                    # While it is there: it is missed again when its process ends.
                    self.modes = await self._modes_of(boss)
            finally:
                await agni.stop()

    async def _portion(self, dc: Client, agni: Client) -> None:
        """Send some, and give back what is there."""
        if self._sent - self._ended < _MOST_WAITING:
            receipts = [dc.send("agni", type="STATUS") for _ in range(_SENT)]
            self._sent += _SENT
            for receipt in receipts:
                await receipt
        await _sleep(_EACH_S)
        await self._give_back(agni)

    async def _give_back(self, agni: Client) -> None:
        held, self._held[:] = list(self._held), []
        lost = [one.token for number, one in enumerate(held, self._ended) if number % _ONE_LOST_OF == 0]
        self._ended += len(held)
        if lost:
            await agni.nack(lost, "nobody can handle it", requeue=False)
        if len(held) > len(lost):
            await agni.ack([one.token for one in held if one.token not in lost])

    async def _until(
        self,
        boss: Client,
        is_so: Callable[[Client], Awaitable[bool]],
        meanwhile: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Wait until something is so; meanwhile something else is done again and again."""
        deadline_s = time.monotonic() + _STEPS * self._step_s + _SLACK_S
        while not await is_so(boss):
            assert time.monotonic() < deadline_s, f"it did not come: fired {self.fired}, cleared {self.cleared}"
            await (_sleep(0.3) if meanwhile is None else meanwhile())

    def _look(self) -> None:
        """Read what the node said of its triggers, and the metric of the mode."""
        found = [(one[1], one[2]) for one in _CHANGES.finditer(self._node.log())]
        self.told = [f"{trigger} has cleared" if why is None else f"{trigger} fires: {why}" for trigger, why in found]
        self.fired = {trigger: why for trigger, why in reversed(found) if why is not None}
        last = dict(found)
        self.cleared = [trigger for trigger, why in last.items() if why is None]
        self._gauge = Scraped(ask(self._node, "/metrics").body)["trishula_fallback"]
        self.gauges.add(self._gauge)

    async def _have_fired(self, boss: Client) -> bool:
        await deferToThread(self._look)
        return set(TRIGGERS) <= self.fired.keys()

    async def _have_cleared(self, boss: Client) -> bool:
        await deferToThread(self._look)
        told = await boss.request(uris.NODE_OBJECTIVES, {"windows": ["5m"]})
        return not told["triggers"] and set(TRIGGERS) <= set(self.cleared)

    async def _is_there(self, boss: Client) -> bool:
        entries = await boss.request(uris.DIRECTORY_LIST)
        return any(one["agent"] == "dhara" and one["presence"] == "online" for one in entries)

    async def _is_live(self, boss: Client) -> bool:
        is_live = bool((await boss.request(uris.NODE_FALLBACK))["mode"] == "live")
        await deferToThread(self._look)
        # What is scraped may be a little older.
        return is_live and self._gauge == 0.0

    async def _modes_of(self, boss: Client) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = (await boss.request(uris.AUDIT_QUERY, {"kind": "mode", "limit": 1000}))[
            "records"
        ]
        return records

    def _settings(self, name: str) -> Settings:
        return Settings((self._node.url,), name, self._node.tokens[name])

    @contextlib.asynccontextmanager
    async def _client(self, name: str) -> AsyncIterator[Client]:
        client = Client(self._settings(name))
        try:
            await client.start(timeout=30.0)
            yield client
        finally:
            await client.stop()

    @contextlib.contextmanager
    def _dhara(self) -> Iterator[None]:
        """An agent of a process of its own, which is killed at last."""
        token = self._node.tokens["dhara"]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.light_traffic", "take"],
            env=environment(TRISHULA_URL=self._node.url, TRISHULA_AGENT="dhara", TRISHULA_TOKEN=token),
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            process.kill()
            process.wait()


def _sleep(seconds: float) -> Deferred[None]:
    done: Deferred[None] = Deferred()
    real().clock.callLater(seconds, done.callback, None)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", type=float, default=10.0, help="how long a step is, in seconds: 1 to 60")
    step_s = parser.parse_args().step

    async def run() -> None:
        with tempfile.TemporaryDirectory() as directory:
            node = node_with_steps(Path(directory), step_s)
            one = TriggerRun(node, step_s)
            try:
                await one.run()
            finally:
                node.stop()
            said = [f"mode {record['mode']} by {record['by']}: {record['reason']}" for record in one.modes]
            sys.stdout.write("\n".join([*one.told, *said, f"events: {len(one.events)}", ""]))

    task.react(lambda reactor: Deferred.fromCoroutine(run()))


if __name__ == "__main__":
    main()
