"""What the agent side takes from the world around it: clocks, timers, randomness. The one place that reaches for them.

Everything else gets a :class:`Surroundings`; a test puts a ``twisted.internet.task.Clock`` and its own numbers there.
"""

from __future__ import annotations

import os
import random
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast

from trishula.errors import TrishulaError
from trishula.runtime.pending import Pending

__all__ = ["Clock", "Surroundings", "Timer", "real", "use_monotonic_timers"]


class Timer(Protocol):
    """A call that is to come; :class:`twisted.internet.interfaces.IDelayedCall` in types that mypy can use."""

    def active(self) -> bool:
        """Whether it is still to come."""

    def cancel(self) -> None:
        """Don't call; an error if it is over."""


class Clock(Protocol):
    """Timers; :class:`twisted.internet.interfaces.IReactorTime` in types that mypy can use."""

    def seconds(self) -> float:
        """A clock for spans."""

    def callLater(self, delay: float, callable: Callable[..., Any], /, *args: Any) -> Timer:
        """Call later, in seconds."""


def _at_once(work: Callable[[], None]) -> Pending[None]:
    outcome: Pending[None] = Pending()
    try:
        work()
    except Exception as error:
        outcome.reject(error)
    else:
        outcome.resolve(None)
    return outcome


def _hold_nothing() -> None:
    return None


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The world around a client.

    Attributes:
        clock: timers and a clock for spans; the reactor.
        now_ms: the wall clock, in ms since the epoch.
        random: a number in [0, 1).
        word: a new random word of that many bytes, in hex.
        in_thread: does work that would block; here and now, unless it is given something better.
        host: where this process runs, for people.
        hold: keeps what drives the clock until the function that it returns is called, so that a loop that somebody
            else owns is left clean; ``None`` if that need not be kept.
    """

    clock: Clock
    now_ms: Callable[[], int]
    random: Callable[[], float]
    word: Callable[[int], str]
    in_thread: Callable[[Callable[[], None]], Pending[None]] = _at_once
    host: str = "somewhere"
    hold: Callable[[], Callable[[], None] | None] = _hold_nothing
    ask_loop: Callable[[Callable[[], object]], object] | None = None
    is_driven: Callable[[], bool] = _always

    def check_driven(self) -> None:
        """Refuse to begin what would wait for ever.

        Raises:
            TrishulaError: neither a loop nor a reactor runs.
        """
        if not self.is_driven():
            raise TrishulaError(
                "nothing would drive it: neither an asyncio loop nor Twisted's reactor runs here; start inside of "
                "asyncio.run(main()) or once the reactor runs (reactor.callWhenRunning), or let agent.run() or "
                "trishula.connect() run one"
            )


def real(reactor: object = None) -> Surroundings:
    """The real world; without a ``reactor`` the one that drives the code that asks (:mod:`trishula.runtime.loops`)."""
    # Late: Twisted's reactors take their time, and whoever gets surroundings as an argument needs none of them.
    from trishula.runtime.loops import LoopReactor, in_thread, reactor_here

    driver = reactor_here() if reactor is None else reactor

    return Surroundings(
        cast(Clock, driver),
        lambda: time.time_ns() // 1_000_000,
        random.random,
        secrets.token_hex,
        partial(in_thread, driver),
        _host(),
        driver.hold if isinstance(driver, LoopReactor) else _hold_nothing,
        getattr(driver, "callFromThread", None),
        lambda: bool(getattr(driver, "running", True)),
    )


def _host() -> str:
    # A host's name may be anything; the node takes one line of visible text.
    name = "".join(letter if letter.isprintable() else "?" for letter in socket.gethostname())[:100]
    return f"{name or 'a host without a name'} (process {os.getpid()})"


def use_monotonic_timers(reactor: Any, seconds: Callable[[], float]) -> None:
    """Put a reactor on another clock, with the calls that it has already; not while another thread runs it.

    Twisted's own clock is the wall clock: when somebody sets it back by an hour, no timer fires for an hour, no ping
    goes out and no lost node is tried again. So whoever starts a reactor, here or in the node, puts it on a clock that
    doesn't step. An application that drives a reactor of its own decides that itself.

    Twisted reads its clock in one place, ``reactor.seconds``, and compares it with the instants of its calls, each of
    which holds the clock that it was made by. What else reads ``reactor.seconds`` in Crossbar and Autobahn only takes
    differences; Twisted's web server writes it into its access log, which a node doesn't keep.

    Args:
        reactor: any that keeps its calls as :class:`twisted.internet.base.ReactorBase` does.
        seconds: the clock from now on.
    """
    shift = seconds() - reactor.seconds()
    for call in reactor.getDelayedCalls():
        call.time += shift
        call.seconds = seconds
    reactor.seconds = seconds
