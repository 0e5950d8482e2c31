"""One run of an agent: from the moment it is to join until it has left or come to its end.

A run owns what an agent needs as long as it is there: the engine, the dispatcher of its handlers and the agent's file.
It says in the log what happens to the agent. How long a process lives, and what ends it, is decided in
:mod:`trishula.consumer.process`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from trishula.consumer.agent_state import OwnFile
from trishula.consumer.dispatcher import Dispatcher
from trishula.consumer.handlers import Handler
from trishula.consumer.routes import Routes
from trishula.contract.uris import EVENT_FALLBACK
from trishula.errors import NotAllowed, TrishulaError
from trishula.files.mode_policy import Mode
from trishula.files.road import Roads
from trishula.messaging.engine import Engine
from trishula.runtime.clock import SteadyClock
from trishula.runtime.pending import Pending, rejected, start
from trishula.runtime.surroundings import Surroundings
from trishula.runtime.waiting import within
from trishula.session.transport import Connection, Endpoint
from trishula.settings import Settings, SettingsInvalid

__all__ = ["Part", "Run"]

_log = logging.getLogger("trishula")

#: For the last replies and acks.
_DRAIN_S = 2.0
#: How often to say that no node can be reached.
_COMPLAIN_EVERY_S = 30.0


@dataclass(slots=True)
class Part:
    """What an agent is in a run, whichever node it is at.

    Attributes:
        routes: its handlers and procedures.
        capabilities: words by which others find it.
        window: how many messages may be in its hands at a time.
        heartbeat_s: how often it tells the directory that it lives, in seconds.
        topics: URIs, and who hears their events.
        on_start: run once, when it has joined for the first time.
        on_mode: run with each new mode.
    """

    routes: Routes
    capabilities: Sequence[str]
    window: int
    heartbeat_s: float
    topics: list[tuple[str, Callable[..., object]]]
    on_start: list[Handler]
    on_mode: list[Handler]


class Run:
    """See the module's docstring.

    Args:
        part: what the agent does.
        settings: where the bus is, and who the agent is.
        state: for its file, as :class:`trishula.agent.Agent` takes it.
        around: clocks and randomness.
        connection: how to get links; a WAMP connection if absent.

    Attributes:
        engine: what carries out the agent's verbs.
        over: its value when the agent has left; its error when it was taken over or refused.
        roads: the mode of the agent, and its files.
    """

    def __init__(
        self,
        part: Part,
        settings: Settings,
        state: str | os.PathLike[str] | bool | None,
        around: Surroundings,
        connection: Connection | None,
        over: Pending[None],
    ) -> None:
        self._name = settings.agent
        self._required = settings.keys.require_signature
        if part.routes.requires_signatures and settings.keys.trusted_keys is None:
            raise SettingsInvalid(
                f"handlers of {self._name} take signed messages alone, and nothing says whose keys count: name a file "
                "in trusted_keys or TRISHULA_TRUSTED_KEYS, and write keys into it with 'trishula key trust'"
            )
        self._part = part
        self._around = around
        self._keeping: OwnFile | None = OwnFile(settings, state, around)
        self.engine = engine = Engine(settings, around=around, connection=connection, observer=self)
        # A step of the wall clock would have it forget what it has handled.
        steady_ms = SteadyClock(around.now_ms, lambda: around.clock.seconds() * 1000, lambda _: None)
        self._dispatcher: Dispatcher | None = Dispatcher(engine, part.routes, around.clock, steady_ms)
        self.over = over
        self.is_over = False
        self.roads = Roads(engine, settings, around, part.window, self._mode_changed)
        self._complained_at_s: float | None = None

    async def begin(self, timeout_s: float | None) -> None:
        """Join, and take messages; an agent with a folder has begun as well when it is in fallback.

        Raises:
            TrishulaError: the node refuses us, none could be joined in time, or the agent's file or folder can't be
                used. The run is over then.
        """
        part, engine, dispatcher, keeping = self._part, self.engine, self._dispatcher, self._keeping
        if dispatcher is None or keeping is None:
            raise RuntimeError("a run begins once")
        for name, handler in part.routes.procedures.items():
            engine.live.register(name, self._endpoint(name, handler, dispatcher))
        self._hear(part.topics)
        engine.attach(
            dispatcher.take,
            capabilities=part.capabilities,
            window=part.window,
            heartbeat_s=part.heartbeat_s,
            on_cancelled=dispatcher.recalled,
        )
        try:
            self.roads.prepare()
            keeping.begin(engine, dispatcher)
            if not keeping.waits:
                self._read_files()
            await self._join(timeout_s, keeping, dispatcher)
            if engine.end is not None:
                raise engine.end
        except BaseException:
            self.is_over = True
            self._dispatcher = self._keeping = None
            self.roads.end()
            await engine.stop()
            await keeping.close()
            # What ended the agent is raised here, so that nobody need ask for it there.
            _ = self.over.error
            raise
        dispatcher.watch(self._name, self._around.ask_loop)
        _begin_all(part.on_start)

    def _endpoint(self, name: str, handler: Handler, dispatcher: Dispatcher) -> Endpoint:
        if not handler.requires_signature and "COMMAND" not in self._required:
            return dispatcher.endpoint(handler)

        def refuse(*_: object) -> Pending[Any]:
            # A live call has no signature, so a node could make one up.
            return rejected(NotAllowed(f"{self._name} runs {name} by signed COMMANDs alone: use call, not rpc"))

        return refuse

    def _hear(self, topics: Iterable[tuple[str, Callable[..., object]]]) -> None:
        """Subscribe to the topics of the agent, and to the mode of the bus if there is a second road."""
        heard = dict(topics)
        if self.roads.has_folder:
            also = heard.get(EVENT_FALLBACK)

            def told(*args: object) -> None:
                self.roads.bus_said(*args)
                if also is not None:
                    also(*args)

            heard[EVENT_FALLBACK] = told
        for topic, on_event in heard.items():
            self.engine.live.subscribe(topic, on_event)

    async def _join(self, timeout_s: float | None, keeping: OwnFile, dispatcher: Dispatcher) -> None:
        """Join, or come into fallback, whichever is first; then joining goes on beside what the agent does."""
        if not self.roads.has_folder or keeping.waits:
            await self._join_a_node(timeout_s, keeping, dispatcher)
            return
        first: Pending[None] = Pending()
        joining = start(self._join_a_node(None, keeping, dispatcher))

        def came(one: Pending[None]) -> None:
            error = one.error
            if first.done:
                return
            if error is None:
                first.resolve(None)
            else:
                first.reject(error)

        joining.when_done(came)
        self.roads.fallen_back.when_done(came)
        await within(self._around.clock, first, timeout_s, lambda: self.engine.member.unreachable(timeout_s))

    async def _join_a_node(self, timeout_s: float | None, keeping: OwnFile, dispatcher: Dispatcher) -> None:
        waited = keeping.waits
        await self.engine.start(timeout_s)
        await keeping.joined(self.engine, dispatcher)
        if waited:
            self._read_files()

    def _read_files(self) -> None:
        begun = self.engine.member.begun
        self.roads.read(() if begun is None else begun.left)

    def _mode_changed(self, mode: Mode) -> None:
        _begin_all(self._part.on_mode, mode.value)

    async def leave(self, grace_s: float) -> None:
        """Let handlers finish for so long, give back what is not through, say goodbye."""
        engine, dispatcher = self.engine, self._dispatcher
        self.is_over = True
        if dispatcher is None:
            return
        idle = dispatcher.stop()
        self.roads.end()
        if engine.is_ready or self.roads.mode is Mode.FALLBACK:
            if running := dispatcher.running():
                _log.info("%s leaves, and waits up to %g s for %s", self._name, grace_s, running)
            await engine.wait(idle, grace_s)
            dispatcher.give_up()
            if running := dispatcher.running(in_threads=True):
                _log.warning(
                    "%s has given back what was not through, and can't stop what runs in a thread; its process ends "
                    "when these are through, or is killed: %s",
                    self._name,
                    running,
                )
            if engine.is_ready:
                await engine.drained(_DRAIN_S)
        else:
            dispatcher.give_up()
        self._dispatcher = None
        await engine.stop()
        await self._close_file()
        if self.roads.has_folder:
            # Behind the file: what is put away is on record as handled.
            await engine.wait(self.roads.settled_all(), _DRAIN_S)
        if not self.over.done:
            self.over.resolve(None)

    def vanish(self) -> None:
        """Be gone as a killed process is; see :meth:`trishula.testing.Running.crash`."""
        self.is_over = True
        dispatcher, keeping = self._dispatcher, self._keeping
        self._dispatcher = self._keeping = None
        self.roads.end()
        if keeping is not None:
            # First: what the end of the handlers would write is lost as well.
            keeping.vanish()
        if dispatcher is not None:
            dispatcher.stop()
            dispatcher.give_up()
        if not self.over.done:
            self.over.resolve(None)

    async def _close_file(self) -> None:
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            await keeping.close()

    # What the engine tells (trishula.session.attachment.Observer).

    def joined(self, url: str) -> None:
        self._complained_at_s = None
        attached = self.engine.member.attached
        self.roads.attached(None if attached is None else attached.fallback)
        node = self.engine.node
        _log.info("%s has joined %s", self._name, url if node is None else f"{node} at {url}")

    def lost(self, url: str, error: TrishulaError) -> None:
        if self._dispatcher is not None:
            self._dispatcher.link_lost()
        self.roads.lost()
        if not self.is_over:
            _log.warning("%s has lost its node at %s: %s; joining anew", self._name, url, error)

    def moved(self, old: str, url: str) -> None:
        if self._dispatcher is not None:
            self._dispatcher.link_lost()
        _log.info("%s has moved from %s to %s, which stands before it in its list and is back", self._name, old, url)

    def unreachable(self, error: TrishulaError, now_s: float) -> None:
        if self._complained_at_s is None or now_s - self._complained_at_s >= _COMPLAIN_EVERY_S:
            self._complained_at_s = now_s
            _log.warning("%s can't join the bus: %s; it keeps trying", self._name, error)

    def ended(self, error: TrishulaError) -> None:
        was_over, self.is_over = self.is_over, True
        self.roads.end()
        dispatcher, self._dispatcher = self._dispatcher, None
        if dispatcher is not None and not was_over:
            dispatcher.stop()
            dispatcher.give_up()
        start(self._close_file()).when_done(partial(_log_failure, "of the end"))
        self.over.reject(error)


def _begin_all(functions: Iterable[Handler], *args: object) -> None:
    for handler in functions:
        outcome = handler.start(None, args, {})
        if isinstance(outcome, Pending):
            outcome.when_done(partial(_log_failure, handler.name))


def _log_failure(name: str, pending: Pending[Any]) -> None:
    if pending.error is not None:
        _log.error("The function %s failed", name, exc_info=pending.error)
