"""The stores under test: ``subject`` alone, or ``here`` with those of its peers; and a Redis for a module."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.disks import mounted
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.subjects import KINDS, InSqlite, Peer, Subject, made


@pytest.fixture(params=KINDS)
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    with made(request.param, tmp_path) as one:
        yield one


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[InSqlite]:
    one = InSqlite(tmp_path)
    yield one
    one.close()


@pytest.fixture(params=KINDS)
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    with made(request.param, tmp_path, "here") as one:
        yield one


@pytest.fixture
def agni() -> Peer:
    return Peer("agni")


@pytest.fixture
def rush() -> Peer:
    return Peer("rush")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MiB."""
    target = tmp_path / "disk"
    mounted(target, "size=3m")
    yield target
    subprocess.run(["umount", "--lazy", str(target)], check=True)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer | None]:
    """``None`` where it is not installed."""
    if needs_redis.args[0]:
        yield None
        return
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server
