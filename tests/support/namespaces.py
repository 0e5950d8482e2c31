"""Hosts for tests: network namespaces of this machine on one switch, whose links can be cut for real. Root only.

::

    with Hosts(["dc", "agni", "rushabdev"]) as hosts:
        subprocess.Popen([*hosts["dc"].within, "ping", hosts["agni"].address])
        hosts.cut("dc", "agni")       # a black hole: packets between the two vanish, nobody is told
        hosts.mend("dc", "agni")
        hosts.unplug("agni")          # its link is down: the host itself knows
        hosts.plug_in("agni")

The machine's own network is left alone: the hosts reach each other and nothing else, and nothing else reaches them.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

__all__ = ["Host", "Hosts", "why_not"]

_TOOLS = ("ip", "iptables")


@dataclass(frozen=True, slots=True)
class Host:
    """One of them.

    Attributes:
        namespace: its name for ``ip netns``.
        address: at which the others reach it.
    """

    namespace: str
    address: str

    @property
    def within(self) -> tuple[str, ...]:
        """The command that runs another one on this host; the process id stays the same."""
        return ("ip", "netns", "exec", self.namespace)


class Hosts:
    """Hosts that see each other until told otherwise.

    Args:
        names: of the hosts.
    """

    def __init__(self, names: Sequence[str]) -> None:
        # Another run on this machine has its own.
        run = secrets.token_hex(3)
        self._switch = f"trishula-{run}-switch"
        self._hosts = {
            name: Host(f"trishula-{run}-{name}", f"10.77.0.{number}") for number, name in enumerate(names, start=1)
        }

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def __enter__(self) -> Hosts:
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._remove()

    def _make(self) -> None:
        _run("ip", "netns", "add", self._switch)
        _run("ip", "-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", self._switch, "link", "set", "bridge", "up")
        for number, host in enumerate(self._hosts.values()):
            port = f"port{number}"
            _run("ip", "netns", "add", host.namespace)
            _run("ip", "-n", self._switch, "link", "add", port, "type", "veth", "peer", "eth0", "netns", host.namespace)
            _run("ip", "-n", self._switch, "link", "set", port, "master", "bridge", "up")
            _run("ip", "-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _run("ip", "-n", host.namespace, "link", "set", device, "up")

    def _remove(self) -> None:
        # The veth pairs and the rules go with the namespaces.
        for namespace in (self._switch, *(host.namespace for host in self._hosts.values())):
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)

    def cut(self, one: str, other: str) -> None:
        """Drop every packet between two hosts, in both directions."""
        self._filter("--append", one, other)

    def mend(self, one: str, other: str) -> None:
        """Let them through again."""
        self._filter("--delete", one, other)

    def _filter(self, verb: str, one: str, other: str) -> None:
        # Where they arrive: who sends learns of a packet that its own machine drops.
        for here, there in ((one, other), (other, one)):
            host, address = self._hosts[here], self._hosts[there].address
            _run(*host.within, "iptables", "--wait", verb, "INPUT", "--source", address, "--jump", "DROP")

    def unplug(self, name: str) -> None:
        """Take a host's link down; it still reaches itself over loopback."""
        _run("ip", "-n", self._hosts[name].namespace, "link", "set", "eth0", "down")

    def plug_in(self, name: str) -> None:
        """Bring it up again."""
        _run("ip", "-n", self._hosts[name].namespace, "link", "set", "eth0", "up")


def why_not() -> str | None:
    """Why there can be no such hosts here; ``None`` if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        return f"not installed: {', '.join(missing)} (apt-get install iproute2 iptables)"
    try:
        with Hosts(["one", "other"]) as hosts:
            hosts.cut("one", "other")
    except OSError as error:
        return str(error)
    return None


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
