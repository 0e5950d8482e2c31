"""The configuration a node really runs with: the operator's Crossbar JSON, with what the command line decides put in.

:func:`effective_config` is a pure function; ``trishula node start`` writes its result into Crossbar's own directory
(``<state>/crossbar/config.json``), so that a running node can be looked at, and started by hand with
``crossbar start --cbdir <state>/crossbar``.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from trishula.contract import uris
from trishula_router.settings.certificates import TLS_FILES, TLS_LISTS, name_for
from trishula_router.settings.check_endpoints import port_of
from trishula_router.settings.proxy_socket import proxy_socket_of

__all__ = [
    "ENDPOINTS",
    "ListenEndpoint",
    "listen_endpoint_of",
    "effective_config",
    "listener_of",
    "options_of",
    "render_config",
    "without_proxy_workers",
]

#: What every node answers over HTTP where its agents arrive: path → the class that Crossbar makes. A path that a
#: configuration names itself stays as it is there. A further page is a class in :mod:`trishula_router.endpoints` and a
#: line here.
ENDPOINTS = {
    "health": "trishula_router.endpoints.health.HealthPage",
    "metrics": "trishula_router.endpoints.metrics.MetricsPage",
    "ready": "trishula_router.endpoints.ready.ReadyPage",
}

_PROXY_ENDPOINT = "proxy_endpoint"
#: Those that the kernel lets wait at the router worker's own socket; the proxy workers' clients come by it.
_BACKLOG = 1024

#: A map of the configuration. Its shape is Crossbar's and has been checked by ``config_check``.
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ListenEndpoint:
    """Where a node listens.

    Attributes:
        host: an address of this machine; empty for all of them.
        port: the port.
        certificate: what it shows to clients, if it speaks TLS.
    """

    host: str
    port: int
    certificate: Path | None = None

    @property
    def here(self) -> str:
        """Under which address it is reached on this machine: over loopback, if it listens everywhere."""
        return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)

    @property
    def url(self) -> str:
        """What an agent's ``TRISHULA_URL`` names; under TLS with a name that the certificate has."""
        return f"{'ws' if self.certificate is None else 'wss'}://{self._place}/{uris.WEBSOCKET_PATH}"

    @property
    def page(self) -> str:
        """Where a browser on this machine finds the dashboard."""
        return f"{'http' if self.certificate is None else 'https'}://{self._place}/"

    @property
    def _place(self) -> str:
        host = self.here if self.certificate is None else name_for(self.certificate, self.here)
        return f"{f'[{host}]' if ':' in host else host}:{self.port}"


def _component(config: Json) -> Json:
    for worker in config["workers"]:
        for component in worker.get("components", []):
            if component.get("realm") == uris.REALM and "extra" in component:
                return cast(Json, component)
    raise LookupError("the configuration has no component with options")


def listener_of(config: Json) -> Json:
    """The transport at which the agents arrive."""
    for worker in config["workers"]:
        for transport in worker.get("transports", []):
            if uris.WEBSOCKET_PATH in transport.get("paths", {}):
                return cast(Json, transport)
    raise LookupError("the configuration has no transport with a WebSocket path")


def options_of(config: Json) -> Json:
    """The options of our component."""
    return cast(Json, _component(config)["extra"])


def listen_endpoint_of(config: Json, base: Path = Path(), environ: Mapping[str, str] | None = None) -> ListenEndpoint:
    """Where the agents' transport listens.

    Args:
        config: a checked configuration.
        base: the directory of its file, where relative paths start.
        environ: the variables that it may name; the process's own if absent.
    """
    endpoint = listener_of(config)["endpoint"]
    # Of a configuration that runs with proxy workers, theirs.
    endpoint = options_of(config).get(_PROXY_ENDPOINT) or endpoint
    port = port_of(endpoint["port"], os.environ if environ is None else environ)
    if isinstance(port, str):
        raise LookupError(port)
    certificate = base / endpoint["tls"]["certificate"] if "tls" in endpoint else None
    return ListenEndpoint(endpoint.get("interface", "").strip(), port, certificate)


def effective_config(
    config: Json, *, base: Path, state_dir: Path, address: ListenEndpoint, python: Path | None = None
) -> Json:
    """The configuration to run with; the argument stays as it is.

    It has the paths of :data:`ENDPOINTS`, and takes keys where it takes tickets, so that a configuration of a release
    that had none of these needs no edit. With proxy workers the endpoint is theirs (``proxy_endpoint`` of our options),
    and the agents' transport listens at a socket that they alone reach.

    Args:
        config: a checked configuration.
        base: the directory of its file: relative paths in it start there, and would not after it was moved.
        state_dir: where the node keeps its data.
        address: where it listens.
        python: the program that runs the router worker, unless the configuration names one.
    """
    result = copy.deepcopy(config)
    options_of(result)["state"] = str(state_dir.absolute())
    listener = listener_of(result)
    for name, classname in ENDPOINTS.items():
        listener["paths"].setdefault(name, {"type": "resource", "classname": classname})
    endpoint = listener["endpoint"]
    endpoint["port"] = address.port
    if address.host or "interface" in endpoint:
        endpoint["interface"] = address.host
    for worker in result["workers"]:
        links = [link for realm in worker.get("realms", []) for link in realm.get("rlinks", [])]
        for transport in (*worker.get("transports", []), *(link["transport"] for link in links)):
            end = transport.get("endpoint")
            _start_at(base, end.get("tls") if isinstance(end, dict) else None)
    for worker in result["workers"]:
        options = worker.setdefault("options", {})
        if python is not None and worker["type"] == "router":
            options.setdefault("python", str(python.absolute()))
        if "pythonpath" in options:
            options["pythonpath"] = [str((base / path).absolute()) for path in options["pythonpath"]]
        for transport in worker.get("transports", []):
            for service in transport.get("paths", {}).values():
                auth = service.get("auth", {})
                if "ticket" in auth:
                    auth.setdefault("cryptosign", dict(auth["ticket"]))
                if "directory" in service:
                    service["directory"] = str((base / service["directory"]).absolute())
    if options_of(result).get("proxy_workers"):
        options_of(result)[_PROXY_ENDPOINT] = endpoint
        path = str(proxy_socket_of(state_dir.absolute()))
        listener["endpoint"] = {"type": "unix", "path": path, "backlog": _BACKLOG}
    return result


def without_proxy_workers(config: Json) -> Json:
    """A configuration that runs (:func:`effective_config`) as an operator writes it; the argument stays as it is."""
    result = copy.deepcopy(config)
    try:
        endpoint = options_of(result).pop(_PROXY_ENDPOINT, None)
        if endpoint is not None:
            listener_of(result)["endpoint"] = endpoint
    except (LookupError, TypeError, AttributeError):
        # Somebody has edited it; what is wrong with it is told by who checks it.
        return config
    return result


def _start_at(base: Path, tls: object) -> None:
    if not isinstance(tls, dict):
        return
    for key in TLS_FILES:
        if key in tls:
            tls[key] = str((base / tls[key]).absolute())
    for key in TLS_LISTS:
        if key in tls:
            tls[key] = [str((base / path).absolute()) for path in tls[key]]


def render_config(config: Json) -> str:
    """Its text."""
    return json.dumps(config, indent=4, ensure_ascii=False) + "\n"
