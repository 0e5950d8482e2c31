"""A bus from nothing: ``trishula init``, the commands that it prints, nginx with TLS before both nodes, and agents.

The commands are run as they are printed. One thing is edited: nginx waits for a silent node for a shorter time, so that
a test can be quiet for longer.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from twisted.internet.threads import deferToThread

from tests.support.node import environment, is_alive
from tests.support.raw import RawClient
from tests.support.reactor import on_reactor
from trishula.agent import Agent
from trishula.contract.message import Message
from trishula.settings import load

pytestmark = pytest.mark.node

GENEROUS_S = 30.0
#: nginx cuts who hears nothing from the node for so long. The node pings every 2.5 s, and may be late on a machine that
#: has much to do.
READ_TIMEOUT_S = 8
QUIET_S = 9.5


def free_ports() -> tuple[int, int, int, int]:
    """Four in a row. Not of those that the kernel hands out: others would have them by the time that they are used."""
    first = 20_000 + os.getpid() * 8 % 10_000
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            ports = (first, first + 1, first + 2, first + 3)
            for port in (*ports, first + 4, first + 5):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return ports
        first += 8


class Bus:
    """What ``trishula init`` made, run by its own commands."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.nodes: dict[str, subprocess.Popen[str]] = {}
        self.http_port, _, self.https_port, _ = free_ports()
        self._environment = self._with_program(directory / "bin")
        ports = {"agni": self.https_port + 2, "rushabdev": self.https_port + 3}
        cluster = " ".join(f"{name}=127.0.0.1:{port}" for name, port in ports.items())
        asked = f"--agents dc,agni,rushabdev --http-port {self.http_port} --https-port {self.https_port} --behind-nginx"
        told = json.loads(self.run(f"trishula init bus --cluster {cluster} {asked} --json"))
        self.commands: list[str] = [command for step in told["steps"] for command in step["commands"]]

    @staticmethod
    def _with_program(folder: Path) -> dict[str, str]:
        """An environment in which ``trishula`` is ours."""
        folder.mkdir()
        program = folder / "trishula"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m trishula.cli.main "$@"\n')
        program.chmod(0o755)
        known = environment()
        return {**known, "PATH": os.pathsep.join([str(folder), known.get("PATH", ""), "/usr/sbin"])}

    def run(self, command: str) -> str:
        """Run a command in the directory; what it printed."""
        done = subprocess.run(
            command, shell=True, cwd=self.directory, env=self._environment, capture_output=True, text=True, timeout=90
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self) -> None:
        """Run what it printed: the nodes, then nginx."""
        for command in self.commands:
            if " node start " in command:
                name = command.split("/nodes/")[1].partition("/")[0]
                self.nodes[name] = subprocess.Popen(
                    f"exec {command}",
                    shell=True,
                    cwd=self.directory,
                    env=self._environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
        for name, node in self.nodes.items():
            assert node.stdout is not None
            line = node.stdout.readline()
            assert line.startswith("wss://"), f"{name}: {line}{node.stdout.read()}"
        for site in sorted(self.directory.glob("bus/nodes/*/nginx/trishula.conf")):
            text = site.read_text()
            assert "proxy_read_timeout 30s;" in text
            site.write_text(text.replace("proxy_read_timeout 30s;", f"proxy_read_timeout {READ_TIMEOUT_S}s;"))
        for command in self.commands:
            if command.startswith("nginx"):
                # It tests its configuration as an operator does.
                self.run(f"{command} -t")
                self.run(command)

    def kill(self, name: str) -> None:
        """As a power cut does."""
        family = [psutil.Process(self.nodes[name].pid), *psutil.Process(self.nodes[name].pid).children(recursive=True)]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
        self.nodes[name].communicate(timeout=GENEROUS_S)
        wait_until(lambda: not any(is_alive(process) for process in family))

    def stop(self) -> None:
        """End all of it."""
        for file in self.directory.glob("bus/nodes/*/nginx/nginx.pid"):
            with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
                nginx = psutil.Process(int(file.read_text()))
                family = [nginx, *nginx.children()]
                nginx.terminate()
                wait_until(lambda family=family: not any(is_alive(one) for one in family))  # type: ignore[misc]
        for node in self.nodes.values():
            if node.poll() is None:
                node.terminate()
            node.communicate(timeout=GENEROUS_S)

    def profile(self, agent: str) -> Path:
        """The profile of an agent."""
        return self.directory / "bus" / "agents" / agent / f"{agent}.toml"

    def token(self, agent: str) -> str:
        """Its token."""
        return self.profile(agent).with_suffix(".token").read_text().strip()

    def records(self, agent: str) -> list[dict[str, Any]]:
        """What the journal says of its joins."""
        command = (
            f"TRISHULA_PROFILE={self.profile('operator')} trishula audit query --agent {agent} --kind joined --json"
        )
        return list(json.loads(self.run(command))["records"])

    def tls(self) -> ssl.SSLContext:
        """Who trusts the bus's authority and no other."""
        return ssl.create_default_context(cafile=str(self.directory / "bus" / "ca" / "ca.crt"))

    def https(self, source: str = "127.0.0.1") -> http.client.HTTPSConnection:
        """A connection to the first nginx."""
        address = (source, 0)
        return http.client.HTTPSConnection(
            "127.0.0.1", self.https_port, timeout=GENEROUS_S, context=self.tls(), source_address=address
        )

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Ask the first nginx for a path."""
        with contextlib.closing(self.https()) as connection:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()


def wait_until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + GENEROUS_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    if (shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")) is None:
        pytest.skip("nginx is not installed")
    bus = Bus(tmp_path_factory.mktemp("ten"))
    try:
        bus.start()
        yield bus
    finally:
        bus.stop()


def is_linked(bus: Bus) -> bool:
    """Whether a node is ready and has its peer: one whose peer has not come yet is ready all the same."""
    status, body = bus.get("/ready", Authorization=f"Bearer {bus.token('operator')}")
    if status != 200:
        return False
    told = json.loads(body)
    assert told["ready"] is True
    (check,) = [one for one in told["checks"] if one["check"] == "peers"]
    return [peer["state"] for peer in check["peers"]] == ["up"]


def test_the_printed_commands_make_a_bus_that_is_ready(bus: Bus) -> None:
    wait_until(lambda: is_linked(bus))
    assert bus.get("/health")[0] == 200
    assert bus.get("/")[0] == 200
    # What is left of what it printed speaks for agents.
    spoken = [command for command in bus.commands if command.startswith("TRISHULA_PROFILE=")]
    agents, sent = (bus.run(command) for command in spoken)
    assert all(name in agents for name in ("dc", "agni", "rushabdev", "operator"))
    assert sent.startswith("accepted ") and "copies: 2" in sent


def test_nginx_leads_to_https_and_keeps_to_itself_what_is_not_for_the_world(bus: Bus) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", bus.http_port, timeout=GENEROUS_S)) as plain:
        plain.request("GET", "/some?page")
        answer = plain.getresponse()
        assert answer.status == 301
        assert answer.headers["Location"] == f"https://127.0.0.1:{bus.https_port}/some?page"
        assert answer.headers["Server"] == "nginx"
    assert bus.get("/peer")[0] == 404
    assert bus.get("/metrics")[0] != 403
    with contextlib.closing(bus.https("127.0.0.5")) as elsewhere:
        elsewhere.request("GET", "/metrics", headers={"X-Forwarded-For": "127.0.0.1"})
        assert elsewhere.getresponse().status == 403
    old = bus.tls()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", bus.https_port)) as plain_socket:
        assert old.wrap_socket(plain_socket, server_hostname="127.0.0.1").version() == "TLSv1.2"


def test_who_asks_too_often_holds_up_nobody_else(bus: Bus) -> None:
    with contextlib.closing(bus.https("127.0.0.6")) as loud:
        loud.connect()
        request = f"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:{bus.https_port}\r\n\r\n".encode()
        answers = b""
        loud.sock.sendall(request * 599 + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        while data := loud.sock.recv(65536):
            answers += data
    assert answers.count(b"HTTP/1.1 403") >= 100
    assert answers.count(b"HTTP/1.1 429") >= 100
    assert bus.get("/health")[0] == 200


def test_the_client_s_own_address_counts_and_not_what_it_says(bus: Bus) -> None:
    forged = ["X-Forwarded-For: 8.8.8.8", "X-Real-IP: 8.8.8.8", "Forwarded: for=8.8.8.8"]
    with RawClient(f"wss://127.0.0.1:{bus.https_port}/ws", source="127.0.0.5", headers=forged) as client:
        client.socket = bus.tls().wrap_socket(client.socket, server_hostname="127.0.0.1")
        client.open()
        client.join("rushabdev", bus.token("rushabdev"))
        (record,) = [one for one in bus.records("rushabdev") if one["session"] == client.session]
    assert record["address"] == "127.0.0.5", record


@on_reactor
async def test_a_quiet_agent_stays_and_goes_on_at_the_failover_when_the_primary_is_killed(bus: Bus) -> None:
    first = load(profile=str(bus.profile("dc")), environ={}, home=Path("/nowhere")).urls[0]
    heard: list[object] = []
    # All that it knows is the first nginx, so that it is nginx that leads it to the other node.
    quiet = Agent("dc", url=first, profile=str(bus.profile("dc")), state=False, heartbeat_s=60.0)

    @quiet.on("STATUS")
    def hear(message: Message) -> None:
        heard.append(message.payload)

    await quiet.start(timeout=GENEROUS_S)
    try:
        receipt = await quiet.send("dc", payload="first")
        assert (receipt.status, receipt.node) == ("accepted", "agni")
        await deferToThread(wait_until, lambda: heard == ["first"])
        joined = await deferToThread(bus.records, "dc")
        # Nothing but pings passes for longer than nginx waits.
        await deferToThread(time.sleep, QUIET_S)
        assert (await quiet.send("dc", payload="second")).node == "agni"
        await deferToThread(wait_until, lambda: heard == ["first", "second"])
        assert await deferToThread(bus.records, "dc") == joined
        await deferToThread(bus.kill, "agni")
        receipt = await quiet.send("dc", payload="third")
        assert (receipt.status, receipt.node) == ("accepted", "rushabdev")
        await deferToThread(wait_until, lambda: heard == ["first", "second", "third"])
        assert (await deferToThread(bus.get, "/health"))[0] == 200
    finally:
        await quiet.stop()
