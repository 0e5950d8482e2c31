"""What mypy finds in a program of a user: a misspelt option, a type that is none, a map where a value has fields."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import trishula
from trishula import Agent, AsyncClient, Client

agent = Agent("agni")

async def wrong(agent: Agent, client: Client, bus: AsyncClient, script: trishula.Bus) -> None:
    agent.send("dc", priorty=1)  # misspelt
    client.send("dc", type="STAUTS")  # no type
    await bus.send("dc", timeout_s=5)  # the old name
    script.broadcast(subjetc="x")  # misspelt
    await bus.call_with("dc", "f", [1], ttl="5 s")  # no such option
    agent.call_with("dc", "f", on_warning=print, procedure="g")  # an option of send alone
    script.find(presence="present")  # no presence
    print((await bus.status("m"))["m"]["state"])  # a map of before
    for one in script.agents():
        one.agent = "other"  # frozen
    agent.on("STATE")  # no type
    agent.subscribe("news", off="dc")  # misspelt
    async for message in script.messages():  # without async
        print(message)

async def right(agent: Agent, client: Client, bus: AsyncClient, script: trishula.Bus) -> None:
    receipt: trishula.Receipt = await agent.send("dc", priority=1, timeout=5)
    receipt = await client.send("dc", type="COMMAND", procedure="f")
    receipt = await bus.broadcast(subject="x", copies=2)
    receipt = script.send("dc", payload={"a": receipt.id}, id="m")
    await bus.call_with("dc", "f", [1], ttl_ms=5000, on_warning=print)
    found: list[trishula.AgentInfo] = script.find("deploy", presence="online")
    state: str = (await bus.status("m"))["m"].state
    for event in script.why("m", sender="dc").lives[0].events:
        print(event.at, event.kind, found, state)
    for message in script.messages(wait_s=0):
        print(message.payload)
    async for message in bus.messages():
        print(message.payload)
    await client.subscribe("news", print, of="dc")
    done: list[bool] = script.cancel("m", timeout=1)

@agent.on("STATUS", subject="a.*")
async def heard(message: trishula.Message) -> None: ...

@agent.subscribe("news", of="dc")
async def news(line: str) -> None: ...
"""


def test_mypy_finds_what_is_misspelt_and_nothing_else(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-error-summary"]
    config = ["--config-file", str(ROOT / "setup.cfg"), "--cache-dir", str(ROOT / ".mypy_cache")]
    done = subprocess.run(
        [*mypy, *config, str(program)],
        env={**os.environ, "MYPYPATH": str(ROOT / "components")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stderr == ""
    found = {int(line) for line in re.findall(r"program\.py:(\d+): error:", done.stdout)}
    wrong = {number for number, line in enumerate(PROGRAM.splitlines(), 1) if "  # " in line}
    assert found == wrong, done.stdout
