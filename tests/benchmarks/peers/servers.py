"""The systems that are measured: each is started on free ports of loopback, on a folder of its own, and ended.

An *address* is what a worker's connection needs (JSON): ``port``; of Crossbar also ``realm``; of TRISHULA ``url``,
``tokens`` by agent, ``copies``, ``files``, where agents keep theirs, and ``urls`` of agents that are elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from tests.support.cluster import Cluster
from tests.support.node import NodeProcess
from trishula_drill.proxy import free_port
from trishula_router.settings.crossbar_config import options_of

__all__ = ["CONNECTIONS", "SYSTEMS", "CantStart", "Server", "System", "wait_listening"]

#: Of the sender.
CONNECTIONS = 3
_READY_WITHIN_S = 60.0
#: Debian's program of that name becomes another user, and forgets the environment.
_RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"


class CantStart(Exception):
    """A system isn't here, or does not start; the sentence says which and why."""


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs."""

    address: dict[str, Any]
    processes: list[psutil.Process]

    def cpu_s(self) -> float:
        """What all its processes have spent on the processor."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)


@dataclass(frozen=True, slots=True)
class System:
    """What is measured.

    Attributes:
        name: in the table.
        confirms: what a confirmation of it means.
        start: starts it on a folder, for as long as the block lasts.
        version: of what is installed; :class:`CantStart` if nothing is.
        clients: what its workers need from the package index; nothing if they run in the environment of the tests.
    """

    name: str
    confirms: str
    start: Callable[[Path], contextlib.AbstractContextManager[Server]]
    version: Callable[[], str]
    clients: str = ""


def _program(*names: str) -> str:
    for name in names:
        if (path := shutil.which(name)) is not None:
            return path
    raise CantStart(f"{Path(names[-1]).name} is not installed")


def _said_version(command: Sequence[str]) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    numbers = [word.strip("v=,") for word in said.replace("=", " ").split() if word.strip("v=,")[:1].isdigit()]
    return numbers[0] if numbers else "of an unknown version"


@contextmanager
def _running(
    command: Sequence[str], folder: Path, port: int, environ: Mapping[str, str] | None = None
) -> Iterator[list[psutil.Process]]:
    """A program, from when it listens on its port; it and all that it started are killed in the end."""
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environ or {})},
            start_new_session=True,
        )
    family = [psutil.Process(process.pid)]
    try:
        wait_listening(process, port, log)
        family += family[0].children(recursive=True)
        yield family
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            family += [child for child in family[0].children(recursive=True) if child not in family]
        # What it has stored is thrown away, so there is nothing to put in order. First what it started, so that
        # a script that waits for its server takes note of that server's end.
        for member in reversed(family):
            if member is family[0]:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.5 if len(family) > 1 else 0.0)
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait()


def wait_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until a program listens. Raises :class:`CantStart` with the last line of its log if it doesn't."""
    until_s = time.monotonic() + _READY_WITHIN_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        if process.poll() is not None or time.monotonic() > until_s:
            said = log.read_text(errors="replace").strip().splitlines()
            what = "ended" if process.poll() is not None else f"did not listen within {_READY_WITHIN_S:.0f} s"
            raise CantStart(f"{Path(process.args[0]).name} {what}: {said[-1] if said else 'it said nothing'}")  # type: ignore[index,arg-type]
        time.sleep(0.05)


@contextmanager
def _redis(folder: Path) -> Iterator[Server]:
    port = free_port()
    options = {"bind": "127.0.0.1", "port": str(port), "dir": str(folder), "appendonly": "yes", "appendfsync": "always"}
    # Neither a snapshot nor a rewrite of the file comes in between.
    options |= {"save": "", "auto-aof-rewrite-percentage": "0"}
    flat = [word for key, value in options.items() for word in (f"--{key}", value)]
    with _running([_program("redis-server"), *flat], folder, port) as processes:
        yield Server({"port": port}, processes)


@contextmanager
def _nats(folder: Path) -> Iterator[Server]:
    port = free_port()
    command = [_program("nats-server"), "--addr", "127.0.0.1", "--port", str(port)]
    with _running([*command, "--jetstream", "--store_dir", str(folder)], folder, port) as processes:
        yield Server({"port": port}, processes)


@contextmanager
def _rabbitmq(folder: Path) -> Iterator[Server]:
    port, names, between = free_port(), free_port(), free_port()
    command = _program(_RABBITMQ, "rabbitmq-server")
    (folder / "rabbitmq.conf").write_text("loopback_users.guest = true\nlog.console = true\n")
    (folder / "plugins").write_text("[].\n")
    environ = {
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"beside{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(between),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    # Erlang's daemon of names would stay behind: this one is ours, at a port of its own.
    (folder / "epmd").mkdir()
    with (
        _running([_program("epmd"), "-port", str(names)], folder / "epmd", names, {"ERL_EPMD_ADDRESS": "127.0.0.1"}),
        _running([command], folder, port, environ) as processes,
    ):
        yield Server({"port": port}, processes)


@contextmanager
def _crossbar(folder: Path) -> Iterator[Server]:
    port = free_port()
    may = {"call": True, "register": True, "publish": True, "subscribe": True}
    role = {"name": "anybody", "permissions": [{"uri": "", "match": "prefix", "allow": may}]}
    transport = {
        "type": "web",
        "endpoint": {"type": "tcp", "port": port, "interface": "127.0.0.1"},
        "paths": {
            "/": {"type": "json", "value": {}},
            "ws": {
                "type": "websocket",
                "serializers": ["msgpack"],
                # As our node has it: a frame leaves at once.
                "options": {"tcp_nodelay": True},
                "auth": {"anonymous": {"type": "static", "role": "anybody"}},
            },
        },
    }
    worker = {"type": "router", "realms": [{"name": "plain", "roles": [role]}], "transports": [transport]}
    (folder / "config.json").write_text(json.dumps({"version": 2, "workers": [worker]}))
    command = [str(Path(sys.executable).with_name("crossbar")), "start", "--cbdir", str(folder)]
    with _running(command, folder, port) as processes:
        yield Server({"port": port, "realm": "plain"}, processes)


def _agents() -> list[str]:
    return ["taker", *(f"sender{index}" for index in range(CONNECTIONS))]


@contextmanager
def _trishula(folder: Path) -> Iterator[Server]:
    with NodeProcess(folder / "state") as node:
        tokens = {name: node.token(name) for name in _agents()}
        address = {"url": node.url, "tokens": tokens, "copies": None, "files": str(folder / "agents")}
        yield Server(address, node.processes())


@contextmanager
def _trishula_linked(folder: Path) -> Iterator[Server]:
    with Cluster(folder, ["agni", "rushabdev"]) as cluster:
        tokens = {name: cluster.token(name) for name in _agents()}
        address = {"url": cluster["agni"].url, "tokens": tokens, "copies": 2, "files": str(folder / "agents")}
        yield Server(address, [process for node in cluster.nodes.values() for process in node.processes()])


#: Each sender is at a cell of its own, and whoever takes their messages at a fourth one.
_CELL_OF = {"taker": "north", "sender0": "south", "sender1": "east", "sender2": "west"}


@contextmanager
def _trishula_cells(folder: Path) -> Iterator[Server]:
    port = free_port()
    options = ("--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no")
    with contextlib.ExitStack() as ends:
        redis = ends.enter_context(_running([_program("redis-server"), *options], folder, port))
        nodes = {cell: _cell(folder, cell, f"redis://127.0.0.1:{port}/0") for cell in _CELL_OF.values()}
        tokens = {name: nodes["north"].token(name) for name in _agents()}
        for cell, node in nodes.items():
            ends.callback(node.stop)
            if cell != "north":
                shutil.copy(nodes["north"].state_dir / "agents.json", node.state_dir)
            node.spawn()
        urls = {cell: node.wait_ready() for cell, node in nodes.items()}
        address = {"url": urls["north"], "tokens": tokens, "copies": None, "files": str(folder / "agents")}
        address["urls"] = {name: urls[cell] for name, cell in _CELL_OF.items()}
        yield Server(address, redis + [process for node in nodes.values() for process in node.processes()])


def _cell(folder: Path, name: str, redis: str) -> NodeProcess:
    """A node that is a cell by itself; it is not started yet."""
    state = folder / name
    state.mkdir(mode=0o700)
    (state / "cells.key").touch(mode=0o600)
    (state / "cells.key").write_text("k" * 64 + "\n")
    config = json.loads((resources.files("trishula_router.config") / "single.json").read_text())
    options = options_of(config)
    options |= {"node": name, "state": str(state), "cells": {"name": name, "redis": redis, "key_file": "cells.key"}}
    file = folder / f"{name}.json"
    file.write_text(json.dumps(config))
    return NodeProcess(state, config=file)


SYSTEMS: dict[str, System] = {
    "redis": System(
        "Redis Streams",
        "fsynced (appendfsync always)",
        _redis,
        lambda: _said_version([_program("redis-server"), "--version"]),
        "redis[hiredis]",
    ),
    "nats": System(
        "NATS JetStream",
        "in a file, not fsynced (by default every 2 min)",
        _nats,
        lambda: _said_version([_program("nats-server"), "--version"]),
        "nats-py",
    ),
    "rabbitmq": System(
        "RabbitMQ quorum",
        "fsynced (quorum queue with one member)",
        _rabbitmq,
        lambda: _said_version(["dpkg-query", "--show", "rabbitmq-server"]) if _program(_RABBITMQ) else "",
        "pika",
    ),
    "crossbar": System("plain Crossbar", "routed, nothing is stored", _crossbar, lambda: version("crossbar")),
    "trishula": System(
        "TRISHULA", "fsynced, and remembered by the receiver", _trishula, lambda: version("trishula-bus")
    ),
    "trishula-2": System(
        "TRISHULA, 2 copies",
        "fsynced by two nodes, and remembered by the receiver",
        _trishula_linked,
        lambda: version("trishula-bus"),
    ),
    "trishula-cells": System(
        "TRISHULA, 4 cells",
        "fsynced where it is sent; then it goes by Redis, and is fsynced and remembered there too",
        _trishula_cells,
        lambda: version("trishula-bus"),
    ),
}
