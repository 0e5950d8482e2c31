"""What a node asks of the router it is embedded in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from trishula_router.mail.outlet import Outlet

__all__ = ["Router"]


class Router(Outlet, Protocol):
    """The way out of a node."""

    def announce(self, topic: str, event: Mapping[str, Any]) -> None:
        """Publish an event for all."""

    def frame_limit_bytes(self, session: int) -> int | None:
        """The most that one WebSocket message of a session may have; ``None`` if that is not known, or not limited."""

    def close_session(self, session: int, uri: str, sentence: str) -> None:
        """End a client's session, telling it why: an error's URI and a sentence."""

    def post(self, peer: str, kind: str, text: bytes) -> None:
        """Send something to another node; it may get lost on the way."""
