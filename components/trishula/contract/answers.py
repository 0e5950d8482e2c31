"""What a node answers when it is asked about agents and messages, as typed values with real dates.

A node that is newer may tell more: what isn't known here is left out. One that is older tells less: what it doesn't
tell has the default. The answers as they travel, and everything else that a node can be asked, are had by
``request(uri, …)``; :mod:`trishula.contract.uris` describes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from trishula.errors import TrishulaError

__all__ = [
    "AgentInfo",
    "LifeEvent",
    "MessageHistory",
    "MessageLife",
    "MessageStatus",
    "agents_in",
    "history_in",
    "states_in",
]

T = TypeVar("T")


class AgentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the directory tells of an agent; dates are in UTC, by the node's clock.

    Attributes:
        agent: its name.
        presence: ``online``, ``busy``, ``stale`` (no sign of life for too long) or ``offline``.
        since: since when.
        reason: why it is so, if there is more to say.
        node: the node that it is at; ``None`` if it is offline.
        capabilities: what it announced and is granted to serve.
        last_seen_at: when anything came from it last.
        last_beat_at: when its last heartbeat came.
        busy_until: until when it said that it is busy.
        load: how much it has to do, in a measure of its own.
        progress: how far it is, in its own words.
        progress_at: when it said so.
        clock_skew_ms: by how many milliseconds its clock is ahead of the node's.
        sessions: how many it has, instances included.
        cell: the other cell that says so; ``None`` of who is at the node's own.
        known_at: when that cell said so last: as old is all of this.
    """

    agent: str
    presence: str = "offline"
    since: datetime | None = None
    reason: str | None = None
    node: str | None = None
    capabilities: tuple[str, ...] = ()
    last_seen_at: datetime | None = None
    last_beat_at: datetime | None = None
    busy_until: datetime | None = None
    load: float | None = None
    progress: str | None = None
    progress_at: datetime | None = None
    clock_skew_ms: float | None = None
    sessions: int = 0
    cell: str | None = None
    known_at: datetime | None = None

    @property
    def is_present(self) -> bool:
        """Whether it takes messages now: ``online`` or ``busy``."""
        return self.presence in ("online", "busy")


class MessageStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where a message stands; dates are in UTC, by the node's clock.

    Attributes:
        id: the message's id.
        state: ``accepted``, ``delivered``, ``done``, ``dead``, ``expired`` or ``cancelled``; of a broadcast the state
            that is furthest from done.
        sender: who sent it.
        recipient: who it is to; ``broadcast`` if it went to several.
        accepted_at: since when a node has it.
        delivered_at: when it was delivered last.
        settled_at: when it came to its end.
        surfaced_at: when it was first put into a model's context; ``None`` if it was not, or the node is of a release
            that doesn't tell.
        attempts: how often it was delivered.
        recipients: of a broadcast: each recipient's state.
    """

    id: str
    state: str
    sender: str | None = None
    recipient: str | None = None
    accepted_at: datetime | None = None
    delivered_at: datetime | None = None
    settled_at: datetime | None = None
    surfaced_at: datetime | None = None
    attempts: int = 0
    recipients: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def is_settled(self) -> bool:
        """Whether it came to its end, whichever."""
        return self.state not in ("accepted", "delivered")


class LifeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One record of a node's journal, as it concerns one message.

    Attributes:
        kind: ``accepted``, ``delivered``, ``returned``, ``settled``, …
        at: when it was, in UTC, by the clock of the node that told it.
        node: the node that wrote it down.
        seq: its number in that node's journal.
        details: what else it says, as it travels.
    """

    kind: str
    at: datetime | None = None
    node: str | None = None
    seq: int = 0
    details: dict[str, Any] = msgspec.field(default_factory=dict)


class MessageLife(MessageStatus, frozen=True, kw_only=True):
    """The whole life of one message.

    Attributes:
        type: COMMAND, STATUS, RESULT or ERROR.
        priority: 1 (most urgent) to 5.
        node: the node that accepted it.
        seq: its number in that node's journal.
        failures: how many of its attempts failed.
        expires_at: until when it can be delivered.
        size_bytes: of the whole message.
        warning: what it is likely to wait for.
        events: what happened to it, in order.
    """

    type: str | None = None
    priority: int = 3
    node: str | None = None
    seq: int = 0
    failures: int = 0
    expires_at: datetime | None = None
    size_bytes: int = 0
    warning: str | None = None
    events: tuple[LifeEvent, ...] = ()


class MessageHistory(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an id: of ids that several senders have used, several lives.

    Attributes:
        lives: one for each message of that id, and for each recipient of a broadcast.
        missing: nodes whose newest records the node doesn't have, as they travel: they may know more.
    """

    lives: tuple[MessageLife, ...] = ()
    missing: tuple[dict[str, Any], ...] = ()


_DATES = {
    "accepted_at",
    "at",
    "busy_until",
    "delivered_at",
    "expires_at",
    "known_at",
    "last_beat_at",
    "last_seen_at",
    "progress_at",
    "settled_at",
    "since",
    "surfaced_at",
}
#: What Python or a reader would take for something else.
_NAMES = {"from": "sender", "to": "recipient", "bytes": "size_bytes"}
_OF_AN_EVENT = frozenset({"kind", "at", "node", "seq", "clock_ahead_ms"})


def agents_in(raw: object) -> list[AgentInfo]:
    """The entries of ``directory.list`` and ``directory.find``.

    Raises:
        TrishulaError: it is no such answer; so do the others here.
    """
    return [_read(AgentInfo, one) for one in _list_in(raw)]


def states_in(raw: object) -> dict[str, MessageStatus]:
    """The answer of ``mailbox.status``: id → where the message stands."""
    return {key: _read(MessageStatus, {**_map_in(one), "id": key}) for key, one in _map_in(raw).items()}


def history_in(raw: object) -> MessageHistory:
    """The answer of ``audit.why``."""
    told = _map_in(raw)
    lives = []
    for one in _list_in(told.get("messages", [])):
        life = dict(_map_in(one))
        life["events"] = [_event_in(_map_in(event)) for event in _list_in(life.pop("events", []))]
        lives.append(_read(MessageLife, life))
    return MessageHistory(
        lives=tuple(lives), missing=tuple(dict(_map_in(one)) for one in _list_in(told.get("missing", [])))
    )


def _event_in(raw: Mapping[str, Any]) -> LifeEvent:
    at, ahead_ms = raw.get("at"), raw.get("clock_ahead_ms")
    told = {key: raw[key] for key in ("kind", "node", "seq") if key in raw}
    if isinstance(at, int | float):
        told["at"] = at - (ahead_ms if isinstance(ahead_ms, int | float) else 0)
    return _read(LifeEvent, {**told, "details": {key: one for key, one in raw.items() if key not in _OF_AN_EVENT}})


def _read(kind: type[T], raw: object) -> T:
    fields = {_NAMES.get(key, key): _dated(key, one) for key, one in _map_in(raw).items() if one is not None}
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise _unreadable(str(error)) from None


def _dated(key: str, value: object) -> object:
    if key in _DATES and isinstance(value, int | float):
        try:
            return datetime.fromtimestamp(value / 1000, UTC)
        except (ValueError, OverflowError, OSError):
            raise _unreadable(f"{key} is {value}, which is no date in milliseconds") from None
    return value


def _map_in(raw: object) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise _unreadable(f"a map was expected, and {type(raw).__name__} came")
    return raw


def _list_in(raw: object) -> Iterable[Any]:
    if not isinstance(raw, list | tuple):
        raise _unreadable(f"a list was expected, and {type(raw).__name__} came")
    return raw


def _unreadable(why: str) -> TrishulaError:
    return TrishulaError(f"the node's answer can't be read: {why}; request() gives it as it came")
