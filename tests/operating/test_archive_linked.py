"""Two real linked nodes cut their journals and their copies of each other's, and keep what a killed one lacks."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster
from tests.support.node import NodeProcess, environment
from tests.support.raw import RawClient
from trishula.contract import uris
from trishula_router.store.sqlite.connection import FILE_NAME

pytestmark = pytest.mark.node

GENEROUS_S = 120.0
NAMES = ("agni", "rushabdev")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    options: dict[str, object] = {
        "delivery": {"default_ttl": "2s"},
        "limits": {"ttl": "2s"},
        "retention": {"bodies": "0s", "ids": "2s", "records": "5s"},
    }
    cluster = Cluster(tmp_path, NAMES, options=options)
    for name in ("agni", "dc"):
        cluster.token(name)
    cluster.token("boss", operator=True)
    with cluster:
        yield cluster


def run(cluster: Cluster, node: NodeProcess, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "trishula.cli.main", *arguments, "--json"],
        env=environment(TRISHULA_URL=node.url, TRISHULA_TOKEN=cluster.tokens["boss"]),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def archive_of(cluster: Cluster, name: str) -> Any:
    (told,) = (one for one in run(cluster, cluster[name], "journal", "status")["nodes"] if one["node"] == name)
    return told["archive"]


def wait(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + GENEROUS_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(1)


def exchange(cluster: Cluster, sent_at: str, taken_at: str, *ids: str) -> None:
    with RawClient(cluster[sent_at].url) as dc, RawClient(cluster[taken_at].url) as agni:
        for client, name in ((dc, "dc"), (agni, "agni")):
            client.open()
            client.join(name, cluster.tokens[name])
        sent = [{"type": "STATUS", "id": one, "to": "agni", "payload": {"id": one}} for one in ids]
        assert {receipt["status"] for receipt in dc.call(uris.MAILBOX_SEND, sent)} == {"accepted"}
        taken: list[Any] = []
        while len(taken) < len(ids):
            taken += agni.call(uris.MAILBOX_FETCH, {"max": 10, "wait_s": 5})["deliveries"]
        assert sorted(one["message"]["id"] for one in taken) == sorted(ids)
        assert all(agni.call(uris.MAILBOX_ACK, [one["token"] for one in taken]))


def copy_begins_at(cluster: Cluster, name: str) -> int:
    """Up to which record a node has cut its copy of the other's journal."""
    with closing(sqlite3.connect(f"file:{cluster[name].state_dir / FILE_NAME}?mode=ro", uri=True)) as connection:
        found = connection.execute("SELECT max(sequence) FROM base WHERE origin > 0").fetchone()[0]
    return found or 0


def rows_of(cluster: Cluster, name: str, message_id: str) -> int:
    """How many rows a node has of a message."""
    with closing(sqlite3.connect(f"file:{cluster[name].state_dir / FILE_NAME}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM message WHERE id = ?", (message_id,)).fetchone()[0])


def archive(cluster: Cluster, name: str) -> int:
    """Archive what is ten seconds old; up to which record the journal is cut then."""
    run(cluster, cluster[name], "journal", "archive", "--older-than", "10s")
    return int(archive_of(cluster, name)["base"])


def test_linked_nodes_cut_and_keep_what_a_killed_one_lacks(cluster: Cluster) -> None:
    agni, rushabdev = (cluster[name] for name in NAMES)
    exchange(cluster, "agni", "rushabdev", "m1", "m2")
    time.sleep(11)
    bases = {name: archive(cluster, name) for name in NAMES}
    assert min(bases.values()) > 0, bases
    # Each one's copy follows, in a round of its own.
    wait(lambda: copy_begins_at(cluster, "agni") == bases["rushabdev"])
    wait(lambda: copy_begins_at(cluster, "rushabdev") == bases["agni"])

    # Nothing is left of what is that old, so it is a new message if it is sent again, through either node.
    wait(lambda: not any(rows_of(cluster, name, one) for name in NAMES for one in ("m1", "m2")))
    exchange(cluster, "rushabdev", "agni", "m1")
    wait(lambda: [rows_of(cluster, name, "m1") for name in NAMES] == [1, 1])

    rushabdev.kill()
    exchange(cluster, "agni", "agni", "m3", "m4")
    time.sleep(11)
    # At most what the other one had got before it died goes, and the node says whom it waits for.
    held = archive(cluster, "agni")
    assert "rushabdev has not told" in archive_of(cluster, "agni")["holds_back"]
    rushabdev.restart()
    wait(lambda: archive(cluster, "agni") > held and archive_of(cluster, "agni")["holds_back"] is None)
    wait(lambda: copy_begins_at(cluster, "rushabdev") == archive_of(cluster, "agni")["base"])

    exchange(cluster, "rushabdev", "agni", "m5")
    for name in NAMES:
        node = cluster[name]
        assert run(cluster, node, "journal", "verify", str(node.state_dir))["ok"]
    # Nothing of what was cut at the one is gone: its archive has it, and goes on where the store begins.
    export = agni.state_dir.parent / "audit.jsonl.gz"
    assert run(cluster, agni, "audit", "export", "--out", str(export))["first"] == 1
    assert run(cluster, agni, "audit", "verify", str(export))["ok"]
    (folder,) = (agni.state_dir / "archive").iterdir()
    for one in ("m1", "m4"):
        kinds = [found["kind"] for found in run(cluster, agni, "journal", "find", one, str(folder))]
        assert kinds[0] == "accepted", one
