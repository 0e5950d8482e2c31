"""Redaction: the payload of a message is deleted, and the journal says so.

The chain stays whole: it is over what happened to the message, and over the SHA-256 of its envelope. The record
``redacted`` says who wanted it and why; linked nodes delete their copies when they copy the record, also those that are
away now. What is settled alone can be redacted: a payload that is still to be handed out must stay. A dead letter is
purged with it, or another node could still replay it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from trishula.errors import ArgumentInvalid, MessageUnknown
from trishula_router.store.facts import RedactedFacts, read_facts
from trishula_router.store.interface import History, Store
from trishula_router.store.journal import Kind
from trishula_router.store.messages import State, StoredMessage

__all__ = ["Redaction"]


class Redaction:
    """Redacts messages.

    Args:
        store: of the node.
        now: the wall clock in ms.
        redacted: lets go of the files of messages whose payloads are gone.
    """

    def __init__(
        self, store: Store, now: Callable[[], int], redacted: Callable[[Sequence[StoredMessage]], Awaitable[None]]
    ) -> None:
        self._store = store
        self._now = now
        self._redacted = redacted

    async def redact(self, message_id: str, sender: str | None, reason: str, by: str) -> dict[str, Any]:
        """Delete the payload of a message at all its recipients.

        What has been redacted, and has no payload here, is left as it is.

        Args:
            message_id: its id.
            sender: whose message, if several senders used the id.
            reason: why, one line.
            by: the operator.

        Returns:
            ``{redacted, already, messages, at, by, reason}``: whether a payload was deleted now, whether it was
            redacted before, of how many recipients; and when, by whom and why it was redacted first.

        Raises:
            MessageUnknown: there is none.
            ArgumentInvalid: several senders used the id, or it is not settled.
        """
        lives = [
            life for life in await self._store.history(message_id) if sender is None or life.message.sender == sender
        ]
        messages = [life.message for life in lives]
        _check(message_id, messages)
        positions = [message.position for message in messages]
        before = _first_of(lives)
        has_body = bool(await self._store.bodies(positions))
        if before is None or has_body:
            at = self._now()
            dead = [message.position for message in messages if message.state is State.DEAD]
            if dead:
                await self._store.purge(dead, at, by)
            await self._store.note(Kind.REDACTED, RedactedFacts(positions, by, reason), at)
            await self._redacted(messages)
            before_at, before_by, before_reason = before or (at, by, reason)
        else:
            before_at, before_by, before_reason = before
        return {
            "redacted": has_body,
            "already": before is not None,
            "messages": len(messages),
            "at": before_at,
            "by": before_by,
            "reason": before_reason,
        }


def _check(message_id: str, messages: Sequence[StoredMessage]) -> None:
    if not messages:
        raise MessageUnknown(f"there is no message {message_id} at this node; check the id")
    senders = sorted({message.sender for message in messages})
    if len(senders) > 1:
        raise ArgumentInvalid(
            f"several senders used the id {message_id}: {', '.join(senders[:5])}; say whose message (from)"
        )
    waiting = [message for message in messages if message.state is State.OPEN]
    if waiting:
        raise ArgumentInvalid(
            f"message {message_id} is not settled: {waiting[0].recipient} is still to get its payload; wait for "
            "its end, have its sender cancel it, or purge the mailbox"
        )


def _first_of(lives: Sequence[History]) -> tuple[int, str, str] | None:
    """When, by whom and why all of the messages were redacted; ``None`` if one of them was not."""
    found: tuple[int, str, str] | None = None
    for life in lives:
        told = next(
            (
                (record.at, facts.by, facts.reason)
                for record in life.records
                if record.kind == Kind.REDACTED and (facts := read_facts(record.facts, RedactedFacts)) is not None
            ),
            None,
        )
        if told is None:
            return None
        found = found or told
    return found
