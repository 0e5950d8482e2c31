"""Who asks over HTTP: an operator or an observer, somebody on this machine, or a stranger.

Details of a node are for the first three. The first two show their token, ``Authorization: Bearer name.secret``.
Somebody on this machine asks over loopback, and *really*: whatever passed through a proxy arrives from loopback too
where the proxy runs beside the node. So of a named proxy (the option ``proxies``) the address counts that it names, and
without one it is nobody on this machine; of an unnamed proxy the headers count that proxies add. A proxy that is not
named and adds none can't be told from a program of this machine: name it.

The host that is asked for must be this machine's as well: a page of the web may have its own name point at 127.0.0.1,
and would read the answer in the browser of somebody on this machine.

Wrong tokens count, and are on record, as those are that clients join with (:mod:`trishula_router.agents.door`).
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

from trishula.contract.addresses import is_agent_name
from trishula.errors import TrishulaError
from trishula_router.agents.tokens import owner_of
from trishula_router.client_ips import Proxies

if TYPE_CHECKING:
    from trishula_router.node import Node

__all__ = ["why_stranger"]

_BEARER = "bearer "
#: What proxies add to a request.
_ADDED = (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip", b"forwarded", b"via")
#: A header of more is no token of ours.
_MOST_BYTES = 512


def why_stranger(request: Any, node: Node | None) -> str | None:
    """Why a request is a stranger's: a sentence, empty for whoever claimed nothing; ``None`` if it is none.

    Args:
        request: Twisted's.
        node: whose details are asked for; ``None`` if there is none yet, which knows no tokens.
    """
    shown = request.getHeader(b"authorization")
    if shown is not None:
        if node is None:
            return "the node has not started yet, so it knows no tokens"
        return _why_not(shown, node, _client_ip_of(request, Proxies(node.config.proxies)))
    return None if _is_local(request, () if node is None else node.config.proxies) else ""


def _why_not(header: bytes, node: Node, client_ip: str | None) -> str | None:
    try:
        text = header[:_MOST_BYTES].decode("ascii")
    except UnicodeDecodeError:
        text = ""
    token = text[len(_BEARER) :].strip() if text.lower().startswith(_BEARER) else ""
    if "." not in token or not is_agent_name(owner_of(token)):
        return "the header Authorization must be: Bearer name.secret, with an operator's or an observer's token"
    try:
        principal = node.door.recognize(client_ip, owner_of(token), token)
    except TrishulaError as error:
        return error.sentence
    if not (principal.operator or principal.observer):
        return f"the token is {principal.name}'s; details are for operators and observers, and it is neither"
    return None


def _is_local(request: Any, proxies: tuple[str, ...]) -> bool:
    peer, named = _peer_of(request), Proxies(proxies)
    if peer is None or not _is_loopback_name(_host_of(request)):
        return False
    if not named.has(peer):
        return _is_loopback(peer) and not any(request.requestHeaders.hasHeader(name) for name in _ADDED)
    if not request.requestHeaders.getRawHeaders(b"x-forwarded-for"):
        return False
    return _is_loopback(_client_ip_of(request, named) or "")


def _peer_of(request: Any) -> str | None:
    """The address at the connection's other end."""
    peer = getattr(request.getClientAddress(), "host", None)
    return peer if isinstance(peer, str) else None


def _client_ip_of(request: Any, named: Proxies) -> str | None:
    """The address that counts: of a named proxy the one that it names."""
    peer, forwarded_for = _peer_of(request), request.requestHeaders.getRawHeaders(b"x-forwarded-for")
    if peer is None:
        return None
    return named.client_ip_of(peer, b",".join(forwarded_for).decode("latin-1") if forwarded_for else None)


def _host_of(request: Any) -> str:
    """What the request calls this machine; empty in HTTP/1.0, which no browser speaks."""
    host = (request.getHeader(b"host") or b"").decode("latin-1").strip()
    if host.startswith("["):
        return str(host[1:].partition("]")[0])
    return str(host.partition(":")[0])


def _is_loopback_name(host: str) -> bool:
    return host in ("", "localhost") or _is_loopback(host)


def _is_loopback(text: str) -> bool:
    try:
        found = ip_address(text)
    except ValueError:
        return False
    inner = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return (found if inner is None else inner).is_loopback
