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

``send``, ``call`` and the other verbs are those of :class:`trishula.verbs.Verbs`. They belong to the reactor's
thread; a blocking handler in a thread of its own uses :meth:`Agent.from_thread`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, TypeVar, overload

from trishula.client import DEFAULT_HEARTBEAT_S, DEFAULT_WINDOW, Client
from trishula.consumer import process
from trishula.consumer.declared import Declared
from trishula.consumer.handlers import Handler
from trishula.consumer.routes import Routes
from trishula.consumer.run import Part, Run
from trishula.contract.addresses import AGENT_RULE, is_agent_name
from trishula.contract.uris import topic_named
from trishula.errors import TrishulaError
from trishula.files.mode_policy import Mode
from trishula.key_settings import GivenKeys
from trishula.messaging.engine import Engine
from trishula.runtime.forks import check_process
from trishula.runtime.pending import Pending, resolved, start
from trishula.runtime.surroundings import Surroundings, real
from trishula.runtime.waiting import from_thread
from trishula.session.transport import Connection
from trishula.settings import Settings, load
from trishula.verbs import Verbs
from trishula.vocabulary import documented_by, renamed

__all__ = ["Agent"]

_log = logging.getLogger("trishula")

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

#: What a handler may still take when the agent is told to leave; a service manager kills after 10 s or more.
_GRACE_S = 5.0


class Agent(Declared, Verbs):
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
        files: a folder for messages as files, as a second road while no node is there (:mod:`trishula.files.road`); by
            the settings if absent.
        key_file: its own key, by which it signs what it sends, reads what is encrypted for it, and joins if it has no
            token; or several: it signs and joins by the first.
        trusted_keys: the file with the keys of others, whose signatures count: a handler reads ``message.signed_by``.
        require_signature: ``True``, or types of messages, such as ``["COMMAND"]``: without a good signature these are
            refused, and no handler sees them; see :mod:`trishula.messaging.verifying`.
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
        files: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        trusted_keys: str | os.PathLike[str] | None = None,
        require_signature: bool | Iterable[str] | None = None,
    ) -> None:
        if not is_agent_name(name):
            raise ValueError(f"{name!r} can't be an agent's name: it is {AGENT_RULE}")
        self.name = name
        # By themselves for the bus of trishula.testing, which has settings of its own.
        self._given_keys: GivenKeys = {
            "key_file": key_file,
            "trusted_keys": trusted_keys,
            "require_signature": require_signature,
        }
        self._load = partial(
            load,
            url=url,
            agent=name,
            token=token,
            profile=profile,
            ca_file=ca_file,
            proxy=proxy,
            files=files,
            **self._given_keys,
        )
        self._state = state
        self._routes = Routes(name)
        self._part = Part(self._routes, tuple(capabilities), window, heartbeat_s, [], [], [])
        self._run: Run | None = None
        self._over: Pending[None] = Pending()
        self._now_ms: Callable[[], int] = int
        # What drives it once it has started, and in which process.
        self._reactor: Any = None
        self._pid = 0

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Words by which others find it."""
        return tuple(self._part.capabilities)

    @property
    def mode(self) -> str:
        """Which road its messages take.

        ============  =================================================================================
        ``live``      to a node
        ``degraded``  none: no node is there, and messages wait in the outbox
        ``fallback``  each message of the outbox is written as a file as well; only with a folder
        ============  =================================================================================

        It is ``degraded`` also while the agent doesn't run. :meth:`on_mode` tells of changes.
        """
        return Mode.DEGRADED.value if self._run is None or self._run.is_over else self._run.roads.mode.value

    # -- verbs ---------------------------------------------------------------------------------------------------------

    def _beneath(self) -> Engine:
        if self._run is None or self._run.is_over:
            raise RuntimeError(f"{self.name} doesn't run: use its verbs in its handlers, or after start()")
        return self._run.engine

    @property
    def client(self) -> Client:
        """The same member of the bus as a client, for those who need more than the agent's own verbs.

        Raises:
            RuntimeError: the agent doesn't run.
        """
        return Client._of(self._beneath())

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
        engine = self._beneath()
        engine.member.activity.busy(until_ms, progress, load)
        engine.beat_soon()

    def idle(self, *, load: float | None = None) -> None:
        """Tell the directory that it is over, or how much there is to do without being busy."""
        engine = self._beneath()
        engine.member.activity.idle(load)
        engine.beat_soon()

    @overload
    def subscribe(
        self, topic: str, on_event: Callable[..., object], *, of: str | None = None, thread: bool = False
    ) -> Pending[None]: ...

    @overload
    def subscribe(self, topic: str, *, of: str | None = None, thread: bool = False) -> Callable[[F], F]: ...

    @documented_by(
        Client.subscribe,
        """Before the start or while it runs; as a decorator too::

    @agent.subscribe("celsius", of="thermometer")
    async def heard(degrees): ...

A function that blocks is declared with ``thread=True``.""",
    )
    def subscribe(
        self,
        topic: str,
        on_event: Callable[..., object] | None = None,
        *,
        of: str | None = None,
        thread: bool = False,
    ) -> Any:
        uri = topic_named(topic, of, self.name)
        if on_event is None:

            def decorate(function: F) -> F:
                self._subscribe(uri, function, thread)
                return function

            return decorate
        return self._subscribe(uri, on_event, thread)

    def _subscribe(self, uri: str, on_event: Callable[..., object], thread: bool) -> Pending[None]:
        if thread:
            handler = Handler(on_event, name=getattr(on_event, "__name__", uri), thread=True)
            on_event = partial(_start, handler)
        if self._runs:
            return self._beneath().live.subscribe(uri, on_event)
        if any(uri == known for known, _ in self._part.topics):
            raise ValueError(f"{self.name} hears {uri} already")
        self._part.topics.append((uri, on_event))
        return resolved(None)

    def from_thread(self, verb: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        """In a blocking handler's thread: ``agent.from_thread(agent.send, "dc", payload=…)``, and wait for it.

        Raises ``RuntimeError`` when the agent doesn't run: nobody would carry it out.
        """
        if not self._runs:
            raise RuntimeError(f"{self.name} doesn't run: from_thread is for its handlers")
        check_process(self._pid)
        return from_thread(self._reactor, lambda: verb(*args, **kwargs))

    # -- life ----------------------------------------------------------------------------------------------------------

    @property
    def _runs(self) -> bool:
        return self._run is not None and not self._run.is_over

    @renamed(timeout_s="timeout")
    async def start(
        self,
        settings: Settings | None = None,
        *,
        around: Surroundings | None = None,
        connection: Connection | None = None,
        timeout: float | None = None,
        state: str | os.PathLike[str] | None = None,
    ) -> None:
        """Join and begin to take messages, in a loop or reactor that runs; :meth:`run` is this and the loop.

        An agent with a folder has started as well when no node was there for a while, and it is in fallback.

        In an asyncio program ``async with agent:`` is this and :meth:`stop`.

        Args:
            settings: where the bus is; by the constructor's arguments if absent.
            around, connection: for tests: other clocks, another road.
            timeout: how long to try to join, in seconds; as long as it takes if absent.
            state: where the agent's file is this time; an agent that keeps none keeps none here either.

        Raises:
            TrishulaError: the settings are wrong, the node refuses us, or none could be joined within ``timeout``; or
                neither a loop nor a reactor runs here.
        """
        if self._runs:
            raise RuntimeError(f"{self.name} runs already")
        if settings is None:
            settings = self._load()
        around = around or real()
        around.check_driven()
        self._now_ms = around.now_ms
        self._reactor, self._pid = around.clock, os.getpid()
        self._over = Pending()
        place = self._state if state is None or self._state is False else state
        self._run = Run(self._part, settings, place, around, connection, self._over)
        await self._run.begin(timeout)

    async def __aenter__(self) -> Agent:
        await start(self.start())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await start(self.stop())

    async def stop(self, grace_s: float = _GRACE_S) -> None:
        """Leave: let handlers finish for so long, give back what is not through, say goodbye."""
        run = self._run
        if run is not None and not run.is_over:
            await run.leave(grace_s)

    def _vanish(self) -> None:
        """Be gone as a killed process is: the node is told nothing, and what is not in the agent's file yet is lost.

        :mod:`trishula.testing` plays a crash by this, and ends the agent's session and its timers itself. Handlers are
        cancelled where they can be; one in a thread comes to its end, and nobody hears of that.
        """
        run = self._run
        if run is not None:
            run.vanish()

    @property
    def over(self) -> Pending[None]:
        """The end of the agent: its value after :meth:`stop`, its error when it was taken over or refused."""
        return self._over

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
        process.serve(lambda: self.start(settings), self.stop, lambda: self._over)

    def run(
        self, *, url: str | Sequence[str] | None = None, token: str | None = None, profile: str | None = None
    ) -> None:
        """:meth:`serve` for a program's last line: logs to stderr, and exits with a sentence and a code if it fails."""
        from trishula.exit_codes import exit_for

        try:
            process.set_up_logging(self.name, os.environ)
            self.serve(url=url, token=token, profile=profile)
        except TrishulaError as error:
            _log.error("%s", error)
            sys.exit(int(exit_for(error)))


def _start(handler: Handler, *args: object) -> object:
    return handler.start(None, args, {})
