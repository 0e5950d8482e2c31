"""Clients of the doors over HTTP that are slow on purpose: real doors of both kinds and a real node, by raw sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support.node import NodeProcess, environment

pytestmark = pytest.mark.node

HEAD_S, BODY_S, ANSWER_S = 0.6, 0.9, 0.6
#: A fourth of these are for connections.
DESCRIPTORS = 512
DOOR = f"""
import functools
from trishula.PACKAGE import web_server
from trishula.cli.main import main
from trishula.front_door.http_server import Bounds

bounds = Bounds(body_s={BODY_S}, head_s={HEAD_S}, answer_s={ANSWER_S})
web_server.over_http = functools.partial(web_server.over_http, bounds=bounds)
main()
"""
BODY = b"content-type: application/json\r\naccept: application/json, text/event-stream\r\n"


@dataclass
class Door:
    process: subprocess.Popen[str]
    port: int
    errors: Path
    #: The first lines of a request that the door serves to everybody or refuses at once, and of one with a body.
    get: bytes
    post: bytes
    status: int

    def connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def host(self) -> bytes:
        return b"host: 127.0.0.1:%d\r\n" % self.port

    def answers(self, connection: socket.socket) -> bool:
        connection.sendall(self.get + self.host() + b"\r\n")
        response = http.client.HTTPResponse(connection)
        response.begin()
        response.read()
        return response.status == self.status


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("http") / "state") as node:
        for name in ("agni", "door"):
            node.token(name)
        yield node


@pytest.fixture(scope="module")
def doors(node: NodeProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Door]]:
    directory, doors = tmp_path_factory.mktemp("doors"), {}
    lines = {
        "mcp": (b"GET /mcp HTTP/1.1\r\n", b"POST /mcp HTTP/1.1\r\n", 401),
        "a2a": (b"GET /.well-known/jwks.json HTTP/1.1\r\n", b"POST /agents/agni/rpc HTTP/1.1\r\n", 200),
    }
    options = {"mcp": ["mcp", "--http", "0"], "a2a": ["a2a", "serve", "--listen", "0", "--state", str(directory / "d")]}
    packages = {"mcp": "front_door", "a2a": "a2a_door"}
    prefix = Path(sys.prefix)
    with contextlib.ExitStack() as stack:
        for kind, package in packages.items():
            python = prefix.with_name(f"{prefix.name}-{kind}") / "bin" / "python"
            command = [str(python), "-c", DOOR.replace("PACKAGE", package), *options[kind]]
            errors = directory / f"{kind}.errors"
            process = subprocess.Popen(
                ["sh", "-c", f'ulimit -n {DESCRIPTORS} && exec "$@"', "sh", *command],
                env=environment(
                    TRISHULA_URL=node.url,
                    TRISHULA_TOKEN=node.tokens["door"],
                    TRISHULA_AGENT_STATE=str(directory / f"agents-{kind}"),
                ),
                stdout=subprocess.PIPE,
                stderr=stack.enter_context(errors.open("w")),
                text=True,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            doors[kind] = Door(process, 0, errors, *lines[kind])
        for door in doors.values():
            assert door.process.stdout is not None
            url = door.process.stdout.readline()
            assert url, door.errors.read_text()
            door.port = int(url.strip().removesuffix("/mcp").rpartition(":")[2])
        yield doors


@pytest.fixture(params=["mcp", "a2a"])
def door(request: pytest.FixtureRequest, doors: dict[str, Door]) -> Door:
    return doors[request.param]


def ended_after_s(connection: socket.socket, trickle: bytes) -> float:
    """How long the door stands a client that sends a byte now and then."""
    began = time.monotonic()
    connection.settimeout(0.1)
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - began < 5:
            with contextlib.suppress(TimeoutError):
                if not connection.recv(65536):
                    break
            connection.sendall(trickle)
    return time.monotonic() - began


def test_sockets_that_never_ask_shut_nobody_out_and_leave_the_door_its_files(door: Door) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(DESCRIPTORS + 100):
            stack.enter_context(door.connected())
        with door.connected() as honest:
            assert door.answers(honest)
            # It is the latest, so it is not put out.
            assert door.answers(honest)
        assert psutil.Process(door.process.pid).num_fds() < DESCRIPTORS / 2
    assert "Too many open files" not in door.errors.read_text()


@pytest.mark.parametrize("is_first", [True, False])
def test_the_head_of_a_request_has_a_deadline_however_it_trickles(door: Door, is_first: bool) -> None:
    with door.connected() as connection:
        if not is_first:
            assert door.answers(connection)
        connection.sendall(door.get + b"x: ")
        assert HEAD_S / 2 < ended_after_s(connection, b"x") < 4


def test_a_body_that_nobody_wants_has_a_deadline_as_well(door: Door) -> None:
    with door.connected() as connection:
        connection.sendall(door.post + door.host() + BODY + b"content-length: 1000\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
        assert HEAD_S / 2 < ended_after_s(connection, b"x") < 4


def test_a_body_of_an_agent_has_a_deadline_and_an_answer(door: Door, node: NodeProcess) -> None:
    bearer = b"authorization: Bearer " + node.tokens["agni"].encode() + b"\r\n"
    with door.connected() as connection:
        connection.sendall(door.post + door.host() + bearer + BODY + b"content-length: 1000\r\n\r\n{")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {
        "error": f"the request did not come whole within {BODY_S:g} s; send it again"
    }


def test_who_reads_no_answer_does_not_stay(doors: dict[str, Door]) -> None:
    door = doors["mcp"]
    with socket.socket() as connection:
        # Before it connects: the system of the door then keeps few answers, and a slow machine soon has made them.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.2)
        connection.connect(("127.0.0.1", door.port))
        requests = (door.get + door.host() + b"\r\n") * 100
        began, sent_bytes = time.monotonic(), 0
        with pytest.raises(ConnectionError):
            while time.monotonic() - began < 60:
                with contextlib.suppress(TimeoutError):
                    sent_bytes += connection.send(requests[sent_bytes % len(requests) :])


def test_an_answer_may_take_longer_than_any_deadline(doors: dict[str, Door], node: NodeProcess) -> None:
    door, wait_s = doors["mcp"], 2
    call = {"name": "wait_for_message", "arguments": {"wait_s": wait_s}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}).encode()
    bearer = b"authorization: Bearer " + node.tokens["agni"].encode() + b"\r\nconnection: close\r\n"
    began = time.monotonic()
    with door.connected() as connection:
        connection.sendall(door.post + door.host() + bearer + BODY + b"content-length: %d\r\n\r\n" % len(body) + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert time.monotonic() - began >= wait_s > max(HEAD_S, BODY_S, ANSWER_S)
    assert answer.startswith(b"HTTP/1.1 200 ") and b"No new message" in answer


def test_the_doors_wrote_no_traceback(doors: dict[str, Door]) -> None:
    for door in doors.values():
        assert "Traceback" not in door.errors.read_text()
