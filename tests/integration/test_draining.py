"""An operator takes the bus out of use: agents with folders go on by files, and come back; nothing lost, none twice."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from tests.support.node import NodeProcess
from tests.support.reactor import on_reactor
from trishula.agent import Agent
from trishula.client import Client
from trishula.contract import uris
from trishula.contract.message import Message
from trishula.files.signature import KEYS_FILE, FileKey, KnownKeys
from trishula.runtime.surroundings import real
from trishula.settings import Settings

pytestmark = pytest.mark.node

TIMEOUT_S = 40.0


async def until(holds: Callable[[], object]) -> None:
    clock = real().clock
    end_s = clock.seconds() + TIMEOUT_S
    while not holds():
        assert clock.seconds() < end_s, "it did not come true in time"
        done: Deferred[None] = Deferred()
        clock.callLater(0.05, done.callback, None)
        await done


def files_in(directory: Path) -> list[Path]:
    """The messages in a folder; canaries come and go there, too."""
    found = []
    for file in sorted(directory.glob("[!.]*.json")):
        with contextlib.suppress(FileNotFoundError):
            if '"heartbeat"' not in file.read_text():
                found.append(file)
    return found


@on_reactor
async def test_while_an_operator_stops_all_sends_agents_go_on_by_files_and_come_back(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "state") as node:
        for name in ("alpha", "beta"):
            node.token(name)
        node.token("ops", operator=True)

        def settings(name: str, files: Path | None = None) -> Settings:
            return Settings((node.url,), name, node.tokens[name], files=files)

        alpha = Agent("alpha", state=tmp_path / "agents")
        beta = Agent("beta", state=tmp_path / "agents")
        outbox, inbox = tmp_path / "alpha" / "outbox", tmp_path / "beta" / "inbox"
        ran: list[str] = []

        @beta.on("STATUS")
        def came(message: Message) -> None:
            ran.append(message.id)

        ops = Client(settings("ops"))
        await ops.start()
        for agent in (alpha, beta):
            await agent.start(settings(agent.name, tmp_path / agent.name), timeout=TIMEOUT_S)
        KnownKeys(tmp_path / "beta" / KEYS_FILE).trust("alpha", FileKey.from_token(node.tokens["alpha"]).public)
        try:
            receipts = [alpha.send("beta", payload=number, id=f"before_{number}") for number in range(5)]
            for receipt in receipts:
                assert (await receipt).id
            await until(lambda: len(ran) == 5)

            await ops.request(uris.ADMIN_FALLBACK, "on", {"reason": "a rollback"})
            await until(lambda: (alpha.mode, beta.mode) == ("fallback", "fallback"))
            receipts += [alpha.send("beta", payload=number, id=f"during_{number}") for number in range(30)]
            await until(lambda: len(files_in(outbox)) == 30)
            carried, left = files_in(outbox)[:20], files_in(outbox)[20:]
            for file in carried:
                file.rename(inbox / file.name)
            # They run although the bus takes nothing; what nobody carries waits.
            await until(lambda: len(ran) == 25)
            assert files_in(outbox) == left

            await ops.request(uris.ADMIN_FALLBACK, "off", {"reason": "the rollback is over"})
            await until(lambda: (alpha.mode, beta.mode) == ("live", "live"))
            receipts.append(alpha.send("beta", payload=0, id="after_0"))
            for receipt in receipts:
                assert (await receipt).id
            await until(lambda: len(ran) >= 36 and not files_in(outbox) and not files_in(inbox))
            expected = [f"before_{number}" for number in range(5)] + [f"during_{number}" for number in range(30)]
            assert Counter(ran) == Counter([*expected, "after_0"])
            assert len(list((tmp_path / "beta" / "archive").rglob("*.json"))) == 20
            assert list((tmp_path / "beta" / "rejected").iterdir()) == []
        finally:
            for agent in (alpha, beta):
                await agent.stop(grace_s=1.0)
            await ops.stop()
