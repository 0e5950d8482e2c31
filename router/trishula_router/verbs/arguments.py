"""The arguments of the wire contract's procedures: typed, checked, refused in words.

Each option map is a struct with its rules beside it. :func:`read` converts what came over the wire, or raises
:class:`~trishula.errors.KeyUnknown` or :class:`~trishula.errors.ArgumentInvalid` with the key, the value and the rule.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec

from trishula.contract.addresses import ID_RULE, INSTANCE_RULE, is_message_id
from trishula.contract.message import with_whole_numbers
from trishula.contract.signed import SIGNATURE_PATTERN, SIGNATURE_RULE
from trishula.contract.texts import LINE, LINE_RULE, show_value
from trishula.errors import ArgumentInvalid, KeyUnknown
from trishula_router.mail.delivery_token import no_token, token_in
from trishula_router.verbs.scalars import INSTANT_RULE, POSITION_RULE, TEXT, Instant, Position, Text

__all__ = [
    "AttachOptions",
    "BeatOptions",
    "DeadListOptions",
    "DeadPurgeOptions",
    "FetchOptions",
    "FindOptions",
    "MailboxPurgeOptions",
    "MailboxesOptions",
    "NackItem",
    "NodePeekOptions",
    "Options",
    "PeekOptions",
    "SendOptions",
    "read",
    "read_ids",
    "read_list",
    "read_position",
    "read_positional",
    "read_positions",
    "read_span",
    "read_tokens",
]

WINDOW_LIMIT = 1024
FETCH_LIMIT = 1000
WAIT_LIMIT_S = 60.0
WORKING_LIMIT_S = 24 * 3600.0

_Instance = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_]{0,31}\Z")]
_Capability = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_.-]{0,62}\Z")]
_Epoch = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=TEXT)]
_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=r"^[!-~]+\Z")]
_WORD_RULE = "a word of 1 to 128 visible ASCII characters"
_Line = Annotated[
    str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+\Z")
]
_EPOCH_RULE = "the epoch that the node told before, a text of 1 to 64 characters"

_BINARY_RULE = "true or false: whether bytes in payloads come as bytes, or as text: U+0000 and Base64"


class _Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    RULES: ClassVar[Mapping[str, str]] = {}


#: For options that stand in a module of their own.
Options = _Options


class SendOptions(_Options, frozen=True, kw_only=True):
    """``mailbox.send``: on how many nodes the sender insists, what its clock says, and the messages' signatures."""

    copies: Annotated[int, msgspec.Meta(ge=1, le=2)] | None = None
    sent_at: Instant | None = None
    signatures: list[Annotated[str, msgspec.Meta(pattern=SIGNATURE_PATTERN)] | None] = []
    RULES: ClassVar[Mapping[str, str]] = {
        "copies": "1 or 2",
        "sent_at": INSTANT_RULE + ", the sender's clock",
        "signatures": f"a list with one entry for each message: {SIGNATURE_RULE}",
    }


class AttachOptions(_Options, frozen=True, kw_only=True):
    """``mailbox.attach``."""

    instance: _Instance | None = None
    capabilities: Annotated[list[_Capability], msgspec.Meta(max_length=256)] = []
    window: Annotated[int, msgspec.Meta(ge=1, le=WINDOW_LIMIT)] | None = None
    heartbeat_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] | None = None
    epoch: _Epoch | None = None
    position: Position | None = None
    run: _Word | None = None
    after: _Word | None = None
    begun: Annotated[list[tuple[_Word, _Word]], msgspec.Meta(max_length=WINDOW_LIMIT)] = []
    host: _Line | None = None
    canaries: bool | Annotated[list[_Word], msgspec.Meta(max_length=16)] = False
    binary: bool = False
    RULES: ClassVar[Mapping[str, str]] = {
        "instance": INSTANCE_RULE,
        "binary": _BINARY_RULE,
        "run": _WORD_RULE + ", which names this run of the client's process",
        "after": _WORD_RULE + ", the run before this one",
        "begun": f"a list of at most {WINDOW_LIMIT} pairs: a sender's address and the id of a message",
        "canaries": "true or false: whether the client answers canaries; or at most 16 words: by which roads",
        "host": "one line of 1 to 200 characters: where the client runs, for people",
        "capabilities": "a list of at most 256 names: a lower-case letter, then up to 62 of a-z, 0-9, '_', '.' and '-'",
        "window": f"an integer from 1 to {WINDOW_LIMIT}",
        "heartbeat_s": "a number of seconds above 0, at most 3600",
        "epoch": _EPOCH_RULE,
        "position": POSITION_RULE,
    }


class FetchOptions(_Options, frozen=True, kw_only=True):
    """``mailbox.fetch``."""

    max: Annotated[int, msgspec.Meta(ge=1, le=FETCH_LIMIT)] = 64
    wait_s: Annotated[float, msgspec.Meta(ge=0, le=WAIT_LIMIT_S)] = 0.0
    instance: _Instance | None = None
    epoch: _Epoch | None = None
    position: Position | None = None
    run: _Word | None = None
    binary: bool = False
    RULES: ClassVar[Mapping[str, str]] = {
        "max": f"an integer from 1 to {FETCH_LIMIT}",
        "wait_s": f"a number of seconds from 0 to {WAIT_LIMIT_S:g}",
        "instance": INSTANCE_RULE,
        "epoch": _EPOCH_RULE,
        "position": POSITION_RULE,
        "run": _WORD_RULE + ", which names this run of the client's process",
        "binary": _BINARY_RULE,
    }


class PeekOptions(_Options, frozen=True, kw_only=True):
    """``mailbox.peek``; ``after`` is that of a former page: (priority, arrival) of the last message of it."""

    max: Annotated[int, msgspec.Meta(ge=1, le=FETCH_LIMIT)] = 64
    after: tuple[Position, Position] | None = None
    instance: _Instance | None = None
    RULES: ClassVar[Mapping[str, str]] = {
        "max": f"an integer from 1 to {FETCH_LIMIT}",
        "after": 'the "after" of a former answer of this node: two integers',
        "instance": INSTANCE_RULE,
    }


class NodePeekOptions(_Options, frozen=True, kw_only=True):
    """``node.peek``; ``after`` as in :class:`PeekOptions`."""

    max: Annotated[int, msgspec.Meta(ge=1, le=FETCH_LIMIT)] = 64
    after: tuple[Position, Position] | None = None
    RULES: ClassVar[Mapping[str, str]] = {key: PeekOptions.RULES[key] for key in ("max", "after")}


class MailboxesOptions(_Options, frozen=True, kw_only=True):
    """``node.mailboxes``."""

    agent: Text | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=FETCH_LIMIT)] = 100
    RULES: ClassVar[Mapping[str, str]] = {
        "agent": "the name of an agent, or the address of a mailbox",
        "limit": f"an integer from 1 to {FETCH_LIMIT}",
    }


class BeatOptions(_Options, frozen=True, kw_only=True):
    """``directory.beat``."""

    sent_at: Instant
    state: Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=LINE)] | None = None
    busy_until: Instant | None = None
    load: Annotated[float, msgspec.Meta(ge=0, le=sys.float_info.max)] | None = None
    progress: Annotated[str, msgspec.Meta(min_length=1, max_length=1000, pattern=LINE)] | None = None
    RULES: ClassVar[Mapping[str, str]] = {
        "sent_at": INSTANT_RULE + ", the agent's clock",
        "state": f"a string of 1 to 64 characters, {LINE_RULE}",
        "busy_until": INSTANT_RULE,
        "load": "a finite number from 0 on",
        "progress": f"a string of 1 to 1000 characters, {LINE_RULE}",
    }


class FindOptions(_Options, frozen=True, kw_only=True):
    """``directory.find``."""

    capability: Text | None = None
    presence: Literal["online", "busy", "stale", "offline"] | None = None
    RULES: ClassVar[Mapping[str, str]] = {
        "capability": "a string",
        "presence": "one of online, busy, stale, offline",
    }


class DeadListOptions(_Options, frozen=True, kw_only=True):
    """``admin.dead.list``."""

    agent: Text | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    after: Position = 0
    RULES: ClassVar[Mapping[str, str]] = {
        "agent": "the name of an agent",
        "limit": "an integer from 1 to 1000",
        "after": POSITION_RULE,
    }


class DeadPurgeOptions(_Options, frozen=True, kw_only=True):
    """``admin.dead.purge`` without a list of letters."""

    before: Instant | None = None
    RULES: ClassVar[Mapping[str, str]] = {"before": INSTANT_RULE}


class MailboxPurgeOptions(_Options, frozen=True, kw_only=True):
    """``admin.mailbox.purge``: of what it sent, not of what waits for it; only to say how much that is."""

    sent: bool = False
    dry_run: bool = False
    RULES: ClassVar[Mapping[str, str]] = {
        "sent": "true (all that is open from the agent) or false (all that is open for it)",
        "dry_run": "true (only count) or false",
    }


class FallbackOptions(_Options, frozen=True, kw_only=True):
    """``admin.fallback``: why, and whether messages are taken all the same."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500, pattern=LINE)]
    sends: bool | None = None
    RULES: ClassVar[Mapping[str, str]] = {
        "reason": f"a string of 1 to 500 characters, {LINE_RULE}",
        "sends": "true (messages are taken all the same) or false",
    }


class NackItem(_Options, frozen=True, kw_only=True):
    """One item of ``mailbox.nack``."""

    token: str
    reason: Annotated[str, msgspec.Meta(max_length=2000, pattern=TEXT)] = "the agent gave no reason"
    requeue: bool = True
    RULES: ClassVar[Mapping[str, str]] = {
        "token": "the token of a delivery",
        "reason": "a string of at most 2000 characters, the first not U+0000",
        "requeue": "true (another attempt) or false (dead letter)",
    }


T = TypeVar("T", bound=_Options)


def read(model: type[T], raw: object, path: str) -> T:
    """Check an option map; ``None`` stands for an empty one.

    Raises:
        KeyUnknown: a key that the procedure doesn't know.
        ArgumentInvalid: a key is missing or breaks its rule, or it is no map.
    """
    try:
        return msgspec.convert({} if raw is None else raw, model)
    except (msgspec.ValidationError, UnicodeEncodeError):
        # Go, Lua and JavaScript send 60000.0 for 60000.
        whole = with_whole_numbers(raw)
    if whole is not None:
        try:
            return msgspec.convert(whole, model)
        except (msgspec.ValidationError, UnicodeEncodeError):
            raw = whole
    raise _explain(model, raw, path)


def _explain(model: type[T], raw: object, path: str) -> KeyUnknown | ArgumentInvalid:
    if not isinstance(raw, Mapping):
        return ArgumentInvalid(f"{path} is {show_value(raw)}; it must be a map")
    for key in raw:
        if key not in model.RULES:
            known = ", ".join(model.RULES)
            return KeyUnknown(f"{path} has the unknown key {show_value(key)}; the known keys are {known}")
    required = {field.encode_name for field in msgspec.structs.fields(model) if field.required}
    for key, rule in model.RULES.items():
        if key in required and key not in raw:
            return ArgumentInvalid(f"{path}.{key} is missing; it must be {rule}")
        if key in raw and not _keeps_rule(model, raw, key, required):
            return ArgumentInvalid(f"{path}.{key} is {show_value(raw[key])}; it must be {rule}")
    return ArgumentInvalid(f"{path} is not as the contract describes it")


def _keeps_rule(model: type[T], raw: Mapping[Any, Any], key: str, required: set[str]) -> bool:
    """Whether the fault is not in this key: it is tried with only the required keys beside it."""
    probe = {name: raw[name] for name in required | {key} if name in raw}
    try:
        msgspec.convert(probe, model)
    except msgspec.ValidationError as error:
        return f"$.{key}" not in str(error)
    except UnicodeEncodeError:
        return False
    return True


def read_positional(args: tuple[Any, ...], verb: str, least: int, most: int) -> tuple[Any, ...]:
    """The positional arguments of a procedure, filled up with ``None`` to ``most``.

    Raises:
        ArgumentInvalid: there are too few or too many.
    """
    if not least <= len(args) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise ArgumentInvalid(f"{verb} was called with {len(args)} positional arguments; it takes {wanted}")
    return args + (None,) * (most - len(args))


def read_span(raw: object, path: str) -> float:
    """A span in seconds, for the lease of a long job.

    Raises:
        ArgumentInvalid: it is none, or longer than a day.
    """
    if isinstance(raw, int | float) and not isinstance(raw, bool) and 0 < raw <= WORKING_LIMIT_S:
        return float(raw)
    rule = f"a number of seconds above 0, at most {WORKING_LIMIT_S:g}"
    raise ArgumentInvalid(f"{path} is {show_value(raw)}; it must be {rule}")


def read_list(raw: object, path: str, limit: int) -> list[Any]:
    """A list of at most ``limit`` items.

    Raises:
        ArgumentInvalid: it is none.
    """
    if not isinstance(raw, list | tuple):
        raise ArgumentInvalid(f"{path} is {show_value(raw)}; it must be a list")
    if len(raw) > limit:
        raise ArgumentInvalid(f"{path} has {len(raw)} items; it must have at most {limit}: split the call")
    return list(raw)


def read_signatures(said: SendOptions, messages: Sequence[object]) -> list[str | None]:
    """The signature of each message, ``None`` for one that has none; nothing if none has.

    Raises:
        ArgumentInvalid: there are more or fewer than messages.
    """
    if said.signatures and len(said.signatures) != len(messages):
        raise ArgumentInvalid(
            f"options.signatures has {len(said.signatures)} entries for {len(messages)} messages; it must have one for "
            "each, null for one without"
        )
    return said.signatures


def read_tokens(raw: object, path: str, limit: int, epoch: str) -> list[int]:
    """The positions that a list of tokens names: which attempt it was makes no difference to what is done."""
    return [position for position, _ in read_deliveries(raw, path, limit, epoch)]


def read_deliveries(raw: object, path: str, limit: int, epoch: str) -> list[tuple[int, int]]:
    """The positions and the attempts that a list of tokens names."""
    items = read_list(raw, path, limit)
    found = [token_in(item, epoch) for item in items]
    if None in found:
        index = found.index(None)
        raise no_token(items[index], f"{path}[{index}]")
    return [token for token in found if token is not None]


def read_positions(raw: object, path: str, limit: int) -> list[int]:
    """A list of positions of the journal, such as a list of dead letters names them."""
    return [read_position(item, f"{path}[{index}]") for index, item in enumerate(read_list(raw, path, limit))]


def read_position(raw: object, path: str) -> int:
    """A position of the journal."""
    if isinstance(raw, float) and raw.is_integer():
        raw = int(raw)
    if isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw < 2**63:
        return raw
    raise ArgumentInvalid(f"{path} is {show_value(raw)}; it must be {POSITION_RULE}")


def read_ids(raw: object, path: str, limit: int) -> list[str]:
    """A list of messages' ids."""
    items = read_list(raw, path, limit)
    for index, item in enumerate(items):
        if not is_message_id(item):
            raise ArgumentInvalid(f"{path}[{index}] is {show_value(item)}; it must be {ID_RULE}")
    return items
