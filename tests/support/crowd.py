"""Many connections at once that want nothing: sockets that are opened and held, from one address or another."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
from types import TracebackType
from urllib.parse import urlsplit

__all__ = ["Crowd"]


class Crowd:
    """Connections to a node that are held.

    Args:
        url: the node's.
        source: the address that they come from.
    """

    def __init__(self, url: str, source: str = "127.0.0.1") -> None:
        self._at = urlsplit(url)
        self._source = source
        self._sockets: list[socket.socket] = []
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for one in self._sockets:
            one.close()

    def come(self, count: int, say: bytes = b"") -> None:
        """Open so many more, and say something on each."""
        for _ in range(count):
            one = socket.socket()
            self._sockets.append(one)
            one.settimeout(20.0)
            one.bind((self._source, 0))
            # The node may have ended it before.
            with contextlib.suppress(OSError):
                one.connect((self._at.hostname, self._at.port))
                one.sendall(say)

    def still_open(self) -> int:
        """How many the node has not ended."""
        poll = select.poll()
        for one in self._sockets:
            poll.register(one, select.POLLRDHUP)
        return len(self._sockets) - len(poll.poll(0))
