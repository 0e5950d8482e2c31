"""The book: all that a node knows of how it keeps its objectives, and what of it is to be kept for its next run.

Counts that only grow are read by the caller; the book is told what was added. Instants are ms, ``now_s`` is the clock
for spans. Policy only: :meth:`Book.page` is what somebody else writes down, :class:`SavedBook` what was read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from trishula.watching.objectives import NAMES, WINDOWS_S, judge
from trishula.watching.outages import Stretch, within
from trishula.watching.totals import Totals
from trishula_router.objectives.maintenance import Declared, Maintenance
from trishula_router.objectives.series import HOUR_MS, Series
from trishula_router.objectives.triggers import STEPS, TriggerFacts, Triggers
from trishula_router.objectives.uptime import Uptime
from trishula_router.settings.objectives import ObjectiveOptions

__all__ = ["Book", "BookFile", "SavedBook", "Page"]

_DAY_MS = 86_400_000
#: The names of the notes.
_TICK, _OUTAGES, _MAINTENANCE = "tick", "outages", "maintenance"

#: A bucket that is kept: its length and its begin in ms, and its totals as JSON.
Row = tuple[int, int, bytes]


@dataclass(frozen=True, slots=True)
class SavedBook:
    """What was kept: buckets, and notes by name."""

    rows: list[Row] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """What is to be kept.

    Attributes:
        rows: the buckets that changed.
        notes: as in :class:`SavedBook`.
        oldest: of each length of buckets, from which begin on they are kept.
    """

    rows: list[Row]
    notes: dict[str, str]
    oldest: dict[int, int]


class BookFile(Protocol):
    """Where a book is kept over the node's end. Neither verb raises: who can't keep a book goes on without."""

    def read(self) -> SavedBook:
        """What was kept."""

    def write(self, page: Page) -> None:
        """Keep a page; it may be done later."""

    def set_aside(self, why: str) -> None:
        """What was read can't be used: begin anew."""

    def close(self) -> None:
        """Have done all that is to be done."""


class Book:
    """See the module's docstring.

    Args:
        options: the targets, and what turns the fallback on.
        saved: what the node's last run kept.
    """

    def __init__(self, options: ObjectiveOptions, saved: SavedBook) -> None:
        self.targets = options
        self.series = Series(options.step_ms)
        for span_ms, at, text in saved.rows:
            self.series.put((span_ms, at), Totals.of_map(msgspec.json.decode(text)))
        self.maintenance = Maintenance(_read(saved, _MAINTENANCE, list[Declared]))
        self.uptime = Uptime(self.series, self.maintenance, _read(saved, _OUTAGES, list[Stretch]))
        self.triggers = Triggers(options)
        self._last_look_at = _read(saved, _TICK, int)
        self._looked_at = 0

    def begin(self, now: int, now_s: float, last_record_at: int | None = None) -> None:
        """The node starts; its journal has a last record of the run before."""
        last = self._last_look_at
        if last is not None and last_record_at is not None:
            # A node that was killed has kept no look of its last minute, and wrote records all the same.
            last = max(last, last_record_at)
        # Of a clock that was set back, the last run's end is to come.
        self.uptime.begin(last, now, now_s)
        self._looked_at = now

    def look(self, now: int, now_s: float, *, is_up: bool, added: Totals) -> None:
        """A moment passed: whether the node could serve, and what came to what was counted."""
        self.uptime.look(now, now_s, is_up=is_up)
        self.series.add(now, added)
        self._looked_at = now

    def page(self, now: int) -> Page:
        """What changed since this was asked last; what is too old is dropped."""
        oldest = self.series.forget(now)
        rows = [
            (span_ms, at, msgspec.json.encode(totals.as_map())) for (span_ms, at), totals in self.series.take_changed()
        ]
        values = {
            _TICK: self._looked_at,
            _OUTAGES: self.uptime.outages,
            _MAINTENANCE: self.maintenance.to_save(),
        }
        notes = {name: msgspec.json.encode(value).decode() for name, value in values.items()}
        return Page(rows, notes, oldest)

    def trigger_facts(self, now: int, away: dict[str, int]) -> TriggerFacts:
        """What the triggers look at, with the agents that are away."""
        up = self.series.window(now, self.targets.uptime_window_s)
        lost = self.series.window(now, self.targets.loss_window_s)
        steps = []
        for back in range(STEPS, 0, -1):
            step = self.series.step(now - back * self.series.step_ms)
            sketch = None if step is None else step.delivery_ms
            steps.append((0, 0.0) if sketch is None else (sketch.count, sketch.quantile(0.99) or 0.0))
        return TriggerFacts(max(0.0, up.watched_s - up.up_s), steps, lost.lost, lost.ended, away)

    # -- answers -------------------------------------------------------------------------------------------------------

    def told(self, now: int, windows: tuple[str, ...], since: int | None = None) -> dict[str, Any]:
        """How the objectives stand, in some windows; see ``trishula.node.objectives``.

        Outages and maintenance are told from the longest window's begin on, or from ``since`` if that is before.
        """
        totals = {name: self.series.window(now, WINDOWS_S[name]) for name in windows}
        longest_ms = round(max((WINDOWS_S[name] for name in windows), default=0.0) * 1000)
        since = now - longest_ms if since is None else min(since, now - longest_ms)
        return {
            "targets": self.targets.as_map(),
            "verdicts": {
                objective: {
                    name: judge(objective, self.targets, totals[name], WINDOWS_S[name]).as_map() for name in windows
                }
                for objective in NAMES
            },
            "windows": {name: one.as_map() for name, one in totals.items()},
            "watched_since": max(self.series.watched_since(now), self.uptime.told_since),
            "outages": within(self.uptime.outages, since, now),
            "maintenance": self.maintenance.told(since),
            "triggers": [{"trigger": name, "reason": why} for name, why in self.triggers.firing.items()],
        }

    def told_series(self, since: int, until: int, step_s: int, most: int) -> tuple[list[dict[str, Any]], bool]:
        """The buckets between two instants, the oldest first, at most so many; and whether there are more."""
        step_ms = max(self.series.step_ms, step_s * 1000)
        step_ms -= step_ms % (HOUR_MS if step_ms >= HOUR_MS else self.series.step_ms)
        found = self.series.told(since, until, step_ms)
        told = [{"at": at, "step_s": step_ms // 1000, **totals.as_map()} for at, totals in found[:most]]
        return told, len(found) > most


def _read(saved: SavedBook, name: str, kind: Any) -> Any:
    """A note; ``None`` if it is not there."""
    text = saved.notes.get(name)
    return None if text is None else msgspec.json.decode(text, type=kind)
