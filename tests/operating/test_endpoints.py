"""Endpoints of every kind: what `trishula node check` calls good, a node listens on, and an agent joins; the rest is
refused by both commands with the same words."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Issuer
from tests.support.node import NodeProcess, environment
from trishula.exit_codes import Exit
from trishula_router.commands.supervisor import free_port
from trishula_router.settings.check import read_config_file
from trishula_router.settings.crossbar_config import options_of, render_config

pytestmark = pytest.mark.node

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"
VARIABLE = "TEST_ENDPOINT_PORT"


@dataclass(frozen=True)
class Case:
    """An endpoint, what of it is in the environment, and how its address must begin if it is good."""

    name: str
    endpoint: dict[str, Any]
    begins: str = "ws://127.0.0.1:"
    variable: bool = False
    trusted: bool = False
    tls: dict[str, Any] = field(default_factory=dict)


CHAINED = {"key": "tls/node.key", "certificate": "tls/node.crt", "chain_certificates": ["tls/middle.crt"]}
GOOD = [
    Case("plain", {}),
    Case("everywhere-version-6", {"interface": "", "version": 6, "backlog": 5}, trusted=True),
    Case("ipv6", {"interface": "::1", "shared": True}, "ws://[::1]:"),
    Case("name", {"interface": "localhost", "user_timeout": 5}, "ws://localhost:"),
    Case("variable", {}, variable=True),
    Case("tls", {}, "wss://localhost:", tls=CHAINED),
    Case("tls-shared-variable", {"shared": True}, "wss://localhost:", variable=True, tls=CHAINED),
    Case("tls-ipv6-unused", {"interface": "::1"}, "wss://[::1]:", tls={**CHAINED, "ciphers": "x", "dhparam": "x.pem"}),
]
BAD = [
    Case("unix", {"type": "unix", "path": "node.sock"}),
    Case("twisted", {"type": "twisted", "server_string": "tcp:8765"}),
    Case("range", {"portrange": [8000, 8010]}),
    Case("variable-not-set", {"port": "$NO_SUCH_VARIABLE"}),
    Case("everywhere", {"interface": "0.0.0.0"}),
    Case("everywhere-by-default", {"interface": ""}),
    Case("tls-version-6", {"version": 6}, tls=CHAINED),
    Case("tls-no-file", {}, tls={**CHAINED, "key": "tls/no.key"}),
    Case("tls-fullchain", {}, tls={**CHAINED, "certificate": "tls/fullchain.pem"}),
    Case("tls-other-key", {}, tls={**CHAINED, "key": "tls/middle.key"}),
    Case("tls-clients", {}, tls={**CHAINED, "ca_certificates": ["tls/root.crt"]}),
]


def write(case: Case, folder: Path, port: int) -> tuple[Path, dict[str, str]]:
    """The configuration of a case with its files, and the environment for its processes."""
    (folder / "tls").mkdir()
    root = Issuer("root")
    middle = root.issuer("middle")
    middle.leaf("localhost", "::1").write(folder / "tls" / "node.crt", folder / "tls" / "node.key")
    middle.write(folder / "tls" / "middle.crt", folder / "tls" / "middle.key")
    root.write(folder / "tls" / "root.crt")
    chain = [(folder / "tls" / name).read_bytes() for name in ("node.crt", "middle.crt")]
    (folder / "tls" / "fullchain.pem").write_bytes(b"".join(chain))
    config = read_config_file(SHIPPED)
    endpoint: dict[str, Any] = {
        "type": "tcp",
        "interface": "127.0.0.1",
        "port": f"${VARIABLE}" if case.variable else port,
    }
    endpoint |= case.endpoint
    if case.tls:
        endpoint["tls"] = case.tls
    for key in ("port", "interface"):
        if endpoint["type"] != "tcp" or ("portrange" in endpoint and key == "port"):
            del endpoint[key]
    config["workers"][0]["transports"][0]["endpoint"] = endpoint
    if case.trusted:
        options_of(config)["trusted_network"] = "the network of this test"
    path = folder / "node.json"
    path.write_text(render_config(config))
    more = {VARIABLE: str(port)} if case.variable else {}
    return path, environment(SSL_CERT_FILE=str(folder / "tls" / "root.crt"), **more)


def run(environ: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=90.0)


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_what_check_calls_good_starts_and_an_agent_joins_at_the_address_that_is_printed(
    tmp_path: Path, case: Case
) -> None:
    port = free_port("")
    path, environ = write(case, tmp_path, port)
    checked = run(environ, "trishula_router", "node", "check", path)
    assert (checked.returncode, checked.stdout) == (Exit.OK, f"{path}: good\n")
    state = tmp_path / "state"
    token = NodeProcess(state).token("boss", operator=True)
    command = [sys.executable, "-m", "trishula_router", "node", "start", "--config", str(path), "--state", str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ) as node:
        try:
            assert node.stdout is not None and node.stderr is not None
            url = node.stdout.readline().strip()
            assert url == f"{case.begins}{port}/ws", url or node.stderr.read()
            environ |= {"TRISHULA_TOKEN": token}
            said = run({**environ, "TRISHULA_URL": url}, "trishula.cli.main", "agents", "--json")
            assert said.returncode == Exit.OK, said.stderr
            assert [row["agent"] for row in json.loads(said.stdout)] == ["boss"]
            asked = run(environ, "trishula_router", "node", "status", "--json", "--state", state)
            status = json.loads(asked.stdout)
            assert (status["url"], status["agents"], asked.stderr) == (url, 1, "")
        finally:
            node.terminate()
            node.communicate()
    assert node.returncode == Exit.OK


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_what_a_node_cannot_listen_on_is_refused_by_check_and_start_alike(tmp_path: Path, case: Case) -> None:
    path, environ = write(case, tmp_path, 8765)
    checked = run(environ, "trishula_router", "node", "check", path, "--json")
    assert checked.returncode == Exit.CONFIG
    ours = [fault["sentence"] for fault in json.loads(checked.stdout)[0]["faults"] if fault["path"] != "crossbar check"]
    assert ours
    assert all(sentence.startswith("workers[0].transports[0].endpoint.") for sentence in ours)
    started = run(environ, "trishula_router", "node", "start", "--config", path, "--state", tmp_path / "state")
    assert (started.returncode, started.stdout) == (Exit.CONFIG, "")
    assert started.stderr == "Error: " + "\n".join(ours) + "\n"
    assert not (tmp_path / "state").exists()
