"""One form of a JSON value in bytes, whoever writes it: RFC 8785, the JSON Canonicalization Scheme.

A message is read and written anew on its way, from MessagePack, CBOR or JSON into JSON and back: its keys change their
order, ``1.0`` becomes ``1``, an escape becomes a letter. What is signed is what all of that means. So keys are sorted
by their UTF-16 code units, there is no white space, strings have the shortest escapes, and a number is written as
JavaScript writes it, whether it came as an integer or as a float: both are the same number to half of all readers.
Bytes are the string that they are in JSON (:mod:`trishula.contract.binary`). Strings are not normalized: the bus
changes none, and two spellings of ``é`` are two strings.

Libraries for it are there in most languages; ``pip install rfc8785`` is one in Python. It is written here because an
agent would load one for these few lines. Nothing here does I/O.
"""

from __future__ import annotations

import json
import math
from typing import Any

from trishula.contract.binary import marked_text

__all__ = ["canonical"]

#: Containers and scalars whose JSON, written by the C encoder, is canonical already if their strings are.
_PLAIN = {str, int, bool, type(None), dict, list}
_CONTAINERS = {dict, list}
#: A larger integer is another number to readers that have floats only; a payload has none.
_EXACT = 2**53
#: JavaScript writes digits up to there, and an exponent beyond.
_DIGITS_BELOW = 1e21
_DIGITS_FROM = 1e-6


def canonical(value: object) -> bytes:
    """A JSON value as canonical bytes.

    Args:
        value: maps with string keys, lists, strings, numbers, booleans, bytes and ``None``.

    Raises:
        ValueError: it is no such value: a number that isn't finite, text with a lone surrogate, another type.
    """
    text = _fast(value) if _is_plain(value) else _written(value)
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError("a string has a lone surrogate, which is no text") from None


def _is_plain(value: object) -> bool:
    """Whether it has neither floats, nor keys that sort otherwise in UTF-16, nor integers that floats don't hold."""
    level: list[Any] = [[value]]
    while level:
        below: list[Any] = []
        for container in level:
            inner = container
            if type(container) is dict:
                if not all(type(key) is str and key.isascii() for key in container):
                    return False
                inner = container.values()
            kinds = set(map(type, inner))
            if not kinds <= _PLAIN:
                return False
            if int in kinds and not all(-_EXACT < one < _EXACT for one in inner if type(one) is int):
                return False
            if kinds & _CONTAINERS:
                below += [one for one in inner if type(one) in _CONTAINERS]
        level = below
    return True


def _fast(value: object) -> str:
    """The same in C, some ten times as fast."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _written(value: object) -> str:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int):
        return _number(_as_float(value)) if abs(value) >= _EXACT else str(int(value))
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, bytes):
        return json.dumps(marked_text(value))
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
        return f"{{{','.join(f'{_written(key)}:{_written(value[key])}' for key in keys)}}}"
    raise ValueError(f"a {type(value).__name__} is no JSON")


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"an integer of {value.bit_length()} bits is beyond all numbers") from None


def _number(value: float) -> str:
    """A number as JavaScript's ``String(value)`` has it: the shortest digits that read back the same."""
    if not math.isfinite(value):
        raise ValueError(f"{value!r} is no number in JSON")
    if value == 0:
        return "0"
    # Python finds the same digits, and sets the point elsewhere.
    digits, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = digits.partition(".")
    fraction = "" if fraction == "0" else fraction
    point = len(whole) + int(exponent or 0)
    figures = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(figures)
    figures = figures.rstrip("0")
    sign = "-" if value < 0 else ""
    if _DIGITS_FROM <= abs(value) < _DIGITS_BELOW:
        if point <= 0:
            return f"{sign}0.{'0' * -point}{figures}"
        if len(figures) <= point:
            return f"{sign}{figures}{'0' * (point - len(figures))}"
        return f"{sign}{figures[:point]}.{figures[point:]}"
    mantissa = figures[0] + (f".{figures[1:]}" if len(figures) > 1 else "")
    return f"{sign}{mantissa}e{'+' if point > 0 else '-'}{abs(point - 1)}"
