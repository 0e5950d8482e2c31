"""The front door over MCP, as the official SDK's client meets it: real node, real servers, each its own process.

The SDK can't be installed beside Crossbar, so both ends of MCP run in an environment of their own, which ``make venv``
makes; the node is one of ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.node import ROOT, NodeProcess, environment
from trishula.front_door.framing import NOTE
from trishula.front_door.tools import INSTRUCTIONS, TOOLS

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def mcp_python() -> Path:
    """The Python of an agents' machine with the SDK of MCP."""
    prefix = Path(sys.prefix)
    python = prefix.with_name(f"{prefix.name}-mcp") / "bin" / "python"
    assert python.exists(), f"there is no {python}: make venv makes it"
    return python


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path / "state") as node:
        for name in ("agni", "dc"):
            node.token(name)
        yield node


Scene = Callable[..., dict[str, Any]]


@pytest.fixture
def scene(node: NodeProcess, mcp_python: Path, tmp_path: Path) -> Scene:
    """Play a scene of the conversation, and do what it asks for; what it found."""

    def play(*name: str, url: str = "", **asked: Callable[[psutil.Process], object]) -> dict[str, Any]:
        around = environment(
            TRISHULA_URL=node.url,
            TRISHULA_AGENT_STATE=str(tmp_path / "agents"),
            MCP_URL=url,
            TOKEN_AGNI=node.tokens["agni"],
            TOKEN_DC=node.tokens["dc"],
        )
        with (tmp_path / "errors").open("w") as errors:
            process = subprocess.Popen(
                [str(mcp_python), "-m", "tests.integration.mcp_conversation", *name],
                cwd=ROOT,
                env=around,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    if line.startswith("{"):
                        found: dict[str, Any] = json.loads(line)
                        return found
                    verb, _, _ = line.strip().partition(" ")
                    asked[verb](psutil.Process(process.pid))
                    process.stdin.write("done\n")
                    process.stdin.flush()
                raise AssertionError((tmp_path / "errors").read_text()[-4000:])
            finally:
                process.kill()
                process.wait()

    return play


def test_two_models_converse_through_a_node_that_is_killed(node: NodeProcess, scene: Scene) -> None:
    def break_node(_: psutil.Process) -> None:
        port = node.port
        node.kill()
        node.restart(port=port)

    count = 100
    found = scene("talk", str(count), **{"break": break_node})
    assert Counter(found["shown"]["dc"]) == Counter(f"a{number}" for number in range(count))
    assert Counter(found["shown"]["agni"]) == Counter(f"d{number}" for number in range(count))
    assert found["done"] == count
    assert found["surfaced"] == count
    for rest in found["rest"]:
        assert rest.startswith("No new message: 0 wait on the node")


def test_what_a_killed_server_held_comes_to_the_next_one(scene: Scene) -> None:
    def kill(scene_process: psutil.Process) -> None:
        # The second one that it started is dc's.
        servers = sorted(scene_process.children(), key=lambda one: one.create_time())
        servers[-1].kill()

    found = scene("killed", kill=kill)
    assert [f"message k{number} from agni" in found["first"] for number in range(5)] == [True] * 5
    assert "message k0 " not in found["second"]
    assert "message k1 " not in found["second"]
    for number in (2, 3, 4):
        assert f"message k{number} from agni" in found["second"]
    assert found["second"].count("you may have seen it before") == 3
    assert found["rest"].startswith("No new message: 0 wait")


def test_a_client_is_told_all_it_needs_and_mistakes_are_sentences(scene: Scene) -> None:
    found = scene("look")
    assert found["instructions"] == INSTRUCTIONS
    assert list(found["tools"]) == list(TOOLS)
    for name, (description, schema, annotated) in found["tools"].items():
        assert len(description.encode()) < 2048, name
        assert annotated
        for argument, words in schema["properties"].items():
            assert words.get("description"), f"{name}.{argument}"
    assert found["tools"]["send"][1]["properties"]["priority"]["maximum"] == 5
    me, is_error = found["me"]
    assert me.startswith("You are the agent agni, joined at ws://")
    assert not is_error
    assert "| why?" in found["question"]
    assert found["replied"].endswith("done.")
    assert "\n| because\n" in found["answer"][0]
    assert "| why?" in found["found again"] and found["found again"].startswith(NOTE)
    assert found["resources"] == ["trishula://inbox", "trishula://agents"]
    assert found["templates"] == ["trishula://message/{id}", "trishula://thread/{id}"]
    assert "\n| why?\n" in found["resource"] and found["resource"].startswith(NOTE)
    assert found["no resource"].startswith("error: ")
    assert "there is no message never-seen that you" in found["no resource"]
    (nobody, _), (priority, _), (unseen, _) = found["mistakes"]
    assert [is_error for _, is_error in found["mistakes"]] == [True] * 3
    assert "there is no agent" in nobody or "nobody" in nobody
    assert "less than or equal to 5" in priority
    assert "no message never-seen is in your hands" in unseen
    assert "Traceback" not in nobody + priority + unseen


def test_what_comes_after_a_client_gave_up_waiting_is_shown_to_its_next_call(scene: Scene) -> None:
    found = scene("wait")
    assert "| this is late" in found["shown"]


def test_models_of_both_eras_share_a_server_over_http(
    node: NodeProcess, scene: Scene, mcp_python: Path, tmp_path: Path
) -> None:
    around = environment(TRISHULA_URL=node.url, TRISHULA_AGENT_STATE=str(tmp_path / "agents"))
    server = subprocess.Popen(
        [str(mcp_python), "-m", "trishula.cli.main", "mcp", "--http", "0"],
        env=around,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        found = scene("http", url=url)
    finally:
        server.terminate()
        _, errors = server.communicate(timeout=20)
    for mode in ("legacy", "2026-07-28"):
        assert found[f"me {mode}"].startswith("You are the agent agni, joined at ws://")
        assert f"| this is over-{mode}" in found[f"shown {mode}"]
        holding, other = found[f"read {mode}"]
        # Each reads its own.
        assert f"over-{mode}" in holding and f"over-{mode}" not in other
    assert found["version 2026-07-28"] == "2026-07-28"
    assert found["version legacy"] != "2026-07-28"
    assert "Open in your hands (2): over-legacy, over-2026-07-28." in found["open"]
    assert found["acked"].count("done.") == 2
    assert found["no token"] == [
        401,
        '{"error": "send the agent\'s token as a header: Authorization: Bearer NAME.SECRET"}',
    ]
    assert found["wrong token"][0] == 401
    assert found["no token at all"][0] == 401
    assert found["a page"][0] == 403
    assert found["another host"][0] == 421
    assert "Traceback" not in errors
    assert node.tokens["dc"] not in errors


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--http", "0.0.0.0:8790"], "tokens would travel in the clear"),
        (["--http", "host:port"], "it must be PORT or HOST:PORT"),
        (["--http", "127.0.0.1:99999"], "a port from 0 to 65535"),
        (["--host-name", "bus.example"], "--host-name is about --http"),
    ],
)
def test_where_a_server_may_not_listen(options: list[str], sentence: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trishula.cli.main", "mcp", *options],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
    )
    assert done.returncode == 2
    assert sentence in done.stderr


def test_a_hook_tells_that_mail_waits_takes_nothing_and_never_stands_in_the_way(node: NodeProcess) -> None:
    def trishula(whose: str, *arguments: str, told: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "trishula.cli.main", *arguments],
            input=told,
            capture_output=True,
            text=True,
            env=environment(TRISHULA_URL=url, TRISHULA_TOKEN=node.tokens[whose]),
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    url = node.url
    assert trishula("dc", "nudge") == ""
    trishula("agni", "send", "dc", "--text", "a secret", "--id", "m", "--priority", "2")
    for _ in range(2):
        assert trishula("dc", "nudge") == (
            "TRISHULA: 1 message waits for you from agni, 1 urgent. Call the tool inbox of the server trishula.\n"
        )
    stop = ("nudge", "--for", "claude-code", "--event", "stop")
    assert json.loads(trishula("dc", *stop, told='{"stop_hook_active": false}'))["decision"] == "block"
    assert trishula("dc", *stop, told='{"stop_hook_active": true}') == ""
    assert json.loads(trishula("dc", "inbox", "--peek", "--json"))["attempts"] == 0
    node.kill()
    assert trishula("dc", "nudge") == ""


def test_without_the_sdk_the_command_says_what_is_missing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trishula.cli.main", "mcp"],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
    )
    assert done.returncode == 1
    assert (
        "the front door needs the SDK of MCP, which is not installed; run: pip install 'trishula-bus[mcp]'"
        in done.stderr
    )


def test_wrong_settings_are_said_before_a_client_speaks(mcp_python: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(mcp_python), "-m", "trishula.cli.main", "mcp"],
        capture_output=True,
        text=True,
        env=environment(HOME=str(tmp_path)),
        timeout=60,
    )
    assert done.returncode == 4
    assert done.stdout == ""
    assert "there is no token" in done.stderr


def test_what_uses_the_sdk_is_typed(mcp_python: Path) -> None:
    # The SDK is not where all else is checked.
    sources = [f"components/trishula/front_door/{name}.py" for name in ("http_server", "server", "web_server")]
    sources += ["tests/integration/mcp_conversation.py"]
    mypy = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", os.devnull]
    done = subprocess.run(
        [
            *mypy,
            "--config-file",
            os.devnull,
            "--python-executable",
            str(mcp_python),
            "--explicit-package-bases",
            *sources,
        ],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": f"{ROOT / 'components'}:{ROOT / 'router'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.startswith("Success"), done.stdout
