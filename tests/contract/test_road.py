"""What a road promises, of the one in memory and of the one over a real Redis."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.redis_server import RedisServer, needs_redis, until
from trishula_router.cells.memory_road import MemoryRoad, MemoryRoads
from trishula_router.cells.redis_road import RedisRoad
from trishula_router.cells.road import Change, Entry, Road, RoadFailed
from trishula_router.settings.cells import CellOptions

# Before any test, which is not to leave a process behind.
pytestmark = pytest.mark.usefixtures("redis")

#: After this time another node of a cell takes over what one left. Tests don't wait for it: they have it pass.
TAKES_OVER_S = 60.0


class Subject:
    """Ends of one road, and what can be done to it."""

    def __init__(self, end: Callable[[str, str], Road], flush: Callable[[], object], wait: Callable[[float], object]):
        self.end, self.flush, self.wait = end, flush, wait


def redis_client(port: int) -> Any:
    import redis

    return redis.Redis(port=port, socket_timeout=20.0)


def options_of(server: RedisServer, cell: str = "south") -> CellOptions:
    return CellOptions(cell, f"redis://127.0.0.1:{server.port}", key_file="cells.key")


@pytest.fixture(params=["memory", pytest.param("redis", marks=needs_redis)])
def subject(request: pytest.FixtureRequest, redis: RedisServer | None, tmp_path: Path) -> Iterator[Subject]:
    if request.param == "memory":
        now = [0.0]

        def wait(seconds: float) -> None:
            now[0] += seconds

        roads = MemoryRoads(lambda: now[0])
        yield Subject(lambda cell, node: MemoryRoad(roads, cell, node, TAKES_OVER_S), roads.flush, wait)
        return
    assert redis is not None
    server = redis
    server.client.flushall()
    made: list[RedisRoad] = []

    def end(cell: str, node: str) -> Road:
        made.append(RedisRoad(options_of(server, cell), node, tmp_path, round(TAKES_OVER_S * 1000)))
        return made[-1]

    yield Subject(end, server.client.flushall, lambda seconds: let_pass(server, seconds))
    for one in made:
        one.close()


def let_pass(server: RedisServer, seconds: float) -> None:
    """Have homes end, and what was read be left, sooner by some seconds; nobody need wait for that."""
    client, until_key, stream = server.client, "trishula:cells:homes:until", "trishula:cells:in:south"
    for address, ends_at in client.zrange(until_key, 0, -1, withscores=True):
        client.zadd(until_key, {address: ends_at - 1000 * seconds})
    for one in client.xpending_range(stream, "cell", "-", "+", 100) if client.exists(stream) else ():
        idle_ms = one["time_since_delivered"] + round(1000 * seconds)
        client.xclaim(stream, "cell", one["consumer"], 0, [one["message_id"]], idle=idle_ms, justid=True)


def numbers(entries: list[Entry]) -> list[bytes]:
    return [entry.fields[b"n"] for entry in entries]


def test_entries_come_in_order_to_the_cell_that_they_are_for(subject: Subject) -> None:
    north, south = subject.end("north", "n1"), subject.end("south", "s1")
    assert south.read(10, 0.01) == []
    north.append([("south", {b"n": b"1"}), ("east", {b"n": b"2"}), ("south", {b"n": b"3"})])
    entries = south.read(10, 1.0)
    assert numbers(entries) == [b"1", b"3"]
    south.append([], [entry.id for entry in entries])
    assert south.read(10, 0.01) == []
    assert numbers(subject.end("east", "e1").read(10, 1.0)) == [b"2"]


def test_no_more_come_than_were_asked_for(subject: Subject) -> None:
    south = subject.end("south", "s1")
    south.append([("south", {b"n": b"%d" % number}) for number in range(5)])
    assert [numbers(south.read(2, 0.1)) for _ in range(3)] == [[b"0", b"1"], [b"2", b"3"], [b"4"]]


def test_what_was_not_acknowledged_comes_again_to_the_node_that_read_it(subject: Subject) -> None:
    south = subject.end("south", "s1")
    south.append([("south", {b"n": b"1"}), ("south", {b"n": b"2"})])
    first = south.read(10, 1.0)
    south.append([], [first[0].id])
    again = subject.end("south", "s1").read(10, 1.0)
    assert numbers(again) == [b"2"]
    # An end that let go of its connections begins anew, too.
    south.close()
    assert numbers(south.read(10, 1.0)) == [b"2"]
    # Nor does it wait for what it gave again: that may be taken out later.
    south.append([("south", {b"n": b"3"}), ("south", {b"n": b"4"})])
    south.read(10, 1.0)
    south.close()
    assert [numbers(south.read(2, 0.01)) for _ in range(3)] == [[b"2", b"3"], [b"4"], []]


def test_another_node_of_the_cell_takes_over_what_one_left(subject: Subject) -> None:
    left, other = subject.end("south", "s1"), subject.end("south", "s2")
    left.append([("south", {b"n": b"1"})])
    assert numbers(left.read(10, 1.0)) == [b"1"]
    assert other.read(10, 0.01) == []
    subject.wait(2 * TAKES_OVER_S)
    found: list[Entry] = []
    for _ in range(20):
        # It need not look for that each time.
        entries = other.read(10, 0.01)
        other.append([], [entry.id for entry in entries])
        found += entries
    assert numbers(found) == [b"1"]


def test_a_flush_loses_all_and_the_road_goes_on(subject: Subject) -> None:
    north, south = subject.end("north", "n1"), subject.end("south", "s1")
    south.read(10, 0.01)
    north.append([("south", {b"n": b"1"})])
    before = south.losses
    subject.flush()
    assert south.read(10, 0.01) == []
    # So that nobody waits for what was on it.
    assert south.losses == before + 1
    north.append([("south", {b"n": b"2"})])
    assert numbers(south.read(10, 1.0)) == [b"2"]
    subject.flush()
    # What was flushed is acknowledged in vain.
    south.append([], ["1-0"])


def test_a_home_is_put_down_only_in_place_of_what_was_seen(subject: Subject) -> None:
    north, south = subject.end("north", "n1"), subject.end("south", "s1")
    assert north.homes(["agni", "dc"]) == [None, None]
    assert north.put_homes([Change("agni", None, b"north 1"), Change("dc", None, b"north 1")], 60.0) == [True, True]
    assert south.put_homes([Change("agni", None, b"south 1")], 60.0) == [False]
    assert south.put_homes([Change("agni", b"north 1", b"south 2"), Change("dc", b"x", b"y")], 60.0) == [True, False]
    assert north.homes(["agni", "dc", "mac"]) == [b"south 2", b"north 1", None]
    assert north.put_homes([], 60.0) == []
    assert north.homes([]) == []


def test_a_home_ends_unless_it_is_put_down_again(subject: Subject) -> None:
    south = subject.end("south", "s1")
    south.put_homes([Change("agni", None, b"a"), Change("dc", None, b"a")], 60.0)
    subject.wait(50.0)
    south.put_homes([Change("dc", b"a", b"a")], 60.0)
    assert south.homes(["agni", "dc"]) == [b"a", b"a"]
    subject.wait(50.0)
    # Whoever puts something down takes out what has ended.
    south.put_homes([Change("mac", None, b"a")], 60.0)
    assert south.homes(["agni", "dc"]) == [None, b"a"]


# -- Redis alone -------------------------------------------------------------------------------------------------------


@needs_redis
def test_a_stream_is_bounded(redis: RedisServer, tmp_path: Path) -> None:
    redis.client.flushall()
    road = RedisRoad(replace(options_of(redis), maxlen=1000), "s1", tmp_path)
    for _ in range(30):
        road.append([("south", {b"n": b"x"})] * 100)
    assert 1000 <= redis.client.xlen("trishula:cells:in:south") < 1300
    road.close()


@needs_redis
def test_a_user_needs_the_rights_that_the_how_to_names_and_no_more(redis: RedisServer, tmp_path: Path) -> None:
    redis.client.flushall()
    page = (Path(__file__).resolve().parents[2] / "deploy/docs/howto/cells.rst").read_text()
    rights = page.partition("A user of Redis needs ``")[2].partition("``")[0].split()
    (tmp_path / "password").write_text("s3cret")
    client = redis.client
    client.execute_command("ACL", "SETUSER", "cells", "reset", "on", ">s3cret", *rights)
    options = replace(options_of(redis), redis=f"redis://cells@127.0.0.1:{redis.port}", redis_password="file:password")

    def use() -> None:
        road = RedisRoad(options, "s1", tmp_path)
        try:
            road.append([("south", {b"n": b"1"})])
            road.append([], [entry.id for entry in road.read(10, 0.01)])
            road.put_homes([Change("agni", None, b"a"), Change("dc", None, b"a")], 0.01)
            time.sleep(0.05)
            road.put_homes([Change("mac", None, b"a")], 60.0)
            assert road.homes(["agni", "mac"]) == [None, b"a"]
            client.delete("trishula:cells:homes", "trishula:cells:homes:until", "trishula:cells:in:south")
        finally:
            road.close()

    use()
    for right in rights:
        if right.startswith("+"):
            client.execute_command("ACL", "SETUSER", "cells", "-" + right[1:])
            with pytest.raises(RoadFailed):
                use()
            client.flushall()
            client.execute_command("ACL", "SETUSER", "cells", right)


@needs_redis
def test_faults_of_redis_are_told_in_a_sentence_and_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrong").write_text("no")
    (tmp_path / "right").write_text("s3cret")
    with RedisServer(tmp_path, "s3cret") as server:
        options = replace(options_of(server), redis_password="file:right")
        wrong = RedisRoad(replace(options, redis_password="file:wrong"), "s1", tmp_path)
        road = RedisRoad(options, "s1", tmp_path)
        with pytest.raises(RoadFailed, match=r"^Redis refuses the login .*; look at cells.redis_password$"):
            wrong.append([("south", {b"n": b"1"})])
        with pytest.raises(RoadFailed, match=r"^cells.redis_password: .*missing can't be read"):
            RedisRoad(replace(options, redis_password="file:missing"), "s1", tmp_path).homes(["agni"])
        road.append([("south", {b"n": b"1"})])
        server.client.config_set("maxmemory", "1mb")
        with pytest.raises(RoadFailed, match=r"^Redis answered: command not allowed when used memory > 'maxmemory'"):
            for _ in range(100):
                road.append([("south", {b"n": b"x" * 50_000})])
        server.client.config_set("maxmemory", "0")
        server.client.replicaof("127.0.0.1", 1)
        with pytest.raises(RoadFailed, match=r"^Redis answered: .*read only replica"):
            road.append([("south", {b"n": b"1"})])
        server.client.replicaof("NO", "ONE")
        server.signal(signal.SIGSTOP)
        with monkeypatch.context() as patch:
            patch.setattr("trishula_router.cells.redis_connection.TIMEOUT_S", 0.3)
            hasty = RedisRoad(options, "s1", tmp_path)
            with pytest.raises(RoadFailed, match=r"^Redis did not answer within 0.3 s$"):
                hasty.append([("south", {b"n": b"1"})])
        server.signal(signal.SIGCONT)
        road.append([("south", {b"n": b"1"})])
        server.kill()
        with pytest.raises(RoadFailed, match=r"^Redis can't be reached: "):
            road.read(1, 0.1)
        server.start()
        road.append([("south", {b"n": b"2"})])
        assert numbers(road.read(10, 1.0)) == [b"2"]
        road.close()
        wrong.close()


@needs_redis
def test_behind_sentinel_the_road_follows_the_master(tmp_path: Path) -> None:
    for name in ("one", "two", "sentinel"):
        (tmp_path / name).mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    conf = tmp_path / "sentinel" / "sentinel.conf"
    with RedisServer(tmp_path / "one") as one, RedisServer(tmp_path / "two") as two:
        two.client.replicaof("127.0.0.1", one.port)
        until(lambda: two.client.info("replication"), lambda told: told["master_link_status"] == "up")
        conf.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {tmp_path / 'sentinel'}\n"
            f"sentinel monitor trishula 127.0.0.1 {one.port} 1\n"
            "sentinel down-after-milliseconds trishula 500\nsentinel failover-timeout trishula 2000\n"
        )
        sentinel = subprocess.Popen(
            ["redis-server", str(conf), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        options = replace(
            options_of(one), redis="redis://ignored", sentinels=(f"127.0.0.1:{port}",), sentinel_master="trishula"
        )
        road = RedisRoad(options, "s1", tmp_path)

        def append(number: bytes) -> bool:
            with contextlib.suppress(RoadFailed):
                road.append([("south", {b"n": number})])
                return True
            return False

        try:
            until(lambda: append(b"1"), bool)
            assert numbers(road.read(10, 1.0))[-1:] == [b"1"]
            # It knows of the replica by now, or could promote none.
            asker = redis_client(port)
            until(lambda: asker.execute_command("SENTINEL", "REPLICAS", "trishula"), bool)
            asker.close()
            one.kill()
            until(lambda: append(b"2"), bool)
            assert two.client.info("replication")["role"] == "master"

            def take() -> list[bytes]:
                entries = road.read(10, 0.1)
                road.append([], [entry.id for entry in entries])
                return numbers(entries)

            until(take, lambda found: b"2" in found)
            where = f"trishula of 127.0.0.1:{port}"
            assert road.where == where
        finally:
            road.close()
            sentinel.kill()
            sentinel.wait(20.0)
