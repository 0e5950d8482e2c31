"""Frames for one connection that leave in one write.

At the end of a turn of the reactor receipts of sends and answers of acks go out, to an agent that sends and receives
often one of each. The kernel takes both in one call, and their reader wakes once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trishula.session.written_soon import SOON_BYTES, write_soon

__all__ = ["Writes"]


class Writes:
    """Keeps frames back while :meth:`together` lasts."""

    def __init__(self) -> None:
        self._is_keeping = False
        self._frames: dict[Any, list[bytes]] = {}

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is written meanwhile leaves at the end, of each connection in one write."""
        self._is_keeping = True
        try:
            yield
        finally:
            self._is_keeping = False
            for connection in list(self._frames):
                self.let_go(connection)

    def keep(self, connection: Any, data: bytes) -> bool:
        """Whether bytes for a connection are kept back; if not, they are to be written now."""
        if self._is_keeping:
            self._frames.setdefault(connection, []).append(data)
        return self._is_keeping

    def let_go(self, connection: Any) -> None:
        """Write what was kept back for a connection: something follows that may not pass it."""
        frames = self._frames.pop(connection, None)
        if frames is None:
            return
        data = b"".join(frames)
        if len(data) <= SOON_BYTES:
            write_soon(connection.transport, data)
        else:
            connection.transport.write(data)
