"""Answers to COMMANDs: from a handler's outcome to the message that its caller gets, and what hangs on its receipt.

A COMMAND is handled, and acknowledged, when its reply is safe: :mod:`trishula.consumer.dispatcher` argues why. A reply
goes out whatever else waits in the outbox, for it is the end of work that was admitted.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trishula import tracing
from trishula.contract.encrypted import encrypted_for
from trishula.contract.message import DEFAULT_PRIORITY, Message
from trishula.contract.payload import error_data
from trishula.contract.receipts import Receipt
from trishula.contract.texts import legible
from trishula.errors import (
    ArgumentInvalid,
    BusUnreachable,
    CallFailed,
    IdReused,
    MessageCancelled,
    OutcomeUnknown,
    PayloadNotJson,
    PayloadTooLarge,
    RemoteError,
    TrishulaError,
)
from trishula.messaging.deduplication import Inbox
from trishula.messaging.engine import Engine
from trishula.settings import SettingsInvalid

if TYPE_CHECKING:
    # An agent without a file doesn't load SQLite.
    from trishula.messaging.agent_file import AgentFile

__all__ = ["Replies", "reply_id"]

_log = logging.getLogger("trishula")

#: What becomes of an answer that has to be encrypted, and can't be.
_NOT_ENCRYPTED = (ArgumentInvalid, SettingsInvalid, PayloadNotJson, PayloadTooLarge)
_UNTOLD = "its answer could not be encrypted; the log of the agent that was asked says why"


class Replies:
    """See the module's docstring.

    Args:
        engine: sends them.
        inbox: is told that a COMMAND is answered.
        now_ms: the wall clock.
        safe: called with a COMMAND's sender and id when its reply is on some disk, or can't be delivered at all.
        given_up: called when one was left to the next life, or to nobody.
    """

    def __init__(
        self,
        engine: Engine,
        inbox: Inbox,
        now_ms: Callable[[], int],
        safe: Callable[[str, str], None],
        given_up: Callable[[], None],
    ) -> None:
        self.file: AgentFile | None = None
        self._engine = engine
        self._inbox = inbox
        self._now_ms = now_ms
        self._safe = safe
        self._given_up = given_up

    def result(self, command: Message, payload: object) -> None:
        """It returned."""
        self._reply(command, "RESULT", payload)

    def error(self, command: Message, error: BaseException) -> None:
        """It failed."""
        self._reply(command, "ERROR", _described(error))

    def _reply(self, command: Message, type: str, payload: object) -> None:
        wire: dict[str, Any] = {
            "type": type,
            "id": reply_id(command),
            "to": command.sender or "",
            "reply_to": command.id,
        }
        if payload is not None:
            wire["payload"] = payload
        if command.priority != DEFAULT_PRIORITY:
            wire["priority"] = command.priority
        making = tracing.active()
        if making is not None:
            span = making.replying(wire, command)
            wire["traceparent"] = span.traceparent
            self._post(wire, command.encrypted)
            span.end(None)
            return
        if (traceparent := self._engine.carried(command.traceparent)) is not None:
            wire["traceparent"] = traceparent
        self._post(wire, command.encrypted)

    def _post(self, wire: dict[str, Any], encrypt: bool = False) -> None:
        # Who encrypts what is to be done, doesn't want everybody to read what came of it.
        caller, command_id = wire["to"], wire["reply_to"]
        if self._engine.reply(
            wire,
            lambda outcome: self._replied(wire, outcome, encrypt),
            lambda _: self._delayed(caller, command_id),
            encrypt=encrypt,
        ):
            # In the same turn, so in the same transaction.
            self._inbox.answered(caller, command_id, self._now_ms())

    def _replied(self, wire: dict[str, Any], outcome: Receipt | TrishulaError, encrypt: bool = False) -> None:
        caller, command_id = wire["to"], wire["reply_to"]
        if isinstance(outcome, PayloadNotJson | PayloadTooLarge) and wire["type"] == "RESULT":
            self._post({**wire, "type": "ERROR", "payload": _described(outcome)}, encrypt)
            return
        if encrypt and isinstance(outcome, _NOT_ENCRYPTED):
            # Its caller would wait for nothing: it hears that there is an answer, and nothing of it.
            _log.warning("The %s to %s (for %s) can't be encrypted: %s", wire["type"], caller, command_id, outcome)
            self._post({**wire, "type": "ERROR", "payload": _described(CallFailed(_UNTOLD))})
            return
        if isinstance(outcome, BusUnreachable | OutcomeUnknown):
            # We are leaving: it stays unacknowledged. With a file the reply goes out when we run again; without one
            # whoever gets the COMMAND next answers with the same id.
            self._inbox.failed(caller, command_id)
            self._given_up()
            return
        if isinstance(outcome, MessageCancelled):
            # It came too late, and must not make a done message of a cancelled one.
            _log.info("The %s to %s (for %s) came too late: %s", wire["type"], caller, command_id, outcome)
            self._inbox.handled(caller, command_id, self._now_ms())
            self._given_up()
            return
        if isinstance(outcome, IdReused):
            # It ran a second time, because the end of the process came before the first run was on record here.
            _log.info("%s of %s was answered before, and its caller keeps the first answer", command_id, caller)
        elif isinstance(outcome, TrishulaError):
            _log.warning("The %s to %s (for %s) can't be delivered: %s", wire["type"], caller, command_id, outcome)
        self._safe(caller, command_id)

    def _delayed(self, caller: str, command_id: str) -> None:
        """The reply was refused for now: its COMMAND must not wait for it, and keep others from running."""
        if self.file is not None:
            self.file.sync().when_done(
                lambda pending: self._safe(caller, command_id) if pending.error is None else None
            )

    def done_of(self, wire: dict[str, Any]) -> Callable[[Receipt | TrishulaError], object]:
        """Who hears what becomes of a message that an earlier run left in the outbox."""
        command_id, caller = wire.get("reply_to"), wire["to"]
        if command_id is not None and wire["id"] == _reply_id(caller, command_id):
            # Its COMMAND is not acknowledged yet; what is delivered of it meanwhile waits for the reply's receipt.
            self._inbox.resume(caller, command_id)
            return lambda outcome: self._replied(wire, outcome, encrypted_for(wire.get("payload")) is not None)
        return lambda outcome: _log_outcome(wire, outcome)


def reply_id(command: Message) -> str:
    """The id of the answer to a command: derived, so that a repeat is the same message.

    It names the command's sender as well: ids belong to agents, so two callers may use the same one, and the answers to
    both are ours.
    """
    return _reply_id(command.sender or "", command.id)


def _reply_id(sender: str, command_id: str) -> str:
    derived = f"{command_id}.{sender.replace('/', ':')}.result"
    if len(derived) <= 128:
        return derived
    return f"{hashlib.sha256(derived.encode()).hexdigest()}.result"


def _described(error: BaseException) -> dict[str, Any]:
    """The payload of an ERROR."""
    name = type(error).__name__
    if isinstance(error, RemoteError):
        name = error.remote_uri
    elif isinstance(error, TrishulaError) and error.uri is not None:
        name = error.uri
    described: dict[str, Any] = {"error": name, "message": legible(str(error))}
    if (data := error_data(error)) is not None:
        described["data"] = data
    return described


def _log_outcome(wire: dict[str, Any], outcome: Receipt | TrishulaError) -> None:
    # Whoever sent it is gone with its process; a refusal must not be silent.
    if isinstance(outcome, TrishulaError) and not isinstance(outcome, OutcomeUnknown):
        kind, message_id, to = wire["type"], wire["id"], wire["to"]
        _log.error("The %s %s to %s, sent before the restart, failed: %s", kind, message_id, to, outcome)
