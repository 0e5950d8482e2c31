"""A real node mirrors its journal to a real Redis and to a file, whatever becomes of Redis; acceptance never waits.

The tests share a node and a Redis, and leave both as they were.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import NodeProcess, environment
from tests.support.raw import RawClient
from tests.support.redis_server import RedisServer, needs_redis, until
from trishula.contract import uris

pytestmark = [pytest.mark.node, needs_redis]

PASSWORD = "s3cret-of-the-mirror"
STREAM = "trishula:audit:single"


class Mirrored:
    """A node and what it is mirrored to."""

    def __init__(self, directory: Path, node: NodeProcess, redis: RedisServer) -> None:
        self.directory = directory
        self.node = node
        self.redis = redis
        self._numbers = count(1)

    def ask(self, uri: str, *args: Any) -> Any:
        with RawClient(self.node.url) as boss:
            boss.open()
            boss.join("boss", self.node.tokens["boss"])
            return boss.call(uri, *args)

    def accept(self, messages: int = 20) -> None:
        """Have messages accepted; each of them at once, or this fails."""
        with RawClient(self.node.url) as dc:
            dc.open()
            dc.join("dc", self.node.tokens["dc"])
            for _ in range(messages):
                sent = {"type": "STATUS", "id": f"m{next(self._numbers)}", "to": "agni", "payload": {"secret": 1}}
                (receipt,) = dc.call(uris.MAILBOX_SEND, [sent])
                assert receipt["status"] == "accepted"

    def mirror(self, target: str = "redis") -> dict[str, Any]:
        (found,) = (one for one in self.ask(uris.NODE_STATUS)["mirrors"] if one["target"] == target)
        return dict(found)

    def figures(self) -> dict[str, float]:
        """What a scrape has of mirrors."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.node.port}/metrics", timeout=20.0) as answer:
            lines = [line.rpartition(" ") for line in answer.read().decode().splitlines()]
        return {name: float(value) for name, _, value in lines if name.startswith("trishula_mirror_")}

    def wait_fault(self, words: str) -> dict[str, Any]:
        return until(self.mirror, lambda told: words in (told["fault"] or ""))

    def wait_whole(self) -> list[dict[str, Any]]:
        """Wait until Redis has the whole journal, from its first record on, each once; the records."""
        self.accept(1)
        until(self.mirror, lambda told: told["fault"] is None and not told["lag_records"])
        entries = self.redis.entries(STREAM)
        ids = [tuple(map(int, entry_id.split("-"))) for entry_id, _ in entries]
        assert len({generation for generation, _ in ids}) == 1
        assert [sequence for _, sequence in ids] == list(range(1, len(ids) + 1))
        records = [json.loads(fields[b"record"]) for _, fields in entries]
        assert [one["seq"] for one in records] == [sequence for _, sequence in ids]
        assert [fields[b"kind"].decode() for _, fields in entries] == [one["kind"] for one in records]
        return records


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    directory = tmp_path_factory.mktemp("mirrored")
    with RedisServer(directory, PASSWORD) as redis:
        config = json.loads((resources.files("trishula_router.config") / "single.json").read_text())
        extra = config["workers"][0]["components"][0]["extra"]
        extra["state"] = str(directory / "state")
        extra["mirror"] = {
            "redis": f"redis://127.0.0.1:{redis.port}/0",
            "redis_password": "file:redis.password",
            "file": "audit.jsonl",
            "file_size": "64 KiB",
            "file_count": 100,
            "lag": "2s",
        }
        (directory / "state").mkdir(mode=0o700)
        (directory / "state" / "redis.password").write_text(f"{PASSWORD}\n")
        file = directory / "node.json"
        file.write_text(json.dumps(config))
        with NodeProcess(directory / "state", config=file) as node:
            for name in ("agni", "dc"):
                node.token(name)
            node.token("boss", operator=True)
            yield Mirrored(directory, node, redis)
            assert PASSWORD not in node.log()


def test_each_record_is_there_once_as_the_journal_has_it(mirrored: Mirrored) -> None:
    mirrored.accept()
    records = mirrored.wait_whole()
    page = mirrored.ask(uris.AUDIT_RECORDS, {"limit": 1000})
    for (sequence, at, kind, facts, digest), found in zip(page["records"], records, strict=False):
        told = {"node": "single", "epoch": page["epoch"], "seq": sequence, "at": at, "kind": kind}
        assert found == {**told, "facts": json.loads(facts), "digest": digest}
    assert not any("secret" in json.dumps(one) for one in records)


def test_a_redis_that_died_and_forgot_everything_gets_all_of_it(mirrored: Mirrored) -> None:
    mirrored.wait_whole()
    mirrored.redis.kill()
    mirrored.accept()
    told = mirrored.wait_fault("can't be reached")
    assert told["lag_records"] >= 20
    # It is told where operators look.
    late = until(
        lambda: next(one for one in mirrored.ask(uris.NODE_READY)["checks"] if one["check"] == "mirror"),
        lambda check: "degraded" in check,
    )
    assert (late["ok"], "can't be reached" in late["reason"]) == (True, True)
    assert mirrored.ask(uris.NODE_READY)["ready"]
    figures = mirrored.figures()
    assert figures['trishula_mirror_lag_records{target="redis"}'] >= 20
    assert figures['trishula_mirror_lag_seconds{target="redis"}'] > 2
    assert figures['trishula_mirror_errors_total{target="redis"}'] >= 1
    assert figures['trishula_mirror_errors_total{target="file"}'] == 0
    done = subprocess.run(
        [sys.executable, "-m", "trishula.cli.main", "node", "status"],
        env=environment(TRISHULA_URL=mirrored.node.url, TRISHULA_TOKEN=mirrored.node.tokens["boss"]),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "records behind for" in done.stdout
    mirrored.redis.start()
    mirrored.wait_whole()


def test_what_is_flushed_is_written_again(mirrored: Mirrored) -> None:
    before = mirrored.wait_whole()
    mirrored.redis.client.flushall()
    mirrored.accept()
    assert mirrored.wait_whole()[: len(before)] == before
    # Somebody who reads by a group may have made the stream anew.
    mirrored.redis.client.flushall()
    mirrored.redis.client.xgroup_create(STREAM, "readers", id="0", mkstream=True)
    mirrored.accept()
    mirrored.wait_whole()


def test_a_redis_that_hangs_holds_up_nobody(mirrored: Mirrored) -> None:
    mirrored.wait_whole()
    mirrored.redis.signal(signal.SIGSTOP)
    try:
        mirrored.accept(100)
        mirrored.wait_fault("did not answer within 5 s")
        mirrored.accept(100)
    finally:
        mirrored.redis.signal(signal.SIGCONT)
    mirrored.wait_whole()


def test_a_wrong_password_is_told_and_a_right_one_taken(mirrored: Mirrored) -> None:
    mirrored.wait_whole()
    client = mirrored.redis.client
    client.config_set("requirepass", "another")
    client.client_kill_filter(_type="normal", skipme=True)
    mirrored.accept()
    told = mirrored.wait_fault("refuses the login")
    assert "mirror.redis_password" in told["fault"]
    client.config_set("requirepass", PASSWORD)
    mirrored.wait_whole()


def test_a_full_redis_takes_a_page_or_none_of_it(mirrored: Mirrored) -> None:
    mirrored.wait_whole()
    client = mirrored.redis.client
    client.config_set("maxmemory", "1")
    mirrored.accept()
    mirrored.wait_fault("maxmemory")
    client.config_set("maxmemory", "0")
    mirrored.wait_whole()


def test_a_node_that_is_killed_goes_on_where_redis_and_the_file_are(mirrored: Mirrored) -> None:
    mirrored.wait_whole()
    mirrored.accept()
    mirrored.node.kill()
    mirrored.node.restart()
    records = mirrored.wait_whole()
    until(lambda: mirrored.mirror("file"), lambda told: told["sequence"] >= records[-1]["seq"])
    folder = mirrored.directory / "state"
    numbered = sorted(folder.glob("audit.jsonl.[0-9]*"), key=lambda path: -int(path.suffix[1:]))
    assert numbered
    lines = [line for path in (*numbered, folder / "audit.jsonl") for line in path.read_text().splitlines()]
    found = {one["seq"]: one for one in map(json.loads, lines)}
    assert [found[one["seq"]] for one in records] == records
    assert max(path.stat().st_size for path in numbered) <= 64 * 1024
    assert {path.stat().st_mode & 0o777 for path in (*numbered, folder / "audit.jsonl")} == {0o600}
    # This test started it, so it ends it; there is none behind this one.
    mirrored.node.stop()
