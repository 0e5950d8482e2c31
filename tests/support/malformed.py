"""Malformed input for a node's port: HTTP, WebSocket frames and WAMP messages that are nearly right.

Chance makes them, out of a seed: the same seed gives the same inputs again. Nearly right ones go farther than noise, so
each begins as something that a node takes, and then one layer of it is changed: a value of the message, bytes of how it
is written, the frame around it, or the HTTP request before it. ::

    source = Malformed(seed=7)
    data = source.frames("wamp.2.json")  # what a session sends
    data = source.request(host, port)    # what a stranger sends first
"""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable
from typing import Any

import cbor2
import msgpack

from trishula.contract import uris

__all__ = ["PACKERS", "Malformed"]

#: How each subprotocol writes a message, and the opcode of its frames.
PACKERS: dict[str, tuple[int, Callable[[Any], bytes]]] = {
    "wamp.2.json": (1, lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
    "wamp.2.msgpack": (2, lambda value: bytes(msgpack.packb(value))),
    "wamp.2.cbor": (2, cbor2.dumps),
}

#: Values where something else belongs.
_ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**53,
    2**64 - 1,
    -(2**63),
    1.5,
    math.inf,
    math.nan,
    "",
    " ",
    "a" * 300,
    "ü\u202e\u0000\x1b[2J",
    "..",
    "trishula..",
    "trishula.admin.",
    "wamp.session.list",
    [],
    [[]],
    [[[[[[[[[[]]]]]]]]]],
    {},
    {"": None},
    {"a": {"a": {"a": {}}}},
    [0] * 64,
    {str(number): number for number in range(64)},
)

_PATHS = ("/ws", "/peer", "/health", "/ready", "/metrics", "/", "/ws/../peer", "/%00", "/%2e%2e/x", "//", "*")

#: Longer than any head that a node reads.
_LONG_BYTES = 70_000


class Malformed:
    """A source of malformed input.

    Args:
        seed: the same one gives the same inputs.
    """

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def request(self, host: str, port: int) -> bytes:
        """What a stranger sends first: an HTTP request, or something instead of one."""
        path, method = (
            self._chance.choice(_PATHS),
            self._chance.choice(("GET", "GET", "GET", "POST", "HEAD", "PUT", "X")),
        )
        lines = [
            f"{method} {path} HTTP/1.{self._chance.choice('1110')}",
            f"Host: {host}:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Protocol: {self._chance.choice(tuple(PACKERS))}",
        ]
        for _ in range(self._chance.randrange(3)):
            change = self._chance.randrange(6)
            at = self._chance.randrange(len(lines))
            if change == 0:
                del lines[at]
            elif change == 1:
                lines.insert(at, lines[at])
            elif change == 2:
                lines.insert(
                    at, self._chance.choice(("X: y", ": x", "no header", "Content-Length: -1", "Content-Length: 9" * 2))
                )
            elif change == 3:
                lines.append(
                    self._chance.choice(("Transfer-Encoding: chunked", "Content-Length: 18446744073709551616"))
                )
            elif change == 4:
                lines.append("X-Long: " + "x" * self._chance.choice((1000, 20_000, _LONG_BYTES)))
            else:
                lines[at] = self._spoilt(lines[at].encode()).decode("latin-1")
            lines = lines or ["GET / HTTP/1.1"]
        data = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        if self._chance.random() < 0.3:
            data = self._spoilt(data)
        return data + (self.frames("wamp.2.json") if self._chance.random() < 0.5 else b"")

    def frames(self, protocol: str) -> bytes:
        """What a session, or a stranger whose WebSocket is open, sends: one message, or what is none."""
        opcode, pack = PACKERS[protocol]
        layer = self._chance.randrange(4)
        message = self._message()
        if layer != 1:
            for _ in range(self._chance.randrange(1, 4)):
                message = self._changed(message)
        try:
            data = pack(message)
        except (ValueError, OverflowError, TypeError):  # this format can't say it
            data = pack(self._message())
        if layer == 1 or self._chance.random() < 0.2:
            data = self._spoilt(data)
        return self._odd_frame(opcode, data) if layer == 2 else _frame(0x80 | opcode, data)

    # -- messages ------------------------------------------------------------------------------------------------------

    def _message(self) -> list[Any]:
        """A message as clients send it; what it asks for need not exist."""
        number = self._chance.choice((1, 2, 3, 7, 9007199254740992))
        topic = self._chance.choice(("trishula.agent.eve.topic.x", uris.EVENT_AGENT, "trishula.agent.agni.inbox"))
        procedure = self._chance.choice(
            (
                uris.MAILBOX_SEND,
                uris.MAILBOX_FETCH,
                uris.MAILBOX_ACK,
                uris.MAILBOX_ATTACH,
                uris.DIRECTORY_LIST,
                uris.DIRECTORY_BEAT,
                uris.NODE_STATUS,
                "trishula.agent.eve.procedure",
            )
        )
        wire = {"type": "STATUS", "id": f"f-{self._chance.randrange(1000)}", "to": "nobody", "payload": {"a": [1]}}
        roles: dict[str, Any] = {role: {} for role in ("caller", "callee", "subscriber", "publisher")}
        return self._chance.choice(
            (
                [1, uris.REALM, {"roles": roles, "authmethods": ["ticket"], "authid": "eve"}],
                [5, "eve.token", {}],
                [6, {}, "wamp.close.normal"],
                [8, 68, number, {}, "wamp.error.no", ["x"], {}],
                [16, number, {"acknowledge": True}, topic, [wire], {}],
                [32, number, {"match": "exact"}, topic],
                [34, number, number],
                [48, number, {"receive_progress": False}, procedure, [[wire]], {}],
                [48, number, {}, procedure, [{"sent_at": 1}]],
                [49, number, {"mode": "kill"}],
                [64, number, {"invoke": "single"}, "trishula.agent.eve.procedure"],
                [66, number, number],
                [70, number, {}, [1], {}],
                [self._chance.randrange(-1, 80), number, {}, "x"],
            )
        )

    def _changed(self, value: Any) -> Any:
        """A value with one change somewhere within it."""
        if isinstance(value, list) and value and self._chance.random() < 0.9:
            changed, at = list(value), self._chance.randrange(len(value))
            change = self._chance.randrange(6)
            if change == 0:
                del changed[at]
            elif change == 1:
                changed.insert(at, self._chance.choice(_ODD))
            elif change == 2:
                other = self._chance.randrange(len(changed))
                changed[at], changed[other] = changed[other], changed[at]
            else:
                changed[at] = self._changed(changed[at])
            return changed
        if isinstance(value, dict) and value and self._chance.random() < 0.7:
            key = self._chance.choice(list(value))
            rest = {other: one for other, one in value.items() if other != key}
            change = self._chance.randrange(3)
            if change == 0:
                return rest
            if change == 1:
                return {**rest, key + "x": value[key]}
            return {**rest, key: self._changed(value[key])}
        return self._chance.choice(_ODD)

    # -- bytes ---------------------------------------------------------------------------------------------------------

    def _spoilt(self, data: bytes) -> bytes:
        """Bytes with a few changes."""
        changed = bytearray(data)
        for _ in range(self._chance.randrange(1, 4)):
            at = self._chance.randrange(len(changed) + 1)
            change = self._chance.randrange(5)
            if change == 0 and at < len(changed):
                changed[at] ^= 1 << self._chance.randrange(8)
            elif change == 1:
                changed[at:at] = self._chance.randbytes(self._chance.randrange(1, 9))
            elif change == 2:
                del changed[at : at + self._chance.randrange(1, 9)]
            elif change == 3:
                del changed[at:]
            else:
                changed[at:at] = changed[: self._chance.randrange(32)]
        return bytes(changed)

    def _odd_frame(self, opcode: int, data: bytes) -> bytes:
        """A frame that breaks a rule of RFC 6455, or several that do together."""
        first = 0x80 | opcode
        change = self._chance.randrange(10)
        if change == 0:  # reserved bits
            return _frame(first | self._chance.choice((0x10, 0x20, 0x40)), data)
        if change == 1:  # opcodes that mean nothing, or something else
            return _frame(0x80 | self._chance.randrange(16), data)
        if change == 2:  # not masked
            return _frame(first, data, is_masked=False)
        if change == 3:  # a length that is not there, or far too long
            return (
                bytes([first, 0xFF]) + struct.pack("!Q", self._chance.choice((2**63, 2**40, 2**32, 17_000_000))) + data
            )
        if change == 4:  # longer control frames than there may be
            return _frame(0x80 | self._chance.choice((8, 9, 10)), self._chance.randbytes(200))
        if change == 5:  # a control frame in parts
            return _frame(self._chance.choice((8, 9, 10)), data[:100]) + _frame(0x80, data[100:])
        if change == 6:  # close codes
            return _frame(0x88, struct.pack("!H", self._chance.choice((0, 999, 1005, 1006, 2999, 65535))) + data[:80])
        if change == 7:  # goes on with what has not begun
            return _frame(0x80, data)
        if change == 8:  # a message within another
            return _frame(opcode, data[:5]) + _frame(first, data)
        middle = len(data) // 2  # in parts, which is allowed, with a ping between them
        return _frame(opcode, data[:middle]) + _frame(0x89, b"x") + _frame(0x80, data[middle:])


def _frame(first: int, payload: bytes, *, is_masked: bool = True) -> bytes:
    size = len(payload)
    mask = 0x80 if is_masked else 0
    if size < 126:
        length = bytes([mask | size])
    elif size < 65536:
        length = bytes([mask | 126]) + struct.pack("!H", size)
    else:
        length = bytes([mask | 127]) + struct.pack("!Q", size)
    return bytes([first]) + length + (bytes(4) if is_masked else b"") + payload
