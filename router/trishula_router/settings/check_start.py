"""What Crossbar's own check lets pass, and ends a node when it starts, or a moment after it has said that it is ready.

An id that is taken, a port that another transport of the same node has, a program or a package that is not there: each
would be found one at a time, in the log of a node that is gone. What is only known on the machine that the node runs on
is taken from this one.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trishula.contract import uris
from trishula_router.settings.check_endpoints import check_endpoint, port_of
from trishula_router.settings.faults import Fault

__all__ = ["check_start", "ids_twice"]

_EVERYWHERE = ("", "0.0.0.0", "::")

Item = tuple[str, dict[str, Any]]


def check_start(worker: dict[str, Any], path: str, *, base: Path, environ: Mapping[str, str]) -> Iterator[Fault]:
    """Every such fault of the router worker that our component is in.

    Args:
        worker: what stands there; what has the wrong shape is told by others.
        path: where.
        base: the directory that relative names of files start from.
        environ: the variables that it may name.
    """
    options = worker.get("options")
    if isinstance(options, dict):
        yield from _check_options(options, f"{path}.options")
    # What another Python has, or one with other paths, is not known here.
    is_our_python = not (isinstance(options, dict) and ("python" in options or "pythonpath" in options))
    transports = _maps(worker, "transports", path)
    realms = _maps(worker, "realms", path)
    for items in (transports, realms, _maps(worker, "components", path)):
        yield from ids_twice(items)
    for at, realm in realms:
        yield from ids_twice(_maps(realm, "roles", at))
    for at, transport in transports:
        paths = transport.get("paths")
        services: dict[str, Any] = paths if isinstance(paths, dict) else {}
        if uris.WEBSOCKET_PATH not in services and uris.PEER_PATH not in services:
            yield from _check_other(transport.get("endpoint"), f"{at}.endpoint", base, environ)
        for name, service in services.items():
            if is_our_python:
                yield from _check_package(service, f"{at}.paths.{name}")
    yield from _ports_twice(transports, environ)


def ids_twice(items: list[Item]) -> Iterator[Fault]:
    """Ids that an item before has: Crossbar starts one of them."""
    seen: dict[str, str] = {}
    for path, item in items:
        name = item.get("id")
        if isinstance(name, str) and seen.setdefault(name, path) != path:
            yield Fault(f"{path}.id", name, f"it must not be there twice, and {seen[name]} has it")


def _check_options(options: dict[str, Any], path: str) -> Iterator[Fault]:
    python = options.get("python")
    if isinstance(python, str) and not (
        os.path.isabs(python) and os.path.isfile(python) and os.access(python, os.X_OK)
    ):
        yield Fault(f"{path}.python", python, "it must be the absolute path of a program that can be run")
    chosen, there = options.get("cpu_affinity"), range(os.cpu_count() or 1)
    if isinstance(chosen, list) and not (chosen and all(cpu in there for cpu in chosen)):
        yield Fault(f"{path}.cpu_affinity", chosen, f"it must name CPUs of this machine, from 0 to {there[-1]}")


def _check_other(endpoint: object, path: str, base: Path, environ: Mapping[str, str]) -> Iterator[Fault]:
    """A transport at which nobody joins: pages, say. It may listen on what agents can't reach."""
    if not isinstance(endpoint, dict):
        return
    if endpoint.get("type") == "tcp" and "portrange" not in endpoint:
        yield from check_endpoint(endpoint, path, base=base, environ=environ, for_agents=False)
    name = endpoint.get("path")
    # A relative one is in Crossbar's own directory.
    folder = os.path.dirname(name) if isinstance(name, str) and os.path.isabs(name) else None
    if endpoint.get("type") == "unix" and folder is not None and not os.path.isdir(folder):
        yield Fault(f"{path}.path", name, "it must be in a directory that is there")


def _check_package(service: object, path: str) -> Iterator[Fault]:
    package = service.get("package") if isinstance(service, dict) and service.get("type") == "static" else None
    if not isinstance(package, str):
        return
    try:
        is_there = importlib.util.find_spec(package) is not None
    except Exception:
        # To find a package within another one, that one is imported, and may fail with anything.
        is_there = False
    if not is_there:
        yield Fault(f"{path}.package", package, "it must be a Python package that is installed here")


def _ports_twice(transports: list[Item], environ: Mapping[str, str]) -> Iterator[Fault]:
    taken: list[tuple[int, str, str]] = []
    for path, transport in transports:
        endpoint = transport.get("endpoint")
        if not isinstance(endpoint, dict) or endpoint.get("type") != "tcp":
            continue
        port, interface = port_of(endpoint.get("port"), environ), endpoint.get("interface", "")
        if isinstance(port, str) or not isinstance(interface, str):
            continue
        interface = interface.strip()
        for other, where, first in taken:
            if other == port and (interface == where or interface in _EVERYWHERE or where in _EVERYWHERE):
                rule = f"it must be another port than that of {first}"
                yield Fault(f"{path}.endpoint.port", endpoint["port"], rule)
                break
        taken.append((port, interface, path))


def _maps(parent: dict[str, Any], key: str, path: str) -> list[Item]:
    """The maps of a list, each with its path."""
    items = parent.get(key)
    if not isinstance(items, list):
        return []
    return [(f"{path}.{key}[{index}]", item) for index, item in enumerate(items) if isinstance(item, dict)]
