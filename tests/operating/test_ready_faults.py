"""``/ready`` of one of two linked nodes: 503 with the reason of each fault, and 200 when the fault is over.

The faults are real: a disk that somebody fills, one that hangs and fails, a clock that is set, a peer that stands
still, a node that is stopped. That the event loop stands still, and that the store's file goes away, is in
:mod:`.test_ready`. What two nodes can't show is in ``tests/unit/test_health_checks.py``: a clock that differs from most
peers', and a start, whose 503 lasts at most 1.5 s from before the node listens on.

The tests share the nodes and go on from each other in their order, because a canary comes each 15 s: it has been under
way for long when the disk has hung for about as long as the peers' check takes to fail.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.disks import mount, take_all
from tests.support.node import NodeProcess
from tests.support.raw import RawClient
from tests.support.readiness import against, degraded, until, until_ready
from trishula.contract import uris

pytestmark = pytest.mark.node

GENEROUS_S = 60.0
#: More than what one beat of the peers may bring.
MANY, BATCH = 1500, 500
THREE_H_MS = 3 * 3600 * 1000


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder for the nodes in which agni has a disk of its own, or why it has none."""
    folder = tmp_path_factory.mktemp("faults")
    why_none = mount(folder / "agni", "size=64m", "mode=700")
    yield folder, why_none
    if not why_none:
        subprocess.run(["umount", "--lazy", str(folder / "agni")], check=True)


@pytest.fixture(scope="module")
def cluster(small_disk: tuple[Path, str]) -> Iterator[Cluster]:
    cluster = Cluster(small_disk[0], ["agni", "rushabdev"], aheads_s={"agni": 0.0})
    for agent in ("dc", "sink"):
        cluster.token(agent)
    with cluster:
        until_ready(cluster["agni"])
        yield cluster


def until_told(node: NodeProcess, holds: Callable[[str], bool]) -> None:
    """Wait until what is told of the peers of a node that is ready is so."""
    deadline = time.monotonic() + GENEROUS_S
    while not holds(told := degraded(node).get("peers", "")):
        assert time.monotonic() < deadline, told
        time.sleep(0.1)


def test_a_clock_that_is_set_and_set_back(cluster: Cluster) -> None:
    agni, dials = cluster["agni"], cluster.dials["agni"]
    try:
        dials.ahead_ms = THREE_H_MS
        assert until(agni, "clock", False).startswith("the machine's clock was set: it is 3.0 h ahead of the node's")
    finally:
        dials.ahead_ms = 0
    until_ready(agni)


def test_a_disk_that_somebody_fills(cluster: Cluster, small_disk: tuple[Path, str]) -> None:
    if small_disk[1]:
        pytest.skip(small_disk[1])
    agni = cluster["agni"]
    taken = take_all(agni.state_dir)
    try:
        assert until(agni, "disk", False).startswith("the store has room for 0 B more; free some space on its disk")
        assert until(agni, "store", False).startswith("the store is full, sends are refused and acks go on")
    finally:
        taken.unlink()
    until_ready(agni)


def test_a_peer_that_stands_still_leaves_the_node_ready_and_is_told(cluster: Cluster) -> None:
    agni, rushabdev = cluster["agni"], cluster["rushabdev"]
    rushabdev.freeze()
    try:
        until_told(agni, lambda told: told.startswith("rushabdev has not been heard for"))
        # The node that is left is the one that everybody needs.
        assert "peers" not in against(agni)
    finally:
        rushabdev.thaw()
    until_told(agni, lambda told: not told)


def test_a_disk_that_hangs_and_fails(cluster: Cluster) -> None:
    agni, rushabdev, dials = cluster["agni"], cluster["rushabdev"], cluster.dials["agni"]
    try:
        dials.is_hanging = True
        with RawClient(rushabdev.url) as dc:
            dc.open()
            dc.join("dc", cluster.tokens["dc"])
            for first in range(0, MANY, BATCH):
                ids = [f"m-{number}" for number in range(first, first + BATCH)]
                dc.call(uris.MAILBOX_SEND, [{"type": "STATUS", "id": one, "to": "sink", "payload": 1} for one in ids])
        behind = until(agni, "peers", False)
        assert "records of rushabdev have been missing here for" in behind
        assert "so mailboxes may be as they were" in behind
        assert until(agni, "store", False).startswith("the store's disk has not answered a write for")
        assert until(agni, "canary", False).startswith("a message of the node to itself has been under way for")
        # What hung so long fails now.
        dials.is_failing, dials.is_hanging = True, False
        deadline = time.monotonic() + GENEROUS_S
        while "did not come through" not in (canary := until(agni, "canary", False)):
            assert time.monotonic() < deadline, canary
        assert canary.startswith("a message of the node to itself did not come through: the node can't use its store")
        assert until(agni, "store", False).startswith("the store can't be written: the node can't use its store")
    finally:
        dials.is_hanging = dials.is_failing = False
    until_ready(agni)


def test_a_node_that_is_stopping_and_started_again(cluster: Cluster) -> None:
    agni, dials = cluster["agni"], cluster.dials["agni"]
    dials.is_hanging = True
    try:
        agni.process.terminate()
        # Until its last record is on the disk, it answers.
        assert until(agni, "running", False).startswith("the node is stopping and takes no more calls")
    finally:
        dials.is_hanging = False
    # Without a second signal, which would end it at once.
    agni.process.wait(GENEROUS_S)
    assert agni.stop() == 0
    agni.start()
    until_ready(agni)
    agni.stop()
