"""``trishula doctor`` on real set-ups that are broken, and its bundle, in which nothing secret is."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import make_certificate
from tests.support.keys import Pair, add_key
from tests.support.node import NodeProcess, environment
from tests.support.raw import RawClient
from tests.support.tls import TlsFront
from trishula.contract import uris
from trishula_router.commands.doctor_machine import why_not_linked

pytestmark = pytest.mark.node

PAYLOAD = "what-agents-say-to-each-other"
PASSWORD = "proxy-pass-word"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    node = NodeProcess(tmp_path_factory.mktemp("doctor") / "state")
    node.token("dc")
    node.token("boss", operator=True)
    with node:
        yield node


def doctor(*args: object, code: int, **variables: str) -> dict[str, tuple[str, str, str]]:
    """Run it; by check: (level, sentence, what to do)."""
    done = subprocess.run(
        [sys.executable, "-m", "trishula.cli.main", "doctor", "--json", *map(str, args)],
        capture_output=True,
        text=True,
        env=environment(**variables),
        timeout=120,
    )
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert done.returncode == code, found
    return {one["check"]: (one["level"], one["sentence"], one["to_do"]) for one in found}


def faults(found: dict[str, tuple[str, str, str]]) -> list[str]:
    return [check for check, (level, _, _) in found.items() if level == "fault"]


def test_a_good_node_has_no_faults_and_its_bundle_no_secrets(node: NodeProcess, tmp_path: Path) -> None:
    with RawClient(node.url) as client:
        client.open()
        client.join("dc", node.tokens["dc"])
        message = {"type": "STATUS", "id": "m1", "to": "boss", "payload": PAYLOAD, "subject": PAYLOAD}
        (receipt,) = client.call(uris.MAILBOX_SEND, [message])
        assert receipt["status"] == "accepted"
    with (node.state_dir / "node.log").open("a") as log:
        log.write(f"a careless line: {node.tokens['dc']}, Authorization: Basic {PASSWORD}\n")
    bundle = tmp_path / "support.tar.gz"
    variables = {"TRISHULA_URL": node.url, "TRISHULA_TOKEN": node.tokens["boss"]}
    # What this machine is like (its disk, its clock) may be a warning; the proxy leads to no node of this machine.
    proxy = f"http://user:{PASSWORD}@127.0.0.1:1"
    command = [sys.executable, "-m", "trishula.cli.main", "doctor", "--state", str(node.state_dir)]
    done = subprocess.run(
        [*command, "--bundle", str(bundle), "--json"],
        capture_output=True,
        text=True,
        env=environment(**variables, HTTPS_PROXY=proxy),
        timeout=120,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    levels = {one["check"]: one["level"] for one in json.loads(done.stdout)}
    good = ("node", "configuration", "port", "permissions", "schema", "node single: store")
    assert {check: levels[check] for check in good} == dict.fromkeys(good, "ok")
    steps = ("port", "WebSocket", "clock", "token")
    assert [levels[f"{node.url}: {step}"] for step in steps] == ["ok"] * 4
    assert bundle.stat().st_mode & 0o777 == 0o600
    with tarfile.open(bundle) as packed:
        texts = {one.name: packed.extractfile(one).read().decode() for one in packed.getmembers()}  # type: ignore[union-attr]
    names = {name.removeprefix("trishula-support/") for name in texts}
    assert names >= {
        "agents.json", "config-running.json", "contacts.json", "findings.json", "mailboxes-single.json", "node.log",
        "ready.json", "status-single.json", "versions.json",
    }  # fmt: skip
    box = json.loads(texts["trishula-support/mailboxes-single.json"])[0]
    assert (box["address"], box["pending"]) == ("boss", 1)
    key = (node.state_dir / "crossbar" / "key.priv").read_text()
    private = [line.split()[-1] for line in key.splitlines() if line.startswith("private-key")]
    assert private
    agents = json.loads((node.state_dir / "agents.json").read_text())["agents"]
    digests = [token["sha256"] for one in agents.values() for token in one["tokens"]]
    tokens = [*node.tokens.values(), *(token.partition(".")[2] for token in node.tokens.values())]
    everything = "\n".join(texts.values())
    for secret in (*tokens, *private, *digests, PASSWORD, PAYLOAD):
        assert secret not in everything
    # Not because there is nothing.
    assert '"operator": true' in texts["trishula-support/agents.json"]
    assert "a careless line" in texts["trishula-support/node.log"]


def test_a_port_that_another_program_has(node: NodeProcess, tmp_path: Path) -> None:
    state = tmp_path / "state"
    config = json.loads((Path(__file__).resolve().parents[2] / "config" / "single.json").read_text())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config["workers"][0]["transports"][0]["endpoint"]["port"] = taken.getsockname()[1]
        config["workers"][0]["components"][0]["extra"]["state"] = str(state)
        file = tmp_path / "node.json"
        file.write_text(json.dumps(config))
        state.mkdir(mode=0o700)
        (state / "agents.json").write_text("{}")
        (state / "agents.json").chmod(0o644)
        found = doctor("--config", file, code=2)
    assert sorted(faults(found)) == ["permissions", "port"]
    assert " is taken by " in found["port"][1]
    assert "has mode 0644" in found["permissions"][1]
    assert found["node"][0] == "warning"


def test_an_operator_who_joins_with_a_key(node: NodeProcess, tmp_path: Path) -> None:
    pair, bundle = Pair(), tmp_path / "support.tar.gz"
    pair.write(tmp_path / "boss.key")
    variables = {"TRISHULA_URL": node.url, "TRISHULA_AGENT": "boss", "TRISHULA_KEY_FILE": str(tmp_path / "boss.key")}
    found = doctor(code=2, **variables)
    assert faults(found) == [f"{node.url}: key"]
    assert found[f"{node.url}: key"][2].endswith(f"trishula token new boss --public-key {pair.public}")
    add_key(node, "boss", pair)
    with (node.state_dir / "node.log").open("a") as log:
        log.write(f"a careless line: {pair.seed.hex()}\n")
    command = [sys.executable, "-m", "trishula.cli.main", "doctor", "--state", str(node.state_dir)]
    done = subprocess.run(
        [*command, "--bundle", str(bundle), "--json"],
        capture_output=True,
        text=True,
        env=environment(**variables),
        timeout=120,
    )
    told = {one["check"]: (one["level"], one["sentence"]) for one in json.loads(done.stdout)}
    assert told[f"{node.url}: key"] == ("ok", f"boss is let in by its key {pair.public[:8]}…")
    assert told["node single: store"][0] == "ok"
    with tarfile.open(bundle) as packed:
        texts = [packed.extractfile(one).read().decode() for one in packed.getmembers()]  # type: ignore[union-attr]
    assert pair.public in "\n".join(texts)
    assert pair.seed.hex() not in "\n".join(texts)


def test_a_token_that_is_wrong_and_a_port_where_nobody_is(node: NodeProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nowhere = f"ws://127.0.0.1:{taken.getsockname()[1]}/ws"
    wrong = node.tokens["dc"][:-4] + "AAAA"
    found = doctor(code=2, TRISHULA_URL=f"{node.url},{nowhere}", TRISHULA_TOKEN=wrong)
    assert faults(found) == [f"{node.url}: token", f"{nowhere}: port"]
    assert "wrong or revoked" in found[f"{node.url}: token"][1]
    assert "Connection refused" in found[f"{nowhere}: port"][1]
    assert found[f"{nowhere}: token"][0] == "skipped"


@pytest.mark.parametrize(
    ("days", "host", "trusts", "sentence"),
    [
        (-1.0, "localhost", True, "the certificate of localhost is over"),
        (30.0, "127.0.0.1", True, "the certificate is for other names than 127.0.0.1"),
        (30.0, "localhost", False, "nobody whom this machine trusts has signed"),
    ],
)
def test_a_certificate(node: NodeProcess, tmp_path: Path, days: float, host: str, trusts: bool, sentence: str) -> None:
    certificate = make_certificate(tmp_path, days)
    variables: dict[str, Any] = {"TRISHULA_CA_FILE": str(certificate)} if trusts else {}
    with TlsFront(certificate, node.port) as url:
        url = url.replace("localhost", host)
        variables |= {"TRISHULA_URL": url, "TRISHULA_TOKEN": node.tokens["dc"]}
        found = doctor(code=2, **variables)
    assert sentence in found[f"{url}: TLS"][1]
    assert faults(found) == [f"{url}: TLS"]


def test_the_way_of_a_link_with_tls(tmp_path: Path) -> None:
    good, over, other = (make_certificate(tmp_path, days) for days in (30.0, -1.0, 31.0))

    def tried(shown: Path, **tls: object) -> str:
        with TlsFront(shown, 1) as url:
            port = int(url.rpartition(":")[2].partition("/")[0])
            return why_not_linked({"host": "127.0.0.1", "port": port, "tls": tls}, tmp_path) or "it is good"

    assert tried(good, hostname="localhost", ca_certificates=[good.name]) == "it is good"
    assert "certificate has expired" in tried(over, hostname="localhost", ca_certificates=[over.name])
    assert "is not good" in tried(good, hostname="localhost", ca_certificates=[other.name])
    assert "agni.example.org" in tried(good, hostname="agni.example.org", ca_certificates=[good.name])
    assert "fails" in tried(good, hostname="localhost", ca_certificates=["missing.pem"])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert why_not_linked({"host": "127.0.0.1", "port": port}, tmp_path) == f"127.0.0.1:{port}: Connection refused"
