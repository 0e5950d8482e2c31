"""Real nodes that are linked, on one machine: throw-away keys and ports, and one common file of agents.

::

    with Cluster(tmp_path, ["agni", "rushabdev"]) as cluster:
        token = cluster.token("dc")              # valid at each
        ... cluster["agni"].url ...
        cluster["agni"].kill(); cluster["agni"].restart()     # at the same port: its peers look for it there
        cluster["agni"].freeze(); cluster["agni"].thaw()
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType

from tests.support.namespaces import Host
from tests.support.node import ROOT, NodeProcess
from trishula_drill.ailing import ailing_worker_program
from trishula_drill.dials import Dials
from trishula_drill.proxy import free_port
from trishula_router.settings.check import read_config_file
from trishula_router.settings.crossbar_config import listener_of, options_of, render_config
from trishula_router.settings.linked_configs import Member, linked_configs
from trishula_router.settings.node_key import public_key_of

__all__ = ["Cluster", "LinkedNode"]


class LinkedNode(NodeProcess):
    """One of them; it always listens on the port that its peers know."""

    @property
    def port(self) -> int:
        """Also while it doesn't run."""
        return self._port

    def freeze(self) -> None:
        """Stop all its processes where they are (SIGSTOP): the connections stay, and nothing answers."""
        for process in self.processes():
            process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        for process in self.processes():
            process.send_signal(signal.SIGCONT)


class Cluster:
    """Linked nodes.

    Args:
        directory: gets a folder for each.
        names: of the nodes; a later one connects to the earlier ones.
        options: set in the options of each node, such as ``{"limits": {…}}``.
        reached_at: the port at which links reach the node that listens on a port: a proxy's.
        hosts: where those run that have a host of their own.
        within: a command that runs a node otherwise, such as ``env PYTHONPATH=…``; its process must stay the same.
        aheads_s: how far the wall clocks of nodes are ahead of the machine's; :attr:`dials` set them later.

    Attributes:
        dials: by which the clocks of the nodes in ``aheads_s`` are set.
    """

    def __init__(
        self,
        directory: Path,
        names: Sequence[str],
        *,
        options: dict[str, object] | None = None,
        reached_at: Callable[[int], int] = lambda port: port,
        hosts: Mapping[str, Host] = MappingProxyType({}),
        within: Mapping[str, Sequence[str]] = MappingProxyType({}),
        aheads_s: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self.nodes: dict[str, LinkedNode] = {}
        self.tokens: dict[str, str] = {}
        self.dials: dict[str, Dials] = {}
        members = []
        for name in names:
            state = directory / name
            # As `trishula node keys` makes it, without a process for each.
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            key = public_key_of(state / "crossbar")
            # Not of the range of outgoing connections: a link that awaits its peer could meet itself there.
            members.append(Member(name, free_port(), key, hosts[name].address if name in hosts else "127.0.0.1"))
        configs = linked_configs(read_config_file(ROOT / "config" / "single.json"), members)
        for member in members:
            config = configs[member.name]
            if member.name in hosts:
                listener_of(config)["endpoint"]["interface"] = "0.0.0.0"
            if hosts:
                options_of(config)["trusted_network"] = "network namespaces of this test"
            options_of(config).update(options or {})
            for link in config["workers"][0]["realms"][0].get("rlinks", []):
                endpoint = link["transport"]["endpoint"]
                endpoint["port"] = reached_at(endpoint["port"])
            if member.name in aheads_s:
                self.dials[member.name] = dials = Dials(directory / f"{member.name}.dials")
                dials.ahead_ms = round(aheads_s[member.name] * 1000)
                program = directory / f"{member.name}.worker"
                program.write_text(ailing_worker_program(dials.file))
                program.chmod(0o700)
                config["workers"][0].setdefault("options", {})["python"] = str(program)
            file = directory / f"{member.name}.json"
            file.write_text(render_config(config))
            around = hosts[member.name].within if member.name in hosts else within.get(member.name, ())
            self.nodes[member.name] = LinkedNode(directory / member.name, config=file, port=member.port, within=around)

    def __getitem__(self, name: str) -> LinkedNode:
        return self.nodes[name]

    def token(self, agent: str, operator: bool = False, serve: Sequence[str] = (), *, observer: bool = False) -> str:
        """Make a token that is valid at each node."""
        first, *others = self.nodes.values()
        self.tokens[agent] = first.token(agent, operator, serve, observer=observer)
        for other in others:
            # In one step: a running node must not read half of it.
            copy = other.state_dir / "agents.json.new"
            shutil.copy(first.state_dir / "agents.json", copy)
            os.replace(copy, other.state_dir / "agents.json")
        return self.tokens[agent]

    def start(self) -> None:
        """Start all; each is ready, the links may take a moment more."""
        try:
            for node in self.nodes.values():
                node.spawn()
            for node in self.nodes.values():
                # They take the machine from each other while they start.
                node.url = node.wait_ready(120.0)
        except BaseException:
            self.stop()
            raise

    def wait_linked(self, timeout_s: float = 20.0) -> None:
        """Wait until each has said that its links are up, and that it hears the others over them."""
        names = list(self.nodes)
        for index, name in enumerate(names):
            for earlier in names[:index]:
                self.nodes[name].wait_log(f"the link to {earlier} is up", timeout_s)
        for name in names:
            for other in names:
                if other != name:
                    self.nodes[name].wait_log(f"the node {other} is there", timeout_s)

    def stop(self) -> None:
        """Stop those that run."""
        for node in self.nodes.values():
            node.__exit__(None, None, None)

    def __enter__(self) -> Cluster:
        self.start()
        self.wait_linked()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for node in self.nodes.values():
            node.__exit__(kind, error, at)
