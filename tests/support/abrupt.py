"""A server that lets nobody join, and doesn't take part in the end of the WebSocket."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Iterator

__all__ = ["refusing"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@contextlib.contextmanager
def refusing(uri: str, sentence: str) -> Iterator[str]:
    """Its URL; whoever says HELLO is told an ABORT, and nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_accept, args=(listening, [3, {"message": sentence}, uri]), daemon=True).start()
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}/ws"
        listening.shutdown(socket.SHUT_RDWR)


def _accept(listening: socket.socket, abort: list[object]) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listening.accept()
            with contextlib.suppress(OSError), client:
                _serve(client, json.dumps(abort).encode())


def _serve(client: socket.socket, abort: bytes) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(4096)
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
    accept = base64.b64encode(hashlib.sha1(fields[b"Sec-WebSocket-Key"] + _GUID).digest())
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: wamp.2.json\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    client.recv(65536)
    client.sendall(bytes([0x81, len(abort)]) + abort)
    while client.recv(4096):
        pass
