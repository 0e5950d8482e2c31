"""Linked nodes on one machine, each a ``trishula node start`` in a process of its own: for drills and the demo."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from trishula import connect
from trishula.contract import uris
from trishula.errors import TrishulaError
from trishula.key_file import new_key_file
from trishula.tools.temporary_node import ToolFailed
from trishula_drill.processes import NodeProcess
from trishula_router.agents.file import KEPT_FILE, AgentEntry, AgentsFileError, update_agents
from trishula_router.agents.tokens import TokenEntry, digest_of, key_entry, new_token, with_new_token
from trishula_router.commands.state_dir import agents_file_of
from trishula_router.settings.crossbar_config import Json, options_of, render_config
from trishula_router.settings.linked_configs import Member, linked_configs
from trishula_router.settings.node_key import public_key_of

__all__ = ["LinkedNodes", "ask_status", "make_keys", "make_tokens", "url_of"]

#: A peer that lacked something for longer isn't in step.
_IN_STEP_S = 1.0


def url_of(port: int) -> str:
    """Where clients reach a node of this machine."""
    return f"ws://127.0.0.1:{port}/{uris.WEBSOCKET_PATH}"


def ask_status(port: int, token: str) -> dict[str, Any]:
    """What a node of this machine says of itself.

    Raises:
        ToolFailed: it can't be asked.
    """
    try:
        with connect(url_of(port), token=token) as bus:
            status: dict[str, Any] = bus.request(uris.NODE_STATUS)
    except TrishulaError as error:
        raise ToolFailed(f"the node can't be asked: {error}") from None
    return status


def make_tokens(
    states: Iterable[Path],
    names: Iterable[str],
    operator: str,
    serve: Mapping[str, Iterable[str]] = MappingProxyType({}),
) -> dict[str, str]:
    """Register agents at each node; one that is known gets another token.

    Args:
        states: the nodes' state directories.
        names: of the agents.
        operator: the name of a further one, who may ask for everything.
        serve: the capabilities that new agents may announce, by their names.

    Raises:
        ToolFailed: a file of agents can't be changed, or is lost.
    """
    now_s = time.time()
    made = {name: new_token(name, secrets.token_urlsafe) for name in (*names, operator)}
    entries = {name: TokenEntry(digest_of(token), now_s, None, None) for name, token in made.items()}
    _register(states, entries, operator, serve, now_s)
    return made


def make_keys(states: Iterable[Path], names: Iterable[str], directory: Path) -> dict[str, Path]:
    """Register agents at each node, of which each joins with a key; one that is known gets another key.

    Args:
        states: the nodes' state directories.
        names: of the agents.
        directory: gets the files of the keys, as ``trishula token key`` makes them.

    Returns:
        The file of each.

    Raises:
        ToolFailed: as :func:`make_tokens`.
    """
    now_s = time.time()
    made = {name: directory / f"{name}.key" for name in names}
    entries = {name: key_entry(new_key_file(file).public, now_s, None, None) for name, file in made.items()}
    _register(states, entries, None, {}, now_s)
    return made


def _register(
    states: Iterable[Path],
    entries: Mapping[str, TokenEntry],
    operator: str | None,
    serve: Mapping[str, Iterable[str]],
    now_s: float,
) -> None:
    for state in states:
        state.mkdir(mode=0o700, exist_ok=True)
        try:
            with update_agents(agents_file_of(state), state / KEPT_FILE) as agents:
                for name, entry in entries.items():
                    record = agents.get(name, AgentEntry(serve=tuple(serve.get(name, ()))))
                    kept, _ = with_new_token(record.tokens, entry, now_s)
                    agents[name] = replace(record, tokens=kept, operator=name == operator)
        except AgentsFileError as error:
            raise ToolFailed(str(error)) from None


class LinkedNodes:
    """Nodes that are joined pairwise by links.

    Args:
        directory: gets a state directory and a configuration for each.
        ports: where each listens, by its name.
        options: of all nodes, put into the groups of ``single.json``.
        peer_ports: where its peers reach a node, if not at its own port.

    Attributes:
        states: the state directories.
        ports: as given.
        nodes: the processes.
    """

    def __init__(
        self,
        directory: Path,
        ports: Mapping[str, int],
        *,
        options: Mapping[str, Mapping[str, object]] | None = None,
        peer_ports: Mapping[str, int] | None = None,
    ) -> None:
        self.states = {name: directory / name for name in ports}
        self.ports = ports
        self.nodes = {
            name: NodeProcess(self.states[name], port, directory / f"{name}.errors") for name, port in ports.items()
        }
        self._configs = self._write_configs(directory, options or {}, peer_ports or {})

    def _write_configs(
        self, directory: Path, options: Mapping[str, Mapping[str, object]], peer_ports: Mapping[str, int]
    ) -> dict[str, Path]:
        base: Json = json.loads((files("trishula_router.config") / "single.json").read_bytes())
        for group, values in options.items():
            options_of(base)[group].update(values)
        members = []
        for name, state in self.states.items():
            state.mkdir(mode=0o700, exist_ok=True)
            members.append(Member(name, peer_ports.get(name, self.ports[name]), public_key_of(state / "crossbar")))
        written = {}
        for name, config in linked_configs(base, members).items():
            written[name] = directory / f"{name}.json"
            written[name].write_text(render_config(config))
        return written

    def spawn(self, name: str) -> None:
        """Start one, and don't wait."""
        self.nodes[name].spawn(self._configs[name])

    def wait_ready(self) -> None:
        """Wait until each listens.

        Raises:
            ToolFailed: one doesn't come to it.
        """
        for node in self.nodes.values():
            node.wait_ready()

    def check(self) -> None:
        """Raise if one has ended by itself.

        Raises:
            ToolFailed: one has.
        """
        for name, node in self.nodes.items():
            if node.has_ended():
                raise ToolFailed(f"the node {name} ended by itself")

    def url(self, order: Sequence[str]) -> str:
        """What clients are given that prefer the nodes in this order."""
        return ",".join(url_of(self.ports[name]) for name in order)

    def out_of_step(self, token: str) -> list[str]:
        """Why they are not all in step with each other: a line for each that sees another one not so; else none."""
        found = []
        for name, port in self.ports.items():
            try:
                peers = ask_status(port, token)["peers"]
            except ToolFailed as error:
                found.append(f"{name}: {error}")
                continue
            found += [f"{name}: {_shown(peer)}" for peer in peers if not _is_in_step(peer)]
        return found

    def durable_everywhere(self, token: str) -> dict[str, int] | None:
        """How long each journal was a moment ago, if by now every node holds all of that; else ``None``."""
        marks = {name: int(ask_status(port, token)["high_water"]) for name, port in self.ports.items()}
        # Asked again: each question is a session, and so a record.
        told = [ask_status(port, token) for port in self.ports.values()]
        is_durable = all(peer["copied"] >= marks[peer["node"]] for status in told for peer in status["peers"])
        return marks if is_durable else None

    def kill(self) -> None:
        """Leave none behind."""
        for node in self.nodes.values():
            node.kill()


def _is_in_step(peer: Mapping[str, Any]) -> bool:
    return bool(peer["state"] == "up" and peer["lag_s"] is not None and peer["lag_s"] < _IN_STEP_S)


def _shown(peer: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in peer.items())
