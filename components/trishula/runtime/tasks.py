"""asyncio tasks whose first step is made where they are started, and not in a later turn of the loop.

A handler that is ``async def`` and awaits nothing is through with its first step. Begun in a later turn, and heard of
in the one after, such a handler costs its agent two turns for each message, with a transaction and a call of its own:
messages of one sender, which wait for each other, came through at a tenth of the rate of a plain function.

Nobody may begin a task here in the turn in which its message came: what was awaited when the message came goes on
first, in a turn that asyncio has scheduled by then. So whoever begins a task here does that from :func:`soon`, and
begins none that came after :func:`soon` was called (:mod:`trishula.consumer.lanes`).

A task asks its loop for its first step when it is made; that step is taken from it there, and made at once. (From
Python 3.12 on asyncio has ``eager_start``. While 3.11 is in use too, one way for all is better tried than two.) Where
that can't be, a task begins as asyncio's do: in a loop that is not Python's own, and inside of another task, which
asyncio doesn't let be interrupted by a second one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

__all__ = ["begin", "soon"]

T = TypeVar("T")


def soon(callback: Callable[[], object], context: Context) -> None:
    """Call it in a later turn of the asyncio loop that runs here, behind all that is ready now."""
    asyncio.get_running_loop().call_soon(callback, context=context)


def begin(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task of the loop that runs here; its first step has been made, where that can be.

    Whether the task has come to its end with that, :meth:`asyncio.Task.done` tells.
    """
    if "call_soon" in getattr(loop, "__dict__", ()) or asyncio.current_task(loop) is not None:
        return loop.create_task(coroutine)
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
