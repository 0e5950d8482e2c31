"""A WebSocket client that is nothing but a socket: it can stop reading, stop in mid-join, or never begin one."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import socket
import struct
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from trishula.contract.uris import REALM

__all__ = ["RawClient"]

_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10


class RawClient:
    """One TCP connection to a node.

    Args:
        url: the node's.
        path: another path than the URL's.
        receive_bytes: how much the kernel keeps for us unread, about.
        source: the address to come from.
        headers: more lines of the HTTP request.

    Attributes:
        close_code, close_reason: what the close frame said.
        session: the one that it joined as last.
    """

    def __init__(
        self,
        url: str,
        *,
        path: str = "",
        receive_bytes: int = 0,
        timeout_s: float = 20.0,
        source: str = "",
        headers: Sequence[str] = (),
    ) -> None:
        at = urlsplit(url)
        self.path = path or at.path
        self.close_code, self.close_reason = 0, ""
        self.session = 0
        self._data = b""
        self._message = b""
        self._sending = threading.Lock()
        self._requests = itertools.count(1)
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._headers = headers
        if source:
            self.socket.bind((source, 0))
        self.socket.settimeout(timeout_s)
        self.socket.connect((at.hostname, at.port))
        self._host = f"{at.hostname}:{at.port}"

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # A thread may wait for it.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def request(self, protocol: str = "wamp.2.json") -> bytes:
        """The HTTP request that makes it a WebSocket."""
        lines = [
            f"GET {self.path} HTTP/1.1",
            f"Host: {self._host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Protocol: {protocol}",
            *self._headers,
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def open(self, protocol: str = "wamp.2.json") -> None:
        """Become a WebSocket."""
        self.socket.sendall(self.request(protocol))
        while b"\r\n\r\n" not in self._data:
            self._read()
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head

    def send_frame(self, opcode: int, payload: bytes = b"", *, is_last: bool = True) -> None:
        """Send a frame, masked with zeros."""
        size = len(payload)
        if size < 126:
            length = bytes([0x80 | size])
        else:
            length = b"\xfe" + struct.pack("!H", size) if size < 65536 else b"\xff" + struct.pack("!Q", size)
        self.pour(bytes([(0x80 if is_last else 0) | opcode]) + length + bytes(4) + payload)

    def pour(self, data: bytes) -> None:
        """Send bytes; what other threads send goes before or after all of them."""
        with self._sending:
            self.socket.sendall(data)

    def ping(self) -> None:
        """Say that we are there."""
        self.send_frame(_PING)

    def send(self, message: list[Any]) -> None:
        """Send a WAMP message."""
        self.send_frame(_TEXT, json.dumps(message).encode())

    def hello(self, agent: str) -> None:
        """Ask to be let in."""
        details: dict[str, Any] = {"roles": {role: {} for role in ("caller", "subscriber", "publisher")}}
        details["roles"]["callee"] = {"features": {"call_canceling": True}}
        self.send([1, REALM, {**details, "authmethods": ["ticket"], "authid": agent}])

    def join(self, agent: str, token: str) -> None:
        """Become a session."""
        self.hello(agent)
        assert self.receive()[0] == 4
        self.send([5, token, {}])
        welcome = self.receive()
        assert welcome[0] == 2, welcome
        self.session = welcome[1]

    def begin(self, kind: int, *rest: Any) -> None:
        """Send a request and don't wait for its answer."""
        self.send([kind, next(self._requests), {}, *rest])

    def ask(self, kind: int, *rest: Any) -> list[Any]:
        """Send a request with an answer; events in between are dropped."""
        self.begin(kind, *rest)
        while True:
            answer = self.receive()
            if answer[0] == 8:
                raise AssertionError(f"the node answered {answer}")
            if answer[0] != 36:
                return answer

    def subscribe(self, topic: str) -> None:
        """Have a topic's events sent here."""
        self.ask(32, topic)

    def publish(self, topic: str, event: object, **options: object) -> None:
        """Publish, and wait until the router has it."""
        number = next(self._requests)
        self.send([16, number, {"acknowledge": True, **options}, topic, [event]])
        while self.receive()[0] != 17:
            pass

    def call(self, uri: str, *args: Any) -> Any:
        """Call a procedure."""
        return self.ask(48, uri, list(args))[3][0]

    def receive(self) -> list[Any]:
        """The next WAMP message; pings are answered.

        Raises:
            ConnectionError: if the node closed the connection.
        """
        message: list[Any] = json.loads(self.receive_bytes())
        return message

    def receive_bytes(self) -> bytes:
        """The next message, in whatever it is written; pings are answered.

        Raises:
            ConnectionError: if the node closed the connection.
        """
        while True:
            opcode, is_last, payload = self._frame()
            if opcode == _PING:
                self.send_frame(_PONG, payload)
            elif opcode == _CLOSE:
                self.close_code, self.close_reason = int.from_bytes(payload[:2], "big"), payload[2:].decode()
                raise ConnectionError(self.close_reason)
            elif opcode < _CLOSE:
                self._message += payload
                if is_last:
                    whole, self._message = self._message, b""
                    return whole

    def is_closed_within(self, timeout_s: float) -> bool:
        """Read on until the node closes the connection, or for so long; answers nothing."""
        self.socket.settimeout(timeout_s)
        try:
            while self.socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def _frame(self) -> tuple[int, bool, bytes]:
        while len(self._data) < 2:
            self._read()
        first, size = self._data[0], self._data[1]
        extra = {126: 2, 127: 8}.get(size, 0)
        while len(self._data) < 2 + extra:
            self._read()
        if extra:
            size = int.from_bytes(self._data[2 : 2 + extra], "big")
        end = 2 + extra + size
        while len(self._data) < end:
            self._read()
        payload, self._data = self._data[2 + extra : end], self._data[end:]
        return first & 15, bool(first & 128), payload

    def _read(self) -> None:
        more = self.socket.recv(65536)
        if not more:
            raise ConnectionError("the node closed the connection")
        self._data += more
