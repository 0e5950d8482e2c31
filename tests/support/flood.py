"""Many frames at once on a raw connection: what floods are made of."""

from __future__ import annotations

import contextlib
import json
import struct
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tests.support.raw import RawClient

__all__ = ["answers_to", "burst", "frame", "keep"]

_TEXT = 0x81
_MASKED = 0x80
#: Of an ERROR: which kind of request it answers, the request, and the error's name.
_ERROR = 8
_EVENT = 36


def frame(*message: Any) -> bytes:
    """A WAMP message as one masked frame of JSON."""
    payload = json.dumps(message).encode()
    size = len(payload)
    if size < 126:
        length = bytes([_MASKED | size])
    else:
        length = b"\xfe" + struct.pack("!H", size) if size < 65536 else b"\xff" + struct.pack("!Q", size)
    return bytes([_TEXT]) + length + bytes(4) + payload


def burst(client: RawClient, frames: Iterable[bytes]) -> threading.Thread:
    """Send frames as fast as the node takes them, in a thread of its own: whoever sends must read meanwhile."""

    def send() -> None:
        try:
            client.pour(b"".join(frames))
        except OSError:
            # The node ended it.
            return

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def keep(client: RawClient) -> threading.Thread:
    """Have a client read on in a thread of its own, and forget what it reads, until it is closed."""

    def read() -> None:
        with contextlib.suppress(OSError):
            while True:
                client.receive()

    client.socket.settimeout(None)
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def answers_to(client: RawClient, count: int) -> Counter[str]:
    """Read so many answers; how many there are of each: an error's name without its prefix, or the message's number."""
    seen: Counter[str] = Counter()
    while seen.total() < count:
        message = client.receive()
        if message[0] == _ERROR:
            seen[str(message[4]).removeprefix("trishula.error.")] += 1
        elif message[0] != _EVENT:
            seen[str(message[0])] += 1
    return seen
