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
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from trishula.consumer.jobs import facts_of
from trishula.contract.deliveries import running
from trishula.contract.texts import one_line
from trishula.errors import TrishulaError
from trishula.log_lines import FIELDS, chosen, goes_to_journal, json_line, prioritized, traceback_lines
from trishula.runtime.pending import Pending, start
from trishula.runtime.surroundings import use_monotonic_timers

__all__ = ["log_handler", "serve", "set_up_logging"]


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


class _TextFormatter(logging.Formatter):
    """Keeps each message on its line: the errors of others are among them, who could forge lines."""

    def __init__(self, *, is_journal: bool) -> None:
        # The journal has its own clock.
        super().__init__("%(levelname)s %(message)s" if is_journal else "%(asctime)s %(levelname)s %(message)s")
        self._is_journal = is_journal

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return prioritized(text, record.levelname.lower()) if self._is_journal else text

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = one_line(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return "\n".join(traceback_lines(super().formatException(ei)))


class _JsonFormatter(logging.Formatter):
    """Lines of JSON: what a handler logs names the message that it handles."""

    def __init__(self, agent: str) -> None:
        super().__init__()
        self._agent = agent

    def format(self, record: logging.LogRecord) -> str:
        current = running.get()
        fields: dict[str, Any] = {"agent": self._agent, **facts_of(None if current is None else current.message)}
        # What is said of a message after its handler says so itself.
        fields |= {name: vars(record)[name] for name in FIELDS if vars(record).get(name) is not None}
        return json_line(
            record.created,
            record.levelname.lower(),
            record.name,
            record.getMessage(),
            event=record.msg if isinstance(record.msg, str) else None,
            fields=fields,
            traceback=None if not record.exc_info else self.formatException(record.exc_info),
        )


def log_handler(agent: str, environ: Mapping[str, str]) -> logging.Handler:
    """What writes an agent's log to stderr; arguments and errors as of :func:`set_up_logging`."""
    form, level = chosen(environ, "info")
    handler = logging.StreamHandler()
    handler.setLevel(level.upper())
    is_journal = goes_to_journal(environ, 2)
    handler.setFormatter(_JsonFormatter(agent) if form == "json" else _TextFormatter(is_journal=is_journal))
    return handler


def set_up_logging(agent: str, environ: Mapping[str, str]) -> None:
    """Logs to stderr if the program has set up nothing else, and Twisted's own warnings to the same place.

    Args:
        agent: whose log it is.
        environ: says in which form, and from which level on: see :mod:`trishula.log_lines`.

    Raises:
        LogOptionInvalid: the environment asks for what there is not.
    """
    from twisted.logger import (
        FilteringLogObserver,
        LogLevel,
        LogLevelFilterPredicate,
        STDLibLogObserver,
        globalLogBeginner,
    )

    handler = log_handler(agent, environ)
    # Twisted's interfaces are not types that mypy can check.
    observer: Any = STDLibLogObserver()
    if not logging.getLogger().handlers:
        logging.basicConfig(level=handler.level, handlers=[handler])
    # Autobahn reports each session's end as information, which we say in our own words.
    quiet: Any = LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)
    warnings: Any = FilteringLogObserver(observer, [quiet])
    globalLogBeginner.beginLoggingTo([warnings], discardBuffer=True, redirectStandardIO=False)
