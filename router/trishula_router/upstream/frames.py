"""What the frames of clients cost a node: a bad one ends its own session, and two lines of the log.

Autobahn reads and writes the frames inside of Crossbar, and three of its habits let one client harm the others:

- For each frame that it can't read it logs a traceback of up to a hundred lines, also for strangers who have not
  joined: whoever sends garbage fills the disk. Here such a frame ends its session, because WAMP knows no other answer
  to it, and Autobahn's own two lines about that say why.
- It reads all that the three formats can say, however much that is and whoever says it. Here a frame is read as
  :mod:`trishula_router.upstream.decoding` says; before a session has joined, it is one message, and one that belongs
  there.
- It doesn't write a lone surrogate into JSON, from which it reads one (``"\\ud800"``). Where an answer quotes the
  client, as Crossbar's own answers quote the URI, there was none, and the client waited for ever. Here it goes out as
  it came in.

MessagePack is written by :mod:`msgspec`, in a tenth of the time.

A session that ends because of what its client sent is told why: with the option ``fail_by_drop``, which keeps nobody's
socket open for long, Autobahn only cuts the connection, and the client could as well have lost its network. Here a
close frame with the code and the reason goes before that, so that the client can set aside what it sent.

While a large frame is read and handled, Python's collector of garbage rests: it would look through what is being made
of the frame again and again, which takes longer than to make it.

It reaches into private names of Autobahn (26.10.2: ``wamp.serializer._dumps``, ``._loads``, ``._packb``, ``._unpackb``,
``._cbor_loads``, ``._msgpack``, a connection's ``_fail_connection``); if they are not as expected, nothing is changed.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.logger import Logger

from trishula_router.upstream.decoding import TooMuch, check_greeting, read_cbor, read_json, read_msgpack, values_for
from trishula_router.upstream.own_calls import OwnCalls

__all__ = ["guard_frames"]

log = Logger()

#: Of the limits that a node has if its operator names none.
_MOST_VALUES = values_for(1024 * 1024, 1024)
#: What a client may say while it has no session: HELLO, ABORT, AUTHENTICATE, by WAMP's numbers.
_HELLO, _ABORT = 1, 3
_GREETINGS = frozenset({_HELLO, _ABORT, 5})
#: While a frame of more than so many bytes is read and handled, no garbage is collected.
_LARGE_BYTES = 64 * 1024
#: So much of the reason is logged: it quotes what the client sent.
_REASON_LENGTH = 200
#: What a close frame may carry beside its code.
_TOLD_BYTES = 123
#: Who doesn't take the close frame by then is cut off.
_GOODBYE_S = 1.0


def guard_frames(
    protocol: Any,
    serializer: Any,
    came: Callable[[int], object] = lambda size_bytes: None,
    *,
    most_values: int = _MOST_VALUES,
    seconds: Callable[[], float] = lambda: 0.0,
    read: Callable[[Any, float, bool], object] = lambda connection, took_s, is_refused: None,
    own_calls: OwnCalls | None = None,
) -> bool:
    """Have the frames of this process' WebSocket connections read and written as this module says.

    Args:
        protocol: Autobahn's class of a server's WAMP connection.
        serializer: Autobahn's module of serializers.
        came: told of each frame that came in, after it was handled: its bytes.
        most_values: how many values a frame may hold; never fewer than by our own limits.
        seconds: a clock of the processor's time.
        read: told of each large frame's connection, before it is handled: how long it took to read, and whether it was
            refused.
        own_calls: takes calls of the node's own procedures, before a session hears of them.

    Returns:
        Whether Autobahn is as expected; if not, nothing was changed.
    """
    readers = _readers(serializer, max(most_values, _MOST_VALUES))
    dumps, packb = getattr(serializer, "_dumps", None), getattr(serializer, "_packb", None)
    if readers is None or not callable(dumps) or not callable(packb) or not hasattr(protocol, "onMessage"):
        return False

    def json_dumps(*args: Any, **options: Any) -> bytes:
        # What JSON calls an escape is what Python makes of a surrogate.
        return bytes(dumps(*args, **options).encode("utf-8", "backslashreplace"))

    def on_message(connection: Any, payload: bytes, is_binary: bool) -> None:
        if len(payload) <= _LARGE_BYTES:
            _read(connection, payload, is_binary, serializer.ProtocolError, _nothing, own_calls)
        else:
            # Autobahn still has it in the pieces in which it came.
            connection.message_data = None
            was_collecting = gc.isenabled()
            gc.disable()
            began_s = seconds()
            try:
                _read(
                    connection,
                    payload,
                    is_binary,
                    serializer.ProtocolError,
                    lambda is_refused: read(connection, seconds() - began_s, is_refused),
                    own_calls,
                )
            finally:
                if was_collecting:
                    gc.enable()
        came(len(payload))

    def fail_connection(connection: Any, code: int, reason: str) -> None:
        if connection.failByDrop and connection.state == connection.STATE_OPEN:
            _tell_and_close(connection, code, reason)
        else:
            # Of the classes that it is mixed with.
            super(protocol, connection)._fail_connection(code, reason)

    serializer._dumps = json_dumps
    serializer._packb = _packer(packb)
    for name, reader in readers.items():
        setattr(serializer, name, reader)
    protocol.onMessage, protocol._fail_connection = on_message, fail_connection
    return True


def _readers(serializer: Any, most_values: int) -> dict[str, Callable[..., Any]] | None:
    """Our readers, by the name in Autobahn's module that each of them takes; ``None`` if it is not as expected."""
    json_loads, cbor_loads = getattr(serializer, "_loads", None), getattr(serializer, "_cbor_loads", None)
    unpackb = getattr(getattr(serializer, "_msgpack", None), "unpackb", None)
    if not callable(json_loads) or not callable(cbor_loads) or not callable(unpackb):
        return None
    if not callable(getattr(serializer, "_unpackb", None)):
        return None

    def loads(text: str, **options: Any) -> Any:
        # With options that nobody here sets, strings stand for other things too.
        return json_loads(text, **options) if any(options.values()) else read_json(text, most_values)

    readers: dict[str, Callable[..., Any]] = {
        "_loads": loads,
        "_cbor_loads": lambda data: read_cbor(cbor_loads, data, most_values),
        "_unpackb": lambda data: read_msgpack(unpackb, data, most_values),
    }
    try:
        # The libraries must know the options that we read with.
        readers["_cbor_loads"](b"\x00")
        readers["_unpackb"](b"\x00")
    except TypeError:
        return None
    return readers


def _packer(packb: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Writes MessagePack as ``packb`` does, but in memory of the message's size: that one takes 256 KiB for each."""
    encode = msgspec.msgpack.Encoder().encode

    def pack(value: Any) -> bytes:
        try:
            return encode(value)
        except Exception:
            # Whether it can be written, and what is wrong with it, is the library's word.
            return packb(value)

    return pack


def _nothing(_: bool) -> None:
    """A small frame is read in no time."""


def _read(
    connection: Any,
    payload: bytes,
    is_binary: bool,
    protocol_error: type[Exception],
    read: Callable[[bool], object],
    own_calls: OwnCalls | None,
) -> None:
    """One frame of a connection: what WebSocket carried."""
    try:
        session = connection._session
        if session is not None and session._session_id is None:
            _check_greeting(connection, payload)
            if own_calls is not None:
                # Of what this connection says from now on; the copy of the serializer is its own.
                connection._serializer.MESSAGE_TYPE_MAP = own_calls.kinds(connection._serializer.MESSAGE_TYPE_MAP)
        try:
            messages = connection._serializer.unserialize(payload, is_binary)
        except Exception:
            read(True)
            raise
        read(False)
        for message in messages:
            # It may have ended by the message before.
            if connection._session is not None:
                _hand_over(connection, message, protocol_error, own_calls)
    except Exception as error:
        reason = ascii(str(error))[:_REASON_LENGTH]
        connection._bailout(connection.CLOSE_STATUS_CODE_PROTOCOL_ERROR, f"WAMP Protocol Error ({reason})")


def _check_greeting(connection: Any, payload: bytes) -> None:
    """Refuse a frame of somebody without a session if it is none of those by which one joins."""
    # It is small, so it may well be read twice.
    messages = connection._serializer._serializer.unserialize(payload)
    if len(messages) != 1:
        raise TooMuch("before a session has joined, a frame is one message")
    check_greeting(messages[0])
    kind = messages[0][0] if isinstance(messages[0], list) and messages[0] else None
    if kind not in _GREETINGS:
        raise TooMuch("before a session has joined, there is nothing to say but HELLO, AUTHENTICATE and ABORT")
    if kind == _HELLO and connection._session._pending_session_id:
        raise TooMuch("a second HELLO came before the session has joined")


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


def _hand_over(connection: Any, message: Any, protocol_error: type[Exception], own_calls: OwnCalls | None) -> None:
    session = connection._session
    if message.MESSAGE_TYPE == _HELLO and session._session_id is not None:
        # Crossbar writes a line into the log and goes on.
        raise protocol_error("a HELLO came though the session has joined")
    if message.MESSAGE_TYPE == _ABORT and session._router is not None and session._session_details is None:
        # Crossbar tells its router a second time that a session left, whose details it has no more.
        raise protocol_error("an ABORT came though the session is over")
    try:
        if own_calls is None or not own_calls.take(session, message):
            session.onMessage(message)
    except protocol_error:
        raise
    except Exception:
        log.failure("a frame of a client could not be handled")
        raise
