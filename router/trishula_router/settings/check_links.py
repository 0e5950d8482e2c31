"""The check of what links nodes: the path at which peers come in, the links out, and several nodes' files together.

:func:`check_peer_path` and :func:`check_links` look at one file for :mod:`trishula_router.settings.check`, which has
the rest; :func:`compare` looks at files that are each good by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from trishula.contract import uris
from trishula_router.realm import LINK_ROLE
from trishula_router.settings.check_endpoints import is_loopback
from trishula_router.settings.crossbar_config import Json, listen_endpoint_of, listener_of, options_of
from trishula_router.settings.faults import MISSING, WHOLE, Fault
from trishula_router.settings.node_key import PLACEHOLDER_KEY, is_public_key, read_public_key
from trishula_router.settings.options import NodeConfig, parse_options

__all__ = ["BATCH_BYTES", "ConfigFile", "are_linked", "check_links", "check_peer_path", "compare"]

#: What a run of records that travels between nodes has at most, besides the one message that makes it that large.
BATCH_BYTES = 4 * 1024 * 1024
_KEY_RULE = "it must be a node's public key, 64 hexadecimal digits in lower case, as `trishula node keys` prints it"
#: How the machines are named in the shipped configurations: names that nobody can have (RFC 2606).
_PLACEHOLDER_HOST = ".example"
_LINK_KEYS = ("id", "realm", "transport")
_TRANSPORT_KEYS = ("id", "type", "url", "endpoint", "serializers")


def check_peer_path(service: Json, path: str, peers: tuple[str, ...]) -> Iterator[Fault]:
    """Faults of the path at which peers come in, but for its options."""
    if not peers:
        yield Fault(path, WHOLE, "it must go, or our component's extra.peers must name who comes in there")
        return
    serializers = service.get("serializers", ["msgpack"])
    if serializers != ["msgpack"]:
        yield Fault(f"{path}.serializers", serializers, 'it must be ["msgpack"]: records of the journal are bytes')
    auth = service.get("auth", MISSING)
    if not isinstance(auth, dict):
        yield Fault(f"{path}.auth", auth, "it must be a map")
        return
    for method in auth:
        if method != "cryptosign":
            yield Fault(f"{path}.auth.{method}", WHOLE, "it must go: peers join with their keys alone")
    at = f"{path}.auth.cryptosign"
    signed = auth.get("cryptosign", MISSING)
    if not isinstance(signed, dict):
        yield Fault(at, signed, "it must be a map")
        return
    if signed.get("type", MISSING) != "static":
        yield Fault(f"{at}.type", signed.get("type", MISSING), 'it must be "static"')
    for key in signed:
        if key not in ("type", "principals"):
            yield Fault(f"{at}.{key}", WHOLE, "it must go: the peers are those among the principals, and nobody else")
    principals = signed.get("principals", MISSING)
    if not isinstance(principals, dict):
        yield Fault(f"{at}.principals", principals, "it must be a map")
        return
    yield from _check_principals(principals, f"{at}.principals", peers)


def _check_principals(principals: Json, path: str, peers: tuple[str, ...]) -> Iterator[Fault]:
    seen: dict[str, str] = {}
    for name, principal in principals.items():
        at = f"{path}.{name}"
        if name not in peers:
            yield Fault(at, WHOLE, f"{name} must be one of our component's extra.peers, or go")
        if not isinstance(principal, dict):
            yield Fault(at, principal, "it must be a map")
            continue
        for key, value in (("realm", uris.REALM), ("role", LINK_ROLE)):
            if principal.get(key, MISSING) != value:
                yield Fault(f"{at}.{key}", principal.get(key, MISSING), f'it must be "{value}"')
        keys = principal.get("authorized_keys", MISSING)
        if not isinstance(keys, list) or not keys:
            yield Fault(f"{at}.authorized_keys", keys, "it must be a list of at least one key")
            continue
        for index, key in enumerate(keys):
            where = f"{at}.authorized_keys[{index}]"
            if key == PLACEHOLDER_KEY:
                yield Fault(where, WHOLE, f"the shipped placeholder must go: run `trishula node keys` on {name}")
            elif not is_public_key(key):
                yield Fault(where, key, _KEY_RULE)
            elif key in seen:
                # Crossbar could not tell by the key who it is, and lets neither in.
                yield Fault(where, WHOLE, f"it must be another key than {seen[key]}: a key is one node's")
            else:
                seen[key] = where
    for name in peers:
        if name not in principals:
            yield Fault(f"{path}.{name}", MISSING, "it must be there: a peer comes in with its key")


def check_links(realm: Json, path: str, peers: tuple[str, ...], *, trusted: bool) -> Iterator[Fault]:
    """Faults of the links that the node itself makes; over ``ws:`` only on a network that is ``trusted``."""
    links = realm.get("rlinks", [])
    if not isinstance(links, list):
        yield Fault(f"{path}.rlinks", links, "it must be a list")
        return
    seen: set[object] = set()
    for index, link in enumerate(links):
        at = f"{path}.rlinks[{index}]"
        if not isinstance(link, dict):
            yield Fault(at, link, "it must be a map")
            continue
        peer = link.get("id", MISSING)
        if peer not in peers:
            known = ", ".join(peers) or "none are there"
            yield Fault(f"{at}.id", peer, f"it must be the name of one of our component's extra.peers: {known}")
        elif peer in seen:
            yield Fault(f"{at}.id", peer, "it must not be there twice: a second link doubles every event")
        seen.add(peer)
        yield from _unknown_keys(link, _LINK_KEYS, at, "a link carries both ways, and what it carries is fixed")
        if link.get("realm", MISSING) != uris.REALM:
            yield Fault(f"{at}.realm", link.get("realm", MISSING), f'it must be "{uris.REALM}"')
        transport = link.get("transport", MISSING)
        if isinstance(transport, dict):
            yield from _check_transport(transport, f"{at}.transport", trusted)
        else:
            yield Fault(f"{at}.transport", transport, "it must be a map")


def _check_transport(transport: Json, path: str, trusted: bool) -> Iterator[Fault]:
    yield from _unknown_keys(transport, _TRANSPORT_KEYS, path, "the pings and sizes of a link are fixed")
    if transport.get("type", MISSING) != "websocket":
        yield Fault(f"{path}.type", transport.get("type", MISSING), 'it must be "websocket"')
    if transport.get("serializers", ["msgpack"]) != ["msgpack"]:
        yield Fault(f"{path}.serializers", transport["serializers"], 'it must be ["msgpack"]')
    url = transport.get("url", MISSING)
    at = urlsplit(url) if isinstance(url, str) else urlsplit("")
    known = at.hostname and not at.hostname.endswith(_PLACEHOLDER_HOST)
    if at.scheme not in ("ws", "wss") or not known or at.path.rpartition("/")[2] != uris.PEER_PATH:
        rule = f"it must be the peer's address, ws://HOST:PORT/{uris.PEER_PATH} or wss://HOST/{uris.PEER_PATH}"
        yield Fault(f"{path}.url", url, rule)
    endpoint = transport.get("endpoint", MISSING)
    if not isinstance(endpoint, dict):
        yield Fault(f"{path}.endpoint", endpoint, "it must be a map")
        return
    if endpoint.get("type", MISSING) != "tcp":
        yield Fault(f"{path}.endpoint.type", endpoint.get("type", MISSING), 'it must be "tcp"')
    host = endpoint.get("host", MISSING)
    if not isinstance(host, str) or not host or host.endswith(_PLACEHOLDER_HOST):
        yield Fault(f"{path}.endpoint.host", host, "it must be the name or address of the peer's machine")
    elif at.scheme == "ws" and not trusted and not is_loopback(host):
        rule = (
            "it must begin with wss:, because over ws: a machine in between reads and changes all that nodes tell each "
            "other, whatever they prove; or, if nobody else is on that network, write so into our component's extra, "
            '"trusted_network": "why it is to be trusted"'
        )
        yield Fault(f"{path}.url", url, rule)
    port = endpoint.get("port", MISSING)
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
        yield Fault(f"{path}.endpoint.port", port, "it must be a port, from 1 to 65535")
    if (at.scheme == "wss") != ("tls" in endpoint) and at.scheme in ("ws", "wss"):
        rule = "it must be there exactly if the url begins with wss:"
        yield Fault(f"{path}.endpoint.tls", WHOLE if "tls" in endpoint else MISSING, rule)


def _unknown_keys(entry: Json, known: tuple[str, ...], path: str, why: str) -> Iterator[Fault]:
    for key in entry:
        if key not in known:
            yield Fault(f"{path}.{key}", entry[key], f"it must go: {why}")


# -- several files -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration that is good by itself.

    Attributes:
        path: where it stands.
        config: what it says.
    """

    path: Path
    config: Json

    @property
    def options(self) -> NodeConfig:
        """The options of its node."""
        return parse_options(options_of(self.config), base=self.path.absolute().parent, path="extra")

    @property
    def links(self) -> dict[str, Json]:
        """Its links out, by the peer."""
        realms = [realm for worker in self.config["workers"] for realm in worker.get("realms", [])]
        return {link["id"]: link for realm in realms for link in realm.get("rlinks", [])}

    def keys_of(self, peer: str) -> list[str]:
        """The keys by which it knows a peer."""
        principals = listener_of(self.config)["paths"].get(uris.PEER_PATH, {}).get("auth", {}).get("cryptosign", {})
        return cast("list[str]", principals.get("principals", {}).get(peer, {}).get("authorized_keys", []))


def compare(files: list[ConfigFile]) -> dict[Path, list[Fault]]:
    """What doesn't fit between the nodes, by the file in which it is to be mended."""
    found: dict[Path, list[Fault]] = {file.path: [] for file in files}

    def fault(file: ConfigFile, path: str, value: object, rule: str) -> None:
        found[file.path].append(Fault(path, value, rule))

    for one, other in combinations(files, 2):
        names = one.options.node, other.options.node
        if names[0] == names[1]:
            fault(other, "extra.node", names[1], f"it must be another name than in {one.path}")
            continue
        _compare_pair(one, other, fault)
        _compare_pair(other, one, fault)
        made = [file for file, peer in ((one, names[1]), (other, names[0])) if peer in file.links]
        if names[1] in one.options.peers and len(made) != 1:
            rule = f"exactly one of {names[0]} and {names[1]} must have a link (rlinks) to the other; {len(made)} have"
            fault(other, "rlinks", WHOLE, rule)
        if one.options.limits.payload_bytes != other.options.limits.payload_bytes:
            value = other.options.limits.payload_bytes
            rule = f"it must be the same as in {one.path}: what one node accepts the other must be able to keep"
            fault(other, "extra.limits.payload", value, rule)
        if one.options.agents.shared != other.options.agents.shared and are_linked(one, other):
            shares, lacks = (one, other) if one.options.agents.shared else (other, one)
            rule = (
                f"it must be true, as in {shares.path}, or false in both: what changes in the file of agents of one of "
                "these two is unknown at the other, unless both share it"
            )
            fault(lacks, "extra.agents.shared", False, rule)
    return found


def are_linked(one: ConfigFile, other: ConfigFile) -> bool:
    """Whether each names the other among its peers."""
    return other.options.node in one.options.peers and one.options.node in other.options.peers


def _compare_pair(file: ConfigFile, other: ConfigFile, fault: Callable[[ConfigFile, str, object, str], None]) -> None:
    """What ``file`` says of ``other``."""
    options, peer = file.options, other.options.node
    if options.node in other.options.peers and peer not in options.peers:
        fault(file, "extra.peers", list(options.peers), f"it must have {peer}, which has {options.node} among its own")
        return
    if peer not in options.peers:
        return
    own = read_public_key(other.options.state_dir / "crossbar")
    if own is not None and own not in file.keys_of(peer):
        where = f"paths.{uris.PEER_PATH}.auth.cryptosign.principals.{peer}.authorized_keys"
        fault(file, where, file.keys_of(peer), f"it must have the key of {peer}, which is {own}")
    if set(file.keys_of(peer)) & set(other.keys_of(options.node)):
        where = f"paths.{uris.PEER_PATH}.auth.cryptosign.principals.{peer}.authorized_keys"
        fault(file, where, WHOLE, f"{peer} and {options.node} must have keys of their own, not the same")
    link: Mapping[str, Json] = file.links.get(peer, {})
    if not link:
        return
    endpoint, listens = link["transport"]["endpoint"], listen_endpoint_of(other.config, other.path.absolute().parent)
    # Elsewhere a proxy or a router may translate ports; on one machine nothing does.
    if endpoint["host"] in ("127.0.0.1", "localhost", "::1") and endpoint["port"] != listens.port:
        rule = f"it must be the port on which {peer} listens, {listens.port}"
        fault(file, f"rlinks.{peer}.transport.endpoint.port", endpoint["port"], rule)
    scheme = urlsplit(link["transport"]["url"]).scheme
    if scheme == "wss" and endpoint["port"] == listens.port and listens.certificate is None:
        fault(
            file, f"rlinks.{peer}.transport.url", link["transport"]["url"], f"it must begin with ws: as {peer} listens"
        )
