"""Mutual TLS: nginx before a node lets nobody through who shows no certificate of the right authority."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Issuer
from tests.support.keys import Pair, add_key
from tests.support.node import NodeProcess, environment
from trishula_router.commands.supervisor import free_port

pytestmark = pytest.mark.node

KEY = Pair(bytes([6]) * 32)

#: What deploy/docs/howto/mutual-tls.rst shows, and what nginx needs beside it to run here.
NGINX = """
daemon off; pid {directory}/pid; error_log {directory}/error.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {directory}/node.crt;
        ssl_certificate_key {directory}/node.key;
        ssl_client_certificate {directory}/agents-ca.crt;
        ssl_verify_client on;
        location /ws {{
            proxy_pass http://127.0.0.1:{node_port};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_set_header Host $http_host;
            proxy_read_timeout 1h;
        }}
    }}
}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities: one of nodes, one of agents; a certificate of each, and one of a stranger's."""
    place = tmp_path_factory.mktemp("mutual")
    place.chmod(0o755)
    nodes, agents, strangers = Issuer("nodes"), Issuer("agents"), Issuer("agents")
    nodes.write(place / "nodes-ca.crt")
    nodes.leaf("localhost").write(place / "node.crt", place / "node.key")
    agents.write(place / "agents-ca.crt")
    for name, authority in (("dc", agents), ("stranger", strangers)):
        authority.leaf(name).write(place / f"{name}.crt", place / f"{name}.key")
        (place / f"{name}.pem").write_bytes((place / f"{name}.crt").read_bytes() + (place / f"{name}.key").read_bytes())
    KEY.write(place / "dc.key.pem")
    return place


def agents(url: str, place: Path, certificate: str | None) -> subprocess.CompletedProcess[str]:
    shown = {} if certificate is None else {"TRISHULA_CLIENT_CERTIFICATE": str(place / certificate)}
    environ = environment(
        TRISHULA_URL=url,
        TRISHULA_AGENT="dc",
        TRISHULA_KEY_FILE=str(place / "dc.key.pem"),
        TRISHULA_CA_FILE=str(place / "nodes-ca.crt"),
        HOME=str(place),
        **shown,
    )
    line = [sys.executable, "-m", "trishula.cli.main", "agents", "--json"]
    return subprocess.run(line, capture_output=True, text=True, env=environ, timeout=60.0)


def only_the_right_certificate_gets_in(url: str, place: Path) -> None:
    done = agents(url, place, "dc.pem")
    assert done.returncode == 0, done.stderr
    for wrong in (None, "stranger.pem"):
        refused = agents(url, place, wrong)
        assert refused.returncode == 6, refused.stdout + refused.stderr


@pytest.fixture(scope="module")
def plain(place: Path) -> Iterator[NodeProcess]:
    with NodeProcess(place / "plain") as node:
        add_key(node, "dc", KEY)
        yield node


def test_at_nginx(place: Path, plain: NodeProcess) -> None:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    port = free_port("127.0.0.1")
    file = place / "nginx.conf"
    file.write_text(NGINX.format(directory=place, port=port, node_port=plain.port))
    process = subprocess.Popen([program, "-c", str(file), "-p", str(place)], stderr=subprocess.DEVNULL)
    try:
        end_s = time.monotonic() + 20.0
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
                break
            except OSError:
                assert time.monotonic() < end_s and process.poll() is None
                time.sleep(0.05)
        # Its answer to who shows none is 400, which is no node's.
        only_the_right_certificate_gets_in(f"wss://localhost:{port}/ws", place)
    finally:
        process.terminate()
        process.wait(20.0)
