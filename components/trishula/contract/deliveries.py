"""What a node hands to a receiver: messages with a token each, as typed values.

The node has validated every message, so they are built straight from the wire in one pass of msgspec.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import msgspec

from trishula.contract.binary import unmarked
from trishula.contract.message import Message
from trishula.runtime.pending import Pending

__all__ = [
    "CurrentDelivery",
    "Delivery",
    "Fetched",
    "Unreadable",
    "current_delivery",
    "read_deliveries",
    "running",
    "with_bytes",
]


class Delivery(msgspec.Struct, frozen=True):
    """A message on its way to a handler.

    Attributes:
        message: the message.
        attempt: how often it has been delivered, this time included: more than 1 means that an earlier run may have
            begun (in another process, or in one that died).
        token: what to acknowledge it with; it means nothing but to the node that gave it.
        signature: its sender's, as :mod:`trishula.contract.signed` has it; nobody has looked at it yet.
    """

    message: Message
    attempt: int
    token: str
    signature: str | None = None


class Fetched(msgspec.Struct, frozen=True):
    """The answer to a fetch; ``pending`` + ``in_flight`` = 0 proves that the mailbox is empty.

    Attributes:
        deliveries: what was taken, each leased until its token is acknowledged or the lease is over.
        epoch: names the node's store; another epoch is another store.
        high_water: the node's newest sequence number.
        pending: messages that wait.
        in_flight: messages that were handed out and are not settled, these included.
        epoch_changed: the node has another store than the one this client knew: positions that it told before mean
            nothing any more, and what only the old store had is gone.
    """

    deliveries: list[Delivery]
    epoch: str
    high_water: int
    pending: int
    in_flight: int
    epoch_changed: bool = False


class Unreadable(msgspec.Struct, frozen=True):
    """A delivery that is not as the contract says (a newer node, a foreign one): its token, and why."""

    token: str
    reason: str


class CurrentDelivery:
    """The delivery whose handler runs, as the handler sees it.

    Attributes:
        cancelled: whether its sender has cancelled the message since; a coroutine hears of that by itself, a handler in
            a thread may ask now and then, also in that thread. Nobody waits for what it returns.
        traceparent: the trace context of what is sent on account of it; ``None`` if its message has none.
    """

    __slots__ = ("_delivery", "_extend", "_surface", "cancelled", "traceparent")

    def __init__(
        self,
        delivery: Delivery,
        extend: Callable[[Message, float], Pending[Any]],
        surface: Callable[[Message], Pending[bool]],
    ) -> None:
        self._delivery = delivery
        self._extend = extend
        self._surface = surface
        self.cancelled = False
        self.traceparent = delivery.message.traceparent

    @property
    def message(self) -> Message:
        """The message; it tells a procedure who called."""
        return self._delivery.message

    @property
    def attempt(self) -> int:
        """How often it has been delivered; more than 1 means that an earlier run may have begun."""
        return self._delivery.attempt

    @property
    def token(self) -> str:
        """The token it came with; to acknowledge it is not the handler's affair."""
        return self._delivery.token

    def working(self, for_s: float) -> Pending[Any]:
        """Say that the handler will take so long from now, for example before a call of a model that blocks.

        The node offers the message to nobody else before, as long as this session lives: a node ends a session that
        shows no life for 4.5 s, which a loop that is blocked for so long does not, so that a longer block belongs in
        a thread. The word has left this process on return, also if the handler blocks its loop next; it can't pass what
        is still on its way from before, such as a large payload on a slow line. Without this word a lease is extended
        while the reactor runs, a minute at a time. In a thread: ``agent.from_thread(current_delivery().working, 600)``.
        """
        return self._extend(self._delivery.message, for_s)

    def surfaced(self) -> Pending[bool]:
        """Say that the message was put into a model's context; the outcome says whether that is on record.

        For handlers that ask a model: a handler that runs says nothing of what a model has read. Say it when the prompt
        with the message has gone to the model. If the session is lost meanwhile, it is said again on the next one. In a
        thread: ``agent.from_thread(current_delivery().surfaced)``.
        """
        return self._surface(self._delivery.message)


#: The delivery whose handler runs.
running: ContextVar[CurrentDelivery | None] = ContextVar("trishula_delivery", default=None)


def current_delivery() -> CurrentDelivery | None:
    """The delivery that the calling handler handles; ``None`` outside of handlers and in a live RPC.

    ``attempt`` tells a handler whether an earlier run may have begun, ``message`` tells a procedure who called,
    ``working`` says how long it will take, ``surfaced`` that a model has it, ``cancelled`` whether its sender has
    cancelled it.
    """
    return running.get()


def with_bytes(message: Message) -> Message:
    """A message with bytes for the marked strings of its payload, as a node has it (:mod:`.binary`)."""
    payload = unmarked(message.payload)
    return message if payload is message.payload else msgspec.structs.replace(message, payload=payload)


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
