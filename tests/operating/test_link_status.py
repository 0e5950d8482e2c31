"""What both sides of a link that fails tell an operator, by ``node.status``."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster, LinkedNode
from tests.support.node import environment
from tests.support.raw import RawClient
from trishula.contract import uris

pytestmark = pytest.mark.node

WAIT_S = 40.0


def peer_of(cluster: Cluster, node: LinkedNode, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until what a node tells of its one peer is so."""
    until_s = time.monotonic() + WAIT_S
    with RawClient(node.url) as boss:
        boss.open()
        boss.join("boss", cluster.tokens["boss"])
        while True:
            (peer,) = boss.call(uris.NODE_STATUS)["peers"]
            told: dict[str, Any] = peer
            if is_so(told):
                return told
            assert time.monotonic() < until_s, told
            time.sleep(0.1)


def trouble(text: str) -> Callable[[dict[str, Any]], bool]:
    return lambda peer: text in (peer["link"]["trouble"] or "")


def test_both_sides_tell_why_there_is_no_link(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, ["agni", "rushabdev"])
    cluster.token("boss", operator=True)
    agni, rushabdev = cluster["agni"], cluster["rushabdev"]
    file = tmp_path / "agni.json"
    right = file.read_text()
    config = json.loads(right)
    (listener,) = config["workers"][0]["transports"]
    principals = listener["paths"][uris.PEER_PATH]["auth"]["cryptosign"]["principals"]
    principals["rushabdev"]["authorized_keys"] = ["ab" * 32]
    file.write_text(json.dumps(config))
    try:
        rushabdev.start()
        # Nobody listens there yet.
        peer = peer_of(cluster, rushabdev, trouble("refused"))
        assert (peer["state"], peer["link"]["up"], peer["link"]["made_by"]) == ("down", False, "this node")
        agni.start()
        peer = peer_of(cluster, agni, trouble("somebody was refused who is perhaps rushabdev with another key"))
        assert (peer["state"], peer["link"]["up"], peer["link"]["made_by"]) == ("down", False, "the peer")
        assert "this node doesn't know the key by that name" in peer["link"]["trouble"]
        peer = peer_of(cluster, rushabdev, trouble("doesn't know the key by that name"))
        assert peer["link"]["troubles"] > 1
        # The doctor, at the node that is linked to, names the key too.
        variables = {"TRISHULA_URL": agni.url, "TRISHULA_TOKEN": cluster.tokens["boss"]}
        done = subprocess.run(
            [sys.executable, "-m", "trishula.cli.main", "doctor", "--state", str(agni.state_dir), "--json"],
            capture_output=True,
            text=True,
            env=environment(**variables),
            timeout=120,
        )
        faults = {one["check"]: one for one in json.loads(done.stdout) if one["level"] == "fault"}
        assert (done.returncode, list(faults)) == (2, ["agni – rushabdev: link"])
        assert "with another key" in faults["agni – rushabdev: link"]["sentence"]
        assert "trishula node keys" in faults["agni – rushabdev: link"]["to_do"]
        agni.kill()
        file.write_text(right)
        agni.start()
        for node, other in ((agni, "rushabdev"), (rushabdev, "agni")):
            peer = peer_of(cluster, node, lambda peer: bool(peer["link"]["up"] and peer["version"]))
            assert (peer["node"], peer["link"]["trouble"], peer["agents_differ"]) == (other, None, False)
            assert peer["link"]["up_for_s"] >= 0
    finally:
        cluster.stop()
