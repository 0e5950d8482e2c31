"""What stands before a node in the open: it takes TLS off and passes the bytes on."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path
from types import TracebackType

__all__ = ["TlsFront", "pump"]


class TlsFront:
    """In threads of its own; entered, it is its URL.

    Args:
        certificate: a PEM file with the chain and the key, for ``localhost``.
        port: the node's.
    """

    def __init__(self, certificate: Path, port: int) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> str:
        threading.Thread(target=self._accept, daemon=True).start()
        return f"wss://localhost:{self._listening.getsockname()[1]}/ws"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # Not only closed: a thread waits in accept.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                outer, _ = self._listening.accept()
                threading.Thread(target=self._carry, args=(outer,), daemon=True).start()

    def _carry(self, outer: socket.socket) -> None:
        with contextlib.suppress(OSError):
            secured = self._context.wrap_socket(outer, server_side=True)
            inner = socket.create_connection(("127.0.0.1", self._port))
            threading.Thread(target=pump, args=(inner, secured), daemon=True).start()
            pump(secured, inner)


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass on what comes from one socket to another, until either ends."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
