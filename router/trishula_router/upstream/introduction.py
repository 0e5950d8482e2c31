"""What a proxy worker says of a connection, in one line before the connection's first byte.

The router worker can't see it itself: whose connection it is, and of its TLS the channel's id, by which the keys of
agents and peers are bound to this one connection. It is no word about who the client is: a client that is introduced
has to prove that like any other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import ip_address

__all__ = ["END", "MOST_BYTES", "Introduction", "read_introduction"]

#: What ends it, and how long it is at most with that.
END, MOST_BYTES = b"\n", 256
_CHANNEL_BYTES = 32
_MOST_PORT, _MOST_WORKERS = 65_535, 1024


@dataclass(frozen=True, slots=True)
class Introduction:
    """A connection, as the proxy worker has it.

    Attributes:
        ip: the address at its other end.
        port: the port there.
        channel_id: of its TLS, 32 bytes; ``None`` without TLS.
        worker: the number of the proxy worker.
    """

    ip: str
    port: int
    channel_id: bytes | None = None
    worker: int = 0

    def line(self) -> bytes:
        """As it travels."""
        channel = None if self.channel_id is None else self.channel_id.hex()
        return json.dumps([self.ip, self.port, channel, self.worker]).encode() + END


def read_introduction(line: bytes) -> Introduction:
    """What a line says, without its end.

    Raises:
        ValueError: nothing that a proxy worker writes.
    """
    told = json.loads(line)
    if not (isinstance(told, list) and len(told) == 4):
        raise ValueError("an introduction has four parts")
    ip, port, channel, worker = told
    if not isinstance(ip, str) or not _is_count(port, _MOST_PORT) or not _is_count(worker, _MOST_WORKERS):
        raise ValueError("an introduction has an address, a port and the number of a proxy worker")
    ip_address(ip)
    if channel is None:
        return Introduction(ip, port, None, worker)
    if not isinstance(channel, str) or len(channel) != 2 * _CHANNEL_BYTES:
        raise ValueError("the id of a TLS channel has 32 bytes")
    return Introduction(ip, port, bytes.fromhex(channel), worker)


def _is_count(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most
