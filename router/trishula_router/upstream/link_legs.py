"""The two ends of a link, and how what one router says reaches the other.

A link joins two routers by two sessions in the role ``rlink``: the **near** leg lives inside of our router, the **far**
leg is a WebSocket client of the peer's. A :class:`Leg` passes on messages, not calls of Python functions: an EVENT here
is a PUBLISH there, an INVOCATION a CALL, its RESULT a YIELD, its ERROR an ERROR, an INTERRUPT a CANCEL. So arguments,
progress and error URIs stay what they were, keyword arguments may be named as they like, and no message costs a
Deferred. What upstream does otherwise:

- an error of the callee becomes the result ``None``, and so does a lost transport (not reported);
- the caller's role is sent in place of its authid (not reported);
- cancelling reaches neither the callee nor, through the near leg, anybody: Crossbar can't send INTERRUPT to a session
  that it embeds, and fails halfway through detaching the caller (not reported);
- progressive results are lost: the call that is sent on does not ask for them (not reported);
- each forwarded call is logged twice at level info (not reported).

Who wins a name: a session of the node's own, always. A leg registers as one of several (``invoke: last``), so that two
links may offer the same name while an agent moves; :mod:`.link_offer` takes legs off a name that an agent registers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from autobahn.twisted.wamp import ApplicationSession
from autobahn.wamp import message
from autobahn.wamp.exception import ApplicationError, TransportLost
from autobahn.wamp.types import ComponentConfig, RegisterOptions
from twisted.logger import Logger

from trishula.contract import uris
from trishula.errors import OutcomeUnknown, ProcedureUnknown
from trishula_router.upstream.link_names import Change

__all__ = ["Leg"]

log = Logger()


class Leg(ApplicationSession):  # type: ignore[misc]
    """One end of a link.

    Args:
        realm: to join.
        peer: the node at the other end of the link, for what people read.

    Attributes:
        other: the other end; set before either end carries anything.
    """

    def __init__(self, realm: str, peer: str) -> None:
        super().__init__(ComponentConfig(realm))
        self.peer = peer
        self._transport: Any = None
        self.other: Leg = self
        self.topics = _Carried(self._take_topic, self._leave_topic)
        self.procedures = _Carried(self._take_procedure, self._leave_procedure)
        # By the router's number: which of its events and invocations are for the other leg.
        self._topic_of: dict[int, str] = {}
        self._procedure_of: dict[int, str] = {}
        # An invocation here ↔ the call that it became at the other leg.
        self._call_for: dict[int, int] = {}
        self._invocation_of: dict[int, int] = {}

    # -- names ---------------------------------------------------------------------------------------------------------

    async def names(self, tell: Callable[[Change], object]) -> Change:
        """All names of this leg's router; its later changes go to ``tell``."""
        await self.subscribe(tell, uris.LINK_CHANGED)
        found: Change = await self.call(uris.LINK_NAMES)
        return found

    async def _take_topic(self, uri: str) -> Any:
        subscription = await self.subscribe(_never, uri)
        self._topic_of[subscription.id] = uri
        return subscription

    async def _leave_topic(self, subscription: Any) -> None:
        self._topic_of.pop(subscription.id, None)
        await subscription.unsubscribe()

    async def _take_procedure(self, uri: str) -> Any:
        registration = await self.register(_never, uri, options=RegisterOptions(invoke="last"))
        self._procedure_of[registration.id] = uri
        return registration

    async def _leave_procedure(self, registration: Any) -> None:
        # Its number stays known until then: a call may be on its way, and is answered.
        await registration.unregister()
        self._procedure_of.pop(registration.id, None)

    # -- messages ------------------------------------------------------------------------------------------------------

    def onMessage(self, msg: Any) -> None:
        """Pass a message on if it is for the other leg, else let Autobahn have it."""
        if isinstance(msg, message.Event) and msg.subscription in self._topic_of:
            self._on_event(msg)
        elif isinstance(msg, message.Invocation) and msg.registration in self._procedure_of:
            self._on_invocation(msg)
        elif isinstance(msg, message.Interrupt):
            self._on_interrupt(msg)
        elif isinstance(msg, message.Result) and msg.request not in self._call_reqs:
            self._on_result(msg)
        elif (
            isinstance(msg, message.Error)
            and msg.request_type == message.Call.MESSAGE_TYPE
            and msg.request not in self._call_reqs
        ):
            self._on_error(msg)
        elif isinstance(msg, message.Unregistered) and msg.request == 0:
            # Autobahn would go on believing in the registration.
            self._registrations.pop(msg.registration, None)
            self.procedures.lost(self._procedure_of.pop(msg.registration, ""))
        else:
            super().onMessage(msg)

    def _on_event(self, event: Any) -> None:
        if event.forward_for:
            # It came over a link; whoever wants it has a link of its own.
            return
        publish = message.Publish(
            self.other.new_request(),
            self._topic_of[event.subscription],
            forward_for=_on_behalf_of(event.publisher, event.publisher_authid, event.publisher_authrole),
            **_content(event),
        )
        try:
            self.other.send(publish)
        except Exception as error:
            # Events may be lost: here one that is too large, or that says what can't be said in MessagePack.
            log.warn("an event of {topic} could not be sent on: {error}", topic=publish.topic, error=str(error)[:200])

    def _on_invocation(self, invocation: Any) -> None:
        uri = self._procedure_of[invocation.registration]
        if invocation.forward_for:
            # In the moment in which an agent moves, two legs could else send a call back and forth.
            self._fail(invocation.request, ProcedureUnknown.uri, f"{uri} is moving between nodes; call again")
            return
        request = self.other.new_request()
        call = message.Call(
            request,
            uri,
            receive_progress=invocation.receive_progress,
            forward_for=_on_behalf_of(invocation.caller, invocation.caller_authid, invocation.caller_authrole),
            **_content(invocation),
        )
        self._call_for[invocation.request] = request
        self.other._invocation_of[request] = invocation.request
        try:
            self.other.send(call)
        except Exception as error:
            self.other._forget(request)
            self._fail(invocation.request, ApplicationError.INVALID_PAYLOAD, f"the call did not reach a node: {error}")

    def _on_interrupt(self, interrupt: Any) -> None:
        request = self._call_for.get(interrupt.request)
        if request is None:
            return
        self.other._forget(request)
        # Answered here and now: if the callee can't be interrupted, Crossbar never answers a CANCEL.
        self._fail(interrupt.request, ApplicationError.CANCELED, "the call was cancelled by its caller")
        self.other.send(message.Cancel(request, message.Cancel.KILLNOWAIT))

    def _on_result(self, result: Any) -> None:
        request = self._invocation_of.get(result.request)
        if request is None:
            # Cancelled in the meantime.
            return
        if not result.progress:
            self._forget(result.request)
        try:
            self.other.send(message.Yield(request, progress=result.progress, **_content(result)))
        except Exception as error:
            self._forget(result.request)
            self.other._fail(request, ApplicationError.INVALID_PAYLOAD, f"the result can't be sent on: {error}")

    def _on_error(self, error: Any) -> None:
        request = self._invocation_of.get(error.request)
        if request is None:
            return
        self._forget(error.request)
        reply = message.Error(message.Invocation.MESSAGE_TYPE, request, error.error, **_content(error))
        try:
            self.other.send(reply)
        except Exception as why:
            self.other._fail(request, error.error, f"the error's arguments can't be sent on: {why}")

    def fail_all(self) -> None:
        """Answer the calls that this leg made for the other one: their outcome will not be known any more."""
        for request in list(self._invocation_of):
            invocation = self._invocation_of[request]
            self._forget(request)
            self.other._fail(
                invocation,
                OutcomeUnknown.uri or "",
                f"the link between the nodes broke during the call (peer {self.peer}): it may have run; ask, or call "
                "again if a repeat does no harm",
            )

    def _forget(self, request: int) -> None:
        """A call that this leg made is over."""
        self.other._call_for.pop(self._invocation_of.pop(request), None)

    def _fail(self, invocation: int, uri: str | None, sentence: str) -> None:
        self.send(message.Error(message.Invocation.MESSAGE_TYPE, invocation, uri, args=[sentence]))

    def new_request(self) -> int:
        """A number for a request of this session."""
        return int(self._request_id_gen.next())

    def send(self, msg: Any) -> None:
        """Hand a message to this leg's router, unless the connection is gone."""
        if self._transport is not None:
            self._transport.send(msg)


class _Carried:
    """The names that a leg subscribed to, or registered: those that are wanted of it, as soon as the router lets it.

    A name that the router refuses is not tried again by itself: a session of the node's own has it, and its going
    is news that comes by :meth:`want`. One that is denied is tried by :meth:`again`: the router's node may not have
    heard yet where an agent is.
    """

    def __init__(self, take: Callable[[str], Awaitable[Any]], leave: Callable[[Any], Awaitable[None]]) -> None:
        self._take = take
        self._leave = leave
        self._wanted: set[str] = set()
        self._carried: dict[str, Any] = {}
        self._busy: set[str] = set()
        self._denied: set[str] = set()

    async def again(self) -> None:
        """Try what was denied."""
        denied, self._denied = self._denied, set()
        for uri in denied & self._wanted:
            await self.want(uri, True)

    async def want(self, uri: str, wanted: bool) -> None:
        """Have the name, or have it no more."""
        (self._wanted.add if wanted else self._wanted.discard)(uri)
        if uri in self._busy:
            return
        self._busy.add(uri)
        try:
            while (uri in self._wanted) != (uri in self._carried):
                if uri in self._wanted:
                    self._carried[uri] = await self._take(uri)
                else:
                    await self._leave(self._carried.pop(uri))
        except (ApplicationError, TransportLost) as error:
            if isinstance(error, ApplicationError) and error.error == ApplicationError.NOT_AUTHORIZED:
                self._denied.add(uri)
            log.debug("{uri} is not carried now: {error}", uri=uri, error=error)
        finally:
            self._busy.discard(uri)

    def lost(self, uri: str) -> None:
        """The router took the name away."""
        self._carried.pop(uri, None)


def _on_behalf_of(session: int | None, authid: str | None, role: str | None) -> list[dict[str, Any]]:
    # Who is not disclosed stays unknown, and what it says is marked as forwarded all the same.
    return [{"session": session or 0, "authid": authid, "authrole": role or "anonymous"}]


def _content(msg: Any) -> dict[str, Any]:
    return {
        "args": msg.args,
        "kwargs": msg.kwargs,
        "payload": msg.payload,
        "enc_algo": msg.enc_algo,
        "enc_key": msg.enc_key,
        "enc_serializer": msg.enc_serializer,
    }


def _never(*_: Any, **__: Any) -> None:
    """Stands where Autobahn wants a handler; the messages are passed on before it."""
