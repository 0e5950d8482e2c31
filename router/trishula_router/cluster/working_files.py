"""The files of a bus's working directory: where each lies, and what it holds.

==========================  ===========================================================================================
path                        what
==========================  ===========================================================================================
``bus.json``                the plan, for a later run
``README.txt``              the next commands
``ca/``                     the bus's certificate authority; its key stays here
``nodes/NODE/``             all of one machine: ``node.json``, ``tls/``, ``state/`` with the node's keys and the file of
                            agents, ``nginx/``, ``systemd/``
``agents/AGENT/``           all of one agent: ``AGENT.toml``, which ``TRISHULA_PROFILE`` names, ``AGENT.token``, and
                            ``files/keys.json``, of :mod:`trishula_router.cluster.file_keys`
==========================  ===========================================================================================

All functions are pure: what is made by chance, keys and tokens, is an argument.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from trishula_router.cluster.authority import SHARED_NAME, Pair
from trishula_router.cluster.file_keys import FILES_FOLDER
from trishula_router.cluster.plan import LOCAL_HOST, Machine, Plan
from trishula_router.settings.check_endpoints import is_loopback
from trishula_router.settings.crossbar_config import Json, listener_of, options_of, render_config
from trishula_router.settings.linked_configs import Member, linked_configs
from trishula_router.templates import SAMPLE, TEMPLATES, render

__all__ = [
    "Place",
    "WorkingFile",
    "agent_files",
    "certificate_hosts",
    "machine_files",
    "node_configs",
    "place_of",
    "shares_agents",
]

_CA_FILE = "tls/ca.crt"
_CERTIFICATE = {"key": "tls/node.key", "certificate": "tls/node.crt"}
_TRUSTED = "its operator said so, with --tls off: nobody else is on the network of the nodes and their agents"


@dataclass(frozen=True, slots=True)
class WorkingFile:
    """A file.

    Attributes:
        path: below the working directory, with slashes.
        text: what it holds.
        is_secret: whether it is its owner's alone, mode 0600.
    """

    path: str
    text: str
    is_secret: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where things are on a machine, for what names them by their whole path.

    Attributes:
        directory: of ``node.json``, ``tls/`` and ``nginx/``.
        state: the node's state directory.
        program: the program ``trishula``.
    """

    directory: Path
    state: Path
    program: Path


def place_of(plan: Plan, machine: Machine, directory: Path, program: Path) -> Place:
    """Where things of a machine are.

    Args:
        plan: of the bus.
        machine: which.
        directory: the working directory, absolute: a bus that is on this machine alone runs in it.
        program: this ``trishula``.
    """
    if plan.is_local:
        own = directory / "nodes" / machine.node
        return Place(own, own / "state", program)
    return Place(Path(SAMPLE["config"]).parent, Path(SAMPLE["state"]), Path(SAMPLE["program"]))


def certificate_hosts(machine: Machine) -> tuple[str, ...]:
    """The names and addresses that the machine's certificate is for."""
    return (machine.host, "localhost", LOCAL_HOST, "::1")


def node_configs(plan: Plan, public_keys: Mapping[str, str]) -> dict[str, Json]:
    """The configuration of each node, by its name.

    Args:
        plan: of the bus.
        public_keys: of each node, by its name.
    """
    base: Json = json.loads((files("trishula_router.config") / "single.json").read_bytes())
    members = [
        Member(one.node, one.port, public_keys[one.node], one.host, _CA_FILE if plan.tls else None)
        for one in plan.machines
    ]
    if len(members) == 1:
        options_of(base)["node"] = members[0].name
        listener_of(base)["endpoint"]["port"] = members[0].port
        configs = {members[0].name: base}
    else:
        # As they are made together, they trust each other with who may join.
        options_of(base)["agents"] = {"shared": True}
        configs = linked_configs(base, members)
    for machine in plan.machines:
        _settle(configs[machine.node], plan, machine)
    return configs


def shares_agents(directory: Path, plan: Plan) -> bool:
    """Whether the nodes, as they were made in that directory, share their files of agents."""
    try:
        config = json.loads((directory / "nodes" / plan.machines[0].node / "node.json").read_bytes())
        return bool(options_of(config)["agents"]["shared"])
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _settle(config: Json, plan: Plan, machine: Machine) -> None:
    """What doesn't come from being linked: where it listens, with what, and whom it believes."""
    options, endpoint = options_of(config), listener_of(config)["endpoint"]
    options["state"] = "state"
    endpoint["interface"] = _interface(machine)
    if plan.proxy_workers:
        options["proxy_workers"] = plan.proxy_workers
    if plan.tls:
        endpoint["tls"] = dict(_CERTIFICATE)
    elif not is_loopback(machine.host):
        options["trusted_network"] = _TRUSTED
    # nginx beside the node, and those beside the others, whose backup it is.
    nearby = [one.host for one in plan.machines if _is_address(one.host)]
    options["proxies"] = list(dict.fromkeys((LOCAL_HOST, "::1", *nearby)))


def _interface(machine: Machine) -> str:
    if is_loopback(machine.host):
        return LOCAL_HOST if machine.host.lower() == "localhost" else machine.host
    return "::" if ":" in machine.host else "0.0.0.0"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def machine_files(
    plan: Plan, machine: Machine, config: Json, place: Place, pair: Pair | None, ca: str
) -> list[WorkingFile]:
    """The files of one machine, but for the node's keys and the file of agents.

    Args:
        plan: of the bus.
        machine: which.
        config: its node's configuration.
        place: where things are on it.
        pair: its certificate; ``None`` without TLS.
        ca: the authority's certificate; empty without TLS.
    """
    made = [WorkingFile("node.json", render_config(config))]
    if pair is not None:
        made += [
            WorkingFile(_CA_FILE, ca),
            WorkingFile(_CERTIFICATE["certificate"], pair.certificate),
            WorkingFile(_CERTIFICATE["key"], pair.key, is_secret=True),
        ]
    values = _values(plan, machine, place)
    made += [WorkingFile(one.target, render(one, values)) for one in TEMPLATES]
    return [replace(one, path=f"nodes/{machine.node}/{one.path}") for one in made]


def _values(plan: Plan, machine: Machine, place: Place) -> dict[str, str]:
    """What the templates name."""
    tls = place.directory / "tls"
    certificate, key = tls / "node.crt", tls / "node.key"
    if not plan.tls:
        # nginx speaks TLS all the same, with what certbot gets for the host.
        certificate = Path("/etc/letsencrypt/live", machine.host, "fullchain.pem")
        key = certificate.with_name("privkey.pem")
    return {
        "node": machine.node,
        "host": machine.host,
        "operator": plan.operator,
        "program": str(place.program),
        "config": str(place.directory / "node.json"),
        "state": str(place.state),
        "upstreams": "\n".join(_upstreams(plan, machine)),
        "upstream_scheme": "https" if plan.tls else "http",
        "upstream_tls": _UPSTREAM_TLS.format(ca=tls / "ca.crt", name=SHARED_NAME) if plan.tls else "",
        "listen_http": _listen(machine, machine.http_port, ""),
        "listen_https": _listen(machine, machine.https_port, " ssl"),
        "to_https": "" if machine.https_port == 443 else f":{machine.https_port}",
        "certificate": str(certificate),
        "certificate_key": str(key),
    }


_UPSTREAM_TLS = """\
    # The nodes' certificates are of the cluster's own authority, and each has this name too.
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate {ca};
    proxy_ssl_name {name};
    proxy_ssl_server_name on;
    proxy_ssl_protocols TLSv1.3;
"""


def _upstreams(plan: Plan, machine: Machine) -> list[str]:
    own = machine.host
    if not is_loopback(own):
        own = "::1" if ":" in own else LOCAL_HOST
    own = f"[{own}]" if ":" in own else own
    others = [one for one in plan.machines if one.node != machine.node]
    return [
        f"    server {own}:{machine.port} max_fails=1 fail_timeout=2s;",
        *(f"    server {one.shown_host}:{one.port} backup;" for one in others),
    ]


def _listen(machine: Machine, port: int, more: str) -> str:
    if is_loopback(machine.host):
        return f"    listen {machine.shown_host}:{port}{more};"
    return f"    listen {port}{more};\n    listen [::]:{port}{more};"


def agent_files(plan: Plan, agent: str, token: str, ca: str) -> list[WorkingFile]:
    """The files of one agent.

    Args:
        plan: of the bus.
        agent: its name.
        token: its token.
        ca: the authority's certificate; empty without TLS.
    """
    lines = [
        f"# How {agent} joins the bus: TRISHULA_PROFILE names this file. Its nodes, the preferred one first.",
        f"url = {json.dumps(list(plan.urls))}",
        f'token_file = "{agent}.token"',
        *(['ca_file = "ca.crt"'] if ca else []),
        "# Without the first sign it goes on by files while no node is there; the folder has the others' keys already.",
        f'# files = "{FILES_FOLDER}"',
    ]
    made = [
        WorkingFile(f"{agent}.toml", "\n".join(lines) + "\n"),
        WorkingFile(f"{agent}.token", token + "\n", is_secret=True),
        *([WorkingFile("ca.crt", ca)] if ca else []),
    ]
    return [replace(one, path=f"agents/{agent}/{one.path}") for one in made]
