"""What is found on the machine of a node: facts for :mod:`trishula_router.doctor.machine_checks`.

Nothing is changed: no directory is made, no lock is kept, and a port is bound for a moment only where no node runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import socket
import ssl
import stat
import time
from pathlib import Path
from typing import Any

from trishula_router.agents.file import KEPT_FILE
from trishula_router.commands.state_dir import agents_file_of, state_holder
from trishula_router.doctor.machine_checks import Machine
from trishula_router.privacy import NotPrivate, check_directory
from trishula_router.settings.check import check_config, check_with_crossbar
from trishula_router.settings.crossbar_config import Json, listen_endpoint_of, listener_of
from trishula_router.settings.options import NodeConfig
from trishula_router.store.sqlite.connection import FILE_NAME
from trishula_router.store.sqlite.files import schema_of
from trishula_router.store.sqlite.migrate import newest_version

__all__ = ["machine_of", "why_not_linked", "why_unreachable"]

_TIMEOUT_S = 3.0


def machine_of(state_dir: Path, path: Path | None, config: Json | None, options: NodeConfig | None) -> Machine:
    """What is found on this machine.

    Args:
        state_dir: of a node.
        path, config: its configuration, if one was found.
        options: the options in it, if they are good.
    """
    holder = state_holder(state_dir) if state_dir.is_dir() else None
    facts: dict[str, Any] = {
        "state_dir": state_dir,
        "state_fault": _state_fault(state_dir),
        "config": path,
        "config_faults": _config_faults(path, config),
        "runs_as": None if holder is None else str(holder),
        "file_system": _file_system(state_dir),
        "most_files": _most_files(),
        "is_synchronised": _is_synchronised(),
        **_schema(state_dir),
        **_disk(state_dir),
        **_private_files(state_dir, path, config),
    }
    store = state_dir / FILE_NAME
    if options is not None and facts.get("free_bytes") is not None:
        facts["wanted_bytes"] = max(0, options.limits.store_bytes - (store.stat().st_size if store.exists() else 0))
    if path is not None and config is not None:
        try:
            address = listen_endpoint_of(config, path.absolute().parent)
        except Exception:
            address = None
        if address is not None:
            facts["port"] = address.port
            facts |= _port(address.here, address.host, address.port, is_running=holder is not None)
            if address.certificate is not None:
                facts |= _certificate(address.certificate)
    return Machine(**facts)


def _state_fault(state_dir: Path) -> str | None:
    if not state_dir.is_dir():
        return f"the state directory {state_dir} is not there; name the node's with --state"
    mode = stat.S_IMODE(state_dir.stat().st_mode)
    if mode & 0o077 and not any(state_dir.iterdir()):
        # The node closes it by itself.
        return None
    try:
        check_directory(state_dir)
    except NotPrivate as error:
        return str(error)
    except OSError as error:
        return f"the state directory {state_dir} can't be looked at: {error.strerror}"
    return None


def _config_faults(path: Path | None, config: Json | None) -> tuple[str, ...] | None:
    if path is None or config is None:
        return None
    faults = [*check_config(config, base=path.absolute().parent)]
    with contextlib.suppress(ImportError):
        faults += check_with_crossbar(config)
    return tuple(one.sentence for one in faults)


def _file_system(state_dir: Path) -> str | None:
    best: tuple[str, str | None] = "", None
    try:
        here = str(state_dir.resolve())
        for line in Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
            _, place, kind, *_ = line.split(" ")
            place = place.replace("\\040", " ")
            if (here == place or here.startswith(place.rstrip("/") + "/")) and len(place) >= len(best[0]):
                best = place, kind
    except (OSError, ValueError):
        return None
    return best[1]


def _most_files() -> int | None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 2**31 if hard == resource.RLIM_INFINITY else hard


def _is_synchronised() -> bool | None:
    """What the kernel says of the clock (adjtimex): NTP daemons tell it; timedatectl asks the same."""
    try:
        ask = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None
    # Larger than the structure is anywhere; all zero: nothing is to be set.
    answer = ask(ctypes.create_string_buffer(1024))
    return None if answer < 0 else answer != 5


def _schema(state_dir: Path) -> dict[str, Any]:
    return {"schema": schema_of(state_dir / FILE_NAME), "newest_schema": newest_version()}


def _disk(state_dir: Path) -> dict[str, Any]:
    try:
        told = os.statvfs(state_dir)
    except OSError:
        return {}
    return {
        "free_bytes": told.f_bavail * told.f_frsize,
        # Some file systems have no fixed number of them.
        "free_inodes": told.f_favail if told.f_files else None,
    }


def _private_files(state_dir: Path, path: Path | None, config: Json | None) -> dict[str, Any]:
    ours = [state_dir / "crossbar" / "key.priv", state_dir / KEPT_FILE, state_dir / FILE_NAME]
    ours += [agents_file_of(state_dir), *sorted(state_dir.glob("*.token"))]
    # A group for certificates may read a TLS key.
    masks = dict.fromkeys(ours, 63)
    if path is not None and config is not None and (key := _tls_key(path, config)) is not None:
        masks[key] = 0o007
    opened: dict[Path, int] = {}
    closed: list[Path] = []
    for file, mask in masks.items():
        try:
            mode = stat.S_IMODE(file.stat().st_mode)
        except OSError:
            continue
        if mode & mask:
            opened[file] = mode
        if not os.access(file, os.R_OK):
            closed.append(file)
    return {"open_files": opened, "closed_files": tuple(closed)}


def _tls_key(path: Path, config: Json) -> Path | None:
    try:
        name = listener_of(config)["endpoint"]["tls"]["key"]
        return path.absolute().parent / str(name)
    except (LookupError, TypeError):
        return None


def _port(here: str, host: str, port: int, *, is_running: bool) -> dict[str, Any]:
    if is_running:
        return {"is_answering": why_unreachable(here, port) is None}
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return {"port_taken_by": _listener(port)}
            return {"port_forbidden": error.errno in (errno.EACCES, errno.EPERM)}
    return {}


def _listener(port: int) -> str:
    """The name and number of the process that listens; not its command line, which may hold secrets."""
    try:
        import psutil

        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid is not None:
                return f"{psutil.Process(one.pid).name()} (process {one.pid})"
    except Exception:
        # Without the right to look, or where it ended meanwhile.
        pass
    return "another program (as root, this tells which: ss -ltnp)"


def _certificate(file: Path) -> dict[str, Any]:
    from cryptography.x509 import load_pem_x509_certificate

    facts: dict[str, Any] = {"certificate": file}
    try:
        until = load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc
    except OSError as error:
        return {**facts, "certificate_fault": error.strerror or str(error)}
    except ValueError:
        return {**facts, "certificate_fault": "it holds no certificate in PEM"}
    return {**facts, "certificate_left_s": until.timestamp() - time.time()}


def why_unreachable(host: str, port: int) -> str | None:
    """Why nobody takes a connection there; ``None`` if somebody does."""
    try:
        socket.create_connection((host, port), timeout=_TIMEOUT_S).close()
    except TimeoutError:
        return f"{host}:{port} gives no answer within {_TIMEOUT_S:g} s: a firewall drops it, or the machine is off"
    except OSError as error:
        return f"{host}:{port}: {error.strerror or error}"
    return None


def why_not_linked(endpoint: Json, base: Path) -> str | None:
    """Why a link's endpoint can't be connected to, its TLS included; ``None`` if it can.

    Args:
        endpoint: as the configuration has it.
        base: the directory that relative names of files start from.
    """
    host, port, tls = str(endpoint["host"]), int(endpoint["port"]), endpoint.get("tls")
    why = why_unreachable(host, port)
    if why is not None or not isinstance(tls, dict):
        return why
    name = str(tls.get("hostname") or host)
    try:
        # With authorities of its own a link trusts no others.
        own = [base / str(file) for file in tls.get("ca_certificates", ())]
        trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if own else ssl.create_default_context()
        for file in own:
            trusted.load_verify_locations(file)
        with (
            socket.create_connection((host, port), timeout=_TIMEOUT_S) as line,
            trusted.wrap_socket(line, server_hostname=name),
        ):
            return None
    except ssl.SSLCertVerificationError as error:
        return f"the certificate of {name} at {host}:{port} is not good: {error.verify_message}"
    except (OSError, ValueError) as error:
        return f"TLS with {name} at {host}:{port} fails: {getattr(error, 'strerror', None) or error}"
