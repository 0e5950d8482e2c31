"""An agent's process: the loop that drives it, the signals that end it, and its log.

The loop is that of Twisted's asyncio reactor, so that handlers find ``twisted.internet.reactor`` running; in a process
that has another reactor already (after :func:`trishula.connect` it has) it is a plain asyncio loop.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from trishula.contract.texts import one_line
from trishula.errors import TrishulaError
from trishula.runtime.pending import Pending, start
from trishula.runtime.surroundings import use_monotonic_timers

__all__ = ["serve", "set_up_logging"]


def serve(
    begin: Callable[[], Coroutine[Any, Any, None]],
    end: Callable[[], Coroutine[Any, Any, None]],
    over: Callable[[], Pending[None]],
) -> None:
    """Run an agent until SIGTERM or SIGINT, or until it is over, in a loop of its own.

    Args:
        begin: joins.
        end: leaves.
        over: the end of the agent, once it has begun.

    Raises:
        TrishulaError: what it failed with, or a loop runs here already.
    """
    # Late: Twisted's reactors take their time.
    from trishula.runtime.loops import asyncio_reactor, loop_runs

    if loop_runs():
        raise TrishulaError(
            "agent.run() and agent.serve() run a loop of their own, and this code runs in one already: write "
            '"async with agent:" there, or await agent.start() and agent.stop()'
        )
    reactor = asyncio_reactor()
    if reactor is None:
        asyncio.run(_live(begin, end, over))
        return
    use_monotonic_timers(reactor, time.monotonic)
    failures: list[BaseException] = []
    leaving = False

    async def live() -> None:
        try:
            await begin()
            await over()
        except BaseException as error:
            # While we leave, a start that didn't succeed is no failure.
            if not leaving:
                failures.append(error)
        if not leaving:
            reactor.stop()

    def leave() -> Any:
        nonlocal leaving
        leaving = True
        return start(end()).deferred()

    reactor.addSystemEventTrigger("before", "shutdown", leave)
    # Not callWhenRunning: that comes before the asyncio loop runs.
    reactor.callLater(0, lambda: start(live()))
    reactor.run()
    if failures:
        raise failures[0]


async def _live(
    begin: Callable[[], Coroutine[Any, Any, None]],
    end: Callable[[], Coroutine[Any, Any, None]],
    over: Callable[[], Pending[None]],
) -> None:
    """Be there until a signal comes or the agent ends; see :meth:`serve`."""
    told = asyncio.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, told.set)

    async def live() -> None:
        await start(begin())
        await over()

    leaving = asyncio.create_task(told.wait())
    living = asyncio.create_task(live())
    await asyncio.wait([leaving, living], return_when=asyncio.FIRST_COMPLETED)
    leaving.cancel()
    if not living.done():
        living.cancel()
        await asyncio.wait([living])
        await start(end())
    elif (error := living.exception()) is not None:
        raise error


class _LineFormatter(logging.Formatter):
    """Keeps each message on its line: the errors of others are among them, who could forge lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = one_line(record.message)
        return super().formatMessage(record)


def set_up_logging() -> None:
    """Logs to stderr if the program has set up nothing else, and Twisted's own warnings to the same place."""
    from twisted.logger import (
        FilteringLogObserver,
        LogLevel,
        LogLevelFilterPredicate,
        STDLibLogObserver,
        globalLogBeginner,
    )

    # Twisted's interfaces are not types that mypy can check.
    observer: Any = STDLibLogObserver()
    if not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_LineFormatter("%(asctime)s %(levelname)s %(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[handler])
    # Autobahn reports each session's end as information, which we say in our own words.
    quiet: Any = LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)
    warnings: Any = FilteringLogObserver(observer, [quiet])
    globalLogBeginner.beginLoggingTo([warnings], discardBuffer=True, redirectStandardIO=False)
