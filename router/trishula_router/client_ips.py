"""Where a stranger comes from: the IP address that counts, in log and journal and for what one may have.

It is that of the TCP connection. Behind a reverse proxy such as nginx all have the proxy's, so an operator names the
proxies (``proxies``), and of those alone ``X-Forwarded-For`` is believed: each proxy adds whom it was asked by at its
right end, so the right-most address that is no named proxy's is the last one that somebody trusted has seen. What
stands left of it is what the client itself wrote. ``Forwarded`` (RFC 7239) is not read: a proxy that adds the one
passes the other on as it came, and whoever reads both believes the client.

IPv6 hands out whole networks: a subscriber has 2^64 addresses, and counts as one (/64). IPv4 addresses within IPv6
(``::ffff:…``) count as what they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["PROXY_RULE", "Proxies", "ip_in", "is_network", "site_of", "peer_text"]

PROXY_RULE = 'an IP address or a network of them, such as "127.0.0.1" or "10.0.0.0/8"'
#: So many entries of a header are looked at, from the right: a chain of proxies is short.
_MOST_HOPS = 16
_ONE_SITE_BITS = 64


def is_network(text: str) -> bool:
    """Whether that is an IP address, or a network of them."""
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def site_of(address: str) -> str:
    """What an address counts as: itself, or its network if it is of IPv6; any other text is itself."""
    found = _parse(address)
    if isinstance(found, IPv6Address):
        return str(IPv6Network((found, _ONE_SITE_BITS), strict=False))
    return address if found is None else str(found)


def peer_text(address: str, port: int) -> str:
    """An address and a port, as Autobahn writes the other end of a connection."""
    return f"tcp{6 if ':' in address else 4}:{address}:{port}"


def ip_in(peer: object) -> str | None:
    """The address in what Autobahn says of the other end of a connection; ``None`` if it is nothing of the kind."""
    if not isinstance(peer, str) or not peer.startswith(("tcp4:", "tcp6:")):
        return None
    return peer.partition(":")[2].rpartition(":")[0]


class Proxies:
    """The reverse proxies that an operator has named.

    Args:
        networks: each an address or a network, as :func:`is_network` takes it.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = tuple(ip_network(text) for text in networks)

    def has(self, address: str) -> bool:
        """Whether an address is that of a named proxy."""
        found = _parse(address) if self._networks else None
        return found is not None and self._is_proxy(found)

    def client_ip_of(self, peer: str, forwarded_for: str | None) -> str:
        """The address that counts of a connection.

        Args:
            peer: the address at its other end.
            forwarded_for: its ``X-Forwarded-For``, several of them joined by commas; ``None`` if it has none.
        """
        if forwarded_for is None or not self.has(peer):
            return peer
        address = peer
        for text in reversed(forwarded_for.rsplit(",", _MOST_HOPS)[-_MOST_HOPS:]):
            found = _parse(text.strip())
            if found is None:
                # Nothing that a proxy writes: what is known is who passed it on.
                return address
            address = str(found)
            if not self._is_proxy(found):
                break
        return address

    def _is_proxy(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """An address, also as some proxies write it: with a port, in brackets."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    inner = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return found if inner is None else inner
