"""Keys of agents over TLS: with the node's own certificate, behind a proxy, and with somebody in the middle."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import make_certificate
from tests.support.keys import Pair, add_key
from tests.support.node import NodeProcess, environment
from tests.support.tls import TlsFront, pump

pytestmark = pytest.mark.node

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys-tls")
    Pair(bytes([5]) * 32).write(folder / "dc.key")
    return folder


@pytest.fixture(scope="module")
def certificate(place: Path) -> Path:
    return make_certificate(place, 30.0)


@pytest.fixture(scope="module")
def node(place: Path, certificate: Path) -> Iterator[NodeProcess]:
    config = json.loads(SHIPPED.read_text())
    (transport,) = config["workers"][0]["transports"]
    transport["endpoint"]["tls"] = {"key": str(certificate), "certificate": str(certificate)}
    # It names tokens alone, for the release before: a node takes keys all the same.
    assert "cryptosign" not in transport["paths"]["ws"]["auth"]
    file = place / "node.json"
    file.write_text(json.dumps(config))
    with NodeProcess(place / "state", config=file) as node:
        add_key(node, "dc", Pair(bytes([5]) * 32))
        yield node


def agents(url: str, place: Path, certificate: Path) -> subprocess.CompletedProcess[str]:
    environ = environment(
        TRISHULA_URL=url,
        TRISHULA_AGENT="dc",
        TRISHULA_KEY_FILE=str(place / "dc.key"),
        TRISHULA_CA_FILE=str(certificate),
        HOME=str(place),
    )
    line = [sys.executable, "-m", "trishula.cli.main", "agents", "--json"]
    return subprocess.run(line, capture_output=True, text=True, env=environ, timeout=60.0)


class Between(TlsFront):
    """Has a certificate that the agent takes, and TLS of its own to the node: it reads all, and passes it on."""

    def _carry(self, outer: socket.socket) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        secured = self._context.wrap_socket(outer, server_side=True)
        inner = context.wrap_socket(socket.create_connection(("127.0.0.1", self._port)))
        threading.Thread(target=pump, args=(inner, secured), daemon=True).start()
        pump(secured, inner)


def test_with_tls_of_its_own_a_node_knows_who_it_talks_to(node: NodeProcess, place: Path, certificate: Path) -> None:
    done = agents(f"wss://localhost:{node.port}/ws", place, certificate)
    assert done.returncode == 0, done.stderr
    with Between(certificate, node.port) as url:
        refused = agents(url, place, certificate)
    assert refused.returncode == 4, refused.stdout + refused.stderr
    assert "what came as the signature of dc is none of its key over this connection's challenge" in refused.stderr


def test_behind_a_proxy_that_ends_tls_an_agent_joins_by_its_key(place: Path, certificate: Path) -> None:
    with NodeProcess(place / "behind") as behind:
        add_key(behind, "dc", Pair(bytes([5]) * 32))
        with TlsFront(certificate, behind.port) as url:
            done = agents(url, place, certificate)
    assert done.returncode == 0, done.stderr
