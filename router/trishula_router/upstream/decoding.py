"""What the bytes of a frame may mean: as little as a message needs, so that none of them costs more than others do.

Autobahn reads frames with the three libraries' defaults, and each of those lets a small frame cost much:

- CBOR has **tags**, and its library carries them out: a regular expression of 10 kB takes seconds to be compiled, a
  reference makes a billion items of 300 bytes. WAMP's values have none; here none is read.
- **Keys** of maps other than texts and bytes can be chosen so that all of them have the same hash: half a megabyte then
  takes seconds. Python salts the hashes of texts and bytes, so nobody can choose those.
- MessagePack's **extension types** become objects of Python's, one by one; a byte of MessagePack or three of JSON
  become an empty map of 64 bytes. The number of **values** in a frame is bounded, a map or list counting like any
  other value, so that 15 MiB can't become more than a gigabyte. The bound is not met by messages: one of the largest
  payload of nothing but digits has half as many values.
- A **key, a list or a map** takes up to ten times as long to be made as a digit: 290,000 keys took 70 ms, in each of
  the three formats, and others waited meanwhile. So of these three together a frame may have a quarter as many
  (:func:`costly_for`), which are read in 35 ms. To count each value heavier was rejected: then a payload of nothing but
  digits would not fit. CBOR's lists are counted only where 32 heads are in a row of a frame of more bytes than the
  values that it may hold: the others are read in as short a time.
- Autobahn reads **JSON** in Python, for the sake of strings that stand for bytes (``"\\u0000…"``), and takes a
  microsecond for each value. Here Python's C scanner reads it; the rare frame with such strings is looked through
  afterwards.

Before a session has joined, a frame may hold only what a HELLO or an AUTHENTICATE needs: :func:`check_greeting`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

__all__ = ["TooMuch", "check_greeting", "costly_for", "read_cbor", "read_json", "read_msgpack", "values_for"]

#: What a message has beside its payload, with a small payload of its own; it is a dozen keys.
_VALUES_OF_A_MESSAGE = 64
#: Of the values that a frame may hold, the part that may be keys, lists and maps.
_COSTLY_PART = 4
#: Smaller frames can't hold more values than costs nothing.
_SMALL_BYTES = 64 * 1024
#: As deep as CBOR is read, and less deep than MessagePack is written.
_DEPTH = 400
#: How deep a HELLO may be: its features are at 5.
_GREETING_DEPTH = 16
#: WAMP's way to write bytes into JSON.
_BYTES_IN_JSON = '"\\u0000'
#: How often a frame may do so. No message of ours has such values, and each takes time.
_MOST_BYTES_IN_JSON = 65_536
#: What stands between JSON's values, and what a key, a list or a map has; and all bytes but those and quotes.
_VALUES, _COSTLY = b",[{", b":[{"
_NO_MARKS = {marks: bytes(set(range(256)) - set(marks + b'"')) for marks in (_VALUES, _COSTLY)}
_STRING = re.compile(rb'"[^"]*"')


class TooMuch(ValueError):
    """A frame holds more than a frame may."""


def values_for(payload_bytes: int, batch_messages: int) -> int:
    """How many values a frame may hold: a payload of nothing but digits, and a full batch of messages around it.

    Args:
        payload_bytes: the largest payload of one message, as JSON; of its shortest values each takes two bytes.
        batch_messages: how many messages travel in one call.
    """
    return payload_bytes // 2 + batch_messages * _VALUES_OF_A_MESSAGE


def costly_for(most_values: int) -> int:
    """How many keys, lists and maps a frame may hold together that may hold so many values."""
    return most_values // _COSTLY_PART


def _one_of(*heads: int) -> bytes:
    return b"[" + b"".join(re.escape(bytes((head,))) for head in heads) + b"]"


def _short_items() -> bytes:
    """A pattern of CBOR: an item whose length its first byte tells, or the head of a list or of a map of few keys."""
    alone = [*range(24), *range(0x20, 0x38), 0x40, 0x60, *range(0x80, 0x98), *range(0xA0, 0xB8), *range(0xE0, 0xF8)]
    alone += [0x5F, 0x7F, 0x9F, 0xFF]
    heads = {size: [0x40 + size, 0x60 + size] for size in range(1, 24)}
    for low, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        heads[size] += [kind + low for kind in (0x00, 0x20, 0x80, 0xE0)]
    heads[1].append(0xB8)
    return b"|".join([_one_of(*alone), *(_one_of(*some) + b".{%d}" % size for size, some in heads.items())])


#: CBOR is one item after the other, each with a head: those in a map or list follow its own.
_ITEMS_AT_ONCE = 8
_SHORT_ITEMS = re.compile(b"(?:%b){1,%d}+" % (_short_items(), _ITEMS_AT_ONCE), re.DOTALL)
#: Where so many items or heads follow each other, they are counted together, and exactly.
_IN_A_ROW = 32
_ROW_OF_ITEMS = re.compile(b"(?:%b){%d}+" % (_short_items(), _IN_A_ROW), re.DOTALL)
_ROW_OF_HEADS = re.compile(b"(?:%b){%d}+" % (_one_of(*range(0x80, 0x98), *range(0xA0, 0xB8)), _IN_A_ROW))
#: The first byte of a map of more than 255 keys, and with how many bytes it tells them; and of one that tells nothing.
_LONG_MAPS = {0xB9: 2, 0xBA: 4, 0xBB: 8}
_ENDLESS_MAP = 0xBF
#: The first byte of a text or of bytes, if the second one tells the length; and of longer ones, with how many bytes do.
_TEXTS_OF_255 = (0x78, 0x58)
_LONG_ITEMS = {kind + low: size for kind in (0x40, 0x60) for low, size in ((25, 2), (26, 4), (27, 8))}


class _NoTags(Mapping[int, Any]):
    """Decoders of CBOR's tags, for all of them: it refuses each."""

    def __getitem__(self, tag: int) -> Callable[..., NoReturn]:
        return _refuse_tag

    def __iter__(self) -> NoReturn:
        raise TypeError("there is no end of tags")

    def __len__(self) -> int:
        return 1


_NO_TAGS = _NoTags()


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("tags in CBOR are not taken")


def _refuse_extension(*_: object) -> NoReturn:
    raise ValueError("extension types of MessagePack are not taken")


def read_cbor(loads: Callable[..., Any], data: bytes, most: int) -> Any:
    """What CBOR says, by its library's ``loads``; at most so many values and keys."""
    if len(data) <= _SMALL_BYTES:
        return loads(data, semantic_decoders=_NO_TAGS, strict_hashable_types=True)
    if len(data) > most:
        # In fewer bytes there are not so many items, and too few keys that differ.
        _count_cbor(data, most)
    left = costly_for(most)

    def count(a_map: dict[Any, Any], _: bool) -> dict[Any, Any]:
        nonlocal left
        left -= len(a_map) + 1
        if left < 0:
            raise TooMuch(_too_costly(most))
        return a_map

    try:
        return loads(data, semantic_decoders=_NO_TAGS, strict_hashable_types=True, object_hook=count)
    except Exception:
        # The library says only that it failed, and in what.
        if left < 0:
            raise TooMuch(_too_costly(most)) from None
        raise


def _count_cbor(data: bytes, most: int) -> None:
    """Refuse CBOR of too many items; its reader can't be told to. What is no CBOR is left to the reader.

    Maps of few keys are counted by :func:`read_cbor`, when they are made.
    """
    # A head that is cut off finds its length all the same.
    at, left, costly_left, end, padded = 0, most, costly_for(most), len(data), data + bytes(8)
    while at < end:
        head = padded[at]
        if head in _TEXTS_OF_255:
            # By itself, because a frame may be full of them.
            at += 2 + padded[at + 1]
            left -= 1
        elif (run := _ROW_OF_HEADS.match(data, at)) is not None:
            at = run.end()
            left -= _IN_A_ROW
            costly_left -= _IN_A_ROW
        elif (run := _ROW_OF_ITEMS.match(data, at)) is not None:
            at = run.end()
            left -= _IN_A_ROW
        elif (run := _SHORT_ITEMS.match(data, at)) is not None:
            left -= min(_ITEMS_AT_ONCE, run.end() - at)
            at = run.end()
        elif (size := _LONG_ITEMS.get(head)) is not None:
            begin = at + 1 + size
            at = begin + int.from_bytes(padded[at + 1 : begin], "big")
            left -= 1
        elif (size := _LONG_MAPS.get(head)) is not None:
            begin = at + 1 + size
            costly_left -= int.from_bytes(padded[at + 1 : begin], "big")
            at = begin
            left -= 1
        elif head == _ENDLESS_MAP:
            # All that follows may be its keys, each with a value.
            at += 1
            left = min(left, 2 * costly_left) - 1
        else:
            return
        if left < 0:
            raise TooMuch(_too_much(most))
        if costly_left < 0:
            raise TooMuch(_too_costly(most))


def read_msgpack(unpackb: Callable[..., Any], data: bytes, most: int) -> Any:
    """What MessagePack says, by its library's ``unpackb``; at most so many values."""
    if len(data) <= _SMALL_BYTES:
        return unpackb(data, raw=False, ext_hook=_refuse_extension, max_ext_len=0)
    left, costly_left = most, costly_for(most)

    def count(container: Any, keys: int = 0) -> Any:
        nonlocal left, costly_left
        left -= len(container) + 1
        costly_left -= keys + 1
        if left < 0:
            raise TooMuch(_too_much(most))
        if costly_left < 0:
            raise TooMuch(_too_costly(most))
        return container

    return unpackb(
        data,
        raw=False,
        ext_hook=_refuse_extension,
        max_ext_len=0,
        max_array_len=most,
        max_map_len=costly_left,
        list_hook=count,
        object_hook=lambda a_map: count(a_map, len(a_map)),
    )


def read_json(text: str, most: int) -> Any:
    """What JSON says, with WAMP's way to write bytes; at most so many values."""
    containers = text.count("[") + text.count("{")
    if len(text) > _SMALL_BYTES:
        if containers + text.count(",") > most and _is_more_outside_of_strings(text, _VALUES, most, most):
            raise TooMuch(_too_much(most))
        costly = costly_for(most)
        if containers + text.count(":") > costly and _is_more_outside_of_strings(text, _COSTLY, costly, most):
            raise TooMuch(_too_costly(most))
    value = json.loads(text)
    if containers > _DEPTH:
        _check_depth(value, _DEPTH)
    if _BYTES_IN_JSON in text:
        if text.count(_BYTES_IN_JSON) > _MOST_BYTES_IN_JSON:
            raise TooMuch(f"it holds more than {_MOST_BYTES_IN_JSON} strings that stand for bytes")
        return _with_bytes(value)
    return value


def _is_more_outside_of_strings(text: str, which: bytes, most: int, most_quotes: int) -> bool:
    """Of a text with many marks: whether they are more than a frame may have, and not in strings."""
    # Escapes go first, so that each quote left begins or ends a string; then what has no mark in it.
    plain = text.encode("utf-8", "surrogatepass")
    if b"\\" in plain:
        plain = plain.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = plain.translate(None, _NO_MARKS[which]).replace(b'""', b"")
    # Where many strings have marks, looking at them takes longer than a frame may.
    return marks.count(b'"') > most_quotes or len(_STRING.sub(b"", marks)) > most


def _too_much(most: int) -> str:
    return f"it holds more values than the {most} that a frame may"


def _too_costly(most: int) -> str:
    return f"it holds more keys, lists and maps than the {costly_for(most)} that a frame may"


def _with_bytes(value: Any) -> Any:
    """The value, with bytes in place of the strings that stand for them; keys stay as they are."""
    whole = [value]
    containers: list[Any] = [whole]
    while containers:
        container = containers.pop()
        for key, item in container.items() if isinstance(container, dict) else enumerate(container):
            if isinstance(item, str):
                if item[:1] == "\x00":
                    container[key] = base64.b64decode(item[1:])
            elif isinstance(item, (dict, list)):
                containers.append(item)
    return whole[0]


def _check_depth(value: object, most: int) -> None:
    level: list[Any] = [value] if isinstance(value, (dict, list)) else []
    for _ in range(most):
        if not level:
            return
        level = [item for container in level for item in _items(container) if isinstance(item, (dict, list))]
    raise TooMuch(f"it is deeper than {most} levels")


def _items(container: Any) -> Any:
    return container.values() if isinstance(container, dict) else container


def check_greeting(value: object) -> None:
    """Refuse what no HELLO and no AUTHENTICATE has in it: keys that are no texts, and many levels.

    Raises:
        TooMuch: saying which.
    """
    _check_depth(value, _GREETING_DEPTH)
    containers = [value]
    while containers:
        container = containers.pop()
        if isinstance(container, dict):
            if not all(isinstance(key, str) for key in container):
                raise TooMuch("before a session has joined, keys must be texts")
            containers.extend(container.values())
        elif isinstance(container, list):
            containers.extend(container)
