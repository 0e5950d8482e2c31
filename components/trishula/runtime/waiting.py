"""Waiting for an outcome, but only so long."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, TypeVar

from trishula.runtime.pending import Pending, start
from trishula.runtime.surroundings import Clock

__all__ = ["ended_within", "from_thread", "sleep", "within"]

T = TypeVar("T")


def within(clock: Clock, pending: Pending[T], timeout_s: float | None, late: Callable[[], BaseException]) -> Pending[T]:
    """The same outcome, or the error ``late()`` if it doesn't come in time."""
    if timeout_s is None or pending.done:
        return pending
    outcome: Pending[T] = Pending()
    timer = clock.callLater(max(timeout_s, 0.0), lambda: outcome.reject(late()))

    def done(pending: Pending[T]) -> None:
        if timer.active():
            timer.cancel()
        error = pending.error
        if error is None:
            outcome.resolve(pending.result())
        elif not outcome.done:
            outcome.reject(error)

    pending.when_done(done)
    return outcome


async def ended_within(clock: Clock, pending: Pending[Any], timeout_s: float) -> bool:
    """Wait for an outcome, whatever it is, but only so long; whether it came."""
    ended: Pending[None] = Pending()
    pending.when_done(lambda _: ended.resolve(None))
    with contextlib.suppress(_Late):
        await within(clock, ended, timeout_s, _Late)
    return pending.done


def sleep(clock: Clock, seconds: float) -> Pending[None]:
    """Wait."""
    pending: Pending[None] = Pending()
    clock.callLater(seconds, pending.resolve, None)
    return pending


class _Late(Exception):
    """The time is over; never seen outside of this module."""


def from_thread(reactor: Any, work: Callable[[], Awaitable[T]]) -> T:
    """Have the reactor's thread begin something, and wait in this thread for what comes of it.

    What is sent there goes out on account of the message that this thread handles, if it does.
    """
    # Late: a program without an agent never needs Twisted's threads.
    from twisted.internet.threads import blockingCallFromThread

    async def run() -> T:
        return await work()

    def begin() -> Any:
        return start(run()).deferred()

    outcome: T = blockingCallFromThread(reactor, copy_context().run, begin)
    return outcome
