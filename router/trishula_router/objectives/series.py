"""A series: what happened in each step and in each hour, for windows of any length up to the present.

A *step* is a minute, or less where somebody wants to see windows pass fast. What is counted is counted in its step and
in its hour. Minutes are kept for a day and an hour, hours for a quarter and some days; so a window of a day is summed
up of hours and of the minutes at its begin, and costs no more than one of an hour. Shorter steps are kept for two hours
at least. Instants are ms. Policy only, no I/O: what changed since it was last kept is told by
:meth:`Series.take_changed`.
"""

from __future__ import annotations

from collections.abc import Iterable

from trishula.watching.outages import Stretch, common, length_ms, within, without
from trishula.watching.totals import Totals

__all__ = ["HOUR_MS", "MINUTE_MS", "Series"]

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
#: How long hours are kept.
_HOURS_MS = 100 * 24 * HOUR_MS
#: So many steps are kept: 25 hours of minutes. Short steps are kept for so long at least.
_STEPS, _LEAST_KEPT_MS = 1500, 2 * HOUR_MS

#: The length of a bucket in ms, and its begin.
Place = tuple[int, int]


class Series:
    """See the module's docstring.

    Args:
        step_ms: how long a step is; a minute at most.
    """

    def __init__(self, step_ms: int = MINUTE_MS) -> None:
        self.step_ms = step_ms
        self._kept_ms = max(_STEPS * step_ms, _LEAST_KEPT_MS)
        self._buckets: dict[int, dict[int, Totals]] = {step_ms: {}, HOUR_MS: {}}
        self._changed: set[Place] = set()

    def put(self, place: Place, totals: Totals) -> None:
        """A bucket as it was kept."""
        span_ms, at = place
        if span_ms in self._buckets:
            self._buckets[span_ms][at] = totals

    def add(self, at: int, totals: Totals) -> None:
        """Count what happened at an instant."""
        for span_ms in (self.step_ms, HOUR_MS):
            self._bucket(span_ms, at).add(totals)

    def _bucket(self, span_ms: int, at: int) -> Totals:
        begin = at - at % span_ms
        self._changed.add((span_ms, begin))
        return self._buckets[span_ms].setdefault(begin, Totals())

    def add_time(self, begin: int, end: int, up_s: float, planned: Iterable[Stretch]) -> None:
        """Count time that passed: how much of it the node was up, and what of it was planned.

        Args:
            begin, end: the stretch; of one that is longer than hours are kept, the end counts.
            up_s: for how long of it the node could serve; taken from its end.
            planned: when maintenance was declared; what the node was down for then counts apart.
        """
        begin = max(begin, end - _HOURS_MS)
        down = [(begin, max(begin, end - round(up_s * 1000)))]
        planned = common([down, list(planned)])
        for span_ms in (self.step_ms, HOUR_MS):
            first = max(begin, end - self._kept_ms) if span_ms == self.step_ms else begin
            at = first
            while at < end:
                until = min(end, at - at % span_ms + span_ms)
                bucket = self._bucket(span_ms, at)
                planned_ms = length_ms(within(planned, at, until))
                watched = without([(at, until)], planned)
                bucket.planned_s += planned_ms / 1000
                bucket.watched_s += length_ms(watched) / 1000
                bucket.up_s += length_ms(without(watched, down)) / 1000
                at = until

    def window(self, now: int, window_s: float) -> Totals:
        """All that happened in a window up to now; of a long one, by whole hours."""
        begin, step_ms = now - round(window_s * 1000), self.step_ms
        if window_s * 1000 <= HOUR_MS:
            return Totals.sum(self._of(step_ms, begin - begin % step_ms + step_ms, now))
        whole = begin - begin % HOUR_MS + HOUR_MS
        hours = Totals.sum(self._of(HOUR_MS, whole, now))
        if now - begin <= self._kept_ms - HOUR_MS:
            hours.add(Totals.sum(self._of(step_ms, begin, whole - 1)))
        return hours

    def watched_since(self, now: int) -> int:
        """From when on time was counted, up to now."""
        counted_s = sum(totals.watched_s + totals.planned_s for totals in self._buckets[HOUR_MS].values())
        return now - round(counted_s * 1000)

    def _of(self, span_ms: int, begin: int, end: int) -> list[Totals]:
        return [totals for at, totals in self._buckets[span_ms].items() if begin <= at <= end]

    def step(self, at: int) -> Totals | None:
        """The step of an instant; ``None`` if nothing was counted in it."""
        return self._buckets[self.step_ms].get(at - at % self.step_ms)

    def told(self, since: int, until: int, step_ms: int) -> list[tuple[int, Totals]]:
        """The buckets between two instants, gathered into a whole number of steps or hours, oldest first."""
        span_ms = HOUR_MS if step_ms % HOUR_MS == 0 else self.step_ms
        found: dict[int, Totals] = {}
        for at in sorted(self._buckets[span_ms]):
            if since <= at < until:
                found.setdefault(at - at % step_ms, Totals()).add(self._buckets[span_ms][at])
        return sorted(found.items())

    # -- keeping -------------------------------------------------------------------------------------------------------

    def take_changed(self) -> list[tuple[Place, Totals]]:
        """The buckets that changed since this was asked last."""
        changed, self._changed = self._changed, set()
        there = [(place, self._buckets[place[0]].get(place[1])) for place in sorted(changed)]
        return [(place, totals) for place, totals in there if totals is not None]

    def forget(self, now: int) -> dict[int, int]:
        """Drop what is too old; returns from which begin on buckets of each length are kept."""
        oldest = {self.step_ms: now - self._kept_ms, HOUR_MS: now - _HOURS_MS}
        for span_ms, since in oldest.items():
            buckets = self._buckets[span_ms]
            for at in [at for at in buckets if at < since]:
                del buckets[at]
        return oldest
