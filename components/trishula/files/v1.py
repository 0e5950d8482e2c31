"""TRISHULA v1's messages and ours: each as the other, without loss. No I/O.

A v1 message is a JSON map in a file of its own::

    {"id": "20260210T000200Z_mac_agni_agent_redesign", "from": "mac", "to": "agni", "type": "task",
     "priority": "high", "subject": "Redesign", "body": "Please …", "timestamp": "2026-02-10T00:02:00Z",
     "reply_to": null}

=============  =================================================  ==================================================
key            taken                                              written
=============  =================================================  ==================================================
``id``         as the contract has ids                            the same
``from``,      names as v1 has them (``mac``) or as the bus has   names as v1 has them
``to``         them (``dc``); for everybody: ``all``,
               ``broadcast``, ``*``
``type``       ``task``, ``command``, ``request`` (COMMAND);      ``task``, ``status``, ``result``, ``error``,
               ``status``, ``message``, ``info``, ``update``,     ``heartbeat``, ``ack``
               ``note`` (STATUS); ``result``, ``response``,
               ``reply``, ``answer`` (RESULT); ``error``,
               ``heartbeat``, ``ack``; capitals; every other one
               is a STATUS
``priority``   ``urgent`` 1, ``high`` 2, ``normal`` or            the word; 4 is ``low``
               ``medium`` 3, ``low`` 5; the numbers 1 to 5
``subject``    one line of at most 256 characters; ``""`` for     the same
               none
``body``       any JSON value: the payload                        the same
``timestamp``  ISO 8601 (without a zone: UTC), or seconds or      ISO 8601 in UTC, with milliseconds
               milliseconds since the epoch
``reply_to``   an id; none, ``null`` or ``""``                    the same; ``null`` for none
``trishula``   what of a message of ours v1 has no word for: a    the same; left out if there is nothing
               map with the wire's names, before all other keys
``signature``  passed over here                                   by :mod:`trishula.files.signature`
=============  =================================================  ==================================================

A message that its sender has signed (:mod:`trishula.contract.signed`) has that signature in ``trishula``, too.

What our message has no word for, other keys, a type that is none of ours, a subject of many lines, makes the payload a
map ``{"v1": {…}, "body": …}``: the first has those keys as they stood, the second what was ``body``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from trishula.contract.addresses import is_message_id
from trishula.contract.binary import marked, unmarked
from trishula.contract.message import SUBJECT_LENGTH, Message, check
from trishula.contract.payload import INTEGER_LIMIT, pack
from trishula.contract.texts import is_line, show_value
from trishula.contract.units import show_bytes
from trishula.errors import FileInvalid, TrishulaError
from trishula.files.instants import read_instant, show_instant
from trishula.files.message_names import file_name_of
from trishula.files.names import Names

__all__ = [
    "MOST_FILE_BYTES",
    "Names",
    "decode_v1",
    "encode_v1",
    "file_name_of",
    "from_v1",
    "message_signature_in",
    "read_map",
    "to_v1",
    "with_message_signature",
]

#: A payload may have 1 MiB, unless an operator says otherwise; a larger file is no message of anybody's.
MOST_FILE_BYTES = 16 * 1024 * 1024
#: What v1 can't express, and how much a file may hold besides.
OURS, SIGNATURE = "trishula", "signature"
_V1, _BODY = "v1", "body"

_TYPES = {"task": "COMMAND", "status": "STATUS", "result": "RESULT", "error": "ERROR", "heartbeat": "HEARTBEAT"}
_TYPES["ack"] = "ACK"
_TYPE_WORDS = {ours: word for word, ours in _TYPES.items()}
_TYPES |= dict.fromkeys(("command", "request"), "COMMAND")
_TYPES |= dict.fromkeys(("message", "info", "update", "note"), "STATUS")
_TYPES |= dict.fromkeys(("response", "reply", "answer"), "RESULT")
_PRIORITIES = {"urgent": 1, "high": 2, "normal": 3, "medium": 3, "low": 5}
_PRIORITY_WORDS = {1: "urgent", 2: "high", 3: "normal", 4: "low", 5: "low"}
_KNOWN = frozenset(
    {"id", "from", "to", "type", "priority", "subject", "body", "timestamp", "reply_to", OURS, SIGNATURE}
)


def encode_v1(message: Message, names: Names) -> bytes:
    """A message as the bytes of a file: JSON that people can read, in UTF-8."""
    return json.dumps(to_v1(message, names), ensure_ascii=False, indent=1).encode() + b"\n"


def decode_v1(data: bytes, names: Names) -> Message:
    """The message that a file holds.

    Raises:
        FileInvalid: it holds none; the sentence says which key breaks which rule.
    """
    return from_v1(read_map(data), names)


def read_map(data: bytes) -> dict[str, Any]:
    """The JSON map in a file; a mark of the byte order before it is passed over.

    Raises:
        FileInvalid: it is too large, no UTF-8, no JSON, or no map, or a key stands in it twice.
    """
    if len(data) > MOST_FILE_BYTES:
        raise FileInvalid(
            f"the file has {show_bytes(len(data))}, and a message has {show_bytes(MOST_FILE_BYTES)} at most"
        )
    if not data.strip(b" \t\r\n\0"):
        raise FileInvalid("the file is empty; it must be a JSON map")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileInvalid(
            f"the file is not text in UTF-8: byte {error.start} can't be read; save it as UTF-8"
        ) from None
    try:
        found = json.loads(text, object_pairs_hook=_once_each, parse_constant=_refuse_constant)
    except RecursionError:
        raise FileInvalid("the file is nested too deep to be read") from None
    except ValueError as error:
        raise FileInvalid(f"the file is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise FileInvalid(f"the file holds {show_value(found)}; a message is a JSON map")
    return found


def to_v1(message: Message, names: Names) -> dict[str, Any]:
    """A message as a v1 map."""
    message = msgspec.structs.replace(message, payload=marked(message.payload))
    wire = {**message.to_wire(), "accepted_at": message.accepted_at}
    wire = {key: value for key, value in wire.items() if value is not None}
    found = _plainly(wire, names)
    if _is_wrapped(message.payload):
        # It came from a file that had more than a message of ours.
        restored = {**found, **message.payload[_V1], _BODY: message.payload[_BODY]}
        with contextlib.suppress(FileInvalid):
            whole, missing = _made_whole(restored, wire, names)
            if missing.keys().isdisjoint(("payload", "id", "from", "to")):
                return whole
    return _made_whole(found, wire, names)[0]


def _made_whole(found: dict[str, Any], wire: Mapping[str, Any], names: Names) -> tuple[dict[str, Any], dict[str, Any]]:
    """A v1 map with what v1 has no word for: what would be read from it otherwise; and that by itself."""
    back = _read(found, names)
    missing = {key: wire.get(key) for key in sorted({*wire, *back}) if not _same(wire.get(key), back.get(key))}
    return ({**found, OURS: missing} if missing else found), missing


def from_v1(found: Mapping[str, Any], names: Names) -> Message:
    """The message that a v1 map means.

    Raises:
        FileInvalid: a key breaks its rule.
    """
    wire = _read(found, names)
    if "from" not in wire:
        raise FileInvalid("from is missing; it must be the sender's name")
    accepted_at = wire.pop("accepted_at", None)
    wire["payload"] = unmarked(wire.get("payload"))
    try:
        message = check(wire, path="the file")
        pack(message.payload, path="body", limit_bytes=MOST_FILE_BYTES)
        if accepted_at is not None:
            return msgspec.structs.replace(message, accepted_at=_count_of_ms(accepted_at))
    except (TrishulaError, ValueError) as error:
        raise FileInvalid(str(error)) from None
    return message


def with_message_signature(found: dict[str, Any], signature: str | None) -> dict[str, Any]:
    """A v1 map with the signature that the message has, which is another one than that of the file."""
    return found if signature is None else {**found, OURS: {**found.get(OURS, {}), SIGNATURE: signature}}


def message_signature_in(found: Mapping[str, Any]) -> str | None:
    """The signature of the message in a v1 map, if it has one."""
    ours = found.get(OURS)
    signature = ours.get(SIGNATURE) if isinstance(ours, dict) else None
    return signature if isinstance(signature, str) else None


def _plainly(wire: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """What v1 can say of a message."""
    return {
        "id": wire["id"],
        "from": names.to_theirs(wire["from"]) if "from" in wire else None,
        "to": names.to_theirs(wire["to"]),
        "type": _TYPE_WORDS[wire["type"]],
        "priority": _PRIORITY_WORDS[wire["priority"]],
        "subject": wire.get("subject", ""),
        "body": wire.get("payload"),
        "timestamp": show_instant(wire["timestamp"]) if "timestamp" in wire else None,
        "reply_to": wire.get("reply_to"),
    }


def _read(found: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """The wire's keys of a v1 map; those that are not set are missing.

    Raises:
        FileInvalid: a key breaks its rule.
    """
    ours = found.get(OURS)
    if ours is not None and not isinstance(ours, dict):
        raise FileInvalid(f"{OURS} is {show_value(ours)}; it must be a map with what v1 has no word for")
    # The keys that our message has no word for, as they stood.
    kept: dict[str, Any] = {key: value for key, value in found.items() if key not in _KNOWN}
    wire: dict[str, Any] = {
        "id": _id_in(found, "id"),
        "from": _address_in(found, "from", names),
        "to": _address_in(found, "to", names),
        "type": _type_in(found, kept),
        "priority": _priority_in(found),
        "subject": _subject_in(found, kept),
        "timestamp": _instant_in(found),
        "reply_to": _id_in(found, "reply_to"),
    }
    body = found.get(_BODY)
    wire["payload"] = {_V1: kept, _BODY: body} if kept else body
    wire |= {key: value for key, value in (ours or {}).items() if key != SIGNATURE}
    return {key: value for key, value in wire.items() if value is not None}


def _id_in(found: Mapping[str, Any], key: str) -> str | None:
    value = found.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not is_message_id(value):
        raise FileInvalid(
            f"{key} is {show_value(value)}; an id has 1 to 128 of A-Z, a-z, 0-9, '_', '.', ':' and '-', doesn't begin "
            "with '.' and is no path"
        )
    return value


def _address_in(found: Mapping[str, Any], key: str, names: Names) -> str | None:
    value = found.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        more = "; write one file for each recipient" if isinstance(value, list) else ""
        raise FileInvalid(f"{key} is {show_value(value)}; it must be an agent's name{more}")
    return names.to_ours(value)


def _type_in(found: Mapping[str, Any], kept: dict[str, Any]) -> str:
    value = found.get("type")
    if not isinstance(value, str) or not value:
        raise FileInvalid(f"type is {show_value(value)}; it must be a word, such as task or status")
    ours = _TYPES.get(value.lower())
    if ours is None:
        kept["type"] = value
    return ours or "STATUS"


def _priority_in(found: Mapping[str, Any]) -> int | None:
    value = found.get("priority")
    if value is None or value == "":
        return None
    if isinstance(value, str):
        number = _PRIORITIES.get(value.strip().lower())
        if number is None and value.strip() in "12345":
            number = int(value)
    else:
        number = (
            int(value)
            if isinstance(value, int | float) and not isinstance(value, bool) and value in range(1, 6)
            else None
        )
    if number is None:
        raise FileInvalid(
            f"priority is {show_value(value)}; it must be urgent, high, normal or low, or a number from 1 (most "
            "urgent) to 5"
        )
    return number


def _subject_in(found: Mapping[str, Any], kept: dict[str, Any]) -> str | None:
    value = found.get("subject")
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise FileInvalid(f"subject is {show_value(value)}; it must be text")
    line = value if is_line(value) and len(value) <= SUBJECT_LENGTH else " ".join(value.split())
    if line != value or len(line) > SUBJECT_LENGTH:
        kept["subject"] = value
        line = "".join(char for char in line if is_line(char))[:SUBJECT_LENGTH]
    return line or None


def _instant_in(found: Mapping[str, Any]) -> int | None:
    value = found.get("timestamp")
    if value is None or value == "":
        return None
    try:
        return read_instant(value)
    except (ValueError, OverflowError) as error:
        raise FileInvalid(f"timestamp is {show_value(value)}; {error}") from None


def _count_of_ms(value: object) -> int:
    # The bus wrote it, in milliseconds: what a small number counts is not guessed, as it is in a timestamp.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= INTEGER_LIMIT:
        raise ValueError(f"{OURS}.accepted_at is {show_value(value)}; it must be a count of milliseconds")
    return value


def _is_wrapped(payload: object) -> bool:
    if not isinstance(payload, dict) or set(payload) != {_V1, _BODY} or not isinstance(payload[_V1], dict):
        return False
    return not {OURS, SIGNATURE} & set(payload[_V1])


def _same(one: object, other: object) -> bool:
    """Whether two JSON values are the same to every reader: 1 and true are not, though Python says so."""
    return msgspec.json.encode(one, order="deterministic") == msgspec.json.encode(other, order="deterministic")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise ValueError(f"the key {show_value(twice)} stands in one map twice")
    return found


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not in JSON")
