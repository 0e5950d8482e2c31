"""Questions that wait for an answer: durable calls, live RPC, and what the node itself is asked.

=============  =====================================================================================================
``call``       a COMMAND, and the wait for its RESULT or ERROR; :mod:`trishula.messaging.pending_calls` ties them
               together
``rpc``        live: nothing is stored, the agent must be connected now
``request``    a procedure of the contract; all of them may be repeated, so one that was cut off, or that a node did not
               take because it stops, is asked again, on whichever node we are then
=============  =====================================================================================================

A COMMAND that was sent before under its id, by this process or another one of our agent, is not run again: the node
says ``duplicate``, and its answer may have gone to whoever sent it first. So the node is asked for it, until it is
there. The same where two nodes each accepted it from another process, and news tell that it is done.

Each question ends as a value or as a typed error, never as None for "don't know": that is
:class:`~trishula.errors.OutcomeUnknown`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from trishula.contract import uris
from trishula.contract.addresses import BROADCAST, Address
from trishula.contract.message import Message
from trishula.contract.receipts import Receipt
from trishula.errors import (
    ArgumentInvalid,
    NodeStopping,
    NotAllowed,
    OutcomeUnknown,
    ProcedureUnknown,
    TrishulaError,
)
from trishula.messaging.live import pack_arguments
from trishula.messaging.pending_calls import Calls
from trishula.messaging.sender import Sending
from trishula.runtime.pending import Pending, rejected, start
from trishula.runtime.surroundings import Clock, Timer
from trishula.runtime.waiting import sleep
from trishula.session.membership import Membership
from trishula.session.transport import AnswerLate, LinkLost

__all__ = ["Asking"]

_STOPPING_PAUSE_S = 0.1
#: How long a call's COMMAND outlives its caller's patience: whoever asks again soon still finds it, and nothing runs
#: next week that somebody gave up today.
GRACE_S = 30.0
#: Between two questions whether an earlier call is answered.
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.5
_ENDS_UNANSWERED = ("dead", "expired", "cancelled")


class _Answer(msgspec.Struct):
    """What the node tells of a COMMAND: where it stands, and its answer if there is one."""

    state: str
    message: Message | None = None
    signature: str | None = None


@dataclass(slots=True)
class _Earlier:
    """A COMMAND whose answer the node may have to be asked for: how long it is waited for, whether the node can't tell,
    and what it told last.
    """

    until_s: float
    is_looked_for: bool = False
    is_untold: bool = False
    state: str = ""


class Asking:
    """See the module's docstring.

    Args:
        clock: for time limits.
        member: gives the session.
        sending: gives ids, and withdraws.
        calls: the open calls.
        send: sends the COMMAND, with the options of :meth:`trishula.verbs.Verbs.send`.
        hear: makes sure that news of sent messages reach the calls.
        has_inbox: whether an answer could reach us.
        verified: an answer that the node told, or ``None`` if its signature is not good, and must be.
        address: ours.
    """

    def __init__(
        self,
        clock: Clock,
        member: Membership,
        sending: Sending,
        calls: Calls,
        send: Callable[..., Pending[Receipt]],
        hear: Callable[[], object],
        has_inbox: Callable[[], bool],
        verified: Callable[[Message, str | None], Message | None],
        address: str,
    ) -> None:
        self._clock = clock
        self._member = member
        self._sending = sending
        self._calls = calls
        self._send = send
        self._hear = hear
        self._has_inbox = has_inbox
        self._verified = verified
        self._address = address
        self._earlier: dict[str, _Earlier] = {}
        calls.on_unsure = self._look_for

    def call(
        self,
        agent: str,
        procedure: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None,
        timeout_s: float,
        options: dict[str, Any],
    ) -> Pending[Any]:
        """See :meth:`trishula.verbs.Verbs.call_with`."""
        fault = _fault_of_callee(agent)
        if fault is None and not self._has_inbox():
            fault = f"{self._address} has no inbox for the answer; attach first, or use an instance"
        if fault is not None:
            return rejected(ArgumentInvalid(fault))
        question = _Question(self, agent, procedure, timeout_s)
        try:
            self._ask(question, {"args": list(args), "kwargs": dict(kwargs or {})}, options)
        except Exception as error:
            question.end(error)
        return question

    def _ask(self, question: _Question, payload: dict[str, Any], options: dict[str, Any]) -> None:
        message_id = options.pop("id", None)
        question.id = message_id = self._sending.new_id() if message_id is None else message_id
        on_warning = options.pop("on_warning", None)
        answer = self._calls.open(
            message_id, question.agent, question.procedure, encrypted=bool(options.get("encrypt"))
        )
        if answer.done:
            question.answered(answer)
            return
        earlier = self._earlier[message_id] = _Earlier(self._clock.seconds() + question.timeout_s)
        # What became of a COMMAND that will never be answered: dead, expired, cancelled.
        self._hear()
        if options.get("ttl_ms") is None and options.get("deadline_at") is None:
            # A caller may wait for longer than a message lives; then it hears that the COMMAND expired.
            patience_ms = min((question.timeout_s + GRACE_S) * 1000, self._member.limits.ttl_ms)
            options["ttl_ms"] = max(1, round(patience_ms))
        sent = self._send(
            question.agent, type="COMMAND", procedure=question.procedure, payload=payload, id=message_id, **options
        )

        def accepted(pending: Pending[Receipt]) -> None:
            self._calls.sent(message_id, pending.error)
            if pending.error is not None:
                return
            receipt = pending.result()
            if on_warning is not None and receipt.warning is not None:
                on_warning(receipt.warning)
            if receipt.status == "duplicate":
                self._look_for(message_id)

        sent.when_done(accepted)
        if not answer.done:
            left_s = max(earlier.until_s - self._clock.seconds(), 0.0)
            question.timer = self._clock.callLater(left_s, self._late, question, sent)
        answer.when_done(question.answered)

    def _late(self, question: _Question, sent: Pending[Receipt]) -> None:
        """There was no answer in time."""
        message_id, agent, procedure = question.id, question.agent, question.procedure
        earlier = self._earlier.get(message_id)
        if earlier is not None and earlier.state == "done":
            question.end(
                OutcomeUnknown(
                    f"{agent} has answered {procedure} ({message_id}) before, and the answer is not kept any more: ask "
                    f"with trishula why {message_id}",
                    message_id=message_id,
                )
            )
            return
        warning = sent.result().warning if sent.done and sent.error is None else None
        question.end(
            self._sending.withdraw(message_id, question.timeout_s)
            or OutcomeUnknown(
                f"{agent} did not answer {procedure} within {question.timeout_s:g} s; it may have run, run now or run "
                f"later: ask with trishula why {message_id}" + ("" if warning is None else f" ({warning})"),
                message_id=message_id,
            )
        )

    def over(self, message_id: str) -> None:
        """Nobody waits for the answer to a question any longer."""
        self._calls.done(message_id)
        self._earlier.pop(message_id, None)

    def _look_for(self, message_id: str) -> None:
        """Its answer may have gone elsewhere, or what came may be none."""
        earlier = self._earlier.get(message_id)
        if earlier is not None and earlier.is_untold:
            self._calls.trust(message_id)
        elif earlier is not None and not earlier.is_looked_for:
            earlier.is_looked_for = True
            start(self._look(message_id, earlier))

    async def _look(self, message_id: str, earlier: _Earlier) -> None:
        """Ask for the answer to a COMMAND, as long as somebody waits for it."""
        pause_s = _FIRST_PAUSE_S
        while self._calls.waits(message_id):
            try:
                told = await self._request(uris.MAILBOX_ANSWER, [message_id], earlier.until_s - self._clock.seconds())
                answer = msgspec.convert(told, _Answer)
            except (ProcedureUnknown, NotAllowed):
                # A node that is one release behind.
                earlier.is_untold = True
                self._calls.trust(message_id)
                return
            except (TrishulaError, msgspec.ValidationError):
                answer = _Answer("")
            earlier.state = answer.state
            if answer.message is not None:
                message = self._verified(answer.message, answer.signature)
                if message is not None:
                    self._calls.found(message, is_ours=message.to == self._address)
                # What is refused once is no better the next time: the wait ends by its time limit.
                return
            if answer.state in _ENDS_UNANSWERED:
                self._calls.ended(message_id, answer.state)
                return
            await sleep(self._clock, pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def rpc(
        self, agent: str, procedure: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None, timeout_s: float
    ) -> Pending[Any]:
        """See :meth:`trishula.verbs.Verbs.rpc`."""
        try:
            uri = uris.procedure_of(agent, procedure)
        except ValueError as error:
            return rejected(ArgumentInvalid(str(error)))
        try:
            packed, named = pack_arguments(f"the call of {agent}.{procedure}", args, kwargs or {}, self._member.limits)
        except TrishulaError as error:
            return rejected(error)
        return start(self._rpc(uri, packed, named, timeout_s))

    async def _rpc(self, uri: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout_s: float) -> Any:
        link, left_s = await self._member.link_within(timeout_s)
        try:
            return await link.call(uri, args, kwargs, timeout_s=left_s)
        except (LinkLost, AnswerLate) as error:
            raise OutcomeUnknown(f"{error}; it may have run or run now") from None

    def request(self, uri: str, *args: Any, timeout_s: float = 10.0) -> Pending[Any]:
        """See :meth:`trishula.verbs.Verbs.request`."""
        return start(self._request(uri, args, timeout_s))

    async def _request(self, uri: str, args: Sequence[Any], timeout_s: float) -> Any:
        deadline_s = self._clock.seconds() + timeout_s
        args, _ = pack_arguments(f"the call of {uri}", args, {}, self._member.limits)
        while True:
            link, left_s = await self._member.link_within(deadline_s - self._clock.seconds())
            try:
                return await link.call(uri, args, timeout_s=left_s)
            except AnswerLate as error:
                raise OutcomeUnknown(f"{error}; ask again") from None
            except NodeStopping:
                # It says goodbye in a moment, and there may be another one.
                if deadline_s - self._clock.seconds() <= _STOPPING_PAUSE_S:
                    raise
                await sleep(self._clock, _STOPPING_PAUSE_S)
            except LinkLost as error:
                if self._clock.seconds() >= deadline_s:
                    raise OutcomeUnknown(f"{error}; ask again") from None
                if self._member.link is link:
                    # Its loss has not been told yet; without this we would spin.
                    await sleep(self._clock, 0.01)


class _Question(Pending[Any]):
    """The outcome of one call. It is no coroutine: who asks much would spend a third of its time on driving those."""

    __slots__ = ("_asking", "agent", "id", "procedure", "timeout_s", "timer")

    def __init__(self, asking: Asking, agent: str, procedure: str, timeout_s: float) -> None:
        super().__init__()
        self._asking = asking
        self.agent = agent
        self.procedure = procedure
        self.timeout_s = timeout_s
        self.id = ""
        self.timer: Timer | None = None

    def answered(self, answer: Pending[Any]) -> None:
        """The answer, or the fault of the COMMAND, is there."""
        error = answer.error
        if not self.done:
            self._over()
            if error is None:
                self.resolve(answer.result())
            else:
                self.reject(error)

    def end(self, error: BaseException) -> None:
        """There was no answer in time, or nothing was asked."""
        if not self.done:
            self._over()
            self.reject(error)

    def cancel(self) -> None:
        self.end(asyncio.CancelledError("it was cancelled"))

    def _over(self) -> None:
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        self._asking.over(self.id)


def _fault_of_callee(agent: object) -> str | None:
    """Why nobody of that name can be called."""
    if agent == BROADCAST:
        return (
            'a call waits for one answer, and "broadcast" is everybody: call each agent, or send a COMMAND to broadcast'
        )
    try:
        Address.parse(agent if isinstance(agent, str) else repr(agent))
    except ValueError as error:
        return f"{agent!r} can't be called: {error}"
    return None
