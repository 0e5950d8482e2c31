"""Writing a few bytes to a socket at once, instead of in the reactor's next turn.

Twisted keeps what is written until its loop comes round, and asks the kernel three times for it: to tell when there is
room, to take the bytes, and to tell no more. For a small frame of somebody who waits for the answer that is most of
what sending it costs.
"""

from __future__ import annotations

from typing import Any

__all__ = ["SOON_BYTES", "SOON_S", "write_soon"]

#: So small frames are written at once, but no two of a connection within so long: what follows in the same turn is
#: gathered by Twisted, which is one call of the kernel for all of it.
SOON_BYTES = 16 * 1024
SOON_S = 0.001


def write_soon(transport: Any, data: bytes) -> None:
    """Write a few bytes, at once if nothing waits before them.

    It reaches into names of Twisted's sockets (``_tempDataBuffer``, ``dataBuffer``, ``writeSomeData``); whatever is not
    as expected is left to Twisted. Only to a socket: what TLS hasn't itself
    is the socket's beneath it, so that the bytes would go out unencrypted.
    """
    is_socket = hasattr(type(transport), "writeSomeData") and getattr(transport, "_tempDataBuffer", None) == []
    if is_socket and transport.connected and not transport.dataBuffer and not transport.disconnecting:
        sent = transport.writeSomeData(data)
        if isinstance(sent, int) and sent == len(data):
            return
        data = data[sent:] if isinstance(sent, int) else data
    transport.write(data)
