"""Measures: what a node counts while it works, and no single service owns: its calls, and how its event loop turns.

What a service does itself it counts in an attribute of its own. :mod:`trishula_router.metrics` reads all of that when
somebody asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from trishula.errors import TrishulaError
from trishula_router.agents.callers import Caller, Verb
from trishula_router.agents.sessions import Session
from trishula_router.histogram import FAST_S, Histogram
from trishula_router.loop_lag import LoopLag
from trishula_router.objectives.comings import Comings
from trishula_router.spans import Spans

__all__ = ["Calls", "Measures"]


class Calls:
    """How long the calls of each procedure took, and with which errors calls ended.

    Args:
        seconds: the clock for spans.

    Attributes:
        times: URI → how long its calls took, for those that were ever called.
        refused: an error's URI → how many calls ended with it.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self.times: dict[str, Histogram] = {}
        self.refused: Counter[str] = Counter()

    def measured(self, uri: str, verb: Verb) -> Verb:
        """A procedure that does the same and is measured."""
        seconds = self._seconds

        async def run(caller: Caller, args: tuple[Any, ...]) -> Any:
            began_s = seconds()
            try:
                return await verb(caller, args)
            except TrishulaError as error:
                self.refused[str(error.uri)] += 1
                raise
            finally:
                self._took(uri, seconds() - began_s)

        return run

    def _took(self, uri: str, duration_s: float) -> None:
        times = self.times.get(uri)
        if times is None:
            times = self.times[uri] = Histogram(FAST_S)
        times.observe(duration_s)


class Measures:
    """What no single service of a node owns.

    Args:
        seconds: the clock for spans.

    Attributes:
        calls: see :class:`Calls`.
        loop_lag: how much too late a timer of the housekeeping comes.
        joins: how many clients joined.
        comings: which agents came back.
        connects: how many ms each client took from the proof of its identity until its first call.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.calls = Calls(seconds)
        self.loop_lag = LoopLag()
        self.joins = 0
        self.comings = Comings()
        self.connects = Spans()

    def joined(self, _: Session) -> None:
        """A session joined."""
        self.joins += 1
