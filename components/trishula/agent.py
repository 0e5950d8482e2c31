"""An agent: a named member of the bus with handlers.

::

    from trishula import Agent
    agent = Agent("agni", capabilities=["deploy", "host"])

    @agent.procedure()                      # live RPC, and COMMANDs that name it
    async def host_report(disk: str = "/") -> dict: ...

    @agent.on("STATUS")
    async def heard(message): ...

    agent.run()                             # TRISHULA_URL, TRISHULA_TOKEN or a profile file

Handlers may be plain functions, return Deferreds, or be ``async def`` that awaits asyncio libraries: agents run on
Twisted's asyncio reactor, which :meth:`Agent.run` installs (:mod:`trishula.consumer.handlers` has the kinds). When a
message is acknowledged, what runs at the same time, and what a crash leads to stands in
:mod:`trishula.consumer.dispatcher`.

``send``, ``call`` and the other verbs are those of :class:`trishula.client.Client`. They belong to the reactor's
thread; a blocking handler in a thread of its own uses :meth:`Agent.from_thread`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, TypeVar, Unpack

from trishula.client import DEFAULT_HEARTBEAT_S, DEFAULT_WINDOW, Client
from trishula.consumer.agent_state import Keeping
from trishula.consumer.dispatcher import Dispatcher
from trishula.consumer.handlers import Handler
from trishula.consumer.routes import Routes, SubjectPattern
from trishula.contract.addresses import AGENT_RULE, is_agent_name
from trishula.contract.message import MailType
from trishula.contract.texts import one_line
from trishula.contract.uris import procedure_of
from trishula.errors import TrishulaError
from trishula.messaging.outbox import Receipt
from trishula.runtime.clock import SteadyClock
from trishula.runtime.forks import check_process
from trishula.runtime.pending import Pending, start
from trishula.runtime.surroundings import Surroundings, real, use_monotonic_timers
from trishula.send_options import SendOptions
from trishula.session.transport import Connection
from trishula.settings import Settings, load

__all__ = ["Agent"]

_log = logging.getLogger("trishula")

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

#: What a handler may still take when the agent is told to leave; a service manager kills after 10 s or more.
_GRACE_S = 5.0
#: For the last replies and acks.
_DRAIN_S = 2.0
#: How often to say that no node can be reached.
_COMPLAIN_EVERY_S = 30.0


class Agent:
    """See the module's docstring.

    Args:
        name: the agent's name; its token must be of that name.
        capabilities: words by which others find it (``directory.find``).
        window: how many messages may be in its hands at a time.
        heartbeat_s: how often it tells the directory that it lives.
        url, token, profile, ca_file, proxy: as for :func:`trishula.settings.load`.
        state: the directory for its file (``<state>/<name>/agent.sqlite``): what it has not sent yet, and what it has
            handled; ``False`` to remember that only as long as the process lives. See
            :mod:`trishula.consumer.agent_state`.
    """

    def __init__(
        self,
        name: str,
        *,
        capabilities: Iterable[str] = (),
        window: int = DEFAULT_WINDOW,
        heartbeat_s: float = DEFAULT_HEARTBEAT_S,
        url: str | Sequence[str] | None = None,
        token: str | None = None,
        profile: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        proxy: str | None = None,
        state: str | os.PathLike[str] | bool | None = None,
    ) -> None:
        if not is_agent_name(name):
            raise ValueError(f"{name!r} can't be an agent's name: it is {AGENT_RULE}")
        self.name = name
        self.capabilities = tuple(capabilities)
        self._window = window
        self._heartbeat_s = heartbeat_s
        self._load = partial(load, url=url, agent=name, token=token, profile=profile, ca_file=ca_file, proxy=proxy)
        self._state = state
        self._routes = Routes(name)
        self._topics: list[tuple[str, Callable[..., object]]] = []
        self._on_start: list[Handler] = []
        self._client: Client | None = None
        self._dispatcher: Dispatcher | None = None
        self._keeping: Keeping | None = None
        self._over: Pending[None] = Pending()
        self._complained_at_s: float | None = None
        self._now_ms: Callable[[], int] = int
        # What drives it once it has started, and in which process.
        self._reactor: Any = None
        self._pid = 0

    # -- what it does --------------------------------------------------------------------------------------------------

    def procedure(self, name: str | None = None, *, thread: bool = False) -> Callable[[F], F]:
        """Offer a function as a procedure: by live RPC, and by COMMANDs that name it.

        Its return value must be JSON and becomes the RESULT; what it raises becomes the ERROR.

        Args:
            name: if not the function's own.
            thread: run it in a thread, because it blocks.
        """

        def decorate(function: F) -> F:
            self.add_procedure(function, name=name, thread=thread)
            return function

        return decorate

    def add_procedure(self, function: Callable[..., Any], *, name: str | None = None, thread: bool = False) -> None:
        """:meth:`procedure` without the decorator."""
        chosen = name or function.__name__
        procedure_of(self.name, chosen)
        if chosen in self._routes.procedures:
            raise ValueError(f"{self.name} has a procedure {chosen} already")
        if self._client is not None:
            raise RuntimeError(f"{self.name} runs already; procedures are added before")
        self._routes.procedures[chosen] = Handler(function, name=chosen, thread=thread)

    def on(
        self, *types: MailType, subject: str | None = None, thread: bool = False, ordered: bool = True
    ) -> Callable[[F], F]:
        """Handle messages of these types; the function takes the :class:`~trishula.contract.message.Message`.

        If it raises, the message is given back and delivered again; when it returns, the message is done. For COMMAND
        it gets those whose procedure is none of ours, and its return value is the RESULT.

        Handlers with a ``subject`` are tried first, in the order in which they are declared; what fits none of them
        goes to the handler of the type without one (:mod:`trishula.consumer.routes`).

        Args:
            types: STATUS, RESULT, ERROR, COMMAND.
            subject: only messages whose subject fits this pattern, in which ``*`` stands for any run of characters:
                ``"deploy.*"``.
            thread: run it in a thread, because it blocks.
            ordered: one message of a sender at a time, in order; ``False`` to begin with each as it comes.

        Raises:
            ValueError: there is no such type, the pattern is none, or another handler takes all of it.
        """
        pattern = None if subject is None else SubjectPattern(subject)
        self._routes.check(types, pattern)

        def decorate(function: F) -> F:
            self._routes.add(types, pattern, Handler(function, name=function.__name__, thread=thread, ordered=ordered))
            return function

        return decorate

    def on_start(self, function: F) -> F:
        """Run a function without arguments once, when the agent has joined for the first time."""
        self._on_start.append(Handler(function, name=function.__name__))
        return function

    # -- verbs ---------------------------------------------------------------------------------------------------------

    @property
    def client(self) -> Client:
        """The client beneath.

        Raises:
            RuntimeError: the agent doesn't run.
        """
        if self._client is None:
            raise RuntimeError(f"{self.name} doesn't run: use its verbs in its handlers, or after start()")
        return self._client

    def send(
        self, to: str, *, type: MailType = "STATUS", payload: object = None, **options: Unpack[SendOptions]
    ) -> Pending[Receipt]:
        """Send a message; see :meth:`trishula.client.Client.send`."""
        return self.client.send(to, type=type, payload=payload, **options)

    def send_many(
        self, messages: Iterable[Mapping[str, Any]], *, copies: int | None = None, timeout_s: float | None = None
    ) -> Pending[list[Receipt]]:
        """Send many messages at once; see :meth:`trishula.client.Client.send_many`."""
        return self.client.send_many(messages, copies=copies, timeout_s=timeout_s)

    def broadcast(
        self, *, type: MailType = "STATUS", payload: object = None, **options: Unpack[SendOptions]
    ) -> Pending[Receipt]:
        """Send to every registered agent but this one."""
        return self.client.broadcast(type=type, payload=payload, **options)

    def call(self, agent: str, procedure: str, *args: Any, timeout: float = 10.0, **kwargs: Any) -> Pending[Any]:
        """Run another agent's procedure by a durable COMMAND; see :meth:`trishula.client.Client.call`."""
        return self.client.call(agent, procedure, *args, timeout=timeout, **kwargs)

    def cancel(self, *ids: str) -> Pending[list[bool]]:
        """Cancel messages that this agent sent; see :meth:`trishula.client.Client.cancel`."""
        return self.client.cancel(*ids)

    def rpc(self, agent: str, procedure: str, *args: Any, timeout: float = 10.0, **kwargs: Any) -> Pending[Any]:
        """Call another agent's procedure live; see :meth:`trishula.client.Client.rpc`."""
        return self.client.rpc(agent, procedure, *args, timeout=timeout, **kwargs)

    def request(self, uri: str, *args: Any, timeout_s: float = 10.0) -> Pending[Any]:
        """Ask the node; see :meth:`trishula.client.Client.request`."""
        return self.client.request(uri, *args, timeout_s=timeout_s)

    def publish(self, topic_name: str, *args: Any) -> Pending[None]:
        """Publish on this agent's own topic; see :meth:`trishula.client.Client.publish`."""
        return self.client.publish(topic_name, *args)

    def busy(
        self,
        *,
        for_s: float | None = None,
        until: datetime | None = None,
        progress: str | None = None,
        load: float | None = None,
    ) -> None:
        """Tell the directory that this agent is busy: at once, and with each beat until it is over.

        An agent that said until when is not called stale before that. It goes on taking messages. The word has left
        this process on return, also if the handler blocks its loop next.

        Args:
            for_s: how long from now; or
            until: until when; without both: until :meth:`idle`, or the next :meth:`busy`.
            progress: how far it is, in words.
            load: how much it has to do, in a measure of its own; less loaded agents come first where several could do.

        Raises:
            ArgumentInvalid: ``progress`` is not one line of 1 to 1000 characters.
        """
        now_ms = self._now_ms()
        until_ms = None
        if for_s is not None:
            until_ms = now_ms + round(for_s * 1000)
        elif until is not None:
            until_ms = round(until.timestamp() * 1000)
        self.client.activity.busy(until_ms, progress, load)
        self.client.beat_soon()

    def idle(self, *, load: float | None = None) -> None:
        """Tell the directory that it is over, or how much there is to do without being busy."""
        self.client.activity.idle(load)
        self.client.beat_soon()

    def subscribe(self, topic: str, on_event: Callable[..., object]) -> None:
        """Receive a topic's events; before the start or while it runs."""
        if self._client is None:
            self._topics.append((topic, on_event))
        else:
            self._client.subscribe(topic, on_event)

    def from_thread(self, verb: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        """In a blocking handler's thread: ``agent.from_thread(agent.send, "dc", payload=…)``, and wait for it."""
        from twisted.internet.threads import blockingCallFromThread

        reactor = self._reactor
        check_process(self._pid)

        async def run() -> T:
            return await verb(*args, **kwargs)

        def begin() -> Any:
            return start(run()).deferred()

        outcome: T = blockingCallFromThread(reactor, begin)
        return outcome

    # -- life ----------------------------------------------------------------------------------------------------------

    async def start(
        self,
        settings: Settings | None = None,
        *,
        around: Surroundings | None = None,
        connection: Connection | None = None,
        timeout_s: float | None = None,
        state: str | os.PathLike[str] | None = None,
    ) -> None:
        """Join and begin to take messages, in a loop or reactor that runs; :meth:`run` is this and the loop.

        In an asyncio program ``async with agent:`` is this and :meth:`stop`. ``state`` is where the agent's file is
        this time; an agent that keeps none keeps none here either.

        Raises:
            TrishulaError: the settings are wrong, the node refuses us, or none could be joined within ``timeout_s``; or
                neither a loop nor a reactor runs here.
        """
        if self._client is not None:
            raise RuntimeError(f"{self.name} runs already")
        if settings is None:
            settings = self._load()
        around = around or real()
        around.check_driven()
        self._now_ms = around.now_ms
        self._reactor, self._pid = around.clock, os.getpid()
        self._over = Pending()
        keeping = Keeping(settings, self._state if state is None or self._state is False else state, around)
        client = Client(settings, around=around, connection=connection, observer=self)
        # A step of the wall clock would have it forget what it has handled.
        steady_ms = SteadyClock(around.now_ms, lambda: around.clock.seconds() * 1000, lambda _: None)
        dispatcher = Dispatcher(client, self._routes, around.clock, steady_ms)
        for name, handler in self._routes.procedures.items():
            client.register(name, dispatcher.endpoint(handler))
        for topic, on_event in self._topics:
            client.subscribe(topic, on_event)
        client.attach(
            dispatcher.take,
            capabilities=self.capabilities,
            window=self._window,
            heartbeat_s=self._heartbeat_s,
            on_cancelled=dispatcher.recalled,
        )
        self._client, self._dispatcher, self._keeping = client, dispatcher, keeping
        try:
            keeping.begin(client, dispatcher)
            await client.start(timeout_s)
            await keeping.joined(client, dispatcher)
            if client.end is not None:
                raise client.end
        except BaseException:
            if self._client is client:
                self._client = self._dispatcher = self._keeping = None
            await client.stop()
            await keeping.close()
            # What ended the agent is raised here, so that nobody need ask for it there.
            _ = self._over.error
            raise
        dispatcher.watch(self.name, around.ask_loop)
        for handler in self._on_start:
            outcome = handler.start(None, (), {})
            if isinstance(outcome, Pending):
                outcome.when_done(partial(_log_failure, handler.name))

    async def __aenter__(self) -> Agent:
        await start(self.start())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await start(self.stop())

    async def stop(self, grace_s: float = _GRACE_S) -> None:
        """Leave: let handlers finish for so long, give back what is not through, say goodbye."""
        client, dispatcher = self._client, self._dispatcher
        if client is None or dispatcher is None:
            return
        self._client = None
        idle = dispatcher.stop()
        if client.is_ready:
            if running := dispatcher.running():
                _log.info("%s leaves, and waits up to %g s for %s", self.name, grace_s, running)
            await client.wait(idle, grace_s)
            dispatcher.give_up()
            if running := dispatcher.running(in_threads=True):
                _log.warning(
                    "%s has given back what was not through, and can't stop what runs in a thread; its process ends "
                    "when these are through, or is killed: %s",
                    self.name,
                    running,
                )
            await client.drained(_DRAIN_S)
        else:
            dispatcher.give_up()
        self._dispatcher = None
        await client.stop()
        await self._close_file()
        if not self._over.done:
            self._over.resolve(None)

    def vanish(self) -> None:
        """Be gone as a killed process is: the node is told nothing, and what is not in the agent's file yet is lost.

        :mod:`trishula.testing` plays a crash by this, and ends the agent's session and its timers itself. Handlers are
        cancelled where they can be; one in a thread comes to its end, and nobody hears of that.
        """
        dispatcher, keeping = self._dispatcher, self._keeping
        self._client = self._dispatcher = self._keeping = None
        if keeping is not None:
            # First: what the end of the handlers would write is lost as well.
            keeping.vanish()
        if dispatcher is not None:
            dispatcher.stop()
            dispatcher.give_up()
        if not self._over.done:
            self._over.resolve(None)

    async def _close_file(self) -> None:
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            await keeping.close()

    @property
    def over(self) -> Pending[None]:
        """The end of the agent: its value after :meth:`stop`, its error when it was taken over or refused."""
        return self._over

    # What the client tells (trishula.session.attachment.Observer).

    def joined(self, url: str) -> None:
        self._complained_at_s = None
        _log.info("%s has joined %s", self.name, self._node_at(url))

    def lost(self, url: str, error: TrishulaError) -> None:
        if self._dispatcher is not None:
            self._dispatcher.link_lost()
        if self._client is not None:
            _log.warning("%s has lost its node at %s: %s; joining anew", self.name, url, error)

    def moved(self, old: str, url: str) -> None:
        if self._dispatcher is not None:
            self._dispatcher.link_lost()
        _log.info("%s has moved from %s to %s, which stands before it in its list and is back", self.name, old, url)

    def _node_at(self, url: str) -> str:
        node = None if self._client is None else self._client.node
        return url if node is None else f"{node} at {url}"

    def unreachable(self, error: TrishulaError, now_s: float) -> None:
        if self._complained_at_s is None or now_s - self._complained_at_s >= _COMPLAIN_EVERY_S:
            self._complained_at_s = now_s
            _log.warning("%s can't join the bus: %s; it keeps trying", self.name, error)

    def ended(self, error: TrishulaError) -> None:
        client, dispatcher = self._client, self._dispatcher
        self._client = self._dispatcher = None
        if dispatcher is not None and client is not None:
            dispatcher.stop()
            dispatcher.give_up()
        start(self._close_file()).when_done(partial(_log_failure, "of the end"))
        self._over.reject(error)

    def serve(
        self, *, url: str | Sequence[str] | None = None, token: str | None = None, profile: str | None = None
    ) -> None:
        """Run until SIGTERM or SIGINT, in a loop of its own that it starts and ends.

        The loop is that of Twisted's asyncio reactor, so that handlers find ``twisted.internet.reactor`` running; in a
        process that has another reactor already (after :func:`trishula.connect` it has) it is a plain asyncio loop.

        Args:
            url, token, profile: before those given to the constructor.

        Raises:
            TrishulaError: the settings are wrong, the node refuses the token, another session took over, or a loop runs
                here already.
        """
        given: dict[str, Any] = {"url": url, "token": token, "profile": profile}
        settings = self._load(**{name: value for name, value in given.items() if value})
        # Late: Twisted's reactors take their time.
        from trishula.runtime.loops import asyncio_reactor, loop_runs

        if loop_runs():
            raise TrishulaError(
                "agent.run() and agent.serve() run a loop of their own, and this code runs in one already: write "
                '"async with agent:" there, or await agent.start() and agent.stop()'
            )
        reactor = asyncio_reactor()
        if reactor is None:
            asyncio.run(self._live(settings))
            return
        use_monotonic_timers(reactor, time.monotonic)
        failures: list[BaseException] = []
        leaving = False

        async def live() -> None:
            try:
                await self.start(settings)
                await self._over
            except BaseException as error:
                # While we leave, a start that didn't succeed is no failure.
                if not leaving:
                    failures.append(error)
            if not leaving:
                reactor.stop()

        def leave() -> Any:
            nonlocal leaving
            leaving = True
            return start(self.stop()).deferred()

        reactor.addSystemEventTrigger("before", "shutdown", leave)
        # Not callWhenRunning: that comes before the asyncio loop runs.
        reactor.callLater(0, lambda: start(live()))
        reactor.run()
        if failures:
            raise failures[0]

    async def _live(self, settings: Settings) -> None:
        """Be there until a signal comes or the agent ends; see :meth:`serve`."""
        told = asyncio.Event()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, told.set)

        async def live() -> None:
            await start(self.start(settings))
            await self._over

        leaving = asyncio.create_task(told.wait())
        living = asyncio.create_task(live())
        await asyncio.wait([leaving, living], return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not living.done():
            living.cancel()
            await asyncio.wait([living])
            await start(self.stop())
        elif (error := living.exception()) is not None:
            raise error

    def run(
        self, *, url: str | Sequence[str] | None = None, token: str | None = None, profile: str | None = None
    ) -> None:
        """:meth:`serve` for a program's last line: logs to stderr, and exits with a sentence and a code if it fails."""
        from trishula.exit_codes import exit_for

        set_up_logging()
        try:
            self.serve(url=url, token=token, profile=profile)
        except TrishulaError as error:
            _log.error("%s", error)
            sys.exit(int(exit_for(error)))


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


def _log_failure(name: str, pending: Pending[Any]) -> None:
    if pending.error is not None:
        _log.error("The function %s failed", name, exc_info=pending.error)
