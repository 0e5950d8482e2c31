"""Questions that wait for an answer: durable calls, live RPC, and what the node itself is asked.

=============  =====================================================================================================
``call``       a COMMAND, and the wait for its RESULT or ERROR (:mod:`trishula.calls` ties them together)
``rpc``        live: nothing is stored, the agent must be connected now
``request``    a procedure of the contract; all of them may be repeated, so one that was cut off, or that a node did not
               take because it stops, is asked again, on whichever node we are then
=============  =====================================================================================================

Each ends as a value or as a typed error, never as None for "don't know": that is
:class:`~trishula.errors.OutcomeUnknown`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trishula import uris
from trishula.awaiting import Pending, rejected, start
from trishula.calls import Calls
from trishula.errors import ArgumentInvalid, NodeStopping, OutcomeUnknown, TrishulaError
from trishula.membership import Membership
from trishula.outbox import Receipt
from trishula.sending import Sending
from trishula.surroundings import Clock
from trishula.transport import AnswerLate, LinkLost
from trishula.waiting import sleep, within

__all__ = ["Asking"]

_STOPPING_PAUSE_S = 0.1


class Asking:
    """See the module's docstring.

    Args:
        clock: for time limits.
        member: gives the session.
        sending: gives ids, and withdraws.
        calls: the open calls.
        send: sends the COMMAND, with the options of :meth:`trishula.client.Client.send`.
        hear: makes sure that news of sent messages reach the calls.
    """

    def __init__(
        self,
        clock: Clock,
        member: Membership,
        sending: Sending,
        calls: Calls,
        send: Callable[..., Pending[Receipt]],
        hear: Callable[[], object],
    ) -> None:
        self._clock = clock
        self._member = member
        self._sending = sending
        self._calls = calls
        self._send = send
        self._hear = hear

    async def call(
        self, agent: str, procedure: str, args: list[Any], kwargs: dict[str, Any], timeout_s: float, options: Any
    ) -> Any:
        """See :meth:`trishula.client.Client.call`."""
        message_id = options.pop("id", None) or self._sending.new_id()
        answer = self._calls.open(message_id, agent, procedure)
        if answer.done:
            return answer.result()
        started_s = self._clock.seconds()
        # What became of a COMMAND that will never be answered: dead, expired, cancelled.
        self._hear()
        payload = {"args": args, "kwargs": kwargs}
        sent = self._send(agent, type="COMMAND", procedure=procedure, payload=payload, id=message_id, **options)
        sent.when_done(lambda pending: self._calls.sent(message_id, pending.error))

        def late() -> TrishulaError:
            warning = sent.result().warning if sent.done and sent.error is None else None
            return self._sending.withdraw(message_id, timeout_s) or OutcomeUnknown(
                f"{agent} did not answer {procedure} within {timeout_s:g} s; it may have run, run now or run later: "
                f"ask with trishula why {message_id}" + ("" if warning is None else f" ({warning})"),
                message_id=message_id,
            )

        try:
            return await within(self._clock, answer, timeout_s - (self._clock.seconds() - started_s), late)
        finally:
            self._calls.done(message_id)

    def rpc(
        self, agent: str, procedure: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout_s: float
    ) -> Pending[Any]:
        """See :meth:`trishula.client.Client.rpc`."""
        try:
            uri = uris.procedure_of(agent, procedure)
        except ValueError as error:
            return rejected(ArgumentInvalid(str(error)))
        return start(self._rpc(uri, args, kwargs, timeout_s))

    async def _rpc(self, uri: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout_s: float) -> Any:
        link, left_s = await self._member.link_within(timeout_s)
        try:
            return await link.call(uri, args, kwargs, timeout_s=left_s)
        except (LinkLost, AnswerLate) as error:
            raise OutcomeUnknown(f"{error}; it may have run or run now") from None

    async def request(self, uri: str, args: Sequence[Any], timeout_s: float) -> Any:
        """See :meth:`trishula.client.Client.request`."""
        deadline_s = self._clock.seconds() + timeout_s
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
