"""Uptime: when a node could serve and when not, as time goes on, and over its ends and starts.

A node that is not running can't count. It keeps when it looked last; the time between that and its next start was
downtime. So was time in which its process stood still: a look that comes much too late tells of it. Instants are ms;
``now_s`` is the clock for spans, which nobody sets. Policy only.
"""

from __future__ import annotations

from trishula.watching.outages import Stretch
from trishula_router.objectives.maintenance import Maintenance
from trishula_router.objectives.series import Series

__all__ = ["Uptime"]

#: A look that comes so much later than the one before tells that the process stood still in between.
_STOOD_STILL_S = 15.0
#: Outages that are kept.
_MOST = 2000
#: A gap that is shorter is a part of one outage: the wall clock was set a little. Looks are further apart.
_JOINED_MS = 100


class Uptime:
    """See the module's docstring.

    Args:
        series: where time is counted.
        maintenance: what is planned.
        outages: as they were kept, oldest first.
    """

    def __init__(self, series: Series, maintenance: Maintenance, outages: list[Stretch] | None = None) -> None:
        self._series = series
        self._maintenance = maintenance
        self._looked_s: float | None = None
        self.outages: list[Stretch] = list(outages or [])

    @property
    def told_since(self) -> int:
        """From when on all outages are still known, ms; 0 if none was forgotten."""
        return self.outages[0][0] if len(self.outages) >= _MOST else 0

    def begin(self, last_look_at: int | None, now: int, now_s: float) -> None:
        """The node starts; ``last_look_at`` is the last sign of life of its last run, if there was one."""
        self._looked_s = now_s
        if last_look_at is not None and last_look_at < now:
            self._passed(last_look_at, now, 0.0)

    def look(self, now: int, now_s: float, *, is_up: bool) -> None:
        """Count the time since the last look."""
        if self._looked_s is None:
            self._looked_s = now_s
            return
        elapsed_s = max(0.0, now_s - self._looked_s)
        self._looked_s = now_s
        stood_still = elapsed_s > _STOOD_STILL_S
        self._passed(now - round(elapsed_s * 1000), now, elapsed_s if is_up and not stood_still else 0.0)

    def _passed(self, begin: int, end: int, up_s: float) -> None:
        if end <= begin:
            return
        self._series.add_time(begin, end, up_s, self._maintenance.stretches())
        if up_s > 0:
            return
        if self.outages and begin - self.outages[-1][1] <= _JOINED_MS:
            self.outages[-1] = (self.outages[-1][0], max(end, self.outages[-1][1]))
        else:
            self.outages = [*self.outages[-_MOST + 1 :], (begin, end)]
