"""The stream of a mirror on a real Redis: what comes between its steps, and TLS."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Issuer
from tests.support.redis_server import RedisServer, needs_redis
from trishula_router.mirroring.pages import Entry
from trishula_router.mirroring.place import Has, Place
from trishula_router.mirroring.redis_stream import RedisStream
from trishula_router.mirroring.target import TargetFailed
from trishula_router.settings.mirror import MirrorOptions

pytestmark = needs_redis

KEY = "trishula:audit:agni"
PLACE = Place("epoch-1", 0, 7)


def entries(first: int, last: int) -> list[Entry]:
    return [Entry(number, 1, "left", f"{number:064x}", b'{"seq":%d}' % number) for number in range(first, last + 1)]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


def stream_on(redis: RedisServer, between: Callable[[], object] | None = None) -> RedisStream:
    """A stream; ``between`` comes once behind the look at the last id of a page, as another connection's work does."""
    from redis import Redis

    pending = [between] if between is not None else []
    looks = [0]

    class Meddled(Redis):  # type: ignore[misc,type-arg,unused-ignore]
        def xinfo_stream(self, *args: Any, **options: Any) -> Any:
            looks[0] += 1
            try:
                return super().xinfo_stream(*args, **options)
            finally:
                # The first look is that of "has".
                if looks[0] == 2 and pending:
                    pending.pop()()

    options = MirrorOptions(redis=f"redis://127.0.0.1:{redis.port}", maxlen=1000)
    return RedisStream(options, "agni", Path("/"), lambda: Meddled(port=redis.port))


def ids(redis: RedisServer) -> list[str]:
    return [entry_id for entry_id, _ in redis.entries(KEY)]


def test_entries_have_the_numbers_of_their_records(redis: RedisServer) -> None:
    stream = stream_on(redis)
    assert stream.has(PLACE) is None
    stream.write(entries(1, 2), PLACE)
    stream.write(entries(3, 3), PLACE)
    assert redis.entries(KEY)[-1] == (
        "7-3",
        {b"kind": b"left", b"seq": b"3", b"epoch": b"epoch-1", b"record": b'{"seq":3}'},
    )
    assert stream_on(redis).has(PLACE) == Has(7, 3)
    # What a collector deletes once it has it was there all the same.
    redis.client.xtrim(KEY, maxlen=0, approximate=False)
    assert stream_on(redis).has(PLACE) == Has(7, 3)


def test_a_page_that_redis_reads_late_is_no_fault_and_no_repeat(redis: RedisServer) -> None:
    stream_on(redis).has(PLACE)
    stream = stream_on(redis, lambda: [redis.client.xadd(KEY, {"a": 1}, id=f"7-{number}") for number in range(1, 6)])
    stream.has(PLACE)
    stream.write(entries(1, 5), PLACE)
    assert ids(redis) == [f"7-{number}" for number in range(1, 6)]


def test_somebody_elses_entries_are_told(redis: RedisServer) -> None:
    redis.client.xadd(KEY, {"a": 1}, id="6-9")
    stream = stream_on(redis, lambda: redis.client.xadd(KEY, {"a": 1}, id="9-9"))
    assert stream.has(PLACE) == Has(6, 9)
    with pytest.raises(TargetFailed, match="somebody else writes to the stream"):
        stream.write(entries(1, 3), PLACE)
    assert ids(redis) == ["6-9", "9-9"]


def test_a_flush_is_seen_before_a_page_and_in_its_midst(redis: RedisServer) -> None:
    stream = stream_on(redis)
    stream.has(PLACE)
    stream.write(entries(1, 2), PLACE)
    redis.client.flushall()
    with pytest.raises(TargetFailed, match="was flushed"):
        stream.write(entries(3, 4), PLACE)
    assert stream.has(PLACE) is None
    stream.write(entries(1, 2), PLACE)
    stream = stream_on(redis, redis.client.flushall)
    stream.has(PLACE)
    with pytest.raises(TargetFailed, match="was deleted"):
        stream.write(entries(3, 4), PLACE)
    assert ids(redis) == []


def test_what_is_no_stream_and_what_a_user_may_not_is_told(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    redis.client.set(KEY, "x")
    with pytest.raises(TargetFailed, match="Redis answered: WRONGTYPE"):
        stream_on(redis).has(PLACE)
    redis.client.delete(KEY)
    redis.client.execute_command("ACL", "SETUSER", "audit", "on", "nopass", "~trishula:audit:*", "+xinfo", "+ping")
    options = MirrorOptions(redis=f"redis://audit@127.0.0.1:{redis.port}", redis_password="env:NO_SUCH_PASSWORD")
    with pytest.raises(TargetFailed, match=r"mirror\.redis_password: the variable NO_SUCH_PASSWORD is not set"):
        RedisStream(options, "agni", Path("/")).has(PLACE)
    monkeypatch.setenv("NO_SUCH_PASSWORD", "any")
    stream = RedisStream(options, "agni", Path("/"))
    assert stream.has(PLACE) is None
    with pytest.raises(TargetFailed, match="no permissions"):
        stream.write(entries(1, 1), PLACE)
    # As the documentation has it.
    rights = ("+xadd", "+xinfo|stream", "+multi", "+exec", f"~{KEY}")
    redis.client.execute_command("ACL", "SETUSER", "audit", "reset", "on", ">any", *rights)
    stream = RedisStream(options, "agni", Path("/"))
    stream.has(PLACE)
    stream.write(entries(1, 1), PLACE)


def test_over_tls_a_certificate_must_be_trusted(tmp_path: Path) -> None:
    authority = Issuer("authority")
    authority.write(tmp_path / "ca.pem")
    authority.leaf("localhost", "127.0.0.1").write(tmp_path / "cert.pem", tmp_path / "key.pem")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    more = ["--tls-port", str(port), "--tls-auth-clients", "no", "--tls-cert-file", "cert.pem"]
    more += ["--tls-key-file", "key.pem", "--tls-ca-cert-file", "ca.pem"]
    with RedisServer(tmp_path, "hush", more):
        (tmp_path / "password").write_text("hush\n")
        options: dict[str, Any] = {"redis": f"rediss://localhost:{port}", "redis_password": "file:password"}
        stream = RedisStream(MirrorOptions(**options, redis_ca="ca.pem"), "agni", tmp_path)
        assert stream.has(PLACE) is None
        stream.write(entries(1, 2), PLACE)
        assert stream.has(PLACE) == Has(7, 2)
        for distrusted in (options, {**options, "redis": f"rediss://127.0.0.2:{port}", "redis_ca": "ca.pem"}):
            with pytest.raises(TargetFailed, match="can't be reached") as caught:
                RedisStream(MirrorOptions(**distrusted), "agni", tmp_path).has(PLACE)
            assert "hush" not in str(caught.value)
