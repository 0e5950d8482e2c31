"""The recorder: reads what the services of a node have counted, each second, into the book of its objectives.

The services count as they work; what came since the last look is the difference. Each step, which is a minute unless
the options say otherwise, what changed is kept, and the triggers look whether the fallback is to be on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import msgspec
from twisted.logger import Logger

from trishula.watching.objectives import WINDOWS_S
from trishula.watching.sketches import Sketch
from trishula.watching.totals import Totals
from trishula_router.objectives.book import Book, BookFile, Page, SavedBook
from trishula_router.objectives.maintenance import Declared
from trishula_router.objectives.triggers import Triggers
from trishula_router.settings.options import NodeConfig

__all__ = ["FIRST_STEP_S", "BookFile", "NoBookFile", "Recorder", "look_s", "open_book"]

log = Logger()

#: So often the figures are read; so exactly it is known when the node could not serve.
_LOOK_S = 1.0
#: A step is looked at so often at least.
_LOOKS = 4
#: The first time that they are kept and the triggers look, after the node's start.
FIRST_STEP_S = 3.0
#: The most buckets in one answer: with seven sketches each of some hundred bytes, it stays below the frames' limit.
_MOST_BUCKETS = 300


class NoBookFile:
    """Keeps nothing: of a node in memory."""

    def read(self) -> SavedBook:
        """Nothing."""
        return SavedBook()

    def write(self, page: Page) -> None:
        """Do nothing."""

    def set_aside(self, why: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def look_s(step_ms: int) -> float:
    """How often the figures are read with steps of such a length, in seconds."""
    return min(_LOOK_S, step_ms / 1000 / _LOOKS)


def open_book(config: NodeConfig, file: BookFile) -> Book:
    """The book as it was kept; if that can't be read, a new one."""
    try:
        return Book(config.objectives, file.read())
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        file.set_aside(str(error))
        return Book(config.objectives, SavedBook())


class Counted(Protocol):
    """What the recorder reads of a node; all of it only grows, or is taken."""

    @property
    def config(self) -> NodeConfig:
        """The node's options."""

    def is_up(self) -> bool:
        """Whether the node can serve."""

    def attached(self) -> int:
        """How many agents are attached to their mailboxes."""

    def figures(self) -> dict[str, int]:
        """Counts, by the names of the fields of :class:`Totals`."""

    def take_spans(self) -> dict[str, dict[int, int]]:
        """Spans since they were taken last, by the names of the sketches."""

    def missing(self) -> dict[str, int]:
        """Agents that are away and are to be missed, and since when (ms)."""


class Recorder:
    """See the module's docstring.

    Args:
        counted: what the node counts.
        file: where the book is kept.
        now: the wall clock in ms.
        seconds: the clock for spans.
        act: told each step how the triggers are, to turn the fallback on or off.
    """

    def __init__(
        self,
        counted: Counted,
        file: BookFile,
        *,
        now: Callable[[], int],
        seconds: Callable[[], float],
        act: Callable[[Triggers], Awaitable[object]],
    ) -> None:
        self._counted = counted
        self._file = file
        self._now = now
        self._seconds = seconds
        self._act = act
        self.book = open_book(counted.config, file)
        self._figures: dict[str, int] = {}
        self._looked_s = seconds()

    def begin(self, last_record_at: int | None = None) -> None:
        """The node starts: what was counted before counts for nothing, and the time since its last run as downtime.

        Args:
            last_record_at: when its last run wrote its last record, ms; ``None`` if it wrote none.
        """
        self._figures = self._counted.figures()
        self._counted.take_spans()
        self._looked_s = self._seconds()
        self.book.begin(self._now(), self._looked_s, last_record_at)

    async def look(self) -> None:
        """Read what was counted."""
        now_s = self._seconds()
        elapsed_s, self._looked_s = max(0.0, now_s - self._looked_s), now_s
        added = self._added()
        added.present_s = self._counted.attached() * elapsed_s
        self.book.look(self._now(), now_s, is_up=self._counted.is_up(), added=added)

    def _added(self) -> Totals:
        figures = self._counted.figures()
        added = Totals()
        for name, value in figures.items():
            setattr(added, name, max(0, value - self._figures.get(name, 0)))
        self._figures = figures
        for name, counts in self._counted.take_spans().items():
            sketch: Sketch = getattr(added, name)
            for span_ms, count in counts.items():
                sketch.add(span_ms, count)
        return added

    async def step(self) -> None:
        """A step is over: keep what changed, and look whether the fallback is to be on."""
        await self.look()
        now = self._now()
        self._file.write(self.book.page(now))
        facts = self.book.trigger_facts(now, self._counted.missing())
        if self._counted.config.peers:
            # While this node was down its peers may have served everybody, and it can't know.
            facts = replace(facts, down_s=0.0)
        before = dict(self.book.triggers.firing)
        self.book.triggers.step(facts, now)
        self._log_changes(before, self.book.triggers.firing)
        await self._act(self.book.triggers)

    @staticmethod
    def _log_changes(before: Mapping[str, str], firing: Mapping[str, str]) -> None:
        for trigger in firing.keys() - before.keys():
            log.warn("the trigger {trigger} fires: {why}", trigger=trigger, why=firing[trigger])
        for trigger in before.keys() - firing.keys():
            log.warn("the trigger {trigger} has cleared", trigger=trigger)

    async def stop(self) -> None:
        """The node stops: what was counted since the last look is kept too."""
        await self.look()
        self._file.write(self.book.page(self._now()))
        self._file.close()

    # -- answers -------------------------------------------------------------------------------------------------------

    async def told(
        self, windows: tuple[str, ...] | None, since: int | None, until: int | None, step_s: int
    ) -> dict[str, Any]:
        """How the objectives stand now; with ``since`` the buckets from then on too."""
        await self.look()
        now = self._now()
        told = self.book.told(now, tuple(WINDOWS_S) if windows is None else windows, since)
        answer = {"node": self._counted.config.node, "now": now, **told}
        if since is not None:
            series, more = self.book.told_series(since, now + 1 if until is None else until, step_s, _MOST_BUCKETS)
            answer |= {"series": series, "more": more}
        return answer

    def start_maintenance(self, for_s: float, reason: str, by: str) -> Declared:
        """Maintenance begins; kept at once, for the node may be stopped next."""
        declared = self.book.maintenance.start(self._now(), for_s, reason, by)
        self._file.write(self.book.page(self._now()))
        return declared

    def end_maintenance(self) -> Declared | None:
        """Maintenance is over; ``None`` if none was under way."""
        ended = self.book.maintenance.end(self._now())
        self._file.write(self.book.page(self._now()))
        return ended
