"""The check of a node's configuration file: Crossbar's own JSON, as far as our promises depend on it.

:func:`read_config_file` reads it, :func:`check_config` returns every fault of it at once, and
:func:`check_with_crossbar` adds what Crossbar itself has to say, which is its first fault only and without a key path.

What our promises depend on, and is therefore refused if it is otherwise:

- one router worker embeds our component, in our realm, in the role ``node``;
- agents get in by a ticket, or a key, that our authenticator checks, and by nothing else: no path without
  authentication, no further method, no web service that calls or publishes for whoever asks; peers come in by their
  keys, at a path of their own (:mod:`trishula_router.settings.check_links`);
- what they do is asked of our authorizer, each time; the one static role is ``node``;
- the transport is ``web``: ``universal`` leaves Nagle's algorithm on, which costs 22.8 ms one way;
- what is said beyond this machine goes over TLS, unless the operator says that the network is to be trusted;
- dead peers are noticed (pings), and a message that our limit allows fits into the transport's;
- a node starts with it: :mod:`trishula_router.settings.check_endpoints`, :mod:`trishula_router.settings.check_start`.
"""

from __future__ import annotations

import copy
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from trishula.contract import uris
from trishula.named_files import open_stream
from trishula_router.realm import AGENT_ROLE, LINK_ROLE, NODE_ROLE, OPERATOR_ROLE
from trishula_router.settings.check_endpoints import check_endpoint
from trishula_router.settings.check_links import check_links, check_peer_path
from trishula_router.settings.check_start import check_start, ids_twice
from trishula_router.settings.check_websocket import check_websocket
from trishula_router.settings.crossbar_config import Json
from trishula_router.settings.crossbar_import import importing_crossbar
from trishula_router.settings.faults import MISSING, TWICE, WHOLE, ConfigError, Fault
from trishula_router.settings.options import NodeConfig, parse_options
from trishula_router.settings.redis_server import INSTALL_REDIS
from trishula_router.store.json_text import NotJson, keys_twice, not_finite, parse_json

__all__ = ["COMPONENT_CLASS", "check_config", "check_with_crossbar", "read_config_file"]

COMPONENT_CLASS = "trishula_router.edge.NodeSession"

_ID, _ID_RULE = re.compile(r"[a-z][a-z0-9_]{2,63}\Z"), "it must be a lower-case letter, then 2 to 63 of a-z, 0-9 and _"
#: Web services through which a request becomes a call or an event, past our authenticator.
_WAYS_AROUND = ("caller", "publisher", "webhook", "longpoll")
#: What a node reads within bounds; see decoding.py.
_SERIALIZERS = ("msgpack", "json", "cbor")
#: How agents may prove who they are.
_METHODS = ("ticket", "cryptosign")
#: The router believes such a proxy in whatever it says of its clients, past our authenticator and our bounds.
_NO_PROXY = (
    "it must not be a proxy of Crossbar's, which decides itself who a client is; \"proxy_workers\" in our component's "
    "extra is the number of ours, which leave that to the node"
)
_AUTHENTICATOR = {
    "type": "dynamic",
    "authenticator": uris.AUTHENTICATE,
    "authenticator-realm": uris.REALM,
    # The session through which Crossbar asks; it has none of another role.
    "authenticator-role": "trusted",
}


def read_config_file(path: Path) -> Json:
    """The configuration in a file.

    Raises:
        ConfigError: if it can't be read or is no JSON map.
    """
    try:
        with open_stream(path) as file:
            raw = parse_json(file.read())
    except OSError as error:
        raise _one_fault(path, f"it can't be read: {error.strerror}") from None
    except NotJson as error:
        raise _one_fault(path, f"it {error}") from None
    faults = [Fault(at, WHOLE, TWICE) for at in keys_twice(raw)]
    faults += [Fault(at, value, "it must be a number that JSON has") for at, value in not_finite(raw)]
    if faults:
        raise ConfigError(tuple(faults))
    if not isinstance(raw, dict):
        raise _one_fault(path, "it must be a map")
    return raw


def _one_fault(path: Path, rule: str) -> ConfigError:
    return ConfigError((Fault(str(path), WHOLE, rule),))


def check_config(config: object, *, base: Path, environ: Mapping[str, str] | None = None) -> tuple[Fault, ...]:
    """Every fault of a configuration, in the order of the file; none if it is good.

    Args:
        config: what the file says.
        base: the file's directory, where relative paths start.
        environ: the variables that it may name; the process's own if absent.
    """
    check = _Check(base, os.environ if environ is None else environ)
    check.run(config)
    return tuple(check.faults)


def check_with_crossbar(config: Json) -> tuple[Fault, ...]:
    """What Crossbar's own check says: its first fault, or none."""
    with importing_crossbar():
        from crossbar.personality import Personality

    try:
        # A copy, because the check fills in values from the environment.
        Personality.check_config(Personality, copy.deepcopy(config))
    except Exception as error:
        # Any exception: on what it did not foresee, Crossbar's check fails with whatever its line raises.
        text = str(error) if str(error) else repr(error)
        return (Fault("crossbar check", WHOLE, " ".join(text.split())),)
    return ()


class _Check:
    """One run over one configuration."""

    def __init__(self, base: Path, environ: Mapping[str, str]) -> None:
        self.faults: list[Fault] = []
        self._base = base
        self._environ = environ
        self._options: NodeConfig | None = None
        self._peers: tuple[str, ...] = ()
        self._trusted = False

    def fault(self, path: str, value: object, rule: str) -> None:
        self.faults.append(Fault(path, value, rule))

    def run(self, config: object) -> None:
        top = self._map(config, "the configuration")
        if top is None:
            return
        hosts: list[str] = []
        workers = list(self._maps(top, "workers", ""))
        self.faults += ids_twice(workers)
        for path, worker in workers:
            if worker.get("type") == "proxy":
                self.fault(f"{path}.type", "proxy", _NO_PROXY)
            if worker.get("type") != "router":
                continue
            components = list(self._maps(worker, "components", path))
            if any(component.get("classname") == COMPONENT_CLASS for _, component in components):
                hosts.append(path)
                self._check_router(worker, path, components)
        if not hosts:
            self.fault("workers", WHOLE, f'one worker of type "router" must embed the component "{COMPONENT_CLASS}"')
        for path in hosts[1:]:
            self.fault(path, WHOLE, f'only one worker may embed the component "{COMPONENT_CLASS}"')

    # -- the router worker ---------------------------------------------------------------------------------------------

    def _check_router(self, worker: Json, path: str, components: list[tuple[str, Json]]) -> None:
        self._id(worker, path)
        nodes = [found for found in components if found[1].get("classname") == COMPONENT_CLASS]
        self._peers = _peers_of(nodes[0][1])
        self._trusted = _trusts_network(nodes[0][1])
        ours = [found for found in self._maps(worker, "realms", path) if found[1].get("name") == uris.REALM]
        if not ours:
            self.fault(f"{path}.realms", WHOLE, f'one of them must have the name "{uris.REALM}"')
        for realm_path, realm in ours:
            self._id(realm, realm_path)
            self._check_roles(realm, realm_path)
            self.faults.extend(check_links(realm, realm_path, self._peers, trusted=self._trusted))
        for component_path, component in nodes:
            self._check_component(component, component_path)
        for component_path, _ in nodes[1:]:
            self.fault(component_path, WHOLE, f'only one component may be "{COMPONENT_CLASS}"')
        doors = [
            door
            for transport_path, transport in self._maps(worker, "transports", path)
            for door in self._check_transport(transport, transport_path)
        ]
        if uris.WEBSOCKET_PATH not in doors:
            self.fault(
                f"{path}.transports",
                WHOLE,
                f'one of them must have the path "{uris.WEBSOCKET_PATH}" of type "websocket"',
            )
        if self._peers and uris.PEER_PATH not in doors:
            self.fault(
                f"{path}.transports",
                WHOLE,
                f'one of them must have the path "{uris.PEER_PATH}" of type "websocket", where the peers come in',
            )
        self.faults += check_start(worker, path, base=self._base, environ=self._environ)

    def _check_component(self, component: Json, path: str) -> None:
        self._id(component, path)
        for key, value in (("type", "class"), ("realm", uris.REALM), ("role", NODE_ROLE)):
            self._equal(component, key, value, path)
        extra = component.get("extra", MISSING)
        if not isinstance(extra, Mapping):
            self.fault(f"{path}.extra", extra, "it must be the map of our options")
            return
        if "proxy_endpoint" in extra:
            self.fault(f"{path}.extra.proxy_endpoint", WHOLE, "it must go: trishula node start puts it in")
        try:
            self._options = parse_options(extra, base=self._base, path=f"{path}.extra")
        except ConfigError as error:
            self.faults.extend(error.faults)
            return
        for key, redis in (("mirror", self._options.mirror.redis), ("cells", self._options.cells.redis)):
            if redis and importlib.util.find_spec("redis") is None:
                rule = f"it must be empty, or the library for Redis must be installed here: {INSTALL_REDIS}"
                self.faults.append(Fault(f"{path}.extra.{key}.redis", redis, rule))

    def _check_roles(self, realm: Json, path: str) -> None:
        roles = list(self._maps(realm, "roles", path))
        # Crossbar knows the role of links, and nothing may have it where there are none.
        asked = (AGENT_ROLE, OPERATOR_ROLE, LINK_ROLE) if self._peers else (AGENT_ROLE, OPERATOR_ROLE)
        for role_path, role in roles:
            self._id(role, role_path)
            name = role.get("name", MISSING)
            if name in asked:
                self._equal(role, "authorizer", uris.AUTHORIZE, role_path)
                for key in ("permissions", "cache"):
                    if key in role:
                        self.fault(
                            f"{role_path}.{key}", role[key], "it must go: each action is asked of the authorizer"
                        )
            elif name == NODE_ROLE:
                self._check_node_role(role, role_path)
            else:
                # A static role could forge callers, and a dynamic one would be denied everything.
                known = ", ".join(f'"{role}"' for role in asked) + f' or "{NODE_ROLE}"'
                self.fault(f"{role_path}.name", name, f"it must be {known}: nothing gives a session another role")
        names = [role.get("name") for _, role in roles]
        for name in (*asked, NODE_ROLE):
            if names.count(name) != 1:
                self.fault(f"{path}.roles", WHOLE, f'exactly one of them must have the name "{name}"')

    def _check_node_role(self, role: Json, path: str) -> None:
        actions = ("call", "register", "publish", "subscribe")
        for _, permission in self._maps(role, "permissions", path):
            allow = permission.get("allow")
            everything = permission.get("uri") == "" and permission.get("match") == "prefix"
            if everything and isinstance(allow, Mapping) and all(allow.get(action) is True for action in actions):
                return
        self.fault(
            f"{path}.permissions",
            WHOLE,
            'it must allow call, register, publish and subscribe for uri "", match "prefix"',
        )

    # -- transports ----------------------------------------------------------------------------------------------------

    def _check_transport(self, transport: Json, path: str) -> list[str]:
        """The names of its WebSocket paths."""
        self._id(transport, path)
        kind = transport.get("type", MISSING)
        if kind != "web":
            reason = "only the options of a web transport's WebSocket path are checked"
            if kind == "universal":
                reason = "universal leaves Nagle's algorithm on, and small events then take 22.8 ms one way"
            self.fault(f"{path}.type", kind, f'it must be "web": {reason}')
            return []
        doors: list[str] = []
        paths = self._map(transport.get("paths", MISSING), f"{path}.paths") or {}
        for name, service in paths.items():
            at = f"{path}.paths.{name}"
            if (entry := self._map(service, at)) is None:
                continue
            if entry.get("type") == "websocket":
                doors.append(str(name))
                self._check_websocket(entry, at, for_peers=name == uris.PEER_PATH)
            elif entry.get("type") in _WAYS_AROUND:
                self.fault(f"{at}.type", entry["type"], "it must not be a way past the tickets of the agents")
            elif name == "/" and entry.get("type") == "nodeinfo":
                self.fault(
                    f"{at}.type",
                    "nodeinfo",
                    'it must be another kind, such as "static": nodeinfo answers 200 to WebSocket upgrades on any path',
                )
        for_agents = uris.WEBSOCKET_PATH in doors
        if for_agents or uris.PEER_PATH in doors:
            endpoint, at = transport.get("endpoint", MISSING), f"{path}.endpoint"
            self.faults += check_endpoint(
                endpoint,
                at,
                base=self._base,
                environ=self._environ,
                for_agents=for_agents,
                trusted=self._trusted,
            )
        return doors

    def _check_websocket(self, service: Json, path: str, *, for_peers: bool) -> None:
        if for_peers:
            self.faults.extend(check_peer_path(service, path, self._peers))
        else:
            self._check_tickets(service, path)
            self._check_serializers(service, path)
        options = self._map(service.get("options", MISSING), f"{path}.options")
        if options is None:
            return
        payload_bytes = self._options.limits.payload_bytes if self._options else 0
        self.faults += check_websocket(options, f"{path}.options", payload_bytes=payload_bytes, for_peers=for_peers)

    def _check_serializers(self, service: Json, path: str) -> None:
        spoken = service.get("serializers", list(_SERIALIZERS))
        if not isinstance(spoken, list) or not spoken or any(name not in _SERIALIZERS for name in spoken):
            known = ", ".join(f'"{name}"' for name in _SERIALIZERS)
            self.fault(f"{path}.serializers", spoken, f"it must be a list of some of {known}: what they say is bounded")

    def _check_tickets(self, service: Json, path: str) -> None:
        auth = self._map(service.get("auth", MISSING), f"{path}.auth")
        if auth is None:
            return
        for method in auth:
            if method not in _METHODS:
                self.fault(f"{path}.auth.{method}", WHOLE, "it must go: agents join with tickets or keys alone")
        for method in _METHODS:
            # A configuration of an earlier release has no cryptosign: its node takes tokens alone.
            if method == "cryptosign" and method not in auth:
                continue
            entry, at = self._map(auth.get(method, MISSING), f"{path}.auth.{method}"), f"{path}.auth.{method}"
            if entry is None:
                continue
            for key, value in _AUTHENTICATOR.items():
                self._equal(entry, key, value, at)
            for key in entry if method == "cryptosign" else ():
                if key not in _AUTHENTICATOR:
                    self.fault(f"{at}.{key}", WHOLE, "it must go: whose key is whose stands in the file of agents")

    # -- small helpers -------------------------------------------------------------------------------------------------

    def _map(self, value: object, path: str) -> Json | None:
        if isinstance(value, dict):
            return cast(Json, value)
        self.fault(path, value, "it must be a map")
        return None

    def _maps(self, parent: Json, key: str, path: str) -> Iterator[tuple[str, Json]]:
        """The maps in a list, each with its path; what is no list, or no map in it, is a fault, told once."""
        at = f"{path}.{key}" if path else key
        items = parent.get(key, MISSING)
        if not isinstance(items, list):
            # Components may be absent in a worker that isn't ours.
            if items is not MISSING or key != "components":
                self.fault(at, items, "it must be a list")
            return
        for index, item in enumerate(items):
            entry = self._map(item, f"{at}[{index}]")
            if entry is not None:
                yield f"{at}[{index}]", entry

    def _equal(self, parent: Json, key: str, value: str, path: str) -> None:
        if parent.get(key, MISSING) != value:
            self.fault(f"{path}.{key}", parent.get(key, MISSING), f'it must be "{value}"')

    def _id(self, parent: Json, path: str) -> None:
        value = parent.get("id", MISSING)
        # Crossbar makes one up if it is missing.
        if value is not MISSING and not (isinstance(value, str) and _ID.match(value)):
            self.fault(f"{path}.id", value, _ID_RULE)


def _peers_of(component: Json) -> tuple[str, ...]:
    """The peers that a component names, whatever else is wrong with it."""
    extra = component.get("extra")
    peers = extra.get("peers") if isinstance(extra, Mapping) else None
    return tuple(peer for peer in peers if isinstance(peer, str)) if isinstance(peers, list) else ()


def _trusts_network(component: Json) -> bool:
    """Whether a component gives the operator's word for the network; another word than ours is told elsewhere."""
    extra = component.get("extra")
    return bool(extra.get("trusted_network")) if isinstance(extra, Mapping) else False
