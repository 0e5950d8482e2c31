"""asyncio tasks that begin at once: their first step is made where they are started, not in a later turn of the loop.

A handler that is ``async def`` and awaits nothing is through with its first step. Begun in a later turn, and heard of
in the one after, it costs its agent two turns for each message, with a transaction and a call of its own; messages of
one sender, which wait for each other, came through at a tenth of the rate of a plain function.

A task asks its loop for its first step when it is made; that step is taken from it there, and made at once. (From
Python 3.12 on asyncio has ``eager_start``. While 3.11 is in use too, one way for all is better tried than two.) Where
that can't be, a task begins as asyncio's do: in a loop that is not Python's own, and inside of another task, which
asyncio doesn't let be interrupted by a second one.

Many tasks at once must not keep the loop from everything else: those that are started in one turn get :data:`TURN_S`
together, and the next ones begin in later turns. So a slow handler holds the loop once a turn, as ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

__all__ = ["TURN_S", "begin"]

T = TypeVar("T")

#: How long the first steps of one turn may take together, in seconds, before the next one waits for its turn.
TURN_S = 0.005

#: Until when, in each loop, first steps of the present turn are made at once.
_until_s: dict[asyncio.AbstractEventLoop, float] = {}


def begin(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task of the loop that runs here; its first step has been made, where that can be.

    Whether it has come to its end with that, :meth:`asyncio.Task.done` tells.
    """
    if "call_soon" in getattr(loop, "__dict__", ()) or asyncio.current_task(loop) is not None or not _has_time(loop):
        return loop.create_task(coroutine)
    return _begun(loop, coroutine)


def _has_time(loop: asyncio.AbstractEventLoop) -> bool:
    now_s = loop.time()
    until_s = _until_s.get(loop)
    if until_s is None:
        _until_s[loop] = now_s + TURN_S
        # The next turn has time of its own.
        loop.call_soon(_until_s.pop, loop)
        return True
    return now_s < until_s


def _begun(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    steps: list[tuple[Callable[..., object], tuple[Any, ...], Context | None]] = []

    def take(callback: Callable[..., object], *args: Any, context: Context | None = None) -> None:
        steps.append((callback, args, context))

    try:
        # In place of the method, in this object alone, while the task is made: it calls nothing else.
        loop.call_soon = take  # type: ignore[method-assign, assignment]
    except AttributeError:
        # A loop in C, such as uvloop's, lets nobody do that.
        return loop.create_task(coroutine)
    try:
        task = asyncio.Task(coroutine, loop=loop)
    finally:
        del loop.call_soon
    for callback, args, context in steps:
        try:
            if context is None:
                callback(*args)
            else:
                context.run(callback, *args)
        except (SystemExit, KeyboardInterrupt) as error:
            # It ends the program, as from a step that the loop makes; whoever called us might take it for a fault.
            loop.call_soon(_end_with, error)
    return task


def _end_with(error: BaseException) -> None:
    raise error
