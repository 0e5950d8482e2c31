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

A session that ends because of what its client sent is told why: with the option ``fail_by_drop``, which keeps nobody's
socket open for long, Autobahn only cuts the connection, and the client could as well have lost its network. Here a
close frame with the code and the reason goes before that, so that the client can set aside what it sent.

It reaches into private names of Autobahn (26.10.2: ``wamp.serializer._dumps``, ``._cbor_loads``, a connection's
``_fail_connection``); if they are not as expected, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from twisted.logger import Logger

__all__ = ["guard_frames"]

log = Logger()

_REFERENCES = (25, 28, 29, 256)
#: So much of the reason is logged: it quotes what the client sent.
_REASON_LENGTH = 200
#: What a close frame may carry beside its code.
_TOLD_BYTES = 123
#: Who doesn't take the close frame by then is cut off.
_GOODBYE_S = 1.0


def guard_frames(protocol: Any, serializer: Any, came: Callable[[int], object] = lambda size_bytes: None) -> bool:
    """Have the frames of this process' WebSocket connections read and written as this module says.

    Args:
        protocol: Autobahn's class of a server's WAMP connection.
        serializer: Autobahn's module of serializers.
        came: told of each frame that came in, after it was handled: its bytes.

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
        came(len(payload))

    def fail_connection(connection: Any, code: int, reason: str) -> None:
        if connection.failByDrop and connection.state == connection.STATE_OPEN:
            _tell_and_close(connection, code, reason)
        else:
            # Of the classes that it is mixed with.
            super(protocol, connection)._fail_connection(code, reason)

    serializer._dumps, serializer._cbor_loads = json_dumps, cbor_loads
    protocol.onMessage, protocol._fail_connection = on_message, fail_connection
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


def _tell_and_close(connection: Any, code: int, reason: str) -> None:
    """End a connection because of what came on it, with a close frame that says so."""
    # These two lines are Autobahn's, word for word.
    connection.log.warn('failing WebSocket connection (code={code}): "{reason}"', code=code, reason=reason)
    connection.failedByMe, connection.wasClean = True, False
    connection.wasNotCleanReason = f"I dropped the WebSocket TCP connection: {reason}"
    told = reason.encode(errors="replace")[:_TOLD_BYTES].decode(errors="ignore").encode()
    connection.sendFrame(opcode=8, payload=code.to_bytes(2, "big") + told)
    transport = connection.transport
    connection.dropConnection(abort=False)
    connection.factory.reactor.callLater(_GOODBYE_S, transport.abortConnection)


def _hand_over(connection: Any, message: Any, protocol_error: type[Exception]) -> None:
    try:
        connection._session.onMessage(message)
    except protocol_error:
        raise
    except Exception:
        log.failure("a frame of a client could not be handled")
        raise
