"""A real node moves its old records into a signed archive, and tells where they are; killed and started, it goes on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import NodeProcess, environment
from tests.support.raw import RawClient
from trishula.contract import uris

pytestmark = pytest.mark.node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    config = json.loads((resources.files("trishula_router.config") / "single.json").read_text())
    extra = config["workers"][0]["components"][0]["extra"]
    extra |= {
        "state": str(tmp_path / "state"),
        "delivery": {"default_ttl": "2s"},
        "limits": {"ttl": "2s"},
        "retention": {"bodies": "0s", "ids": "2s", "records": "5s"},
    }
    file = tmp_path / "node.json"
    file.write_text(json.dumps(config))
    with NodeProcess(tmp_path / "state", config=file) as node:
        for name in ("agni", "dc"):
            node.token(name)
        node.token("boss", operator=True)
        yield node


def run(node: NodeProcess, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "trishula.cli.main", *arguments],
        env=environment(TRISHULA_URL=node.url, TRISHULA_TOKEN=node.tokens["boss"], COLUMNS="80"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def told(node: NodeProcess, *arguments: str) -> Any:
    return json.loads(run(node, *arguments, "--json"))


def exchange(node: NodeProcess, *ids: str) -> None:
    with RawClient(node.url) as dc, RawClient(node.url) as agni:
        for client, name in ((dc, "dc"), (agni, "agni")):
            client.open()
            client.join(name, node.tokens[name])
        sent = [{"type": "STATUS", "id": one, "to": "agni", "payload": {"id": one}} for one in ids]
        assert {receipt["status"] for receipt in dc.call(uris.MAILBOX_SEND, sent)} == {"accepted"}
        taken = agni.call(uris.MAILBOX_FETCH, {"max": 10, "wait_s": 5})["deliveries"]
        assert sorted(one["message"]["id"] for one in taken) == sorted(ids)
        assert all(agni.call(uris.MAILBOX_ACK, [one["token"] for one in taken]))


def test_old_records_go_into_an_archive_and_are_found_there(node: NodeProcess) -> None:
    exchange(node, "m1", "m2", "m3")
    planned = told(node, "journal", "archive", "--older-than", "10s", "--dry-run")
    assert planned == [] or planned[0]["file"] is None
    time.sleep(11)
    assert "would go into the next segment" in run(node, "journal", "archive", "--older-than", "10s", "--dry-run")
    assert "no more in the store" in run(node, "journal", "archive", "--older-than", "10s")
    (status,) = told(node, "journal", "status")["nodes"]
    assert status["archive"]["segments"] == 1
    assert status["archive"]["base"] > 6
    assert (status["archive"]["fault"], status["archive"]["holds_back"]) == (None, None)
    (folder,) = (node.state_dir / "archive").iterdir()
    found = told(node, "journal", "find", "m2", str(folder))
    assert [one["kind"] for one in found][:2] == ["accepted", "delivered"]
    (life,) = told(node, "why", "m2")["messages"]
    assert [one["kind"] for one in life["events"]][:3] == ["accepted", "delivered", "done"]
    assert (life["from"], life["to"], life["state"]) == ("dc", "agni", "done")
    assert "m2  STATUS from dc to agni: done" in run(node, "why", "m2")
    sentence = (
        "there is no message m9 at this node that you may know of, nor in its archive, which was read up to record"
    )
    assert f"{sentence} {status['archive']['base']}" in run(node, "why", "m9", code=5)
    assert told(node, "journal", "verify", str(node.state_dir))["ok"]
    assert told(node, "node", "verify", "--state", str(node.state_dir))["ok"]
    # A question goes through both, the archive and the store; the newest are found without the archive.
    assert told(node, "audit", "query", "--live", "--after", "0")["archived_to"] == status["archive"]["base"]
    answer = told(node, "audit", "query", "--after", "0")
    assert "archived_to" not in answer
    sequences = [one["seq"] for one in answer["records"]]
    assert sequences == list(range(1, sequences[-1] + 1)) and sequences[-1] > status["archive"]["base"]
    of_one = told(node, "audit", "query", "--id", "m2")["records"]
    assert [one["kind"] for one in of_one][:3] == ["accepted", "delivered", "done"]
    assert told(node, "audit", "query", "--agent", "agni", "--kind", "done")["records"]
    # An export goes through both, the archive and the store.
    export = node.state_dir.parent / "audit.jsonl.gz"
    assert told(node, "audit", "export", "--out", str(export))["first"] == 1
    assert told(node, "audit", "verify", str(export))["ok"]
    # Segments that went elsewhere come back while the node runs, and are read at once.
    (segment,) = folder.glob("*.jsonl.gz")
    elsewhere = Path(shutil.move(segment, node.state_dir.parent))
    export = export.with_name("again.jsonl.gz")
    (fault,) = told(node, "audit", "query", "--id", "m2")["archive_faults"]
    assert "records 1 to" in fault and "in no segment of the archive" in fault
    assert "in no segment of the archive" in run(node, "why", "m2", code=5)
    assert "put the segment back" in run(node, "audit", "export", "--out", str(export), code=75)
    assert told(node, "journal", "import", str(elsewhere), "--state", str(node.state_dir))["records"] > 6
    assert told(node, "audit", "export", "--out", str(export))["first"] == 1
    # What is forgotten is a new message.
    exchange(node, "m1")
    node.kill()
    node.restart()
    exchange(node, "m4")
    (again,) = told(node, "journal", "status")["nodes"]
    assert again["archive"]["base"] == status["archive"]["base"]
    assert told(node, "node", "verify", "--state", str(node.state_dir))["ok"]
