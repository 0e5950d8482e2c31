"""What the outbox holds: one entry a message, gathered into batches, and put into a file where there is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from trishula.contract.message import DEFAULT_PRIORITY
from trishula.contract.receipts import Receipt
from trishula.errors import TrishulaError
from trishula.messaging.suspicion import Suspicion

__all__ = ["LIMITS", "Batch", "Entry", "Limits", "OutboxFile", "SavedMessage"]


class OutboxFile(Protocol):
    """Where entries outlive the process; changes are written together, at the end of the turn."""

    def put(self, number: int, message: bytes, copies: int | None) -> None:
        """An entry was added."""

    def drop(self, number: int) -> None:
        """It is settled."""

    def set_aside(self, message: bytes, reason: str) -> None:
        """A message can't be sent: it is kept for whoever wants to look at it."""


@dataclass(frozen=True, slots=True)
class SavedMessage:
    """A message that an earlier run left in the file."""

    number: int
    message: bytes
    copies: int | None


class Entry:
    """One message on its way out.

    Attributes:
        id: its id.
        to: its recipient, as it stands in the message.
        message: the message, encoded.
        copies: how many copies its sender insists on.
        enough: with how many copies it needs no keeping; ``None``: with any receipt.
        nodes: those that have it.
        done: gets the receipt or the error, once.
        number: its place in the order of sending.
        place: its place in the order in which entries were offered for the first time; 0: it was not.
        priority: how urgent it is, 1 to 5; the most urgent are 1.
        held: told each time when it is refused for now, so that its way may be long.
        is_dated: it has a deadline, by our clock.
        is_reply: it is the end of work that was admitted, so it is admitted whatever else waits.
        refusals: how often it was refused for now.
        refusal: the latest of these.
        size_bytes: how large it is.
        offers: how often a node may have seen it.
        denials: after how many of these the node said that it doesn't have it.
        suspicion: whether it may be what ended sessions; ``None`` if it has ended none.
        signature: its signature; ``None`` if it has none.
    """

    __slots__ = (
        "copies", "denials", "done", "enough", "held", "id", "is_dated", "is_reply", "message", "nodes", "number",
        "offers", "place", "priority", "refusal", "refusals", "signature", "size_bytes", "suspicion", "to",
    )  # fmt: skip

    def __init__(
        self,
        message_id: str,
        to: str,
        message: bytes,
        done: Callable[[Receipt | TrishulaError], object],
        *,
        copies: int | None = None,
        enough: int | None = None,
        priority: int = DEFAULT_PRIORITY,
        held: Callable[[TrishulaError], object] | None = None,
        is_dated: bool = False,
        is_reply: bool = False,
        signature: str | None = None,
    ) -> None:
        self.signature = signature
        self.id = message_id
        self.to = to
        self.message = message
        self.size_bytes = len(message)
        self.copies = copies
        self.enough = enough or copies
        self.priority = priority
        self.nodes: set[str | None] = set()
        self.done = done
        self.held = held
        self.is_dated = is_dated
        self.is_reply = is_reply
        self.number = 0
        self.place = 0
        self.refusals = 0
        self.refusal: TrishulaError | None = None
        self.offers = 0
        self.denials = 0
        self.suspicion: Suspicion | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much at once.

    Attributes:
        batch_messages: messages in one call. From 64 on, larger batches gain nothing, and who sends little beside them
            waits longer: a node reads a call, writes it and answers it in one go each.
        batch_bytes: bytes of messages in one call; one message alone may be larger.
        calls: calls in flight. Some are needed to keep the node's writer busy; more would only make small batches.
        messages: entries altogether; a sender that never waits for receipts must meet an end.
        total_bytes: their size.
    """

    batch_messages: int = 64
    batch_bytes: int = 1024 * 1024
    calls: int = 4
    messages: int = 100_000
    total_bytes: int = 256 * 1024 * 1024


#: The limits of whoever says nothing of them.
LIMITS = Limits()


@dataclass(slots=True)
class Batch:
    """The entries of one call."""

    entries: list[Entry]
    copies: int | None
    generation: int
    is_suspect: bool = False
