"""The check of where a transport listens: what passes here can be listened on by ``trishula node start``.

Crossbar knows more kinds of endpoints than agents can reach (Unix sockets, a port out of a range, strings of Twisted);
for the transport at which agents or peers come in there is one: TCP, on a port that is known before the node starts. A
port may be the name of an environment variable, ``$PORT``, as Crossbar has it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trishula_router.settings.certificates import check_tls
from trishula_router.settings.faults import MISSING, WHOLE, Fault

__all__ = ["OPEN_RULE", "check_endpoint", "is_loopback", "port_of"]

_KEYS = ("type", "version", "port", "portrange", "shared", "interface", "backlog", "tls", "user_timeout")
_VARIABLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)\Z")
_MOST = 65_535
#: Of what is told, and believed, without TLS where others may listen in.
OPEN_RULE = (
    "without TLS others can read and change what passes there: give the endpoint tls, or let it listen on 127.0.0.1 "
    "alone, behind a proxy that speaks TLS; or, if nobody else is on that network, write so into our component's "
    'extra, "trusted_network": "why it is to be trusted"'
)


def port_of(raw: object, environ: Mapping[str, str]) -> int | str:
    """The port that an endpoint names, or what is wrong with it.

    Args:
        raw: a number, or ``$NAME`` of a variable that holds one.
        environ: the variables.
    """
    if _is_count(raw, 1):
        assert isinstance(raw, int)
        return raw
    rule = f'it must be a port from 1 to {_MOST}, or an environment variable that holds one, such as "$PORT"'
    found = _VARIABLE.match(raw) if isinstance(raw, str) else None
    if found is None:
        return rule
    text = environ.get(found[1])
    if text is None:
        return f"{rule}, and {found[1]} is not set here"
    if not (text.isascii() and text.isdecimal() and _is_count(int(text[:6]), 1)):
        return f"{rule}, and {found[1]} is {text[:40]!r}"
    return int(text)


def is_loopback(host: object) -> bool:
    """Whether a host is this machine alone, by its text; a name other than ``localhost`` may be anything."""
    if not isinstance(host, str):
        return False
    try:
        address = ipaddress.ip_address(host.strip().removeprefix("[").removesuffix("]"))
    except ValueError:
        return host.strip().lower() == "localhost"
    return getattr(address, "ipv4_mapped", None) is None and address.is_loopback


def check_endpoint(
    endpoint: object, path: str, *, base: Path, environ: Mapping[str, str], for_agents: bool, trusted: bool = True
) -> Iterator[Fault]:
    """Every fault of the endpoint of a transport that agents or peers come in at.

    Args:
        endpoint: what stands there.
        path: where.
        base: the directory that relative names of files start from.
        environ: the variables that it may name.
        for_agents: whether agents come in there.
        trusted: whether it may be reached from elsewhere without TLS.
    """
    if not isinstance(endpoint, dict):
        yield Fault(path, endpoint, "it must be a map")
        return
    if endpoint.get("type", MISSING) != "tcp":
        rule = 'it must be "tcp": clients and peers reach a node at a host and a port'
        yield Fault(f"{path}.type", endpoint.get("type", MISSING), rule)
        return
    for key in endpoint:
        if key not in _KEYS:
            yield Fault(f"{path}.{key}", endpoint[key], f"it is an unknown key; the known keys are {', '.join(_KEYS)}")
    if "portrange" in endpoint:
        rule = "it must go: clients must know the port; name one in port, or take a free one with --port 0"
        yield Fault(f"{path}.portrange", endpoint["portrange"], rule)
    port = port_of(endpoint.get("port", MISSING), environ)
    if isinstance(port, str):
        yield Fault(f"{path}.port", endpoint.get("port", MISSING), port)
    yield from _check_details(endpoint, path)
    interface = endpoint.get("interface", MISSING)
    if not trusted and "tls" not in endpoint and not is_loopback(interface):
        yield Fault(
            f"{path}.interface", interface, f"it must be an address of loopback, such as 127.0.0.1: {OPEN_RULE}"
        )
    if "tls" in endpoint:
        yield from check_tls(endpoint["tls"], f"{path}.tls", base, for_agents=for_agents)
        if endpoint.get("version") == 6:
            rule = "it must go: Crossbar has no TLS with it; an interface that is an IPv6 address is enough"
            yield Fault(f"{path}.version", WHOLE, rule)


def _check_details(endpoint: dict[str, Any], path: str) -> Iterator[Fault]:
    if endpoint.get("version", 4) not in (4, 6) or isinstance(endpoint.get("version"), bool | float):
        yield Fault(f"{path}.version", endpoint["version"], "it must be 4 or 6")
    interface = endpoint.get("interface", "")
    if not isinstance(interface, str) or "\0" in interface:
        yield Fault(f"{path}.interface", interface, "it must be an address of this machine, or empty for all of them")
    if not isinstance(endpoint.get("shared", False), bool):
        yield Fault(f"{path}.shared", endpoint["shared"], "it must be true or false")
    for key, least in (("backlog", 1), ("user_timeout", 0)):
        if key in endpoint and not _is_count(endpoint[key], least):
            yield Fault(f"{path}.{key}", endpoint[key], f"it must be a whole number from {least} to {_MOST}")


def _is_count(raw: object, least: int) -> bool:
    return isinstance(raw, int) and not isinstance(raw, bool) and least <= raw <= _MOST
