"""Sending: what goes onto the road, gathered into as few steps of it as may be.

What is posted in one turn leaves in one step, and what is posted while a step is under way leaves in the next one. News
waits for :data:`GATHER_S` or for a message to leave, and so does the word that entries are worked off. Nobody waits for
either of them: with a step for each, three of four steps of a cell were for news, and each of them woke the other cell,
had it commit, and was acknowledged by one more.

While the road is away letters are let go of from a bound on, for whatever they were about is sent or asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from trishula_router.archiving.archiver import InThread
from trishula_router.background import run
from trishula_router.cells.letters import Letter, Mail, News, Parcel, in_parcels, without_outdated
from trishula_router.cells.road import Road, RoadFailed
from trishula_router.cells.seal import KeyUnfit, Seal
from trishula_router.cells.standing import Standing
from trishula_router.clocks.clock import Clock

__all__ = ["GATHER_S", "Sending"]

#: How long news and acknowledgements wait for others: the steps of a message at its cell take about so long.
GATHER_S = 0.01
#: Letters that wait for a road that is away, and how large they may be together.
_POSTED, _POSTED_BYTES = 20_000, 32 * 1024 * 1024


class Sending:
    """See the module's docstring.

    Args:
        cell: the own cell's name.
        epoch: of this run of the node.
        road: the end that writes.
        in_writer: has what blocks done, one thing after the other.
        seal: proves who says it; raises :class:`.seal.KeyUnfit` while it can't.
        standing: of the road.
        went_well: told of each step that was done.
        clock: timers.
    """

    def __init__(
        self,
        cell: str,
        epoch: str,
        road: Road,
        in_writer: InThread,
        seal: Callable[[], Seal],
        standing: Standing,
        went_well: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._cell = cell
        self._epoch = epoch
        self._road = road
        self._in_writer = in_writer
        self._seal = seal
        self._standing = standing
        self._went_well = went_well
        self._clock = clock
        self._posted: dict[str, list[Letter]] = {}
        self._posted_count = self._posted_bytes = 0
        self._worked_off: list[str] = []
        # Something is to leave now, or when what is gathered has waited for long enough.
        self._is_urgent = self._gathers = False
        self._is_writing = self._is_stopped = False

    def stop(self) -> None:
        """Begin nothing more."""
        self._is_stopped = True

    def post(self, cell: str, letter: Letter) -> None:
        """Send a letter to a cell; it may get lost on the way."""
        size_bytes = len(letter.envelope) if isinstance(letter, Mail) else 0
        if self._posted_count >= _POSTED or self._posted_bytes + size_bytes > _POSTED_BYTES:
            return
        self._posted.setdefault(cell, []).append(letter)
        self._posted_count += 1
        self._posted_bytes += size_bytes
        if isinstance(letter, News):
            self._gather()
        elif not self._is_urgent:
            self._is_urgent = True
            self._clock.callLater(0, self._write_soon)

    def acknowledge(self, ids: Iterable[str]) -> None:
        """Entries of the own stream were worked off: they are taken out."""
        self._worked_off += ids
        self._gather()

    def go(self) -> None:
        """Have whatever waits leave now."""
        self._is_urgent = bool(self._posted or self._worked_off)
        self._write_soon()

    def _gather(self) -> None:
        if not self._gathers:
            self._gathers = True
            self._clock.callLater(GATHER_S, self._gathered)

    def _gathered(self) -> None:
        self._gathers = False
        self.go()

    def _write_soon(self) -> None:
        if self._is_urgent and not self._is_writing and not self._is_stopped and self._standing.may("write"):
            self._is_writing = True
            run(self._write())

    async def _write(self) -> None:
        try:
            while self._is_urgent and not self._is_stopped:
                self._is_urgent = False
                posted, self._posted = self._posted, {}
                self._posted_count = self._posted_bytes = 0
                # If they get lost, the road gives those entries again after a while, and nothing follows from that.
                worked_off, self._worked_off = self._worked_off, []
                seal = self._seal()
                entries = [
                    (cell, seal.entry(Parcel(self._cell, cell, self._epoch, letters)))
                    for cell, all_letters in posted.items()
                    for letters in in_parcels(without_outdated(all_letters))
                ]
                await self._in_writer(partial(self._road.append, entries, worked_off))
                self._went_well()
        except (RoadFailed, KeyUnfit) as error:
            self._standing.failed("write", str(error))
        finally:
            self._is_writing = False
