"""What clients ask of Crossbar's broker and dealer: bounded, before it costs anything.

Crossbar (26.10) takes as many subscriptions, registrations and calls of a session as come: 60,000 of each took hundreds
of megabytes, and each end of such a session held up the whole node. Here each SUBSCRIBE, REGISTER and CALL of an agent
is looked at before the router gets it, and what would go beyond the quotas (:mod:`trishula_router.agents.quotas`) is
refused with an error of ours. What is open is read from Crossbar's own tables; they can't disagree with themselves.

Two further habits of its dealer are mended, since they keep memory for nothing:

- A call that waits keeps its arguments, which its callee got long ago.
- A call that was cancelled stays until its callee answers, also when its caller has been told or has left, and nobody
  waits for that.

It reaches into private names of Crossbar (``Broker._session_to_subscriptions``, ``Dealer._session_to_registrations``,
``._caller_to_invocations``, ``._callee_to_invocations``, ``._add_invoke_request``, ``._remove_invoke_request``,
``._call``, ``._invocations_by_call``, ``Router._authid_to_sessions``); if they are not as expected, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sized
from typing import Any

from trishula.errors import CallsExceeded, TrishulaError
from trishula_router.agents.quotas import PER_AGENT, Quota, Quotas
from trishula_router.upstream.crossbar_parts import Parts, has
from trishula_router.upstream.turns import Turns

__all__ = ["Requests"]

_NOTHING: tuple[()] = ()
_DEALER_TABLES = (
    *("_session_to_registrations", "_caller_to_invocations", "_callee_to_invocations"),
    "_invocations_by_call",
)
_DEALER_VERBS = (
    *("processRegister", "processCall", "processCancel", "detach"),
    *("_call", "_add_invoke_request", "_remove_invoke_request"),
)


class Requests:
    """See the module's docstring.

    Args:
        quotas: the bounds.
        roles: whose sessions are bounded.
        message: Autobahn's module of WAMP messages.
        direct_calls: how many calls of a session, by its number, the node itself is answering.
        refused: told of each refusal: the agent, the error.
        turns: read those seldom that are refused again and again.
    """

    def __init__(
        self,
        quotas: Quotas,
        roles: Collection[str],
        message: Any,
        direct_calls: Callable[[int], int],
        refused: Callable[[str, TrishulaError], None],
        turns: Turns,
    ) -> None:
        self._turns = turns
        self._quotas = quotas
        self._roles = roles
        self._message = message
        self._direct_calls = direct_calls
        self._refused = refused
        self._router: Any = None
        self._dealer: Any = None

    def install(self, transport: object) -> bool:
        """Look at what clients ask of the router that the embedded session's ``transport`` leads into.

        Returns:
            Whether Crossbar is as expected; if not, nothing was changed.
        """
        parts = Parts.behind(transport)
        router, broker, dealer = parts.router, parts.broker, parts.dealer
        if not (
            has(router, tables=("_authid_to_sessions",))
            and has(broker, verbs=("processSubscribe",), tables=("_session_to_subscriptions",))
            and has(dealer, verbs=_DEALER_VERBS, tables=_DEALER_TABLES)
        ):
            return False
        self._router, self._dealer = router, dealer
        message = self._message
        broker.processSubscribe = self._bounded(
            Quota.SUBSCRIPTIONS, message.Subscribe, broker._session_to_subscriptions, broker.processSubscribe
        )
        dealer.processRegister = self._bounded(
            Quota.REGISTRATIONS, message.Register, dealer._session_to_registrations, dealer.processRegister
        )
        dealer.processCall = self._bounded_calls(dealer.processCall)
        dealer._call = self._bounded_by_callee(dealer._call)
        dealer._add_invoke_request = _without_arguments(dealer._add_invoke_request)
        dealer.processCancel = self._forgetting_cancelled(dealer.processCancel)
        dealer.detach = self._forgetting(dealer.detach)
        return True

    def may_call(self, session: Any) -> bool:
        """Whether a session may open one more call."""
        if session._authrole not in self._roles:
            return True
        return self._full(Quota.CALLS, session, self._open_calls) is None

    def _open_calls(self, session: Any) -> int:
        crossbars = self._dealer._caller_to_invocations.get(session, _NOTHING)
        return len(crossbars) + self._direct_calls(session._session_id)

    def _sessions_of(self, session: Any) -> Collection[Any]:
        return self._router._authid_to_sessions.get(session._authid, _NOTHING)  # type: ignore[no-any-return]

    def _bounded(
        self, quota: Quota, request: Any, table: Mapping[Any, Sized], verb: Callable[[Any, Any], None]
    ) -> Callable[[Any, Any], None]:
        def process(session: Any, asked: Any) -> None:
            if session._authrole in self._roles:
                error = self._error(quota, session, lambda one: len(table.get(one, _NOTHING)))
                if error is not None:
                    self._refuse(session, request, asked, error)
                    return
            verb(session, asked)

        return process

    def _bounded_calls(self, verb: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        def process(session: Any, asked: Any) -> None:
            if session._authrole in self._roles:
                error = self._error(Quota.CALLS, session, self._open_calls)
                if error is not None:
                    self._refuse(session, self._message.Call, asked, error)
                    return
            verb(session, asked)

        return process

    def _error(self, quota: Quota, session: Any, count: Callable[[Any], int]) -> TrishulaError | None:
        """Why a session may not open one more; ``None`` if it may. The refusal is counted."""
        full = self._full(quota, session, count)
        return None if full is None else self._quotas.refusal(quota, full)

    def _full(self, quota: Quota, session: Any, count: Callable[[Any], int]) -> str | None:
        """Who has as many as it may, the session or its agent; ``None``: neither."""
        if self._quotas.session_is_full(quota, count(session)):
            return f"this session of {session._authid}"
        sessions = self._sessions_of(session)
        # With fewer, the bound of each is enough; and most agents have one.
        if len(sessions) > PER_AGENT and self._quotas.agent_is_full(quota, sum(map(count, sessions))):
            return str(session._authid)
        return None

    def _bounded_by_callee(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        owed = self._dealer._callee_to_invocations
        most = self._quotas.most(Quota.CALLS)[1]

        def call(session: Any, asked: Any, registration: Any, *more: Any, **named: Any) -> Any:
            if session._authrole in self._roles and all(
                len(owed.get(callee, _NOTHING)) >= most and callee._authrole in self._roles
                for callee in registration.observers
            ):
                error = CallsExceeded(
                    f"{asked.procedure} owes {most} answers, as many as this node allows one callee (limits.calls); "
                    "try again when it has given some"
                )
                self._quotas.count(Quota.CALLS)
                self._refuse(session, self._message.Call, asked, error)
                return False
            return verb(session, asked, registration, *more, **named)

        return call

    def _forgetting_cancelled(self, verb: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        dealer = self._dealer

        def process(session: Any, unwanted: Any) -> None:
            waiting = dealer._invocations_by_call.get((session._session_id, unwanted.request))
            verb(session, unwanted)
            if waiting is None or not waiting.canceled or waiting.error_msg is not None:
                # With an error_msg the caller is told when its callee has ended it.
                return
            extra = waiting.registration.observers_extra.get(waiting.callee)
            if extra is None or not extra.concurrency:
                # Of a callee that takes only so many at a time it counts until it is answered.
                dealer._remove_invoke_request(waiting)

        return process

    def _forgetting(self, detach: Callable[[Any], None]) -> Callable[[Any], None]:
        dealer = self._dealer

        def process(session: Any) -> None:
            cancelled = [one for one in dealer._caller_to_invocations.get(session, _NOTHING) if one.canceled]
            for one in cancelled:
                dealer._remove_invoke_request(one)
            detach(session)

        return process

    def _refuse(self, session: Any, request: Any, asked: Any, error: TrishulaError) -> None:
        self._refused(str(session._authid), error)
        self._turns.refused(session._authid)
        answer = self._message.Error(request.MESSAGE_TYPE, asked.request, error.uri, args=[error.sentence])
        self._router.send(session, answer)


def _without_arguments(verb: Callable[..., Any]) -> Callable[..., Any]:
    def add(*args: Any, **named: Any) -> Any:
        waiting = verb(*args, **named)
        # The invocation has them too, and goes out now.
        waiting.call.args = waiting.call.kwargs = waiting.call.payload = None
        return waiting

    return add
