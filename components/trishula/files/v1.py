"""A message as a file of TRISHULA v1, and back. No I/O.

A file is a JSON object in UTF-8 (a byte order mark and any ends of lines are taken):

=============  ===================================================  ==================================================
key            of a message                                         taken as well
=============  ===================================================  ==================================================
``id``         its id                                               (must be there)
``from``       its sender, by the name that v1 has for it           our name; must be there
``to``         its recipient, in the same way                       our name; must be there
``type``       ``task`` (COMMAND), ``status``, ``result``,          capitals; ``command``; ``response``, ``reply`` and
               ``error``, ``ack``, ``heartbeat``                    ``answer`` (RESULT); ``message``, ``info``,
                                                                    ``update`` and ``note`` (STATUS)
``priority``   ``urgent`` (1), ``high`` (2), ``normal`` (3),        capitals; 1 to 5; absent: ``normal``
               ``low`` (4 and 5)
``subject``    its subject, or ``null``                             absent; empty
``body``       its payload: any JSON                                absent
``timestamp``  ISO 8601, UTC, in milliseconds, or ``null``          another zone; none (it is UTC then); seconds or
                                                                    milliseconds since the epoch
``reply_to``   the id of what it answers, or ``null``               absent; empty
``trishula``   what v1 has no key for, under our names:             absent
               ``procedure``, ``seq``, ``ttl_ms``,
               ``deadline_at``, ``traceparent``, ``accepted_at``,
               and ``priority`` if it is 5
``signature``  (:mod:`trishula.files`: who signs adds it)           ignored here
=============  ===================================================  ==================================================

What :func:`encode_v1` writes :func:`decode_v1` reads as an equal message. A key that is not in the table is refused,
for it would be lost.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from trishula.contract.addresses import agent_of
from trishula.contract.message import DEFAULT_PRIORITY, Message, check
from trishula.contract.texts import show_value
from trishula.errors import FileInvalid, TrishulaError
from trishula.files.file_names import is_plain

__all__ = ["DEFAULT_NAMES", "Names", "decode_v1", "encode_v1", "file_name_of"]

#: v1's name → ours.
DEFAULT_NAMES = {"mac": "dc"}

_KEYS = ("id", "from", "to", "type", "priority", "subject", "body", "timestamp", "reply_to", "trishula", "signature")
_MORE = ("procedure", "seq", "ttl_ms", "deadline_at", "traceparent", "accepted_at", "priority")
_TYPES = {"COMMAND": "task", "STATUS": "status", "RESULT": "result", "ERROR": "error", "ACK": "ack"}
_TYPES["HEARTBEAT"] = "heartbeat"
_KINDS = {word: kind for kind, word in _TYPES.items()}
_KINDS |= {"command": "COMMAND", **dict.fromkeys(("response", "reply", "answer"), "RESULT")}
_KINDS |= dict.fromkeys(("message", "info", "update", "note"), "STATUS")
_PRIORITIES = ("urgent", "high", "normal", "low")
#: Before it a number of milliseconds would be in 1973: it is one of seconds.
_LEAST_MS = 100_000_000_000
#: What ISO 8601 can write: up to the year 9999.
_MOST_ISO_MS = 253_402_300_799_999

#: The bus's own random ids, and ids that begin with the time, as those of v1 do.
_OWN_ID = re.compile(r"\d+\.[0-9a-f]{8,64}")
_TIMED_ID = re.compile(r"\d{8}T\d{6}Z_[0-9a-z_.-]{1,100}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_SAFE = re.compile(r"[0-9a-z_-][0-9a-z_.-]{0,100}")


@dataclass(frozen=True, slots=True)
class Names:
    """How v1 calls the agents.

    Args:
        ours: v1's name → ours. An agent that is not named here has one name.

    Raises:
        ValueError: two names of v1 are said to be one agent, so that there is no way back.
    """

    ours: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULT_NAMES))

    def __post_init__(self) -> None:
        if len({*self.ours.values()}) < len(self.ours):
            raise ValueError(f"two of the names {', '.join(sorted(self.ours))} are said to be the same agent")

    def to_ours(self, address: str) -> str:
        """An address with our name of its agent."""
        agent = agent_of(address)
        return self.ours.get(agent, agent) + address[len(agent) :]

    def to_v1(self, address: str) -> str:
        """An address with v1's name of its agent.

        Raises:
            FileInvalid: our agent is called as v1 calls another one.
        """
        agent = agent_of(address)
        for word, name in self.ours.items():
            if name == agent:
                return word + address[len(agent) :]
        if agent in self.ours:
            raise FileInvalid(
                f"{agent} can't be named in a file of v1: there {agent} is the name of {self.ours[agent]}"
            )
        return address


def encode_v1(message: Message, names: Names) -> bytes:
    """The content of a message's file.

    Raises:
        FileInvalid: v1 has no name for one of its agents.
    """
    more: dict[str, Any] = {
        key: getattr(message, key) for key in _MORE if key != "priority" and getattr(message, key) is not None
    }
    if message.priority > len(_PRIORITIES):
        more["priority"] = message.priority
    fields: dict[str, Any] = {
        "id": message.id,
        "from": None if message.sender is None else names.to_v1(message.sender),
        "to": names.to_v1(message.to),
        "type": _TYPES[message.type],
        "priority": _PRIORITIES[min(message.priority, len(_PRIORITIES)) - 1],
        "subject": message.subject,
        "body": message.payload,
        "timestamp": _written(message.timestamp),
        "reply_to": message.reply_to,
    }
    if more:
        fields["trishula"] = more
    return (json.dumps(fields, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()


def decode_v1(data: bytes, names: Names) -> Message:
    """The message in a file.

    Raises:
        FileInvalid: there is none; the sentence says the key, its value, and the rule.
    """
    fields = _object(data)
    for key in fields:
        if key not in _KEYS:
            raise FileInvalid(f"the file has the unknown key {show_value(key)}; the keys are {', '.join(_KEYS)}")
    for key in ("id", "from", "to", "type"):
        if not isinstance(fields.get(key), str) or (key == "id" and not fields[key]):
            raise FileInvalid(f"'{key}' in the file is {show_value(fields.get(key))}; it must be a text")
    more = fields.get("trishula") or {}
    if not isinstance(more, dict) or any(key not in _MORE for key in more):
        raise FileInvalid(
            f"'trishula' in the file is {show_value(more)}; it must be an object with some of {', '.join(_MORE)}"
        )
    raw: dict[str, Any] = {key: value for key, value in more.items() if key != "accepted_at"}
    raw |= {"id": fields["id"], "type": _kind(fields["type"])}
    raw |= {"from": names.to_ours(fields["from"]), "to": names.to_ours(fields["to"])}
    raw.setdefault("priority", _priority(fields.get("priority")))
    if (timestamp := _read(fields.get("timestamp"))) is not None:
        raw["timestamp"] = timestamp
    raw |= {key: fields[key] for key in ("subject", "reply_to") if fields.get(key) not in (None, "")}
    if fields.get("body") is not None:
        raw["payload"] = fields["body"]
    try:
        message = check(raw, path="the file")
    except TrishulaError as error:
        raise FileInvalid(error.sentence) from None
    accepted_at = more.get("accepted_at")
    if accepted_at is None:
        return message
    if not isinstance(accepted_at, int) or isinstance(accepted_at, bool) or accepted_at < 0:
        raise FileInvalid(f"'accepted_at' in the file is {show_value(accepted_at)}; it must be milliseconds")
    return msgspec.structs.replace(message, accepted_at=accepted_at)


def file_name_of(message_id: str, sender: str | None = None) -> str:
    """What a message's file is called: ``<id>.json`` wherever that is a good name, and never a path.

    A good name is one on each file system and for each tool: it differs from the names of other messages in more than
    case, is reserved by no system, and doesn't look like a tool's own. And it is one message's alone: ids belong to
    agents, so an id that is neither random nor begins with the time, as v1's do, may be another sender's too, and a
    tool that moves files would write one over the other. Such a file's name has a hash of the id and the sender.
    """
    name = f"{message_id}.json"
    if (_OWN_ID.fullmatch(message_id) or _TIMED_ID.fullmatch(message_id)) and is_plain(name):
        return name
    mixed = hashlib.sha256(f"{message_id} {agent_of(sender or '')}".encode()).hexdigest()[:16]
    is_safe = _SAFE.fullmatch(message_id) is not None and _RESERVED.fullmatch(message_id) is None
    good = f"{message_id}.{mixed}.json"
    return good if is_safe and is_plain(good) else f"{mixed}.json"


def _object(data: bytes) -> dict[str, Any]:
    if not data.strip(b"\0 \t\r\n"):
        raise FileInvalid("the file is empty; it must be a JSON object")
    try:
        fields = json.loads(data.decode("utf-8-sig"), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise FileInvalid(f"the file is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}") from None
    except json.JSONDecodeError as error:
        raise FileInvalid(
            f"the file is no JSON: {error.msg} in line {error.lineno}, column {error.colno}; it may be cut off"
        ) from None
    except RecursionError:
        raise FileInvalid("the file is no message: its JSON is nested too deeply") from None
    except ValueError as error:
        raise FileInvalid(f"the file is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise FileInvalid(f"the file is {show_value(fields)}; it must be a JSON object")
    return fields


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def _kind(word: str) -> str:
    kind = _KINDS.get(word.lower())
    if kind is None:
        raise FileInvalid(f"'type' in the file is {show_value(word)}; it must be one of {', '.join(_KINDS)}")
    return kind


def _priority(value: object) -> int:
    if value is None:
        return DEFAULT_PRIORITY
    if isinstance(value, str) and value.lower() in _PRIORITIES:
        return _PRIORITIES.index(value.lower()) + 1
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 5:
        return value
    raise FileInvalid(f"'priority' in the file is {show_value(value)}; it must be {', '.join(_PRIORITIES)}, or 1 to 5")


def _written(at_ms: int | None) -> str | int | None:
    if at_ms is None or at_ms > _MOST_ISO_MS:
        return at_ms
    at = datetime.fromtimestamp(at_ms // 1000, UTC).replace(microsecond=at_ms % 1000 * 1000)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _read(value: object) -> int | None:
    """Milliseconds since the epoch."""
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            at = datetime.fromisoformat(value)
            at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
            return round(at.timestamp() * 1000)
        if isinstance(value, int | float) and not isinstance(value, bool):
            at_ms = round(value) if value >= _LEAST_MS else round(value * 1000)
            if 0 <= at_ms < 1 << 53:
                return at_ms
    except (ValueError, OverflowError):
        pass
    raise FileInvalid(
        f"'timestamp' in the file is {show_value(value)}; it must be a time of ISO 8601, such as 2026-02-10T00:02:00Z, "
        "or seconds since the epoch"
    )
