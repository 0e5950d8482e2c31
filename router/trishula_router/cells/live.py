"""A live event on its way to other cells: what of it travels, and which ones are new. Policy only: no I/O.

Live topics promise *at most once*: whoever is subscribed at that moment hears an event, and nothing keeps it. So an
event is sent once, and what comes is heard only if its number is higher than the last one of that run of that node:
whoever can write to Redis can't have one heard twice that was heard, and none comes behind a newer one.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec

__all__ = ["VERSION", "Event", "Freshness", "read_event", "write_event"]

VERSION = 1
#: Runs of nodes that are remembered.
_RUNS = 10_000


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it travels; what a later release adds is passed over.

    Attributes:
        cell: at which it was published.
        run: of the node there.
        number: in that run, rising.
        topic: the URI.
        agent: who published it.
        session: of which session there.
        args, kwargs: of the event.
        eligible, excluded: the agents that alone may hear it, or may not, if the publisher said so.
        roles: likewise the roles that alone may hear it.
        version: of this form.
    """

    cell: str
    run: str
    number: int
    topic: str
    agent: str
    session: int
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    eligible: list[str] | None = None
    excluded: list[str] | None = None
    roles: list[str] | None = None
    version: int = VERSION


_write = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(Event).decode


def write_event(event: Event) -> bytes:
    """An event as it travels.

    Raises:
        ValueError: it holds something that can't be written.
    """
    try:
        return _write(event)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"the event can't be written: {error}") from None


def read_event(text: bytes) -> Event:
    """An event as it travelled.

    Raises:
        ValueError: it is none, or one of a later form.
    """
    try:
        event = _read(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"it is no event: {error}") from None
    if event.version != VERSION:
        raise ValueError(f"it is of version {event.version}, and this node knows {VERSION}; update the node")
    return event


class Freshness:
    """Which events are new: of each run of a node, those with a higher number than all before."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, int] = OrderedDict()

    def is_new(self, run: str, number: int) -> bool:
        """Whether an event was not heard before; it has been from now on."""
        if number <= self._last.get(run, -1):
            return False
        self._last[run] = number
        self._last.move_to_end(run)
        if len(self._last) > _RUNS:
            self._last.popitem(last=False)
        return True
