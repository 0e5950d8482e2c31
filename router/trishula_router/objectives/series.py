"""A series: what happened in each minute and in each hour, for windows of any length up to the present.

What is counted is counted in its minute and in its hour. Minutes are kept for a day and an hour, hours for a quarter
and some days; so a window of a day is summed up of hours and of the minutes at its begin, and costs no more than one
of an hour. Instants are ms. Policy only, no I/O: what changed since it was last kept is told by
:meth:`Series.take_changed`.
"""

from __future__ import annotations

from collections.abc import Iterable

from trishula.watching.outages import Stretch, length_ms, within, without
from trishula.watching.totals import Totals

__all__ = ["HOUR_MS", "MINUTE_MS", "Series"]

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
#: How long each is kept.
_MINUTES_MS, _HOURS_MS = 25 * HOUR_MS, 100 * 24 * HOUR_MS

#: The length of a bucket in ms, and its begin.
Place = tuple[int, int]


class Series:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._buckets: dict[int, dict[int, Totals]] = {MINUTE_MS: {}, HOUR_MS: {}}
        self._changed: set[Place] = set()

    def put(self, place: Place, totals: Totals) -> None:
        """A bucket as it was kept."""
        span_ms, at = place
        if span_ms in self._buckets:
            self._buckets[span_ms][at] = totals

    def add(self, at: int, totals: Totals) -> None:
        """Count what happened at an instant."""
        for span_ms in (MINUTE_MS, HOUR_MS):
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
            planned: when maintenance was declared.
        """
        begin = max(begin, end - _HOURS_MS)
        down = [(begin, max(begin, end - round(up_s * 1000)))]
        planned = list(within(planned, begin, end))
        for span_ms in (MINUTE_MS, HOUR_MS):
            first = max(begin, end - _MINUTES_MS) if span_ms == MINUTE_MS else begin
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
        begin = now - round(window_s * 1000)
        if window_s * 1000 <= HOUR_MS:
            return Totals.sum(self._of(MINUTE_MS, begin - begin % MINUTE_MS + MINUTE_MS, now))
        whole = begin - begin % HOUR_MS + HOUR_MS
        hours = Totals.sum(self._of(HOUR_MS, whole, now))
        if now - begin <= _MINUTES_MS - HOUR_MS:
            hours.add(Totals.sum(self._of(MINUTE_MS, begin, whole - 1)))
        return hours

    def _of(self, span_ms: int, begin: int, end: int) -> list[Totals]:
        return [totals for at, totals in self._buckets[span_ms].items() if begin <= at <= end]

    def minute(self, at: int) -> Totals | None:
        """The minute of an instant; ``None`` if nothing was counted in it."""
        return self._buckets[MINUTE_MS].get(at - at % MINUTE_MS)

    def told(self, since: int, until: int, step_ms: int) -> list[tuple[int, Totals]]:
        """The buckets between two instants, in steps of a whole number of minutes or hours, oldest first."""
        span_ms = HOUR_MS if step_ms % HOUR_MS == 0 else MINUTE_MS
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
        oldest = {MINUTE_MS: now - _MINUTES_MS, HOUR_MS: now - _HOURS_MS}
        for span_ms, since in oldest.items():
            buckets = self._buckets[span_ms]
            for at in [at for at in buckets if at < since]:
                del buckets[at]
        return oldest
