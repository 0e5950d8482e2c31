"""The message: the one envelope that travels, its rules, and the sentences that say which rule was broken.

:func:`parse` is the hot path of a node: msgspec checks all keys in C, and only a message that fails is looked at again,
slowly, to say what is wrong with it. Nothing here does I/O; the size limit is an argument.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, get_args

import msgspec

from trishula.contract.addresses import AGENT_RULE, BROADCAST, ID_RULE, Address
from trishula.contract.binary import count_binary, marked, may_hold_binary
from trishula.contract.payload import PAYLOAD_RULE, pack
from trishula.contract.sealed import SealedAttachment
from trishula.contract.texts import LINE_RULE, is_line, show_value
from trishula.errors import KeyUnknown, MessageInvalid

__all__ = [
    "DEFAULT_PAYLOAD_LIMIT_BYTES",
    "DEFAULT_PRIORITY",
    "DEFAULT_TTL_MS",
    "MAIL_TYPES",
    "MESSAGE_TYPES",
    "SIGNAL_TYPES",
    "SUBJECT_LENGTH",
    "MailType",
    "Message",
    "MessageType",
    "ReceivedMessage",
    "check",
    "parse",
    "with_whole_numbers",
]

MessageType = Literal["COMMAND", "STATUS", "RESULT", "ERROR", "HEARTBEAT", "ACK"]
MESSAGE_TYPES: tuple[str, ...] = get_args(MessageType)
#: What is stored and delivered.
MailType = Literal["COMMAND", "STATUS", "RESULT", "ERROR"]
MAIL_TYPES: tuple[str, ...] = get_args(MailType)
#: A node takes these as signs (a beat, an ack): they are stored in no mailbox and delivered to nobody.
SIGNAL_TYPES = tuple(name for name in MESSAGE_TYPES if name not in MAIL_TYPES)

DEFAULT_PAYLOAD_LIMIT_BYTES = 1024 * 1024
DEFAULT_PRIORITY = 3
SUBJECT_LENGTH = 256
DEFAULT_TTL_MS = 7 * 24 * 3600 * 1000
#: The bounds of an instant or a span in ms: what a 64-bit SQLite integer and a JavaScript number both hold exactly.
_MAX_MS = 2**53 - 1

_ID = r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}\Z"
_Id = Annotated[str, msgspec.Meta(pattern="^" + _ID)]
_is_id = re.compile(_ID).match
_Procedure = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")]
_Instant = Annotated[int, msgspec.Meta(ge=0, le=_MAX_MS)]
# A lone surrogate is in Python's strings, and in no text that can be written to a socket or a disk. In the JSON of WAMP
# U+0000 at the beginning of a string says that the rest is Base64: a client that reads it gets bytes, or an error that
# ends its session. That it is one line is checked where a message comes in: nodes of earlier releases hand out others.
_TEXT = r"^(?!\x00)[^\ud800-\udfff]*\Z"
_Short = Annotated[str, msgspec.Meta(min_length=1, max_length=SUBJECT_LENGTH, pattern=_TEXT)]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One message, as DESIGN section 3 fixes it. Instants and spans are integer milliseconds.

    Attributes:
        type: what kind of message.
        id: chosen by the sender; (``sender``, ``id``) is its key, so that sending it again is safe.
        to: an address or ``broadcast``.
        sender: ``from`` on the wire; the node sets it from the session if it is absent.
        timestamp: the sender's clock; the node's own, if it is absent.
        payload: any JSON value, and bytes (:mod:`trishula.contract.payload` has the rule).
        priority: 1 (most urgent) to 5.
        reply_to: the id of the COMMAND that a RESULT, ERROR or ACK answers.
        procedure: of a COMMAND: what to run, with ``payload`` = ``{"args": [], "kwargs": {}}``.
        seq: the sender's own counter per recipient.
        subject: one line for people.
        ttl_ms: how long the node tries to deliver it, from its acceptance.
        deadline_at: after this instant its result is of no use to anybody: by the sender's clock where it is sent, by
            the node's where it is delivered.
        traceparent: W3C trace context, carried through.
        accepted_at: the node's clock at acceptance; set by the node alone.
    """

    type: MessageType
    id: str
    to: str
    sender: str | None = msgspec.field(name="from", default=None)
    timestamp: _Instant | None = None
    payload: Any = None
    priority: Annotated[int, msgspec.Meta(ge=1, le=5)] = DEFAULT_PRIORITY
    reply_to: _Id | None = None
    procedure: _Procedure | None = None
    seq: Annotated[int, msgspec.Meta(ge=0, le=_MAX_MS)] | None = None
    subject: _Short | None = None
    ttl_ms: Annotated[int, msgspec.Meta(ge=1, le=_MAX_MS)] | None = None
    deadline_at: _Instant | None = None
    traceparent: _Short | None = None
    accepted_at: _Instant | None = None

    @property
    def signed_by(self) -> str | None:
        """The agent whose signature this process has verified; see :class:`ReceivedMessage`."""
        return None

    @property
    def encrypted(self) -> bool:
        """Whether its payload came encrypted, and this process has decrypted it."""
        return False

    @property
    def signature_fault(self) -> str | None:
        """Why it counts as signed by nobody, for people; ``None`` where nobody looked."""
        return None

    def __post_init__(self) -> None:
        # Each message has one, and a pattern costs msgspec as much as all else that it looks at.
        if not _is_id(self.id):
            raise ValueError("the id breaks its rule")

    def to_wire(self) -> dict[str, Any]:
        """The map that travels: wire names, and only the keys that are set."""
        wire: dict[str, Any] = msgspec.to_builtins(self)
        # omit_defaults would leave out what every reader needs to see.
        wire["payload"] = self.payload
        wire["priority"] = self.priority
        return wire


class ReceivedMessage(Message, frozen=True):
    """A message whose signature was looked at by who received it. None of this travels.

    Attributes:
        signed_by: the agent of ``sender``, if its signature is good by a key that is known here as its own.
        signature_fault: why not, in words; ``None`` if it is good.
        encrypted: whether its payload came encrypted, for us.
        sealed: the key to its encrypted attachment, if it has one.
    """

    # Fields in place of what is constant where nobody looked: a node can't set what it doesn't send.
    signed_by: str | None = None
    signature_fault: str | None = None
    encrypted: bool = False
    sealed: SealedAttachment | None = None

    def to_wire(self) -> dict[str, Any]:
        """See :meth:`Message.to_wire`."""
        # What opens a file is no JSON, so that it is written nowhere by accident.
        wire = Message.to_wire(self if self.sealed is None else msgspec.structs.replace(self, sealed=None))
        for key in ("signed_by", "signature_fault", "encrypted", "sealed"):
            wire.pop(key, None)
        return wire


_MILLISECONDS = f"an integer count of milliseconds from 0 to {_MAX_MS}"

#: Each key's rule in words; what a refusal quotes.
RULES: dict[str, str] = {
    "type": "one of " + ", ".join(MESSAGE_TYPES),
    "id": ID_RULE,
    "from": "the sender's own address, 'agent' or 'agent/instance', or absent",
    "to": f"'agent', 'agent/instance', 'capability:name' or '{BROADCAST}', where an agent is {AGENT_RULE}",
    "timestamp": _MILLISECONDS,
    "payload": PAYLOAD_RULE,
    "priority": "an integer from 1 (most urgent) to 5",
    "reply_to": "the id of the message it answers: " + ID_RULE,
    "procedure": "the name of the procedure to run: letters, digits and '_', in parts joined by '.'",
    "seq": f"an integer from 0 to {_MAX_MS}",
    "subject": f"a string of 1 to {SUBJECT_LENGTH} characters, {LINE_RULE}",
    "ttl_ms": f"an integer count of milliseconds from 1 to {_MAX_MS}",
    "deadline_at": _MILLISECONDS,
    "traceparent": f"a string of 1 to 256 characters, {LINE_RULE} (W3C trace context)",
}

#: What a sender may not set, with the reason.
_NODE_ONLY = {"accepted_at": "only the node sets it"}

_ABSENT = object()


def parse(raw: object, *, path: str = "message", payload_limit_bytes: int = DEFAULT_PAYLOAD_LIMIT_BYTES) -> Message:
    """Check a message that a client sent, and return it typed, as it is kept: bytes in its payload are marked.

    Args:
        raw: the map as it came from the wire.
        path: where it stood in the request, such as ``messages[3]``; refusals begin with it.
        payload_limit_bytes: the largest payload taken, in bytes of its JSON.

    Raises:
        KeyUnknown: a key the contract doesn't know; it is named.
        MessageInvalid: a key is missing or breaks its rule; key, value and rule are named.
        PayloadNotJson: the payload doesn't survive JSON.
        PayloadTooLarge: the payload's JSON is over the limit.
    """
    message = check(raw, path=path)
    packed = pack(message.payload, path=f"{path}.payload", limit_bytes=payload_limit_bytes)
    if may_hold_binary(packed) and count_binary(message.payload):
        return msgspec.structs.replace(message, payload=marked(message.payload))
    return message


def check(raw: object, *, path: str = "message") -> Message:
    """Check everything of a message but its payload, and return it typed; errors as :func:`parse`."""
    try:
        message = msgspec.convert(raw, Message)
    except (msgspec.ValidationError, UnicodeEncodeError):
        message = _convert_whole(raw, path)
    if message.accepted_at is not None:
        raise _explain(raw, path)
    if message.to != BROADCAST:
        _check_address(message.to, "to", path)
    if message.sender is not None:
        _check_address(message.sender, "from", path)
    if message.subject is not None:
        _check_line(message.subject, "subject", path)
    if message.traceparent is not None:
        _check_line(message.traceparent, "traceparent", path)
    if message.procedure is not None and message.type != "COMMAND":
        raise MessageInvalid(
            f"{path}.procedure is {show_value(message.procedure)} in a {message.type}; only a COMMAND has a procedure"
        )
    if message.type == "ACK" and message.reply_to is None:
        raise MessageInvalid(f"{path}.reply_to is missing; an ACK message must name the id it acknowledges")
    return message


def _convert_whole(raw: object, path: str) -> Message:
    """The message with its whole numbers as integers: Go, Lua and JavaScript send ``60000.0`` for 60000."""
    whole = with_whole_numbers(raw, but="payload")
    if whole is not None:
        try:
            return msgspec.convert(whole, Message)
        except (msgspec.ValidationError, UnicodeEncodeError):
            pass
    raise _explain(raw if whole is None else whole, path)


def with_whole_numbers(raw: object, *, but: str = "") -> dict[Any, Any] | None:
    """A map of the contract with integers for floats that are whole numbers; ``None`` if it has none of these.

    Args:
        raw: what came from the wire.
        but: a key whose value is its sender's own affair.
    """
    if not isinstance(raw, Mapping):
        return None
    whole = {key: _whole(value) if key != but else value for key, value in raw.items()}
    return whole if any(whole[key] is not value for key, value in raw.items()) else None


def _whole(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list | tuple) and any(isinstance(one, float) for one in value):
        return [_whole(one) for one in value]
    return value


def _check_line(text: str, key: str, path: str) -> None:
    if not is_line(text):
        raise MessageInvalid(f"{path}.{key} is {show_value(text)}; it must be {RULES[key]}")


def _check_address(text: str, key: str, path: str) -> None:
    fault = _fault_of_address(text)
    if fault is not None:
        raise MessageInvalid(f"{path}.{key} is {show_value(text)}; {fault}")


# The same few addresses come again and again.
@lru_cache(maxsize=4096)
def _fault_of_address(text: str) -> str | None:
    try:
        Address.parse(text)
    except ValueError as error:
        return str(error)
    return None


def _explain(raw: object, path: str) -> MessageInvalid | KeyUnknown:
    """Why msgspec refused it, in our words: the first fault in the order of the rules."""
    if not isinstance(raw, Mapping):
        return MessageInvalid(f"{path} is {show_value(raw)}; a message must be a map")
    for key in raw:
        if key in _NODE_ONLY:
            return MessageInvalid(f"{path}.{key} is {show_value(raw[key])}; {_NODE_ONLY[key]}: leave it out")
        if key not in RULES:
            return KeyUnknown(f"{path} has the unknown key {show_value(key)}; the known keys are {', '.join(RULES)}")
    for key, rule in RULES.items():
        value = raw.get(key, _ABSENT)
        if value is _ABSENT:
            if key in ("type", "id", "to"):
                return MessageInvalid(f"{path}.{key} is missing; it must be {rule}")
        elif not _keeps_rule(key, value):
            return MessageInvalid(f"{path}.{key} is {show_value(value)}; it must be {rule}")
    return MessageInvalid(f"{path} is no message as the contract describes it")


def _keeps_rule(key: str, value: object) -> bool:
    """Whether one key alone is as msgspec wants it: it is tried in a message whose other keys are right."""
    probe: dict[str, object] = {"type": "STATUS", "id": "x", "to": "x", key: value}
    try:
        msgspec.convert(probe, Message)
    except (msgspec.ValidationError, UnicodeEncodeError):
        return False
    return True
