"""The node's part of ``trishula doctor``: what is found on the machine of a node, and what nodes answer.

Facts are gathered here and in :mod:`.doctor_machine`, and judged in :mod:`trishula_router.doctor`.
"""

from __future__ import annotations

import contextlib
import json
import os
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trishula.contract import uris
from trishula.doctor.examination import Asked, Examined
from trishula.doctor.findings import fault, skipped
from trishula.errors import TrishulaError
from trishula_router.agents.file import AgentsFileError, read_agents
from trishula_router.commands.doctor_machine import machine_of, why_not_linked
from trishula_router.commands.linked_files import faults_between
from trishula_router.commands.state_dir import agents_file_of, default_state_dir
from trishula_router.commands.supervisor import read_ready_file
from trishula_router.doctor.machine_checks import check_machine
from trishula_router.doctor.status_checks import check_cluster, check_road, check_status
from trishula_router.settings.check import check_config, read_config_file
from trishula_router.settings.check_links import ConfigFile
from trishula_router.settings.crossbar_config import Json, listen_endpoint_of, options_of, without_proxy_workers
from trishula_router.settings.faults import ConfigError
from trishula_router.settings.options import NodeConfig, parse_options

__all__ = ["examine"]

_TIMEOUT_S = 3.0
#: Of the end of a log.
_LOG_BYTES = 512 * 1024


def examine(asked: Asked) -> Examined:
    """Look at the node on this machine, if there is one, and ask all that let us in."""
    examined = Examined()
    configs = _read_configs(asked, examined)
    state_dir = _state_dir(asked, configs)
    urls = list(asked.urls)
    if state_dir is None:
        if not asked.configs:
            examined.findings.append(
                skipped("node", "there is no state directory of a node here; name one with --state if there should be")
            )
    else:
        path, config = _config_of(state_dir, configs)
        options = None if path is None or config is None else _options(path, config)
        machine = machine_of(state_dir, path, config, options)
        examined.findings.extend(check_machine(machine))
        url = _url(path, config)
        if machine.runs_as is not None and url is not None and url not in urls:
            urls.append(url)
        _pack_state(state_dir, url if machine.runs_as is not None else None, examined)
        if config is not None:
            name = str(options_of(config).get("node", "this node")) if _has_options(config) else "this node"
            base = (path or state_dir).absolute().parent
            examined.findings.extend(check_road(name, _roads(config, base)))
    _ask(asked, urls, examined)
    return examined


# -- configurations ----------------------------------------------------------------------------------------------------


def _read_configs(asked: Asked, examined: Examined) -> dict[Path, Json]:
    """Those that were named and can be read; what is wrong in them, alone and side by side, is found."""
    read: dict[Path, Json] = {}
    good: list[ConfigFile] = []
    for path in asked.configs:
        try:
            read[path] = read_config_file(path)
        except ConfigError as error:
            sentences = "; ".join(one.sentence for one in error.faults)
            examined.findings.append(fault("configuration", sentences, "correct the file, or name another"))
            continue
        examined.values[f"config-{path.stem}"] = read[path]
        if not check_config(read[path], base=path.absolute().parent):
            good.append(ConfigFile(path, read[path]))
    if len(good) > 1:
        for path, faults in faults_between(good).items():
            for one in faults:
                examined.findings.append(
                    fault("linked configurations", f"{path}: {one.sentence}", "mend it there, and restart that node")
                )
    return read


def _has_options(config: Json) -> bool:
    try:
        options_of(config)
    except (LookupError, TypeError):
        return False
    return True


def _options(path: Path, config: Json) -> NodeConfig | None:
    try:
        return parse_options(options_of(config), base=path.absolute().parent, path="extra")
    except (ConfigError, LookupError, TypeError):
        return None


def _state_dir(asked: Asked, configs: dict[Path, Json]) -> Path | None:
    if asked.state_dir is not None:
        return asked.state_dir.absolute()
    if len(configs) == 1 and (options := _options(*next(iter(configs.items())))) is not None:
        return options.state_dir
    if configs:
        return None
    try:
        found = default_state_dir(os.environ).absolute()
    except Exception:
        return None
    return found if found.is_dir() else None


def _config_of(state_dir: Path, configs: dict[Path, Json]) -> tuple[Path | None, Json | None]:
    """The configuration of the node on a directory: the one that was named, else the one that ran last."""
    for path, config in configs.items():
        options = _options(path, config)
        if len(configs) == 1 or (options is not None and options.state_dir == state_dir):
            return path, config
    path = state_dir / "crossbar" / "config.json"
    try:
        return path, without_proxy_workers(read_config_file(path))
    except ConfigError:
        return None, None


def _url(path: Path | None, config: Json | None) -> str | None:
    if path is None or config is None:
        return None
    try:
        return listen_endpoint_of(config, path.absolute().parent).url
    except Exception:
        # What is wrong with it, its faults say.
        return None


# -- the way to peers, and what nodes answer ---------------------------------------------------------------------------


def _roads(config: Json, base: Path) -> dict[str, str | None]:
    roads: dict[str, str | None] = {}
    for worker in config.get("workers", ()):
        for realm in worker.get("realms", ()):
            for link in realm.get("rlinks", ()):
                try:
                    roads[str(link["id"])] = why_not_linked(link["transport"]["endpoint"], base)
                except (LookupError, TypeError, ValueError):
                    continue
    return roads


def _ask(asked: Asked, urls: list[str], examined: Examined) -> None:
    if not asked.has_token:
        examined.findings.append(skipped("status", "without an operator's token or key no node is asked how it is"))
        return
    statuses: dict[str, dict[str, Any]] = {}
    for url in urls:
        try:
            with asked.bus(url) as bus:
                status: dict[str, Any] = bus.request(uris.NODE_STATUS)
                name = str(status.get("node"))
                statuses[name] = status
                examined.values[f"status-{_safe(name)}"] = status
                examined.values[f"mailboxes-{_safe(name)}"] = bus.request(uris.NODE_MAILBOXES, {"limit": 100})
        except TrishulaError as error:
            examined.findings.append(skipped(f"{url}: status", f"it was not told: {error.sentence}"))
    for status in statuses.values():
        examined.findings.extend(check_status(status))
    examined.findings.extend(check_cluster(list(statuses.values())))


def _safe(name: str) -> str:
    return "".join(char if char.isalnum() or char in "_-" else "_" for char in name)[:64]


# -- the bundle --------------------------------------------------------------------------------------------------------


def _pack_state(state_dir: Path, url: str | None, examined: Examined) -> None:
    for name in ("node.log.1", "node.log"):
        try:
            with (state_dir / name).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_BYTES))
                examined.texts[name] = file.read().decode("utf-8", "replace")
        except OSError:
            continue
    path = state_dir / "crossbar" / "config.json"
    with contextlib.suppress(OSError, ValueError):
        examined.values["config-running"] = json.loads(path.read_bytes())
    if (ready := read_ready_file(state_dir)) is not None:
        examined.values["node"] = ready
    if url is not None and (answer := _ready(url)) is not None:
        examined.values["ready"] = answer
    try:
        agents = read_agents(agents_file_of(state_dir))
        examined.values["agents"] = {
            name: {
                "operator": one.operator,
                "send": list(one.send),
                "call": list(one.call),
                "serve": None if one.serve is None else list(one.serve),
                "expires_at_s": [entry.expires_at for entry in one.tokens],
            }
            for name, one in agents.items()
        }
        examined.secrets.extend(entry.sha256 for one in agents.values() for entry in one.tokens)
    except AgentsFileError as error:
        examined.values["agents"] = str(error)
    with contextlib.suppress(OSError):
        lines = (state_dir / "crossbar" / "key.priv").read_text(errors="replace").splitlines()
        examined.secrets.extend(line.split()[-1] for line in lines if line.startswith("private-key"))
    for token_file in state_dir.glob("*.token"):
        with contextlib.suppress(OSError):
            examined.secrets.extend(token_file.read_text(errors="replace").split())


def _ready(url: str) -> Any:
    """What the node says at /ready, over loopback; where it is asked, a test of its certificate is not the point."""
    parts = urlsplit(url)
    if parts.scheme != "ws":
        return None
    # A proxy that the environment names is for the world outside.
    asker = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with asker.open(f"http://{parts.netloc}/ready", timeout=_TIMEOUT_S) as answer:
            return json.loads(answer.read(1_000_000))
    except (OSError, ValueError) as error:
        body = getattr(error, "read", None)
        try:
            return json.loads(body(1_000_000)) if callable(body) else str(error)
        except (OSError, ValueError):
            return str(error)
