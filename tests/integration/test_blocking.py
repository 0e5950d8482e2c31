"""Handlers that block, on a real node: what they said before has left the process, over plain TCP and over TLS."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import make_certificate
from tests.support.node import NodeProcess, environment
from tests.support.reactor import on_reactor
from tests.support.tls import TlsFront
from trishula.client import Client
from trishula.contract import uris
from trishula.errors import AgentUnknown
from trishula.runtime.surroundings import real
from trishula.runtime.waiting import sleep
from trishula.settings import Settings

pytestmark = pytest.mark.node

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"
GENEROUS_S = 20.0
LEASE_S = 0.4

AGENT = """
import asyncio, sys, trishula

agent = trishula.Agent("agni", state=False)
runs = []

def block():
    print("blocked", flush=True)
    sys.stdin.readline()

@agent.on("STATUS")
async def think(message):
    delivery = trishula.current_delivery()
    runs.append(delivery.attempt)
    agent.busy(for_s=600, progress="thinking")
    delivery.working(60)
    block()

@agent.procedure()
def ran():
    return runs

@agent.procedure()
async def freeze():
    await asyncio.sleep(0)
    block()

@agent.procedure(thread=True)
def patient():
    block()

agent.run()
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    directory = tmp_path_factory.mktemp("blocking")
    config = json.loads(SHIPPED.read_text())
    config["workers"][0]["components"][0]["extra"]["delivery"] |= {"lease": f"{LEASE_S}s", "backoff_first": "100ms"}
    file = directory / "node.json"
    file.write_text(json.dumps(config))
    node = NodeProcess(directory / "state", config=file)
    for name in ("agni", "dc"):
        node.token(name)
    node.token("boss", operator=True)
    with node:
        yield node


class Program:
    """An agent's process, whose handlers print a line and then block until they are given one."""

    def __init__(self, node: NodeProcess, code: str, **more: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=environment(**{"TRISHULA_URL": node.url, "TRISHULA_TOKEN": node.tokens["agni"], **more}),
        )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def hears(self, line: str) -> None:
        """Wait until it prints that line."""
        stdout = self.process.stdout
        assert stdout is not None
        assert select.select([stdout], [], [], GENEROUS_S)[0], "it says nothing"
        assert stdout.readline() == f"{line}\n"

    def go_on(self) -> None:
        """Let the handler that blocks return."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def log_line(self, part: str) -> str:
        """Wait for a line of its log."""
        stderr = self.process.stderr
        assert stderr is not None
        while select.select([stderr], [], [], GENEROUS_S)[0]:
            line = stderr.readline()
            assert line, "it ended"
            if part in line:
                return line
        raise AssertionError(f"no {part!r} in its log")


@asynccontextmanager
async def client_of(node: NodeProcess, name: str = "dc") -> AsyncIterator[Client]:
    client = Client(Settings((node.url,), name, node.tokens[name]), instance="test")
    client.attach(lambda deliveries: None)
    try:
        await client.start(GENEROUS_S)
        yield client
    finally:
        await client.stop()


async def wait_for(client: Client, presence: str) -> dict[str, Any]:
    deadline_s = time.monotonic() + GENEROUS_S
    while True:
        with contextlib.suppress(AgentUnknown):
            found: dict[str, Any] = await client.request(uris.DIRECTORY_GET, "agni")
            if found["presence"] == presence:
                return found
        assert time.monotonic() < deadline_s
        await sleep(real().clock, 0.02)


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
@on_reactor
async def test_what_a_handler_says_before_it_blocks_reaches_the_node(
    node: NodeProcess, tmp_path: Path, secure: bool
) -> None:
    around = {}
    async with AsyncExitStack() as stack:
        if secure:
            certificate = make_certificate(tmp_path, 30)
            around["TRISHULA_URL"] = stack.enter_context(TlsFront(certificate, node.port))
            around["SSL_CERT_FILE"] = str(certificate)
        dc = await stack.enter_async_context(client_of(node))
        boss = await stack.enter_async_context(client_of(node, "boss"))
        agni = stack.enter_context(Program(node, AGENT, **around))
        await wait_for(dc, "online")
        sent = await dc.send("agni", payload="think")
        agni.hears("blocked")
        assert (await wait_for(dc, "busy"))["progress"] == "thinking"
        # Several leases pass. It is less than the silence after which a node ends the session of whoever is frozen.
        await sleep(real().clock, 5 * LEASE_S)
        life = await boss.request(uris.AUDIT_WHY, sent.id)
        agni.go_on()
        assert await dc.call("agni", "ran", timeout=GENEROUS_S) == [1]
        assert [message["attempts"] for message in life["messages"]] == [1]


@on_reactor
async def test_a_handler_that_blocks_the_loop_is_named_while_it_does(node: NodeProcess) -> None:
    async with client_of(node) as dc:
        with Program(node, AGENT) as agni:
            await wait_for(dc, "online")
            sent = await dc.send("agni", type="COMMAND", procedure="freeze")
            agni.hears("blocked")
            line = agni.log_line("has been blocked")
            assert f"by the handler freeze (COMMAND {sent.id} from dc/test), at <string>:" in line
            agni.go_on()
            assert f" s in the handler freeze (COMMAND {sent.id} from dc/test)" in agni.log_line("runs again")


@on_reactor
async def test_an_agent_that_is_told_to_leave_says_what_it_waits_for(node: NodeProcess) -> None:
    async with client_of(node) as dc:
        with Program(node, AGENT) as agni:
            await wait_for(dc, "online")
            sent = await dc.send("agni", type="COMMAND", procedure="patient")
            agni.hears("blocked")
            agni.process.terminate()
            what = f"patient (COMMAND {sent.id} from dc/test), which runs since "
            assert f"agni leaves, and waits up to 5 s for {what}" in agni.log_line("leaves, and waits")
            assert what in agni.log_line("can't stop what runs in a thread")
            agni.go_on()
            assert agni.process.wait(GENEROUS_S) == 0


LATE_SCRIPT = """
import trishula

with trishula.connect() as bus:
    print(bus.address, flush=True)
    input()
    for message in bus.messages(wait_s=5, instance=bus.address.instance):
        print(message.payload, flush=True)
"""


@on_reactor
async def test_what_waits_in_a_script_until_it_asks_is_no_failure(node: NodeProcess) -> None:
    with Program(node, LATE_SCRIPT) as program:
        assert program.process.stdout is not None
        script = program.process.stdout.readline().strip()
        async with client_of(node) as dc:
            receipt = await dc.send(script, payload="still here")
            # As long as all its attempts would have lasted.
            await sleep(real().clock, 12 * LEASE_S)
            (told,) = (await dc.why(receipt.id)).lives
            assert (told.state, told.attempts) == ("delivered", 1)
            program.go_on()
            program.hears("still here")
