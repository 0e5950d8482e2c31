"""What a bus consists of, as a person names it: its nodes and their machines, its agents, and whether it speaks TLS.

``trishula init`` keeps the plan in the working directory (``bus.json``), so that a later run knows what was made.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from trishula.contract.addresses import AGENT_RULE, is_agent_name
from trishula.contract.uris import DEFAULT_PORT, WEBSOCKET_PATH
from trishula_router.settings.check_endpoints import is_loopback

__all__ = [
    "LOCAL_HOST",
    "Asked",
    "Machine",
    "Plan",
    "PlanFault",
    "parse_agents",
    "parse_machine",
    "parse_plan",
    "plan_of",
    "refuse_changes",
]

LOCAL_HOST = "127.0.0.1"
#: Names that nobody can have (RFC 2606): they stand in examples.
_PLACEHOLDER = ".example"
_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)\Z")
_MOST_PORT = 65_535
_VERSION = 1


class PlanFault(Exception):
    """The plan can't be carried out; the text names what stands there, the rule, and the way out."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine with a node.

    Attributes:
        node: the node's name.
        host: the name or address under which agents and peers reach the machine.
        port: where the node listens.
        http_port: where nginx listens for those who forgot the s of https.
        https_port: where nginx listens.
    """

    node: str
    host: str
    port: int = DEFAULT_PORT
    http_port: int = 80
    https_port: int = 443

    @property
    def shown_host(self) -> str:
        """The host as it stands in a URL."""
        return f"[{self.host}]" if ":" in self.host else self.host


@dataclass(frozen=True, slots=True)
class Plan:
    """A bus.

    Attributes:
        machines: those with nodes, in the agents' order of preference.
        agents: who may join; the operator is not among them.
        operator: the name of the agent that may ask for everything.
        tls: whether the nodes speak TLS, with certificates of the bus's own authority.
        behind_nginx: whether agents come in at nginx, and not at the nodes' own ports.
        proxy_workers: how many processes of each node do the work of TLS.
    """

    machines: tuple[Machine, ...]
    agents: tuple[str, ...]
    operator: str
    tls: bool
    behind_nginx: bool
    proxy_workers: int = 0

    @property
    def is_local(self) -> bool:
        """Whether all nodes are on this machine alone, which is how one tries a bus."""
        return all(is_loopback(machine.host) for machine in self.machines)

    @property
    def urls(self) -> tuple[str, ...]:
        """Where agents find the bus, in the order of preference."""
        if self.behind_nginx:
            return tuple(
                f"wss://{machine.shown_host}{'' if machine.https_port == 443 else f':{machine.https_port}'}"
                f"/{WEBSOCKET_PATH}"
                for machine in self.machines
            )
        scheme = "wss" if self.tls else "ws"
        return tuple(f"{scheme}://{one.shown_host}:{one.port}/{WEBSOCKET_PATH}" for one in self.machines)

    def render(self) -> str:
        """The text of ``bus.json``."""
        told = asdict(self)
        if not self.proxy_workers:
            # A release that knows none of them reads it.
            del told["proxy_workers"]
        return json.dumps({"version": _VERSION, **told}, indent=4) + "\n"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a further run of ``trishula init`` asks for, as a :class:`Plan` has it; ``None`` and ``False``: nothing."""

    operator: str | None
    tls: str | None
    behind_nginx: bool
    http_port: int | None
    https_port: int | None
    proxy_workers: int | None


def refuse_changes(directory: Path, known: Plan, machines: Sequence[Machine], asked: Asked) -> None:
    """Keys and addresses of a bus are on its machines already: what was made is changed by hand, or made anew.

    Raises:
        PlanFault: what is asked for would change it.
    """
    there = [(machine.node, machine.host, machine.port) for machine in known.machines]
    named = [(machine.node, machine.host, machine.port) for machine in machines]
    first = known.machines[0]
    changed = {
        "--cluster": bool(named) and named != there,
        "--operator": asked.operator not in (None, known.operator),
        "--tls": asked.tls is not None and (asked.tls == "own-ca") != known.tls,
        "--behind-nginx": asked.behind_nginx and not known.behind_nginx,
        "--http-port": asked.http_port not in (None, first.http_port),
        "--https-port": asked.https_port not in (None, first.https_port),
        "--proxies": asked.proxy_workers not in (None, known.proxy_workers),
    }
    if which := [option for option, is_changed in changed.items() if is_changed]:
        nodes = " ".join(f"{node}={host}:{port}" for node, host, port in there)
        raise PlanFault(
            f"{directory} was made otherwise ({nodes}, TLS {'on' if known.tls else 'off'}), and {', '.join(which)} "
            "would change it: edit its files, or make another directory"
        )


def parse_machine(text: str) -> Machine:
    """A machine of ``NAME=HOST`` or ``NAME=HOST:PORT``; an IPv6 address with a port is ``[ADDRESS]:PORT``.

    Raises:
        PlanFault: it is none.
    """
    name, found, where = text.partition("=")
    if not found:
        raise PlanFault(f"{text!r} must be a node and its machine, NAME=HOST or NAME=HOST:PORT, such as agni=10.0.0.5")
    if not is_agent_name(name):
        raise PlanFault(f"the node's name in {text!r} must be {AGENT_RULE}")
    host, port_text = _host_and_port(where)
    # The length first: int() takes its time with a very long one.
    if not re.fullmatch("[0-9]{1,5}", port_text) or not 1 <= int(port_text) <= _MOST_PORT:
        raise PlanFault(f"the port in {text!r} must be from 1 to {_MOST_PORT}")
    if host.lower().endswith(_PLACEHOLDER):
        raise PlanFault(f"the host in {text!r} is made up, for examples: put the name or address of your machine there")
    if not _is_host(host):
        raise PlanFault(
            f"the host in {text!r} must be a host's name, of a-z, 0-9, '-' and dots, or an IP address (of IPv6 with a "
            "port: [ADDRESS]:PORT)"
        )
    if _is_address(host) and ipaddress.ip_address(host).is_unspecified:
        raise PlanFault(f"the host in {text!r} must be the address under which others reach the machine")
    return Machine(name, host, int(port_text))


def _host_and_port(where: str) -> tuple[str, str]:
    default = str(DEFAULT_PORT)
    if where.startswith("["):
        host, _, port = where[1:].partition("]")
        return host, port.removeprefix(":") if port else default
    if where.count(":") > 1:
        # An IPv6 address without a port.
        return where, default
    host, found, port = where.partition(":")
    return host, port if found else default


def _is_address(host: str) -> bool:
    try:
        # Not with a zone (fe80::1%eth0): others reach nothing by it, and any letters may stand there.
        return "%" not in host and bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def _is_host(host: str) -> bool:
    labels = host.split(".")
    # Digits and dots alone are an address that is mistyped.
    is_named = not labels[-1].isdecimal() and len(host) <= 253
    return _is_address(host) or (is_named and all(_LABEL.match(label) for label in labels))


def parse_agents(text: str, operator: str) -> tuple[str, ...]:
    """The agents of ``dc,agni,rushabdev``.

    Raises:
        PlanFault: one is no agent's name.
    """
    names = tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))
    for name in (*names, operator):
        if not is_agent_name(name):
            raise PlanFault(f"{name!r} is no agent's name: that is {AGENT_RULE}; several go with commas between")
    if operator in names:
        raise PlanFault(f"{operator} is the operator's name; name the operator otherwise with --operator")
    return names


def plan_of(
    machines: Sequence[Machine],
    agents: Sequence[str],
    operator: str,
    *,
    tls: bool,
    behind_nginx: bool,
    http_port: int | None = None,
    https_port: int | None = None,
    proxy_workers: int = 0,
) -> Plan:
    """The plan of a bus.

    Args:
        machines: those with nodes; none: one node, ``single``, on this machine.
        agents: who may join.
        operator: who may ask for everything.
        tls: whether the nodes speak TLS.
        behind_nginx: whether agents come in at nginx.
        http_port: nginx's port for http; ``None``: 80, or 8080 on this machine, where nobody is root.
        https_port: nginx's port for https; ``None``: 443, or 8443 on this machine.
        proxy_workers: how many processes of each node do the work of TLS.

    Raises:
        PlanFault: two nodes have one name, or two programs one place to listen, or a node can't reach another one.
    """
    listed = tuple(machines) or (Machine("single", LOCAL_HOST),)
    local = all(is_loopback(machine.host) for machine in listed)
    ports = (http_port or (8080 if local else 80), https_port or (8443 if local else 443))
    placed: list[Machine] = []
    for machine in listed:
        for other in placed:
            if other.node == machine.node:
                raise PlanFault(f"two nodes have the name {machine.node}; each must have its own")
            if (other.host.lower(), other.port) == (machine.host.lower(), machine.port):
                raise PlanFault(
                    f"{other.node} and {machine.node} can't both listen on {machine.shown_host}:{machine.port}; give "
                    f"one of them another port: {machine.node}={machine.shown_host}:{machine.port + 1}"
                )
        # Two on one machine have an nginx each, where one tries them.
        here = sum(other.host.lower() == machine.host.lower() for other in placed)
        placed.append(Machine(machine.node, machine.host, machine.port, ports[0] + here, ports[1] + here))
    if not local:
        _refuse_loopback(placed)
    if behind_nginx or http_port or https_port:
        _refuse_shared_ports(placed)
    return Plan(tuple(placed), tuple(agents), operator, tls, behind_nginx, proxy_workers)


def _refuse_loopback(machines: Sequence[Machine]) -> None:
    for machine in machines:
        if is_loopback(machine.host):
            other = next(one for one in machines if not is_loopback(one.host))
            raise PlanFault(
                f"{machine.node} is on {machine.host}, which {other.node} ({other.host}) can't reach: name the address "
                "under which it is reached from there"
            )


def _refuse_shared_ports(machines: Sequence[Machine]) -> None:
    """nginx has a port for http and one for https, on each machine that has a node, which has one of its own."""
    nginx: set[tuple[str, int]] = set()
    for machine in machines:
        host = machine.host.lower()
        for port in (machine.http_port, machine.https_port):
            if (host, port) in nginx:
                raise PlanFault(
                    f"nginx can't listen on port {port} of {machine.host} for both http and https; give it others with "
                    "--http-port and --https-port"
                )
            nginx.add((host, port))
    for machine in machines:
        if (machine.host.lower(), machine.port) in nginx:
            raise PlanFault(
                f"nginx and the node {machine.node} can't both listen on {machine.shown_host}:{machine.port}; give one "
                "of them another port, the node by NODE=HOST:PORT, nginx by --http-port and --https-port"
            )


def parse_plan(text: str) -> Plan:
    """The plan in a ``bus.json``.

    Raises:
        PlanFault: it is none that this release reads.
    """
    try:
        raw = json.loads(text)
        version = raw.pop("version")
        if version != _VERSION:
            raise PlanFault(
                f"it is of version {version}, and this release reads version {_VERSION}: use a newer release"
            )
        machines = tuple(Machine(**one) for one in raw.pop("machines"))
        plan = Plan(machines=machines, **{**raw, "agents": tuple(raw["agents"])})
    except (ValueError, TypeError, KeyError, AttributeError):
        raise PlanFault(
            "it doesn't say what was made here; put it back from a backup, or use another directory"
        ) from None
    return plan
