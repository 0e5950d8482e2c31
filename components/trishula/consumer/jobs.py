"""The handlers that run: which, for which message, since when; that they have begun is noted before.

A :class:`Job` is one run of a handler. :class:`Jobs` starts them, knows those that are not through in the turn in which
they began, and stops those whose message is cancelled. It knows nothing of acknowledging:
:mod:`trishula.consumer.dispatcher` does. Which of them the loop's thread is in, if it is in one, says
:meth:`Jobs.at_work` to whoever looks at that thread from outside (:mod:`trishula.consumer.loop_watch`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trishula import tracing
from trishula.consumer.handlers import Handler
from trishula.contract.addresses import agent_of
from trishula.contract.deliveries import CurrentDelivery, Delivery
from trishula.contract.message import Message
from trishula.contract.traces import trace_id_of
from trishula.errors import TrishulaError
from trishula.runtime.pending import Pending, rejected, resolved
from trishula.session.begun import Begun

if TYPE_CHECKING:
    # An agent without a file doesn't load SQLite.
    from trishula.consumer.gathered_memory import GatheredMemory

__all__ = ["Job", "Jobs", "Key", "described", "facts_of", "key_of", "log_fault", "told_of"]

_log = logging.getLogger("trishula")

#: A message as the agent knows it: the agent that sent it, and its id.
Key = tuple[str, str]


def key_of(message: Message) -> Key:
    """The key of a message."""
    return agent_of(message.sender or ""), message.id


def described(handler: Handler, message: Message | None) -> str:
    """A handler and the message that it was given, for people; without one it is a live call's."""
    if message is None:
        return f"{handler.name} (a live call)"
    return f"{handler.name} ({message.type} {message.id} from {message.sender})"


def told_of(error: BaseException, message: Message) -> str:
    """What the node is told of an error: of an encrypted message none of the words, which may repeat what is in it."""
    return type(error).__name__ if message.encrypted else f"{type(error).__name__}: {error}"


def log_fault(handler: Handler | None, error: BaseException | None, message: Message | None) -> None:
    """Log what a handler raised, if that is its fault; ``message`` as in :func:`described`."""
    # A TrishulaError is an answer; anything else is a fault in the handler, and its author needs the traceback.
    if error is not None and handler is not None and not isinstance(error, TrishulaError):
        _log.error("The handler %s failed", described(handler, message), exc_info=error, extra=facts_of(message))


def facts_of(message: Message | None) -> dict[str, str | None]:
    """What a line of the log says of the message that it is about, beside its sentence."""
    if message is None:
        return {}
    return {"message_id": message.id, "peer": message.sender, "trace_id": trace_id_of(message.traceparent)}


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A handler that runs.

    Attributes:
        outcome: what will come of it.
        handler: the handler.
        current: its delivery; ``None`` in a live call.
        note: where it is noted that it runs; 0 if nowhere.
        since_s: when it began, by the clock for spans.
    """

    outcome: Pending[Any]
    handler: Handler
    current: CurrentDelivery | None
    note: int
    since_s: float

    def __str__(self) -> str:
        return described(self.handler, None if self.current is None else self.current.message)


class Jobs:
    """See the module's docstring.

    Args:
        seconds: the clock for spans.
        extend: what ``working`` of a handler's delivery does.
        surface: what its ``surfaced`` does.
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        extend: Callable[[Message, float], Pending[Any]],
        surface: Callable[[Message], Pending[bool]],
    ) -> None:
        #: Where it is noted what has begun; ``None``: nowhere.
        self.begun: Begun | None = None
        self._seconds = seconds
        self._extend = extend
        self._surface = surface
        self._running: dict[Key, Job] = {}
        self._live: set[Job] = set()
        # The handler that the loop's thread has called and that has not come back, with its message.
        self._called: tuple[Handler, Message | None] | None = None
        # Those that were cancelled while they ran: nobody waits for what comes of them.
        self._cancelled: set[Key] = set()

    def start(
        self,
        handler: Handler,
        delivery: Delivery,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        at_once: bool = False,
    ) -> Any:
        """Have a handler begin; that it has is noted before, until it ends. Takes, returns and raises what it does."""
        message = delivery.message
        current = CurrentDelivery(delivery, self._extend, self._surface)
        begun = self.begun
        note = 0 if begun is None else begun.begin(message.sender or "", message.id)
        making = tracing.active()
        span = None if making is None else making.handling(message)
        if span is not None:
            current.traceparent = span.traceparent
        self._called = handler, message
        try:
            outcome = handler.start(current, args, kwargs, at_once)
        except Exception as error:
            self._note_end(note)
            if span is not None:
                span.end(error)
            raise
        finally:
            self._called = None
        if isinstance(outcome, Pending) and not outcome.done:
            self._running[key_of(message)] = Job(outcome, handler, current, note, self._seconds())
        else:
            self._note_end(note)
        if span is not None:
            span.end_with(outcome)
        return outcome

    def call(self, handler: Handler, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Have a handler begin that is called live: of that nothing is noted. Returns and raises what it does."""
        self._called = handler, None
        try:
            outcome = handler.start(None, args, kwargs)
        finally:
            self._called = None
        if isinstance(outcome, Pending) and not outcome.done:
            job = Job(outcome, handler, None, 0, self._seconds())
            self._live.add(job)
            outcome.when_done(lambda _: self._live.discard(job))
        return outcome

    def endpoint(self, handler: Handler) -> Callable[[Sequence[Any], Mapping[str, Any]], Pending[Any]]:
        """A procedure as live RPC."""

        def called(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Pending[Any]:
            try:
                outcome = self.call(handler, *handler.fit(args, kwargs))
            except Exception as error:
                log_fault(handler, error, None)
                return rejected(error)
            if not isinstance(outcome, Pending):
                return resolved(outcome)
            outcome.when_done(lambda pending: log_fault(handler, pending.error, None))
            return outcome

        return called

    def ended(self, message: Message, outcome: Pending[Any], gathered: GatheredMemory | None = None) -> bool:
        """A handler is through; whether anybody waits for what came of it.

        Args:
            message: its.
            outcome: what came of it.
            gathered: where it is remembered next, and which then has the note; ``None``: nobody needs the note.
        """
        key = key_of(message)
        job = self._running.pop(key, None)
        if job is not None and gathered is not None and key not in self._cancelled:
            gathered.ended(*key, job.note)
        elif job is not None:
            self._note_end(job.note)
        if key not in self._cancelled:
            return True
        self._cancelled.discard(key)
        # Asked for, so that it is no stray error.
        how = "was stopped" if isinstance(outcome.error, asyncio.CancelledError) else "came to its end all the same"
        what = "%s %s of %s was cancelled, and its handler %s"
        _log.info(what, message.type, message.id, message.sender, how, extra=facts_of(message))
        return False

    def recall(self, key: Key) -> bool:
        """A message is cancelled: stop its handler where it can be stopped. Whether one runs."""
        job = self._running.get(key)
        if job is None:
            return False
        self._cancelled.add(key)
        if job.current is not None:
            job.current.cancelled = True
        _stop(job)
        return True

    def stop_all(self) -> None:
        """Stop what can be stopped."""
        for job in list(self._running.values()):
            _stop(job)

    def told(self, *, in_threads: bool = False) -> str:
        """The handlers that run, each with its message and since when, for people; empty if none does.

        Args:
            in_threads: only those that run in a thread, and can't be stopped.
        """
        now_s = self._seconds()
        jobs = [job for job in self._running.values() if job.handler.is_threaded or not in_threads]
        return ", ".join(f"{job}, which runs since {now_s - job.since_s:.0f} s" for job in jobs)

    def at_work(self, task: object) -> str | None:
        """Which handler the loop's thread is in, for people; ``None`` if in none that is known. In any thread.

        Args:
            task: the asyncio task that the loop's thread is in; ``None`` if it is in none.
        """
        called = self._called
        if called is not None:
            return described(*called)
        if task is not None:
            for job in (*tuple(self._running.values()), *tuple(self._live)):
                if getattr(job.outcome, "task", None) is task:
                    return str(job)
        return None

    def _note_end(self, note: int) -> None:
        if note and self.begun is not None:
            self.begun.end(note)


def _stop(job: Job) -> None:
    if not job.handler.is_threaded:
        job.outcome.cancel()
