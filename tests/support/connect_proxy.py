"""An HTTP proxy that opens tunnels (CONNECT), in threads of the test's process."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from types import TracebackType

from tests.support.tls import pump

__all__ = ["ConnectProxy"]


class ConnectProxy:
    """Knows the hosts that it is told of, each as an address of this machine; entered, it is itself.

    Args:
        hosts: whom it opens tunnels to; others are answered 403.
        credentials: ``USER:PASSWORD`` that it wants; ``None``: none.
        says: what it answers, in place of all that.

    Attributes:
        asked: what it was asked for, each as ``HOST:PORT``.
        address: where it listens, as ``HOST:PORT``.
    """

    def __init__(self, *hosts: str, credentials: str | None = None, says: bytes | None = None) -> None:
        self.asked: list[str] = []
        self._hosts = hosts
        self._wanted = None if credentials is None else f"Basic {base64.b64encode(credentials.encode()).decode()}"
        self._says = says
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> ConnectProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            first, *lines = head.decode().split("\r\n")
            method, target, _ = first.split()
            fields = dict(line.split(": ", 1) for line in lines if line)
            self.asked.append(target)
            host, _, port = target.rpartition(":")
            if self._says is not None:
                client.sendall(self._says)
            elif self._wanted not in (None, fields.get("Proxy-Authorization")):
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n")
            elif method != "CONNECT" or host not in self._hosts or fields["Host"] != target:
                client.sendall(b"HTTP/1.1 403 Not for you\r\nContent-Length: 0\r\n\r\n")
            else:
                client.sendall(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n")
                with socket.create_connection(("127.0.0.1", int(port))) as inner:
                    back = threading.Thread(target=pump, args=(inner, client), daemon=True)
                    back.start()
                    pump(client, inner)
                    # Closed too early, a descriptor may be another connection's when the other thread writes to it.
                    back.join()
