"""What a road of directories promises, of the one in memory and of the one over a real Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.redis_server import RedisServer, needs_redis
from trishula_router.cells.directory_road import DirectoryRoad, MemoryDirectoryRoad, MemoryDirectoryRoads
from trishula_router.cells.redis_directory_road import RedisDirectoryRoad
from trishula_router.cells.road import RoadFailed
from trishula_router.settings.cells import CellOptions

# Before any test, which is not to leave a process behind.
pytestmark = pytest.mark.usefixtures("redis")

KEPT_S = 1000.0
Make = Callable[[], DirectoryRoad]


def options_of(port: int, user: str = "") -> CellOptions:
    return CellOptions(
        "south", f"redis://{user}127.0.0.1:{port}", key_file="cells.key", redis_password="env:PASSWORD" if user else ""
    )


@pytest.fixture(params=["memory", pytest.param("redis", marks=needs_redis)])
def end(request: pytest.FixtureRequest, redis: RedisServer | None, tmp_path: Path) -> Iterator[Make]:
    made: list[DirectoryRoad] = []
    roads = MemoryDirectoryRoads(time.monotonic)
    if redis is not None:
        redis.client.flushall()

    def make() -> DirectoryRoad:
        if request.param == "memory":
            made.append(MemoryDirectoryRoad(roads))
        else:
            assert redis is not None
            made.append(RedisDirectoryRoad(options_of(redis.port), tmp_path))
        return made[-1]

    yield make
    for one in made:
        one.close()


def heard(road: DirectoryRoad, since_ms: int = 0) -> tuple[int, dict[str, bytes]]:
    until_ms, found = road.beats(since_ms)
    assert all(0 <= one.age_s < 600 for one in found)
    return until_ms, {one.cell: one.beat for one in found}


def test_what_a_cell_tells_others_hear(end: Make) -> None:
    north, south = end(), end()
    assert heard(north)[1] == {}
    assert south.tell("south", b"beat 1 \x00\xff", b"agents 1", KEPT_S) is None
    since_ms, beats = heard(north)
    assert beats == {"south": b"beat 1 \x00\xff"}
    assert north.agents(["south", "east"]) == [b"agents 1", None]
    assert north.agents([]) == []
    # No agents: they are as before.
    time.sleep(0.01)
    assert south.tell("south", b"beat 2", None, KEPT_S) == b"beat 1 \x00\xff"
    assert north.agents(["south"]) == [b"agents 1"]
    since_ms, beats = heard(north, since_ms)
    assert beats == {"south": b"beat 2"}
    time.sleep(0.01)
    assert heard(north, since_ms + 1)[1] == {}
    north.tell("north", b"beat", b"agents", KEPT_S)
    assert heard(north, since_ms + 1)[1] == {"north": b"beat"}
    assert heard(south)[1] == {"north": b"beat", "south": b"beat 2"}


def test_how_old_a_beat_is_is_told(end: Make) -> None:
    road = end()
    road.tell("south", b"beat", b"agents", KEPT_S)
    time.sleep(0.2)
    (one,) = road.beats(0)[1]
    assert 0.15 <= one.age_s < 600


def test_a_cell_that_tells_nothing_for_long_is_taken_out(end: Make) -> None:
    road = end()
    road.tell("south", b"beat", b"agents", KEPT_S)
    time.sleep(0.05)
    road.tell("north", b"beat", b"agents", 0.01)
    assert heard(road)[1] == {"north": b"beat"}
    assert road.agents(["south", "north"]) == [None, b"agents"]


@needs_redis
def test_of_redis_each_fault_is_told_and_the_next_try_goes_on(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    road = RedisDirectoryRoad(options_of(redis.port), tmp_path)
    road.tell("south", b"beat", b"agents", KEPT_S)
    redis.kill()
    for work in (lambda: road.tell("s", b"b", None, KEPT_S), lambda: road.beats(0), lambda: road.agents(["south"])):
        with pytest.raises(RoadFailed, match="Redis can't be reached"):
            work()
    redis.start()
    assert road.beats(0)[1] == []
    # The rights that messages need are enough.
    page = (Path(__file__).resolve().parents[2] / "deploy/docs/howto/cells.rst").read_text()
    rights = page.partition("A user of Redis needs ``")[2].partition("``")[0].split()
    redis.client.execute_command("ACL", "SETUSER", "cells", "reset", "on", ">s3cret", *rights)
    monkeypatch.setenv("PASSWORD", "s3cret")
    few = RedisDirectoryRoad(options_of(redis.port, "cells@"), tmp_path)
    few.tell("south", b"beat", b"agents", KEPT_S)
    time.sleep(0.05)
    few.tell("north", b"beat", b"agents", 0.01)
    assert heard(few)[1] == {"north": b"beat"}
    assert few.agents(["north"]) == [b"agents"]
    for one in (road, few):
        one.close()
