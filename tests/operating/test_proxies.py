"""A node behind a reverse proxy: the address that counts is that of whoever the proxy was asked by, and no other."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.crowd import Crowd
from tests.support.node import NodeProcess
from tests.support.raw import RawClient
from trishula.contract import uris
from trishula_router.commands.supervisor import free_port

pytestmark = pytest.mark.node

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"
GENEROUS_S = 20.0
MOST = 30

NGINX = """
daemon off; pid {directory}/pid; error_log {directory}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{node_port};
            proxy_bind 127.0.0.9;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_read_timeout 1h;
        }}
    }}
}}
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    directory = tmp_path_factory.mktemp("proxies")
    config = json.loads(SHIPPED.read_text())
    extra = config["workers"][0]["components"][0]["extra"]
    extra["limits"] |= {"handshake": "10m", "strangers_per_address": MOST}
    extra["proxies"] = ["127.0.0.9"]
    file = directory / "node.json"
    file.write_text(json.dumps(config))
    node = NodeProcess(directory / "state", config=file)
    node.token("dc")
    node.token("boss", operator=True)
    with node:
        yield node


@pytest.fixture(scope="module")
def nginx(node: NodeProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    directory = tmp_path_factory.mktemp("nginx")
    port = free_port("127.0.0.1")
    file = directory / "nginx.conf"
    file.write_text(NGINX.format(directory=directory, port=port, node_port=node.port))
    directory.chmod(0o755)
    process = subprocess.Popen([program, "-c", str(file), "-p", str(directory)], stderr=subprocess.DEVNULL)
    url = f"ws://127.0.0.1:{port}/ws"
    deadline = time.monotonic() + GENEROUS_S
    while True:
        try:
            with RawClient(url):
                break
        except OSError:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
    yield url
    process.terminate()
    process.wait(GENEROUS_S)


def address_of_join(node: NodeProcess, url: str, source: str, *headers: str) -> str:
    """From where the journal says that an agent joined."""
    with RawClient(url, source=source, headers=headers) as client, RawClient(node.url) as boss:
        client.open()
        client.join("dc", node.tokens["dc"])
        boss.open()
        boss.join("boss", node.tokens["boss"])
        deadline = time.monotonic() + GENEROUS_S
        while time.monotonic() < deadline:
            page = boss.call(uris.AUDIT_QUERY, {"agent": "dc", "kind": "joined", "limit": 1000})
            for record in page["records"]:
                if record["session"] == client.session:
                    return str(record["address"])
    raise AssertionError("the join is not in the journal")


@pytest.mark.parametrize(
    "forged", [(), ("X-Forwarded-For: 8.8.8.8",), ("Forwarded: for=8.8.8.8", "X-Real-IP: 8.8.8.8")]
)
def test_the_address_is_the_one_that_nginx_was_asked_by(node: NodeProcess, nginx: str, forged: tuple[str, ...]) -> None:
    assert address_of_join(node, nginx, "127.0.0.5", *forged) == "127.0.0.5"


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://127.0.0.1:{port}", b"101"), ("http://127.0.0.1", b"400"), ("http://evil.example", b"400")],
)
def test_the_nodes_own_page_reaches_it_through_nginx(nginx: str, origin: str, status: bytes) -> None:
    port = urlsplit(nginx).port
    with RawClient(nginx, headers=[f"Origin: {origin.format(port=port)}"]) as client:
        client.socket.sendall(client.request())
        assert client.socket.recv(65536).split()[1] == status


@pytest.mark.parametrize(
    ("source", "headers", "address"),
    [
        # No proxy: it may say what it likes.
        ("127.0.0.1", ["X-Forwarded-For: 8.8.8.8"], "127.0.0.1"),
        ("127.0.0.2", ["X-Forwarded-For: 127.0.0.9"], "127.0.0.2"),
        ("127.0.0.9", ["X-Forwarded-For: 8.8.8.8, 9.9.9.9"], "9.9.9.9"),
        ("127.0.0.9", ["X-Forwarded-For: 8.8.8.8", "X-Forwarded-For: 9.9.9.9"], "9.9.9.9"),
        ("127.0.0.9", ["x-forwarded-for: 9.9.9.9, 127.0.0.9"], "9.9.9.9"),
        ("127.0.0.9", ["X-Forwarded-For: 2001:db8::1"], "2001:db8::1"),
        ("127.0.0.9", ["X-Forwarded-For: nobody"], "127.0.0.9"),
        ("127.0.0.9", [], "127.0.0.9"),
    ],
)
def test_the_proxy_that_is_named_is_believed(node: NodeProcess, source: str, headers: list[str], address: str) -> None:
    assert address_of_join(node, node.url, source, *headers) == address


def test_whoever_fills_its_places_behind_nginx_takes_none_of_others(node: NodeProcess, nginx: str) -> None:
    with RawClient(nginx) as client:
        request = client.request()
    with contextlib.ExitStack() as stack:
        quiet = stack.enter_context(Crowd(nginx, "127.0.0.6"))
        quiet.come(10, request)
        loud = stack.enter_context(Crowd(nginx, "127.0.0.7"))
        loud.come(3 * MOST, request)
        deadline = time.monotonic() + GENEROUS_S
        while loud.still_open() > MOST and time.monotonic() < deadline:
            time.sleep(0.05)
        assert MOST - 5 <= loud.still_open() <= MOST
        assert quiet.still_open() == 10
        # Who is in earnest gets in, from there and from elsewhere.
        for source in ("127.0.0.7", "127.0.0.8"):
            assert address_of_join(node, nginx, source) == source


def test_who_invents_addresses_without_a_proxy_fills_its_own_places(node: NodeProcess) -> None:
    with Crowd(node.url, "127.0.0.8") as crowd:
        for number in range(3 * MOST):
            with RawClient(node.url, headers=[f"X-Forwarded-For: 8.8.8.{number}"]) as client:
                request: Any = client.request()
            crowd.come(1, request)
        deadline = time.monotonic() + GENEROUS_S
        while crowd.still_open() > MOST and time.monotonic() < deadline:
            time.sleep(0.05)
        assert crowd.still_open() <= MOST
