"""Nodes behind proxy workers, for tests of what must be no different there."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import psutil

from tests.support.node import NodeProcess
from tests.support.raw import RawClient

__all__ = ["AtTheSocket", "proxied_config", "proxy_processes", "socket_of"]

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"


def proxied_config(file: Path, workers: int, certificate: Path | None = None, **extra: Any) -> Path:
    """The shipped configuration with proxy workers, and TLS with a certificate and further options of the node."""
    config = json.loads(SHIPPED.read_text())
    (worker,) = config["workers"]
    worker["components"][0]["extra"] |= {"proxy_workers": workers, **extra}
    if certificate is not None:
        worker["transports"][0]["endpoint"]["tls"] = {"key": str(certificate), "certificate": str(certificate)}
    file.write_text(json.dumps(config))
    return file


def proxy_processes(node: NodeProcess) -> list[psutil.Process]:
    """Those of a node that runs."""
    children = psutil.Process(node.worker_pid()).children()
    return [child for child in children if "trishula_router.proxy_workers.process" in child.cmdline()]


def socket_of(node: NodeProcess) -> Path:
    """Where the proxy workers reach the router worker."""
    return node.state_dir / "proxy" / "sock"


class AtTheSocket(RawClient):
    """A client that got to the proxy workers' socket, which takes the node's own user; it begins with ``line``."""

    def __init__(self, node: NodeProcess, line: bytes, **options: Any) -> None:
        super().__init__(node.url, **options)
        self.socket.close()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20.0)
        self.socket.connect(str(socket_of(node)))
        self.socket.sendall(line)
