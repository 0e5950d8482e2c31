"""Which hosts an agent knocks at for whoever asks it to: those that its own operator has listed, and its own machine.

An agent that connects to wherever a caller says reaches what the caller does not: the network behind a firewall, the
metadata service of a cloud. So it has a list. Without one there is the machine's own loopback. The list is
``~/.config/trishula/agni.toml``, or the file that ``TRISHULA_TARGETS`` names::

    targets = ["agni.example", "db.internal:5432", "10.1.0.0/16", "[2001:db8::7]:443"]

A host without a port is allowed with each port; a network holds only targets that are given as numbers. Names are
compared as they are written and never resolved to be compared: what a name stands for, others may change.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from trishula.errors import ArgumentInvalid
from trishula.homes import home_directory
from trishula.settings import SettingsInvalid

__all__ = ["LOOPBACK", "Targets", "load_targets"]

_RULE = 'it must be a host, "HOST:PORT" or a network such as "10.1.0.0/16"'

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class _Target:
    """What is allowed: a name or a network, with one port or each."""

    name: str | None
    network: Network | None
    port: int | None


class Targets:
    """What may be connected to.

    Args:
        listed: hosts, hosts with ports, networks; the machine's own loopback comes beside them.
        where: the file to add others to, for refusals.

    Raises:
        ValueError: something listed is none of these.
    """

    def __init__(self, listed: Iterable[str] = (), where: str = "the list of its targets") -> None:
        self._targets = [_parse(text) for text in (*_LOOPBACK, *listed)]
        self._where = where

    def check(self, host: str, port: int) -> None:
        """Refuse a host that is not listed.

        Raises:
            ArgumentInvalid: it is not.
        """
        name, address = host.lower().rstrip("."), _address(host)
        for one in self._targets:
            if one.port not in (None, port):
                continue
            if one.name == name or (address is not None and one.network is not None and address in one.network):
                return
        raise ArgumentInvalid(
            f"the target is {host!r}, port {port}, and this agent asks only its own machine and hosts that its "
            f'operator has listed; the operator can add "{host}:{port}" to {self._where}'
        )


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _parse(text: str) -> _Target:
    try:
        return _Target(None, ipaddress.ip_network(text), None)
    except ValueError:
        pass
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.netloc != text or "@" in text or any(letter.isspace() for letter in text):
        raise ValueError(f"{text!r} is no target; {_RULE}")
    address = _address(host)
    if address is not None:
        return _Target(None, ipaddress.ip_network(address), port)
    return _Target(host.rstrip("."), None, port)


_LOOPBACK = ("localhost", "127.0.0.0/8", "::1")
#: The machine's own.
LOOPBACK = Targets()


def load_targets(environ: Mapping[str, str] | None = None, home: Path | None = None) -> Targets:
    """The list of this host.

    Raises:
        SettingsInvalid: the file can't be read, or is not as it should be.
    """
    environ = os.environ if environ is None else environ
    named = environ.get("TRISHULA_TARGETS")
    if named:
        path = Path(named)
    elif (home := home or home_directory()) is not None:
        path = home / ".config" / "trishula" / "agni.toml"
    else:
        return LOOPBACK
    where = f"targets in {path}"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            raise SettingsInvalid(f"TRISHULA_TARGETS names {path}, and there is no such file") from None
        return Targets((), where)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsInvalid(f"the targets in {path} can't be read: {error}") from None
    for key in values:
        if key != "targets":
            raise SettingsInvalid(f"{path} has the unknown key {key!r}; it holds targets, a list")
    listed = values.get("targets", [])
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise SettingsInvalid(f"{path}: targets must be a list of strings; {_RULE}")
    try:
        return Targets(listed, where)
    except ValueError as error:
        raise SettingsInvalid(f"{path}: {error}") from None
