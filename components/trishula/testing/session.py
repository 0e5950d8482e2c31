"""One joined session on a bus in memory, as Crossbar and a WebSocket play it: what a client says, and what it hears.

A session keeps the order of what it carries, in each direction, and whatever it carries arrives as a copy: it went
through MessagePack. What it lacks are the limits of a real connection: how large a frame is, how many calls,
subscriptions and registrations a session has open, and how much waits for one that reads slowly.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from trishula.errors import (
    ArgumentInvalid,
    BusUnreachable,
    NodeFailed,
    NotAllowed,
    PayloadNotJson,
    ProcedureUnknown,
    TrishulaError,
    from_wire,
)
from trishula.runtime.pending import Pending, rejected
from trishula.runtime.surroundings import Clock
from trishula.session.transport import AnswerLate, Ending, Endpoint, Link, LinkLost
from trishula_router.agents.callers import Caller, Verb

if TYPE_CHECKING:
    from trishula.testing.network import Router

__all__ = ["URL", "JoinedBy", "Session", "copied"]

_log = logging.getLogger("trishula")

#: What clients are told of where the bus is; nothing listens there.
URL = "ws://bus.in.memory/ws"


def copied(value: Any) -> Any:
    """As the other side reads it."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value))


class JoinedBy(Protocol):
    """What a session is to the client that joined with it."""

    @property
    def clock(self) -> Clock:
        """The client's clock."""

    @property
    def owner(self) -> object:
        """The client's connection."""

    def ended(self, error: TrishulaError) -> None:
        """The session is over."""


class Session:
    """One joined session; for a client its :class:`~trishula.session.transport.Link`."""

    def __init__(self, router: Router, attempt: JoinedBy, agent: str, role: str, number: int) -> None:
        self.url = URL
        self.ending: Ending | None = None
        self.agent = agent
        self.role = role
        self.number = number
        self.topics: dict[str, Callable[..., object]] = {}
        #: Whether the client's process is gone, which hears and says nothing any more.
        self.is_deaf = False
        self._router = router
        self.attempt = attempt
        self._is_open = True
        #: Those that are not answered.
        self.questions: set[_Question] = set()

    # -- what the client says (transport.Link) -------------------------------------------------------------------------

    def call(
        self, uri: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> Pending[Any]:
        try:
            said = copied([list(args), dict(kwargs or {})])
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            return rejected(PayloadNotJson(f"what was to be sent to {uri} can't be written: {error}"))
        return self._ask(uri, lambda question: self._called(question, *said), timeout_s)

    def subscribe(self, topic: str, handler: Callable[..., object]) -> Pending[None]:
        def subscribed(question: _Question) -> None:
            if self._may(question, "subscribe"):
                self.topics[topic] = handler
                question.answer(None)

        return self._ask(topic, subscribed)

    def register(self, uri: str, endpoint: Endpoint) -> Pending[None]:
        def registered(question: _Question) -> None:
            if self._may(question, "register"):
                self._router.procedures[uri] = self, endpoint
                question.answer(None)

        return self._ask(uri, registered)

    def publish(self, topic: str, args: Sequence[Any]) -> Pending[None]:
        said = copied(list(args))

        def published(question: _Question) -> None:
            if self._may(question, "publish"):
                # As in WAMP: not to whoever publishes it.
                self._router.events(topic, said, but=self)
                question.answer(None)

        return self._ask(topic, published)

    def drop(self) -> None:
        self.lost(f"the session with {self.url} was given up")

    # -- at the node ---------------------------------------------------------------------------------------------------

    def _ask(self, uri: str, at_node: Callable[[_Question], object], timeout_s: float | None = None) -> Pending[Any]:
        question = _Question(self, uri, timeout_s)
        if not self._is_open:
            question.reject(LinkLost(f"the connection to {self.url} was lost before {uri} was asked"))
            return question
        self.questions.add(question)

        def arrive() -> None:
            if self._is_open and self._router.node is not None:
                at_node(question)

        self._router.hops.callLater(0, arrive)
        return question

    def _may(self, question: _Question, action: str) -> bool:
        node = self._router.node
        assert node is not None
        who = {"authid": self.agent, "authrole": self.role}
        denial = node.authorizer.decide(who, question.uri, action, {})
        if denial is None:
            return True
        node.authorizer.authorize(who, question.uri, action, {})
        question.fail(NotAllowed(f"{question.uri} was refused: {denial.reason}"))
        return False

    def _called(self, question: _Question, args: list[Any], kwargs: dict[str, Any]) -> None:
        router, uri = self._router, question.uri
        if not self._may(question, "call"):
            return
        verb = router.verbs.get(uri)
        if verb is not None:
            self._serve(question, verb, args, kwargs)
        elif uri in router.procedures:
            callee, endpoint = router.procedures[uri]
            callee.invoke(question, endpoint, args, kwargs)
        else:
            question.fail(
                ProcedureUnknown(f"nobody offers {uri} now: its agent is not connected, or has no such procedure")
            )

    def _serve(self, question: _Question, verb: Verb, args: list[Any], kwargs: dict[str, Any]) -> None:
        router, uri = self._router, question.uri
        node = router.node
        assert node is not None
        caller = Caller(self.number, self.agent, self.role)
        question.given_up = caller.patience.end
        if kwargs:
            question.fail(ArgumentInvalid(f"{uri} was called with keyword arguments; it takes positional ones"))
            return
        served: Deferred[Any] = Deferred.fromCoroutine(node.serve(verb, caller, tuple(args)))

        def over(outcome: Any) -> None:
            if not isinstance(outcome, Failure):
                router.handovers.answered(self.agent, self.number, uri, args, outcome)
                question.answer(copied(outcome))
            elif isinstance(outcome.value, TrishulaError):
                error = outcome.value
                details = {} if error.retry_after_s is None else {"retry_after_s": error.retry_after_s}
                question.fail(from_wire(error.uri or NodeFailed.uri or "", error.sentence, details))
            else:
                _log.error("A call of %s failed in the node of the bus in memory", uri, exc_info=outcome.value)
                question.fail(NodeFailed(f"the node failed at {uri}: {outcome.value}"))

        served.addBoth(over)

    # -- at the client -------------------------------------------------------------------------------------------------

    def down(self, call: Callable[..., object], *args: Any) -> None:
        """To the client, in order."""

        def arrive() -> None:
            if self._is_open and not self.is_deaf:
                call(*args)

        self._router.hops.callLater(0, arrive)

    def event(self, topic: str, args: list[Any]) -> None:
        """An event for the client."""
        self.down(self.topics[topic], *args)

    def invoke(self, question: _Question, endpoint: Endpoint, args: list[Any], kwargs: dict[str, Any]) -> None:
        """A call of one of the client's procedures."""

        def begin() -> None:
            outcome = endpoint(args, kwargs)
            question.given_up = outcome.cancel
            outcome.when_done(lambda pending: self._router.hops.callLater(0, self._returned, question, pending))

        self.down(begin)

    def _returned(self, question: _Question, outcome: Pending[Any]) -> None:
        error = outcome.error
        if not self._is_open or self.is_deaf:
            return
        if error is None:
            question.answer(copied(outcome.result()))
            return
        # Late, because importing Autobahn takes a third of a second.
        from trishula.session.wamp_errors import heard_by_caller

        question.fail(heard_by_caller(question.uri, error))

    # -- the end -------------------------------------------------------------------------------------------------------

    def close(self, uri: str, sentence: str) -> None:
        """The node ends it and says why."""
        from trishula.session.wamp_errors import error_of_leaving

        self._end(error_of_leaving(self.url, uri, sentence))

    def lost(self, why: str) -> None:
        """The network or the node is gone, or the client has left."""
        self._end(BusUnreachable(f"the connection to {self.url} ended: {why}"))

    def _end(self, error: TrishulaError) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._router.left(self)
        self._router.hops.callLater(0, self._told, error)

    def _told(self, error: TrishulaError) -> None:
        questions, self.questions = self.questions, set()
        if self.is_deaf:
            return
        for question in questions:
            question.reject(LinkLost(f"the connection to {self.url} was lost before {question.uri} answered"))
        self.attempt.ended(error)


class _Question(Pending[Any]):
    """The outcome of something that the client asked on a session."""

    __slots__ = ("_session", "_timeout_s", "_timer", "given_up", "uri")

    def __init__(self, session: Session, uri: str, timeout_s: float | None) -> None:
        super().__init__()
        self.uri = uri
        #: Tells whoever works on it that nobody waits any more.
        self.given_up: Callable[[], object] = lambda: None
        self._session = session
        self._timeout_s = timeout_s
        self._timer = None if timeout_s is None else session.attempt.clock.callLater(timeout_s, self._late)
        self.when_done(self._over)

    def _over(self, _: Pending[Any]) -> None:
        self._session.questions.discard(self)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def answer(self, value: Any) -> None:
        """The answer is on its way."""
        self._session.down(self.resolve, value)

    def fail(self, error: TrishulaError) -> None:
        """The refusal is on its way."""
        self._session.down(self.reject, error)

    def _late(self) -> None:
        self.given_up()
        self.reject(AnswerLate(f"{self.uri} did not answer within {self._timeout_s:g} s"))

    def cancel(self) -> None:
        if not self.done:
            self.given_up()
            self.reject(AnswerLate(f"nobody waits for the answer of {self.uri} any more"))


def _plays_the_interface(session: Session) -> Link:
    # For mypy: it has exactly the methods that the real one has.
    return session
