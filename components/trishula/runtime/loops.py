"""Twisted on an asyncio loop that somebody else runs: what lets an agent live in FastAPI, a notebook, ``asyncio.run``.

Autobahn needs a Twisted reactor, and Twisted's own habit is one reactor for the process, which it runs itself. A
program that owns its loop can't do it so: its loop runs already, and another one comes with the next ``asyncio.run`` or
the next test. So such a loop gets a :class:`LoopReactor`: a reactor that the loop drives, that is installed nowhere,
and that goes when its last user goes. :func:`reactor_here` says which reactor drives the code that asks.

A :class:`LoopReactor` needs no thread of Twisted's: names are looked up, and blocking handlers run, in the threads of
the loop's own executor, whose end the loop waits for without blocking.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from twisted.internet import asyncioreactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.interfaces import IHostnameResolver, IHostResolution
from zope.interface import classImplements

from trishula.runtime.pending import Pending, of_deferred
from trishula.runtime.surroundings import use_monotonic_timers

__all__ = ["LoopReactor", "asyncio_reactor", "in_thread", "loop_runs", "reactor_here"]

T = TypeVar("T")


def reactor_here() -> Any:
    """The reactor that drives the code that asks.

    In an asyncio loop it is the loop's, made if there is none yet; elsewhere the process's own, which gets installed if
    there is none yet.
    """
    loop = _running_loop()
    installed = sys.modules.get("twisted.internet.reactor")
    if loop is not None and getattr(installed, "_asyncioEventloop", None) is not loop:
        return LoopReactor.of(loop)
    # Late: asking for the module installs a reactor.
    from twisted.internet import reactor

    return reactor


def loop_runs() -> bool:
    """Whether the code that asks runs in an asyncio loop."""
    return _running_loop() is not None


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def asyncio_reactor() -> Any:
    """The process's reactor, installed if there is none yet; ``None`` if it is another than Twisted's asyncio one."""
    if "twisted.internet.reactor" not in sys.modules:
        asyncioreactor.install()  # type: ignore[no-untyped-call]
    from twisted.internet import reactor

    return reactor if isinstance(reactor, AsyncioSelectorReactor) else None


def in_thread(reactor: Any, work: Callable[[], T]) -> Pending[T]:
    """Do in a thread what would block; the outcome comes in the reactor's thread."""
    if isinstance(reactor, LoopReactor):
        return reactor.in_thread(work)
    from twisted.internet.threads import deferToThreadPool

    return of_deferred(deferToThreadPool(reactor, reactor.getThreadPool(), work))


class LoopReactor(AsyncioSelectorReactor):
    """The reactor of one running loop; made by :meth:`of` only.

    Args:
        loop: which drives it, and runs already.
    """

    #: Other threads may have a reactor of their own, and Twisted has one place to note whose thread is the reactor's.
    _registerAsIOThread = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._loop = loop
        self._users = 0
        # Twisted's interfaces are not types that mypy can check.
        resolver: Any = _Resolver(loop)
        self.installNameResolver(resolver)
        use_monotonic_timers(self, time.monotonic)
        self.startRunning(installSignalHandlers=False)

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> LoopReactor:
        """The reactor of a loop, which is the one that runs here."""
        for other in [other for other in _reactors if other.is_closed()]:
            # Its program ended without a word to its agents.
            _reactors.pop(other)._close_waker()
        if loop not in _reactors:
            _reactors[loop] = cls(loop)
        return _reactors[loop]

    def hold(self) -> Callable[[], None]:
        """Keep it until the function that is returned is called; calling that again does nothing."""
        self._users += 1
        is_held = True

        def release() -> None:
            nonlocal is_held
            if is_held:
                is_held = False
                self._users -= 1
                if not self._loop.is_closed():
                    # In a later turn: whoever releases may have something to do with it in this one.
                    self._loop.call_soon(self._end_if_unused)

        return release

    def in_thread(self, work: Callable[[], T]) -> Pending[T]:
        """See :func:`in_thread`."""
        pending: Pending[T] = Pending()

        def done(future: asyncio.Future[T]) -> None:
            if future.cancelled():
                pending.reject(asyncio.CancelledError("the loop has ended"))
            elif (error := future.exception()) is not None:
                pending.reject(error)
            else:
                pending.resolve(future.result())

        self._loop.run_in_executor(None, work).add_done_callback(done)
        return pending

    def _end_if_unused(self) -> None:
        if self._users or _reactors.get(self._loop) is not self:
            return
        del _reactors[self._loop]
        calls: Sequence[Any] = self.getDelayedCalls()
        for call in calls:
            call.cancel()
        # No "shutdown": for Twisted the loop's end is part of that.
        self.disconnectAll()
        # That leaves the waker out. The loop goes on, and would take the next socket of its number for watched already.
        self.removeReader(self.waker)  # type: ignore[no-untyped-call]
        self._close_waker()

    def _close_waker(self) -> None:
        waker: Any = self.waker
        if waker is not None:
            waker.connectionLost(None)


#: Those of the loops that run, and of loops that ended without a word.
_reactors: dict[asyncio.AbstractEventLoop, LoopReactor] = {}


class _Resolution:
    """One look-up of a name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()


class _Resolver:
    """Looks names up as asyncio does."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def resolveHostName(
        self,
        receiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[Any]] | None = None,
        transportSemantics: str = "TCP",
    ) -> _Resolution:
        resolution = _Resolution(hostName)
        receiver.resolutionBegan(resolution)
        # The resolution keeps its task alive: asyncio itself holds none.
        resolution.task = self._loop.create_task(self._resolve(receiver, hostName, portNumber))
        return resolution

    async def _resolve(self, receiver: Any, name: str, port: int) -> None:
        try:
            found = await self._loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except OSError:
            # Twisted's endpoint says in its own words that there is no such host.
            found = []
        for family, _, _, _, address in found:
            if family == socket.AF_INET:
                receiver.addressResolved(IPv4Address("TCP", *cast(tuple[str, int], address[:2])))
            elif family == socket.AF_INET6:
                receiver.addressResolved(IPv6Address("TCP", *cast(tuple[str, int], address[:2])))
        receiver.resolutionComplete()


classImplements(_Resolution, IHostResolution)
classImplements(_Resolver, IHostnameResolver)
