"""Directories between cells: each says who of its agents is there, and what they can do; each knows what others said.

Of linked nodes the one that forwards speaks for the cell (:mod:`.exchange`), and each of them listens. When the road is
away, what is known stays, and gets older (:mod:`.others`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from trishula.contract.texts import one_line
from trishula_router.archiving.archiver import InThread
from trishula_router.background import run
from trishula_router.cells.directory_road import DirectoryRoad, Heard
from trishula_router.cells.directory_words import (
    Beat,
    digest_of,
    read_agents,
    read_beat,
    write_agents,
    write_beat,
)
from trishula_router.cells.others import KEPT_S, Others
from trishula_router.cells.road import RoadFailed
from trishula_router.cells.seal import KeyUnfit, Seal, Unsealed
from trishula_router.cells.standing import Standing
from trishula_router.clocks.clock import Clock

__all__ = ["Directories"]

#: So often the own agents are looked at, and the beats of others: as often as linked nodes tell each other.
_PERIOD_S = 2.0
#: So often a cell gives a sign of life in which nothing changed.
_BEAT_S = 10.0
#: Of so many cells the agents are fetched at a time.
_TOGETHER = 16
#: Beats that are remembered as read; whoever can write to Redis can make up cells.
_MOST = 10_000
#: Cells that are told of in ``node.status``.
_TOLD = 50


class Directories:
    """See the module's docstring.

    Args:
        cell: the own cell's name.
        road: where directories are put down.
        in_thread: has what blocks done, one thing after the other.
        seal: proves who says what; raises :class:`.seal.KeyUnfit` while it can't.
        others: what is known.
        own: the directory of the own cell.
        leads: whether this node speaks for the cell.
        not_believed: told of what no cell has said: a sentence.
        where: the road leads, for people.
        clock: timers.
        now: the wall clock in ms.
        random: spreads pauses.
    """

    def __init__(
        self,
        cell: str,
        road: DirectoryRoad,
        in_thread: InThread,
        seal: Callable[[], Seal],
        others: Others,
        *,
        own: Callable[[], list[dict[str, Any]]],
        leads: Callable[[], bool],
        not_believed: Callable[[str], None],
        where: str,
        clock: Clock,
        now: Callable[[], int],
        random: Callable[[], float],
    ) -> None:
        self._cell = cell
        self._road = road
        self._in_thread = in_thread
        self._seal = seal
        self.others = others
        self._own = own
        self._leads = leads
        self._not_believed = not_believed
        self._clock = clock
        self._now = now
        self._standing = Standing(
            where, clock, random, "the directories of other cells", "what is known of them stays, and gets older"
        )
        self._is_under_way = self._is_stopped = False
        self._due_s = 0.0
        self._beat_s = -_BEAT_S
        self._digest, self._said, self._number = b"", b"", 0
        self._since_ms = 0
        #: The last beat of each cell that was read: it is read once.
        self._read: dict[str, bytes] = {}

    @property
    def fault(self) -> str | None:
        """Why nothing is heard of other cells, as a sentence; ``None`` while it is."""
        return self._standing.fault

    def told(self) -> dict[str, Any]:
        """What there is to know of it, as it travels."""
        now_s = self._clock.seconds()
        return {
            "known": len(self.others),
            "silent": len(self.others.silent(now_s)),
            "cells": self.others.told(now_s, _TOLD),
            "fault": self.fault,
        }

    def merged(self, own: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The directory of all cells, out of that of the own one."""
        return self.others.merged(own, self._clock.seconds())

    def follow_clock(self, by_ms: int) -> None:
        """The node's clock was set: it is ahead by so much now."""
        self.others.follow_clock(by_ms)

    def round(self) -> None:
        """What is due: to be called a few times a second."""
        now_s = self._clock.seconds()
        if self._is_under_way or self._is_stopped or now_s < self._due_s or not self._standing.may("directory"):
            return
        self._due_s = now_s + _PERIOD_S
        self._is_under_way = True
        run(self._go_round())

    def stop(self) -> None:
        """Begin nothing more; what is under way ends with the process."""
        self._is_stopped = True

    async def _go_round(self) -> None:
        try:
            if self._leads():
                await self._tell()
            await self._hear()
            self._standing.well("directory")
            self.others.forget(self._clock.seconds())
        except (RoadFailed, KeyUnfit) as error:
            self._standing.failed("directory", str(error))
        finally:
            self._is_under_way = False

    async def _tell(self) -> None:
        agents = write_agents(self._own())
        digest, now_s, now = digest_of(agents), self._clock.seconds(), self._now()
        if digest == self._digest and now_s - self._beat_s < _BEAT_S:
            return
        self._number = max(self._number + 1, now)
        beat = write_beat(Beat(cell=self._cell, number=self._number, sent_at=now, digest=digest))
        said = self._seal().beat(self._cell, beat)
        is_news = digest != self._digest
        before = await self._in_thread(partial(self._road.tell, self._cell, said, agents if is_news else None, KEPT_S))
        # The next round says all of it again if somebody else spoke for this cell, or Redis has lost what was there.
        is_as_before = before is not None and before == self._said
        self._digest = digest if is_news or is_as_before else b""
        self._said, self._beat_s = said, now_s
        if before is not None and not is_as_before:
            self._follow(before)

    def _follow(self, before: bytes) -> None:
        """Whoever spoke for this cell may have a clock that is ahead."""
        try:
            number = read_beat(self._seal().read_beat(self._cell, before)).number
        except (Unsealed, ValueError):
            return
        if number >= self._number:
            self._number, self._digest = number, b""

    async def _hear(self) -> None:
        self._since_ms, heard = await self._in_thread(partial(self._road.beats, self._since_ms))
        seal = self._seal()
        for one in heard:
            if one.cell != self._cell and self._read.get(one.cell) != one.beat:
                self._read[one.cell] = one.beat
                self._take(seal, one)
        if len(self._read) > _MOST:
            self._read.clear()
        wanted = self.others.wanted()
        for begin in range(0, len(wanted), _TOGETHER):
            cells = wanted[begin : begin + _TOGETHER]
            told = await self._in_thread(partial(self._road.agents, cells))
            for cell, agents in zip(cells, told, strict=True):
                self._learn(cell, agents)

    def _take(self, seal: Seal, one: Heard) -> None:
        try:
            beat = read_beat(seal.read_beat(one.cell, one.beat))
        except (Unsealed, ValueError) as error:
            self._not_believed(f"the sign of life of the cell {one_line(one.cell)[:64]}: {error}")
            return
        self.others.beat(one.cell, beat, one.age_s, self._clock.seconds(), self._now())

    def _learn(self, cell: str, agents: bytes | None) -> None:
        # Another one may have been put down since its beat was read; the next beat tells.
        if agents is None or digest_of(agents) != self.others.digest(cell):
            return
        try:
            entries = read_agents(agents)
        except ValueError as error:
            self._not_believed(f"the agents of the cell {cell}: {error}")
            entries = []
        self.others.agents(cell, entries)
