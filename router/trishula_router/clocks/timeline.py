"""The time line of a node's instants: by which clock they were written, and what becomes of them when it is set.

The node's clock (:class:`~trishula.runtime.clock.SteadyClock`) doesn't follow a step of the machine's clock, or
messages would end by the thousand. A step that lasts for a minute is believed all the same: the machine slept, or has
no clock of its own and had just got the time. Then the node's clock jumps, and *spans* go on as they were: what is open
ends, and is due, in as long as before, because its instants move along (:meth:`Store.follow_clock
<trishula_router.store.interface.Store.follow_clock>`); leases and presence too. *Instants* that mean something outside
follow: what the node writes from then on, and when tokens begin and end.

One time line is what was written by one clock, which jumps or not. It goes on over a restart of the node, as long as
the machine has not been started again: then its steady clock goes on, so the node knows how the machine's clock was set
meanwhile. After a start of the machine nothing tells how long it was off, so the machine's clock counts as it is, and a
new time line begins. What an older one has left stays as it is when the clock is set: it was written by the clock as it
was before the machine was started, and the clock that is wrong until it is set is that of the start.

What is settled stays as it was written: nobody rewrites a journal. How long bodies and ids are kept is a span all the
same, so who asks what is older than an instant asks for that instant as the clock told it then
(:meth:`Timeline.earlier`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from trishula.runtime.clock import SteadyClock

__all__ = ["NOTE", "Timeline"]

#: Under what the store remembers it.
NOTE = "clock"
#: Steps that are remembered: a clock that is set more often is set right by nobody.
_STEPS_KEPT = 50


class _Note(msgspec.Struct):
    """What of a time line outlives the node: the start of the machine, and the clock against the steady one."""

    boot: str
    offset_ms: float
    since: int
    steps: list[tuple[int, int]] = []


class Timeline:
    """See the module's docstring.

    Args:
        clock: the node's.
        boot: names this start of the machine; "" if nothing does.
        since: the newest ``arrival`` that was there when it began.
        steps: when clocks were set ahead, ms by the new time, and by how much; also those of older time lines.
    """

    def __init__(
        self, clock: SteadyClock, boot: str = "", since: int = 0, steps: Sequence[tuple[int, int]] = ()
    ) -> None:
        self.clock = clock
        self.since = since
        self._boot = boot
        self._steps = list(steps)

    @classmethod
    def go_on(
        cls,
        note: str | None,
        *,
        boot: str,
        arrival: int,
        wall_ms: Callable[[], float],
        steady_ms: Callable[[], float],
        stepped: Callable[[float], None],
    ) -> Timeline:
        """Go on with the time line of the node's last run, or begin one.

        Args:
            note: what the store remembers of it; ``None`` if nothing.
            boot: names this start of the machine; "" if nothing does.
            arrival: the newest that is there.
            wall_ms, steady_ms, stepped: see :class:`SteadyClock`.
        """
        try:
            known = None if note is None else msgspec.json.decode(note, type=_Note)
        except msgspec.DecodeError:
            known = None
        steps = () if known is None else known.steps
        if known is None or not boot or known.boot != boot:
            return cls(SteadyClock(wall_ms, steady_ms, stepped), boot, arrival, steps)
        return cls(SteadyClock(wall_ms, steady_ms, stepped, known.offset_ms), boot, known.since, steps)

    @property
    def gap_ms(self) -> int:
        """By how much the machine's clock is ahead of the node's."""
        return round(self.clock.gap_ms)

    @property
    def lasting_ms(self) -> int:
        """The same, if it is a step that lasts; else 0."""
        return self.clock.lasting_ms

    def jump(self, by_ms: int) -> None:
        """Have the clock jump, as the machine's was set."""
        self.clock.jump(by_ms)
        if by_ms > 0:
            self._steps = [*self._steps[-_STEPS_KEPT + 1 :], (self.clock(), by_ms)]

    def jump_back(self, by_ms: int) -> None:
        """Undo the last jump, which nobody heard of yet."""
        self.clock.jump(-by_ms)
        if by_ms > 0:
            self._steps.pop()

    def earlier(self, instant: int) -> int:
        """What the clock told at an instant of the past (ms by the clock as it is now), or less.

        A clock that was set back told some instants twice; of those it is the one that makes things last longer.
        """
        for at, by_ms in reversed(self._steps):
            if instant < at:
                instant -= by_ms
        return instant

    def notes(self) -> dict[str, str]:
        """What the store is to remember of it now."""
        return {NOTE: msgspec.json.encode(_Note(self._boot, self.clock.offset_ms, self.since, self._steps)).decode()}
