"""Where a node's proxy workers reach its router worker: a Unix socket, in a directory of the node's user alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["MOST_PROXY_WORKERS", "check_proxy_socket", "proxy_socket_of"]

#: More than cores are of no use, and each takes some 40 MiB.
MOST_PROXY_WORKERS = 64
#: So long may the path of a socket be, and macOS takes four bytes less; hence the short name.
_PATH_BYTES = 107 if sys.platform == "linux" else 103
_DIRECTORY, _SOCKET = "proxy", "sock"


def proxy_socket_of(state_dir: Path) -> Path:
    """The socket's path."""
    return state_dir / _DIRECTORY / _SOCKET


def check_proxy_socket(state_dir: Path) -> str | None:
    """Why there can be no socket below a state directory, as a rule for it; ``None`` if there can."""
    too_long = len(os.fsencode(proxy_socket_of(state_dir))) - _PATH_BYTES
    if too_long <= 0:
        return None
    return (
        f"it must be 0 with the state directory {state_dir}, whose path is {too_long} bytes too long for a socket in it"
    )
