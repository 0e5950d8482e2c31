"""The verbs of Agent, Client, AsyncClient and Bus on a real node: typed answers, loops over messages, errors with data.

Each test is a program of its user, in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.node import NodeProcess, environment

pytestmark = pytest.mark.node

AGENT = """
import asyncio, json, os, trishula
from trishula import CallFailed, RemoteError
agent = trishula.Agent("agni", token=os.environ["AGNI"], capabilities=["host"], state=False)

@agent.procedure()
def deploy(version):
    if version == "full":
        raise CallFailed("the disk is full", data={"free_bytes": 0, "version": version})
    if version == "foreign":
        raise RemoteError("no room", remote_uri="org.example.room", data=[1, 2])
    if version == "odd":
        raise CallFailed("the data can't travel", data=object())
    return {"deployed": version}

@agent.on("STATUS")
def heard(message):
    pass
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("api") / "state") as node:
        for name in ("agni", "dc", "eve"):
            node.token(name, serve=["host"] if name == "agni" else ())
        yield node


def run(node: NodeProcess, code: str, *, name: str = "dc") -> Any:
    """What the program prints, as JSON; it must end without a word on stderr."""
    env = environment(TRISHULA_URL=node.url, TRISHULA_TOKEN=node.tokens[name], AGNI=node.tokens["agni"])
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_typed_answers_of_all_four(node: NodeProcess) -> None:
    code = (
        AGENT
        + """
def facts(agents, found, states, history, cancelled, unknown):
    by_name = {one.agent: one for one in agents}
    agni, (life,) = by_name["agni"], history.lives
    return {
        "agents": sorted(by_name),
        "agni": [agni.presence, list(agni.capabilities), agni.since.tzinfo is not None, agni.sessions >= 1],
        "found": [one.agent for one in found],
        "state": [states["m1"].state, states["m1"].sender.partition("/")[0], states["m1"].recipient],
        "life": [life.id, life.type, life.state, [event.kind for event in life.events][0]],
        "times": life.accepted_at == states["m1"].accepted_at == life.events[0].at,
        "cancelled": cancelled,
        "unknown": unknown,
    }

async def of(member):
    return facts(
        await member.agents(), await member.find("host"), await member.status("m1", "nobody"),
        await member.why("m1", timeout=5), await member.cancel("m1"), sorted(await member.status("nobody"))
    )

def of_bus(bus):
    return facts(
        bus.agents(), bus.find("host"), bus.status("m1", "nobody"), bus.why("m1", timeout=5), bus.cancel("m1"),
        sorted(bus.status("nobody"))
    )

def script():
    with trishula.connect() as bus:
        return of_bus(bus)

async def main():
    async with agent, trishula.AsyncClient() as bus:
        await bus.send("agni", id="m1", timeout=5)
        while (await bus.status("m1"))["m1"].state != "done":
            await asyncio.sleep(0.02)
        told = [await of(agent), await of(agent.client), await of(bus)]
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", os.environ["SCRIPT"], stdout=asyncio.subprocess.PIPE
        )
        told.append(json.loads((await child.communicate())[0]))
        print(json.dumps(told))
"""
    )
    head = code.partition("async def main")[0]
    script = "import sys\n" + head + "print(json.dumps(script()))\n"
    whole = f"import sys, os\nos.environ['SCRIPT'] = {script!r}\n" + code + "asyncio.run(main())\n"
    for told in run(node, whole):
        assert told == {
            "agents": ["agni", "dc", "eve"],
            "agni": ["online", ["host"], True, True],
            "found": ["agni"],
            "state": ["done", "dc", "agni"],
            "life": ["m1", "STATUS", "done", "accepted"],
            "times": True,
            "cancelled": [False],
            "unknown": [],
        }


def test_a_procedures_error_carries_data_on_both_roads(node: NodeProcess) -> None:
    code = (
        AGENT
        + """
async def main():
    async with agent, trishula.AsyncClient() as bus:
        told = []
        for verb in (bus.call, bus.rpc):
            for version in ("full", "foreign", "odd"):
                try:
                    await verb("agni", "deploy", version)
                except trishula.TrishulaError as error:
                    told.append([type(error).__name__, str(error), error.data])
        print(json.dumps(told))

import logging
logging.disable(logging.ERROR)
asyncio.run(main())
"""
    )
    answers = [
        ["CallFailed", "the disk is full", {"free_bytes": 0, "version": "full"}],
        ["RemoteError", "no room", [1, 2]],
        ["CallFailed", "the data can't travel", None],
    ]
    assert run(node, code) == answers * 2


def test_a_loop_over_the_messages_of_a_script(node: NodeProcess) -> None:
    code = """
import json, logging, trishula
logging.disable(logging.ERROR)
told = []
with trishula.connect() as bus:
    for number in range(5):
        bus.send("eve", payload=number, id=f"s{number}", timeout=5)
import os
with trishula.connect(token=os.environ["EVE"]) as bus:
    # An exception in the body gives the message back.
    try:
        for message in bus.messages(wait_s=0):
            raise ZeroDivisionError
    except ZeroDivisionError:
        told.append("raised")
    while bus.status("s0")["s0"].attempts < 1 or bus.why("s0").lives[0].failures < 1:
        pass
    # Break without a word gives back, and with ack() is through.
    for message in bus.messages(wait_s=5):
        first = message.id
        break
    while bus.why(first).lives[0].failures < 1:
        pass
    messages = bus.messages(wait_s=5)
    for message in messages:
        second = message.id
        messages.ack()
        break
    while bus.status(second)[second].state != "done":
        pass
    told.append(bus.why(second).lives[0].failures)
    seen = []
    messages = bus.messages(wait_s=20)
    for message in messages:
        seen.append(message.payload)
        assert messages.delivery.message is message
        if len(seen) == 4:
            messages.ack()
            break
    told.append(sorted(seen + [int(second[1:])]))
    while {one.state for one in bus.status(*(f"s{n}" for n in range(5))).values()} != {"done"}:
        pass
    told.append(list(bus.messages(wait_s=0)))
print(json.dumps(told))
"""
    env = f"import os\nos.environ['EVE'] = {node.tokens['eve']!r}\n"
    assert run(node, env + code) == ["raised", 0, [0, 1, 2, 3, 4], []]


def test_a_loop_over_the_messages_of_an_asyncio_program(node: NodeProcess) -> None:
    code = """
import asyncio, json, trishula

async def main():
    async with trishula.AsyncClient() as bus:
        for number in range(4):
            await bus.send("eve", payload=number, id=f"a{number}")
    async with trishula.AsyncClient(token=EVE) as bus:
        seen, messages = [], bus.messages(wait_s=1)
        async for message in messages:
            seen.append(message.payload)
            if message.payload == 3:
                messages.nack("not for me", requeue=False)
        # The last one is left, and comes to another try.
        states = [(await bus.status(f"a{n}"))[f"a{n}"].state for n in range(4)]
        own = bus.messages(wait_s=5, instance=bus.address.instance)
        await bus.send(str(bus.address), payload="to myself")
        async for message in own:
            own.ack()
            break
        # Waits for ever, until it is cancelled.
        try:
            async with asyncio.timeout(0.2):
                async for message in bus.messages():
                    seen.append("?")
        except TimeoutError:
            seen.append("timeout")
        print(json.dumps([seen, states, message.payload]))

asyncio.run(main())
"""
    seen, states, own = run(node, f"EVE = {node.tokens['eve']!r}\n" + code)
    assert seen == [0, 1, 2, 3, "timeout"]
    assert states == ["done", "done", "done", "dead"]
    assert own == "to myself"


def test_topics_of_oneself_of_others_and_of_the_node(node: NodeProcess) -> None:
    code = (
        AGENT
        + """
import logging, threading
logging.disable(logging.ERROR)
heard, all_heard = [], asyncio.Event()

def note(*what):
    heard.append(list(what))
    if len(heard) == 4:
        all_heard.set()

@agent.subscribe("celsius")
async def own(degrees):
    await asyncio.sleep(0)
    note("own", degrees)

@agent.subscribe("news", of="dc", thread=True)
def of_another(line):
    in_thread = threading.current_thread() is not threading.main_thread()
    loop.call_soon_threadsafe(note, "thread", in_thread, line)

@agent.subscribe("broken", of="dc")
async def broken():
    note("broken")
    raise ZeroDivisionError

async def main():
    global loop
    loop = asyncio.get_running_loop()
    async with agent, trishula.AsyncClient() as bus:
        await bus.subscribe("celsius", lambda degrees: note("bus", degrees), of="agni")
        async def async_heard(line):
            note("bus, own", line)
        await bus.subscribe("news", async_heard)
        await agent.client.subscribe("news.late", lambda: note("client"), of="dc")
        await agent.publish("celsius", 21.5)
        await bus.publish("news", "it rains")
        await bus.publish("broken")
        await bus.publish("news.late")
        # Neither hears what it publishes itself.
        await asyncio.wait_for(all_heard.wait(), 30)
    print(json.dumps(sorted(heard, key=str)))

asyncio.run(main())
"""
    )
    assert run(node, code) == [["broken"], ["bus", 21.5], ["client"], ["thread", True, "it rains"]]


def test_a_script_hears_a_topic_by_its_name(node: NodeProcess) -> None:
    code = f"""
import json, queue, trishula
with trishula.connect() as bus, trishula.connect(token={node.tokens["eve"]!r}) as eve:
    heard = queue.Queue()
    bus.subscribe("news", heard.put, of="eve")
    eve.publish("news", {{"line": 1}})
    print(json.dumps(heard.get(timeout=30)))
"""
    assert run(node, code) == {"line": 1}
