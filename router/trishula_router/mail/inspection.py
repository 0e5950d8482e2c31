"""The inspection of what a client sends: whether the node takes a message, and what is stored of it.

A message is read first: its keys, its sender, its id. Then it is admitted: its recipients are found, the sender's
grants, the recipients' mailboxes and the size limits are asked, and its place in each mailbox is reserved. What is
refused raises, with a sentence that names the key; nothing is stored here, that is for :mod:`.intake`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from trishula.contract.addresses import agent_of, is_nodes_own
from trishula.contract.encrypted import encrypted_for
from trishula.contract.message import Message, parse
from trishula.contract.units import show_duration
from trishula.errors import MessageInvalid, SenderFalse, TrishulaError
from trishula_router.mail.batch import Batch
from trishula_router.mail.budgets import Budgets
from trishula_router.mail.conversations import Conversations
from trishula_router.mail.receipts import Receipts
from trishula_router.mail.recipients import Recipients
from trishula_router.mail.replies import Pledge, Replies
from trishula_router.mail.room import Missed, Room
from trishula_router.settings.limits import Limits
from trishula_router.store.identity import content_digest
from trishula_router.store.messages import Draft

__all__ = ["Admitted", "Inspection", "Naming"]

#: See :meth:`trishula_router.attachments.keeping.Keeping.name`.
Naming = Callable[[str, str, object, str, int | None], Callable[[], None] | None]

_to_json = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Admitted:
    """A message that passed, on its way into the store.

    Attributes:
        index: its place in the request.
        wire: what its recipients will read.
        draft: what is stored of it.
        missed: of a broadcast, who has no room for it.
        pledge: of an answer.
    """

    index: int
    wire: dict[str, Any]
    draft: Draft
    missed: Missed
    pledge: Pledge | None = None


class Inspection:
    """Says of each message whether it is taken.

    Args:
        room: where places are reserved.
        receipts: knows how many copies can be asked for.
        recipients: who may be written to, by whom.
        limits: sizes.
        check_answer: refuses the answer to a COMMAND that was cancelled.
        replies: told of an answer that was pledged and isn't taken.
        naming: (agent, id, payload, path, copies) → what writes down that the message names an attachment, if it does.
        conversations: knows which have no end.
        now_s: the clock of the budgets.
        default_ttl_ms: of a message that names none.
    """

    def __init__(
        self,
        room: Room,
        receipts: Receipts,
        recipients: Recipients,
        limits: Limits,
        *,
        check_answer: Callable[[Message], None],
        replies: Replies,
        naming: Naming,
        conversations: Conversations,
        now_s: Callable[[], float],
        default_ttl_ms: int,
    ) -> None:
        self._room = room
        self._receipts = receipts
        self._recipients = recipients
        self._limits = limits
        self._check_answer = check_answer
        self._answering = replies
        self._naming = naming
        self._conversations = conversations
        self._budgets = Budgets(limits.hourly_messages, limits.hourly_bytes)
        self._now_s = now_s
        self._default_ttl_ms = default_ttl_ms

    def read(self, agent: str, raw: object, index: int, copies: int | None, now: int) -> Message:
        """A message as it came, checked but for its recipients; what its sender left out is put in.

        Args:
            agent: the session's authid.
            raw: the message as it came.
            index: its place in the request.
            copies: on how many nodes the sender insists.
            now: ms.

        Raises:
            TrishulaError: why it is refused.
        """
        message = parse(raw, path=f"messages[{index}]", payload_limit_bytes=self._limits.payload_bytes)
        if message.sender is None or message.timestamp is None:
            message = replace(
                message,
                sender=agent if message.sender is None else message.sender,
                timestamp=now if message.timestamp is None else message.timestamp,
            )
        if message.sender != agent and agent_of(str(message.sender)) != agent:
            raise SenderFalse(
                f'messages[{index}].from is "{message.sender}", and this session is {agent}\'s; leave the key out, or '
                f"send as {agent}"
            )
        if is_nodes_own(message.id):
            raise MessageInvalid(
                f'messages[{index}].id is "{message.id}"; ids that begin with "node:" are the node\'s own, take another'
            )
        self._check_answer(message)
        self._receipts.check(copies)
        return message

    def admit(
        self,
        agent: str,
        message: Message,
        batch: Batch,
        index: int,
        now: int,
        pledge: Pledge | None,
    ) -> Admitted:
        """What to store of a message that was read, its place in the mailboxes reserved.

        Args:
            agent: the session's authid.
            message: that was read.
            batch: the request.
            index: its place in the request.
            now: ms.
            pledge: of an answer; withdrawn if the message is refused.

        Raises:
            TrishulaError: why it is refused.
        """
        if message.ttl_ms is not None and message.ttl_ms > self._limits.ttl_ms:
            raise MessageInvalid(
                f"messages[{index}].ttl_ms is {message.ttl_ms}; this node takes at most {self._limits.ttl_ms} "
                f"({show_duration(self._limits.ttl_ms / 1000)}, limits.ttl): give it a shorter time to live, or none"
            )
        try:
            return self._admitted(agent, message, batch, index, now, pledge)
        except TrishulaError:
            if pledge is not None:
                self._answering.withdrawn(pledge)
            raise

    def _admitted(
        self, agent: str, message: Message, batch: Batch, index: int, now: int, pledge: Pledge | None
    ) -> Admitted:
        sender = str(message.sender)
        if pledge is None:
            self._conversations.check(sender, message.to, message.reply_to, index, now)
        write_link = self._naming(agent, message.id, message.payload, f"messages[{index}]", batch.copies)
        wire = message.to_wire()
        wire["accepted_at"] = now
        deadline_at = message.deadline_at
        if deadline_at is not None:
            wire["deadline_at"] = deadline_at = batch.clock.here(deadline_at)
        as_answer = pledge is not None and pledge.to_asker
        recipients = self._recipients.find(agent, message, index, as_answer=as_answer)
        expires_at = now + (self._default_ttl_ms if message.ttl_ms is None else message.ttl_ms)
        by_deadline = deadline_at is not None and deadline_at < expires_at
        envelope = _to_json(wire)
        self._budgets.admit(agent, len(envelope), self._now_s(), is_answer=pledge is not None)
        taken, missed = self._room.take(sender, recipients, len(envelope), message.priority)
        if write_link is not None:
            write_link()
        if pledge is None:
            self._conversations.note(sender, message.id, message.to, message.reply_to, now)
        draft = Draft(
            sender,
            message.id,
            taken,
            message.type,
            message.priority,
            expires_at if deadline_at is None else min(deadline_at, expires_at),
            envelope,
            by_deadline,
            content_digest(wire),
            message.reply_to,
            batch.signature(index),
            encrypted_for(message.payload) is not None,
            batch.proof,
        )
        if draft.signature:
            # As it is read back.
            wire["signature"] = draft.signature
        return Admitted(index, wire, draft, missed, pledge)
