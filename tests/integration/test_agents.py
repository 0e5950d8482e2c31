"""Agents, clients and scripts on a real node."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.support.certificates import make_certificate
from tests.support.node import NodeProcess, environment
from tests.support.reactor import on_reactor
from tests.support.tls import TlsFront
from trishula.agent import Agent
from trishula.client import Client
from trishula.contract import uris
from trishula.contract.deliveries import Delivery, current_delivery
from trishula.contract.message import Message
from trishula.errors import (
    ArgumentInvalid,
    BusUnreachable,
    CallFailed,
    MailboxBusy,
    MessageInvalid,
    OutcomeUnknown,
    PayloadTooLarge,
    ProcedureUnknown,
    RecipientUnknown,
    TakenOver,
    TokenInvalid,
    TrishulaError,
)
from trishula.runtime.surroundings import real
from trishula.settings import Settings

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("agents") / "state") as node:
        for name in ("agni", "dc", "rushabdev"):
            node.token(name, serve=["host"] if name == "agni" else [])
        yield node


def settings(node: NodeProcess, name: str) -> Settings:
    return Settings((node.url,), name, node.tokens[name])


def sleep(seconds: float) -> Deferred[None]:
    done: Deferred[None] = Deferred()
    real().clock.callLater(seconds, done.callback, None)
    return done


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait for something to become true."""
    clock = real().clock
    deadline_s = clock.seconds() + timeout_s
    while not condition():
        assert clock.seconds() < deadline_s, "it did not come true in time"
        await sleep(0.005)


@asynccontextmanager
async def running(node: NodeProcess, *agents: Agent) -> AsyncIterator[None]:
    try:
        for agent in agents:
            await agent.start(settings(node, agent.name), timeout=10.0)
        yield
    finally:
        for agent in agents:
            await agent.stop(grace_s=1.0)


@asynccontextmanager
async def client_of(
    node: NodeProcess, name: str = "dc", *, instance: str | None = "test", got: list[Delivery] | None = None
) -> AsyncIterator[Client]:
    client = Client(settings(node, name), instance=instance)
    if instance is not None or got is not None:
        client.attach(lambda deliveries: None if got is None else got.extend(deliveries))
    try:
        await client.start(timeout=10.0)
        yield client
    finally:
        await client.stop()


async def failure_of(awaitable: Any) -> TrishulaError:
    try:
        outcome = await awaitable
    except TrishulaError as error:
        return error
    raise AssertionError(f"it succeeded with {outcome!r}")


# -- messages ----------------------------------------------------------------------------------------------------------


@on_reactor
async def test_messages_are_routed_by_their_subject(node: NodeProcess) -> None:
    heard: list[tuple[str, str | None]] = []
    agni = Agent("agni", state=False)
    for name, pattern in (("europe", "deploy.eu*"), ("everywhere", "deploy.*"), ("rest", None)):
        agni.on("STATUS", subject=pattern)(lambda message, name=name: heard.append((name, message.subject)))
    async with running(node, agni), client_of(node) as dc:
        for subject in ("deploy.us", "deploy.eu.west", "deploy", None):
            await dc.send("agni", subject=subject)
        await until(lambda: len(heard) == 4)
    assert heard == [
        ("everywhere", "deploy.us"),
        ("europe", "deploy.eu.west"),
        ("rest", "deploy"),
        ("rest", None),
    ]


@on_reactor
async def test_plain_deferred_and_async_handlers_each_handle_and_acknowledge(node: NodeProcess) -> None:
    heard: dict[str, list[object]] = {"agni": [], "rushabdev": [], "dc": []}
    agni, rushabdev, dc = Agent("agni"), Agent("rushabdev"), Agent("dc")

    @agni.on("STATUS")
    def plain(message: Message) -> None:
        heard["agni"].append(message.payload)

    @rushabdev.on("STATUS")
    async def with_asyncio(message: Message) -> None:
        await asyncio.sleep(0.01)
        assert asyncio.current_task() is not None
        heard["rushabdev"].append(message.payload)

    @dc.on("STATUS")
    def with_deferred(message: Message) -> Deferred[None]:
        return sleep(0.01).addCallback(lambda _: heard["dc"].append(message.payload))

    async with running(node, agni, rushabdev, dc):
        receipts = [await agni.send(to, payload=1) for to in ("rushabdev", "dc")] + [await dc.send("agni", payload=1)]
        await until(lambda: heard == {"agni": [1], "rushabdev": [1], "dc": [1]})
        assert {receipt.status for receipt in receipts} == {"accepted"}
        states = await agni.request(uris.MAILBOX_STATUS, [receipts[0].id])
        await until(lambda: agni.client.unconfirmed == 0)
        for _ in range(200):
            if states[receipts[0].id]["state"] == "done":
                break
            await sleep(0.01)
            states = await agni.request(uris.MAILBOX_STATUS, [receipts[0].id])
        assert states[receipts[0].id]["state"] == "done"


@on_reactor
async def test_many_messages_keep_their_order_and_each_comes_once(node: NodeProcess) -> None:
    heard: list[object] = []
    agni = Agent("agni")
    agni.on("STATUS")(lambda message: heard.append(message.payload))
    async with running(node, agni), client_of(node) as dc:
        outcomes = await dc.send_many([{"to": "agni", "type": "STATUS", "payload": number} for number in range(2000)])
        assert {type(outcome).__name__ for outcome in outcomes} == {"Receipt"}
        await until(lambda: len(heard) >= 2000)
    assert heard == list(range(2000))


@on_reactor
async def test_a_broadcast_reaches_everybody_else(node: NodeProcess) -> None:
    heard: list[str] = []
    agents = [Agent(name) for name in ("agni", "dc", "rushabdev")]
    for agent in agents:
        agent.on("STATUS")(lambda message, name=agent.name: heard.append(name))
    async with running(node, *agents):
        await agents[0].broadcast(payload="all")
        await until(lambda: len(heard) == 2)
        await sleep(0.1)
    assert sorted(heard) == ["dc", "rushabdev"]


@on_reactor
async def test_a_message_waits_for_an_absent_agent(node: NodeProcess) -> None:
    async with client_of(node) as dc:
        receipt = await dc.send("agni", payload="waiting")
    heard: list[str] = []
    agni = Agent("agni")
    agni.on("STATUS")(lambda message: heard.append(message.id))
    async with running(node, agni):
        await until(lambda: receipt.id in heard)


@on_reactor
async def test_a_handler_that_fails_gets_the_message_again_and_can_see_that(node: NodeProcess) -> None:
    attempts: list[int] = []
    agni = Agent("agni")

    @agni.on("STATUS")
    async def fails_once(message: Message) -> None:
        delivery = current_delivery()
        assert delivery is not None
        attempts.append(delivery.attempt)
        if delivery.attempt == 1:
            raise ValueError("the first time")

    async with running(node, agni), client_of(node) as dc:
        await dc.send("agni", payload=1)
        await until(lambda: len(attempts) == 2, timeout_s=15.0)
    assert attempts == [1, 2]


@on_reactor
async def test_refusals_reach_the_message_at_fault_alone(node: NodeProcess) -> None:
    async with client_of(node) as dc:
        pendings = [
            dc.send("agni", payload=1),
            dc.send("nobody"),
            dc.send("agni", type="FOO"),  # type: ignore[arg-type]
            dc.send("agni", payload="x" * (1024 * 1024)),
            dc.send("agni", payload={1, 2}),
            dc.send("agni", payload=2),
        ]
        kinds: list[str] = []
        for pending in pendings:
            try:
                kinds.append((await pending).status)
            except TrishulaError as error:
                kinds.append(type(error).__name__)
    assert kinds == [
        "accepted", RecipientUnknown.__name__, MessageInvalid.__name__, PayloadTooLarge.__name__, "PayloadNotJson",
        "accepted",
    ]  # fmt: skip


# -- procedures --------------------------------------------------------------------------------------------------------


def calculator() -> Agent:
    agent = Agent("agni")

    @agent.procedure()
    async def add(a: int, b: int = 1) -> int:
        await asyncio.sleep(0.001)
        return a + b

    @agent.procedure()
    def broken() -> None:
        raise ValueError("it is broken")

    @agent.procedure(thread=True)
    def in_a_thread() -> str:
        receipt = agent.from_thread(agent.send, "agni", type="RESULT", reply_to="x", payload="from a thread")
        return f"{receipt.status} {threading.current_thread() is threading.main_thread()}"

    @agent.procedure()
    async def who() -> object:
        delivery = current_delivery()
        return None if delivery is None else delivery.message.sender

    @agent.procedure()
    async def at_once() -> list[int]:
        return list(await asyncio.gather(agent.rpc("agni", "add", 1), agent.rpc("agni", "add", 2)))

    agent.on("RESULT")(lambda message: None)
    return agent


@on_reactor
async def test_a_procedure_by_command_and_live(node: NodeProcess) -> None:
    async with running(node, calculator()), client_of(node) as dc:
        assert await dc.call("agni", "add", 1, b=2) == 3
        assert await dc.rpc("agni", "add", 1, b=2) == 3
        assert await dc.call("agni", "who") == "dc/test"
        assert await dc.rpc("agni", "who") is None
        assert await dc.call("agni", "in_a_thread") == "accepted False"
        assert await dc.call("agni", "at_once") == [2, 3]


@on_reactor
async def test_a_procedure_that_can_not_be_run_says_why_both_ways(
    node: NodeProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(node, calculator()), client_of(node) as dc:
        for verb in (dc.call, dc.rpc):
            error = await failure_of(verb("agni", "broken"))
            assert isinstance(error, CallFailed)
            assert "ValueError: it is broken" in str(error)
            error = await failure_of(verb("agni", "add"))
            assert isinstance(error, ArgumentInvalid)
            assert str(error).startswith(
                "add was called with wrong arguments: missing a required argument: 'a'; it is "
            )
            assert isinstance(await failure_of(verb("agni", "nope")), ProcedureUnknown)


@on_reactor
async def test_an_unknown_outcome_names_the_id_and_the_answer_can_be_had_later(node: NodeProcess) -> None:
    gate = asyncio.Event()
    agni = Agent("agni")
    runs: list[int] = []

    @agni.procedure()
    async def slow() -> str:
        runs.append(1)
        await gate.wait()
        return "at last"

    async with running(node, agni), client_of(node) as dc:
        error = await failure_of(dc.call("agni", "slow", timeout=0.3))
        assert isinstance(error, OutcomeUnknown)
        assert error.message_id is not None
        gate.set()
        assert await dc.call_with("agni", "slow", id=error.message_id, timeout=5.0) == "at last"
    assert runs == [1]


@on_reactor
async def test_a_live_call_that_is_given_up_cancels_the_handler(node: NodeProcess) -> None:
    seen: list[str] = []
    agni = Agent("agni")

    @agni.procedure()
    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async with running(node, agni), client_of(node) as dc:
        assert isinstance(await failure_of(dc.rpc("agni", "slow", timeout=0.2)), OutcomeUnknown)
        await until(lambda: seen == ["cancelled"])


@on_reactor
async def test_an_agent_publishes_on_its_own_topic(node: NodeProcess) -> None:
    heard: list[object] = []
    agni = Agent("agni")
    async with running(node, agni), client_of(node) as dc:
        await dc.subscribe(uris.topic_of("agni", "load"), lambda *args: heard.append(args))
        await agni.publish("load", 0.5, "now")
        await until(lambda: heard == [(0.5, "now")])


@on_reactor
async def test_heartbeats_are_measured_against_the_node_s_clock(node: NodeProcess) -> None:
    async with running(node, agni := Agent("agni", capabilities=["host"])):
        await until(lambda: agni.client.heartbeat.clock_offset.offset_ms is not None)
        offset_ms = agni.client.heartbeat.clock_offset.offset_ms
        # The same clock, read by two processes.
        assert offset_ms is not None
        assert abs(offset_ms) < 1000
        (entry,) = [one for one in await agni.request(uris.DIRECTORY_LIST) if one["agent"] == "agni"]
        assert (entry["presence"], entry["capabilities"]) == ("online", ["host"])


# -- joining, losing, being taken over ---------------------------------------------------------------------------------


@on_reactor
async def test_a_wrong_token_is_final(node: NodeProcess) -> None:
    client = Client(Settings((node.url,), "dc", "dc.wrong"))
    error = await failure_of(client.start(timeout=5.0))
    assert isinstance(error, TokenInvalid)
    assert await failure_of(client.send("agni")) is error


@on_reactor
async def test_a_newer_session_takes_over(node: NodeProcess) -> None:
    heard: list[str] = []
    older, newer = Agent("agni"), Agent("agni")
    for name, agent in (("older", older), ("newer", newer)):
        agent.add_procedure(lambda name=name: name, name="who")
        agent.on("STATUS")(lambda message, name=name: heard.append(name))
    async with running(node, older), client_of(node) as dc:
        assert await dc.rpc("agni", "who") == "older"
        async with running(node, newer):
            error = await failure_of(older.over)
            assert isinstance(error, TakenOver)
            assert await dc.rpc("agni", "who") == "newer"
            await dc.send("agni")
            await until(lambda: heard)
            assert heard == ["newer"]


@on_reactor
async def test_without_a_node_it_says_what_it_met() -> None:
    with socket.socket() as taken:
        # Bound and not listening: whoever connects is refused, and nobody else can have the port meanwhile.
        taken.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{taken.getsockname()[1]}/ws"
        error = await failure_of(Client(Settings((url,), "dc", "dc.x")).start(timeout=0.5))
    assert isinstance(error, BusUnreachable)
    assert str(error).startswith(
        f"no node could be joined within 0.5 s: tried {url}; the last attempt: there is no node"
    )


@on_reactor
async def test_a_server_that_is_no_node(node: NodeProcess) -> None:
    url = node.url.replace("/ws", "/nothing")
    error = await failure_of(Client(Settings((url,), "dc", node.tokens["dc"])).start(timeout=0.5))
    assert isinstance(error, BusUnreachable)
    assert "404" in str(error)


@on_reactor
async def test_a_server_that_says_nothing_is_left_for_the_next_one(
    node: NodeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trishula.session.connection.ATTEMPT_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}/ws"
        client = Client(Settings((url, node.url), "dc", node.tokens["dc"]), instance="test")
        await client.start(timeout=5.0)
        assert client.url == node.url
        await client.stop()


@on_reactor
async def test_small_frames_are_not_held_back(node: NodeProcess) -> None:
    async with client_of(node):
        reactor: Any = real().clock
        sockets = [one.socket for one in reactor.getReaders() if hasattr(one, "socket")]
        mine = [one for one in sockets if _port_of(one) == node.port]
        assert mine
        assert all(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in mine)


def _port_of(one: socket.socket) -> int | None:
    with contextlib.suppress(OSError, IndexError, TypeError):
        return int(one.getpeername()[1])
    return None


@on_reactor
async def test_nothing_is_lost_when_the_node_is_killed_and_comes_back(tmp_path: Path) -> None:
    handled: list[object] = []
    agni = Agent("agni")

    @agni.on("STATUS")
    async def count(message: Message) -> None:
        await asyncio.sleep(0)
        handled.append(message.payload)

    with NodeProcess(tmp_path / "state") as node:
        for name in ("agni", "dc"):
            node.token(name)
        async with running(node, agni), client_of(node) as dc:
            port = node.port
            before = [dc.send("agni", payload=number) for number in range(200)]
            await before[0]
            node.kill()
            during = [dc.send("agni", payload=number) for number in range(200, 300)]
            await sleep(0.3)
            assert not dc.is_ready
            node.start(port=port)
            receipts = [await pending for pending in before + during]
            assert {receipt.status for receipt in receipts} <= {"accepted", "duplicate"}
            await until(lambda: len(handled) >= 300, timeout_s=20.0)
            await sleep(0.2)
    # Once each: what was delivered again after the restart met the receiver's memory.
    assert sorted(map(str, handled)) == sorted(str(number) for number in range(300))


@on_reactor
async def test_a_frozen_node_is_noticed(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "state") as node:
        node.token("dc")
        async with client_of(node) as dc:
            clock = real().clock
            frozen_s = clock.seconds()
            family = node.processes()
            for process in family:
                process.send_signal(signal.SIGSTOP)
            try:
                await until(lambda: not dc.is_ready, timeout_s=10.0)
                noticed_s = clock.seconds() - frozen_s
            finally:
                for process in family:
                    process.send_signal(signal.SIGCONT)
            # Pings each second with a limit of two; far more only if they were not there at all.
            assert noticed_s < 8.0
            await until(lambda: dc.is_ready, timeout_s=20.0)


# -- scripts -----------------------------------------------------------------------------------------------------------


def script(node: NodeProcess, name: str, code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(TRISHULA_URL=node.url, TRISHULA_TOKEN=node.tokens[name]),
    )


async def output_of(process: subprocess.Popen[str], timeout_s: float = 30.0) -> str:
    try:
        await until(lambda: process.poll() is not None, timeout_s)
    finally:
        process.kill()
        out, err = process.communicate()
    assert process.returncode == 0, err
    return out


SCRIPT = """
import json, trishula
with trishula.connect() as bus:
    found = {"address": str(bus.address), "status": bus.send("agni", payload=7).status}
    found["sum"] = bus.call("agni", "add", 1, b=2)
    found["live"] = bus.rpc("agni", "add", 5)
    try:
        bus.call("agni", "nope")
    except trishula.ProcedureUnknown as error:
        found["error"] = str(error)
    first = bus.fetch()
    found["empty"] = [len(first.deliveries), first.pending, first.in_flight]
    bus.send("dc", payload="to myself, the agent")
    second = bus.fetch(max=10, wait_s=5)
    found["fetched"] = [delivery.message.payload for delivery in second.deliveries]
    found["acked"] = bus.ack([delivery.token for delivery in second.deliveries])
    bus.send(str(bus.address), payload="to this script")
    third = bus.fetch(instance=bus.address.instance, wait_s=5)
    found["own"] = [delivery.message.payload for delivery in third.deliveries]
    bus.ack([delivery.token for delivery in third.deliveries])
    found["many"] = [receipt.status for receipt in bus.send_many([{"to": "agni", "type": "STATUS"}] * 3)]
with trishula.connect() as bus:
    found["again"] = bus.rpc("agni", "add", 1)
print(json.dumps(found))
"""


@on_reactor
async def test_a_script_uses_the_same_verbs_and_waits(node: NodeProcess) -> None:
    heard: list[object] = []
    agni = calculator()
    agni.on("STATUS")(lambda message: heard.append((message.sender, message.payload)))
    async with running(node, agni):
        found = json.loads(await output_of(script(node, "dc", SCRIPT)))
    address = found.pop("address")
    assert address.startswith("dc/")
    assert (address, 7) in heard
    assert found == {
        "status": "accepted", "sum": 3, "live": 6,
        "error": "agni has no procedure nope; it has: add, at_once, broken, in_a_thread, who",
        "empty": [0, 0, 0], "fetched": ["to myself, the agent"], "acked": [True], "own": ["to this script"],
        "many": ["accepted"] * 3, "again": 2,
    }  # fmt: skip


UNSETTLED = """
import json, trishula
with trishula.connect() as bus:
    own = bus.address.instance
    def counts():
        fetched = bus.fetch(instance=own)
        return [len(fetched.deliveries), fetched.pending, fetched.in_flight]
    found = {"before": counts()}
    bus.send(str(bus.address), payload="to this script")
    [delivery] = bus.fetch(instance=own, wait_s=5).deliveries
    found["unacknowledged"] = counts()
    bus.nack([delivery.token], "not now")
    found["given back"] = counts()
    [delivery] = bus.fetch(instance=own, wait_s=30).deliveries
    bus.ack([delivery.token])
    found["after"] = counts()
print(json.dumps(found))
"""


@on_reactor
async def test_a_script_s_own_mailbox_is_not_empty_before_all_is_settled(node: NodeProcess) -> None:
    found = json.loads(await output_of(script(node, "dc", UNSETTLED)))
    assert found == {"before": [0, 0, 0], "unacknowledged": [0, 0, 1], "given back": [0, 1, 0], "after": [0, 0, 0]}


FORKED = """
import os, sys, trishula
def child(what):
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            what()
            said = "nothing"
        except trishula.TrishulaError as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.wait()
    return os.read(read, 4096).decode().replace(str(os.getpid()), "PARENT")
with trishula.connect() as bus:
    print(child(lambda: bus.send("agni")))
    print(child(bus.close))
    print(child(trishula.connect))
    bus.send("agni")
"""


@on_reactor
async def test_a_forked_child_is_told_at_once_that_the_bus_is_its_parent_s(node: NodeProcess) -> None:
    # A child that hangs does so for 40 s, which is longer than the script may take.
    verb, close, connect = (await output_of(script(node, "dc", FORKED))).splitlines()
    assert verb.startswith("BusUnreachable: process ")
    assert "was forked from process PARENT after that had joined the bus" in verb
    assert close == "nothing"
    assert connect.partition(" was forked")[2] == verb.partition(" was forked")[2]


FORKED_HANDLER = """
import os
from trishula import Agent, TrishulaError, connect
agent = Agent("agni", state=False)
@agent.procedure(thread=True)
def fork():
    read, write = os.pipe()
    if os.fork() == 0:
        said = []
        for verb in (lambda: agent.from_thread(agent.send, "dc"), connect):
            try:
                verb()
            except TrishulaError as error:
                said.append(str(error))
        os.write(write, chr(10).join(said).encode())
        os._exit(0)
    os.wait()
    return os.read(read, 4096).decode()
agent.run()
"""


@on_reactor
async def test_a_child_of_an_agent_is_told_so_too(node: NodeProcess) -> None:
    process = script(node, "agni", FORKED_HANDLER)
    try:
        async with client_of(node) as dc:
            said = str(await dc.call("agni", "fork", timeout=30.0)).splitlines()
    finally:
        process.terminate()
        await output_of(process)
    verb, connect = said
    assert f"was forked from process {process.pid} after that had joined the bus" in verb
    assert "was forked from one that runs an agent" in connect


@on_reactor
async def test_a_script_can_not_take_from_a_running_agent(node: NodeProcess) -> None:
    async with running(node, Agent("agni")), client_of(node, "agni", instance="script") as script_of_agni:
        assert isinstance(await failure_of(script_of_agni.fetch()), MailboxBusy)


# -- agent.run() -------------------------------------------------------------------------------------------------------

RUN = """
from trishula import Agent
agent = Agent("agni")
@agent.procedure()
async def ping():
    return "pong"
agent.run({how})
"""


@on_reactor
async def test_an_agent_that_runs_by_itself_leaves_in_order_at_sigterm(node: NodeProcess) -> None:
    process = script(node, "agni", RUN.format(how=""))
    async with client_of(node) as dc:
        for _ in range(100):
            try:
                assert await dc.rpc("agni", "ping", timeout=5.0) == "pong"
                break
            except ProcedureUnknown:
                await sleep(0.1)
        process.send_signal(signal.SIGTERM)
        await until(lambda: process.poll() is not None)
        out, err = process.communicate()
        assert (process.returncode, out) == (0, ""), err
        assert f"agni has joined single at {node.url}" in err
        assert isinstance(await failure_of(dc.rpc("agni", "ping")), ProcedureUnknown)


@on_reactor
async def test_a_wrong_token_ends_an_agent_with_a_sentence(node: NodeProcess) -> None:
    process = script(node, "agni", RUN.format(how="token='agni.wrong'"))
    await until(lambda: process.poll() is not None, 20.0)
    _, err = process.communicate()
    assert process.returncode == 4
    assert "Traceback" not in err
    assert err.count("\n") == 1
    assert "token" in err


@on_reactor
async def test_an_agent_without_a_bus_says_so_and_keeps_trying(node: NodeProcess) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{taken.getsockname()[1]}/ws"
        process = script(node, "agni", RUN.format(how=f"url={url!r}"))
        assert process.stderr is not None
        line: list[str] = []
        reader = threading.Thread(target=lambda: line.append(process.stderr.readline() if process.stderr else ""))
        reader.start()
        await until(lambda: line, 20.0)
        reader.join()
        await sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        await until(lambda: process.poll() is not None)
        process.communicate()
    assert process.returncode == 0
    assert f"agni can't join the bus: there is no node at {url}" in line[0]
    assert "it keeps trying" in line[0]


@on_reactor
async def test_an_agent_runs_also_where_another_reactor_is_installed(node: NodeProcess) -> None:
    process = script(node, "agni", "from twisted.internet import reactor\n" + RUN.format(how=""))
    async with client_of(node) as dc:
        assert await dc.call("agni", "ping", timeout=20.0) == "pong"
    process.send_signal(signal.SIGTERM)
    await until(lambda: process.poll() is not None, 20.0)
    out, err = process.communicate()
    assert (process.returncode, out) == (0, ""), err
    assert "Traceback" not in err


# -- wss ---------------------------------------------------------------------------------------------------------------


@on_reactor
async def test_over_tls_the_certificate_is_checked(
    node: NodeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path, 30)
    with TlsFront(certificate, node.port) as url:
        error = await failure_of(Client(Settings((url,), "dc", node.tokens["dc"])).start(timeout=1.0))
        assert isinstance(error, BusUnreachable)
        assert "is not trusted: " in str(error)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        client = Client(Settings((url,), "dc", node.tokens["dc"]), instance="test")
        client.attach(lambda deliveries: None)
        await client.start(timeout=5.0)
        assert (await client.send("agni", payload="over TLS")).status == "accepted"
        await client.stop()
