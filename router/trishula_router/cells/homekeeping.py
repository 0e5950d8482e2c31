"""Homekeeping: tells the road who is here, and asks it who is where. Some addresses at a time, whatever there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from trishula_router.archiving.archiver import InThread
from trishula_router.cells.homes import TTL_S, Home, Homes, plan
from trishula_router.cells.road import Change, Road
from trishula_router.cells.seal import Seal, Unsealed

__all__ = ["Homekeeping"]

#: Addresses of one round: what a round costs is bounded, and so is what a second costs Redis.
_CLAIMS, _ASKED = 500, 256


class Homekeeping:
    """See the module's docstring.

    Args:
        cell: the own cell's name.
        homes: what is known.
        road: where homes are put down.
        in_thread: has what blocks done, one thing after the other.
        seal: of what is put down.
        refused: told of what is not believed: (sentence).
        moved: told of addresses whose home is known, or another one.
        superseded: told of an address that somebody here has, and that another cell is the home of by now.
        seconds: the clock for spans.
        now: the wall clock in ms.
    """

    def __init__(
        self,
        cell: str,
        homes: Homes,
        road: Road,
        in_thread: InThread,
        seal: Callable[[], Seal],
        *,
        refused: Callable[[str], None],
        moved: Callable[[str], None],
        superseded: Callable[[str, str], None],
        seconds: Callable[[], float],
        now: Callable[[], int],
    ) -> None:
        self._cell = cell
        self._homes = homes
        self._road = road
        self._in_thread = in_thread
        self._seal = seal
        self._refused = refused
        self._moved = moved
        self._superseded = superseded
        self._seconds = seconds
        self._now = now

    async def round(self, is_needed: Callable[[str], bool]) -> None:
        """Put down what is due, and ask for what is wanted.

        Args:
            is_needed: whether it is still of interest where an address is.

        Raises:
            RoadFailed: that can't be done just now.
            KeyUnfit: nothing can be sealed.
        """
        await self._claim()
        asked = self._homes.to_ask(self._seconds(), _ASKED, is_needed)
        if asked:
            texts = await self._in_thread(partial(self._road.homes, asked))
            found = {address: self._read(address, text) for address, text in zip(asked, texts, strict=True)}
            for address in self._homes.told(found.items(), self._seconds()):
                self._moved(address)

    async def _claim(self) -> None:
        fences = self._homes.to_claim(self._seconds(), _CLAIMS)
        if not fences:
            return
        addresses = list(fences)
        seen = dict(zip(addresses, await self._in_thread(partial(self._road.homes, addresses)), strict=True))
        planned = self._plan(fences, seen)
        changes = [
            Change(address, seen[address], self._seal().home(address, home.cell, home.fence))
            for address, home in planned.items()
        ]
        done = await self._in_thread(partial(self._road.put_homes, changes, TTL_S))
        for address, is_done in zip(planned, done, strict=True):
            if is_done:
                is_news = not fences[address]
                self._homes.claimed(address, planned[address], self._seconds())
                if is_news:
                    self._moved(address)

    def _plan(self, fences: Mapping[str, int], seen: Mapping[str, bytes | None]) -> dict[str, Home]:
        planned = {}
        for address, fence in fences.items():
            there = self._read(address, seen[address])
            home = plan(self._cell, fence, there, self._now())
            if home is not None:
                planned[address] = home
            elif there is not None:
                self._homes.lost(address, there, self._seconds())
                self._superseded(address, there.cell)
        return planned

    def _read(self, address: str, text: bytes | None) -> Home | None:
        if text is None:
            return None
        try:
            return Home(*self._seal().read_home(address, text))
        except Unsealed as error:
            self._refused(str(error))
            return None
