"""Where notifications may go: a webhook's URL is chosen by a stranger, and must not lead into our own network.

A URL is https, or http where its address is in a network that an operator allowed. Its host is resolved once for each
attempt; if any address is not a public one, and not in an allowed network, nothing is sent. What is connected to is an
address that was looked at, so the name can't change its meaning in between. No I/O here: the addresses are arguments.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from trishula.contract.texts import show_value
from trishula.errors import ArgumentInvalid

__all__ = ["Networks", "Target", "choose_address", "networks_of", "target_of"]

Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]
_LONGEST_URL = 2048


@dataclass(frozen=True, slots=True)
class Target:
    """Where a webhook is.

    Attributes:
        scheme: ``https`` or ``http``.
        host: the name or address.
        port: the port.
        path: path and query, as they are asked for.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host and port as a URL has them, without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


_PORTS = {"https": 443, "http": 80}


def networks_of(texts: Sequence[str]) -> Networks:
    """Networks, from texts like ``10.0.0.0/8``.

    Raises:
        ValueError: one of them is none; the sentence names it.
    """
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError:
            raise ValueError(f"{text!r} is no network; write one like 10.0.0.0/8 or fd00::/8") from None
    return found


def target_of(url: str) -> Target:
    """Where a URL leads.

    Raises:
        ArgumentInvalid: it is no URL that a notification may go to; the sentence says why.
    """
    shown = show_value(url)
    if len(url) > _LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise ArgumentInvalid(f"the webhook's url is {shown}; it must be printable ASCII of at most {_LONGEST_URL}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ArgumentInvalid(f"the webhook's url is {shown}, which is no URL") from None
    if parts.scheme not in _PORTS or not host:
        raise ArgumentInvalid(f"the webhook's url is {shown}; it must begin with https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise ArgumentInvalid("the webhook's url has a user or a password in it; give credentials as authentication")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, _PORTS[parts.scheme] if port is None else port, path)


def choose_address(target: Target, addresses: Sequence[str], allowed: Networks) -> str:
    """The address to connect to.

    Args:
        target: what was resolved.
        addresses: all that its host resolved to.
        allowed: networks that operators allowed beside the public ones.

    Raises:
        ArgumentInvalid: nothing may be sent there; the sentence says why.
    """
    if not addresses:
        raise ArgumentInvalid(f"the webhook's host {target.host} has no address")
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if any(address.version == network.version and address in network for network in allowed):
            continue
        if not address.is_global or address.is_multicast or _embeds_another(address):
            raise ArgumentInvalid(
                f"the webhook's host {target.host} is at {text}, which is not on the public internet; an operator of "
                "the door can allow its network by --push-to"
            )
        if target.scheme != "https":
            raise ArgumentInvalid(f"the webhook at {target.host} must be https: notifications are not for everybody")
    return addresses[0]


def _embeds_another(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an IPv6 address leads on to an IPv4 address (6to4, Teredo, NAT64), which nobody has looked at.

    A site's own addresses of old are refused here as well: Python takes some of these networks for public ones.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return False
    return (
        address.sixtofour is not None
        or address.teredo is not None
        or any(address in network for network in _NOT_PUBLIC)
    )


#: NAT64 of all and of a site, addresses of IPv4 in IPv6 (compatible, translated), and site-local ones.
_NOT_PUBLIC = [
    ipaddress.ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96", "fec0::/10")
]
