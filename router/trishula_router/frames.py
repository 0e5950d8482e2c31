"""What the frames of clients cost a node: a bad one ends its own session, and two lines of the log.

Autobahn reads and writes the frames inside of Crossbar, and three of its habits let one client harm the others:

- For each frame that it can't read it logs a traceback of up to a hundred lines, also for strangers who have not
  joined: whoever sends garbage fills the disk. Here such a frame ends its session, because WAMP knows no other answer
  to it, and Autobahn's own two lines about that say why.
- It reads all of CBOR. With its references (tags 28 and 29 for values, 25 and 256 for strings) a frame of 300 bytes
  means a value of a billion items, and the first of us that looks at all of it takes the worker's memory. WAMP's values
  have no references; here they can't be read.
- It doesn't write a lone surrogate into JSON, from which it reads one (``"\\ud800"``). Where an answer quotes the
  client, as Crossbar's own answers quote the URI, there was none, and the client waited for ever. Here it goes out as
  it came in.

It reaches into private names of Autobahn (26.10.2: ``wamp.serializer._dumps``, ``._cbor_loads``); if they
are not as expected, nothing is changed.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NoReturn

from twisted.logger import Logger

__all__ = ["guard_frames"]

log = Logger()

_REFERENCES = (25, 28, 29, 256)
#: So much of the reason is logged: it quotes what the client sent.
_REASON_LENGTH = 200


def guard_frames(protocol: Any, serializer: Any) -> bool:
    """Have the frames of this process' WebSocket connections read and written as this module says.

    Args:
        protocol: Autobahn's class of a server's WAMP connection.
        serializer: Autobahn's module of serializers.

    Returns:
        Whether Autobahn is as expected; if not, nothing was changed.
    """
    dumps, loads = getattr(serializer, "_dumps", None), getattr(serializer, "_cbor_loads", None)
    if not callable(dumps) or not callable(loads) or not hasattr(protocol, "onMessage"):
        return False
    cbor_loads = partial(loads, semantic_decoders=dict.fromkeys(_REFERENCES, _refuse_reference))
    try:
        cbor_loads(b"\x00")
    except TypeError:
        return False

    def json_dumps(*args: Any, **options: Any) -> bytes:
        # What JSON calls an escape is what Python makes of a surrogate.
        return bytes(dumps(*args, **options).encode("utf-8", "backslashreplace"))

    def on_message(connection: Any, payload: bytes, is_binary: bool) -> None:
        _read(connection, payload, is_binary, serializer.ProtocolError)

    serializer._dumps, serializer._cbor_loads = json_dumps, cbor_loads
    protocol.onMessage = on_message
    return True


def _refuse_reference(*_: object) -> NoReturn:
    raise ValueError("references in CBOR are not taken")


def _read(connection: Any, payload: bytes, is_binary: bool, protocol_error: type[Exception]) -> None:
    """One frame of a connection: what WebSocket carried."""
    try:
        messages = connection._serializer.unserialize(payload, is_binary)
        for message in messages:
            # It may have ended by the message before.
            if connection._session is not None:
                _hand_over(connection, message, protocol_error)
    except Exception as error:
        reason = ascii(str(error))[:_REASON_LENGTH]
        connection._bailout(connection.CLOSE_STATUS_CODE_PROTOCOL_ERROR, f"WAMP Protocol Error ({reason})")


def _hand_over(connection: Any, message: Any, protocol_error: type[Exception]) -> None:
    try:
        connection._session.onMessage(message)
    except protocol_error:
        raise
    except Exception:
        log.failure("a frame of a client could not be handled")
        raise
