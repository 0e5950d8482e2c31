"""The part of the router and of the network in a bus in memory: sessions, topics, registrations, and hops between them.

The rules are the node's own (:class:`trishula_router.node.Node`): whom it lets in, who may do what, what it answers.
This module plays what is around them, as Crossbar and a WebSocket do: :class:`Router` for the node
(:class:`trishula_router.services.Router`), and for a client a :class:`Session` each time that it joins, which is its
:class:`~trishula.session.transport.Link`. How a client joins is in :mod:`.wire`.

A session keeps the order of what it carries, in each direction, and whatever it carries arrives as a copy: it went
through MessagePack. What it lacks are the limits of a real connection: how large a frame is, how many calls,
subscriptions and registrations a session has open, and how much waits for one that reads slowly.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from trishula.contract import uris
from trishula.contract.addresses import Address
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
from trishula.testing.records import Record
from trishula.testing.turned_clock import LifeClock, TurnedClock
from trishula_router.agents.callers import Caller, Verb
from trishula_router.mail.outlet import News
from trishula_router.node import Node

if TYPE_CHECKING:
    from trishula_router.services import Router as NodesRouter

__all__ = ["URL", "JoinedBy", "Router", "Session"]

_log = logging.getLogger("trishula")

#: What clients are told of where the bus is; nothing listens there.
URL = "ws://bus.in.memory/ws"


#: What the shipped configuration takes of a client; clients cut their batches by it.
_FRAME_BYTES = 16 * 1024 * 1024


def _copied(value: Any) -> Any:
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


class Router:
    """What is around the node; see the module's docstring.

    Args:
        clock: on which everything hops.
        record: is told what is handed over, and what comes back.
    """

    def __init__(self, clock: TurnedClock, record: Record) -> None:
        self.clock = clock
        #: Of the network: what is under way arrives, whoever has died.
        self.hops = LifeClock(clock)
        self.record = record
        self.node: Node | None = None
        self.verbs: Mapping[str, Verb] = {}
        self.sessions: dict[int, Session] = {}
        self.procedures: dict[str, tuple[Session, Endpoint]] = {}
        #: The agents that no network leads from.
        self.cut_off: set[str] = set()
        self._numbers = 0

    def number(self) -> int:
        """A session's."""
        self._numbers += 1
        return self._numbers

    def run(self, node: Node, verbs: Mapping[str, Verb]) -> None:
        """A node begins to serve."""
        self.node, self.verbs = node, verbs

    def gone(self) -> None:
        """The node's process has ended; its machine tells everybody."""
        self.node, self.verbs = None, {}
        for session in list(self.sessions.values()):
            session.lost("the node is gone")

    def break_off(self, agent: str) -> bool:
        """Break the network below the sessions of an agent; whether it had any."""
        its = [session for session in self.sessions.values() if session.agent == agent]
        for session in its:
            session.lost("the network below it broke")
        return bool(its)

    def left(self, session: Session) -> None:
        """A session is gone."""
        if self.sessions.pop(session.number, None) is None:
            return
        self.procedures = {uri: one for uri, one in self.procedures.items() if one[0] is not session}
        self.record.session_left(session.number)
        if self.node is not None:
            self.node.session_left(session.number)

    def events(self, topic: str, args: Sequence[Any], *, but: Session | None = None, only: int | None = None) -> None:
        """Hand an event to those who listen."""
        for session in list(self.sessions.values()):
            if topic in session.topics and session is not but and only in (None, session.number):
                session.event(topic, _copied(list(args)))

    # -- what the node wants (trishula_router.services.Router) --------------------------------------------------------

    def push(self, address: Address, session: int, deliveries: list[dict[str, Any]]) -> None:
        self.record.handed(str(address), session, deliveries)
        self.events(uris.inbox_of(address), [deliveries], only=session)

    def recall(self, address: Address, session: int, cancelled: list[dict[str, Any]]) -> None:
        self.events(uris.inbox_of(address), [[], {"cancelled": cancelled}], only=session)

    def tell(self, news: Iterable[News]) -> None:
        for one in news:
            told = {"id": one.id, "to": one.recipient, "state": one.state, "at": one.at}
            more = {"copies": one.copies, "reason": one.reason}
            told.update({key: value for key, value in more.items() if value is not None})
            self.events(uris.receipts_of(Address.parse(one.sender).agent), [[told]])

    def announce(self, topic: str, event: Mapping[str, Any]) -> None:
        self.events(topic, [dict(event)])

    def frame_limit_bytes(self, session: int) -> int | None:
        return _FRAME_BYTES

    def close_session(self, session: int, uri: str, sentence: str) -> None:
        there = self.sessions.get(session)
        if there is not None:
            there.close(uri, sentence)

    def post(self, peer: str, kind: str, text: bytes) -> None:
        raise NodeFailed("a bus in memory has one node")


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
            said = _copied([list(args), dict(kwargs or {})])
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
        said = _copied(list(args))

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
                router.record.answered(self.agent, self.number, uri, args, outcome)
                question.answer(_copied(outcome))
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
            question.answer(_copied(outcome.result()))
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


def _plays_the_interfaces(router: Router, session: Session) -> tuple[NodesRouter, Link]:
    # For mypy: they have exactly the methods that the real ones have.
    return router, session
