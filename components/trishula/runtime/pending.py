"""Outcomes that come later, awaitable by everybody: asyncio tasks, Twisted's coroutines, plain callbacks.

Two worlds meet in an agent. Its shell is Twisted (Autobahn, the reactor), its handlers are written with asyncio. An
asyncio task can't await a Deferred and Twisted's driver can't await an asyncio future, so:

* :class:`Pending` is what every method of a client returns. Awaiting it works under either driver, any number of times;
  on the hot path nobody awaits at all, a callback costs one list append.
* :func:`start` drives our own coroutines (they await Pendings and Deferreds only), without an asyncio loop.
* :func:`run_handler` drives a user's coroutine: as an asyncio task where a loop runs, with a translation that lets the
  same coroutine await Deferreds too. (Only the handler's own coroutine: a task that it makes with
  ``asyncio.create_task`` may await Pendings and asyncio things, no Deferreds.)

All of it belongs to the reactor's thread.
"""

from __future__ import annotations

import asyncio
import logging
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, Generic, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from trishula.runtime.tasks import begin

__all__ = ["Pending", "Running", "of_deferred", "rejected", "resolved", "run_handler", "start", "stoppable"]

T = TypeVar("T")

_log = logging.getLogger("trishula")


class _Woken:
    """What an asyncio task gets instead of the future it waited on: only ``result()`` is asked of it."""

    __slots__ = ("_cancelled",)

    def __init__(self, cancelled: asyncio.CancelledError | None) -> None:
        self._cancelled = cancelled

    def result(self) -> None:
        if self._cancelled is not None:
            raise self._cancelled


_WOKEN = _Woken(None)


class _Waiter(Deferred[None]):
    """What ``await`` yields to its driver: a Deferred for Twisted's, and the protocol of a future for asyncio's.

    Which of the two drives can't be known beforehand (under the asyncio reactor both do, in one thread, even nested),
    so the object answers both. asyncio asks for ``_asyncio_future_blocking``, ``get_loop``, ``add_done_callback`` and
    ``cancel``, and calls ``result()`` on what its callback is given.
    """

    def __init__(self) -> None:
        super().__init__()
        self._asyncio_future_blocking = True
        self._task_step: tuple[Callable[[object], object], Context | None] | None = None

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def add_done_callback(self, callback: Callable[[object], object], *, context: Context | None = None) -> None:
        self._task_step = (callback, context)

    def wake(self, _: object = None) -> None:
        """Let the driver go on; safe to call when it was cancelled meanwhile."""
        if self._task_step is not None:
            self._step(_WOKEN)
        elif not self.called:
            self.callback(None)

    def cancel(self, msg: object = None) -> bool:  # type: ignore[override]  # asyncio wants a bool and passes msg
        if self._task_step is not None:
            # By the message a library such as anyio knows its own cancellation from somebody else's.
            self._step(_Woken(asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)))
            return True
        super().cancel()
        return False

    def _step(self, woken: _Woken) -> None:
        assert self._task_step is not None
        callback, context = self._task_step
        self._task_step = (_ignore, None)
        if callback is not _ignore:
            # Never at once: we may be inside another task's step, and asyncio refuses to enter one task from another.
            asyncio.get_running_loop().call_soon(callback, woken, context=context)


def _ignore(_: object) -> None:
    """The step of a task that has been woken already."""


class Pending(Generic[T]):
    """An outcome that comes later: a value or an error, once.

    An error that nobody ever asked for is logged when the object goes: a fire-and-forget ``send`` is not lost silently.
    """

    __slots__ = ("_asked", "_callbacks", "_error", "_value", "done")

    def __init__(self) -> None:
        self.done = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Pending[T]], object]] | None = None
        self._asked = False

    def resolve(self, value: T) -> None:
        """The outcome is a value. Later outcomes of the same object are ignored: it may have timed out before."""
        if not self.done:
            self.done = True
            self._value = value
            self._fire()

    def reject(self, error: BaseException) -> None:
        """The outcome is an error."""
        if not self.done:
            self.done = True
            self._error = error
            self._fire()

    def settle(self, outcome: T | BaseException) -> None:
        """The outcome is whichever of the two it is."""
        if isinstance(outcome, BaseException):
            self.reject(outcome)
        else:
            self.resolve(outcome)

    def _fire(self) -> None:
        callbacks, self._callbacks = self._callbacks, None
        if callbacks is not None:
            for callback in callbacks:
                callback(self)

    def when_done(self, callback: Callable[[Pending[T]], object]) -> None:
        """Call ``callback`` with this object when its outcome is there, at once if it already is."""
        if self.done:
            callback(self)
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    @property
    def error(self) -> BaseException | None:
        """The error, or ``None`` if it is a value or not there yet."""
        self._asked = True
        return self._error

    def result(self) -> T:
        """The value; raises the error."""
        assert self.done, "the outcome is not there yet"
        self._asked = True
        if self._error is not None:
            raise self._error
        return cast(T, self._value)

    def cancel(self) -> None:
        """Stop the work behind it, where it can be stopped: a running handler, and a question that waits for an answer.

        As with asyncio's futures, who is cancelled while it awaits an outcome cancels what it awaits.
        """

    def __await__(self) -> Generator[Any, None, T]:
        if not self.done:
            waiter = _Waiter()
            self.when_done(waiter.wake)
            try:
                yield waiter
            except (CancelledError, asyncio.CancelledError):
                # What comes of it now is nobody's.
                self._asked = True
                self.cancel()
                raise
        return self.result()

    def deferred(self) -> Deferred[T]:
        """The same outcome as a Deferred, for code that is written with callbacks or ``inlineCallbacks``."""
        deferred: Deferred[T] = Deferred(lambda _: self.cancel())

        def fire(pending: Pending[T]) -> None:
            error = pending.error
            if deferred.called:
                return
            if error is None:
                deferred.callback(cast(T, pending._value))
            else:
                deferred.errback(error)

        self.when_done(fire)
        return deferred

    def __del__(self) -> None:
        if self._error is not None and not self._asked:
            _log.error("Nobody asked for this outcome: %s: %s", type(self._error).__name__, self._error)


def resolved(value: T) -> Pending[T]:
    """A Pending whose value is there already."""
    pending: Pending[T] = Pending()
    pending.resolve(value)
    return pending


def rejected(error: BaseException) -> Pending[Any]:
    """A Pending whose error is there already."""
    pending: Pending[Any] = Pending()
    pending.reject(error)
    return pending


def start(coroutine: Coroutine[Any, Any, T]) -> Pending[T]:
    """Run one of our own coroutines; it begins at once, awaits Pendings and Deferreds only, and can be cancelled."""
    return stoppable(Deferred.fromCoroutine(coroutine))


def of_deferred(deferred: Deferred[T]) -> Pending[T]:
    """A Deferred's outcome as a Pending; the Deferred is used up."""
    pending: Pending[T] = Pending()
    deferred.addCallbacks(pending.resolve, lambda failure: pending.reject(failure.value))
    return pending


def run_handler(coroutine: Coroutine[Any, Any, T], at_once: bool = False) -> Pending[T]:
    """Run a user's coroutine: an asyncio task where an asyncio loop runs, else under Twisted's driver.

    Args:
        coroutine: what to run.
        at_once: have the task begin here, and not in a later turn of the loop (:mod:`.tasks` says who may do that).
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return stoppable(Deferred.fromCoroutine(coroutine))
    pending: Running[T] = Running()
    pending.task = task = (begin if at_once else _begin_later)(loop, _translated(coroutine))
    if task.done() and not _ends_program(task):
        pending.task_done(task)
    else:
        task.add_done_callback(pending.task_done)
    return pending


def _begin_later(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    return loop.create_task(coroutine)


def _ends_program(task: asyncio.Task[Any]) -> bool:
    """Whether the loop ends with it; then nothing more is done of what hangs on the task."""
    return not task.cancelled() and isinstance(task.exception(), SystemExit | KeyboardInterrupt)


def stoppable(deferred: Deferred[T]) -> Pending[T]:
    """A Deferred's outcome as a Pending; to cancel that cancels the Deferred."""
    return _Stoppable(deferred)


class _Stoppable(Pending[T]):
    """See :func:`stoppable`."""

    __slots__ = ("_deferred",)

    def __init__(self, deferred: Deferred[T]) -> None:
        super().__init__()
        self._deferred = deferred
        deferred.addCallbacks(self.resolve, self._failed)

    def _failed(self, failure: Failure) -> None:
        if isinstance(failure.value, CancelledError):
            # One word for it, whichever driver.
            self.reject(asyncio.CancelledError("it was cancelled"))
        else:
            self.reject(failure.value or RuntimeError("a failure without an error"))

    def cancel(self) -> None:
        self._deferred.cancel()


class Running(Pending[T]):
    """The outcome of an asyncio task; the reference keeps the task alive, for asyncio itself holds none."""

    __slots__ = ("task",)
    task: asyncio.Task[T]

    def cancel(self) -> None:
        self.task.cancel()

    def task_done(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.reject(asyncio.CancelledError("the handler was cancelled"))
        elif (error := task.exception()) is not None:
            self.reject(error)
        else:
            self.resolve(task.result())


@types.coroutine
def _translate(coroutine: Coroutine[Any, Any, T]) -> Generator[Any, None, T]:
    """Drive ``coroutine`` inside an asyncio task; each Deferred it awaits becomes something asyncio can wait on."""
    error: BaseException | None = None
    while True:
        try:
            wanted = coroutine.send(None) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            return cast(T, stop.value)
        error = None
        foreign: Deferred[Any] | None = None
        if isinstance(wanted, Deferred) and not isinstance(wanted, _Waiter):
            foreign = wanted
            waiter = _Waiter()

            def passed(result: object, waiter: _Waiter = waiter) -> object:
                waiter.wake()
                # The Deferred keeps its result: whoever awaits it takes it from there.
                return result

            foreign.addBoth(passed)
            wanted = waiter
        try:
            yield wanted
        except BaseException as thrown:
            # asyncio cancels through here, and it is the coroutine that has to hear of it.
            error = thrown
            if foreign is not None:
                foreign.addErrback(lambda _: None)
                foreign.cancel()


async def _translated(coroutine: Coroutine[Any, Any, T]) -> T:
    return cast(T, await _translate(coroutine))
