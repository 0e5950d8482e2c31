"""Bytes in a payload: as they are in MessagePack and CBOR, and as a *marked* string in JSON, as WAMP writes them there.

::

    b"\\x00\\x01\\x02"    is    "\\u0000AAEC"    U+0000, and the bytes in Base64 (of RFC 4648, with ``=``)

Every WAMP client that reads JSON knows this form. A node keeps a payload with its bytes marked: so the journal, digests
and signatures, what is searched, shown and written into files, is one JSON, whichever serializer it came with and goes
with. A program that is handed a payload has ``bytes``.

A map such as ``{"$bytes": "AAEC"}`` was rejected for a mark: somebody's payload may have it already, and a client of a
release before wouldn't escape it. No string of a payload begins with U+0000, which is as old as the rule of payloads:
so nothing has to be escaped, and no payload is read as another one. Nothing here does I/O.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any

__all__ = [
    "BINARY_LIMIT",
    "MARK_JSON_BYTES",
    "count_binary",
    "is_marked_json",
    "marked",
    "marked_text",
    "may_hold_binary",
    "unmarked",
]

#: How many values of bytes a payload may hold: each is written anew by itself, where other values cost nothing.
BINARY_LIMIT = 4096
#: What the mark takes in JSON, where it is an escape.
MARK_JSON_BYTES = 6
_MARK = "\x00"
_CONTAINERS = {dict, list}
_BINARY = (bytes, bytearray, memoryview)


def marked_text(data: bytes | bytearray | memoryview) -> str:
    """Bytes as the string that they are in JSON."""
    return _MARK + binascii.b2a_base64(data, newline=False).decode()


def marked(value: Any) -> Any:
    """A value with its bytes as marked strings; the same object if it has none."""
    if isinstance(value, _BINARY):
        return marked_text(value)
    if isinstance(value, Mapping):
        fields = {key: marked(one) for key, one in value.items()}
        return fields if any(fields[key] is not one for key, one in value.items()) else value
    if isinstance(value, list | tuple):
        items = [marked(one) for one in value]
        return items if any(new is not one for new, one in zip(items, value, strict=True)) else value
    return value


def unmarked(value: Any) -> Any:
    """A value with bytes for its marked strings; the same object if it has none.

    A string with the mark and no Base64 behind it stays: before there was a rule, payloads could have such strings.
    """
    if isinstance(value, str):
        return _read(value) if value.startswith(_MARK) else value
    if isinstance(value, dict):
        fields = {key: unmarked(one) for key, one in value.items()}
        return fields if any(fields[key] is not one for key, one in value.items()) else value
    if isinstance(value, list):
        items = [unmarked(one) for one in value]
        return items if any(new is not one for new, one in zip(items, value, strict=True)) else value
    return value


def _read(text: str) -> str | bytes:
    try:
        data = binascii.a2b_base64(text[1:], strict_mode=True)
    except ValueError:
        return text
    # The last letters of Base64 leave room for bits that mean nothing: then two strings would be the same bytes.
    last = data[len(data) - (len(data) % 3 or 3) :]
    return data if text.endswith(marked_text(last)[1:]) else text


def is_marked_json(body: bytes) -> bool:
    """Whether there may be a marked string in JSON as we write it; a look at its bytes."""
    return b'"\\u0000' in body


def may_hold_binary(packed: bytes) -> bool:
    """Whether there is anything in MessagePack that looks like bytes; other values may, too."""
    return b"\xc4" in packed or b"\xc5" in packed or b"\xc6" in packed


def count_binary(value: object) -> int:
    """How many values of bytes a payload of plain maps and lists holds."""
    count = 0
    level: list[Any] = [[value]]
    while level:
        below: list[Any] = []
        for container in level:
            inner = container.values() if type(container) is dict else container
            kinds = list(map(type, inner))
            count += kinds.count(bytes)
            if _CONTAINERS & set(kinds):
                below += [one for one in inner if type(one) in _CONTAINERS]
        level = below
    return count
