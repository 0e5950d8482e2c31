"""Calls of agents' procedures that nobody answers: they end, for their caller, their callee and the router.

Crossbar keeps a call until its callee answers. One whose callee is mute, or has hung, stays for as long as both have
their sessions, and counts against the bounds of both. Here a call that has waited for ``limits.call_wait`` is over: its
caller is told that nobody knows what became of it, its callee is interrupted if it can be, and nothing of it is kept.
Progress is a sign of life: a call with some waits anew from then.

Nothing is done for each call. Invocations have rising numbers, and the router's table has them in that order; so every
now and then the newest number is noted, and later the table's front is looked at up to there.

It reaches into private names of Crossbar (26.10.1: ``Dealer._invocations``, ``._remove_invoke_request``,
``.processYield``, ``InvocationRequest.caller``, …); if they are not as expected, nothing is changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import Any

from twisted.logger import Logger

from trishula.contract.units import show_duration
from trishula.errors import OutcomeUnknown
from trishula_router.clocks.clock import Clock
from trishula_router.upstream.crossbar_parts import Parts, has
from trishula_router.upstream.turns import Turns

__all__ = ["Unanswered"]

log = Logger()

#: A call may wait longer by one part of so many.
_ROUNDS = 20


class Unanswered:
    """See the module's docstring.

    Args:
        message: Autobahn's module of WAMP messages.
        most_s: how long a call may wait.
        roles: whose procedures are meant; those of the node itself answer when they have something to say.
        clock: timers, and the clock for spans.
        turns: by which calls end: a thousand may be over at once.
    """

    def __init__(self, message: Any, most_s: float, roles: Collection[str], clock: Clock, turns: Turns) -> None:
        self._message = message
        self._most_s = most_s
        self._roles = roles
        self._clock = clock
        self._turns = turns
        self._router: Any = None
        self._dealer: Any = None
        # When which invocation was the newest one.
        self._newest: deque[tuple[float, int]] = deque()
        # When those that had progress had it last.
        self._progress: dict[int, float] = {}

    def install(self, transport: object) -> bool:
        """Look after the calls in the router that the embedded session's ``transport`` leads into.

        Returns:
            Whether Crossbar is as expected; if not, nothing was changed.
        """
        parts = Parts.behind(transport)
        dealer = parts.dealer
        if not has(dealer, verbs=("_remove_invoke_request", "processYield"), tables=("_invocations",)):
            return False
        if not has(parts.router, verbs=("send",)):
            return False
        self._router, self._dealer = parts.router, dealer
        dealer.processYield = self._noting_progress(dealer.processYield)
        self._clock.callLater(self._most_s / _ROUNDS, self._again)
        return True

    def _noting_progress(self, verb: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        def process(session: Any, answer: Any) -> None:
            verb(session, answer)
            if answer.progress and answer.request in self._dealer._invocations:
                self._progress[answer.request] = self._clock.seconds()

        return process

    def _again(self) -> None:
        self._clock.callLater(self._most_s / _ROUNDS, self._again)
        waiting = self._dealer._invocations
        since_s = self._clock.seconds() - self._most_s
        over = 0
        while self._newest and self._newest[0][0] <= since_s:
            _, over = self._newest.popleft()
        self._progress = {number: at_s for number, at_s in self._progress.items() if number in waiting}
        for number, asked in list(waiting.items()) if over else ():
            if number > over:
                break
            if asked.callee._authrole in self._roles and self._progress.get(number, since_s) <= since_s:
                with self._turns.on_behalf_of(asked.callee._authid or ""):
                    self._turns.later(self._end, number)
        if waiting:
            self._newest.append((self._clock.seconds(), next(reversed(waiting))))

    def _end(self, number: int) -> None:
        asked = self._dealer._invocations.get(number)
        if asked is None:
            return
        extra = asked.registration.observers_extra.get(asked.callee)
        if extra is not None and extra.concurrency:
            # Of a callee that takes only so many at a time.
            extra.concurrency_current -= 1
        self._dealer._remove_invoke_request(asked)
        message = self._message
        if not asked.canceled or asked.error_msg is not None:
            sentence = (
                f"{asked.call.procedure} has not answered within {show_duration(self._most_s)} "
                "(limits.call_wait); it may have run, or run still"
            )
            self._tell(
                asked.caller,
                message.Error(message.Call.MESSAGE_TYPE, asked.call.request, OutcomeUnknown.uri, args=[sentence]),
            )
        roles = asked.callee._session_roles.get("callee") if asked.callee._session_roles else None
        if roles and roles.call_canceling and not asked.canceled:
            self._tell(asked.callee, message.Interrupt(number, message.Cancel.KILLNOWAIT))

    def _tell(self, session: Any, told: Any) -> None:
        try:
            self._router.send(session, told)
        except Exception:
            # Its socket closes just now, say; the other one is told all the same.
            log.failure("the end of a call that nobody answered could not be told")
