"""What a payload may hold, and its one encoding: the same rule for messages, live calls and events, on both sides.

A value is *packed* once, as MessagePack, when it is handed over. What goes on record and what goes over the wire are
those bytes, so a value that its owner changes afterwards travels as it was. MessagePack, JSON and CBOR differ in what
they can carry; a payload may hold what every one of them carries, and every reader reads the same. What it may not hold
is refused with the place in it: a frame that a node can't read ends the session of whoever sent it. Bytes are JSON's
only stranger that is let in: each reader knows WAMP's form of them (:mod:`trishula.contract.binary`).

Dataclasses, msgspec's structs and Pydantic's models travel as maps, tuples as lists, members of enumerations as their
values, dates, UUIDs and decimals as text (:mod:`trishula.contract.spelling`). Everything else that is no JSON has no
form that its reader could know, so it is left to the sender.

The proof of a small payload is its JSON, read back and compared, which runs in C. In a large one each map and list is
looked at once, and what is in it by C alone; there JSON would cost five times as much. Only a payload that fails the
proof is walked over value by value, to say why, or because it holds a tuple, a dataclass, ….
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import operator
from collections.abc import Iterable
from typing import Any

import msgspec

from trishula.contract.binary import BINARY_LIMIT, MARK_JSON_BYTES, count_binary, may_hold_binary
from trishula.contract.limits import ERROR_DATA_BYTES
from trishula.contract.spelling import spelled
from trishula.contract.texts import show_value
from trishula.contract.units import show_bytes
from trishula.errors import PayloadNotJson, PayloadTooLarge, TrishulaError

__all__ = ["error_data", "INTEGER_LIMIT", "PAYLOAD_DEPTH_LIMIT", "PAYLOAD_RULE", "pack"]

_log = logging.getLogger("trishula")

#: How deep lists and maps may lie in each other in a payload. Autobahn reads about 480 levels of JSON and 400 of CBOR,
#: and writes 500 of MessagePack; a client that gets more loses its session, again at each delivery. Readers in other
#: languages stop earlier, many at 128.
PAYLOAD_DEPTH_LIMIT = 100
#: Up to here a JavaScript number, which is what most readers of JSON make of an integer, holds it exactly.
INTEGER_LIMIT = 2**53 - 1

PAYLOAD_RULE = (
    "any JSON value: maps with string keys, lists, strings that don't begin with U+0000, integers within ±(2^53-1), "
    f"finite numbers, true, false and null, and bytes, nested at most {PAYLOAD_DEPTH_LIMIT} deep"
)

#: What a sender can do about values that it is likely to have.
_ADVICE = {
    "set": "send a list",
    "frozenset": "send a list",
}
#: Of a place in a payload, that much is shown.
_PLACE_LENGTH = 120


_KEYS = {str}
_KINDS = {str, int, float, bool, type(None), dict, list, bytes}
_CONTAINERS = {dict, list}
_is_marked = operator.methodcaller("startswith", "\x00")
#: Integers are full of zeros.
_LOOKS = 16
#: Of what stands before a string in MessagePack.
_LONGEST_HEAD = 5
#: Up to here JSON is the faster proof.
_SMALL_BYTES = 1024
#: How much longer a value may be in JSON than in MessagePack.
_JSON_GROWTH = 6


def _plain(value: object) -> object:
    """What msgspec has no word for, and is a kind of what it has: NumPy's and others' strings and numbers."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    raise TypeError


_to_json = msgspec.json.Encoder(enc_hook=_plain).encode
_from_json = msgspec.json.Decoder().decode
_to_msgpack = msgspec.msgpack.Encoder(enc_hook=_plain).encode


def pack(value: object, *, path: str, limit_bytes: int, is_spelled: bool = False) -> bytes:
    """A payload as MessagePack, after proof that every client reads it back the same.

    Args:
        value: the payload.
        path: where it stands; a refusal begins with it.
        limit_bytes: the most that its JSON may have.
        is_spelled: whether what has a spelling in it is spelled out already; see :mod:`trishula.contract.spelling`.

    Raises:
        PayloadNotJson: it breaks :data:`PAYLOAD_RULE`; the place in it is named.
        PayloadTooLarge: its JSON has more than ``limit_bytes`` bytes; bytes count as the Base64 that they are there.
    """
    try:
        packed = _to_msgpack(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        packed = b""
    if not packed or not (_reads_back(value, packed) or _is_plain(value, packed)):
        fault = _fault(value, 1)
        if fault is None and not packed:
            fault = "", f"is of type {type(value).__name__}"
        if fault is not None and not is_spelled:
            with contextlib.suppress(RecursionError):
                return pack(spelled(value), path=path, limit_bytes=limit_bytes, is_spelled=True)
        if fault is not None:
            raise PayloadNotJson(f"{path}{_shorten(fault[0])} {fault[1]}; a payload is {PAYLOAD_RULE}")
    binary = count_binary(value) if may_hold_binary(packed) else 0
    if binary > BINARY_LIMIT:
        raise PayloadNotJson(f"{path} holds {binary} values of bytes, and a payload may hold {BINARY_LIMIT}: join them")
    # Its JSON has to be written only where it may be too long: ``false,`` and ``\\u0001`` are one byte in MessagePack.
    if (
        _JSON_GROWTH * len(packed) > limit_bytes
        and (size_bytes := len(_to_json(value)) + MARK_JSON_BYTES * binary) > limit_bytes
    ):
        raise PayloadTooLarge(
            f"{path} has {size_bytes} bytes as JSON and the limit is {limit_bytes} ({show_bytes(limit_bytes)});"
            " put the data where the recipient can fetch it and send its address"
        )
    return packed


def error_data(error: BaseException) -> Any:
    """What a procedure's error says beside its sentence, as it travels: spelled out, and known to be JSON.

    Data that can't travel is left out, and the log says why: its caller needs the error more than the data.

    Returns:
        a JSON value; ``None`` if there is nothing.
    """
    data = error.data if isinstance(error, TrishulaError) else None
    if data is None:
        return None
    try:
        return msgspec.msgpack.decode(
            pack(data, path=f"the data of {type(error).__name__}", limit_bytes=ERROR_DATA_BYTES)
        )
    except (PayloadNotJson, PayloadTooLarge) as fault:
        _log.error("The caller gets the error without its data: %s", fault)
        return None


def _may_be_wide(packed: bytes) -> bool:
    """Whether there is anything in MessagePack that looks like an integer beyond the limit; other bytes may, too."""
    at = packed.find(b"\xcf")
    while at >= 0:
        if packed[at + 1 : at + 3] >= b"\x00\x20":
            return True
        at = packed.find(b"\xcf", at + 1)
    return b"\xd3" in packed


def _may_be_marked(packed: bytes) -> bool:
    """Whether there is anything in MessagePack that looks like a string that begins with U+0000."""
    if len(packed) < _LONGEST_HEAD:
        return True
    at = packed.find(b"\x00")
    for _ in range(_LOOKS):
        if at < 0:
            return False
        # What stands before a string, with its length in one byte of its own or in none, in two, in four.
        if 0xA1 <= packed[at - 1] <= 0xBF or packed[at - 2] == 0xD9 or packed[at - 3] == 0xDA or packed[at - 5] == 0xDB:
            return True
        at = packed.find(b"\x00", at + 1)
    return True


def _is_plain(value: object, packed: bytes) -> bool:
    """Whether a payload is JSON, and nothing else, and every client can read it.

    Args:
        value: the payload.
        packed: the same as MessagePack. That its strings are text is proven by that.
    """
    may_be_wide = _may_be_wide(packed)
    # To look for the escape in JSON is faster than to look at each string, but for bytes, which JSON writes anew.
    may_be_marked = _may_be_marked(packed) and (may_hold_binary(packed) or _is_marked_in(value))
    level: list[Any] = [[value]]
    for _ in range(PAYLOAD_DEPTH_LIMIT + 1):
        below: list[Any] = []
        for container in level:
            inner = container
            if type(container) is dict:
                if not set(map(type, container)) <= _KEYS:
                    return False
                inner = container.values()
            kinds = set(map(type, inner))
            if not kinds <= _KINDS:
                return False
            if float in kinds and not all(map(math.isfinite, [one for one in inner if type(one) is float])):
                return False
            if may_be_marked and str in kinds and any(map(_is_marked, [one for one in inner if type(one) is str])):
                return False
            if (
                may_be_wide
                and int in kinds
                and not all(-INTEGER_LIMIT <= one <= INTEGER_LIMIT for one in inner if type(one) is int)
            ):
                return False
            if kinds & _CONTAINERS:
                below += [one for one in inner if type(one) in _CONTAINERS]
        if not below:
            return True
        level = below
    return False


def _reads_back(value: object, packed: bytes) -> bool:
    """Whether a payload is small, and proven by its JSON; if not, it may be good all the same."""
    if len(packed) > _SMALL_BYTES:
        return False
    try:
        text = _to_json(value)
        is_same: bool = _from_json(text) == value
    except (TypeError, ValueError, msgspec.MsgspecError):
        return False
    # A string that begins with U+0000 has that byte in MessagePack, too, where one byte is found faster than an escape.
    if not is_same or _may_be_wide(packed) or (b"\x00" in packed and b'"\\u0000' in text):
        return False
    # A list or a map is two bytes or more, in which the next one may lie.
    return len(text) <= 2 * PAYLOAD_DEPTH_LIMIT or text.count(b"[") + text.count(b"{") <= PAYLOAD_DEPTH_LIMIT


def _is_marked_in(value: object) -> bool:
    try:
        return b'"\\u0000' in _to_json(value)
    except (TypeError, ValueError, msgspec.MsgspecError):
        return True


def _fault(value: object, depth: int) -> tuple[str, str] | None:
    """The first fault of a payload: its place in it, and what is wrong there; ``None`` if there is none."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        if value.startswith("\x00"):
            return "", "begins with U+0000, by which JSON in WAMP marks binary data"
        return None if _is_text(value) else ("", f"is {show_value(value)}, with a lone surrogate, which is no text")
    if isinstance(value, int):
        if -INTEGER_LIMIT <= value <= INTEGER_LIMIT:
            return None
        return "", f"is {show_value(value)}, which JavaScript and others read as another number: send it as a string"
    if isinstance(value, float):
        return None if math.isfinite(value) else ("", f"is {float(value)!r}, for which JSON has no word")
    if isinstance(value, bytes):
        return None
    inner = _inner(value)
    if inner is None:
        name = type(value).__name__
        return "", f"is of the type {name}" + (f": {_ADVICE[name]}" if name in _ADVICE else "")
    if depth > PAYLOAD_DEPTH_LIMIT:
        return "", "is nested too deeply"
    for key, place, one in inner:
        if not isinstance(key, str):
            return "", f"has the key {show_value(key)}, of the type {type(key).__name__}"
        if not _is_text(key):
            return "", f"has the key {show_value(key)}, with a lone surrogate, which is no text"
        fault = _fault(one, depth + 1)
        if fault is not None:
            return place + fault[0], fault[1]
    return None


def _inner(value: Any) -> Iterable[tuple[object, str, object]] | None:
    """What a container holds, one by one: key, place and value; ``None`` if it is none that travels."""
    if isinstance(value, dict):
        return ((key, f".{key}" if str(key).isidentifier() else f"[{show_value(key)}]", value[key]) for key in value)
    if isinstance(value, list | tuple):
        return (("", f"[{index}]", one) for index, one in enumerate(value))
    if isinstance(value, type):
        return None
    if isinstance(value, msgspec.Struct):
        return ((name, f".{name}", getattr(value, name, None)) for name in value.__struct_fields__)
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return ((name, f".{name}", getattr(value, name, None)) for name in names)
    return None


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shorten(place: str) -> str:
    half = _PLACE_LENGTH // 2
    return place if len(place) <= _PLACE_LENGTH else f"{place[:half]}…{place[-half:]}"
