"""A user's function as a handler: plain, blocking in a thread, returning a Deferred, or ``async def``.

===========================  ====================================================================================
plain ``def``                runs in the reactor's thread; it must not block, for nothing else runs meanwhile
``def``, ``thread=True``     runs in a thread of a pool; it may block, and must not touch the agent but through
                             :meth:`trishula.agent.Agent.from_thread`. It can't be stopped; it may ask
                             ``current_delivery().cancelled``
``def`` -> Deferred          its result counts
``async def``                an asyncio task where an asyncio loop runs (under ``agent.run()`` it does); it may await
                             asyncio things, the agent's methods, and Deferreds
===========================  ====================================================================================
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from types import CoroutineType
from typing import Any

from twisted.internet.defer import Deferred

from trishula.consumer.signatures import Signature
from trishula.contract.deliveries import CurrentDelivery, running
from trishula.contract.message import Message
from trishula.runtime.pending import Pending, run_handler, stoppable

__all__ = ["LATER", "Handler"]


class _Later:
    """The type of :data:`LATER` alone."""

    def __repr__(self) -> str:
        return "LATER"


#: What a handler of COMMANDs returns that has handed one on: the COMMAND is done, and no RESULT is sent now. Whoever
#: got it answers later, by a RESULT or ERROR of this agent with ``reply_to``; until then its caller waits.
LATER = _Later()


class Handler:
    """A function and how to run it.

    Attributes:
        name: how errors call it.
        ordered: whether messages of one sender are given to it one after the other.
        requires_signature: whether it takes only messages that are signed by their senders.
    """

    __slots__ = ("_function", "_signature", "_thread", "name", "ordered", "requires_signature")

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        thread: bool = False,
        ordered: bool = True,
        requires_signature: bool = False,
    ) -> None:
        if thread and inspect.iscoroutinefunction(function):
            raise ValueError(f"{name} is async: it can't run in a thread, and need not")
        self.name = name
        self.ordered = ordered
        self.requires_signature = requires_signature
        self._function = function
        self._thread = thread
        self._signature = Signature(function, name)

    def fit(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The arguments of a call as the function wants them; errors as :meth:`.signatures.Signature.fit`."""
        return self._signature.fit(args, kwargs)

    def fit_message(self, message: Message) -> Sequence[Any]:
        """The arguments of a handler of messages; errors as :meth:`.signatures.Signature.fit_message`."""
        return self._signature.fit_message(message)

    @property
    def is_threaded(self) -> bool:
        """Whether it runs in a thread, so that it can't be stopped."""
        return self._thread

    def __str__(self) -> str:
        return str(self._signature)

    def start(
        self,
        delivery: CurrentDelivery | None,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        at_once: bool = False,
    ) -> Any:
        """Run the function; returns its value, or a :class:`Pending` if that comes later. Raises what it raises.

        ``at_once`` is for ``async def``, and as :func:`~trishula.runtime.pending.run_handler` takes it.
        """
        token = running.set(delivery)
        try:
            if self._thread:
                return self._start_in_thread(args, kwargs)
            outcome = self._function(*args, **kwargs)
            # The common cases first: nothing, or a plain value, at the cost of three comparisons.
            if outcome is None or isinstance(outcome, Pending):
                return outcome
            if isinstance(outcome, CoroutineType):
                return run_handler(outcome, at_once)
            if isinstance(outcome, Deferred):
                return stoppable(outcome)
            if inspect.isawaitable(outcome):
                return run_handler(_wait_for(outcome))
            return outcome
        finally:
            running.reset(token)

    def _start_in_thread(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Pending[Any]:
        # Late: Twisted's reactors take their time, and a script has no handlers.
        from trishula.runtime.loops import in_thread, reactor_here

        return in_thread(reactor_here(), partial(copy_context().run, self._function, *args, **kwargs))


def _wait_for(awaitable: Awaitable[Any]) -> Coroutine[Any, Any, Any]:
    async def wait() -> Any:
        return await awaitable

    return wait()
