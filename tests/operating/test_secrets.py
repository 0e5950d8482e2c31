"""No secret is in what a bus writes, prints or shows to others: each one that is used here is looked for everywhere.

Secrets are the tokens of agents, also wrong and ended ones, and the private key of the node. They are looked for in the
node's files (the journal, the log and backups among them), in an agent's own file, in what commands print, in command
lines of processes, in metrics, in what ``/ready`` says to an operator, and in what an operator asks the node for.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.node import NodeProcess, environment
from tests.support.raw import RawClient
from tests.support.web import ask
from trishula.contract import uris

pytestmark = pytest.mark.node

ROOT = Path(__file__).resolve().parents[2]
PAYLOAD = "no-secret-but-easily-found"

AGENT = """
import trishula

agent = trishula.Agent("agni")

@agent.procedure()
async def greet(name):
    return f"hello {name}"

agent.run()
"""


@dataclass
class Bus:
    """A node, and all that was said by it and about it.

    Attributes:
        said: what commands printed, and what was answered over HTTP, by where it came from.
        command_lines: of each process that was seen.
    """

    node: NodeProcess
    said: dict[str, str] = field(default_factory=dict)
    command_lines: set[str] = field(default_factory=set)

    def run(self, name: str, *command: str, token: str = "", **variables: str) -> None:
        """Run a command of an agent's side, with a token in its environment."""
        given = {"TRISHULA_URL": self.node.url, **({"TRISHULA_TOKEN": token} if token else {}), **variables}
        process = subprocess.Popen(
            [sys.executable, "-m", "trishula.cli.main", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(**given),
        )
        self.command_lines.add(Path(f"/proc/{process.pid}/cmdline").read_text())
        self.said[name] = process.communicate(timeout=120.0)[0]

    def private_keys(self) -> list[str]:
        """The node's."""
        lines = (self.node.state_dir / "crossbar" / "key.priv").read_text().splitlines()
        return [line.split()[-1] for line in lines if line.startswith("private-key")]


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    node = NodeProcess(tmp_path_factory.mktemp("secrets") / "state")
    for name in ("agni", "dc"):
        node.token(name)
    node.token("boss", operator=True)
    with node:
        yield Bus(node)


def use(bus: Bus, directory: Path) -> dict[str, str]:
    """Let each secret be used; all that are to be looked for, by what they are."""
    node = bus.node
    ended = node.tokens["dc"]
    state = ("--state", str(node.state_dir))
    bus.said["token rotate"] = node.command("token", "rotate", "dc", "--overlap", "0s", *state)
    node.tokens["dc"] = json.loads(bus.said.pop("token rotate"))["token"]
    wrong = {
        "a wrong token": f"dc.{'0123456789abcdefghijklmnopqrstuv' * 2}"[: len(ended)],
        "a token of another": f"agni.{ended.partition('.')[2]}",
        "no token at all": "this-was-my-pass-phrase",
        "a token with a line break": f"{ended[:20]}\n{ended[20:]}",
    }
    for name, token in wrong.items():
        bus.run(name, "agents", token=token)
        with RawClient(node.url) as client:
            client.open()
            client.hello("dc")
            client.receive()
            client.send([5, token, {}])
            client.receive()
    bus.run("an ended token", "agents", token=ended)
    # A token where something else belongs.
    dc, boss = node.tokens["dc"], node.tokens["boss"]
    bus.run("the token for the profile", "agents", token=dc, TRISHULA_PROFILE=dc)
    bus.run("the token for the URL", "agents", token=dc, TRISHULA_URL=f"ws://{dc}")
    bus.run("the token in the URL", "agents", token=dc, TRISHULA_URL=f"ws://dc:{dc}@127.0.0.1:1/ws")
    script = directory / "agent.py"
    script.write_text(AGENT)
    log = directory / "agent.log"
    with log.open("w") as written:
        given = {"TRISHULA_URL": node.url, "TRISHULA_TOKEN": node.tokens["agni"]}
        agent = subprocess.Popen(
            [sys.executable, str(script)],
            stdout=written,
            stderr=written,
            env=environment(**given, TRISHULA_AGENT_STATE=str(directory / "agents")),
        )
        bus.run("send", "send", "agni", PAYLOAD, token=dc)
        bus.run("call", "call", "agni", "greet", "dc", "--timeout", "30s", token=dc)
        bus.command_lines.add(Path(f"/proc/{agent.pid}/cmdline").read_text())
        agent.send_signal(signal.SIGINT)
        agent.wait(30.0)
    bus.said["an agent's log"] = log.read_text()
    for name in ("agents", "dead list", "audit query --all", "mailboxes", "slo", "doctor", "journal status", "check"):
        bus.run(name, *name.split(), token=boss)
    with RawClient(node.url) as client:
        client.open()
        client.join("boss", boss)
        bus.said["the node's status"] = json.dumps(client.call(uris.NODE_STATUS))
    for path in ("/ready", "/metrics", "/health"):
        bus.said[path] = ask(node, path, token=boss).body.decode()
    bus.said["node status"] = node.command("node", "status", *state)
    bus.said["token list"] = node.command("token", "list", *state)
    bus.said["token revoke"] = node.command("token", "revoke", "agni", "--all", "--reason", "over", *state)
    bus.said["node backup"] = node.command("node", "backup", str(directory / "backup.sqlite"), *state)
    for process in node.processes():
        bus.command_lines.add("\0".join(process.cmdline()))
    secrets = {"the ended token": ended, **{f"the token of {name}": token for name, token in node.tokens.items()}}
    for name, token in {**secrets, **wrong}.items():
        secrets[name] = token
        # Without the name before it, it is as good.
        if "." in token:
            secrets[f"the end of {name}"] = token.partition(".")[2].split("\n")[-1]
    secrets |= {f"private key {number}": key for number, key in enumerate(bus.private_keys())}
    assert len(secrets) > 12
    return secrets


def test_no_secret_is_where_others_see_it(bus: Bus, tmp_path: Path) -> None:
    secrets = use(bus, tmp_path)
    assert PAYLOAD not in secrets.values()
    # All of it did happen.
    assert "hello dc" in bus.said["call"], bus.said
    assert "accepted" in bus.said["audit query --all"]
    everywhere = {
        **{name: text.encode() for name, text in bus.said.items()},
        **{f"a command line ({number})": line.encode() for number, line in enumerate(bus.command_lines)},
    }
    own = {bus.node.state_dir / "crossbar" / "key.priv", tmp_path / "agent.py"}
    for directory in (bus.node.state_dir, tmp_path):
        for path in directory.rglob("*"):
            if path.is_file() and path not in own and path.name != "ballast":
                everywhere[str(path.relative_to(directory))] = path.read_bytes()
    assert any(PAYLOAD.encode() in text for text in everywhere.values())
    found = [
        f"{what} in {where}: …{text[max(0, at - 80) : at + 80]!r}"
        for where, text in everywhere.items()
        for what, secret in secrets.items()
        if (at := text.find(secret.encode())) >= 0
    ]
    assert not found, "\n".join(found)
