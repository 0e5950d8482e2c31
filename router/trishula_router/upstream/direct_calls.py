"""Serve the node's own procedures where their calls come in, instead of by a WAMP call from the router to ourselves.

Crossbar routes a call of an embedded component's procedure as it routes any: an invocation, a yield and a result, each
a message with its bookkeeping, and each of the dozen debug lines on the way is put together before it is not written.
Measured on two cores: a beat of an agent took 150 µs of the worker's time that way and takes 105 µs so; a message on
its own, sent, pushed and acknowledged, 865 and 730 µs. What is asked, answered and refused is the same.

What a send brings about goes out before its answer does: the recipient waits for the message, and its sender seldom for
the receipt. So answers of sends wait for the end of the turn, where the events are written, and go out behind them. So
do answers of acks, for which nobody waits: they come with the same commit, and a recipient that was woken by one would
have the next message when it is through with it.

The procedures stay registered, and Crossbar's own way stays open: it is taken by calls that our authorizer denies (so
that Crossbar answers them as ever), and by calls with options that Crossbar carries out itself (a timeout, encrypted
payload). It reaches into private names of Crossbar (26.10.1: ``RouterApplicationSession._router``, ``Router._dealer``,
``RouterSession._session_id``, …); if they are not as expected, nothing is changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trishula.contract.uris import MAILBOX_ACK, MAILBOX_SEND
from trishula.errors import NodeFailed, TrishulaError
from trishula_router.agents.callers import Caller
from trishula_router.upstream.crossbar_parts import Parts, has
from trishula_router.upstream.turns import Turns
from trishula_router.upstream.written_together import Writes

__all__ = ["DirectCalls", "Result", "Serve"]

log = Logger()

#: (caller, positional arguments, keyword arguments) → result; it raises nothing but :class:`TrishulaError`. It is never
#: cancelled: what was begun goes on.
Serve = Callable[[Caller, Sequence[Any], Mapping[str, Any]], Awaitable[Any]]

#: What a disk takes within some ms: what others send is committed with it, and waits as long. Beyond it the next call
#: of that agent is read when one is answered; a call that is larger is taken all the same.
HELD_AT_BYTES = 512 * 1024

#: A call that is no larger is small: while one is open, those who ask for much leave gaps.
_SMALL_BYTES = 4096

_CANCELED = "wamp.error.canceled"

#: What is answered at the end of the turn.
_BEHIND_EVENTS = frozenset({MAILBOX_SEND, MAILBOX_ACK})


#: WAMP's number of the message.
_RESULT = 50


class Result:
    """A plain result as it travels, in place of Autobahn's message; see :class:`.direct_events.Event`."""

    __slots__ = ("_told",)

    def __init__(self, request: int, *, args: list[object]) -> None:
        self._told = [_RESULT, request, {}, args]

    def serialize(self, codec: Any) -> bytes:
        """What goes over the wire, by Autobahn's serializer of objects."""
        return bytes(codec.serialize(self._told))

    def __repr__(self) -> str:
        return f"Result({self._told[1:]})"


class DirectCalls:
    """See the module's docstring.

    Args:
        procedures: how each is served, by URI.
        is_denied: whether a session may not call: (session, uri, options).
        message: Autobahn's module of WAMP messages.
        make_result: :class:`Result`, or Autobahn's class of the message.
        call_later: a timer: how long, and what to do then.
        turns: holds an agent back while what it handed in and waits for is more than :data:`HELD_AT_BYTES`; told of
            small calls while they are open, and of refusals.
        writes: keeps frames back that leave together.
    """

    def __init__(
        self,
        procedures: Mapping[str, Serve],
        is_denied: Callable[[Mapping[str, object], str, Mapping[str, object]], bool],
        message: Any,
        make_result: Callable[..., Any],
        call_later: Callable[[float, Callable[[], None]], object],
        turns: Turns,
        writes: Writes,
    ) -> None:
        self._procedures = procedures
        self._is_denied = is_denied
        self._message = message
        self._make_result = make_result
        self._turns = turns
        self._writes = writes
        self._call_later = call_later
        # Answers that go out at the end of this turn: to which session, of which call, what.
        self._behind_events: list[tuple[Any, tuple[int, int], Any]] = []
        # Calls that Crossbar carries out, by (session, request).
        self._crossbars: Mapping[tuple[int, int], Any] = {}
        # How large the calls of an agent are that are being served, those included that nobody waits for any more.
        self._weights: Counter[str] = Counter()
        self._router: Any = None
        # The callers of those that are not answered, by (session, request), and how many of each session.
        self._open: dict[tuple[int, int], Caller] = {}
        self._count: dict[int, int] = {}

    def install(self, transport: object) -> bool:
        """Take over in the router that the embedded session's ``transport`` leads into.

        Returns:
            Whether Crossbar is as expected; if not, nothing was changed.
        """
        parts = Parts.behind(transport)
        dealer = parts.dealer
        if not has(dealer, verbs=("processCall", "processCancel"), tables=("_invocations_by_call",)):
            return False
        if not has(parts.router, verbs=("send",)):
            return False
        if not all(hasattr(self._message, name) for name in ("Call", "Error")):
            return False
        call, cancel = dealer.processCall, dealer.processCancel

        def process_call(session: Any, asked: Any) -> None:
            serve = self._procedures.get(asked.procedure)
            options = {} if asked.forward_for is None else {"forward_for": asked.forward_for}
            if (
                serve is None
                or asked.timeout
                or asked.payload is not None
                or self._denies(session, asked.procedure, options)
            ):
                call(session, asked)
            else:
                self._begin(session, asked, serve)

        def process_cancel(session: Any, unwanted: Any) -> None:
            at = (session._session_id, unwanted.request)
            caller = self._close(at)
            if caller is not None:
                # What was begun goes on: cut off between the store and the memory it would leave half of itself. Only
                # what waits for something to come gives up.
                caller.patience.end()
                self._tell(session, at, self._message.Error(self._message.Call.MESSAGE_TYPE, at[1], _CANCELED))
            else:
                cancel(session, unwanted)

        self._router, self._crossbars = parts.router, dealer._invocations_by_call
        dealer.processCall, dealer.processCancel = process_call, process_cancel
        return True

    def take(self, session: Any, asked: Any) -> bool:
        """Serve a call of one of the procedures; it has no options.

        Returns:
            Whether that was done: not if its id is in use, or its session may not call.
        """
        at = (session._session_id, asked.request)
        if at in self._open or at in self._crossbars or self._denies(session, asked.procedure, {}):
            return False
        self._begin(session, asked, self._procedures[asked.procedure])
        return True

    def is_open(self, session: int, request: int) -> bool:
        """Whether that call of a session is not answered."""
        return (session, request) in self._open

    def open_of(self, session: int) -> int:
        """How many calls of a session are not answered."""
        return self._count.get(session, 0)

    def _denies(self, session: Any, procedure: str, options: Mapping[str, object]) -> bool:
        return self._is_denied({"authid": session._authid, "authrole": session._authrole}, procedure, options)

    def _begin(self, session: Any, asked: Any, serve: Serve) -> None:
        at = (session._session_id, asked.request)
        if at not in self._open:
            self._count[at[0]] = self._count.get(at[0], 0) + 1
        caller = self._open[at] = Caller(session._session_id, session._authid, session._authrole)
        size = getattr(session._transport, "message_bytes", 0)
        self._weigh(caller.agent, size)
        done = Deferred.fromCoroutine(
            self._answer(session, at, caller.agent, asked, serve(caller, asked.args or (), asked.kwargs or {}))
        )
        if size <= _SMALL_BYTES and not done.called:
            self._turns.owe(at, caller.agent)
        done.addBoth(self._end, at, caller.agent, size)
        done.addErrback(lambda failure: log.failure("a call could not be answered", failure=failure))

    def _weigh(self, agent: str, size_bytes: int) -> None:
        self._weights[agent] += size_bytes
        if self._weights[agent] > HELD_AT_BYTES:
            self._turns.hold(agent)

    def _end(self, outcome: object, at: tuple[int, int], agent: str, size_bytes: int) -> object:
        self._turns.answered(at)
        self._weights[agent] -= size_bytes
        if self._weights[agent] <= HELD_AT_BYTES:
            self._turns.let_go(agent)
        if not self._weights[agent]:
            del self._weights[agent]
        return outcome

    async def _answer(self, session: Any, at: tuple[int, int], agent: str, asked: Any, answer: Awaitable[Any]) -> None:
        try:
            reply = self._make_result(at[1], args=[await answer])
        except TrishulaError as error:
            # Not the session's: another one may have followed on its connection.
            self._turns.refused(agent)
            reply = self._refusal(at[1], error)
        else:
            if asked.procedure in _BEHIND_EVENTS:
                if not self._behind_events:
                    self._call_later(0, self._near_end_of_turn)
                self._behind_events.append((session, at, reply))
                return
        self._reply(session, at, reply)

    def _reply(self, session: Any, at: tuple[int, int], reply: Any) -> None:
        if self._close(at) is None:
            return
        try:
            self._tell(session, at, reply)
        except Exception:
            # Too large for what the client takes, or not to be written in its format.
            log.failure("the answer to a call could not be sent")
            self._say_that_it_failed(session, at)

    def _say_that_it_failed(self, session: Any, at: tuple[int, int]) -> None:
        try:
            self._tell(session, at, self._refusal(at[1], NodeFailed("the answer could not be sent; the log says why")))
        except Exception:
            # Others' answers are to go out all the same.
            log.failure("a call could not be answered")

    def _near_end_of_turn(self) -> None:
        # Once more, because what was put off in that turn after this, as events are, comes after this.
        self._call_later(0, self._ended_turn)

    def _ended_turn(self) -> None:
        answers, self._behind_events = self._behind_events, []
        with self._writes.together():
            for answer in answers:
                self._reply(*answer)

    def _close(self, at: tuple[int, int]) -> Caller | None:
        """A call is answered; its caller, or ``None`` if it was answered before."""
        caller = self._open.pop(at, None)
        if caller is not None:
            self._count[at[0]] -= 1
            if not self._count[at[0]]:
                del self._count[at[0]]
        return caller

    def _refusal(self, request: int, error: TrishulaError) -> Any:
        details = {} if error.retry_after_s is None else {"retry_after_s": error.retry_after_s}
        uri = error.uri or NodeFailed.uri
        return self._message.Error(
            self._message.Call.MESSAGE_TYPE, request, uri, args=[error.sentence], kwargs=details or None
        )

    def _tell(self, session: Any, at: tuple[int, int], reply: Any) -> None:
        # On one connection sessions may follow each other, and the numbers of their requests begin anew.
        if session._transport is not None and session._session_id == at[0]:
            self._router.send(session, reply)
