"""What Crossbar makes of requests, mended: each is answered, as its session may know, and leaves nothing behind.

- Its dealer keeps a call by its caller's request id. A **second call with an id that is in use** takes the first one's
  place, and when the session goes, the bookkeeping of its calls fails halfway: its registrations stay, to nobody.
  A session that reuses an id breaks the protocol, and ends with that. Should that bookkeeping fail for another reason,
  it is done here.
- A REGISTER that is **denied** goes on to look whether the name is taken, and the answer tells (26.10.1:
  ``processRegister``). Here the denial is the answer.
- What fails after a request was allowed is **no answer** at all, such as an invocation that can't be written in the
  callee's format: its caller waits for ever. Here it is answered with an error; and of an event that can't be written
  for one receiver the others get theirs.
- A SUBSCRIBE that asks for the **retained event** of a topic is not answered if that event is for some (``eligible``)
  or not for all (``exclude``): Crossbar compares with a list that isn't there. And it doesn't look at
  ``eligible_authid`` and the like, so others got the event. Here it goes to whom it was published for.
- UNSUBSCRIBE, UNREGISTER and CANCEL are not asked of the authorizer, so anybody could send them as if **forwarded for
  somebody**, and keep what it does from the nodes and agents of that name. Only links forward.

It reaches into private names of Crossbar (``Router._broker``, ``._dealer``, ``.authorize``, ``.send``,
``Broker._filter_publish_receivers``, ``._subscription_map``, ``Dealer._invocations``, …); if they are not as expected,
nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trishula_router.upstream.crossbar_parts import Parts, has

__all__ = ["Asking"]

log = Logger()

_NOT_AUTHORIZED = "wamp.error.not_authorized"
_NOT_CARRIED_OUT = "wamp.error.invalid_argument"
_UNREADABLE = "it could not be carried out: what it holds can't be written in the format of whom it is for"
_DEALER_TABLES = (
    *("_invocations", "_invocations_by_call", "_callee_to_invocations", "_caller_to_invocations"),
    "_session_to_registrations",
)
_DEALER_VERBS = (
    *("processCall", "processRegister", "processUnregister", "processCancel", "processYield"),
    *("processInvocationError", "_call", "_remove_invoke_request", "detach"),
)
_BROKER_VERBS = ("processPublish", "processSubscribe", "processUnsubscribe", "_filter_publish_receivers")


@dataclass(slots=True)
class _Asked:
    """What is being carried out just now.

    Attributes:
        session, request: of whom, and what.
        answer: the authorizer's, once it was asked.
    """

    session: Any
    request: Any
    answer: Deferred[Any] | None = None


class Asking:
    """See the module's docstring.

    Args:
        message: Autobahn's module of WAMP messages.
        new_id: numbers of publications.
        protocol_error: what ends the session of whoever breaks the protocol.
        unwritable: what Autobahn raises for a message that can't be written in a session's format.
        forwards: the roles that may ask for somebody else.
        is_open: whether the node itself is answering a call: by its session and its request id.
    """

    def __init__(
        self,
        message: Any,
        new_id: Callable[[], int],
        *,
        protocol_error: type[Exception],
        unwritable: type[Exception],
        forwards: Collection[str],
        is_open: Callable[[int, int], bool],
    ) -> None:
        self._message = message
        self._new_id = new_id
        self._protocol_error = protocol_error
        self._unwritable = unwritable
        self._forwards = forwards
        self._is_open = is_open
        self._router: Any = None
        self._send: Any = None
        self._asked: _Asked | None = None

    def install(self, transport: object) -> bool:
        """Mend the router that the embedded session's ``transport`` leads into.

        Returns:
            Whether Crossbar is as expected; if not, nothing was changed.
        """
        parts = Parts.behind(transport)
        router, broker, dealer = parts.router, parts.broker, parts.dealer
        if not (
            has(router, verbs=("authorize", "send"))
            and has(broker, verbs=_BROKER_VERBS)
            and has(parts.topics, verbs=("get_observation",))
            and has(dealer, verbs=_DEALER_VERBS, tables=_DEALER_TABLES)
        ):
            return False
        self._router, self._send = router, router.send
        message = self._message
        router.authorize = self._overhearing(router.authorize)
        router.send = self._sending
        dealer.processCall = self._answered(message.Call, self._each_id_once(dealer.processCall))
        dealer.processRegister = self._answered(message.Register, dealer.processRegister)
        broker.processPublish = self._answered(message.Publish, broker.processPublish)
        broker.processSubscribe = self._answered(message.Subscribe, broker.processSubscribe)
        for part, name in ((broker, "processUnsubscribe"), (dealer, "processUnregister"), (dealer, "processCancel")):
            setattr(part, name, self._for_itself(getattr(part, name)))
        dealer.processYield = self._telling_the_caller(dealer.processYield)
        dealer.processInvocationError = self._telling_the_caller(dealer.processInvocationError)
        dealer._call = self._leaving_no_invocation(dealer._call)
        dealer.detach = self._leaving_nothing(dealer.detach)
        return True

    # -- in ------------------------------------------------------------------------------------------------------------

    def _each_id_once(self, verb: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        open_calls = self._router._dealer._invocations_by_call

        def process(session: Any, asked: Any) -> None:
            at = (session._session_id, asked.request)
            if at in open_calls or self._is_open(*at):
                raise self._protocol_error(f"the request id {asked.request} of a call is that of one under way")
            verb(session, asked)

        return process

    def _for_itself(self, verb: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        def process(session: Any, asked: Any) -> None:
            if asked.forward_for and session._authrole not in self._forwards:
                raise self._protocol_error("it asked as if for somebody else (forward_for), which only a link may")
            verb(session, asked)

        return process

    def _answered(self, kind: Any, verb: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        """The verb, with an answer whatever comes of it after the authorizer was asked."""

        def process(session: Any, asked: Any) -> None:
            before, now = self._asked, _Asked(session, asked)
            self._asked = now
            retained = kind is self._message.Subscribe and asked.get_retained
            if retained:
                asked.get_retained = False
            try:
                verb(session, asked)
            finally:
                self._asked = before
            if now.answer is not None:
                if retained:
                    now.answer.addCallback(lambda _: self._send_retained(session, asked))
                now.answer.addErrback(lambda failure: self._failed(kind, session, asked, failure))

        return process

    def _overhearing(self, authorize: Callable[..., Any]) -> Callable[..., Any]:
        def ask(session: Any, uri: Any, action: str, options: Any = None) -> Any:
            answer = authorize(session, uri, action, options=options)
            now = self._asked
            if now is not None and now.session is session:
                if action == "register":
                    answer = self._without_denial(session, now.request, answer)
                now.answer = answer
            return answer

        return ask

    def _without_denial(self, session: Any, asked: Any, answer: Deferred[Any]) -> Deferred[Any]:
        """The authorizer's answer if it is yes; a no is told here, and the dealer never hears of it."""
        allowed: Deferred[Any] = Deferred()

        def decided(authorization: Any) -> None:
            if authorization["allow"]:
                allowed.callback(authorization)
                return
            sentence = f"{session._authid} is not authorized to register the procedure {asked.procedure}"
            self._refuse(self._message.Register, session, asked, _NOT_AUTHORIZED, sentence)

        answer.addCallbacks(decided, allowed.errback)
        return allowed

    def _failed(self, kind: Any, session: Any, asked: Any, failure: Any) -> None:
        if failure.check(self._unwritable) is None:
            log.failure("a request of {authid} could not be carried out", failure=failure, authid=session._authid)
        if kind is self._message.Publish and not asked.acknowledge:
            return
        self._refuse(kind, session, asked, _NOT_CARRIED_OUT, _UNREADABLE)

    def _refuse(self, kind: Any, session: Any, asked: Any, uri: str, sentence: str) -> None:
        self._router.send(session, self._message.Error(kind.MESSAGE_TYPE, asked.request, uri, [sentence]))

    def _send_retained(self, session: Any, asked: Any) -> None:
        broker = self._router._broker
        subscription = broker._subscription_map.get_observation(asked.topic, asked.match)
        if subscription is None or session not in subscription.observers or subscription.extra is None:
            return
        for kept in reversed(subscription.extra.retained_events):
            published = kept.publish
            if not broker._filter_publish_receivers({session}, published):
                continue
            content: dict[str, Any] = {"args": published.args, "kwargs": published.kwargs}
            if published.payload:
                content = {name: getattr(published, name) for name in ("payload", "enc_algo", "enc_key")}
                content["enc_serializer"] = published.enc_serializer
            event = self._message.Event(
                subscription.id,
                self._new_id(),
                publisher=kept.publisher,
                publisher_authid=kept.publisher_authid,
                publisher_authrole=kept.publisher_authrole,
                retained=True,
                **content,
            )
            self._router.send(session, event)
            return

    # -- out -----------------------------------------------------------------------------------------------------------

    def _sending(self, session: Any, message: Any) -> None:
        try:
            self._send(session, message)
        except self._unwritable:
            # Of an event the others get theirs; Autobahn has written a line about it.
            if not isinstance(message, self._message.Event):
                raise

    def _telling_the_caller(self, verb: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        """The verb for a callee's answer, which its caller may not be able to read."""
        dealer, message = self._router._dealer, self._message

        def process(session: Any, answer: Any) -> None:
            waiting = dealer._invocations.get(answer.request)
            try:
                verb(session, answer)
            except self._unwritable:
                if waiting is None:
                    raise
                extra = waiting.registration.observers_extra.get(session)
                if extra is not None and isinstance(answer, message.Yield):
                    extra.concurrency_current -= 1
                dealer._remove_invoke_request(waiting)
                self._refuse(message.Call, waiting.caller, waiting.call, _NOT_CARRIED_OUT, _UNREADABLE)

        return process

    def _leaving_no_invocation(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        dealer = self._router._dealer

        def call(session: Any, asked: Any, *more: Any, **named: Any) -> Any:
            try:
                return verb(session, asked, *more, **named)
            except Exception:
                waiting = dealer._invocations_by_call.get((session._session_id, asked.request))
                if waiting is not None:
                    dealer._remove_invoke_request(waiting)
                raise

        return call

    def _leaving_nothing(self, detach: Callable[[Any], None]) -> Callable[[Any], None]:
        dealer = self._router._dealer

        def process(session: Any) -> None:
            try:
                detach(session)
            except Exception:
                log.failure("a session was not let go of in order; what it has is dropped")
                _drop(dealer, session)

        return process


def _drop(dealer: Any, session: Any) -> None:
    """Drop the calls and registrations of a session from all tables of a dealer."""
    for number, call in list(dealer._invocations.items()):
        if session in (call.caller, call.callee):
            del dealer._invocations[number]
            dealer._invocations_by_call.pop((call.caller_session_id, call.call.request), None)
            for table, other in (
                (dealer._callee_to_invocations, call.callee),
                (dealer._caller_to_invocations, call.caller),
            ):
                left = [one for one in table.get(other, ()) if one is not call]
                if left:
                    table[other] = left
                else:
                    table.pop(other, None)
    for table in (dealer._callee_to_invocations, dealer._caller_to_invocations):
        table.pop(session, None)
    for registration in dealer._session_to_registrations.pop(session, ()):
        _, was_last = dealer._registration_map.drop_observer(session, registration)
        if was_last:
            dealer._registration_map.delete_observation(registration)
