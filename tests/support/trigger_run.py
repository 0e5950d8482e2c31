"""All four triggers of a real node fire and clear: ``python -m tests.support.trigger_run --step 10``.

With steps of a second it takes half a minute; with the minutes of a node in use, some twenty. What happens is real:

==========  ===========================================================================================================
``uptime``  the node is killed, and started again some time later
``p99``     ``agni`` handles messages more slowly than they come, so that they wait in its mailbox
``loss``    ``surya`` gives each message up, which is a fiftieth of all; they are dead letters
``away``    the process of ``dhara`` is killed, and started again later
==========  ===========================================================================================================
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.support.node import ROOT, NodeProcess, environment
from tests.support.scraped import Scraped
from tests.support.web import ask
from trishula.agent import Agent
from trishula.client import Client
from trishula.contract import uris
from trishula.contract.deliveries import Delivery
from trishula.contract.message import Message
from trishula.runtime.surroundings import real
from trishula.settings import Settings
from trishula_router.settings.check import read_config_file
from trishula_router.settings.crossbar_config import options_of, render_config
from trishula_router.settings.objectives import TRIGGERS

__all__ = ["TriggerRun", "node_with_steps"]

#: Messages that wait for the slow agent; it handles two in 20 ms at most, so that each waits for longer than 200 ms.
_WAITING = 60
_SLOW_S = 0.02
#: Of so many messages one is lost.
_ONE_LOST_OF = 50
#: A trigger is waited for so many steps, and a while for a slow machine.
_STEPS, _SLACK_S = 20, 60.0


def node_with_steps(directory: Path, step_s: float) -> NodeProcess:
    """A node that does not run yet, whose triggers look each ``step_s``, with windows of ten steps."""
    config = read_config_file(ROOT / "config" / "single.json")
    window = f"{max(10.0, 10 * step_s):g}s"
    options_of(config)["objectives"] = {
        "step": f"{step_s:g}s",
        "uptime_window": window,
        "loss_window": window,
        "away": f"{step_s:g}s",
        "agents": ["dhara"],
    }
    file = directory / "node.json"
    file.write_text(render_config(config))
    node = NodeProcess(directory / "state", config=file)
    for name in ("agni", "dc", "dhara", "surya"):
        node.token(name)
    node.token("boss", operator=True)
    return node


class TriggerRun:
    """Makes each trigger fire and clear.

    Args:
        node: of :func:`node_with_steps`, which is started here.
        step_s: as there.

    Attributes:
        fired: trigger → why it fired first.
        cleared: the triggers that cleared thereafter, in this order.
        events: what was heard of the bus's mode.
        modes: what the journal says of it, from the first record on.
        gauges: the values that the metric of the mode had.
        told: what became of triggers, and when, for a person.
    """

    def __init__(self, node: NodeProcess, step_s: float) -> None:
        self.fired: dict[str, str] = {}
        self.cleared: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.modes: list[dict[str, Any]] = []
        self.gauges: set[float] = set()
        self.told: list[str] = []
        self._node, self._step_s = node, step_s
        self._is_slow = True
        self._sent = self._ended = 0

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
            agni, surya = Agent("agni", state=False, window=2), Client(self._settings("surya"))
            agni.on("STATUS")(self._handle)

            def give_up(deliveries: Sequence[Delivery]) -> None:
                for delivery in deliveries:
                    surya.nack_soon(delivery.token, "nobody can handle it", requeue=False)

            surya.attach(give_up)
            await agni.start(self._settings("agni"), timeout=30.0)
            await surya.start(timeout=30.0)
            try:
                with self._dhara():
                    await self._traffic(boss, dc, lambda _: self._is_there(boss))
                await self._traffic(boss, dc, self._all_fired)
                self._is_slow = False
                with self._dhara():
                    await self._traffic(boss, dc, self._all_cleared)
                await self._traffic(boss, dc, lambda _: self._is_live(boss))
            finally:
                await agni.stop(grace_s=1.0)
                await surya.stop()
            self.modes = (await boss.request(uris.AUDIT_QUERY, {"kind": "mode", "limit": 1000}))["records"]

    async def _handle(self, message: Message) -> None:
        if self._is_slow:
            await _sleep(_SLOW_S)
        self._ended += 1

    async def _traffic(self, boss: Client, dc: Client, is_over: Callable[[dict[str, str]], Awaitable[bool]]) -> None:
        """Send as many messages as may wait, and look at the triggers, until something is over."""
        deadline_s = time.monotonic() + _STEPS * self._step_s + _SLACK_S
        looked_s = 0.0
        while True:
            assert time.monotonic() < deadline_s, f"it did not come: fired {self.fired}, cleared {self.cleared}"
            # As many as may wait now: an agent that is fast takes them as they come, and this would go on for ever.
            for _ in range(max(0, _WAITING - (self._sent - self._ended))):
                self._sent += 1
                if self._is_slow and self._sent % _ONE_LOST_OF == 0:
                    self._ended += 1
                    await dc.send("surya", type="STATUS")
                else:
                    await dc.send("agni", type="STATUS")
            if time.monotonic() - looked_s > 0.25:
                looked_s = time.monotonic()
                if await is_over(await self._look(boss)):
                    return
            await _sleep(0.01)

    async def _look(self, boss: Client) -> dict[str, str]:
        """The triggers that fire, and why."""
        told = await boss.request(uris.NODE_OBJECTIVES, {"windows": ["5m"]})
        firing = {one["trigger"]: one["reason"] for one in told["triggers"]}
        got = await deferToThread(ask, self._node, "/metrics")
        self.gauges.add(Scraped(got.body)["trishula_fallback"])
        for trigger, why in firing.items():
            if trigger not in self.fired:
                self.fired[trigger] = why
                self._tell(f"{trigger} fires: {why}")
        for trigger in self.fired.keys() - firing.keys() - set(self.cleared):
            self.cleared.append(trigger)
            self._tell(f"{trigger} has cleared")
        return firing

    def _tell(self, text: str) -> None:
        self.told.append(f"{time.strftime('%H:%M:%S', time.gmtime())} {text}")

    async def _all_fired(self, firing: dict[str, str]) -> bool:
        return set(TRIGGERS) <= self.fired.keys()

    async def _all_cleared(self, firing: dict[str, str]) -> bool:
        return not firing

    async def _is_there(self, boss: Client) -> bool:
        entries = await boss.request(uris.DIRECTORY_LIST)
        return any(one["agent"] == "dhara" and one["presence"] == "online" for one in entries)

    async def _is_live(self, boss: Client) -> bool:
        return bool((await boss.request(uris.NODE_FALLBACK))["mode"] == "live")

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
