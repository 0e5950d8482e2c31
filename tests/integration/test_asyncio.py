"""Programs that own their asyncio loop, on a real node: asyncio.run, FastAPI, a notebook, a test of one's own agent.

Each is a process of its own, written as its user would write it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks.beside_peers import measure_on
from tests.benchmarks.peers.servers import Server
from tests.support.certificates import make_certificate
from tests.support.node import NodeProcess, environment

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("asyncio") / "state") as node:
        for name in ("agni", "dc"):
            node.token(name)
        yield node


def around(node: NodeProcess, name: str = "dc", **more: str) -> dict[str, str]:
    """The environment of a program of that agent."""
    return environment(TRISHULA_URL=node.url, TRISHULA_TOKEN=node.tokens[name], AGNI=node.tokens["agni"], **more)


def run(node: NodeProcess, code: str, *options: str, name: str = "dc") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, "-c", code]
    return subprocess.run(command, env=around(node, name), capture_output=True, text=True, timeout=60)


def output_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    # Neither a traceback nor "Nobody asked for this outcome", nor a task that was left pending.
    assert done.stderr == ""
    return done.stdout


AGENT = """
import asyncio, json, os, threading, trishula
agent = trishula.Agent("agni", token=os.environ["AGNI"], state=False)

@agent.procedure()
async def add(a, b):
    await asyncio.sleep(0.01)
    return a + b

@agent.on("STATUS")
async def heard(message):
    pass

@agent.procedure(thread=True)
def relayed():
    receipt = agent.from_thread(agent.send, "dc", payload="from a thread")
    return [receipt.status, threading.current_thread() is threading.main_thread()]
"""


def test_agent_and_client_live_in_a_loop_of_somebody_else(node: NodeProcess) -> None:
    code = (
        AGENT
        + """
async def main():
    async with agent, trishula.AsyncClient() as bus:
        found = {"address": str(bus.address), "sent": (await bus.send("agni", payload=7)).status}
        found["sums"] = await asyncio.gather(*(bus.call("agni", "add", n, b=1) for n in range(20)))
        found["live"] = await bus.rpc("agni", "add", 1, 2)
        found["thread"] = await bus.call("agni", "relayed")
        fetched = await bus.fetch()
        found["fetched"] = [delivery.message.payload for delivery in fetched.deliveries]
        found["acked"] = await bus.ack([delivery.token for delivery in fetched.deliveries])
    print(json.dumps(found))
    assert asyncio.all_tasks() == {asyncio.current_task()}

asyncio.run(main())
"""
    )
    found = json.loads(output_of(run(node, code)))
    assert re.fullmatch("dc/[0-9a-f]{8}", found.pop("address"))
    assert found == {
        "sent": "accepted",
        "sums": list(range(1, 21)),
        "live": 3,
        "thread": ["accepted", False],
        "fetched": ["from a thread"],
        "acked": [True],
    }


def test_one_loop_after_another_leaves_nothing_behind(node: NodeProcess) -> None:
    code = """
import asyncio, os, trishula

async def main():
    async with trishula.AsyncClient() as bus:
        await bus.send("agni", payload=1)

open_files = []
for _ in range(4):
    asyncio.run(main())
    open_files.append(len(os.listdir("/proc/self/fd")))
print(open_files[-1] - open_files[0])
"""
    assert output_of(run(node, code, "-W", "error::ResourceWarning")) == "0\n"


def test_cancellation_and_timeouts_are_those_of_asyncio(node: NodeProcess) -> None:
    code = """
import asyncio, json, trishula

async def main():
    loop = asyncio.get_running_loop()
    async with trishula.AsyncClient() as bus:
        began = loop.time()
        try:
            # A long poll that went on for nobody would take the message below.
            async with asyncio.timeout(0.2):
                await bus.fetch(wait_s=30)
        except TimeoutError:
            print("timeout", loop.time() - began < 10)
        asked = asyncio.create_task(bus.call("agni", "add", 1, 2, timeout=60))
        await asyncio.sleep(0.2)
        asked.cancel()
        try:
            await asked
        except asyncio.CancelledError:
            print("cancelled")
        await bus.send("dc", payload="for the next one")
        fetched = await bus.fetch(wait_s=20)
        print([delivery.message.payload for delivery in fetched.deliveries])
        await bus.ack([delivery.token for delivery in fetched.deliveries])

asyncio.run(main())
"""
    assert output_of(run(node, code)).splitlines() == ["timeout True", "cancelled", "['for the next one']"]


def test_over_tls_too(node: NodeProcess, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, 30)
    code = f"""
import asyncio, ssl, trishula

async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain({str(certificate)!r})

    async def pass_on(reader, writer):
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", {node.port})

        async def pump(source, sink):
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer), return_exceptions=True)
        passed.set()

    passed = asyncio.Event()

    async with await asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=context) as front:
        port = front.sockets[0].getsockname()[1]
        async with trishula.AsyncClient(f"wss://localhost:{{port}}/ws") as bus:
            # Small and large, because TLS gathers small writes for a moment.
            for size in (1, 300_000):
                print((await bus.send("agni", payload="x" * size)).status)
        await passed.wait()

asyncio.run(main())
"""
    command = [sys.executable, "-c", code]
    more = around(node, SSL_CERT_FILE=str(certificate))
    done = subprocess.run(command, env=more, capture_output=True, text=True, timeout=60)
    assert output_of(done) == "accepted\naccepted\n"


def test_a_program_without_a_node_is_told(node: NodeProcess) -> None:
    code = """
import asyncio, trishula

async def main():
    bus = trishula.AsyncClient("ws://127.0.0.1:1/ws", timeout=0.5)
    for _ in range(2):
        try:
            await bus.start()
        except trishula.BusUnreachable as error:
            print(error)
    try:
        await bus.send("agni")
    except RuntimeError as error:
        print(error)

asyncio.run(main())
"""
    first, second, third = output_of(run(node, code)).splitlines()
    assert first.startswith("no node could be joined within 0.5 s: tried ws://127.0.0.1:1/ws")
    assert second == first
    assert third == 'this client has not joined the bus: use it inside of "async with", or after start()'


def test_run_inside_of_a_loop_says_what_to_write(node: NodeProcess) -> None:
    code = AGENT + "\nasync def main():\n    agent.run()\nasyncio.run(main())\n"
    done = run(node, code, name="agni")
    assert done.returncode == 1
    assert 'this code runs in one already: write "async with agent:" there' in done.stderr
    assert "Traceback" not in done.stderr


def test_an_agent_runs_also_in_a_process_that_has_a_bus(node: NodeProcess) -> None:
    # The bus has a reactor in a thread, and a process has one that is installed.
    code = """
import os, signal, threading, trishula

bus = trishula.connect()
agent = trishula.Agent("agni", token=os.environ["AGNI"], state=False)

@agent.on("STATUS")
def heard(message):
    pass

@agent.procedure()
def ping():
    return "pong"

def ask():
    print(bus.call("agni", "ping", timeout=20))
    bus.close()
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=ask).start()
agent.serve()
print("left in order")
"""
    assert output_of(run(node, code)) == "pong\nleft in order\n"


# -- a web application -------------------------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "deploy" / "examples" / "web_app.py"
#: Those with a framework of models run in its own environment (``test_frameworks.py``), and are typed as that is.
EXAMPLES = [file for file in sorted(WEB.parent.glob("*.py")) if not file.stem.endswith("_helper")]


@pytest.fixture(scope="module")
def agents_python() -> Path:
    """The Python of an agents' machine with a web framework, which can't be installed beside Crossbar."""
    prefix = Path(sys.prefix)
    python = prefix.with_name(f"{prefix.name}-examples") / "bin" / "python"
    assert python.exists(), f"there is no {python}: make venv makes it"
    return python


@contextlib.contextmanager
def served(node: NodeProcess, python: Path, tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The example of a FastAPI application, by uvicorn."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(python), "-m", "uvicorn", "web_app:app", "--port", str(port), "--log-level", "warning"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=WEB.parent, env=around(node), stdout=log, stderr=subprocess.STDOUT, text=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(300):
            with contextlib.suppress(OSError):
                answer(f"{url}/")
                break
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        yield url, process
    finally:
        process.kill()
        process.wait()


def answer(url: str, body: object = None) -> object:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response)


def test_a_fastapi_application_sends_and_receives_and_ends_in_order(
    node: NodeProcess, agents_python: Path, tmp_path: Path
) -> None:
    with served(node, agents_python, tmp_path) as (url, process):
        sent = answer(f"{url}/send/dc", {"text": "to myself"})
        assert isinstance(sent, dict)
        assert sent["status"] == "accepted"
        for _ in range(100):
            if heard := answer(f"{url}/"):
                break
            time.sleep(0.1)
        assert heard == [{"text": "to myself"}]
        process.send_signal(signal.SIGTERM)
        # Uvicorn ends by the signal that it was sent, after the application's own end.
        assert process.wait(20) in (0, -signal.SIGTERM)
    assert (tmp_path / "log").read_text() == ""


def test_the_examples_are_typed(agents_python: Path) -> None:
    # Ours are checked with their own configuration.
    mypy = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", os.devnull]
    # A notebook's cells may await.
    mypy += ["--disable-error-code", "top-level-await"]
    done = subprocess.run(
        [*mypy, "--config-file", os.devnull, "--python-executable", str(agents_python), *map(str, EXAMPLES)],
        env={**os.environ, "MYPYPATH": f"{ROOT / 'components'}:{ROOT / 'router'}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.startswith("Success"), done.stdout


def test_an_agents_machine_can_test_its_agents(agents_python: Path) -> None:
    # Crossbar is not installed there; with pytest the example runs in tests/unit/test_testing.py.
    code = "import test_my_agent as own; own.test_it_adds(); own.test_a_restart_of_the_node_loses_nothing()"
    done = subprocess.run(
        [str(agents_python), "-B", "-W", "error", "-c", code],
        env=environment(),
        cwd=WEB.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


# -- a notebook --------------------------------------------------------------------------------------------------------

CELLS = """
import trishula
bus = trishula.AsyncClient()
await bus.start()
(await bus.send("agni", payload={"cell": 4})).status
print("sent by", bus.address.agent)
await bus.stop()
exit()
"""


def test_cells_of_a_notebook(node: NodeProcess) -> None:
    # "python -m asyncio" is what a notebook is: one cell after another, with await, in a loop that runs all the time.
    done = subprocess.run(
        [sys.executable, "-m", "asyncio"], input=CELLS, env=around(node), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "'accepted'" in done.stdout
    assert "sent by dc" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


# -- a test of one's own agent -----------------------------------------------------------------------------------------


def test_a_test_of_ones_own_agent(node: NodeProcess, tmp_path: Path) -> None:
    (tmp_path / "my_agent.py").write_text(AGENT)
    (tmp_path / "test_my_agent.py").write_text(
        """
import asyncio
import pytest
import trishula
from my_agent import agent

@pytest.mark.parametrize("a", [1, 2])
def test_add(a):
    async def talk():
        async with agent, trishula.AsyncClient() as bus:
            return await bus.call("agni", "add", a, b=a)

    assert asyncio.run(talk()) == 2 * a
"""
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:twisted", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, env=around(node), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


@pytest.mark.parametrize("start", ["agent.start()", "agent.__aenter__()", "trishula.AsyncClient().start()"])
def test_what_nothing_would_drive_says_so(node: NodeProcess, start: str) -> None:
    code = f"{AGENT}\ntry:\n    {start}.send(None)\nexcept trishula.TrishulaError as error:\n    print(error)"
    said = output_of(run(node, code))
    assert said.startswith(
        "nothing would drive it: neither an asyncio loop nor Twisted's reactor runs here; start inside"
    )


def test_a_handler_that_waits_for_its_own_loop_is_told(node: NodeProcess) -> None:
    code = """
import trishula
agent = trishula.Agent("dc", state=False)

@agent.on_start
async def joined():
    try:
        trishula.connect()
    except trishula.TrishulaError as error:
        print(error, flush=True)
    import os, signal
    os.kill(os.getpid(), signal.SIGTERM)

agent.run()
"""
    done = run(node, code)
    assert done.stdout.startswith(
        "this thread runs the reactor, which would wait for itself: a handler uses the verbs"
    ), done.stderr
    assert done.returncode == 0


def test_the_comparison_measures_agents_with_their_files(node: NodeProcess, tmp_path: Path) -> None:
    tokens = {name: node.token(name) for name in ("taker", "sender0")}
    address = {"url": node.url, "tokens": tokens, "copies": None, "files": str(tmp_path)}
    figures = measure_on(Server(address, node.processes()), "trishula", sys.executable, 0.2, connections=1)
    assert (figures.lost, figures.doubled) == (0, 0)
    assert 0 < figures.busy_p50_ms <= figures.busy_p99_ms < 10_000
    assert 0 < figures.quiet_p50_ms <= figures.quiet_p99_ms < 10_000
    assert 0 < figures.ask_p50_ms < 10_000
    assert min(figures.per_s, figures.asks_per_s, figures.sender_us, figures.receiver_us) > 0
    # What was measured were agents that keep files.
    assert (tmp_path / "sender0" / "sender0" / "agent.sqlite").exists()
