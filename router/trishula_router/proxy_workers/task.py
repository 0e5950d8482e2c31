"""What a proxy worker is told to do, as it travels from the router worker: one line of JSON on its standard input."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Task"]


class Task(msgspec.Struct, frozen=True):
    """What it needs.

    Attributes:
        router: the path of the router worker's socket.
        tls: of the endpoint, with absolute paths; ``None`` without TLS.
        proxies: as the option of that name.
        handshake_s, strangers, strangers_per_address: as the limits of that name.
        number: its own, from 1.
        listening: the descriptor of its listening socket.
    """

    router: str
    tls: dict[str, Any] | None
    proxies: tuple[str, ...]
    handshake_s: float
    strangers: int
    strangers_per_address: int
    number: int = 0
    listening: int = -1
