"""What happened on a bus in memory, as its test asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import msgspec

from trishula.contract import uris
from trishula.contract.message import Message

__all__ = ["Handed", "Letter", "Handovers"]

Outcome = Literal["in hand", "acknowledged", "given back", "lost"]


@dataclass(frozen=True, slots=True)
class Handed:
    """A delivery that the node handed over, pushed or fetched.

    Attributes:
        to: the address whose mailbox it is from.
        message: the message.
        attempt: how often it has been handed over, this time included.
        outcome: ``in hand``; ``acknowledged``; ``given back``, by a handler that failed; or ``lost`` with its session.
        reason: why it was given back.
    """

    to: str
    message: Message
    attempt: int
    outcome: Outcome = "in hand"
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter.

    Attributes:
        message: the message.
        reason: why it is dead.
        failures: how often it failed.
        dead_at: since when it is dead, by the bus's clock.
    """

    message: Message
    reason: str
    failures: int
    dead_at: datetime


class Handovers:
    """Keeps what was handed over, and what came back."""

    def __init__(self) -> None:
        self._handed: list[Handed] = []
        #: Token → its place in the list, and the session that has it.
        self._places: dict[str, tuple[int, int]] = {}

    def of(self, agent: str | None) -> list[Handed]:
        """What was handed to an agent and its instances, or to all, in order."""
        return [one for one in self._handed if agent is None or one.to.partition("/")[0] == agent]

    def handed(self, address: str, session: int, deliveries: Sequence[Mapping[str, Any]]) -> None:
        """The node hands over."""
        for one in deliveries:
            self._places[one["token"]] = len(self._handed), session
            self._handed.append(Handed(address, msgspec.convert(one["message"], Message), one["attempt"]))

    def answered(self, agent: str, session: int, uri: str, args: Sequence[Any], answer: Any) -> None:
        """The node has served a call."""
        if uri == uris.MAILBOX_FETCH:
            options = args[0] if args and args[0] else {}
            instance = options.get("instance")
            self.handed(agent if instance is None else f"{agent}/{instance}", session, answer["deliveries"])
        elif uri == uris.MAILBOX_ACK:
            for token, was_done in zip(args[0], answer, strict=True):
                if was_done:
                    self._end(token, "acknowledged")
        elif uri == uris.MAILBOX_NACK:
            for item, was_returned in zip(args[0], answer, strict=True):
                if was_returned:
                    self._end(item["token"], "given back", item["reason"])

    def session_left(self, session: int) -> None:
        """What a session had goes back into the mailbox."""
        for token in [token for token, (_, its) in self._places.items() if its == session]:
            self._end(token, "lost")

    def _end(self, token: str, outcome: Outcome, reason: str | None = None) -> None:
        at, _ = self._places.pop(token, (None, 0))
        if at is not None:
            self._handed[at] = replace(self._handed[at], outcome=outcome, reason=reason)
