"""Which proxy leads to which node: policy, no I/O. How one is used says :mod:`trishula.session.tunnel`.

A proxy is ``http://[USER:PASSWORD@]HOST[:PORT]``, or without the ``http://``; it is asked for a tunnel (CONNECT),
through which a node's own TLS goes unseen. A proxy that was named for TRISHULA (an argument, ``TRISHULA_PROXY``, the
profile) leads to every node; the one that all programs share, ``HTTPS_PROXY``, only to ``wss:`` nodes that are not on
this machine. ``NO_PROXY`` lists hosts that neither is used for: ``example.org`` with all below it, ``10.1.2.3``,
``10.0.0.0/8``, each also with ``:PORT``, or ``*``.
"""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from trishula.contract.texts import is_line

__all__ = ["DIRECT", "Proxies", "Proxy", "parse_proxy"]

_RULE = "a proxy is http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT"
#: What browsers and HTTP libraries take.
_DEFAULT_PORT = 80


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy.

    Attributes:
        host, port: where it listens.
        authorization: what it is told in ``Proxy-Authorization``; never shown.
    """

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_proxy(text: object) -> Proxy:
    """A proxy as it is written.

    Raises:
        ValueError: it is none; the sentence shows nothing of the value but its scheme: there may be a password in it.
    """
    if not isinstance(text, str) or not is_line(text) or any(char.isspace() for char in text):
        raise ValueError(_RULE)
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError:
        raise ValueError(_RULE) from None
    if parts.scheme != "http":
        raise ValueError(f"{_RULE}; one that is spoken to by {parts.scheme}: can't be used")
    if not parts.hostname or port == 0 or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(_RULE)
    return Proxy(parts.hostname, port or _DEFAULT_PORT, _authorization(parts))


def _authorization(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


@dataclass(frozen=True, slots=True)
class Proxies:
    """See the module's docstring.

    Attributes:
        own: the one that was named for TRISHULA.
        shared: the one that all programs share.
        exempt: what neither is used for, as ``NO_PROXY`` lists it.
    """

    own: Proxy | None = None
    shared: Proxy | None = None
    exempt: tuple[str, ...] = ()

    def of(self, url: str) -> Proxy | None:
        """The proxy that leads to a node; ``None``: it is reached without one."""
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        port = parts.port or (443 if parts.scheme == "wss" else 80)
        if any(_is_exempt(host, port, one) for one in self.exempt):
            return None
        if self.own is not None:
            return self.own
        return self.shared if parts.scheme == "wss" and not _is_here(host) else None


#: No proxy at all.
DIRECT = Proxies()


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_exempt(host: str, port: int, entry: str) -> bool:
    entry = entry.strip().lower()
    if entry == "*":
        return True
    name, colon, number = entry.rpartition(":")
    # An IPv6 address has colons of its own, unless it is in brackets.
    if colon and number.isdigit() and (":" not in name or name.startswith("[")):
        if int(number) != port:
            return False
        entry = name
    entry = entry.strip("[]").rstrip(".")
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        domain = entry.removeprefix("*").removeprefix(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
