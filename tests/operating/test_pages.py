"""The pages of the documentation, as their readers use them: what they say is typed, and what they promise is seen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.node import NodeProcess, environment
from tests.support.raw import RawClient
from tests.support.walkthrough import Walkthrough

pytestmark = pytest.mark.node

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PAGES, EXAMPLES = DEPLOY / "docs", DEPLOY / "examples"


def readers_environment() -> dict[str, str]:
    """That of somebody who has our commands first on the path."""
    return environment(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


#: With the ports that each names.
WALKED = {"tutorial/first-agent": (8765,), "tutorial/two-nodes": (8801, 8802), "howto/tls": (8765,)}


@pytest.mark.parametrize("page", WALKED)
def test_a_page_does_what_it_says(page: str, tmp_path: Path) -> None:
    with Walkthrough(tmp_path, readers_environment(), WALKED[page]) as reader:
        reader.walk(PAGES / f"{page}.rst")


#: Pages for which a node and the agent of the tutorial are there.
HOWTO = ("asyncio", "long-jobs", "publish-subscribe")
NAMES = ("agni", "away", "dc", "notebook", "thermometer", "worker")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node, and the agent of the tutorial at it."""
    directory = tmp_path_factory.mktemp("pages")
    with NodeProcess(directory / "state") as node:
        for name in NAMES:
            node.token(name)
        command = [sys.executable, "-m", "trishula.cli.main", "agent", "run", str(EXAMPLES / "agni.py")]
        with (directory / "agni.log").open("w") as log:
            agni = subprocess.Popen(command, env=around(node, "agni"), stdout=log, stderr=log)
        try:
            assert run(node, "dc", "call", "agni", "add", "1", "--timeout", "30s") == "2\n"
            yield node
        finally:
            agni.terminate()
            agni.wait(30)


def around(node: NodeProcess, name: str) -> dict[str, str]:
    """The environment of a reader's terminal who is that agent."""
    return readers_environment() | {"TRISHULA_URL": node.url, "TRISHULA_TOKEN": node.tokens[name]}


def run(node: NodeProcess, name: str, *arguments: str) -> str:
    """What a command prints, as that agent."""
    command = [sys.executable, "-m", "trishula.cli.main", *arguments]
    done = subprocess.run(command, env=around(node, name), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def save_tokens(node: NodeProcess, directory: Path) -> None:
    for name, token in node.tokens.items():
        (directory / f"{name}.token").write_text(token)


@pytest.mark.parametrize("page", HOWTO)
def test_a_howto_does_what_it_says(page: str, node: NodeProcess, tmp_path: Path) -> None:
    save_tokens(node, tmp_path)
    with Walkthrough(tmp_path, around(node, "dc"), ()) as reader:
        reader.walk(PAGES / "howto" / f"{page}.rst")


#: What a notebook's kernel does: each cell is compiled by itself and run in a loop that runs on between the cells.
KERNEL = """
import ast, asyncio, inspect, re, sys
from pathlib import Path

async def run(cells):
    names = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        code = compile(cell, f"cell {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if inspect.isawaitable(outcome := eval(code, names)):
            await outcome
        await asyncio.sleep(0.3)
    assert asyncio.all_tasks() == {asyncio.current_task()}

asyncio.run(run(re.split("(?m)^# %%.*$", Path(sys.argv[1]).read_text())))
"""


def test_the_notebook_runs_cell_by_cell(node: NodeProcess, tmp_path: Path) -> None:
    save_tokens(node, tmp_path)
    command = [sys.executable, "-c", KERNEL, str(EXAMPLES / "notebook.py")]
    done = subprocess.run(command, cwd=tmp_path, env=around(node, "dc"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout == "joined as dc\n5\naccepted\n['from another cell']\n"


def test_javascript_takes_part(node: NodeProcess, tmp_path: Path) -> None:
    runtime = shutil.which("node")
    if runtime is None:
        pytest.skip("there is no Node.js")
    command = [runtime, "--experimental-websocket", str(EXAMPLES / "wamp.mjs")]
    run(node, "agni", "send", "away", "--payload", '{"from": "Python"}')
    done = subprocess.run(command, env=around(node, "away"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2 + 3 = 5\nsent: accepted\ngot: { from: 'Python' }\ndone: [ true ]\n"


def test_a_client_of_nothing_but_a_socket_takes_part(node: NodeProcess) -> None:
    # What the JavaScript does, step by step, for machines that have none.
    run(node, "agni", "send", "thermometer", "--payload", '{"from": "Python"}')
    with RawClient(node.url) as client:
        client.open()
        client.join("thermometer", node.tokens["thermometer"])
        assert client.call("trishula.agent.agni.add", 2, 3) == 5
        message = {"type": "STATUS", "to": "dc", "timestamp": 1, "id": "raw-1", "payload": {"from": "a socket"}}
        [receipt] = client.call("trishula.mailbox.send", [message])
        assert receipt["status"] == "accepted"
        fetched = client.call("trishula.mailbox.fetch", {"wait_s": 5})
        [delivery] = fetched["deliveries"]
        assert delivery["message"]["payload"] == {"from": "Python"}
        assert client.call("trishula.mailbox.ack", [delivery["token"]]) == [True]
