"""The callers of the door for A2A: who keeps a place, and who has only made up a token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.loops import in_own_loop
from trishula.a2a_door import callers as callers_module
from trishula.a2a_door.callers import Caller, Callers
from trishula.errors import BusUnreachable, RateLimited, TokenInvalid, TrishulaError
from trishula.runtime.pending import Pending, resolved
from trishula.runtime.surroundings import Surroundings
from trishula.settings import Settings


class Session:
    """A client whose node says what the test says."""

    def __init__(self, hall: Hall, settings: Settings, observer: Any) -> None:
        self.settings = settings
        self.observer = observer
        self.end: TrishulaError | None = None
        self.is_ready = self.is_stopped = False
        self._joined: Pending[None] = Pending()
        hall.sessions[settings.token] = self

    def beat(self) -> None: ...

    def subscribe(self, *_: object) -> Pending[None]:
        return resolved(None)

    async def start(self) -> None:
        await self._joined

    async def stop(self) -> None:
        self.is_stopped = True

    def let_in(self) -> None:
        self.is_ready = True
        self._joined.resolve(None)

    def refuse(self) -> None:
        self.end = TokenInvalid("it is none")
        self.is_ready = False
        self._joined.reject(self.end)


class Hall:
    def __init__(self) -> None:
        self.clock = Clock()
        self.sessions: dict[str, Session] = {}
        self.with_work: set[str] = set()
        around = Surroundings(self.clock, lambda: 0, lambda: 0.5, lambda size: "00" * size)
        self.callers = Callers(self._settings, around, lambda *_: None, lambda name: name in self.with_work)

    def _settings(self, token: str) -> Settings:
        return Settings(("ws://x/ws",), token.partition(".")[0], token)

    async def come(self, token: str) -> asyncio.Task[Caller]:
        """Come with a token, and go on once a session of it is there."""
        asking = asyncio.ensure_future(self.callers.of(token))
        await self.settle()
        return asking

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def joined(self, token: str) -> Caller:
        asking = await self.come(token)
        self.sessions[token].let_in()
        return await asking

    async def pass_s(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.settle()
        await self.callers.sweep()

    @property
    def open(self) -> list[str]:
        return [token for token, session in self.sessions.items() if not session.is_stopped]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Hall], Coroutine[Any, Any, None]]], None]:
    """Plays a scene in a hall."""

    def run(scene: Callable[[Hall], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            hall = Hall()
            monkeypatch.setattr(
                callers_module, "Client", lambda settings, *, around, observer: Session(hall, settings, observer)
            )
            await scene(hall)
            await hall.callers.close()
            assert hall.open == []

        in_own_loop(main)

    return run


Play = Callable[[Callable[[Hall], Coroutine[Any, Any, None]]], None]


def test_one_session_for_each_token(play: Play) -> None:
    async def scene(hall: Hall) -> None:
        caller = await hall.joined("partner.s")
        assert await hall.callers.of("partner.s") is caller
        assert hall.callers.named("partner") is caller
        assert hall.callers.named("nobody") is None
        with pytest.raises(TokenInvalid, match=r"must look like NAME\.SECRET"):
            await hall.callers.of("nothing")

    play(scene)


def test_made_up_secrets_of_a_name_with_work_keep_no_places(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers_module, "_MOST_JOINING", 3)

    async def scene(hall: Hall) -> None:
        hall.with_work.add("partner")
        asking = [await hall.come(f"partner.x{number}") for number in range(3)]
        with pytest.raises(BusUnreachable, match="3 others are joining just now"):
            await hall.callers.of("honest.s")
        hall.sessions["partner.x0"].refuse()
        # As soon as the node has said no, also if nobody waits for it any more.
        asking[1].cancel()
        hall.sessions["partner.x1"].refuse()
        await hall.joined("honest.s")
        await hall.pass_s(1)
        assert hall.open == ["partner.x2", "honest.s"]
        await hall.pass_s(21)
        assert hall.open == ["honest.s"]
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(one) for one in outcomes] == [TokenInvalid, asyncio.CancelledError, BusUnreachable]

    play(scene)


def test_a_node_that_is_asked_too_often_lets_the_places_go(play: Play) -> None:
    async def scene(hall: Hall) -> None:
        asking = await hall.come("partner.x")
        hall.callers.resume("worker.s")
        for token in ("partner.x", "worker.s"):
            hall.sessions[token].observer.unreachable(RateLimited("too many wrong tokens came from there"), 0.0)
        with pytest.raises(RateLimited):
            await asking
        assert hall.open == ["worker.s"]

    play(scene)


def test_who_has_work_is_spared_and_who_is_quiet_goes(play: Play) -> None:
    async def scene(hall: Hall) -> None:
        for name in ("busy", "quiet"):
            await hall.joined(f"{name}.s")
        hall.callers.resume("again.s")
        hall.with_work |= {"busy", "again"}
        await hall.pass_s(899)
        assert hall.open == ["busy.s", "quiet.s", "again.s"]
        await hall.pass_s(2)
        assert hall.open == ["busy.s", "again.s"]
        hall.with_work.clear()
        await hall.pass_s(1)
        assert hall.open == []

    play(scene)


def test_a_token_that_is_revoked_is_told_and_goes(play: Play) -> None:
    async def scene(hall: Hall) -> None:
        hall.with_work.add("partner")
        await hall.joined("partner.s")
        hall.callers.resume("worker.s")
        hall.sessions["partner.s"].refuse()
        hall.sessions["worker.s"].refuse()
        await hall.settle()
        assert hall.callers.refused() == [("partner", "partner.s"), ("worker", "worker.s")]
        await hall.callers.sweep()
        assert (hall.open, hall.callers.refused()) == ([], [])
        await hall.joined("partner.s")
        hall.sessions["partner.s"].refuse()
        with pytest.raises(TokenInvalid):
            await hall.callers.of("partner.s")

    play(scene)


def test_the_idle_one_makes_room_and_then_the_one_that_was_quiet_for_longest(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers_module, "_MOST", 2)

    async def scene(hall: Hall) -> None:
        hall.with_work.add("busy")
        for name in ("busy", "idle", "third"):
            hall.clock.advance(1)
            await hall.joined(f"{name}.s")
        assert hall.open == ["busy.s", "third.s"]
        hall.with_work.add("third")
        hall.clock.advance(1)
        await hall.joined("fourth.s")
        assert hall.open == ["third.s", "fourth.s"]

    play(scene)
