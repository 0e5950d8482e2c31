"""What a node hands to a receiver: messages with a token each, as typed values.

The node has validated every message, so they are built straight from the wire in one pass of msgspec.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import msgspec

from trishula.message import Message

__all__ = ["Delivery", "Fetched", "Unreadable", "current_delivery", "read_deliveries", "running"]


class Delivery(msgspec.Struct, frozen=True):
    """A message on its way to a handler.

    Attributes:
        message: the message.
        attempt: how often it has been delivered, this time included: more than 1 means that an earlier run may have
            begun (in another process, or in one that died).
        token: what to acknowledge it with; it means nothing but to the node that gave it.
    """

    message: Message
    attempt: int
    token: str


class Fetched(msgspec.Struct, frozen=True):
    """The answer to a fetch; ``pending`` + ``in_flight`` = 0 proves that the mailbox is empty.

    Attributes:
        deliveries: what was taken, each leased until its token is acknowledged or the lease is over.
        epoch: names the node's store; another epoch is another store.
        high_water: the node's newest sequence number.
        pending: messages that wait.
        in_flight: messages that were handed out and are not settled, these included.
    """

    deliveries: list[Delivery]
    epoch: str
    high_water: int
    pending: int
    in_flight: int


class Unreadable(msgspec.Struct, frozen=True):
    """A delivery that is not as the contract says (a newer node, a foreign one): its token, and why."""

    token: str
    reason: str


#: The delivery whose handler runs.
running: ContextVar[Delivery | None] = ContextVar("trishula_delivery", default=None)


def current_delivery() -> Delivery | None:
    """The delivery that the calling handler handles; ``None`` outside of handlers and in a live RPC.

    ``attempt`` tells a handler whether an earlier run may have begun, ``message`` tells a procedure who called.
    """
    return running.get()


def read_deliveries(raw: object) -> tuple[list[Delivery], list[Unreadable]]:
    """Deliveries as they came from the wire, and those of them that can't be read."""
    try:
        return msgspec.convert(raw, list[Delivery]), []
    except msgspec.ValidationError:
        pass
    deliveries: list[Delivery] = []
    unreadable: list[Unreadable] = []
    for one in raw if isinstance(raw, Sequence) and not isinstance(raw, str | bytes) else []:
        try:
            deliveries.append(msgspec.convert(one, Delivery))
        except msgspec.ValidationError as error:
            fields: dict[str, Any] = one if isinstance(one, dict) else {}
            unreadable.append(Unreadable(str(fields.get("token", "")), str(error)))
    return deliveries, unreadable
