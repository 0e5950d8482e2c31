"""The clocks of a node: one for spans, which never steps, and one for instants, which follows the wall clock slowly.

*Spans* (leases, pauses, ticks, how long ago an agent beat) are measured by the reactor's clock. Twisted's is the wall
clock: set back by an hour, it would fire no timer for an hour, and set forward it would end every lease at once. So the
worker's reactor is put on the monotonic clock (:func:`trishula.runtime.surroundings.use_monotonic_timers`).

*Instants* (``accepted_at``, ``expires_at``, the journal's times) are meant for people and other machines, so they are
the wall clock's; but they are compared too: with the time to live of a message, with the end of a pause, with an
agent's last beat. A step of the machine's clock must not expire messages by the thousand, nor keep them for ever. So a
node reads the wall clock when it starts, counts on from there by a clock that doesn't step, and follows the wall clock
by at most 1 % of the time that passes (:class:`trishula.runtime.clock.SteadyClock`): enough for what NTP corrects. A
step that lasts for a minute is believed, and then all of the node's instants jump together, so that spans go on as they
were (:mod:`.timeline`); the same where the clock was set while the node was not running. After a start of the machine
the wall clock counts as it is: nothing else knows how long the machine was off.

:class:`Clock` is the part of Twisted's reactor that the rules are given. Twisted's own ``IReactorTime`` is a zope
interface, which mypy can't follow; ``reactor`` and ``twisted.internet.task.Clock`` both fit this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["WRONG_CLOCK_MS", "Clock", "Timer"]

#: By more than this, a hundred years, no clock is wrong: an instant so far ahead is a lie.
WRONG_CLOCK_MS = 100 * 366 * 86_400_000


class Timer(Protocol):
    """A call to come."""

    def active(self) -> bool: ...

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Tells seconds from some fixed instant, and calls later."""

    def seconds(self) -> float: ...

    def callLater(self, delay: float, call: Callable[..., Any], *args: Any) -> Timer: ...
