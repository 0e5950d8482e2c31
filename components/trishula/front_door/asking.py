"""Questions of a model that wait for an answer: a COMMAND, and the wait for its RESULT or ERROR.

The COMMAND is the agent's own and not one instance's, so that an answer which comes after the model gave up comes to
its mailbox. A question ends as an :class:`Answered`; asking again with its id goes on waiting, also in another session,
and sends nothing twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from trishula.contract.addresses import agent_of, is_capability
from trishula.contract.message import Message
from trishula.contract.notices import answers
from trishula.contract.uris import MAILBOX_ANSWER
from trishula.errors import (
    BusUnreachable,
    MessageUnknown,
    NotAllowed,
    OutcomeUnknown,
    ProcedureUnknown,
    TrishulaError,
)
from trishula.front_door.member import ANSWER_S, Member
from trishula.runtime.waiting import sleep

__all__ = ["Answered", "Question", "ask", "wait_for_answer"]

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_ENDED = ("dead", "expired", "cancelled")


@dataclass(frozen=True, slots=True)
class Question:
    """A COMMAND.

    Attributes:
        id: its id.
        to: who is asked; ``None`` where only the id is known.
        procedure: what to run there.
        args, kwargs: its arguments.
        priority: 1 (most urgent) to 5.
        ttl_ms: how long it lives.
    """

    id: str
    to: str | None
    procedure: str
    args: list[Any]
    kwargs: dict[str, Any]
    priority: int
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a question.

    Attributes:
        message: its RESULT or ERROR; ``None``: there is none yet, or none any more.
        state: where the COMMAND stands: ``done``, ``dead``, ``expired``, ``cancelled``, else not through.
        warning: what the COMMAND is likely to wait for, such as a capability that nobody has.
    """

    message: Message | None
    state: str
    warning: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether it ended without an answer."""
        return self.state in _ENDED


async def ask(member: Member, question: Question, wait_s: float) -> Answered:
    """Send a question, or the same one again, and wait for its answer.

    Raises:
        TrishulaError: the node refuses it.
        BusUnreachable: no node was there; it was not sent.
    """
    if question.to is None:
        return await wait_for_answer(member, question.id, None, wait_s)
    receipt = await member.client.send(
        question.to,
        type="COMMAND",
        payload={"args": question.args, "kwargs": question.kwargs},
        timeout=ANSWER_S,
        id=question.id,
        procedure=question.procedure,
        priority=question.priority,
        ttl_ms=question.ttl_ms,
    )
    agent = None if is_capability(question.to) else agent_of(question.to)
    answered = await wait_for_answer(member, question.id, agent, wait_s)
    return Answered(answered.message, answered.state, receipt.warning)


async def wait_for_answer(member: Member, message_id: str, agent: str | None, wait_s: float) -> Answered:
    """Wait for the answer to a COMMAND that was sent.

    Args:
        member: who asked.
        message_id: the COMMAND's id.
        agent: who was asked; ``None`` if that is for the node to say.
        wait_s: how long, in seconds; 0 to ask once.

    Raises:
        MessageUnknown: the agent sent no such COMMAND.
        BusUnreachable, OutcomeUnknown: no node said anything in all that time.
    """
    clock = member.clock
    until_s = clock.seconds() + wait_s
    pause_s, told, error = _FIRST_PAUSE_S, Answered(None, ""), None
    tells = True
    while True:
        item = member.desk.answer_to(message_id, agent)
        if item is not None:
            member.surfaced([item])
            await member.done(item)
            return Answered(item.message, "done")
        if tells:
            try:
                told, error = await _told(member, message_id, agent), None
            except MessageUnknown:
                raise
            except (ProcedureUnknown, NotAllowed):
                # A node of the release before: the answer is in the mailbox, or not yet.
                tells = False
            except (BusUnreachable, OutcomeUnknown) as unreachable:
                error = unreachable
        else:
            await member.receive(1, 0.0)
            if member.desk.answer_to(message_id, agent) is not None:
                continue
        if told.message is not None:
            await member.done_unseen(told.message)
            return told
        left_s = until_s - clock.seconds()
        if told.is_over or left_s <= 0:
            if error is not None:
                raise error
            return told
        await sleep(clock, min(pause_s, left_s))
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


async def _told(member: Member, message_id: str, agent: str | None) -> Answered:
    raw = await member.client.request(MAILBOX_ANSWER, message_id, timeout=ANSWER_S)
    try:
        wire = raw.get("message")
        message = None if wire is None else msgspec.convert(wire, Message)
        if message is not None:
            message = member.client.verified(message, raw.get("signature"))
        if message is not None and not answers(message, message_id, agent):
            raise TrishulaError(f"the node gave {message.id} from {message.sender}, which is no answer to {message_id}")
        return Answered(message, str(raw.get("state", "")))
    except (AttributeError, msgspec.ValidationError) as fault:
        raise TrishulaError(f"the node's answer on {message_id} can't be read: {fault}") from None
