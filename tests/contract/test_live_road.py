"""What a road of live events promises, of the one in memory and of the one over a real Redis."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.redis_server import RedisServer, needs_redis, until
from trishula_router.cells.live_road import LiveRoad, MemoryLiveRoad, MemoryLiveRoads
from trishula_router.cells.redis_live_road import RedisLiveRoad
from trishula_router.cells.road import RoadFailed
from trishula_router.settings.cells import CellOptions

# Before any test, which is not to leave a process behind.
pytestmark = pytest.mark.usefixtures("redis")

Make = Callable[[], LiveRoad]


def options_of(port: int) -> CellOptions:
    return CellOptions("south", f"redis://127.0.0.1:{port}", key_file="cells.key")


@pytest.fixture(params=["memory", pytest.param("redis", marks=needs_redis)])
def end(request: pytest.FixtureRequest, redis: RedisServer | None, tmp_path: Path) -> Iterator[Make]:
    made: list[LiveRoad] = []
    roads = MemoryLiveRoads()

    def make() -> LiveRoad:
        if request.param == "memory":
            made.append(MemoryLiveRoad(roads))
        else:
            assert redis is not None
            made.append(RedisLiveRoad(options_of(redis.port), tmp_path))
        return made[-1]

    yield make
    for one in made:
        one.close()


class Ear:
    """Hears channels, and keeps what it heard, but for what others said to hear whether they listen."""

    def __init__(self, road: LiveRoad) -> None:
        self.road = road
        self.heard: list[tuple[str, bytes]] = []

    def hear(self, *channels: str) -> list[tuple[str, bytes]]:
        self.all = self.road.hear(set(channels), 0.05)
        self.heard += [one for one in self.all if one[1] != b"?"]
        return self.heard


def listening(mouth: LiveRoad, ear: Ear, *channels: str) -> None:
    """Speak until it listens."""

    def said() -> bool:
        ear.hear(*channels)
        mouth.say([(channel, b"?") for channel in channels])
        ear.hear(*channels)
        return {one for one, _ in ear.all} >= set(channels)

    until(said, bool)


def test_what_is_said_is_heard_in_order_by_all_that_listen(end: Make) -> None:
    mouth, one, two = end(), Ear(end()), Ear(end())
    for ear in (one, two):
        listening(mouth, ear, "a", "b")
    said = [("ab"[number % 2], b"%d \x00\xff" % number) for number in range(1000)]
    mouth.say(said)
    for ear in (one, two):
        assert until(lambda: ear.hear("a", "b"), lambda heard: len(heard) >= 1000) == said  # noqa: B023


def test_what_nobody_asked_for_is_not_heard_and_nothing_is_kept(end: Make) -> None:
    mouth, ear = end(), Ear(end())
    mouth.say([("a", b"before")])
    listening(mouth, ear, "a")
    mouth.say([("b", b"x"), ("a", b"1")])
    assert until(lambda: ear.hear("a"), bool) == [("a", b"1")]
    ear.heard.clear()
    listening(mouth, ear, "b", "c")
    mouth.say([("a", b"x"), ("c", b"2")])
    assert until(lambda: ear.hear("b", "c"), bool) == [("c", b"2")]
    ear.heard.clear()
    assert ear.road.hear(set(), 0.01) == []
    mouth.say([("c", b"x")])
    listening(mouth, ear, "c")
    assert ear.hear("c") == []


def test_after_a_close_it_hears_again(end: Make) -> None:
    mouth, ear = end(), Ear(end())
    listening(mouth, ear, "a")
    for one in (ear.road, mouth):
        one.close()
    listening(mouth, ear, "a")
    mouth.say([("a", b"1")])
    assert until(lambda: ear.hear("a"), bool) == [("a", b"1")]


@needs_redis
def test_of_redis_each_fault_is_told_and_the_next_try_goes_on(redis: RedisServer, tmp_path: Path) -> None:
    mouth, ear = RedisLiveRoad(options_of(redis.port), tmp_path), Ear(RedisLiveRoad(options_of(redis.port), tmp_path))
    listening(mouth, ear, "a")
    redis.kill()

    def fails(work: Callable[[], object]) -> bool:
        try:
            work()
        except RoadFailed as error:
            assert "Redis can't be reached" in str(error)
            return True
        return False

    until(lambda: fails(lambda: ear.hear("a")), bool)
    with pytest.raises(RoadFailed, match="Redis can't be reached"):
        mouth.say([("a", b"1")])
    redis.start()
    listening(mouth, ear, "a")
    for one in (mouth, ear.road):
        one.close()


@needs_redis
def test_a_user_needs_the_rights_that_the_how_to_names_and_no_more(redis: RedisServer, tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "deploy/docs/howto/cells.rst").read_text()
    rights = page.partition("for live topics ``")[2].partition("``")[0].split()
    (tmp_path / "password").write_text("s3cret")
    client = redis.client
    options = CellOptions(
        "south",
        f"redis://cells@127.0.0.1:{redis.port}",
        redis_password="file:password",
        key_file="cells.key",
    )

    def use() -> None:
        mouth, ear = RedisLiveRoad(options, tmp_path), Ear(RedisLiveRoad(options, tmp_path))
        try:
            for channels in (("a", "b"), ("b",)):
                listening(mouth, ear, *channels)
            # What is asked for is answered a moment later.
            ear.road.hear({"b"}, 0.2)
        finally:
            for one in (mouth, ear.road):
                one.close()

    for missing in ("", *rights):
        client.execute_command(
            "ACL", "SETUSER", "cells", "reset", "on", ">s3cret", *[r for r in rights if r != missing]
        )
        if missing:
            with pytest.raises(RoadFailed, match="permission"):
                use()
        else:
            use()


@needs_redis
def test_a_redis_that_answers_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trishula_router.cells.redis_connection.TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        road = RedisLiveRoad(options_of(silent.getsockname()[1]), tmp_path)
        with pytest.raises(RoadFailed, match="did not answer"):
            road.say([("a", b"1")])
        road.close()
