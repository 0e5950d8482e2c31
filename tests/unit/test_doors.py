"""The doors of several models: one for each token, and none for who has only made one up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.loops import in_own_loop
from trishula import testing
from trishula.errors import BusUnreachable, RateLimited, TokenInvalid, TrishulaError
from trishula.front_door import doors as doors_module
from trishula.front_door.doors import Doors
from trishula.front_door.member import Member
from trishula.front_door.tools import Tools
from trishula.testing import MemoryBus
from trishula.testing.turned_clock import LifeClock


class Hall:
    """Doors on a bus in memory; no node says anything about the tokens of the agent ``ghost``."""

    def __init__(self, bus: MemoryBus) -> None:
        self.bus = bus
        self.now_s = 0.0
        self.opened: list[str] = []
        self.doors = Doors(self._open, lambda: self.now_s)

    def _open(self, token: str) -> Tools:
        self.opened.append(token)
        agent, around = token.partition(".")[0], self.bus._around(LifeClock(self.bus.clock))
        return Tools(Member(self.bus._settings(agent), state=False, around=around, connection=self.bus.wire(agent)))

    async def knock(self, token: str) -> asyncio.Task[Tools]:
        """Ask for a door, and go on once it was looked for."""
        self.now_s += 1.0
        asking = asyncio.ensure_future(self.doors.of(token))
        await self.bus.settle()
        return asking


@asynccontextmanager
async def hall(*agents: str) -> AsyncIterator[Hall]:
    async with testing.bus(agents=[*agents, "ghost"]) as bus:
        there = Hall(bus)
        with bus.cut_off("ghost"):
            yield there
            await there.doors.close()


def test_one_door_for_each_token_however_often_it_is_asked_for() -> None:
    async def main() -> None:
        async with hall("dc", "agni") as there:
            first = await there.doors.of("dc.secret")
            assert await there.doors.of("agni.secret") is not first
            assert await there.doors.of("dc.secret") is first
            assert there.opened == ["dc.secret", "agni.secret"]
            with pytest.raises(TokenInvalid, match=r"must look like NAME\.SECRET"):
                await there.doors.of("nothing")

    in_own_loop(main)


def test_made_up_tokens_close_no_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors_module, "_MOST", 2)
    monkeypatch.setattr(doors_module, "_MOST_JOINING", 3)

    async def main() -> None:
        async with hall("dc", "agni") as there:
            real = [await there.doors.of("dc.secret"), await there.doors.of("agni.secret")]
            waiting = [await there.knock(f"ghost.{number}") for number in range(3)]
            for number in range(3, 20):
                with pytest.raises(BusUnreachable, match="3 others are joining just now; try again"):
                    await there.doors.of(f"ghost.{number}")
            assert [await there.doors.of("dc.secret"), await there.doors.of("agni.secret")] == real
            await there.bus.advance(seconds=11)
            for asking in waiting:
                with pytest.raises(BusUnreachable, match="no node let the agent ghost join within 10 s"):
                    await asking
            # Their places are free again.
            there.now_s += 11.0
            assert await there.doors.of("dc.secret") is real[0]
            assert len(there.doors) == 2

    in_own_loop(main)


def test_a_node_that_is_asked_too_often_lets_the_places_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors_module, "_MOST_JOINING", 1)

    async def main() -> None:
        async with hall("dc") as there:
            asking = await there.knock("ghost.1")
            (door,) = there.doors._doors.values()
            door.tools.member.unreachable(RateLimited("too many wrong tokens came from there"), 0.0)
            await there.doors.of("dc.secret")
            assert len(there.doors) == 1
            await there.bus.advance(seconds=11)
            with pytest.raises(TrishulaError):
                await asking

    in_own_loop(main)


def test_the_door_that_was_quiet_for_longest_goes_for_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors_module, "_MOST", 2)

    async def main() -> None:
        async with hall("dc", "agni", "rush") as there:
            for token in ("dc.secret", "agni.secret", "dc.secret", "rush.secret"):
                await (await there.knock(token))
            assert len(there.doors) == 2
            for token in ("dc.secret", "rush.secret", "agni.secret"):
                await (await there.knock(token))
            assert there.opened == ["dc.secret", "agni.secret", "rush.secret", "agni.secret"]

    in_own_loop(main)


def test_who_is_quiet_for_long_finds_a_new_door() -> None:
    async def main() -> None:
        async with hall("dc") as there:
            await there.doors.of("dc.secret")
            there.now_s += 901.0
            await there.doors.of("dc.secret")
            assert there.opened == ["dc.secret", "dc.secret"]

    in_own_loop(main)
