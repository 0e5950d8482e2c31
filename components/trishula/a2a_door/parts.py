"""From a message of A2A to what travels on the bus, and from an answer to an artifact. No I/O, no SDK.

Messages of A2A are maps here, as their JSON is. What an agent gets is as simple as its caller's message:

* A message of text alone is its text, as ``trishula send --text`` sends one.
* A message whose metadata name a ``skill`` runs the procedure of that name. Its data, if it has any, are the arguments:
  a map by name, a list in order; without data its text is the one argument.
* Any other message is ``{"text": …, "parts": [part…]}``, with A2A's parts as they came.

The subject says that it came by A2A, and in which context: ``a2a:CONTEXT``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from trishula.contract.binary import marked
from trishula.contract.message import SUBJECT_LENGTH
from trishula.contract.texts import is_line, show_value
from trishula.errors import ArgumentInvalid

__all__ = [
    "MOST_PARTS",
    "SUBJECT_PREFIX",
    "Order",
    "Parts",
    "context_of",
    "is_task_id",
    "order_of",
    "parts_of",
    "task_id_of",
    "text_of",
    "whole",
]

#: How many parts a message may have.
MOST_PARTS = 100
#: How deep data may be nested: the SDK reads a hundred levels, and a task is a few levels around its data.
_DEEPEST = 40
SUBJECT_PREFIX = "a2a:"
_LONGEST_ID = 256
_LARGEST = 2**53 - 1
_TASK_PREFIX = "a2a-"

Order = dict[str, Any]
Parts = list[dict[str, Any]]


def task_id_of(caller: str, agent: str, message_id: str) -> str:
    """The id of the task that a message begins, which is the COMMAND's on the bus as well.

    It is derived, so that a message that is sent again, to whichever door, is the same task; who calls and who is
    called are in it, for the ids of A2A's messages belong to their callers.

    Raises:
        ArgumentInvalid: the message has no usable id.
    """
    if not 1 <= len(message_id) <= _LONGEST_ID:
        raise ArgumentInvalid(f"messageId has {len(message_id)} characters; it must have 1 to {_LONGEST_ID}")
    derived = hashlib.sha256("\0".join((caller, agent, message_id)).encode(errors="surrogatepass")).hexdigest()
    return f"{_TASK_PREFIX}{derived[:40]}"


def context_of(task_id: str) -> str:
    """The context of a task whose caller named none; derived as well."""
    return f"context-{task_id.removeprefix(_TASK_PREFIX)}"


def is_task_id(text: str) -> bool:
    """Whether a task of a door may have this id."""
    return re.fullmatch(f"{_TASK_PREFIX}[0-9a-f]{{40}}", text) is not None


def order_of(message: Mapping[str, Any], context: str) -> Order:
    """What of a COMMAND comes from a message: ``payload``, ``subject``, and ``procedure`` if it names a skill.

    Raises:
        ArgumentInvalid: the message can't be given to an agent; the sentence says why.
    """
    if _is_deeper(message, _DEEPEST):
        raise ArgumentInvalid(f"the message is nested deeper than {_DEEPEST} levels; send such data as text")
    parts = _checked(message.get("parts"))
    subject = f"{SUBJECT_PREFIX}{context}"
    if not is_line(context) or not 1 <= len(context) <= SUBJECT_LENGTH - len(SUBJECT_PREFIX):
        raise ArgumentInvalid(
            f"contextId is {show_value(context)}; it must be one line of 1 to {SUBJECT_LENGTH - len(SUBJECT_PREFIX)} "
            "characters"
        )
    text = "\n".join(part["text"] for part in parts if "text" in part)
    metadata = message.get("metadata")
    skill = metadata.get("skill") if isinstance(metadata, Mapping) else None
    if skill is not None:
        if not isinstance(skill, str) or not skill:
            raise ArgumentInvalid(f"metadata.skill is {show_value(skill)}; it must be the name of a procedure")
        return {"payload": _arguments(parts, text), "subject": subject, "procedure": skill}
    if all("text" in part for part in parts):
        return {"payload": text, "subject": subject}
    return {"payload": {"text": text, "parts": parts}, "subject": subject}


def _checked(parts: object) -> Parts:
    if not isinstance(parts, Sequence) or not parts:
        raise ArgumentInvalid("message.parts is empty; a message must have at least one part")
    if len(parts) > MOST_PARTS:
        raise ArgumentInvalid(f"message.parts has {len(parts)} parts; {MOST_PARTS} are allowed")
    found = [whole(dict(part)) for part in parts]
    for number, part in enumerate(found):
        if not {"text", "data", "raw", "url"} & part.keys():
            raise ArgumentInvalid(f"message.parts[{number}] has no content: one of text, data, raw and url")
    return found


def whole(value: Any) -> Any:
    """A JSON value with integers for whole numbers: A2A's shapes know one kind of number alone."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST:
        return int(value)
    if isinstance(value, Mapping):
        return {key: whole(one) for key, one in value.items()}
    return [whole(one) for one in value] if isinstance(value, list) else value


def _arguments(parts: Parts, text: str) -> dict[str, Any]:
    data = [part["data"] for part in parts if "data" in part]
    if not data:
        return {"args": [text] if text else [], "kwargs": {}}
    if len(data) > 1:
        raise ArgumentInvalid(f"the message has {len(data)} parts with data; a skill takes its arguments from one")
    (given,) = data
    if isinstance(given, Mapping):
        return {"args": [], "kwargs": dict(given)}
    return {"args": list(given) if isinstance(given, list) else [given], "kwargs": {}}


def parts_of(payload: object) -> Parts:
    """The parts of an artifact, or of an agent's word: text as text, bytes as raw, A2A's own parts as they are, and
    the rest as data."""
    if payload is None:
        return []
    if isinstance(payload, str):
        return [{"text": payload}]
    if isinstance(payload, bytes):
        return [{"raw": base64.b64encode(payload).decode(), "mediaType": "application/octet-stream"}]
    payload = marked(payload)
    if _is_deeper(payload, _DEEPEST):
        # No client of A2A could read it, nor the list of tasks that it is in.
        return [{"text": json.dumps(payload, ensure_ascii=False), "mediaType": "application/json"}]
    if isinstance(payload, Mapping):
        parts = payload.get("parts")
        if isinstance(parts, list) and parts and all(_is_part(one) for one in parts):
            return [dict(one) for one in parts]
    return [{"data": payload, "mediaType": "application/json"}]


def _is_part(value: object) -> bool:
    """Whether an agent meant a part of A2A: one content, and nothing that the protocol doesn't know."""
    if not isinstance(value, Mapping) or not value.keys() <= {*_CONTENTS, *_BESIDE}:
        return False
    contents = [name for name in _CONTENTS if name in value]
    if len(contents) != 1 or not all(isinstance(value[name], str) for name in _BESIDE if name in value):
        return False
    if contents == ["raw"] and not _is_base64(value["raw"]):
        return False
    return contents == ["data"] or isinstance(value[contents[0]], str)


def _is_base64(value: object) -> bool:
    try:
        base64.b64decode(value if isinstance(value, str) else "?", validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _is_deeper(value: object, levels: int) -> bool:
    """Whether maps and lists are nested deeper than so many levels; it looks no deeper itself."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return any(levels == 0 or _is_deeper(one, levels - 1) for one in inner)


_CONTENTS = ("text", "data", "raw", "url")
_BESIDE = ("filename", "mediaType")


def text_of(parts: Sequence[Mapping[str, Any]]) -> object:
    """The other way round, for an agent of the bus that gets an artifact: the payload that its parts are."""
    if all("text" in part for part in parts):
        return "\n".join(str(part["text"]) for part in parts)
    if len(parts) == 1 and "data" in parts[0]:
        return whole(parts[0]["data"])
    return {"parts": [whole(dict(part)) for part in parts]}
