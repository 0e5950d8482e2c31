"""From deliveries to handlers and back: who runs, in which order, and when a message is acknowledged.

What happens to one message, and what a crash of this process after each step leads to:

======================================  ==============================================================================
1. its handler returned                 crash: it is delivered again (``attempt`` 2) and runs again
2. COMMAND: the reply has its receipt   crash: it is delivered again and runs again, but its second reply has the same
                                        id as the first, so the caller sees one
3. it is remembered as handled          crash: as before, for this memory is the process's (an outbox on disk will
                                        close the gap)
4. it is acknowledged                   it is done
======================================  ==============================================================================

Without a crash its handler runs once, however often it is delivered: see :mod:`trishula.inbox`.

A COMMAND is done when it is answered, by RESULT or by ERROR; whether to try again is the caller's choice. Any other
message whose handler raises is given back and delivered again.

What is concurrent: COMMANDs with each other and with everything else. Messages of other types from one sender to an
``ordered`` handler run one after the other, in the order of delivery, also if the handler awaits; those of different
senders are concurrent. A plain function is never interrupted.

While a handler runs, or waits for its turn, its lease is extended: a long job is no failure.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trishula.awaiting import Pending, rejected, resolved
from trishula.client import Client
from trishula.deliveries import Delivery
from trishula.errors import (
    ArgumentInvalid,
    BusUnreachable,
    OutcomeUnknown,
    PayloadNotJson,
    PayloadTooLarge,
    ProcedureUnknown,
    RemoteError,
    TrishulaError,
)
from trishula.handlers import Handler
from trishula.inbox import Inbox, Verdict
from trishula.message import Message
from trishula.names import BROADCAST
from trishula.surroundings import Clock, Timer

__all__ = ["Dispatcher", "reply_id"]

_log = logging.getLogger("trishula")

#: A lease is 60 s by default; a job is noticed at the first tick and extended at the next.
_TICK_S = 10.0
_EXTENSION_S = 60.0
#: A sentence for a journal or an error message, no dump.
_REASON_LENGTH = 1000

Key = tuple[str, str]


class Dispatcher:
    """Runs the handlers of one agent."""

    def __init__(self, client: Client, clock: Clock, now_ms: Callable[[], int]) -> None:
        self.procedures: dict[str, Handler] = {}
        self.handlers: dict[str, Handler] = {}
        self._client = client
        self._clock = clock
        self._now_ms = now_ms
        self._inbox = Inbox()
        # Senders whose ordered handler is busy, with what waits behind it.
        self._lanes: dict[str, deque[tuple[Delivery, Handler]]] = {}
        self._jobs: dict[Key, Pending[Any]] = {}
        self._stopping = False
        self._idle: Pending[None] | None = None
        self._timer: Timer | None = None
        self._seen_at_last_tick: set[Key] = set()
        self._complained: set[str] = set()

    # -- in ------------------------------------------------------------------------------------------------------------

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Deliveries came."""
        inbox = self._inbox
        for delivery in deliveries:
            message = delivery.message
            verdict = inbox.admit(message.sender or "", message.id, delivery.token)
            if verdict is Verdict.HANDLED:
                self._client.ack_soon(delivery.token)
            elif verdict is Verdict.RUN:
                if self._stopping:
                    # Neither acknowledged nor given back: our leaving returns it without counting an attempt.
                    inbox.failed(message.sender or "", message.id)
                elif message.type == "COMMAND":
                    self._command(delivery)
                else:
                    self._message(delivery)
        if self._timer is None and not self._stopping:
            self._timer = self._clock.callLater(_TICK_S, self._tick)

    def link_lost(self) -> None:
        """The session is gone: what runs goes on, with the token that its next delivery brings."""
        self._inbox.link_lost()

    def endpoint(self, handler: Handler) -> Callable[[Sequence[Any], Mapping[str, Any]], Pending[Any]]:
        """A procedure as live RPC."""

        def called(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Pending[Any]:
            try:
                handler.check(args, kwargs)
                outcome = handler.start(None, args, kwargs)
            except Exception as error:
                self._log_fault(handler, error)
                return rejected(error)
            if not isinstance(outcome, Pending):
                return resolved(outcome)
            outcome.when_done(lambda pending: self._log_fault(handler, pending.error))
            return outcome

        return called

    # -- messages that need no answer ----------------------------------------------------------------------------------

    def _message(self, delivery: Delivery) -> None:
        message = delivery.message
        handler = self.handlers.get(message.type)
        if handler is None:
            self._unhandled(delivery)
        elif not handler.ordered:
            self._run(delivery, handler)
        else:
            lane = self._lanes.get(message.sender or "")
            if lane is not None:
                lane.append((delivery, handler))
            else:
                self._run_in_lane(delivery, handler)

    def _run_in_lane(self, delivery: Delivery, handler: Handler) -> None:
        sender = delivery.message.sender or ""
        job = self._run(delivery, handler)
        if job is None:
            return
        self._lanes[sender] = deque()
        job.when_done(lambda _: self._next_in_lane(sender))

    def _next_in_lane(self, sender: str) -> None:
        lane = self._lanes.pop(sender)
        while lane:
            delivery, handler = lane.popleft()
            job = self._run(delivery, handler)
            if job is not None:
                self._lanes[sender] = lane
                job.when_done(lambda _: self._next_in_lane(sender))
                return
        self._check_idle()

    def _run(self, delivery: Delivery, handler: Handler) -> Pending[Any] | None:
        """Run a handler; returns what is still to come, if it is not through yet."""
        try:
            outcome = handler.start(delivery, (delivery.message,), {})
        except Exception as error:
            self._failed(delivery, handler, error)
            return None
        if not isinstance(outcome, Pending):
            self._handled(delivery.message)
            return None
        if outcome.done:
            self._ended(delivery, handler, outcome)
            return None
        key = _key(delivery.message)
        self._jobs[key] = outcome
        outcome.when_done(lambda pending: self._ended(delivery, handler, pending))
        return outcome

    def _ended(self, delivery: Delivery, handler: Handler, outcome: Pending[Any]) -> None:
        self._jobs.pop(_key(delivery.message), None)
        error = outcome.error
        if error is None:
            self._handled(delivery.message)
        else:
            self._failed(delivery, handler, error)

    def _handled(self, message: Message) -> None:
        for token in self._inbox.handled(message.sender or "", message.id, self._now_ms()):
            self._client.ack_soon(token)
        if self._idle is not None:
            self._check_idle()

    def _failed(self, delivery: Delivery, handler: Handler, error: BaseException) -> None:
        if not self._stopping:
            self._log_fault(handler, error)
        self._give_back(delivery, f"{handler.name} raised {type(error).__name__}: {error}")

    def _give_back(self, delivery: Delivery, reason: str, *, requeue: bool = True) -> None:
        for token in self._inbox.failed(*_key(delivery.message)):
            self._client.nack_soon(token, reason[:_REASON_LENGTH], requeue=requeue)
        self._check_idle()

    def _unhandled(self, delivery: Delivery) -> None:
        message = delivery.message
        if message.type in ("RESULT", "ERROR"):
            # Refusing them would answer an error with an error. They are on record, and here.
            _log.warning(
                "%s %s from %s (answer to %s) has no handler: %s",
                message.type, message.id, message.sender, message.reply_to, str(message.payload)[:_REASON_LENGTH],
            )  # fmt: skip
            self._handled(message)
        elif message.to == BROADCAST:
            # Who sends to all doesn't expect that all care.
            self._complain(f"Broadcasts of type {message.type} come, and no handler takes them")
            self._handled(message)
        else:
            self._complain(f"Messages of type {message.type} come, and no handler takes them: they are refused")
            self._give_back(delivery, f"no handler takes {message.type} messages here", requeue=False)

    def _complain(self, sentence: str) -> None:
        if sentence not in self._complained:
            self._complained.add(sentence)
            _log.warning("%s", sentence)

    # -- commands ------------------------------------------------------------------------------------------------------

    def _command(self, delivery: Delivery) -> None:
        message = delivery.message
        handler = None if message.procedure is None else self.procedures.get(message.procedure)
        try:
            if handler is not None:
                args, kwargs = _arguments(message)
                handler.check(args, kwargs)
                outcome = handler.start(delivery, args, kwargs)
            elif "COMMAND" in self.handlers:
                handler = self.handlers["COMMAND"]
                outcome = handler.start(delivery, (message,), {})
            else:
                raise self._unknown(message)
        except Exception as error:
            self._log_fault(handler, error)
            self._reply_error(delivery, error)
            return
        if not isinstance(outcome, Pending):
            self._reply(delivery, "RESULT", outcome)
            return
        self._jobs[_key(message)] = outcome
        outcome.when_done(lambda pending: self._command_ended(delivery, handler, pending))

    def _unknown(self, message: Message) -> ProcedureUnknown:
        me = self._client.address.agent
        known = ", ".join(sorted(self.procedures)) or "none"
        if message.procedure is None:
            return ProcedureUnknown(f"the COMMAND {message.id} to {me} names no procedure; it has: {known}")
        return ProcedureUnknown(f"{me} has no procedure {message.procedure}; it has: {known}")

    def _command_ended(self, delivery: Delivery, handler: Handler, outcome: Pending[Any]) -> None:
        self._jobs.pop(_key(delivery.message), None)
        error = outcome.error
        if error is None:
            self._reply(delivery, "RESULT", outcome.result())
        elif self._stopping and not isinstance(error, Exception):
            # We cancelled it ourselves: it was not the command's fault, and another run may do it.
            self._give_back(delivery, "the agent is leaving")
        else:
            self._log_fault(handler, error)
            self._reply_error(delivery, error)

    def _reply_error(self, delivery: Delivery, error: BaseException) -> None:
        name = type(error).__name__
        if isinstance(error, RemoteError):
            name = error.remote_uri
        elif isinstance(error, TrishulaError) and error.uri is not None:
            name = error.uri
        self._reply(delivery, "ERROR", {"error": name, "message": str(error)[:_REASON_LENGTH]})

    def _reply(self, delivery: Delivery, type: str, payload: object) -> None:
        message = delivery.message
        self._client.send(
            message.sender or "",
            type=type,
            payload=payload,
            id=reply_id(message),
            reply_to=message.id,
            priority=message.priority,
            traceparent=message.traceparent,
        ).when_done(lambda pending: self._replied(delivery, type, pending.error))

    def _replied(self, delivery: Delivery, type: str, error: BaseException | None) -> None:
        message = delivery.message
        if isinstance(error, PayloadNotJson | PayloadTooLarge) and type == "RESULT":
            self._reply_error(delivery, error)
            return
        if isinstance(error, BusUnreachable | OutcomeUnknown):
            # We are leaving: it stays unacknowledged, and whoever gets it next answers with the same id.
            self._inbox.failed(*_key(message))
            self._check_idle()
            return
        if error is not None:
            _log.warning("The %s to %s (for %s) can't be delivered: %s", type, message.sender, message.id, error)
        self._handled(message)

    def _log_fault(self, handler: Handler | None, error: BaseException | None) -> None:
        # A TrishulaError is an answer; anything else is a fault in the handler, and its author needs the traceback.
        if error is not None and handler is not None and not isinstance(error, TrishulaError):
            _log.error("The handler %s failed", handler.name, exc_info=error)

    # -- time and the end ----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Extend what has run for a whole tick; forget what is too old."""
        self._timer = None
        now = dict(self._inbox.running())
        for key in sorted(self._seen_at_last_tick & now.keys()):
            self._client.working(now[key], _EXTENSION_S).when_done(_log_refusal)
        self._seen_at_last_tick = set(now)
        self._inbox.forget(self._now_ms())
        if now and not self._stopping:
            self._timer = self._clock.callLater(_TICK_S, self._tick)

    @property
    def is_idle(self) -> bool:
        """Whether no handler runs and no reply is under way."""
        return self._inbox.is_idle

    def stop(self) -> Pending[None]:
        """Start nothing more; the outcome is there when all that runs is through."""
        self._stopping = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        for lane in self._lanes.values():
            for delivery, _ in lane:
                # As with new deliveries: our leaving returns them, and no attempt of theirs has begun.
                self._inbox.failed(*_key(delivery.message))
            lane.clear()
        self._idle = Pending()
        self._check_idle()
        return self._idle

    def give_up(self) -> None:
        """Cancel what still runs and give it back."""
        for job in list(self._jobs.values()):
            job.cancel()
        for key, token in self._inbox.running():
            self._inbox.failed(*key)
            self._client.nack_soon(token, "the agent left before its handler was through", requeue=True)

    def _check_idle(self) -> None:
        if self._idle is not None and self.is_idle:
            self._idle.resolve(None)


def reply_id(command: Message) -> str:
    """The id of the answer to a command: derived, so that a repeat is the same message.

    It names the command's sender as well: ids belong to their senders, so two callers may use the same one, and the
    answers to both are ours.
    """
    sender = (command.sender or "").replace("/", ":")
    derived = f"{command.id}.{sender}.result"
    if len(derived) <= 128:
        return derived
    return f"{hashlib.sha256(derived.encode()).hexdigest()}.result"


def _key(message: Message) -> Key:
    return message.sender or "", message.id


def _arguments(message: Message) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The arguments in a COMMAND's payload.

    Raises:
        ArgumentInvalid: the payload doesn't look like that.
    """
    payload = {} if message.payload is None else message.payload
    args = payload.get("args", []) if isinstance(payload, dict) else None
    kwargs = payload.get("kwargs", {}) if isinstance(payload, dict) else None
    if not isinstance(args, list) or not isinstance(kwargs, dict) or payload.keys() - {"args", "kwargs"}:
        raise ArgumentInvalid(
            f'the payload of the COMMAND {message.id} must be {{"args": […], "kwargs": {{…}}}}, with nothing else in it'
        )
    return args, kwargs


def _log_refusal(pending: Pending[Any]) -> None:
    if pending.error is not None:
        _log.info("A lease could not be extended: %s", pending.error)
