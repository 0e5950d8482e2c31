"""Calls that wait for their answer: ties RESULT and ERROR messages, and news of dead COMMANDs, to who asked.

Only the called agent can answer (its name is checked by the node), so nobody else can slip a result in. Whom a COMMAND
to a capability was given to, the node alone knows: what answers such a call makes us ask the node for the answer, and
what the node says counts. An answer that comes after its caller gave up is kept for a while: a call with the same id
finds it. So does one whose COMMAND was sent before by another process of our agent: the answer went there, and the node
is asked for it (:mod:`trishula.messaging.calls`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trishula.contract.addresses import agent_of, is_capability, is_nodes_own
from trishula.contract.message import Message
from trishula.contract.notices import is_word_of_node, tells_an_end
from trishula.errors import (
    CallFailed,
    MessageCancelled,
    OutcomeUnknown,
    RemoteError,
    TrishulaError,
    from_wire,
)
from trishula.runtime.pending import Pending

__all__ = ["Calls", "error_of"]

_log = logging.getLogger("trishula")

#: Late answers kept for a second try.
_LATE_ANSWERS = 256
_ABSENT = object()


@dataclass(slots=True)
class _Open:
    agent: str
    procedure: str
    answer: Pending[Any]
    # Whether the COMMAND went out encrypted.
    encrypted: bool = False
    sent: bool = False
    # What came as the answer for a capability, and the node has not said to be it.
    unvouched: Message | None = None

    @property
    def to_anybody(self) -> bool:
        return is_capability(self.agent)


class Calls:
    """The open calls of one client, by the COMMAND's id.

    Attributes:
        on_unsure: told of a COMMAND whose answer the node must be asked for: it is done, and its caller has none; or
            somebody claims to answer for a capability.
    """

    def __init__(self) -> None:
        self.on_unsure: Callable[[str], object] = lambda _: None
        self._open: dict[str, _Open] = {}
        # What was given up: id → (agent, procedure), then its answer if it comes.
        self._given_up: dict[str, _Open] = {}
        # Calls that failed by news: the ERROR message, by which the node tells the same, is still to come.
        self._told: dict[str, None] = {}
        # Answers that the node was asked for, and that are still to come to our own mailbox as well.
        self._found: dict[str, None] = {}
        # Calls that were cancelled: an answer may have been on its way.
        self._cancelled: dict[str, None] = {}

    @property
    def is_busy(self) -> bool:
        """Whether any delivery could be an answer."""
        return bool(self._open or self._given_up or self._told or self._found or self._cancelled)

    def open(self, message_id: str, agent: str, procedure: str, *, encrypted: bool = False) -> Pending[Any]:
        """A call begins; the outcome is there at once if it came late for an earlier call of that id."""
        call = self._given_up.pop(message_id, None) or _Open(agent, procedure, Pending(), encrypted)
        if not call.answer.done:
            self._open[message_id] = call
        return call.answer

    def sent(self, message_id: str, error: BaseException | None) -> None:
        """The COMMAND has its receipt, or was refused."""
        call = self._open.get(message_id)
        if call is not None and error is not None:
            call.answer.reject(error)
        elif call is not None:
            call.sent = True

    def waits(self, message_id: str) -> bool:
        """Whether a caller still waits for the answer."""
        call = self._open.get(message_id)
        return call is not None and not call.answer.done

    def found(self, message: Message, *, is_ours: bool) -> None:
        """The node had the answer to a call already; ``is_ours``: it comes from our own mailbox as well."""
        call = self._open.get(message.reply_to or "")
        if call is not None and call.unvouched is not None and call.unvouched.id == message.id:
            # It came before.
            is_ours = False
        if self._answered(message, is_vouched=True) and is_ours and message.reply_to is not None:
            _keep_some(self._found)
            self._found[message.reply_to] = None

    def trust(self, message_id: str) -> None:
        """The node, one of an earlier release, can't say what is the answer."""
        call = self._open.get(message_id)
        if call is not None and call.unvouched is not None:
            self._answered(call.unvouched, is_vouched=True)

    def ended(self, message_id: str, state: str) -> None:
        """The COMMAND came to its end, and was not answered."""
        call = self._open.get(message_id)
        if call is not None and state == "cancelled":
            self._cancel(message_id, call)
        elif call is not None:
            call.answer.reject(CallFailed(f"the COMMAND {message_id} to {call.agent} ({call.procedure}) is {state}"))

    def done(self, message_id: str) -> None:
        """The caller waits no longer, with or without an answer."""
        call = self._open.pop(message_id, None)
        if call is not None and not call.answer.done:
            _keep_some(self._given_up)
            self._given_up[message_id] = call

    def answered(self, message: Message) -> bool:
        """Whether a message is the answer to one of our calls; its caller has it then, or soon."""
        return self._answered(message, is_vouched=is_nodes_own(message.id))

    def _answered(self, message: Message, *, is_vouched: bool) -> bool:
        if message.reply_to is None or message.type not in ("RESULT", "ERROR"):
            return False
        if message.reply_to in self._cancelled:
            _log.info("An answer to %s came after it was cancelled; ignored", message.reply_to)
            return True
        call = self._open.get(message.reply_to) or self._given_up.get(message.reply_to)
        was_told = message.reply_to in self._told and tells_an_end(message)
        if was_told:
            del self._told[message.reply_to]
        if call is None or message.sender is None:
            return self._found.pop(message.reply_to, _ABSENT) is None or was_told
        if not call.to_anybody and agent_of(message.sender) != agent_of(call.agent):
            _log.warning("%s answered a call that went to %s; ignored", message.sender, call.agent)
            return False
        if call.to_anybody and not is_vouched:
            # If it was given up, whoever asks again under its id is told by the node.
            if message.reply_to in self._open:
                call.unvouched = message
                self.on_unsure(message.reply_to)
            return True
        if call.encrypted and _is_made_up(message):
            call.answer.reject(
                OutcomeUnknown(
                    f"{call.agent} was asked {call.procedure} ({message.reply_to}) by an encrypted COMMAND, and the "
                    f"answer is not encrypted: anybody may have made it up, and it is not taken; {call.procedure} may "
                    "have run",
                    message_id=message.reply_to,
                )
            )
        elif message.type == "RESULT":
            call.answer.resolve(message.payload)
        else:
            call.answer.reject(error_of(message.payload, call.agent, call.procedure))
        if message.reply_to in self._given_up:
            # Nobody may ever ask for it, and that is no fault.
            _ = call.answer.error
            _log.info("The answer to %s (%s of %s) came late", message.reply_to, call.procedure, call.agent)
        return True

    def news(self, reports: object = None, *_: object) -> None:
        """What the node tells of sent messages: a COMMAND that ended unanswered fails its call."""
        for report in reports if isinstance(reports, list) else []:
            if not isinstance(report, Mapping) or report.get("state") not in ("done", "dead", "expired", "cancelled"):
                continue
            call = self._open.get(str(report.get("id")))
            if call is not None and call.agent == report.get("to"):
                if report["state"] == "done":
                    # Its answer was there before, and went to another process of our agent.
                    self.on_unsure(str(report["id"]))
                    continue
                if report["state"] == "cancelled":
                    self._cancel(str(report["id"]), call)
                    continue
                _keep_some(self._told)
                self._told[str(report["id"])] = None
                end = f"{report['state']}: {report['reason']}" if report.get("reason") else report["state"]
                call.answer.reject(
                    CallFailed(f"the COMMAND {report.get('id')} to {call.agent} ({call.procedure}) is {end}")
                )

    def _cancel(self, message_id: str, call: _Open) -> None:
        _keep_some(self._cancelled)
        self._cancelled[message_id] = None
        call.answer.reject(
            MessageCancelled(f"the COMMAND {message_id} to {call.agent} ({call.procedure}) is cancelled")
        )

    def close(self, error: TrishulaError) -> None:
        """The client ends: nobody will be answered any more."""
        for message_id, call in list(self._open.items()):
            call.answer.reject(
                error
                if not call.sent
                else OutcomeUnknown(
                    f"{error}, before {call.agent} answered {call.procedure}; it may have run, run now or run later: "
                    f"ask with trishula why {message_id}",
                    message_id=message_id,
                )
            )


def _keep_some(remembered: dict[str, Any]) -> None:
    """Make room for one more."""
    if len(remembered) >= _LATE_ANSWERS:
        del remembered[next(iter(remembered))]


def _is_made_up(message: Message) -> bool:
    """Whether an answer to an encrypted COMMAND may be anybody's: neither encrypted, nor a signed ERROR, nor the word
    of a node.
    """
    if message.encrypted or is_word_of_node(message):
        return False
    return message.type == "RESULT" or message.signed_by is None


def error_of(payload: object, agent: str, procedure: str) -> TrishulaError:
    """The error that the payload of an ERROR message describes."""
    fields = payload if isinstance(payload, Mapping) else {}
    name = str(fields.get("error") or "error")
    sentence = str(fields.get("message") or "no message")
    error = from_wire(name, sentence, fields)
    if isinstance(error, RemoteError) and "." not in name:
        return CallFailed(f"{procedure} of {agent} failed with {name}: {sentence}", data=error.data)
    return error
